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
use crate::parts::{after, equal_parts, first, part, part_mut};

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

    /// [`sums`](Self::sums), while `ahead`, the panel or part of one that is needed next, may be fetched from far caches.
    #[inline(always)]
    fn sums_ahead<const M: usize, const P: usize>(
        self,
        x: [&[[u8; 4]]; M],
        w: [&[U]; P],
        ahead: &[U],
    ) -> [[Sums; M]; P] {
        let _ = ahead;
        self.sums(x, w)
    }

    /// [`sums`](Self::sums) of several lines of groups: of rows and panels that begin with the first line, and hold all.
    #[inline(always)]
    fn line_sums<const M: usize, const P: usize>(
        self,
        lines: Lines,
        x: [&[[u8; 4]]; M],
        w: [&[U]; P],
        ahead: &[U],
    ) -> [[Sums; M]; P] {
        let (mut all, mut ahead) = ([[[0; OUTPUTS]; M]; P], ahead);
        for line in 0..lines.count {
            let (mut x, mut w) = (x, w);
            for x in &mut x {
                *x = part(x, line * lines.apart, lines.len);
            }
            for w in &mut w {
                *w = part(w, line * lines.weights_apart, lines.len);
            }
            let more = self.sums_ahead(x, w, take(&mut ahead, lines.len));
            for p in 0..P {
                for m in 0..M {
                    add(&mut all[p][m], &more[p][m]);
                }
            }
        }
        all
    }
}

/// Lines of groups, each as long as the others.
#[derive(Clone, Copy)]
pub struct Lines {
    /// How many.
    pub count: usize,
    /// Groups of a line.
    pub len: usize,
    /// Groups from one line of codes to the next.
    pub apart: usize,
    /// Groups from one line of weights to the next.
    pub weights_apart: usize,
}

impl Lines {
    /// Groups of codes, and of weights, from the beginning of the first line to the end of the last.
    pub fn spans(&self) -> [usize; 2] {
        let before = self.count.saturating_sub(1);
        [self.apart, self.weights_apart].map(|apart| before * apart + self.len)
    }
}

/// The first `len` elements, or all, which then are no longer there.
#[inline(always)]
pub(super) fn take<'x, U>(all: &mut &'x [U], len: usize) -> &'x [U] {
    let (taken, rest) = all.split_at(len.min(all.len()));
    *all = rest;
    taken
}

/// Adds one by one.
#[inline(always)]
pub(super) fn add(sums: &mut [i32], more: &[i32]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum = sum.wrapping_add(*more);
    }
}

/// Panels that pass by the rows together.
pub(super) const PANELS: usize = 4;

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
    let count = (codes.len() / groups).min(y.len() / outputs);
    let mut panels = w.panels().chunks((PANELS * units).max(1)).peekable();
    let mut first = 0;
    while let Some(now) = panels.next() {
        let rows = WholeRows {
            codes,
            groups,
            colsum: w.colsum(),
        };
        let block = Block {
            tile,
            rows,
            panels: now,
            units,
            first,
            scale: w.scale(),
            bias,
        };
        first += PANELS * OUTPUTS;
        let mut ahead = panels.peek().copied().unwrap_or(&[]);
        let quant = x.scale.iter().zip(x.zero).take(count);
        let rows = quant.enumerate().map(|(row, (&scale, &zero))| Row {
            from: row * groups,
            to: row * outputs,
            scale,
            zero,
        });
        block.run_all(rows, &mut ahead, y);
    }
}

/// A row of the product.
#[derive(Clone, Copy, Default)]
pub(super) struct Row {
    /// The group of codes at which it begins.
    pub from: usize,
    /// The result at which it begins.
    pub to: usize,
    /// Scale and zero point of its codes.
    pub scale: f32,
    pub zero: i32,
}

/// What is multiplied with panels.
pub(super) trait Rows<U> {
    /// See [`Tile::sums_ahead`]; takes from `ahead` what may have been fetched.
    fn sums<T: Tile<U>, const M: usize, const P: usize>(
        &self,
        tile: T,
        rows: &[Row; M],
        w: [&[U]; P],
        ahead: &mut &[U],
    ) -> [[Sums; M]; P];

    /// Sums of the weights that the rows meet, of the 16 outputs from `output` on.
    fn colsum(&self, output: usize) -> Sums;
}

/// Rows that lie one after the other, with as many groups as the panels.
struct WholeRows<'x> {
    codes: &'x [[u8; 4]],
    groups: usize,
    colsum: &'x [i32],
}

