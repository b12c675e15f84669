//! Attention on int8 keys, values and positions.
//!
//! Every product is one of the panels' tiles ([`Tile`]): queries (u8, each with its scale and zero point) with keys,
//! queries with position vectors, and softmax weights with values. Weights are 16-bit numbers in two bytes, which are
//! multiplied apart: eight bits would lose the many small ones beside a large one. All sums are exact in 32 bits, so
//! neither the order of the slots nor the number of queries at a time can show in the result.

use core::array::from_fn;

use viseme_format::panels::{INPUTS, OUTPUTS};

use super::Mask;
use super::slots::{Heads, ValueSlots, VectorSlots};
use crate::kernels::code_stride;
use crate::kernels::eight::Eight;
use crate::kernels::norm::{exp_and_sum, largest};
use crate::kernels::panels::{Group, Sums, Tile};
use crate::kernels::portable::quantize;
use crate::parts::{part, part_mut};

/// Queries worked on at a time.
pub const QUERIES: usize = 8;

/// What one attention layer needs besides its inputs.
#[derive(Debug)]
pub struct Int8Attention<'a> {
    /// The heads; `bias_u` and `bias_v` have H · d_k = d elements.
    pub heads: Heads,
    /// Added to the queries that meet keys, [H, d_k].
    pub bias_u: &'a [f32],
    /// Added to the queries that meet positions, [H, d_k].
    pub bias_v: &'a [f32],
    /// Projected position vectors: slot m holds the offset i − j = left − m of query i from key j, with the left of
    /// the mask's reach.
    pub positions: &'a VectorSlots<'a>,
    /// Which keys a query sees.
    pub mask: Mask,
    /// 1 / sqrt(d_k).
    pub scale: f32,
}

/// The inputs of one attention layer, and its working memory.
#[derive(Debug)]
pub struct AttendedInt8<'x, 's> {
    /// Queries, [rows, d]; replaced by their contexts.
    pub q: &'x mut [f32],
    /// Frame of the first query; the last query's is the last that has a key.
    pub first: usize,
    /// Keys, frame f in slot f mod slots; all that the mask lets be seen must be there.
    pub keys: &'x VectorSlots<'s>,
    /// Values, likewise.
    pub values: &'x ValueSlots<'s>,
    /// Working memory.
    pub scratch: Int8Scratch<'x>,
}

/// Working memory, of the lengths of [`Int8Scratch::sizes`].
#[derive(Debug)]
pub struct Int8Scratch<'x> {
    /// Queries with a bias added, [d_k].
    pub query: &'x mut [f32],
    /// Their codes, [QUERIES, code_stride(d_k)].
    pub codes: &'x mut [u8],
    /// Scores of the queries by frame, [QUERIES, slots + 2 · 16].
    pub scores: &'x mut [f32],
    /// Position scores, [QUERIES, slots + 3 · 16].
    pub places: &'x mut [f32],
    /// High and low bytes of the weights by slot, [2 · QUERIES + 1, slots]; the last row is zeros.
    pub weights: &'x mut [u8],
    /// What the tile's offset adds to the sums of each element, [panels of d_k · 16].
    pub offsets: &'x mut [i32],
}

/// How much longer a row of scores is than the slots: panels are written whole, and the first and last may hang over.
const SCORE_SLACK: usize = 2 * OUTPUTS;
const PLACE_SLACK: usize = 3 * OUTPUTS;

impl Int8Scratch<'_> {
    /// The same memory for a shorter while.
    pub fn reborrow(&mut self) -> Int8Scratch<'_> {
        Int8Scratch {
            query: self.query,
            codes: self.codes,
            scores: self.scores,
            places: self.places,
            weights: self.weights,
            offsets: self.offsets,
        }
    }

    /// Lengths in the order of the fields; `None` if one overflows.
    pub fn sizes(heads: Heads, slots: usize) -> Option<[usize; 6]> {
        Some([
            heads.width,
            QUERIES.checked_mul(code_stride(heads.width))?,
            QUERIES.checked_mul(slots.checked_add(SCORE_SLACK)?)?,
            QUERIES.checked_mul(slots.checked_add(PLACE_SLACK)?)?,
            (2 * QUERIES + 1).checked_mul(slots)?,
            heads.panels().checked_mul(OUTPUTS)?,
        ])
    }
}

