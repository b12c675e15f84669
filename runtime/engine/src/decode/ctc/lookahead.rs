//! What the frames to come are worth.

use alloc::vec;
use alloc::vec::Vec;

use super::BLANK;
use crate::decode::graph::{Arc, NONE, TokenGraph};

/// For each frame and each place in an acceptor: the log-probability of the best path through the
/// frames from there on that ends in a complete sequence.
///
/// A beam that is ranked by what prefixes have reached so far prefers short ones in stretches that
/// look like blanks, and long ones in noise, and so loses sentences of a given length. Ranked by
/// what they have reached plus what they can still reach, a narrow beam finds the best sentence. The
/// estimate is the backward pass of Soong and Huang, "A tree-trellis based fast search for finding
/// the N best sentence hypotheses" (ICASSP 1991), over the paths of CTC.
#[derive(Clone, Debug)]
pub struct Lookahead {
    arcs: usize,
    states: usize,
    /// `[T + 1][arcs + states]`. Of an arc: when its token was in the last frame, and may go on.
    /// Of a state: when a blank was in the last frame, or there was none.
    values: Vec<f32>,
}

/// Most values: 64 MiB.
const MAX_VALUES: usize = 1 << 24;
const NEVER: f32 = f32::NEG_INFINITY;

impl Lookahead {
    /// Goes backwards through log-probabilities `[T][V]`; `None` if the table would take more than
    /// 64 MiB.
    ///
    /// # Panics
    /// When `vocab_size` is less than the acceptor's.
    pub fn new(log_probs: &[f32], vocab_size: usize, graph: &TokenGraph) -> Option<Self> {
        assert!(
            vocab_size >= graph.vocab_size(),
            "a log-probability for each token"
        );
        let frames = log_probs.len() / vocab_size;
        let (arcs, states) = (graph.all_arcs().len(), graph.states());
        let size = (arcs + states)
            .checked_mul(frames + 1)
            .filter(|&size| size <= MAX_VALUES)?;

        let mut values = vec![NEVER; size];
        let end = |state| if graph.accepts_at(state) { 0.0 } else { NEVER };
        let (_, last) = values.split_at_mut((arcs + states) * frames);
        for (value, arc) in last.iter_mut().zip(graph.all_arcs()) {
            *value = end(arc.to);
        }
        for (value, state) in last[arcs..].iter_mut().zip(0..) {
            *value = end(state);
        }

        let mut ways = vec![Ways::NONE; states];
        for (frame, row) in log_probs.chunks_exact(vocab_size).enumerate().rev() {
            let (before, after) = values.split_at_mut((arcs + states) * (frame + 1));
            let before = &mut before[(arcs + states) * frame..];
            let (of_arcs, of_states) = after[..arcs + states].split_at(arcs);
            find_ways(&mut ways, graph, row, of_arcs);
            let blank = row[BLANK as usize];
            for (index, arc) in graph.all_arcs().iter().enumerate() {
                let go_on = row[arc.token as usize] + of_arcs[index];
                let rest = ways[arc.to as usize].but(arc.token);
                before[index] = go_on.max(blank + of_states[arc.to as usize]).max(rest);
            }
            for state in 0..states {
                before[arcs + state] = (blank + of_states[state]).max(ways[state].best);
            }
        }
        Some(Lookahead {
            arcs,
            states,
            values,
        })
    }

    /// After `frames` frames, the last of which had the token of this arc.
    pub(in crate::decode) fn in_token(&self, frames: usize, arc: u32) -> f32 {
        self.values[(self.arcs + self.states) * frames + arc as usize]
    }

    /// The log-probability of the best path from `state` after `frames` frames, the last of which, if
    /// any, had a blank.
    ///
    /// # Panics
    /// When there are no so many frames or states.
    pub fn of(&self, frames: usize, state: u32) -> f32 {
        self.values[(self.arcs + self.states) * frames + self.arcs + state as usize]
    }
}

/// The best that a new token in this frame can lead to, and the best with another token.
#[derive(Clone, Copy)]
struct Ways {
    best: f32,
    token: u32,
    otherwise: f32,
}

impl Ways {
    const NONE: Ways = Ways {
        best: NEVER,
        token: BLANK,
        otherwise: NEVER,
    };

    fn add(&mut self, token: u32, value: f32) {
        if value > self.best {
            *self = Ways {
                best: value,
                token,
                otherwise: self.best,
            };
        } else if value > self.otherwise {
            self.otherwise = value;
        }
    }

    /// With any token but this one.
    fn but(&self, token: u32) -> f32 {
        if self.token == token {
            self.otherwise
        } else {
            self.best
        }
    }
}

/// Labels differ among a state's arcs, so that the second best has another token.
fn find_ways(ways: &mut [Ways], graph: &TokenGraph, row: &[f32], of_arcs: &[f32]) {
    for (state, ways) in ways.iter_mut().enumerate() {
        *ways = Ways::NONE;
        let range = graph.own_range(state as u32);
        let own: &[Arc] = &graph.all_arcs()[range.clone()];
        for (arc, value) in own.iter().zip(&of_arcs[range]) {
            ways.add(arc.token, row[arc.token as usize] + value);
        }
    }
    for state in 0..ways.len() {
        let also = graph.also(state as u32);
        if also != NONE {
            let Ways {
                best,
                token,
                otherwise,
            } = ways[also as usize];
            ways[state].add(token, best);
            // Which token it has does not matter: it is not the best, or differs from it.
            ways[state].add(NONE, otherwise);
        }
    }
}
