//! Depthwise convolution over time.

use core::array::from_fn;

use super::eight::Eight;

/// A filter for each channel.
#[derive(Clone, Copy, Debug)]
pub struct Depthwise<'a> {
    /// [kernel, d]: channels are neighbours.
    pub taps: &'a [f32],
    /// [d].
    pub bias: &'a [f32],
    /// Taps that meet earlier frames than the one they are for.
    pub left: usize,
}

/// Frames of d channels, [frames, d], in one piece or, as a ring holds them, in two.
#[derive(Clone, Copy, Debug)]
pub struct Frames<'x> {
    /// One after the other.
    pub pieces: [&'x [f32]; 2],
    /// How many of the frames lie before the first that the result is for.
    pub before: usize,
}

impl Depthwise<'_> {
    /// y\[t\]\[c\] = bias\[c\] + Σ_k taps\[k\]\[c\] · x\[before + t + k − left\]\[c\], frames outside of x being zero.
    ///
    /// `y` is [frames, d]. Sums run over k upwards from zero, the bias last. 8 · W channels of four frames are summed in
    /// registers.
    #[inline(always)]
    pub fn run<V: Eight, const W: usize>(&self, x: Frames<'_>, y: &mut [f32]) {
        let d = self.bias.len().max(1);
        let mut t = x.before;
        for y in y.chunks_mut((4 * d).max(1)) {
            if y.len() == 4 * d {
                self.rows::<V, 4, W>(x, t, y);
            } else {
                for (t, y) in (t..).zip(y.chunks_exact_mut(d)) {
                    self.rows::<V, 1, W>(x, t, y);
                }
            }
            t += 4;
        }
    }

    /// All channels of F frames.
    #[inline(always)]
    fn rows<V: Eight, const F: usize, const W: usize>(
        &self,
        x: Frames<'_>,
        t: usize,
        y: &mut [f32],
    ) {
        let d = self.bias.len();
        let mut c = 0;
        while c + 8 * W <= d {
            self.block::<V, F, W>(x, t, c, y);
            c += 8 * W;
        }
        while c + 8 <= d {
            self.block::<V, F, 1>(x, t, c, y);
            c += 8;
        }
        for (t, y) in (t..).zip(y.chunks_exact_mut(d.max(1))) {
            for (c, (y, bias)) in y.iter_mut().zip(self.bias).enumerate().skip(c) {
                let first = t.wrapping_sub(self.left) as isize;
                let products = (first..).zip(self.taps.chunks_exact(d)).map(|(row, taps)| {
                    let x = x.row(row, d).and_then(|x| x.get(c));
                    x.zip(taps.get(c)).map_or(0.0, |(x, w)| x * w)
                });
                *y = products.fold(0.0, |sum, v| sum + v) + bias;
            }
        }
    }

    /// 8 · W channels, from `c` on, of F frames, whose sums stay in registers.
    #[inline(always)]
    fn block<V: Eight, const F: usize, const W: usize>(
        &self,
        x: Frames<'_>,
        t: usize,
        c: usize,
        y: &mut [f32],
    ) {
        let d = self.bias.len().max(1);
        let split = x.pieces[0].len() / d;
        let frames = split + x.pieces[1].len() / d;
        let mut sums = [[V::splat(0.0); W]; F];
        // Tap k of the first frame meets the row first + k, that of the next frame the next row; outside there is nothing.
        let first = t.wrapping_sub(self.left) as isize;
        let mut k = (1 - first - F as isize).max(0) as usize;
        let kernel = (self.taps.len() / d).min((frames as isize - first).max(0) as usize);
        while k < kernel {
            let row = first + k as isize;
            let from = row.max(0) as usize;
            let (piece, at, end) = if from < split {
                (x.pieces[0], from, split)
            } else {
                (x.pieces[1], from - split, frames - split)
            };
            // Taps at which all rows lie in one piece; where there are none, one tap at which some do.
            let many = (end + 1).saturating_sub(at + F) * usize::from(row >= 0);
            let many = many.min(kernel - k);
            let taps = self.taps.get(k * d..).unwrap_or(&[]);
            if many > 0 {
                let rows: [&[f32]; F] = from_fn(|f| piece.get((at + f) * d..).unwrap_or(&[]));
                add_products(&mut sums, taps, rows, many, d, c);
            } else {
                for (f, sum) in sums.iter_mut().enumerate() {
                    if let Some(x) = x.row(row + f as isize, d) {
                        add_products::<V, 1, W>(core::array::from_mut(sum), taps, [x], 1, d, c);
                    }
                }
            }
            k += many.max(1);
        }
        let bias = eights::<V, W>(self.bias, c);
        for (y, sums) in y.chunks_exact_mut(d).zip(&sums) {
            let (y, _) = y.get_mut(c..).unwrap_or_default().as_chunks_mut::<8>();
            for ((y, &sum), &bias) in y.iter_mut().zip(sums).zip(&bias) {
                *y = sum.add(bias).array();
            }
        }
    }
}

