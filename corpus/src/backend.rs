//! What makes logits of mouth crops: the engine, or another one that is asked the same.

use std::fmt;

use viseme_engine::session::{PushError, Session};

/// Makes logits of one window of crops after the other. A window has at most as many frames as the model allows.
pub trait Backend {
    /// Takes the next crop of the window: `[side, side]` grey values, row by row, at the model's rate.
    ///
    /// # Errors
    /// If it cannot be taken: it is of another size, or the window is full.
    fn push(&mut self, crop: &[u8]) -> Result<(), BackendError>;

    /// Ends the window: its logits, `[frames, V]`, before any softmax.
    ///
    /// # Errors
    /// If they cannot be computed.
    fn finish(&mut self) -> Result<&[f32], BackendError>;

    /// Forgets the window; the next push begins another one.
    fn reset(&mut self);
}

impl Backend for Session<'_> {
    fn push(&mut self, crop: &[u8]) -> Result<(), BackendError> {
        // Times change no logits; whoever cuts the windows keeps them.
        Ok(self.push_crop(crop, 0)?)
    }

    fn finish(&mut self) -> Result<&[f32], BackendError> {
        Session::finish(self);
        Ok(self.logits())
    }

    fn reset(&mut self) {
        Session::reset(self);
    }
}

/// Why there are no logits. `Display` is one line for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendError {
    /// The crop was not taken.
    Push(PushError),
    /// Another engine says why, in one line.
    Other(String),
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendError::Push(error) => error.fmt(f),
            BackendError::Other(line) => f.write_str(line),
        }
    }
}

impl std::error::Error for BackendError {}

impl From<PushError> for BackendError {
    fn from(error: PushError) -> Self {
        BackendError::Push(error)
    }
}
