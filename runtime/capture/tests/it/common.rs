//! Clips made by ffmpeg in a folder that goes away with the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use viseme_capture::source::{FrameSource, OpenOptions, open};
use viseme_capture::{Error, Frame};

/// A temporary folder.
pub struct Folder(PathBuf);

impl Folder {
    /// A new one; `None`, after saying so, where there is no ffmpeg.
    pub fn with_ffmpeg() -> Option<Self> {
        if Command::new("ffmpeg").arg("-version").output().is_err() {
            println!("skipped: ffmpeg is not installed");
            return None;
        }
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "viseme-capture-{}-{}",
            std::process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary folder");
        Some(Folder(path))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Runs ffmpeg with `arguments`, writing the file `name`.
    pub fn make(&self, arguments: &str, name: &str) -> PathBuf {
        let path = self.path(name);
        let status = Command::new("ffmpeg")
            .args(["-y", "-nostdin", "-loglevel", "error"])
            .args(arguments.split_whitespace())
            .arg(&path)
            .status()
            .expect("ffmpeg runs");
        assert!(status.success(), "ffmpeg {arguments} {name}");
        path
    }

    /// The first `bytes` bytes of a file as another file.
    pub fn cut(&self, from: &Path, bytes: usize, name: &str) -> PathBuf {
        let all = fs::read(from).expect("readable");
        assert!(bytes < all.len(), "{} bytes of {}", bytes, all.len());
        let path = self.path(name);
        fs::write(&path, &all[..bytes]).expect("writable");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// All frames of a source.
pub fn read_all(mut source: Box<dyn FrameSource>) -> Result<Vec<Frame>, Error> {
    let (mut frame, mut all) = (Frame::default(), Vec::new());
    while source.read(&mut frame)? {
        all.push(frame.clone());
    }
    assert!(!source.read(&mut frame)?, "the end is the end");
    Ok(all)
}

/// All frames of the file at `path`.
pub fn frames(path: &Path) -> Result<Vec<Frame>, Error> {
    read_all(open(path, &OpenOptions::default())?)
}

/// The largest difference of two pictures, and the mean one.
pub fn difference(a: &Frame, b: &Frame) -> (u8, f64) {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let steps: Vec<u8> = a
        .pixels
        .iter()
        .zip(&b.pixels)
        .map(|(a, b)| a.abs_diff(*b))
        .collect();
    let mean = steps.iter().map(|&d| f64::from(d)).sum::<f64>() / steps.len() as f64;
    (steps.into_iter().max().unwrap_or(0), mean)
}
