//! Why a file could not be imported.

use core::fmt;

/// Why a file could not be imported. `Display` is one line for the user; it does not name the file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportError {
    /// The bytes are not an ONNX model at all, or end early.
    Malformed(String),
    /// A sound file that holds another model than the one asked for.
    WrongModel(String),
    /// The right model in a form that is not supported (another number format, say).
    Unsupported(String),
    /// A file that could not be read at all.
    Io(String),
    /// A checkpoint that contradicts itself, or ends early.
    Damaged(String),
    /// A checkpoint that names something that runs code when Python loads it. Holds the name, as `module.name`.
    Refused(String),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => {
                write!(f, "this is not a sound ONNX file: {what}; fetch it again")
            }
            Self::Damaged(what) => {
                write!(f, "this checkpoint is damaged: {what}; fetch it again")
            }
            Self::Refused(name) => write!(
                f,
                "the file asks for {name}, which weights do not need and which may run code in Python (nothing was run \
                 here); fetch it from its authors, or save its state_dict alone where you trust it"
            ),
            Self::WrongModel(what) | Self::Unsupported(what) | Self::Io(what) => f.write_str(what),
        }
    }
}

impl core::error::Error for ImportError {}

/// A name out of a file as an error shows it: on one line, and not without end.
pub(crate) fn shown(name: &str) -> String {
    const MOST: usize = 100;
    let mut out: String = name
        .chars()
        .take(MOST)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if name.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}
