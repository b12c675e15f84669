//! Video files through ffmpeg in a child process: grey frames on its stdout, their times on its stderr.
//!
//! One process decodes, averages large pictures down and writes raw grey frames to a pipe. The `showinfo` filter names
//! the timestamp of every frame that passes (ffmpeg documentation, "showinfo"), so variable rates keep their times
//! without a second decode. The child is killed and reaped when the source is dropped.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{FrameSource, Monotonic};
use crate::error::{one_line, show};
use crate::frame::MAX_SIDE;
use crate::{Error, Frame};

/// Longest time that ffmpeg may take for a frame.
const LONGEST_SILENCE: Duration = Duration::from_secs(120);

/// Frames of a video file.
pub struct FfmpegVideo {
    path: PathBuf,
    name: String,
    child: Transcoder,
    times: Monotonic,
    size: Option<(usize, usize)>,
    frames: u64,
    done: bool,
}

impl FfmpegVideo {
    /// Starts ffmpeg on the file at `path`.
    ///
    /// # Errors
    /// If the file cannot be opened or ffmpeg is not installed. Faults in the file appear on the first read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        super::check_file(path)?;
        let scale = |side| format!("max(1,round({side}*min(1,{MAX_SIDE}/max(iw,ih))))");
        // eval=init keeps one frame size even if the stream changes its own half way.
        let filter = format!(
            "scale=w='{}':h='{}':flags=area+accurate_rnd+bitexact:eval=init,format=gray,settb=AVTB,showinfo",
            scale("iw"),
            scale("ih")
        );
        let output = [
            "-map",
            "0:v:0",
            "-vf",
            &filter,
            fps_mode_flag()?,
            "passthrough",
            "-f",
            "rawvideo",
            "pipe:1",
        ];
        let child = Transcoder::start(path, &output)?;
        Ok(FfmpegVideo {
            path: path.into(),
            name: show(path),
            child,
            times: Monotonic::default(),
            size: None,
            frames: 0,
            done: false,
        })
    }

    /// Time and size of the next frame; `None` when ffmpeg has no more.
    fn next_note(&mut self) -> Result<Option<Note>, Error> {
        let note = match self.child.notes.recv_timeout(LONGEST_SILENCE) {
            Ok(note) => note,
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                let minutes = LONGEST_SILENCE.as_secs() / 60;
                let detail = format!(
                    "ffmpeg gave no frame for {minutes} minutes; try the file in a video player"
                );
                return Err(Error::BadFrame(self.path.clone(), detail));
            }
        };
        let size = *self.size.get_or_insert((note.width, note.height));
        let fits = |side| (1..=MAX_SIDE).contains(&side);
        if !fits(note.width) || !fits(note.height) || size != (note.width, note.height) {
            let detail = format!(
                "the picture changes from {}x{} to {}x{} at frame {}; re-encode it with ffmpeg to one size",
                size.0, size.1, note.width, note.height, self.frames
            );
            return Err(Error::BadFrame(self.path.clone(), detail));
        }
        Ok(Some(note))
    }

    fn finish(&mut self) -> Result<bool, Error> {
        self.done = true;
        let ended = self.child.finish();
        match ended.verdict() {
            Verdict::Cut => Err(match self.frames {
                0 => Error::NotMedia(self.path.clone(), ended.last_line()),
                frames => Error::Truncated(self.path.clone(), frames),
            }),
            _ if self.frames > 0 && ended.success => Ok(false),
            _ if self.frames > 0 => Err(Error::BadFrame(
                self.path.clone(),
                format!(
                    "ffmpeg stopped after {} frames ({}); re-encode the file",
                    self.frames,
                    ended.last_line()
                ),
            )),
            Verdict::NoStream if ended.has_sound() => Err(Error::NoVideo(self.path.clone())),
            Verdict::NoStream => Err(Error::NoFrames(self.path.clone())),
            _ if ended.success => Err(Error::NoFrames(self.path.clone())),
            _ => Err(Error::NotMedia(self.path.clone(), ended.last_line())),
        }
    }
}

impl FrameSource for FfmpegVideo {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&mut self, frame: &mut Frame) -> Result<bool, Error> {
        if self.done {
            return Ok(false);
        }
        let Some(note) = self.next_note().inspect_err(|_| self.done = true)? else {
            return self.finish();
        };
        (frame.width, frame.height) = (note.width, note.height);
        frame.pixels.resize(note.width * note.height, 0);
        if self.child.stdout.read_exact(&mut frame.pixels).is_err() {
            return self.finish();
        }
        frame.timestamp_us = self.times.next(note.time_us);
        self.frames += 1;
        Ok(true)
    }
}

/// One line of the `showinfo` filter.
struct Note {
    time_us: Option<u64>,
    width: usize,
    height: usize,
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
        Some(Note {
            time_us,
            width: width.parse().ok()?,
            height: height.parse().ok()?,
        })
    }
}

/// A running ffmpeg: its output, and what it says beside it.
pub(super) struct Transcoder {
    child: Child,
    pub(super) stdout: BufReader<ChildStdout>,
    notes: Receiver<Note>,
    listener: Option<JoinHandle<Said>>,
}

impl Transcoder {
    /// Runs `ffmpeg -i path output...`.
    pub(super) fn start(path: &Path, output: &[&str]) -> Result<Self, Error> {
        // "file:" keeps names such as "concat:a" or "-i" from meaning anything else, and the whitelist keeps a
        // playlist from reaching the network.
        let mut input = OsString::from("file:");
        input.push(path);
        let mut arguments: Vec<OsString> = ["-protocol_whitelist", "file", "-threads", "2", "-i"]
            .map(Into::into)
            .into();
        arguments.push(input);
        arguments.extend(output.iter().map(Into::into));
        Transcoder::run(&arguments)
    }

