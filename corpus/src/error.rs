//! What can go wrong with a corpus: one line each, what happened and what to do.

use std::fmt;
use std::path::{Path, PathBuf};

/// A corpus could not be read or its cache could not be written.
#[derive(Debug)]
pub enum Error {
    /// A file or folder could not be read or written.
    Io(PathBuf, std::io::Error),
    /// A manifest that is not as it should be.
    Manifest(PathBuf, String),
    /// A folder that is not laid out as GRID is.
    Grid(PathBuf, String),
    /// The detector file could not be used.
    Detector(PathBuf, String),
    /// Every clip that was asked for failed; the first reason.
    AllFailed(String),
}

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
        move |error| Error::Io(path.into(), error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(path, e) => write!(
                f,
                "{}: {e}; check the path, its permissions and the disk",
                show(path)
            ),
            Error::Manifest(path, detail) => {
                write!(f, "{}: not a usable manifest: {detail}", show(path))
            }
            Error::Grid(path, detail) => write!(f, "{}: not the GRID corpus: {detail}", show(path)),
            Error::Detector(path, detail) => {
                write!(
                    f,
                    "{}: not a usable face detector ({detail}); pull or import it again",
                    show(path)
                )
            }
            Error::AllFailed(first) => write!(f, "no clip could be read; the first one: {first}"),
        }
    }
}

// Without a source: the message holds the words of the system already.
impl std::error::Error for Error {}

/// A path as one printable line.
pub(crate) fn show(path: &Path) -> String {
    path.to_string_lossy()
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}
