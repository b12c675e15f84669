//! Forced alignment: the best path of a known token sequence.

use alloc::vec;
use alloc::vec::Vec;

use super::{BLANK, TokenRun};
use crate::math;

/// Finds the most probable path that stands for `tokens` (Viterbi) and says which frames each of
/// them spans there; `None` when the sequence needs more frames than there are, or when a token is
/// not one of the `vocab_size`.
///
/// `log_probs` is `[T][V]`. Scores are kept for every √T-th frame only and the frames between are
/// computed again on the way back, so that memory grows with √T times the number of tokens.
pub fn align(log_probs: &[f32], vocab_size: usize, tokens: &[u32]) -> Option<Vec<TokenRun>> {
    if vocab_size == 0
        || tokens
            .iter()
            .any(|&t| t as usize >= vocab_size || t == BLANK)
    {
        return None;
    }
    let rows: Vec<&[f32]> = log_probs.chunks_exact(vocab_size).collect();
    let labels = Labels { tokens };
    let block = rows.len().isqrt().max(1);

    // Forwards, one score per label before each block.
    let mut scores = vec![f32::NEG_INFINITY; labels.count()];
    scores[0] = 0.0;
    let mut next = scores.clone();
    let mut at_block = Vec::with_capacity(rows.len().div_ceil(block));
    for (frame, row) in rows.iter().enumerate() {
        if frame % block == 0 {
            at_block.push(scores.clone());
        }
        labels.advance(&scores, row, &mut next, |_, _| ());
        core::mem::swap(&mut scores, &mut next);
    }
    let last = labels.count() - 1;
    let mut label = if last > 0 && scores[last - 1] > scores[last] {
        last - 1
    } else {
        last
    };
    if scores[label] == f32::NEG_INFINITY {
        return None;
    }

    // Backwards, block by block.
    let mut runs: Vec<TokenRun> = tokens
        .iter()
        .map(|&token| TokenRun {
            token,
            ..TokenRun::default()
        })
        .collect();
    let mut steps = vec![0u8; block * labels.count()];
    for (index, start) in at_block.into_iter().enumerate().rev() {
        let first = index * block;
        let rows = &rows[first..rows.len().min(first + block)];
        scores = start;
        for (row, steps) in rows.iter().zip(steps.chunks_exact_mut(labels.count())) {
            labels.advance(&scores, row, &mut next, |label, step| steps[label] = step);
            core::mem::swap(&mut scores, &mut next);
        }
        for (offset, row) in rows.iter().enumerate().rev() {
            if label % 2 == 1 {
                let run = &mut runs[label / 2];
                let frame = (first + offset) as u32;
                if run.end == 0 {
                    run.end = frame + 1;
                }
                run.start = frame;
                run.confidence += math::exp(row[run.token as usize]);
            }
            label -= usize::from(steps[offset * labels.count() + label]);
        }
    }
    for run in &mut runs {
        run.confidence /= (run.end - run.start) as f32;
    }
    Some(runs)
}

/// The token sequence with a blank before, between and after its tokens: label 2i + 1 is token i.
struct Labels<'t> {
    tokens: &'t [u32],
}

impl Labels<'_> {
    fn count(&self) -> usize {
        2 * self.tokens.len() + 1
    }

    /// Best scores after one more frame. `chosen` hears, for each label, how many labels back its
    /// best predecessor is; the nearest of equals.
    fn advance(
        &self,
        scores: &[f32],
        row: &[f32],
        next: &mut [f32],
        mut chosen: impl FnMut(usize, u8),
    ) {
        for label in 0..self.count() {
            let (mut best, mut step) = (scores[label], 0);
            if label >= 1 && scores[label - 1] > best {
                (best, step) = (scores[label - 1], 1);
            }
            let token = if label % 2 == 1 {
                self.tokens[label / 2]
            } else {
                BLANK
            };
            let over_blank = label % 2 == 1 && label >= 3 && token != self.tokens[label / 2 - 1];
            if over_blank && scores[label - 2] > best {
                (best, step) = (scores[label - 2], 2);
            }
            next[label] = best + row[token as usize];
            chosen(label, step);
        }
    }
}