/// Scale and zero point of a quantised query.
type QueryQuant = [(f32, i32); QUERIES];

/// Frames in a row that lie in slots in a row.
#[derive(Clone, Copy)]
struct Run {
    slot: usize,
    len: usize,
    /// Frames of the window before it.
    before: usize,
}

/// The frames `start..end` as runs of slots: where the ring ends, a second run begins.
fn runs(start: usize, end: usize, slots: usize) -> [Run; 2] {
    let slot = start % slots.max(1);
    let len = end.saturating_sub(start);
    let first = len.min(slots.saturating_sub(slot));
    [
        Run {
            slot,
            len: first,
            before: 0,
        },
        Run {
            slot: 0,
            len: len - first,
            before: first,
        },
    ]
}

impl Int8Attention<'_> {
    /// Replaces the queries by their contexts.
    ///
    /// With q̂ the query plus a bias, quantised (scale s, zero point z): score\[i, j\] = s_u · scale / √d_k ·
    /// key scale\[j\] · (Σ codes · key − z · key sum) + the same with `bias_v` and the position vector of i − j;
    /// e_j = e^(score − largest), in the order of frames; weight w_j = e_j · value scale\[j\], as rne(w_j · 65535 /
    /// largest w); the context is largest w / 65535 / Σ e · (256 · Σ high · value + Σ low · value).
    #[inline(always)]
    pub fn run<T: Tile, V: Eight>(&self, tile: T, x: AttendedInt8<'_, '_>) {
        let d = self.heads.count * self.heads.width;
        let (rows, mut x) = (x.q.len() / d.max(1), x);
        let frames = x.first + rows;
        let slots = x.keys.slots(self.heads);
        part_mut(x.scratch.weights, 2 * QUERIES * slots, slots).fill(0);
        for row in (0..rows).step_by(QUERIES) {
            let count = QUERIES.min(rows - row);
            let block = Block {
                first: x.first + row,
                start: self.mask.seen(x.first + row, frames).start,
                end: self.mask.seen(x.first + row + count - 1, frames).end,
                frames,
                slots,
            };
            let q = part_mut(x.q, row * d, count * d);
            for head in 0..self.heads.count {
                self.score::<T, V>(tile, head, q, &block, x.keys, &mut x.scratch);
                let factors = self.weigh::<V>(head, count, &block, x.values, &mut x.scratch);
                self.sum(tile, head, q, &block, factors, x.values, &mut x.scratch);
            }
        }
    }

    /// Fills `scores` and `places` for one head.
    #[inline(always)]
    fn score<T: Tile, V: Eight>(
        &self,
        tile: T,
        head: usize,
        q: &[f32],
        block: &Block,
        keys: &VectorSlots<'_>,
        s: &mut Int8Scratch<'_>,
    ) {
        let (groups, slots) = (self.heads.groups(), block.slots);
        let count = q.len() / (self.heads.count * self.heads.width).max(1);
        let stride = slots + SCORE_SLACK;
        let quant = self.codes::<T, V>(head, q, self.bias_u, s);
        let codes = |row: usize| part(s.codes.as_chunks::<INPUTS>().0, row * groups, groups);
        for run in runs(block.start, block.end, slots) {
            if run.len == 0 {
                continue;
            }
            let (from, lead) = (run.slot / OUTPUTS, run.slot % OUTPUTS);
            let panels = (run.slot + run.len).div_ceil(OUTPUTS) - from;
            let all = head * slots / OUTPUTS + from;
            let vectors = Vectors::of(keys, all, panels, groups);
            let at = OUTPUTS + run.before - lead;
            product(
                tile,
                (count, codes),
                vectors.panels(groups),
                |row, panel, sums| {
                    let to = part_mut(s.scores, row * stride + at + panel * OUTPUTS, OUTPUTS);
                    vectors.finish(quant[row % QUERIES], panel, sums, to);
                },
            );
        }
        let stride = slots + PLACE_SLACK;
        let quant = self.codes::<T, V>(head, q, self.bias_v, s);
        let codes = |row: usize| part(s.codes.as_chunks::<INPUTS>().0, row * groups, groups);
        let span = self.positions.slots(self.heads);
        let columns = self.columns(block, count);
        let from = columns.start / OUTPUTS;
        let panels = columns.end.min(span).div_ceil(OUTPUTS).saturating_sub(from);
        let all = head * span / OUTPUTS + from;
        let vectors = Vectors::of(self.positions, all, panels, groups);
        product(
            tile,
            (count, codes),
            vectors.panels(groups),
            |row, panel, sums| {
                let to = part_mut(s.places, row * stride + panel * OUTPUTS, OUTPUTS);
                vectors.finish(quant[row % QUERIES], panel, sums, to);
            },
        );
    }

    /// Position slots that the queries of a block meet.
    fn columns(&self, block: &Block, count: usize) -> core::ops::Range<usize> {
        let left = self.mask.reach().left;
        let start = (left + block.start).saturating_sub(block.first + count - 1);
        start..(left + block.end).saturating_sub(block.first)
    }

    /// Codes of the queries of one head with a bias added; the scale has that of the scores in it.
    #[inline(always)]
    fn codes<T: Tile, V: Eight>(
        &self,
        head: usize,
        q: &[f32],
        bias: &[f32],
        s: &mut Int8Scratch<'_>,
    ) -> QueryQuant {
        let Heads { count, width } = self.heads;
        let bias = part(bias, head * width, width);
        let mut quant = [(0.0, 0); QUERIES];
        let rows = q.chunks_exact((count * width).max(1));
        let codes = s.codes.chunks_exact_mut(code_stride(width).max(1));
        for ((row, codes), quant) in rows.zip(codes).zip(&mut quant) {
            let values = part(row, head * width, width);
            for ((to, &v), &b) in s.query.iter_mut().zip(values).zip(bias) {
                *to = v + b;
            }
            let row = quantize::<V>(s.query, codes);
            *quant = (row.scale * self.scale, row.zero - T::OFFSET);
        }
        quant
    }

    /// Turns scores into the bytes of weights; returns what the sums of each query are multiplied by.
    #[inline(always)]
    fn weigh<V: Eight>(
        &self,
        head: usize,
        count: usize,
        block: &Block,
        values: &ValueSlots<'_>,
        s: &mut Int8Scratch<'_>,
    ) -> [f32; QUERIES] {
        let slots = block.slots;
        let left = self.mask.reach().left;
        let columns = self.columns(block, count);
        let value_scale = part(values.scale, head * slots, slots);
        let used = block.groups();
        let mut factors = [0.0; QUERIES];
        for (r, factor) in factors.iter_mut().enumerate().take(count) {
            let i = block.first + r;
            let seen = self.mask.seen(i, block.frames);
            let len = seen.len();
            let at = r * (slots + SCORE_SLACK) + OUTPUTS + seen.start - block.start;
            let scores = part_mut(s.scores, at, len);
            let column = left + seen.start - i - columns.start / OUTPUTS * OUTPUTS;
            let places = part(s.places, r * (slots + PLACE_SLACK) + column, len);
            for (score, &place) in scores.iter_mut().zip(places) {
                *score += place;
            }
            let total = exp_and_sum::<V>(scores, largest::<V>(scores));
            for run in runs(seen.start, seen.end, slots) {
                let scores = part_mut(scores, run.before, run.len);
                for (w, &scale) in scores.iter_mut().zip(part(value_scale, run.slot, run.len)) {
                    *w *= scale;
                }
            }
            let most = largest::<V>(scores).max(0.0);
            let inverse = 65_535.0 / most;
            let inverse = if inverse.is_normal() { inverse } else { 0.0 };
            let (high, low) = part_mut(s.weights, 2 * r * slots, 2 * slots)
                .split_at_mut_checked(slots)
                .unwrap_or_default();
            for bytes in [&mut *high, &mut *low] {
                part_mut(bytes, used.start * INPUTS, used.len() * INPUTS).fill(0);
            }
            for run in runs(seen.start, seen.end, slots) {
                let bytes = part_mut(high, run.slot, run.len)
                    .iter_mut()
                    .zip(part_mut(low, run.slot, run.len));
                for ((high, low), &w) in bytes.zip(part(scores, run.before, run.len)) {
                    // 0..=65535 rounded by the 2^23 on top of it.
                    let code = (w * inverse + 8_388_608.0).to_bits();
                    (*high, *low) = ((code >> 8) as u8, code as u8);
                }
            }
            *factor = most / 65_535.0 / total;
        }
        factors
    }

    /// Contexts of one head: weights times values.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn sum<T: Tile>(
        &self,
        tile: T,
        head: usize,
        q: &mut [f32],
        block: &Block,
        factors: [f32; QUERIES],
        values: &ValueSlots<'_>,
        s: &mut Int8Scratch<'_>,
    ) {
        let Heads { count, width } = self.heads;
        let d = count * width;
        let (panels, stride) = (self.heads.panels(), block.slots / INPUTS);
        let used = block.groups();
        let values = part(values.panels, head * panels * stride, panels * stride);
        let of_panel = |p: usize| part(values, p * stride + used.start, used.len());
        let row = |r: usize| {
            let (groups, _) = s.weights.as_chunks::<INPUTS>();
            part(groups, r * stride + used.start, used.len())
        };
        if T::OFFSET != 0 {
            // A row of zeros gives what the offset alone adds.
            for (p, to) in s
                .offsets
                .as_chunks_mut::<OUTPUTS>()
                .0
                .iter_mut()
                .enumerate()
            {
                [[*to]] = tile.sums([row(2 * QUERIES)], [of_panel(p)]);
            }
        }
        let rows = 2 * (q.len() / d.max(1));
        product(tile, (rows, row), (panels, of_panel), |row, p, sums| {
            let context = part_mut(q, row / 2 * d + head * width, width);
            let Some(to) = context.chunks_mut(OUTPUTS).nth(p) else {
                return;
            };
            let offsets = s.offsets.as_chunks::<OUTPUTS>().0;
            let offset = match T::OFFSET {
                0 => [0; OUTPUTS],
                _ => *offsets.get(p).unwrap_or(&[0; OUTPUTS]),
            };
            let exact: [f32; OUTPUTS] = from_fn(|l| sums[l].wrapping_sub(offset[l]) as f32);
            // The high bytes' sums come first, then the low bytes'.
            if row % 2 == 0 {
                to.iter_mut().zip(exact).for_each(|(to, v)| *to = 256.0 * v);
            } else {
                let factor = factors[row / 2 % QUERIES];
                to.iter_mut()
                    .zip(exact)
                    .for_each(|(to, v)| *to = (*to + v) * factor);
            }
        });
    }
}

