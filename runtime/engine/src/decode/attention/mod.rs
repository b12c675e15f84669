//! Joint CTC and attention decoding (Watanabe et al., "Hybrid CTC/Attention Architecture for End-to-End Speech
//! Recognition", 2017, section IV), by the rules of Auto-AVSR (github.com/mpc001/auto_avsr, which are those of ESPnet's
//! batched beam search): a hypothesis grows by a token a step, and its score is
//! (1 − w) · ln p_decoder + w · ln p_CTC of the prefix + penalty · tokens.
//!
//! - The CTC part is computed for the [`Options::pre_beam`] best tokens of the decoder and for the end of the sentence;
//!   all others are out.
//! - There is no normalisation by length.
//! - The search ends when no hypothesis is left, when as many tokens as frames were taken, or when hypotheses that
//!   ended at each of the last three lengths are worse than the best by e^10.

pub mod prefix;

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use super::ctc::align;
use super::transcript::words;
use super::{FrameTimes, Transcript, Vocabulary};
use prefix::{LOG_ZERO, Prefix, PrefixScorer};

/// What gives the log-probabilities of the next token.
pub trait NextToken {
    /// For each hypothesis the log-probabilities of all tokens after it, [hypotheses, vocabulary]. All have taken the
    /// same number of tokens.
    fn step(&mut self, steps: &[Step<'_>]) -> &[f32];

    /// The row that the first hypothesis of the next step will be.
    fn rows(&self) -> usize;
}

/// A hypothesis that takes a token.
#[derive(Clone, Copy, Debug)]
pub struct Step<'h> {
    /// The token.
    pub token: usize,
    /// The rows of the tokens before it, in order: [`NextToken::rows`] of the step that took a token, plus the index of
    /// its hypothesis there.
    pub path: &'h [usize],
}

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Hypotheses that are kept.
    pub beam: usize,
    /// Weight w of CTC, from 0 to 1.
    pub ctc_weight: f32,
    /// Added for every token.
    pub penalty: f32,
}

/// As the original.
impl Default for Options {
    fn default() -> Self {
        Options {
            beam: 40,
            ctc_weight: 0.1,
            penalty: 0.0,
        }
    }
}

impl Options {
    /// Whether a model with so many tokens can be searched so.
    ///
    /// # Errors
    /// [`SearchError::Beam`] or [`SearchError::Weight`].
    pub fn check(&self, vocabulary: usize) -> Result<(), SearchError> {
        if !(1..=vocabulary).contains(&self.beam) {
            return Err(SearchError::Beam { most: vocabulary });
        }
        if !(0.0..=1.0).contains(&self.ctc_weight) || !self.penalty.is_finite() {
            return Err(SearchError::Weight);
        }
        Ok(())
    }

    /// Tokens of a hypothesis that the CTC part is computed for.
    pub fn pre_beam(&self) -> usize {
        self.beam + self.beam / 2
    }
}

/// A sentence and its score.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Tokens, the marks of begin and end included.
    pub tokens: Vec<usize>,
    /// Score; higher is better.
    pub score: f32,
    /// Sum of the decoder's log-probabilities.
    pub decoder: f32,
    /// CTC's log-probability of the prefix.
    pub ctc: f32,
    /// Whether it ended by itself, and not because there were no more frames.
    pub ended: bool,
}

/// Why there is no search. `Display` is one line for the user.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum SearchError {
    /// A beam of 0, or wider than the vocabulary.
    Beam {
        /// The vocabulary.
        most: usize,
    },
    /// A weight outside of 0 to 1, or a penalty that is no number.
    Weight,
    /// Log-probabilities that are no whole frames, or none.
    Empty,
    /// Scores that are no numbers.
    NotFinite,
}

