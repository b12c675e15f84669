//! What can go wrong while reading a source or following a mouth: one line each, what happened and what to do.

use std::fmt;
use std::path::{Path, PathBuf};

/// A source could not be read, or no mouth was found in it.
#[derive(Debug)]
pub enum Error {
    /// No such file or folder.
    NotFound(PathBuf),
    /// A folder where a file was expected, without images in it.
    NoImages(PathBuf),
    /// The file has no bytes.
    Empty(PathBuf),
    /// The system refused to read it.
    Unreadable(PathBuf, std::io::Error),
    /// Neither a file nor a folder: a device, a socket, a pipe.
    NotAFile(PathBuf),
    /// ffmpeg or ffprobe is not installed.
    NoFfmpeg(&'static str),
    /// Not a media file, or one whose index is missing because it was cut off. The detail is the reader's own words.
    NotMedia(PathBuf, String),
    /// A playlist or some other format that is no video file. The detail is ffmpeg's name for it.
    NotVideo(PathBuf, String),
    /// The file ends in the middle of the stream; so many frames could be read.
    Truncated(PathBuf, u64),
    /// Sound, but no picture.
    NoVideo(PathBuf),
    /// Picture, but no sound.
    NoAudio(PathBuf),
    /// A video stream without a single frame.
    NoFrames(PathBuf),
    /// One image or frame of a folder or stream is not as it should be.
    BadFrame(PathBuf, String),
    /// A setting that makes no sense, such as 0 frames a second.
    Setting(String),
    /// No face in any frame.
    NoFace(String, u64),
    /// The fixed region does not lie inside the picture.
    Region(String),
    /// The detector's file is not usable.
    Detector(PathBuf, String),
}

impl Error {
    /// The error for an I/O failure on `path`, by its kind.
    pub fn io(path: &Path, error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Error::NotFound(path.into()),
            _ => Error::Unreadable(path.into(), error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotFound(path) => write!(f, "{}: no such file; check the path", show(path)),
            Error::NoImages(path) => write!(
                f,
                "{}: a folder without PNG, JPEG or PGM images; give a video file, or a folder that holds the frames",
                show(path)
            ),
            Error::Empty(path) => write!(
                f,
                "{}: the file is empty (0 bytes); copy or record it again",
                show(path)
            ),
            Error::Unreadable(path, error) => {
                write!(
                    f,
                    "{}: cannot be read ({error}); check its permissions and the disk",
                    show(path)
                )
            }
            Error::NotAFile(path) => {
                write!(
                    f,
                    "{}: neither a file nor a folder; give a video file or a folder of images",
                    show(path)
                )
            }
            Error::NoFfmpeg(program) => write!(
                f,
                "{program} was not found; install the package ffmpeg (apt install ffmpeg), or give a .y4m file or a folder of images"
            ),
            Error::NotMedia(path, detail) => write!(
                f,
                "{}: not a readable video, or cut off before its index ({detail}); copy it again or convert it to mp4",
                show(path)
            ),
            Error::NotVideo(path, format) => write!(
                f,
                "{}: a playlist or another format that is not read ({format}); give the video file itself, or convert it to mp4",
                show(path)
            ),
            Error::Truncated(path, frames) => write!(
                f,
                "{}: the file is cut off after {frames} frames; copy it again, or re-encode what is left with ffmpeg",
                show(path)
            ),
            Error::NoVideo(path) => {
                write!(
                    f,
                    "{}: holds sound but no picture; lip reading needs a video",
                    show(path)
                )
            }
            Error::NoAudio(path) => {
                write!(
                    f,
                    "{}: holds no sound; use a video-only model, or a file with a sound track",
                    show(path)
                )
            }
            Error::NoFrames(path) => {
                write!(
                    f,
                    "{}: a video without a single frame; record or export it again",
                    show(path)
                )
            }
            Error::BadFrame(path, detail) => write!(f, "{}: {detail}", show(path)),
            Error::Setting(detail) => f.write_str(detail),
            Error::NoFace(name, frames) => write!(
                f,
                "{name}: no face in any of {frames} frames; show the whole face, larger and lit, or fix the mouth with --roi x,y,w,h"
            ),
            Error::Region(detail) => f.write_str(detail),
            Error::Detector(path, detail) => write!(
                f,
                "{}: not a usable face detector ({detail}); pull or import it again",
                show(path)
            ),
        }
    }
}

// Without a source: the message holds the words of the system already.
impl std::error::Error for Error {}

/// A path as one printable line: control characters in hostile file names must not reach a terminal.
pub(crate) fn show(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

/// `text` without control characters, at most 200 characters long.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
