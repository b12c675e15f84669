//! Connectionist temporal classification (Graves et al., ICML 2006).
//!
//! A model gives, for each of T frames, a score for each of V tokens; token [`BLANK`] stands for
//! "nothing new". A path is one token per frame; merging its repeats and then dropping its blanks
//! gives the token sequence it stands for. The probability of a sequence is the sum over its paths.
//!
//! Logits and log-probabilities are row-major `[T][V]`; all logarithms are natural.

mod greedy;

#[cfg(feature = "alloc")]
mod align;
#[cfg(feature = "alloc")]
mod beam;
#[cfg(feature = "alloc")]
mod lookahead;

pub use greedy::{Greedy, greedy};

#[cfg(feature = "alloc")]
pub use {
    align::align,
    beam::{Hypothesis, MAX_BEAM, Outlook, PrefixBeam, prefix_beam},
    lookahead::Lookahead,
};

use super::DecodeError;
use crate::math;

/// The token that stands for "nothing new".
pub const BLANK: u32 = 0;

/// A token and the frames that it spans.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenRun {
    /// Which token.
    pub token: u32,
    /// Its first frame.
    pub start: u32,
    /// The frame after its last one.
    pub end: u32,
    /// Mean probability of the token over these frames, 0 to 1.
    pub confidence: f32,
}

/// Natural logarithms of the softmax of one frame's logits. Both slices hold V values.
///
/// Results are at least -1e30, so that sums of them stay finite.
///
/// # Panics
/// When the slices differ in length.
pub fn log_softmax(logits: &[f32], out: &mut [f32]) {
    assert_eq!(logits.len(), out.len(), "one result per logit");
    let normaliser = log_sum_exp(logits);
    for (out, &logit) in out.iter_mut().zip(logits) {
        *out = (logit - normaliser).max(-1e30);
    }
}

/// The number of frames in `logits`, after checking that it is `frames` rows of `vocab_size` numbers.
fn check(logits: &[f32], vocab_size: usize) -> Result<usize, DecodeError> {
    if vocab_size < 2 || !logits.len().is_multiple_of(vocab_size) {
        return Err(DecodeError::WrongShape {
            values: logits.len(),
            vocab_size,
        });
    }
    match logits.iter().position(|logit| !logit.is_finite()) {
        Some(index) => Err(DecodeError::NotFinite {
            frame: index / vocab_size,
        }),
        None => Ok(logits.len() / vocab_size),
    }
}

/// Checks logits `[T][V]` and returns their log-softmax, frame by frame.
///
/// # Errors
/// [`DecodeError::WrongShape`], [`DecodeError::NotFinite`].
#[cfg(feature = "alloc")]
pub fn log_probs(logits: &[f32], vocab_size: usize) -> Result<alloc::vec::Vec<f32>, DecodeError> {
    check(logits, vocab_size)?;
    let mut out = alloc::vec![0.0; logits.len()];
    for (logits, out) in logits
        .chunks_exact(vocab_size)
        .zip(out.chunks_exact_mut(vocab_size))
    {
        log_softmax(logits, out);
    }
    Ok(out)
}

fn log_sum_exp(logits: &[f32]) -> f32 {
    let largest = logits
        .iter()
        .fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    let mut sum = 0.0;
    for &logit in logits {
        sum += math::exp(logit - largest);
    }
    largest + math::ln(sum)
}

/// ln(e^a + e^b) without leaving the logarithms.
#[cfg(feature = "alloc")]
fn log_add(a: f32, b: f32) -> f32 {
    let (large, small) = if a >= b { (a, b) } else { (b, a) };
    if small == f32::NEG_INFINITY {
        return large;
    }
    large + math::ln(1.0 + math::exp(small - large))
}