impl<U: Unit> Rows<U> for WholeRows<'_> {
    #[inline(always)]
    fn sums<T: Tile<U>, const M: usize, const P: usize>(
        &self,
        tile: T,
        rows: &[Row; M],
        w: [&[U]; P],
        ahead: &mut &[U],
    ) -> [[Sums; M]; P] {
        let ahead = take(ahead, w[0].len());
        let codes = after(self.codes, rows[0].from);
        match equal_parts(codes, self.groups) {
            Some(x) => tile.sums_ahead(x, w, ahead),
            // Rows are whole.
            None => [[[0; OUTPUTS]; M]; P],
        }
    }

    #[inline(always)]
    fn colsum(&self, output: usize) -> Sums {
        sixteen(self.colsum, output)
    }
}

/// Some panels, and what meets them.
pub(super) struct Block<'b, U, T, R> {
    pub tile: T,
    pub rows: R,
    pub panels: &'b [U],
    pub units: usize,
    /// The first output of the first panel.
    pub first: usize,
    /// Scale of each output of the matrix.
    pub scale: &'b [f32],
    /// One value an output of the matrix, or empty.
    pub bias: &'b [f32],
}

impl<U: Unit, T: Tile<U>, R: Rows<U>> Block<'_, U, T, R> {
    /// All rows, as many at a time as the tile takes. `ahead` is what is left of the panels that are next.
    #[inline(always)]
    pub fn run_all(&self, rows: impl Iterator<Item = Row>, ahead: &mut &[U], y: &mut [f32]) {
        let mut waiting = [Row::default(); 8];
        let mut count = 0;
        for row in rows {
            waiting[count % 8] = row;
            count += 1;
            if count == T::ROWS {
                if T::ROWS == 8 {
                    self.run::<8, 2>(&waiting, ahead, y);
                } else if let Some(four) = waiting.first_chunk() {
                    self.run::<4, 2>(four, ahead, y);
                }
                count = 0;
            }
        }
        let mut rest = first(&waiting, count);
        if let Some((four, others)) = rest.split_first_chunk() {
            self.run::<4, 2>(four, ahead, y);
            rest = others;
        }
        if let Some((two, others)) = rest.split_first_chunk() {
            self.run::<2, 4>(two, ahead, y);
            rest = others;
        }
        if let Some(one) = rest.first_chunk() {
            self.run::<1, 4>(one, ahead, y);
        }
    }

    /// M rows, P panels at a time.
    #[inline(always)]
    fn run<const M: usize, const P: usize>(
        &self,
        rows: &[Row; M],
        ahead: &mut &[U],
        y: &mut [f32],
    ) {
        let units = self.units.max(1);
        let mut panels = self.panels.chunks_exact((P * units).max(1));
        let mut first = self.first;
        for panels in &mut panels {
            let Some(w) = equal_parts::<_, P>(panels, units) else {
                return;
            };
            let all = self.rows.sums(self.tile, rows, w, ahead);
            for sums in &all {
                self.finish(rows, first, sums, y);
                first += OUTPUTS;
            }
        }
        for panel in panels.remainder().chunks_exact(units) {
            let [sums] = &self.rows.sums(self.tile, rows, [panel], ahead);
            self.finish(rows, first, sums, y);
            first += OUTPUTS;
        }
    }

    /// Sums to results: y = s · scale · (acc − zero · colsum) + bias, of the panel that begins with output `first`.
    #[inline(always)]
    fn finish<const M: usize>(
        &self,
        rows: &[Row; M],
        first: usize,
        sums: &[Sums; M],
        y: &mut [f32],
    ) {
        let outputs = self.scale.len();
        let scale = sixteen(self.scale, first);
        let colsum = self.rows.colsum(first);
        let bias = sixteen(self.bias, first);
        let left = outputs - first;
        for (row, sums) in rows.iter().zip(sums) {
            let zero = row.zero - T::OFFSET;
            let mut values = [0.0; OUTPUTS];
            for (j, value) in values.iter_mut().enumerate() {
                let acc = sums[j].wrapping_sub(zero.wrapping_mul(colsum[j]));
                *value = row.scale * scale[j] * acc as f32 + bias[j];
            }
            let at = row.to + first;
            if left >= OUTPUTS {
                if let Some(y) = y.get_mut(at..).and_then(|y| y.first_chunk_mut()) {
                    *y = values;
                }
            } else {
                // Not a copy: the compiler would make one call of both.
                let y = part_mut(y, at, left);
                y.iter_mut().zip(values).for_each(|(y, v)| *y = v);
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