impl fmt::Display for SearchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SearchError::Beam { most } => {
                write!(
                    f,
                    "a beam is 1 to {most} wide with this model; give another"
                )
            }
            SearchError::Weight => write!(
                f,
                "the weight of CTC is 0 to 1 and the penalty a number; give others"
            ),
            SearchError::Empty => write!(f, "there is no frame to decode; give a longer clip"),
            SearchError::NotFinite => write!(
                f,
                "the model's scores are no numbers; export the model again"
            ),
        }
    }
}

impl core::error::Error for SearchError {}

/// A sentence as words with times. The times are those of CTC's best alignment; a sentence that CTC cannot align has a
/// text and no words.
pub fn transcript(
    sentence: &Hypothesis,
    ctc: &[f32],
    vocabulary: &Vocabulary,
    times: &FrameTimes<'_>,
) -> Transcript {
    let end = vocabulary.len() - 1;
    let tokens = sentence
        .tokens
        .iter()
        .filter(|&&token| token != end && token != 0);
    let tokens: Vec<u32> = tokens.map(|&token| token as u32).collect();
    let runs = align(ctc, vocabulary.len(), &tokens).unwrap_or_default();
    Transcript {
        words: words(vocabulary, &runs, times),
        text: vocabulary.join(&tokens),
        score: sentence.score,
        complete: true,
        tokens,
    }
}

/// A hypothesis that has not ended.
struct Running {
    tokens: Vec<usize>,
    /// Rows of all tokens but the last.
    path: Vec<usize>,
    score: f32,
    decoder: f32,
    ctc: f32,
    prefix: Option<Prefix>,
}

/// A way for a hypothesis to go on.
#[derive(Clone, Copy)]
struct Way {
    parent: usize,
    token: usize,
    score: f32,
    decoder: f32,
    ctc: f32,
}

/// The sentences that ended, best first. `ctc` is [frames, vocabulary], log-probabilities; the last token of the
/// vocabulary begins and ends a sentence.
///
/// # Errors
/// See [`SearchError`].
pub fn search(
    next: &mut dyn NextToken,
    ctc: &[f32],
    vocabulary: usize,
    options: &Options,
) -> Result<Vec<Hypothesis>, SearchError> {
    let frames = ctc.len().checked_div(vocabulary).unwrap_or(0);
    if frames == 0 || !ctc.len().is_multiple_of(vocabulary) {
        return Err(SearchError::Empty);
    }
    options.check(vocabulary)?;
    if ctc.iter().any(|v| v.is_nan()) {
        return Err(SearchError::NotFinite);
    }
    let scorer = (options.ctc_weight > 0.0).then(|| PrefixScorer::new(ctc, vocabulary));
    let end = vocabulary - 1;
    let mut running = vec![Running {
        tokens: vec![end],
        path: Vec::new(),
        score: 0.0,
        decoder: 0.0,
        ctc: 0.0,
        prefix: scorer.as_ref().map(PrefixScorer::root),
    }];
    let mut ended: Vec<Hypothesis> = Vec::new();
    for step in 0..frames {
        let first = next.rows();
        let steps: Vec<Step<'_>> = (running.iter())
            .map(|r| Step {
                token: r.tokens[r.tokens.len() - 1],
                path: &r.path,
            })
            .collect();
        let scores = next.step(&steps);
        if scores.iter().any(|v| v.is_nan()) {
            return Err(SearchError::NotFinite);
        }
        let ways = best_ways(&running, scores, scorer.as_ref(), vocabulary, options);
        let mut grown = Vec::with_capacity(ways.len());
        for way in ways {
            let parent = &running[way.parent];
            let mut tokens = parent.tokens.clone();
            tokens.push(way.token);
            let is_last = step + 1 == frames;
            if way.token == end || is_last {
                if is_last {
                    tokens.push(end);
                }
                ended.push(Hypothesis {
                    tokens,
                    score: way.score,
                    decoder: way.decoder,
                    ctc: way.ctc,
                    ended: !is_last,
                });
                continue;
            }
            let mut path = parent.path.clone();
            path.push(first + way.parent);
            let grow = |(scorer, prefix): (&PrefixScorer<'_>, &Prefix)| {
                scorer.grow(prefix, &parent.tokens[1..], way.token)
            };
            grown.push(Running {
                prefix: scorer.as_ref().zip(parent.prefix.as_ref()).map(grow),
                tokens,
                path,
                score: way.score,
                decoder: way.decoder,
                ctc: way.ctc,
            });
        }
        running = grown;
        if running.is_empty() || has_ended(&ended, step) {
            break;
        }
    }
    // Stable: of equals, the one that ended first.
    ended.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok(ended)
}