/// Queries that are worked on together, and the keys that any of them sees.
struct Block {
    /// Frame of the first query.
    first: usize,
    start: usize,
    end: usize,
    /// Frames there are.
    frames: usize,
    slots: usize,
}

impl Block {
    /// Groups of slots in which its keys lie; all of them once they go round the end of the ring.
    fn groups(&self) -> core::ops::Range<usize> {
        match runs(self.start, self.end, self.slots) {
            [run, Run { len: 0, .. }] => run.slot / INPUTS..(run.slot + run.len).div_ceil(INPUTS),
            _ => 0..self.slots / INPUTS,
        }
    }
}

/// Some panels of [`VectorSlots`].
struct Vectors<'v> {
    panels: &'v [Group],
    scale: &'v [[f32; OUTPUTS]],
    sum: &'v [[i32; OUTPUTS]],
}

impl<'v> Vectors<'v> {
    #[inline(always)]
    fn of(slots: &'v VectorSlots<'_>, from: usize, count: usize, groups: usize) -> Self {
        Vectors {
            panels: part(slots.panels, from * groups, count * groups),
            scale: part(slots.scale.as_chunks().0, from, count),
            sum: part(slots.sum.as_chunks().0, from, count),
        }
    }

    /// How many panels there are, and each.
    #[inline(always)]
    fn panels(&self, groups: usize) -> (usize, impl Fn(usize) -> &'v [Group]) {
        let panels = self.panels;
        (self.scale.len(), move |p| part(panels, p * groups, groups))
    }

