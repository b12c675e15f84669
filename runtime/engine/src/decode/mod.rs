//! Decoding: logits to words.
//!
//! [`ctc::greedy`] works in the caller's memory; the rest needs a heap (feature `alloc`).
//! [`Decoder`] is the whole way from logits to a [`Transcript`]: greedy, or [`ctc::prefix_beam`]
//! over the token sequences of a [`grammar::Grammar`], then the times of the words by
//! [`ctc::align`]. What the grammar allows is an acceptor over the model's tokens
//! ([`graph::TokenGraph`]), and the search knows nothing else about it.
//!
//! [`attention`] searches with a transformer decoder beside CTC, for models of Auto-AVSR.
//!
//! All of it is a function of logits and time stamps: it does not know the model that made them.

#[cfg(feature = "alloc")]
pub mod attention;
pub mod ctc;
#[cfg(feature = "alloc")]
mod decoder;
mod error;
#[cfg(feature = "alloc")]
pub mod grammar;
#[cfg(feature = "alloc")]
pub mod graph;
#[cfg(feature = "alloc")]
mod transcript;
#[cfg(feature = "alloc")]
mod vocabulary;

#[cfg(all(test, feature = "alloc"))]
mod tests;

pub use error::DecodeError;

#[cfg(feature = "alloc")]
pub use {
    decoder::{DEFAULT_BEAM, Decoder, MAX_FRAMES, Options},
    transcript::{FrameTimes, Transcript, Word},
    viseme_format::spec::TokenKind,
    vocabulary::{Vocabulary, VocabularyError},
};
