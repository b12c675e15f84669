//! Multi-head self-attention with relative positions (Dai et al., "Transformer-XL: Attentive
//! Language Models beyond a Fixed-Length Context", 2019, section 3.3), as Auto-AVSR's conformer
//! (github.com/mpc001/auto_avsr, `rel_mha` in its "latest" form) computes it.
//!
//! In [`float`] for models with f32 weights, in [`int8`] for quantised ones. What both share is the
//! question which keys a query sees.

pub mod float;
pub mod int8;
pub mod slots;

use core::ops::Range;

pub use float::{Attended, RelativeAttention};
pub use int8::{AttendedInt8, Int8Attention, Int8Scratch};

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Query i sees the keys i − left ..= i + right.
    Reach(Reach),
    /// Frames come in chunks of `size`: every query of a chunk sees the whole chunk and the `left` frames before
    /// it. No frame is computed twice, however many blocks there are (Noroozi et al., "Stateful Conformer with
    /// Cache-based Inference for Streaming Automatic Speech Recognition", 2024, section 3).
    Chunks {
        /// Frames of a chunk, at least 1.
        size: usize,
        /// Frames before it.
        left: usize,
    },
}

/// Which row of a table of positions a query meets at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    /// That of the distance between them.
    Latest,
    /// The one that ESPnet's first version found by shifting a matrix with as many columns as keys, which is right up
    /// to the key beside the query: query i meets at key j <= i column T − 1 − i + j, nothing at j = i + 1, and beyond
    /// it query i + 1 meets column j − i − 2. T is the number of keys; only for whole utterances.
    Legacy,
}

/// Distances to the left and right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Frames to the left.
    pub left: usize,
    /// Frames to the right.
    pub right: usize,
}

impl Mask {
    /// The keys that query `i` sees, of `frames` keys.
    pub fn seen(&self, i: usize, frames: usize) -> Range<usize> {
        match *self {
            Mask::Reach(Reach { left, right }) => {
                i.saturating_sub(left)..frames.min(i.saturating_add(right).saturating_add(1))
            }
            Mask::Chunks { size, left } => {
                let size = size.max(1);
                let start = i / size * size;
                start.saturating_sub(left)..frames.min(start + size)
            }
        }
    }

    /// The furthest that any query sees.
    pub fn reach(&self) -> Reach {
        match *self {
            Mask::Reach(reach) => reach,
            Mask::Chunks { size, left } => Reach {
                left: left + size.max(1) - 1,
                right: size.max(1) - 1,
            },
        }
    }
}

impl Reach {
    /// Number of different offsets.
    pub fn span(&self) -> usize {
        self.left + 1 + self.right
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn chunks_see_themselves_and_what_is_before_them() {
        let mask = Mask::Chunks { size: 3, left: 2 };
        let seen: Vec<_> = (0..8).map(|i| mask.seen(i, 8)).collect();
        assert_eq!(
            seen,
            [0..3, 0..3, 0..3, 1..6, 1..6, 1..6, 4..8, 4..8].to_vec()
        );
        let reach = mask.reach();
        assert_eq!((reach.left, reach.right, reach.span()), (4, 2, 7));
    }

    #[test]
    fn no_mask_sees_further_than_its_reach() {
        let reach = Mask::Reach(Reach { left: 4, right: 1 });
        for mask in [
            reach,
            Mask::Chunks { size: 1, left: 0 },
            Mask::Chunks { size: 4, left: 7 },
        ] {
            let Reach { left, right } = mask.reach();
            let offsets = (0..40).flat_map(|i| mask.seen(i, 40).map(move |j| (i, j)));
            let (mut furthest_left, mut furthest_right) = (0, 0);
            for (i, j) in offsets {
                furthest_left = furthest_left.max(i.saturating_sub(j));
                furthest_right = furthest_right.max(j.saturating_sub(i));
            }
            assert_eq!((furthest_left, furthest_right), (left, right), "{mask:?}");
        }
    }
}