    /// Sums of a query with panel `panel` to scores.
    #[inline(always)]
    fn finish(&self, (s, zero): (f32, i32), panel: usize, sums: Sums, to: &mut [f32]) {
        let (Some(scale), Some(sum)) = (self.scale.get(panel), self.sum.get(panel)) else {
            return;
        };
        let scores: [f32; OUTPUTS] = from_fn(|l| {
            let exact = sums[l].wrapping_sub(zero.wrapping_mul(sum[l]));
            s * scale[l] * exact as f32
        });
        to.iter_mut().zip(scores).for_each(|(to, v)| *to = v);
    }
}

/// Rows of codes with panels of weights, all of the same number of groups: `put(row, panel, sums)`, for each panel
/// by rising row.
#[inline(always)]
fn product<'x, T: Tile>(
    tile: T,
    (rows, row): (usize, impl Fn(usize) -> &'x [[u8; INPUTS]]),
    (panels, panel): (usize, impl Fn(usize) -> &'x [Group]),
    mut put: impl FnMut(usize, usize, Sums),
) {
    let mut r = 0;
    while r + 4 <= rows {
        let x: [_; 4] = from_fn(|m| row(r + m));
        pass::<T, 4, 2>(tile, x, panels, &panel, |m, p, sums| put(r + m, p, sums));
        r += 4;
    }
    if r + 2 <= rows {
        let x: [_; 2] = from_fn(|m| row(r + m));
        pass::<T, 2, 4>(tile, x, panels, &panel, |m, p, sums| put(r + m, p, sums));
        r += 2;
    }
    if r < rows {
        pass::<T, 1, 4>(tile, [row(r)], panels, &panel, |m, p, sums| {
            put(r + m, p, sums)
        });
    }
}

#[inline(always)]
fn pass<'x, T: Tile, const M: usize, const P: usize>(
    tile: T,
    x: [&[[u8; INPUTS]]; M],
    panels: usize,
    panel: &impl Fn(usize) -> &'x [Group],
    mut put: impl FnMut(usize, usize, Sums),
) {
    let mut p = 0;
    while p + P <= panels {
        for all in tile.sums::<M, P>(x, from_fn(|i| panel(p + i))) {
            for (m, sums) in all.into_iter().enumerate() {
                put(m, p, sums);
            }
            p += 1;
        }
    }
    while p < panels {
        let [all] = tile.sums(x, [panel(p)]);
        for (m, sums) in all.into_iter().enumerate() {
            put(m, p, sums);
        }
        p += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reach;
    use super::*;
    use crate::kernels::cases::Int8Case;
    use crate::kernels::detect;
    use std::vec::Vec;

    /// The formula in f64, without any rounding.
    fn exact(case: &Int8Case) -> Vec<f64> {
        let (count, width) = (case.heads.count, case.heads.width);
        let d = count * width;
        let [q, k, v] = &case.vectors;
        let frames = q.len() / d;
        let left = case.mask.reach().left;
        let mut out = std::vec![0.0; frames * d];
        for i in 0..frames {
            for h in 0..count {
                let seen = case.mask.seen(i, frames);
                let score = |j: usize| {
                    let position = (left + j - i) * d;
                    let terms = (h * width..(h + 1) * width).map(|c| {
                        let q = f64::from(q[i * d + c]);
                        (q + f64::from(case.biases[0][c])) * f64::from(k[j * d + c])
                            + (q + f64::from(case.biases[1][c]))
                                * f64::from(case.positions[position + c])
                    });
                    (0.7 * terms.sum::<f64>()).exp()
                };
                let total: f64 = seen.clone().map(score).sum();
                for c in h * width..(h + 1) * width {
                    let terms = seen.clone().map(|j| score(j) * f64::from(v[j * d + c]));
                    out[i * d + c] = terms.sum::<f64>() / total;
                }
            }
        }
        out
    }

    const MASKS: [Mask; 4] = [
        Mask::Reach(Reach {
            left: 99,
            right: 99,
        }),
        Mask::Chunks { size: 1, left: 20 },
        Mask::Chunks { size: 8, left: 33 },
        Mask::Chunks { size: 5, left: 0 },
    ];

    #[test]
    fn comes_close_to_the_formula() {
        for (count, width) in [(1, 8), (2, 36), (4, 64)] {
            for mask in MASKS {
                let case = Int8Case::new(count, width, mask, 70, 3);
                let want = exact(&case);
                let got = case.run(detect(), 70, 70);
                let size = want.iter().map(|w| w * w).sum::<f64>().sqrt();
                let error = got
                    .iter()
                    .zip(&want)
                    .map(|(g, w)| (f64::from(*g) - w).powi(2));
                let relative = error.sum::<f64>().sqrt() / size;
                // Each of the five factors is rounded to 8 bits: half a step of 1/127 or 1/255 of its largest element.
                assert!(relative < 0.02, "{count}x{width} {mask:?}: {relative}");
            }
        }
    }

    #[test]
    fn neither_chunks_nor_the_ring_show_in_the_bits() {
        for mask in &MASKS[1..] {
            let &Mask::Chunks { size, left } = mask else {
                continue;
            };
            let case = Int8Case::new(2, 36, *mask, 7 * size + size / 2, 5);
            let frames = case.vectors[0].len() / 72;
            let whole = case.run(detect(), frames, frames);
            for kept in [left + size, left + size + 16, 1000] {
                assert_eq!(whole, case.run(detect(), size, kept), "{mask:?} {kept}");
            }
        }
    }

    #[test]
    fn many_small_weights_beside_a_large_one_are_not_lost() {
        // One key that fits and 499 that share the rest: with weights of 8 bits they would all be rounded to 0.
        let mut case = Int8Case::new(1, 4, MASKS[0], 100, 1);
        let (d, frames) = (4, 100);
        case.mask = Mask::Reach(Reach {
            left: frames,
            right: frames,
        });
        case.positions = std::vec![0.0; d * (2 * frames + 1)];
        case.biases = [std::vec![0.0; d], std::vec![0.0; d]];
        let one = |i: usize| {
            if i == 0 {
                [3.0, 0.0, 0.0, 0.0]
            } else {
                [0.0; 4]
            }
        };
        case.vectors[0] = std::vec![3.0; d * frames];
        case.vectors[1] = (0..frames).flat_map(one).collect();
        case.vectors[2] = (0..frames)
            .flat_map(|i| [if i == 0 { 0.0 } else { 1.0 }; 4])
            .collect();
        let want = exact(&case);
        let got = case.run(detect(), frames, frames);
        for (g, w) in got.iter().zip(&want) {
            assert!((f64::from(*g) - w).abs() < 0.03 * w, "{g} {w}");
        }
    }
}
