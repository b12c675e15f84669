//! int8 and int4 matrix products over packed panels: what all instruction sets share.
//!
//! Weights lie in panels of 16 outputs (`viseme_format::panels`). A few panels at a time pass by all rows of
//! activations, in tiles of up to 8 rows whose sums stay in registers: each weight is read once for 8 rows, and
//! once from the far caches however many rows there are. An instruction set writes only the tile.

use viseme_format::panels::OUTPUTS;

use super::QuantRows;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::packed::Pair;
use super::packed::{Packed, Unit};

pub use super::packed::Group;
use crate::parts::{after, equal_parts, part, part_mut};

/// Sums of one row over one panel.
pub type Sums = [i32; OUTPUTS];

/// The inner loop of an instruction set, for int8 weights or, as a `Tile` of pairs, for int4 weights.
pub trait Tile<U = Group>: Copy {
    /// Most rows whose sums stay in registers: 4 or 8.
    const ROWS: usize;

    /// What [`sums`](Self::sums) subtracts from each code: 0, or 128 where the instructions want signed operands.
    const OFFSET: i32;

    /// Σ_k (x\[m\]\[k\] − [`OFFSET`](Self::OFFSET)) · w\[p\]\[k\] of M rows with the 16 outputs of each of P panels.
    ///
    /// Each row of `x` and each panel holds the same number of groups of inputs; where that is odd, the last of the pairs
    /// of int4 weights is half empty.
    fn sums<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[U]; P],
    ) -> [[Sums; M]; P];
}

/// Panels that pass by the rows together.
const PANELS: usize = 4;

/// See [`Kernels::matmul_i8`](super::Kernels::matmul_i8) and [`Kernels::matmul_i4`](super::Kernels::matmul_i4).
#[inline(always)]
pub fn matmul<U: Unit, T: Tile<U>>(
    tile: T,
    x: QuantRows<'_>,
    w: Packed<'_, U>,
    bias: &[f32],
    y: &mut [f32],
) {
    // Never 0; so written, the compiler knows.
    let (groups, units, outputs) = (w.groups().max(1), w.units().max(1), w.outputs().max(1));
    let (codes, _) = x.codes.as_chunks::<4>();
    let rows = (codes.len() / groups)
        .min(x.scale.len())
        .min(x.zero.len())
        .min(y.len() / outputs);
    let panels = w.panels().chunks((PANELS * units).max(1));
    for (i, panels) in panels.enumerate() {
        let block = Block {
            tile,
            codes,
            x,
            panels,
            groups,
            units,
            first: i * PANELS * OUTPUTS,
            w,
            bias,
        };
        let mut row = 0;
        if T::ROWS == 8 {
            while row + 8 <= rows {
                block.run::<8, 2>(row, y);
                row += 8;
            }
        }
        while row + 4 <= rows {
            block.run::<4, 2>(row, y);
            row += 4;
        }
        if row + 2 <= rows {
            block.run::<2, 4>(row, y);
            row += 2;
        }
        if row < rows {
            block.run::<1, 4>(row, y);
        }
    }
}

/// Some panels, and what meets them.
struct Block<'b, U, T> {
    tile: T,
    codes: &'b [[u8; 4]],
    x: QuantRows<'b>,
    panels: &'b [U],
    groups: usize,
    units: usize,
    /// The first output of the first panel.
    first: usize,
    w: Packed<'b, U>,
    bias: &'b [f32],
}

impl<U: Unit, T: Tile<U>> Block<'_, U, T> {
    /// M rows from `row` on, P panels at a time.
    #[inline(always)]
    fn run<const M: usize, const P: usize>(&self, row: usize, y: &mut [f32]) {
        let (groups, units) = (self.groups, self.units.max(1));
        let Some(x) = equal_parts::<_, M>(after(self.codes, row * groups), groups) else {
            return;
        };
        let mut panels = self.panels.chunks_exact((P * units).max(1));
        let mut first = self.first;
        for panels in &mut panels {
            let Some(w) = equal_parts::<_, P>(panels, units) else {
                return;
            };
            let all = self.tile.sums(x, w);
            for sums in &all {
                self.finish(row, first, sums, y);
                first += OUTPUTS;
            }
        }
        for panel in panels.remainder().chunks_exact(units) {
            let [sums] = &self.tile.sums(x, [panel]);
            self.finish(row, first, sums, y);
            first += OUTPUTS;
        }
    }

    /// Sums to results: y = s · scale · (acc − zero · colsum) + bias.
    #[inline(always)]
    fn finish<const M: usize>(&self, row: usize, first: usize, sums: &[Sums; M], y: &mut [f32]) {
        let outputs = self.w.outputs();
        let scale = sixteen(self.w.scale(), first);
        let colsum = sixteen(self.w.colsum(), first);
        let bias = sixteen(self.bias, first);
        let rows = part(self.x.scale, row, M)
            .iter()
            .zip(part(self.x.zero, row, M));
        let left = outputs - first;
        for ((m, sums), (&s, zero)) in sums.iter().enumerate().zip(rows) {
            let zero = zero - T::OFFSET;
            let mut values = [0.0; OUTPUTS];
            for (j, value) in values.iter_mut().enumerate() {
                let acc = sums[j].wrapping_sub(zero.wrapping_mul(colsum[j]));
                *value = s * scale[j] * acc as f32 + bias[j];
            }
            let y = part_mut(y, (row + m) * outputs + first, left);
            match y.first_chunk_mut() {
                Some(y) => *y = values,
                // Not a copy: the compiler would make one call of both.
                None => y.iter_mut().zip(values).for_each(|(y, v)| *y = v),
            }
        }
    }
}

/// Sixteen elements from `at` on; those that are not there count as 0.
#[inline(always)]
fn sixteen<E: Copy + Default>(values: &[E], at: usize) -> [E; OUTPUTS] {
    let values = values.get(at..).unwrap_or(&[]);
    match values.first_chunk() {
        Some(chunk) => *chunk,
        None => {
            let mut chunk = [E::default(); OUTPUTS];
            chunk.iter_mut().zip(values).for_each(|(c, v)| *c = *v);
            chunk
        }
    }
}

/// The number of groups that every row and every panel has.
#[inline(always)]
pub(super) fn common_length<const M: usize, const P: usize>(
    x: &[&[[u8; 4]]; M],
    w: &[&[Group]; P],
) -> usize {
    let rows = x.iter().map(|x| x.len());
    let panels = w.iter().map(|w| w.len());
    rows.chain(panels).min().unwrap_or(0)
}

/// The number of pairs of groups that every row and every panel has whole, and whether one more group follows in the low
/// halves of another pair.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
pub(super) fn common_pairs<const M: usize, const P: usize>(
    x: &[&[[u8; 4]]; M],
    w: &[&[Pair]; P],
) -> (usize, bool) {
    let groups = x.iter().map(|x| x.len()).min().unwrap_or(0);
    let pairs = w.iter().map(|w| w.len()).min().unwrap_or(0);
    let whole = pairs.min(groups / 2);
    (whole, whole < pairs && 2 * whole < groups)
}
