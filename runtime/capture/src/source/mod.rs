//! Where frames and sound come from.
//!
//! [`open`] picks the reader by what the path is: a folder is read as images, `.y4m` by our own reader, everything
//! else by ffmpeg in a child process. All of them stand behind [`FrameSource`], which a camera can implement too.

pub mod faults;
mod ffmpeg;
mod images;
pub mod resample;
mod sound;
mod y4m;

use std::fs;
use std::path::Path;

pub use ffmpeg::FfmpegVideo;
pub use images::ImageFolder;
pub use sound::{SAMPLE_RATE, Sound, open_sound};
pub use y4m::Y4m;

use crate::{Error, Frame};

/// A stream of grey frames with their timestamps.
pub trait FrameSource: Send {
    /// What to call the source in messages: its path, or the device's name.
    fn name(&self) -> &str;

    /// Reads the next frame into `frame`, reusing its memory. `false` at the end of the stream.
    ///
    /// Timestamps strictly increase. The size of the picture is the same from the first frame to the last, and its
    /// long side is at most [`MAX_SIDE`](crate::frame::MAX_SIDE).
    ///
    /// # Errors
    /// One line for people; after an error the source is at its end.
    fn read(&mut self, frame: &mut Frame) -> Result<bool, Error>;

    /// What is wrong with a source that could be read all the same, in a few words; known at its end.
    fn damage(&self) -> Option<&str> {
        None
    }
}

impl FrameSource for Box<dyn FrameSource + '_> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn read(&mut self, frame: &mut Frame) -> Result<bool, Error> {
        (**self).read(frame)
    }

    fn damage(&self) -> Option<&str> {
        (**self).damage()
    }
}

/// Settings for [`open`].
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Rate at which an image folder was taken, in frames a second. Files know their own times.
    pub image_fps: f64,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions { image_fps: 25.0 }
    }
}

/// Opens the video file or image folder at `path`.
///
/// # Errors
/// If nothing readable is there. Faults inside the stream appear while reading.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Box<dyn FrameSource>, Error> {
    if fs::metadata(path).map_err(|e| Error::io(path, e))?.is_dir() {
        return Ok(Box::new(ImageFolder::open(path, options.image_fps)?));
    }
    check_file(path)?;
    if path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("y4m"))
    {
        return Ok(Box::new(Y4m::open(path)?));
    }
    Ok(Box::new(FfmpegVideo::open(path)?))
}

/// Opens an existing, readable, regular file with bytes in it.
fn check_file(path: &Path) -> Result<fs::File, Error> {
    let meta = fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if meta.is_dir() {
        return Err(Error::NoImages(path.into()));
    }
    if !meta.is_file() {
        return Err(Error::NotAFile(path.into()));
    }
    let file = fs::File::open(path).map_err(|e| Error::io(path, e))?;
    if meta.len() == 0 {
        Err(Error::Empty(path.into()))
    } else {
        Ok(file)
    }
}

/// Hands out strictly increasing timestamps, whatever the stream claims.
#[derive(Debug, Default)]
struct Monotonic {
    last: Option<u64>,
    step: u64,
}

impl Monotonic {
    /// The stream's own time if it is later than the last one; else the last step again.
    fn next(&mut self, claimed: Option<u64>) -> u64 {
        let at = match (claimed, self.last) {
            (Some(at), None) => at,
            (Some(at), Some(last)) if at > last => {
                self.step = at - last;
                at
            }
            (None, None) => 0,
            // Without a usable time the best guess is one more of the last step; 40 ms when there was none.
            (_, Some(last)) => last.saturating_add(if self.step == 0 { 40_000 } else { self.step }),
        };
        self.last = Some(at);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_never_go_back() {
        let mut clock = Monotonic::default();
        let claimed = [Some(0), Some(33), Some(33), Some(20), None, Some(200)];
        assert_eq!(claimed.map(|at| clock.next(at)), [0, 33, 66, 99, 132, 200]);
    }

    #[test]
    fn what_is_not_there_is_said_so() {
        let gone = open(Path::new("/nowhere/clip.mp4"), &OpenOptions::default())
            .err()
            .expect("no such file");
        assert!(gone.to_string().contains("no such file"), "{gone}");
    }
}
