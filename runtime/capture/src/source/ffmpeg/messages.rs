//! What ffmpeg says on stderr: the times of frames, and its complaints.

use std::collections::VecDeque;
use std::io::{BufRead, Read};
use std::sync::mpsc::Sender;

use crate::error::one_line;

/// The `showinfo` filter that sees pictures before they are averaged down has this name.
pub const SHOWN: &str = "showinfo@shown";

/// One line of a `showinfo` filter.
#[derive(Clone, Copy)]
pub struct Note {
    pub time_us: Option<u64>,
    pub size: (usize, usize),
    /// Size of the picture before it was averaged down.
    pub shown: (usize, usize),
}

impl Note {
    /// Reads `... n: 1 pts: 40000 pts_time:0.04 ... s:216x232 ...`; the filter's time base is one microsecond.
    fn parse(line: &str) -> Option<Self> {
        let rest = line.split_once(" pts:")?.1.trim_start();
        let time_us = rest
            .split_whitespace()
            .next()?
            .parse::<i64>()
            .ok()
            .map(|t| t.max(0) as u64);
        let (width, height) = rest
            .split_once(" s:")?
            .1
            .split_whitespace()
            .next()?
            .split_once('x')?;
        let size = (width.parse().ok()?, height.parse().ok()?);
        Some(Note {
            time_us,
            size,
            shown: size,
        })
    }
}

/// What a child left behind.
pub struct Ended {
    pub success: bool,
    pub said: Said,
}

/// What ffmpeg's complaints amount to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The file ends too early.
    Cut,
    /// The file is in a format that is not to be read.
    Refused,
    /// The stream that was asked for does not exist.
    NoStream,
    /// Nothing that stops us.
    Other,
}

/// How ffmpeg says that a format is not on its whitelist.
const REFUSAL: &str = "Format not on whitelist";

impl Ended {
    pub fn verdict(&self) -> Verdict {
        const CUT: [&str; 4] = [
            "partial file",
            "moov atom not found",
            "File ended prematurely",
            "runcat",
        ];
        let said = |needle: &str| {
            self.said
                .complaints
                .iter()
                .any(|complaint| complaint.contains(needle))
        };
        if self.ends_in_half_a_packet() || CUT.iter().any(|needle| said(needle)) {
            Verdict::Cut
        } else if self.said.refused.is_some() {
            Verdict::Refused
        } else if said("matches no streams") {
            Verdict::NoStream
        } else {
            Verdict::Other
        }
    }

    /// A last packet that is only half there also spoils the picture; a spoilt packet alone may be an old fault, and
    /// one with many frames after it is not the last.
    fn ends_in_half_a_packet(&self) -> bool {
        /// The most frames that a decoder holds back.
        const DELAY: u64 = 48;
        let said = &self.said;
        let near_the_end = |at: u64| said.frames - at <= DELAY;
        said.corrupt_packet.is_some_and(near_the_end) && !said.complaints.is_empty()
    }

    /// What is wrong with the data, if ffmpeg complained of it: its first words about it.
    pub fn damage(&self) -> Option<String> {
        let complaint = self.said.complaints.front();
        complaint.map(|words| one_line(words.trim()))
    }

    /// Whether ffmpeg saw a sound track.
    pub fn has_sound(&self) -> bool {
        self.said.has_sound
    }

    /// The format that was refused, as ffmpeg calls it.
    pub fn format(&self) -> String {
        one_line(self.said.refused.as_deref().unwrap_or("unknown"))
    }

    /// ffmpeg's last words.
    pub fn last_line(&self) -> String {
        let words = self
            .said
            .complaints
            .back()
            .map_or("ffmpeg gave no reason", String::as_str);
        // What comes before the last colon is the name of the file.
        one_line(words.rsplit(": ").next().unwrap_or(words).trim())
    }
}

/// What ffmpeg said beside the frame notes.
#[derive(Default)]
pub struct Said {
    /// What it said at level error and above, and of spoilt data: the first line and the last ones.
    complaints: VecDeque<String>,
    /// Frames noted.
    frames: u64,
    /// Frames noted when the last spoilt packet was read.
    corrupt_packet: Option<u64>,
    /// The format that is not to be read.
    refused: Option<String>,
    has_sound: bool,
}

impl Said {
    fn take(&mut self, line: &str) {
        let Some(message) = Message::parse(line) else {
            return;
        };
        let words = message.words;
        if words.starts_with(REFUSAL) {
            let names = message.context.split([' ', ',']).next();
            self.refused = names.map(Into::into);
        }
        // Transport streams lose packets on the air all the time.
        if words.contains("Packet corrupt") && !message.context.starts_with("mpegts") {
            self.corrupt_packet = Some(self.frames);
        }
        let spoilt = words.contains("corrupt decoded frame");
        if spoilt || matches!(message.level, "error" | "fatal" | "panic") {
            if self.complaints.len() == 16 {
                self.complaints.remove(1);
            }
            self.complaints.push_back(words.to_owned());
        }
        self.has_sound |= message.level == "info"
            && words.trim_start().starts_with("Stream #")
            && words.contains(": Audio:");
    }
}

/// A line of ffmpeg's log: `[h264 @ 0x55eb] [error] no frame!`.
struct Message<'a> {
    /// Who speaks; empty if nobody in particular.
    context: &'a str,
    level: &'a str,
    words: &'a str,
}