impl<'x> Frames<'x> {
    /// The row of a frame, counted from the first.
    #[inline(always)]
    fn row(&self, frame: isize, d: usize) -> Option<&'x [f32]> {
        let at = usize::try_from(frame).ok()? * d;
        let [first, second] = self.pieces;
        match at < first.len() {
            true => first.get(at..at + d),
            false => second.get(at - first.len()..at + d - first.len()),
        }
    }
}

/// Adds the products of some taps, one after the other, with rows that follow each other from the given ones on.
#[inline(always)]
fn add_products<V: Eight, const F: usize, const W: usize>(
    sums: &mut [[V; W]; F],
    taps: &[f32],
    rows: [&[f32]; F],
    count: usize,
    d: usize,
    c: usize,
) {
    for k in 0..count {
        let at = k * d + c;
        let w = eights::<V, W>(taps, at);
        for f in 0..F {
            let x = eights::<V, W>(rows[f], at);
            for i in 0..W {
                sums[f][i] = sums[f][i].add(x[i].mul(w[i]));
            }
        }
    }
}

/// 8 · W elements from `c` on; zeros if there are not as many.
#[inline(always)]
fn eights<V: Eight, const W: usize>(row: &[f32], c: usize) -> [V; W] {
    let (eights, _) = row.get(c..).unwrap_or(&[]).as_chunks::<8>();
    let mut all = [V::splat(0.0); W];
    if let Some(eights) = eights.first_chunk::<W>() {
        for (v, eight) in all.iter_mut().zip(eights) {
            *v = V::load(eight);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::eight::Plain;
    use std::vec::Vec;

    #[test]
    fn matches_the_formula_with_any_padding_in_any_pieces() {
        // The largest has a block of channels of every width; an interpreter gets the same with fewer frames and taps.
        let largest = if cfg!(miri) { (4, 43, 3) } else { (20, 43, 31) };
        for (frames, d, kernel) in [(1, 1, 1), (2, 3, 5), (9, 16, 4), largest] {
            let x: Vec<f32> = (0..frames * d)
                .map(|i| (i * 31 % 17) as f32 - 8.0)
                .collect();
            let taps: Vec<f32> = (0..kernel * d)
                .map(|i| (i * 13 % 11) as f32 - 5.0)
                .collect();
            let bias: Vec<f32> = (0..d).map(|i| i as f32).collect();
            for left in 0..kernel {
                for (before, split) in [(0, frames), (0, frames / 2), (frames / 3, frames / 2)] {
                    let filter = Depthwise {
                        taps: &taps,
                        bias: &bias,
                        left,
                    };
                    let (a, b) = x.split_at(split * d);
                    let pieces = [a, b];
                    let mut y = std::vec![f32::NAN; (frames - before) * d];
                    filter.run::<Plain, 2>(Frames { pieces, before }, &mut y);
                    for (i, &got) in y.iter().enumerate() {
                        let (t, c) = (before + i / d, i % d);
                        // Small integers: exact in any order.
                        let mut want = bias[c];
                        for k in 0..kernel {
                            let from = (t + k) as isize - left as isize;
                            if (0..frames as isize).contains(&from) {
                                want += taps[k * d + c] * x[from as usize * d + c];
                            }
                        }
                        assert_eq!(got, want, "t {t} c {c} left {left}");
                    }
                }
            }
        }
    }
}
