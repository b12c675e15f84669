//! What may be said, as a deterministic acceptor over the tokens of a model.

mod compile;
mod distance;

use alloc::vec::Vec;
use core::ops::Range;

use super::grammar::{Grammar, GrammarError};
use super::vocabulary::Vocabulary;

/// A deterministic finite-state acceptor without ε-arcs, whose labels are tokens, and which knows how
/// many frames it takes from each state to a complete sequence.
#[derive(Clone, Debug)]
pub struct TokenGraph {
    vocab_size: usize,
    start: u32,
    states: Vec<State>,
    arcs: Vec<Arc>,
}

/// A token that may come next, and the state after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arc {
    /// The token; never the blank.
    pub token: u32,
    /// The state.
    pub to: u32,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// Its arcs are `arcs[first..last]`, and those of `also`. Labels differ among all of them.
    first: u32,
    last: u32,
    /// A state without an `also` of its own, or `NONE`.
    also: u32,
    accepts: bool,
    /// Frames from here to a complete sequence; [`distance::NEVER`] when there is none.
    frames: u32,
    /// The token that such a shortest way begins with; the blank if there is none.
    first_token: u32,
    /// As `frames`, among the ways that begin with another token.
    frames_otherwise: u32,
}

pub(super) const NONE: u32 = u32::MAX;

impl TokenGraph {
    /// Any sequence of tokens of a vocabulary of `vocab_size`, the blank included.
    pub fn any(vocab_size: usize) -> Self {
        let arcs: Vec<Arc> = (1..vocab_size as u32)
            .map(|token| Arc { token, to: 0 })
            .collect();
        let state = State::new(0, arcs.len(), NONE, true);
        TokenGraph {
            vocab_size,
            start: 0,
            states: alloc::vec![state],
            arcs,
        }
        .measured()
    }

    /// The token sequences that spell the sentences of a grammar.
    ///
    /// # Errors
    /// When the vocabulary cannot spell a word, or the result gets too large.
    pub fn compile(grammar: &Grammar, vocabulary: &Vocabulary) -> Result<Self, GrammarError> {
        Ok(compile::compile(grammar, vocabulary)?.measured())
    }

    /// The state of the empty sequence.
    pub fn start(&self) -> u32 {
        self.start
    }

    /// Number of tokens that labels are taken from, the blank included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Number of states.
    pub fn states(&self) -> usize {
        self.states.len()
    }

    /// What may follow in a state; each token at most once.
    pub fn arcs(&self, state: u32) -> impl Iterator<Item = Arc> + '_ {
        self.numbered_arcs(state).map(|(_, arc)| arc)
    }

    /// As [`TokenGraph::arcs`], with the index of each among [`TokenGraph::all_arcs`].
    pub(super) fn numbered_arcs(&self, state: u32) -> impl Iterator<Item = (u32, Arc)> + '_ {
        let also = self.also(state);
        let more = if also == NONE {
            0..0
        } else {
            self.own_range(also)
        };
        let numbered =
            |range: Range<usize>| (range.start as u32..).zip(self.arcs[range].iter().copied());
        numbered(self.own_range(state)).chain(numbered(more))
    }

    pub(super) fn all_arcs(&self) -> &[Arc] {
        &self.arcs
    }

    /// Where the arcs are that this state has for itself.
    pub(super) fn own_range(&self, state: u32) -> Range<usize> {
        let state = &self.states[state as usize];
        state.first as usize..state.last as usize
    }

    /// The state whose arcs this state has too, or [`NONE`].
    pub(super) fn also(&self, state: u32) -> u32 {
        self.states[state as usize].also
    }

    /// Whether a sequence that ends in `state` is complete.
    pub fn accepts_at(&self, state: u32) -> bool {
        self.states[state as usize].accepts
    }

    /// The least number of frames that a path needs from `state` to a complete sequence, when its
    /// last frame was `last` (a token twice in a row needs a blank between); `None` if there is no
    /// way.
    pub fn frames_needed(&self, state: u32, last: u32) -> Option<usize> {
        let state = &self.states[state as usize];
        let frames = if last == super::ctc::BLANK || last != state.first_token {
            state.frames
        } else {
            state.frames_otherwise.min(state.frames.saturating_add(1))
        };
        (frames != distance::NEVER).then_some(frames as usize)
    }

    fn measured(mut self) -> Self {
        distance::measure(&mut self);
        self
    }
}

impl State {
    fn new(first: usize, last: usize, also: u32, accepts: bool) -> Self {
        State {
            first: first as u32,
            last: last as u32,
            also,
            accepts,
            frames: distance::NEVER,
            first_token: super::ctc::BLANK,
            frames_otherwise: distance::NEVER,
        }
    }
}
