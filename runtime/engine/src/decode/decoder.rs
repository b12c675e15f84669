//! The whole way from logits to text.

use alloc::vec;
use alloc::vec::Vec;

use super::ctc::{self, Hypothesis, Outlook, PrefixBeam, TokenRun};
use super::grammar::{Grammar, GrammarError};
use super::graph::TokenGraph;
use super::transcript::{FrameTimes, Transcript, words};
use super::{DecodeError, Vocabulary};

/// Beam width when a grammar is given without one.
pub const DEFAULT_BEAM: usize = 16;

/// The most frames that are decoded at once (44 minutes at 25 frames a second).
pub const MAX_FRAMES: usize = 65_536;

/// How to decode. The default is greedy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'g> {
    /// What may be said; `None` for anything.
    pub grammar: Option<&'g Grammar>,
    /// Width of the beam, at most [`ctc::MAX_BEAM`]. 0 is greedy without a grammar, and
    /// [`DEFAULT_BEAM`] with one.
    pub beam: usize,
}

/// Turns logits into text.
///
/// ```
/// use viseme_engine::decode::{Decoder, FrameTimes, Options, TokenKind, Vocabulary, grammar::Grammar};
///
/// let vocabulary = Vocabulary::new(TokenKind::Word, ["<blank>", "on", "off"]).unwrap();
/// let grammar = Grammar::parse("sentence = on off").unwrap();
/// let options = Options { grammar: Some(&grammar), ..Options::default() };
/// let decoder = Decoder::new(vocabulary, options).unwrap();
/// let logits = [0.0, 5.0, 0.0, /* next frame */ 0.0, 3.0, 2.0];
/// let times = FrameTimes::Regular { start_us: 0, period_us: 40_000 };
/// assert_eq!(decoder.decode(&logits, 2, 3, &times).unwrap().text, "on off");
/// ```
#[derive(Clone, Debug)]
pub struct Decoder {
    vocabulary: Vocabulary,
    search: Search,
}

#[derive(Clone, Debug)]
enum Search {
    Greedy,
    Beam { graph: TokenGraph, width: usize },
}

impl Decoder {
    /// Compiles the grammar, if there is one, for the model's tokens.
    ///
    /// # Errors
    /// When the model cannot spell a word of the grammar, or the grammar gets too large.
    pub fn new(vocabulary: Vocabulary, options: Options<'_>) -> Result<Self, GrammarError> {
        let search = match (options.grammar, options.beam) {
            (None, 0) => Search::Greedy,
            (None, width) => Search::Beam {
                graph: TokenGraph::any(vocabulary.len()),
                width,
            },
            (Some(grammar), beam) => {
                let width = if beam == 0 { DEFAULT_BEAM } else { beam };
                Search::Beam {
                    graph: TokenGraph::compile(grammar, &vocabulary)?,
                    width,
                }
            }
        };
        Ok(Decoder { vocabulary, search })
    }

    /// The tokens.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The best text for `logits`, row-major `[frames][vocab_size]`: a complete sentence, if there is
    /// a grammar. When none fits in so few frames, the result has no words and is not `complete`.
    ///
    /// # Errors
    /// [`DecodeError`], except `BufferTooSmall`.
    pub fn decode(
        &self,
        logits: &[f32],
        frames: usize,
        vocab_size: usize,
        times: &FrameTimes<'_>,
    ) -> Result<Transcript, DecodeError> {
        let best = self.decode_n_best(logits, frames, vocab_size, times, 1)?;
        Ok(best.into_iter().next().unwrap_or_default())
    }

