//! What can be wrong with logits.

use core::fmt;

/// Why logits cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The number of values is not frames times tokens.
    WrongShape {
        /// How many values there are.
        values: usize,
        /// How many tokens there should be per frame.
        vocab_size: usize,
    },
    /// Logits of another model.
    WrongVocabulary {
        /// Tokens of the decoder's vocabulary.
        expected: usize,
        /// Tokens per frame of the logits.
        found: usize,
    },
    /// Another number of time stamps than of frames.
    WrongTimes {
        /// How many frames there are.
        frames: usize,
        /// How many time stamps.
        times: usize,
    },
    /// A logit is infinite or not a number.
    NotFinite {
        /// The frame that it belongs to.
        frame: usize,
    },
    /// The caller's buffer is full.
    BufferTooSmall {
        /// How many tokens are always enough.
        needed: usize,
    },
    /// More frames than are decoded at once.
    TooLong {
        /// How many frames there are.
        frames: usize,
        /// How many there may be.
        most: usize,
    },
}

impl core::error::Error for DecodeError {}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongShape { values, vocab_size } => write!(
                f,
                "{values} logits are not whole frames of {vocab_size} tokens; pass logits as frames x tokens"
            ),
            Self::WrongVocabulary { expected, found } => write!(
                f,
                "logits for {found} tokens, but the vocabulary has {expected}; take both from one model"
            ),
            Self::WrongTimes { frames, times } => {
                write!(
                    f,
                    "{times} time stamps for {frames} frames; pass one per frame"
                )
            }
            Self::NotFinite { frame } => write!(
                f,
                "a logit of frame {frame} is not a finite number; the model or its input is damaged"
            ),
            Self::BufferTooSmall { needed } => {
                write!(f, "the token buffer is full; pass one for {needed} tokens")
            }
            Self::TooLong { frames, most } => {
                write!(
                    f,
                    "{frames} frames are more than the {most} decoded at once; split the clip"
                )
            }
        }
    }
}
