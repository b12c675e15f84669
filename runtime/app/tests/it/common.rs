//! A folder, a model, a clip, and the command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use viseme_engine::testing::{self, Size, TINY};
use viseme_format::spec::Weights;
use viseme_synth::{Clip, Options, Speaker, export, render};

/// As small as a model can be, but with all GRID words, and room for a clip of three seconds.
pub const TINY_GRID: Size = Size {
    tokens: testing::TOKENS.len(),
    max_frames: 96,
    ..TINY
};

/// What the command printed.
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Run {
    fn of(output: Output) -> Self {
        Run {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Asserts that the command failed with one line that holds `words`, and printed nothing else.
    pub fn fails_with(&self, words: &str) {
        assert_eq!(self.code, 2, "{self}");
        assert_eq!(self.out, "", "{self}");
        self.complains_of(words);
        assert_eq!(self.err.lines().count(), 1, "{self}");
    }

    /// Asserts that each line of complaint is well formed, and one holds `words`.
    pub fn complains_of(&self, words: &str) {
        assert!(self.err.contains(words), "{words} in: {self}");
        for line in self.err.lines() {
            assert!(line.starts_with("viseme: "), "{self}");
            assert!(line.chars().all(|c| !c.is_control()), "{self}");
        }
    }

    /// The JSON object on the last line of stdout, of a command that went well.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self}");
        self.last_json()
    }

    /// The JSON object on the last line of stdout.
    pub fn last_json(&self) -> Value {
        let line = self.out.lines().next_back().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {self}"))
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "exit {}\n--- stdout\n{}--- stderr\n{}",
            self.code, self.out, self.err
        )
    }
}

/// A folder that goes away with the test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("viseme-app-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Runs `viseme` in this folder with arguments separated by spaces; its models are in `models` here.
    pub fn viseme(&self, arguments: &str) -> Run {
        self.viseme_args(&arguments.split(' ').collect::<Vec<_>>())
    }

    pub fn viseme_args(&self, arguments: &[&str]) -> Run {
        let output = self.command(arguments).output().expect("the command runs");
        Run::of(output)
    }

    /// As [`Self::viseme`], with a stdout that nobody reads.
    pub fn viseme_unread(&self, arguments: &str) -> Run {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        self.viseme_to(arguments, writer)
    }

    /// As [`Self::viseme`], with this stdout.
    pub fn viseme_to(&self, arguments: &str, stdout: impl Into<Stdio>) -> Run {
        let mut command = self.command(&arguments.split(' ').collect::<Vec<_>>());
        let child = command.stdout(stdout).stderr(Stdio::piped()).spawn();
        let output = child.and_then(std::process::Child::wait_with_output);
        Run::of(output.expect("the command runs"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_viseme"));
        for proxy in [
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
        ] {
            command.env_remove(proxy);
        }
        command
            .args(arguments)
            .current_dir(&self.0)
            .env("VISEME_MODELS", self.path("models"));
        command
    }

    /// Writes `bytes` as a file.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("writable");
        path
    }

    /// Writes a random model for video; returns its bytes.
    pub fn model(&self, name: &str) -> Vec<u8> {
        self.model_of(Weights::Int8, name)
    }

    /// Writes a random model for video in this precision; returns its bytes.
    pub fn model_of(&self, weights: Weights, name: &str) -> Vec<u8> {
        let spec = testing::spec(&TINY_GRID, weights);
        let bytes = testing::model(&spec, 11).expect("a model");
        self.write(name, &bytes);
        bytes
    }

    /// Writes a synthetic clip of `fps` frames a second as `<stem>.y4m`.
    pub fn clip(&self, stem: &str, text: &str, fps: f32) -> Clip {
        let options = Options {
            fps,
            ..Options::default()
        };
        let clip = render(text, &Speaker::train(3), 5, options);
        export::write_clip(&clip, &self.0, stem).expect("writable");
        clip
    }

    /// Runs ffmpeg with `arguments`, writing the file `name`; `None`, after saying so, where there is no ffmpeg.
    pub fn ffmpeg(&self, arguments: &str, name: &str) -> Option<PathBuf> {
        let path = self.path(name);
        let run = Command::new("ffmpeg")
            .args(["-y", "-nostdin", "-loglevel", "error"])
            .args(arguments.split(' '))
            .arg(&path)
            .current_dir(&self.0)
            .status();
        let Ok(status) = run else {
            println!("skipped: ffmpeg is not installed");
            return None;
        };
        assert!(status.success(), "ffmpeg {arguments} {name}");
        Some(path)
    }

    /// All files below this folder.
    pub fn files(&self) -> Vec<PathBuf> {
        let (mut folders, mut files) = (vec![self.0.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("readable") {
                let path = entry.expect("readable").path();
                if path.is_dir() {
                    folders.push(path)
                } else {
                    files.push(path)
                }
            }
        }
        files.sort();
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file or folder of the shared test data; `None`, after saying so, where there is none.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("VISEME_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let found = root.join(path);
    if !found.exists() {
        println!("skipped: no {path} in the shared data (set VISEME_SHARED)");
        return None;
    }
    Some(found)
}