    /// The `count` best texts, best first, as [`Decoder::decode`] finds them. There may be fewer:
    /// greedy has one, and a beam no more than its width. Of several token sequences for one text
    /// the best counts.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn decode_n_best(
        &self,
        logits: &[f32],
        frames: usize,
        vocab_size: usize,
        times: &FrameTimes<'_>,
        count: usize,
    ) -> Result<Vec<Transcript>, DecodeError> {
        self.check(logits, frames, vocab_size, times)?;
        match &self.search {
            Search::Greedy => self.greedy(logits, frames, times, count),
            Search::Beam { graph, width } => {
                let log_probs = ctc::log_probs(logits, vocab_size)?;
                let found = ctc::prefix_beam(&log_probs, vocab_size, graph, *width, *width);
                Ok(self.transcripts(&log_probs, found, times, count))
            }
        }
    }

    /// The best beginning of a text for the frames so far, for showing while more are coming. It need
    /// not be a complete sentence.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn decode_partial(
        &self,
        logits: &[f32],
        frames: usize,
        vocab_size: usize,
        times: &FrameTimes<'_>,
    ) -> Result<Transcript, DecodeError> {
        self.check(logits, frames, vocab_size, times)?;
        let found = match &self.search {
            Search::Greedy => self.greedy(logits, frames, times, 1)?,
            Search::Beam { graph, width } => {
                let log_probs = ctc::log_probs(logits, vocab_size)?;
                let mut search = PrefixBeam::new(graph, *width);
                for row in log_probs.chunks_exact(vocab_size) {
                    search.step(row, Outlook::Open);
                }
                self.transcripts(&log_probs, search.hypotheses().take(1).collect(), times, 1)
            }
        };
        Ok(found.into_iter().next().unwrap_or_default())
    }

    fn check(
        &self,
        logits: &[f32],
        frames: usize,
        vocab_size: usize,
        times: &FrameTimes<'_>,
    ) -> Result<(), DecodeError> {
        let expected = self.vocabulary.len();
        if vocab_size != expected {
            return Err(DecodeError::WrongVocabulary {
                expected,
                found: vocab_size,
            });
        }
        if frames > MAX_FRAMES {
            return Err(DecodeError::TooLong {
                frames,
                most: MAX_FRAMES,
            });
        }
        if frames.checked_mul(vocab_size) != Some(logits.len()) {
            return Err(DecodeError::WrongShape {
                values: logits.len(),
                vocab_size,
            });
        }
        match times {
            FrameTimes::Stamps { starts_us, .. } if starts_us.len() != frames => {
                Err(DecodeError::WrongTimes {
                    frames,
                    times: starts_us.len(),
                })
            }
            _ => Ok(()),
        }
    }

    fn greedy(
        &self,
        logits: &[f32],
        frames: usize,
        times: &FrameTimes<'_>,
        count: usize,
    ) -> Result<Vec<Transcript>, DecodeError> {
        let mut buffer = vec![TokenRun::default(); frames];
        let found = ctc::greedy(logits, self.vocabulary.len(), &mut buffer)?;
        let best = self.transcript(found.runs, found.score, true, times);
        Ok([best].into_iter().take(count).collect())
    }

    fn transcripts(
        &self,
        log_probs: &[f32],
        found: Vec<Hypothesis>,
        times: &FrameTimes<'_>,
        count: usize,
    ) -> Vec<Transcript> {
        let mut out: Vec<Transcript> = Vec::new();
        for hypothesis in found {
            if out.len() == count {
                break;
            }
            let text = self.vocabulary.join(&hypothesis.tokens);
            if out.iter().any(|earlier| earlier.text == text) {
                continue;
            }
            let runs = ctc::align(log_probs, self.vocabulary.len(), &hypothesis.tokens);
            let runs = runs.unwrap_or_default();
            out.push(self.transcript(&runs, hypothesis.score, hypothesis.complete, times));
        }
        out
    }

    fn transcript(
        &self,
        runs: &[TokenRun],
        score: f32,
        complete: bool,
        times: &FrameTimes<'_>,
    ) -> Transcript {
        let tokens: Vec<u32> = runs.iter().map(|run| run.token).collect();
        let text = self.vocabulary.join(&tokens);
        Transcript {
            words: words(&self.vocabulary, runs, times),
            text,
            score,
            complete,
            tokens,
        }
    }
}
