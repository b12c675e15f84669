//! The child process: how it is started, and that it never outlives its owner.

use std::ffi::OsString;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use super::messages::{Ended, Note, Said, listen};
use crate::Error;

/// The formats that are read: those that hold video or sound in one file. Playlists, session descriptions and scripts
/// lead to other files or to the network, and may be waited for without end; text and raw samples are anything.
#[rustfmt::skip]
const FORMATS: [&str; 72] = [
    // Containers.
    "asf", "avi", "dhav", "dv", "flv", "gxf", "ivf", "live_flv", "matroska", "mov", "mpeg", "mpegts", "mxf", "nsv",
    "nut", "ogg", "pva", "rm", "swf", "ty", "wtv", "yuv4mpegpipe",
    // Video streams.
    "av1", "avs2", "avs3", "cavsvideo", "dirac", "dnxhd", "evc", "h261", "h263", "h264", "hevc", "m4v", "mjpeg",
    "mjpeg_2000", "mpegvideo", "obu", "smjpeg", "vc1", "vc1test", "vvc",
    // Pictures, which may move.
    "apng", "bmp_pipe", "gif", "jpeg_pipe", "jpegxl_anim", "jpegxl_pipe", "pgm_pipe", "png_pipe", "ppm_pipe",
    "tiff_pipe", "webp_pipe",
    // Sound.
    "aac", "ac3", "aiff", "amr", "amrnb", "amrwb", "ape", "au", "caf", "dts", "eac3", "flac", "loas", "mp3", "tta",
    "voc", "w64", "wav", "wv",
];

/// A running ffmpeg: its output, and what it says beside it.
pub struct Transcoder {
    child: Child,
    pub stdout: BufReader<ChildStdout>,
    pub notes: Receiver<Note>,
    listener: Option<JoinHandle<Said>>,
}

impl Transcoder {
    /// Runs `ffmpeg -i file output...` on a file that was opened from `path`.
    pub fn start(path: &Path, file: File, output: &[&str]) -> Result<Self, Error> {
        let formats = FORMATS.join(",");
        let mut arguments: Vec<OsString> = [
            "-protocol_whitelist",
            "file",
            "-format_whitelist",
            &formats,
            "-threads",
            "2",
            "-i",
        ]
        .map(Into::into)
        .into();
        arguments.push(input(path));
        arguments.extend(output.iter().map(Into::into));
        Transcoder::run(&arguments, file.into())
    }

    fn run(arguments: &[OsString], stdin: Stdio) -> Result<Self, Error> {
        let mut child = command("ffmpeg")
            .args([
                "-hide_banner",
                "-nostdin",
                "-nostats",
                "-loglevel",
                "level+info",
            ])
            .args(arguments)
            .stdin(stdin)
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
    pub fn finish(&mut self) -> Ended {
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

/// What ffmpeg is to open. On Unix it is its own stdin, so that the name cannot mean anything: `concat:a` is no
/// protocol, `f%d.png` no pattern, `.txt` no format. It opens the file anew and may seek in it.
fn input(path: &Path) -> OsString {
    let own = Path::new("/dev/fd");
    let mut input = OsString::from("file:");
    if cfg!(unix) && own.is_dir() {
        input.push(own.join("0"));
    } else {
        input.push(path);
    }
    input
}

pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    // Its messages are matched word by word.
    command.env("LC_ALL", "C").env("AV_LOG_FORCE_NOCOLOR", "1");
    command
}

pub fn spawn_error(program: &'static str, error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::NoFfmpeg(program),
        _ => Error::Unreadable(program.into(), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let child = match Transcoder::run(&endless.map(Into::into), Stdio::null()) {
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
}
