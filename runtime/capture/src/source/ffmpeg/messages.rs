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
                .any(|line| line.contains(needle))
        };
        // A last packet that is only half there also spoils the picture; a spoilt packet alone may be an old fault.
        let half_packet = self.said.corrupt_packet && !self.said.complaints.is_empty();
        if half_packet || CUT.iter().any(|needle| said(needle)) {
            Verdict::Cut
        } else if said(REFUSAL) {
            Verdict::Refused
        } else if said("matches no streams") {
            Verdict::NoStream
        } else {
            Verdict::Other
        }
    }

    /// Whether ffmpeg saw a sound track.
    pub fn has_sound(&self) -> bool {
        self.said.has_sound
    }

    /// The format that was refused, as ffmpeg calls it: `[hls @ 0x55a3] [error] Format not on whitelist`.
    pub fn format(&self) -> String {
        let mut lines = self.said.complaints.iter();
        let line = lines.find(|line| line.contains(REFUSAL));
        let name = line.and_then(|line| line.strip_prefix('[')?.split([' ', ',', ']']).next());
        one_line(name.unwrap_or("unknown"))
    }

    /// ffmpeg's last words without its own prefixes.
    pub fn last_line(&self) -> String {
        let line = self
            .said
            .complaints
            .back()
            .map_or("ffmpeg gave no reason", String::as_str);
        let words = line
            .rsplit_once("[error] ")
            .or_else(|| line.rsplit_once("[fatal] "))
            .map_or(line, |(_, w)| w);
        let words = words.strip_prefix("file:").unwrap_or(words);
        one_line(words.rsplit(": ").next().unwrap_or(words).trim())
    }
}

/// What ffmpeg said beside the frame notes.
#[derive(Default)]
pub struct Said {
    /// The last lines of level error and above.
    complaints: VecDeque<String>,
    corrupt_packet: bool,
    has_sound: bool,
}

/// Sorts the child's stderr: frame notes go to `notes`, the rest is summed up.
pub fn listen(mut stderr: impl BufRead, notes: &Sender<Note>) -> Said {
    const LONGEST_LINE: u64 = 4096;
    let mut said = Said::default();
    let mut shown = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut stderr)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
        {
            Ok(0) | Err(_) => return said,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        if let Some(rest) = text.strip_prefix('[').and_then(|t| t.strip_prefix(SHOWN)) {
            shown = Note::parse(rest).map_or(shown, |note| Some(note.size));
        } else if text.starts_with("[Parsed_showinfo") {
            if let Some(note) = Note::parse(&text) {
                let shown = shown.unwrap_or(note.size);
                // The receiver is gone only when the source is being dropped; keep draining so the child can end.
                let _ = notes.send(Note { shown, ..note });
            }
        } else if ["[error]", "[fatal]", "[panic]"]
            .iter()
            .any(|level| text.contains(level))
        {
            if said.complaints.len() == 16 {
                said.complaints.pop_front();
            }
            said.complaints.push_back(text.trim_end().to_owned());
        } else {
            // Transport streams lose packets on the air all the time.
            said.corrupt_packet |= text.contains("Packet corrupt") && !text.starts_with("[mpegts");
            said.has_sound |= text.starts_with("[info]   Stream #") && text.contains(": Audio:");
        }
    }
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
}
