//! The most probable path, without a heap.

use super::{BLANK, TokenRun, check};
use crate::decode::DecodeError;
use crate::math;

/// What [`greedy`] found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Greedy<'b> {
    /// The tokens in order.
    pub runs: &'b [TokenRun],
    /// Log-probability of the path, blanks included.
    pub score: f32,
}

/// Takes the most probable token of each frame (the lowest index of equals), merges repeats and
/// drops blanks: best path decoding (Graves et al., 2006, section 3.2).
///
/// `logits` is `[T][V]`; T tokens of `buffer` are always enough.
///
/// # Errors
/// [`DecodeError::WrongShape`], [`DecodeError::NotFinite`], [`DecodeError::BufferTooSmall`].
pub fn greedy<'b>(
    logits: &[f32],
    vocab_size: usize,
    buffer: &'b mut [TokenRun],
) -> Result<Greedy<'b>, DecodeError> {
    let frames = check(logits, vocab_size)?;
    let (mut count, mut previous, mut score) = (0, BLANK, 0.0);
    for (frame, row) in logits.chunks_exact(vocab_size).enumerate() {
        let (token, probability) = best(row);
        score += math::ln(probability);
        if token != BLANK && token != previous {
            let Some(run) = buffer.get_mut(count) else {
                return Err(DecodeError::BufferTooSmall { needed: frames });
            };
            *run = TokenRun {
                token,
                start: frame as u32,
                end: frame as u32,
                confidence: 0.0,
            };
            count += 1;
        }
        if token != BLANK {
            let run = &mut buffer[count - 1];
            run.end += 1;
            run.confidence += probability;
        }
        previous = token;
    }
    let runs = &mut buffer[..count];
    for run in runs.iter_mut() {
        run.confidence /= (run.end - run.start) as f32;
    }
    Ok(Greedy { runs, score })
}

/// The most probable token of a frame and its probability.
fn best(row: &[f32]) -> (u32, f32) {
    let mut token = 0;
    for (index, &logit) in row.iter().enumerate() {
        if logit > row[token] {
            token = index;
        }
    }
    let mut sum = 0.0;
    for &logit in row {
        sum += math::exp(logit - row[token]);
    }
    (token as u32, 1.0 / sum)
}
