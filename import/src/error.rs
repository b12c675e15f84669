//! Why a file could not be imported.

use core::fmt;

/// Why a file could not be imported. `Display` is one line for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportError {
    /// The bytes are not an ONNX model at all, or end early.
    Malformed(String),
    /// A sound file that holds another model than the one asked for.
    WrongModel(String),
    /// The right model in a form that is not supported (another number format, say).
    Unsupported(String),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => {
                write!(f, "this is not a sound ONNX file: {what}; fetch it again")
            }
            Self::WrongModel(what) | Self::Unsupported(what) => f.write_str(what),
        }
    }
}

impl core::error::Error for ImportError {}