impl<'a> Message<'a> {
    /// `None` if the line has no level: what files say of themselves may go over several lines.
    fn parse(line: &'a str) -> Option<Self> {
        let (mut context, mut rest) = ("", line.trim_end());
        loop {
            let (bracket, words) = rest.strip_prefix('[')?.split_once("] ")?;
            match bracket.split_once(" @ ") {
                Some((name, _)) => (context, rest) = (name, words),
                None => {
                    return Some(Message {
                        context,
                        level: bracket,
                        words,
                    });
                }
            }
        }
    }
}

/// Sorts the child's stderr: frame notes go to `notes`, the rest is summed up.
pub fn listen(mut stderr: impl BufRead, notes: &Sender<Note>) -> Said {
    let mut said = Said::default();
    let mut shown = None;
    let mut line = Vec::new();
    while read_line(&mut stderr, &mut line) {
        let text = String::from_utf8_lossy(&line);
        if let Some(rest) = text.strip_prefix('[').and_then(|t| t.strip_prefix(SHOWN)) {
            shown = Note::parse(rest).map_or(shown, |note| Some(note.size));
        } else if text.starts_with("[Parsed_showinfo") {
            if let Some(note) = Note::parse(&text) {
                said.frames += 1;
                let shown = shown.unwrap_or(note.size);
                // The receiver is gone only when the source is being dropped; keep draining so the child can end.
                let _ = notes.send(Note { shown, ..note });
            }
        } else {
            said.take(&text);
        }
    }
    said
}

/// Reads a line, and of a very long one the beginning. `false` at the end.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> bool {
    const LONGEST: u64 = 4096;
    line.clear();
    let read = |line: &mut Vec<u8>, input: &mut dyn BufRead| {
        let count = input.take(LONGEST).read_until(b'\n', line);
        count.is_ok_and(|count| count > 0)
    };
    if !read(line, input) {
        return false;
    }
    let mut rest = line.last().copied();
    while rest.is_some_and(|last| last != b'\n') {
        let mut skipped = Vec::new();
        rest = read(&mut skipped, input)
            .then(|| skipped.last().copied())
            .flatten();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_showinfo_line_gives_time_and_size() {
        let line = "[Parsed_showinfo_3 @ 0x55eb] [info] n:   2 pts:  80000 pts_time:0.08    pos:    12633 fmt:gray \
                    sar:1/1 s:216x232 i:P iskey:0 type:P";
        let note = Note::parse(line).expect("a frame line");
        assert_eq!((note.time_us, note.size), (Some(80_000), (216, 232)));
        assert!(
            Note::parse("[Parsed_showinfo_3 @ 0x55eb] [info] config in time_base: 1/1000000")
                .is_none()
        );
        let unknown =
            Note::parse("[info] n: 0 pts: NOPTS pts_time:NOPTS pos: 1 fmt:gray s:4x2 i:P")
                .expect("a frame");
        assert_eq!(unknown.time_us, None);
    }

    fn heard(lines: &str) -> (Ended, usize) {
        let (sender, notes) = std::sync::mpsc::channel();
        let said = listen(lines.as_bytes(), &sender);
        drop(sender);
        let success = true;
        (Ended { success, said }, notes.iter().count())
    }

    fn frames(count: usize) -> String {
        "[Parsed_showinfo_3 @ 0x5] [info] n: 0 pts: 0 pts_time:0 fmt:gray s:4x2 i:P\n".repeat(count)
    }

    #[test]
    fn what_a_file_says_of_itself_is_no_complaint() {
        let tag = format!(
            "{}[Parsed_showinfo_3 @ 0x5] [info] n: 0 pts: 0 s:4x2 \n",
            "x".repeat(4095)
        );
        let (ended, notes) = heard(&format!(
            "[info]     title           : a [error] in the name\n[info]     comment         : {tag}{}",
            frames(2)
        ));
        assert_eq!((ended.damage(), notes), (None, 2));
        assert_eq!(ended.verdict(), Verdict::Other);
    }

    #[test]
    fn damage_is_told_from_an_early_end() {
        let spoilt = "[avi @ 0x5] [warning] Packet corrupt (stream = 0, dts = 36).\n\
                      [mpeg4 @ 0x6] [error] illegal dc vlc\n\
                      [mpeg4 @ 0x6] [error] Error at MB: 72\n";
        let (cut, _) = heard(&format!("{}{spoilt}{}", frames(100), frames(3)));
        assert_eq!(cut.verdict(), Verdict::Cut);
        let (damaged, notes) = heard(&format!("{}{spoilt}{}", frames(20), frames(80)));
        assert_eq!((damaged.verdict(), notes), (Verdict::Other, 100));
        assert_eq!(damaged.damage().as_deref(), Some("illegal dc vlc"));
        assert_eq!(damaged.last_line(), "72");
    }

    #[test]
    fn a_refused_format_is_named() {
        let (ended, _) = heard(
            "[hls,applehttp @ 0x55a3] [error] Format not on whitelist 'mov,gif'\n\
             [error] file:/dev/fd/0: Invalid argument\n",
        );
        assert_eq!(
            (ended.verdict(), ended.format().as_str()),
            (Verdict::Refused, "hls")
        );
        assert_eq!(ended.last_line(), "Invalid argument");
    }
}
