//! How many frames it takes to complete a sequence.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::{NONE, TokenGraph};
use crate::decode::ctc::BLANK;

/// No number of frames suffices.
pub(super) const NEVER: u32 = u32::MAX;

/// Fills in the shortest ways of all states.
///
/// Dijkstra's algorithm backwards from the accepting states, with up to two ways per state: since a
/// repeated token costs one frame more (the blank between), the shortest way from a state depends on
/// the token before it, but only through whether that is the first token of the way. The best way
/// and the best that begins with another token answer for all.
pub(super) fn measure(graph: &mut TokenGraph) {
    // (to, token, from) and (state, states that also have its arcs).
    let mut before: Vec<(u32, u32, u32)> = Vec::with_capacity(graph.arcs.len());
    let mut sharing: Vec<(u32, u32)> = Vec::new();
    let mut open = BinaryHeap::new();
    for (from, state) in graph.states.iter().enumerate() {
        let from = from as u32;
        let own = &graph.arcs[graph.own_range(from)];
        before.extend(own.iter().map(|arc| (arc.to, arc.token, from)));
        if state.also != NONE {
            sharing.push((state.also, from));
        }
        if state.accepts {
            open.push(Reverse((0, from, BLANK)));
        }
    }
    before.sort_unstable();
    sharing.sort_unstable();

    while let Some(Reverse((frames, index, token))) = open.pop() {
        let state = &mut graph.states[index as usize];
        let best = state.frames == NEVER;
        if best {
            (state.frames, state.first_token) = (frames, token);
        } else if token != state.first_token && state.frames_otherwise == NEVER {
            state.frames_otherwise = frames;
        } else {
            continue;
        }
        let first_token = state.first_token;
        let arcs = &before[before.partition_point(|&(to, ..)| to < index)..];
        for &(_, arc, from) in arcs.iter().take_while(|&&(to, ..)| to == index) {
            let repeats = arc == first_token;
            if best {
                open.push(Reverse((frames + 1 + u32::from(repeats), from, arc)));
            } else if repeats {
                open.push(Reverse((frames + 1, from, arc)));
            }
        }
        let states = &sharing[sharing.partition_point(|&(also, _)| also < index)..];
        for &(_, from) in states.iter().take_while(|&&(also, _)| also == index) {
            open.push(Reverse((frames, from, token)));
        }
    }
}