    fn run(arguments: &[OsString]) -> Result<Self, Error> {
        let mut child = command("ffmpeg")
            .args([
                "-hide_banner",
                "-nostdin",
                "-nostats",
                "-loglevel",
                "level+info",
            ])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| spawn_error("ffmpeg", e))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (sender, notes) = channel();
        let listener = std::thread::spawn(move || listen(BufReader::new(stderr), &sender));
        Ok(Transcoder {
            child,
            stdout: BufReader::with_capacity(1 << 16, stdout),
            notes,
            listener: Some(listener),
        })
    }

    /// Waits for the child. Call when its output has ended.
    pub(super) fn finish(&mut self) -> Ended {
        // Whatever it still wants to say must not hold it up.
        let _ = std::io::copy(&mut self.stdout, &mut std::io::sink());
        let success = self.child.wait().is_ok_and(|status| status.success());
        let said = self
            .listener
            .take()
            .and_then(|l| l.join().ok())
            .unwrap_or_default();
        Ended { success, said }
    }
}

impl Drop for Transcoder {
    fn drop(&mut self) {
        // Fails only when the child is gone already; waiting reaps it either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a child left behind.
pub(super) struct Ended {
    pub(super) success: bool,
    said: Said,
}

/// What ffmpeg's complaints amount to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// The file ends too early.
    Cut,
    /// The stream that was asked for does not exist.
    NoStream,
    /// Nothing that stops us.
    Other,
}

impl Ended {
    pub(super) fn verdict(&self) -> Verdict {
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
        } else if said("matches no streams") {
            Verdict::NoStream
        } else {
            Verdict::Other
        }
    }

    /// Whether ffmpeg saw a sound track.
    fn has_sound(&self) -> bool {
        self.said.has_sound
    }

    /// ffmpeg's last words without its own prefixes.
    pub(super) fn last_line(&self) -> String {
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
struct Said {
    /// The last lines of level error and above.
    complaints: VecDeque<String>,
    corrupt_packet: bool,
    has_sound: bool,
}

/// Sorts the child's stderr: frame notes go to `notes`, the rest is summed up.
fn listen(mut stderr: impl BufRead, notes: &Sender<Note>) -> Said {
    const LONGEST_LINE: u64 = 4096;
    let mut said = Said::default();
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
        if text.starts_with("[Parsed_showinfo") {
            if let Some(note) = Note::parse(&text) {
                // The receiver is gone only when the source is being dropped; keep draining so the child can end.
                let _ = notes.send(note);
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

/// The option that keeps every frame with its own time: `-fps_mode` since ffmpeg 5.1, `-vsync` before.
fn fps_mode_flag() -> Result<&'static str, Error> {
    static FLAG: std::sync::OnceLock<&'static str> = std::sync::OnceLock::new();
    if let Some(flag) = FLAG.get() {
        return Ok(flag);
    }
    let output = command("ffmpeg")
        .arg("-version")
        .output()
        .map_err(|e| spawn_error("ffmpeg", e))?;
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(FLAG.get_or_init(|| fps_mode_for(&version)))
}

/// Reads the flag off the first line of `ffmpeg -version`. Versions that are no numbers are builds of the master branch.
fn fps_mode_for(version: &str) -> &'static str {
    let number = version
        .split_whitespace()
        .nth(2)
        .unwrap_or("")
        .trim_start_matches('n');
    let mut parts = number.split(['.', '-']).map(|p| p.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), minor) if (major, minor.unwrap_or(0)) < (5, 1) => "-vsync",
        _ => "-fps_mode",
    }
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    // Its messages are matched word by word.
    command
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .env("AV_LOG_FORCE_NOCOLOR", "1");
    command
}

fn spawn_error(program: &'static str, error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::NoFfmpeg(program),
        _ => Error::Unreadable(program.into(), error),
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
        assert_eq!(
            (note.time_us, note.width, note.height),
            (Some(80_000), 216, 232)
        );
        assert!(
            Note::parse("[Parsed_showinfo_3 @ 0x55eb] [info] config in time_base: 1/1000000")
                .is_none()
        );
        let unknown =
            Note::parse("[info] n: 0 pts: NOPTS pts_time:NOPTS pos: 1 fmt:gray s:4x2 i:P")
                .expect("a frame");
        assert_eq!(unknown.time_us, None);
    }

    #[test]
    fn a_dropped_child_is_killed_and_reaped() {
        let endless = [
            "-f",
            "lavfi",
            "-i",
            "testsrc=s=64x64",
            "-f",
            "rawvideo",
            "pipe:1",
        ];
        let child = match Transcoder::run(&endless.map(Into::into)) {
            Ok(child) => child,
            Err(error) => return println!("skipped: {error}"),
        };
        let process = format!("/proc/{}", child.child.id());
        if !Path::new(&process).exists() {
            return println!("skipped: no /proc to look into");
        }
        drop(child);
        assert!(!Path::new(&process).exists(), "{process} is still there");
    }

    #[test]
    fn the_rate_option_follows_the_version() {
        assert_eq!(
            fps_mode_for("ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright"),
            "-vsync"
        );
        assert_eq!(
            fps_mode_for("ffmpeg version 5.1.9-0+deb12u1 Copyright"),
            "-fps_mode"
        );
        assert_eq!(fps_mode_for("ffmpeg version n8.0 Copyright"), "-fps_mode");
        assert_eq!(
            fps_mode_for("ffmpeg version N-109-gabc Copyright"),
            "-fps_mode"
        );
    }
}