/// The best ways for all hypotheses to go on, as many as the beam is wide, best first.
fn best_ways(
    running: &[Running],
    scores: &[f32],
    scorer: Option<&PrefixScorer<'_>>,
    vocabulary: usize,
    options: &Options,
) -> Vec<Way> {
    let weight = options.ctc_weight;
    let end = vocabulary - 1;
    let pre_beam = options.pre_beam();
    let few = pre_beam < vocabulary && weight > 0.0 && weight < 1.0;
    let mut ways = Vec::new();
    let mut tokens: Vec<usize> = Vec::new();
    for (parent, (hypothesis, scores)) in running
        .iter()
        .zip(scores.chunks_exact(vocabulary))
        .enumerate()
    {
        tokens.clear();
        tokens.extend(0..vocabulary);
        let most = match (few, scorer) {
            (true, _) => pre_beam,
            // Without CTC, no token beyond the beam can be among the best.
            (false, None) => options.beam.min(vocabulary),
            (false, Some(_)) => vocabulary,
        };
        if most < vocabulary {
            let order = |&a: &usize, &b: &usize| scores[b].total_cmp(&scores[a]).then(a.cmp(&b));
            tokens.select_nth_unstable_by(most - 1, order);
            tokens.truncate(most);
            if few && !tokens.contains(&end) {
                tokens.push(end);
            }
        }
        let increments = scorer
            .zip(hypothesis.prefix.as_ref())
            .map(|(scorer, prefix)| scorer.increments(prefix, &hypothesis.tokens[1..], &tokens));
        for (i, &token) in tokens.iter().enumerate() {
            let step = scores[token];
            let ctc = increments.as_ref().map_or(0.0, |all| all[i]);
            if ctc <= LOG_ZERO / 2.0 {
                // What CTC rules out stays out, where the original lets it fill a beam that is wider than the choice.
                continue;
            }
            let gain = (1.0 - weight) * step + options.penalty + weight * ctc;
            ways.push(Way {
                parent,
                token,
                score: hypothesis.score + gain,
                decoder: hypothesis.decoder + step,
                ctc: hypothesis.ctc + ctc,
            });
        }
    }
    let order = |a: &Way, b: &Way| {
        let place = |way: &Way| (way.parent, way.token);
        b.score.total_cmp(&a.score).then(place(a).cmp(&place(b)))
    };
    if ways.len() > options.beam {
        ways.select_nth_unstable_by(options.beam - 1, order);
        ways.truncate(options.beam);
    }
    ways.sort_by(order);
    ways
}

/// Whether sentences that ended in this step and in the two before are all far worse than the best.
fn has_ended(ended: &[Hypothesis], step: usize) -> bool {
    const LENGTHS: usize = 3;
    const FAR: f32 = -10.0;
    let best = |of: &mut dyn Iterator<Item = &Hypothesis>| {
        of.map(|h| h.score).fold(LOG_ZERO * 10.0, f32::max)
    };
    let best_of_all = best(&mut ended.iter());
    (0..LENGTHS).all(|m| {
        let Some(length) = step.checked_sub(m) else {
            return false;
        };
        let mut same = ended.iter().filter(|h| h.tokens.len() == length).peekable();
        same.peek().is_some() && best(&mut same) - best_of_all < FAR
    })
}

#[cfg(test)]
mod tests;
