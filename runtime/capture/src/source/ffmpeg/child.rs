//! The child process: how it is started, and that it never outlives its owner.

use std::ffi::OsString;
use std::io::BufReader;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use super::messages::{Ended, Note, Said, listen};
use crate::Error;

/// A running ffmpeg: its output, and what it says beside it.
pub struct Transcoder {
    child: Child,
    pub stdout: BufReader<ChildStdout>,
    pub notes: Receiver<Note>,
    listener: Option<JoinHandle<Said>>,
}

impl Transcoder {
    /// Runs `ffmpeg -i path output...`.
    pub fn start(path: &Path, output: &[&str]) -> Result<Self, Error> {
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

pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    // Its messages are matched word by word.
    command
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .env("AV_LOG_FORCE_NOCOLOR", "1");
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
}
