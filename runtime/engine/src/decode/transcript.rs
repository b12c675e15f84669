//! What was said, and when.

use alloc::string::String;
use alloc::vec::Vec;

use viseme_format::spec::TokenKind;

use super::ctc::TokenRun;
use super::vocabulary::{SPACE, Vocabulary};

/// Recognised text with the times of its words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcript {
    /// The words in order.
    pub words: Vec<Word>,
    /// The words with one space between them.
    pub text: String,
    /// Natural log-probability of the token sequence (of the best path, if greedy).
    pub score: f32,
    /// Whether the text is a sentence of the grammar; always true without one. False with no words
    /// at all when no sentence fits in the frames.
    pub complete: bool,
    /// The tokens, without blanks.
    pub tokens: Vec<u32>,
}

/// A recognised word.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// As the model's tokens spell it.
    pub text: String,
    /// When its first token's first frame begins, in seconds of the source's clock.
    pub start_s: f64,
    /// When its last token's last frame ends.
    pub end_s: f64,
    /// Mean probability that the model gave the word's tokens over their frames, 0 to 1.
    pub confidence: f32,
}

/// When the frames of the logits were seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameTimes<'t> {
    /// One frame every `period_us` microseconds.
    Regular {
        /// Begin of the first frame.
        start_us: u64,
        /// Length of a frame.
        period_us: u64,
    },
    /// The begin of each frame; a frame ends where the next begins.
    Stamps {
        /// One per frame, in order.
        starts_us: &'t [u64],
        /// Length of the last frame.
        period_us: u64,
    },
}

impl FrameTimes<'_> {
    fn start_s(&self, frame: u32) -> f64 {
        seconds(match *self {
            Self::Regular {
                start_us,
                period_us,
            } => regular(start_us, period_us, frame.into()),
            Self::Stamps { starts_us, .. } => starts_us.get(frame as usize).copied().unwrap_or(0),
        })
    }

    /// When the frame ends; never before it starts.
    fn end_s(&self, frame: u32) -> f64 {
        seconds(match *self {
            Self::Regular {
                start_us,
                period_us,
            } => regular(start_us, period_us, u64::from(frame) + 1),
            Self::Stamps {
                starts_us,
                period_us,
            } => {
                let start = starts_us.get(frame as usize).copied().unwrap_or(0);
                let next = starts_us.get(frame as usize + 1).copied();
                next.unwrap_or(start.saturating_add(period_us)).max(start)
            }
        })
    }
}

fn regular(start_us: u64, period_us: u64, frame: u64) -> u64 {
    start_us.saturating_add(period_us.saturating_mul(frame))
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// Joins tokens to words.
pub(super) fn words(
    vocabulary: &Vocabulary,
    runs: &[TokenRun],
    times: &FrameTimes<'_>,
) -> Vec<Word> {
    let mut words = Vec::new();
    let mut open: Option<Open> = None;
    for run in runs {
        let text = vocabulary.text(run.token);
        if vocabulary.kind() == TokenKind::Word {
            words.extend(open.take().map(|word| word.close(times)));
            open.get_or_insert_with(|| Open::new(run.start))
                .push(text, run);
            continue;
        }
        for (index, part) in text.split(SPACE).enumerate() {
            if index > 0 {
                words.extend(open.take().map(|word| word.close(times)));
            }
            if !part.is_empty() {
                open.get_or_insert_with(|| Open::new(run.start))
                    .push(part, run);
            }
        }
    }
    words.extend(open.map(|word| word.close(times)));
    words
}

/// A word whose tokens are still coming.
struct Open {
    text: String,
    start: u32,
    end: u32,
    frames: u32,
    probability: f32,
}

impl Open {
    fn new(start: u32) -> Self {
        Open {
            text: String::new(),
            start,
            end: start,
            frames: 0,
            probability: 0.0,
        }
    }

    fn push(&mut self, text: &str, run: &TokenRun) {
        let frames = run.end - run.start;
        self.text.push_str(text);
        self.end = run.end;
        self.frames += frames;
        self.probability += run.confidence * frames as f32;
    }

    fn close(self, times: &FrameTimes<'_>) -> Word {
        Word {
            text: self.text,
            start_s: times.start_s(self.start),
            end_s: times.end_s(self.end.saturating_sub(1)),
            confidence: (self.probability / self.frames as f32).clamp(0.0, 1.0),
        }
    }
}
