//! Video files through ffmpeg in a child process: grey frames on its stdout, their times on its stderr.
//!
//! One process decodes, averages large pictures down and writes raw grey frames to a pipe. The `showinfo` filter names
//! the timestamp of every frame that passes (ffmpeg documentation, "showinfo"), so variable rates keep their times
//! without a second decode. The child is killed and reaped when the source is dropped.

mod child;
mod messages;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

pub(super) use child::Transcoder;
use child::{command, spawn_error};
pub(super) use messages::Verdict;
use messages::{Note, SHOWN};

use super::{FrameSource, Monotonic};
use crate::error::show;
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
    damage: Option<String>,
    done: bool,
}

impl FfmpegVideo {
    /// Starts ffmpeg on the file at `path`.
    ///
    /// # Errors
    /// If the file cannot be opened or ffmpeg is not installed. Faults in the file appear on the first read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = super::check_file(path)?;
        let scale = |side| format!("max(1,round({side}*min(1,{MAX_SIDE}/max(iw,ih))))");
        // eval=init keeps one frame size even if the stream changes its own half way.
        let filter = format!(
            "{SHOWN}=checksum=0,scale=w='{}':h='{}':flags=area+accurate_rnd+bitexact:eval=init,format=gray,\
             settb=AVTB,showinfo=checksum=0",
            scale("iw"),
            scale("ih")
        );
        let output = [
            "-map",
            // Not the pictures on the cover of music.
            "0:V:0",
            "-vf",
            &filter,
            fps_mode_flag()?,
            "passthrough",
            "-f",
            "rawvideo",
            "pipe:1",
        ];
        let child = Transcoder::start(path, file, &output)?;
        Ok(FfmpegVideo {
            path: path.into(),
            name: show(path),
            child,
            times: Monotonic::default(),
            size: None,
            frames: 0,
            damage: None,
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
        let size = *self.size.get_or_insert(note.size);
        let (width, height) = note.size;
        let fits = |side| (1..=MAX_SIDE).contains(&side);
        if !fits(width) || !fits(height) || size != note.size {
            let detail = format!(
                "the picture changes from {}x{} to {}x{} at frame {}; re-encode it with ffmpeg to one size",
                size.0, size.1, width, height, self.frames
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
            _ if self.frames > 0 && ended.success => {
                self.damage = ended.damage().or_else(|| unfinished_gif(&self.path));
                Ok(false)
            }
            _ if self.frames > 0 => Err(Error::BadFrame(
                self.path.clone(),
                format!(
                    "ffmpeg stopped after {} frames ({}); re-encode the file",
                    self.frames,
                    ended.last_line()
                ),
            )),
            Verdict::Refused => Err(Error::NotVideo(self.path.clone(), ended.format())),
            Verdict::NoStream if ended.has_sound() => Err(Error::NoVideo(self.path.clone())),
            Verdict::NoStream => Err(Error::NoFrames(self.path.clone())),
            _ if ended.success && ended.damage().is_none() => {
                Err(Error::NoFrames(self.path.clone()))
            }
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
        (frame.width, frame.height) = note.size;
        frame.shown = note.shown;
        frame.pixels.resize(frame.width * frame.height, 0);
        if self.child.stdout.read_exact(&mut frame.pixels).is_err() {
            return self.finish();
        }
        frame.timestamp_us = self.times.next(note.time_us);
        self.frames += 1;
        Ok(true)
    }

    fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }
}

/// Says so if the file is a GIF that does not end in a trailer (GIF89a, section 27), of which ffmpeg says nothing.
fn unfinished_gif(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let mut magic = [0; 4];
    file.read_exact(&mut magic).ok()?;
    // Some are filled up with zeros.
    let length = file.metadata().ok()?.len();
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(4096)))
        .ok()?;
    file.take(4096).read_to_end(&mut end).ok()?;
    let last = end.iter().rfind(|&&byte| byte != 0);
    (magic == *b"GIF8" && last != Some(&b';')).then(|| "the GIF has no end".into())
}

/// The option that keeps every frame with its own time: `-fps_mode` since ffmpeg 5.1, `-vsync` before.
fn fps_mode_flag() -> Result<&'static str, Error> {
    static FLAG: std::sync::OnceLock<&'static str> = std::sync::OnceLock::new();
    if let Some(flag) = FLAG.get() {
        return Ok(flag);
    }
    let output = command("ffmpeg")
        .arg("-version")
        .stdin(Stdio::null())
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

#[cfg(test)]
mod tests {
    use super::*;

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
