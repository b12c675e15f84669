//! CTC's score of a prefix (Watanabe et al. 2017, algorithm 2): the log-probability of all alignments whose tokens begin
//! so.

use alloc::vec;
use alloc::vec::Vec;

use crate::decode::ctc;
use crate::math;

const BLANK: usize = ctc::BLANK as usize;

/// The logarithm of nothing, as the original has it.
pub const LOG_ZERO: f32 = -1e10;

/// Scores prefixes by the CTC log-probabilities of one utterance.
#[derive(Debug)]
pub struct PrefixScorer<'p> {
    /// [frames, vocabulary].
    probabilities: &'p [f32],
    vocabulary: usize,
    frames: usize,
}

/// What CTC knows of a prefix.
#[derive(Clone, Debug, PartialEq)]
pub struct Prefix {
    /// Log-probability of its alignments up to each frame that end in its last token.
    pub token: Vec<f32>,
    /// The same, that end in a blank.
    pub blank: Vec<f32>,
    /// Log-probability of all sentences that begin so.
    pub score: f32,
}

impl<'p> PrefixScorer<'p> {
    /// A scorer for whole frames of log-probabilities.
    pub fn new(probabilities: &'p [f32], vocabulary: usize) -> Self {
        PrefixScorer {
            probabilities,
            vocabulary,
            frames: probabilities.len() / vocabulary.max(1),
        }
    }

    /// The empty prefix.
    pub fn root(&self) -> Prefix {
        let mut sum = 0.0;
        let blank = (0..self.frames).map(|t| {
            sum += self.at(t, BLANK);
            sum
        });
        Prefix {
            blank: blank.collect(),
            token: vec![LOG_ZERO; self.frames],
            score: 0.0,
        }
    }

    /// By how much the score of a prefix of these tokens (without the mark of the begin) changes with each of `next`.
    /// The last token of the vocabulary ends the sentence; a blank is impossible.
    pub fn increments(&self, prefix: &Prefix, tokens: &[usize], next: &[usize]) -> Vec<f32> {
        let scores = self.scores(prefix, tokens, next).into_iter();
        scores
            .map(|score| {
                if score > LOG_ZERO {
                    score - prefix.score
                } else {
                    LOG_ZERO
                }
            })
            .collect()
    }

    /// The scores of the prefix with each of `next`; [`LOG_ZERO`] for a blank.
    pub fn scores(&self, prefix: &Prefix, tokens: &[usize], next: &[usize]) -> Vec<f32> {
        let (other, same) = (self.joined(prefix), &prefix.blank);
        let start = tokens.len().max(1);
        let score = |&token: &usize| {
            if token == BLANK {
                return LOG_ZERO;
            }
            if token + 1 == self.vocabulary {
                return other.last().copied().unwrap_or(LOG_ZERO);
            }
            // A token after itself needs a blank between.
            let before = if tokens.last() == Some(&token) {
                same
            } else {
                &other
            };
            let first = if tokens.is_empty() {
                self.at(0, token)
            } else {
                LOG_ZERO
            };
            let terms = (start..self.frames).map(|t| before[t - 1] + self.at(t, token));
            let most = terms.clone().fold(first, f32::max);
            let sum = terms.fold(math::exp(first - most), |sum, v| sum + math::exp(v - most));
            most + math::ln(sum)
        };
        next.iter().map(score).collect()
    }

    /// The prefix with one token more.
    pub fn grow(&self, prefix: &Prefix, tokens: &[usize], token: usize) -> Prefix {
        let other = self.joined(prefix);
        let before = if tokens.last() == Some(&token) {
            &prefix.blank
        } else {
            &other
        };
        let mut grown = Prefix {
            token: vec![LOG_ZERO; self.frames],
            blank: vec![LOG_ZERO; self.frames],
            score: self.scores(prefix, tokens, &[token])[0],
        };
        if tokens.is_empty() {
            grown.token[0] = self.at(0, token);
        }
        for t in tokens.len().max(1)..self.frames {
            let (last, blank) = (grown.token[t - 1], grown.blank[t - 1]);
            grown.token[t] = log_add(last, before[t - 1]) + self.at(t, token);
            grown.blank[t] = log_add(last, blank) + self.at(t, BLANK);
        }
        grown
    }

    /// Log-probability of the prefix's alignments up to each frame, however they end.
    fn joined(&self, prefix: &Prefix) -> Vec<f32> {
        let both = prefix.token.iter().zip(&prefix.blank);
        both.map(|(&token, &blank)| log_add(token, blank)).collect()
    }

    fn at(&self, frame: usize, token: usize) -> f32 {
        self.probabilities[frame * self.vocabulary + token]
    }
}

/// ln(e^a + e^b).
fn log_add(a: f32, b: f32) -> f32 {
    let (most, least) = if a > b { (a, b) } else { (b, a) };
    most + math::ln(1.0 + math::exp(least - most))
}
