//! Convolutions in single precision, one image row at a time: pointwise 1x1, depthwise 3x3, dense 3x3 with stride 2.
//!
//! Rows are `[width, channels]`, channels innermost, so that the inner loops run over neighbouring output channels and
//! compile to vector code of whatever width the target has. Each output is a sum in one fixed order (bias, then taps
//! row by row and left to right, input channels innermost), every product rounded before it is added: the bits do not
//! depend on the vector width or on the tiling.

use core::array;

/// Channels computed together; channel counts of outputs are multiples of this.
pub const CHANNEL_BLOCK: usize = 16;

/// Pixels of a depthwise convolution computed together. Two times 16 channels are eight vectors of 4 lanes: with the
/// operands they fit 16 vector registers. Three or four pixels, or eight channels, measure slower.
const PIXELS: usize = 2;

/// Pointwise convolution of a row: `y[p, o] = bias[o] + Σ_c x[p, c] · weight[c, o]`.
///
/// `x` is [pixels, cin], `weight` [cin, cout], `bias` [cout], `y` [pixels, cout]. `P` pixels are computed together: 2 are
/// best where 16 channels take four registers, more where they take one.
///
/// # Panics
/// When the lengths do not fit together or cout is not a multiple of [`CHANNEL_BLOCK`].
#[inline(always)]
pub fn pointwise_row<const P: usize>(x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32]) {
    let cout = bias.len();
    let cin = weight.len() / cout;
    assert!(cout.is_multiple_of(CHANNEL_BLOCK) && weight.len() == cin * cout);
    assert!(y.len() / cout * cin == x.len());
    let mut xs = x.chunks_exact(P * cin);
    let mut ys = y.chunks_exact_mut(P * cout);
    for (x, y) in (&mut xs).zip(&mut ys) {
        pointwise_tile::<P>(x, weight, bias, y);
    }
    let rest = (xs.remainder().chunks_exact(cin)).zip(ys.into_remainder().chunks_exact_mut(cout));
    for (x, y) in rest {
        pointwise_tile::<1>(x, weight, bias, y);
    }
}

/// [`pointwise_row`] of `P` pixels.
#[inline(always)]
fn pointwise_tile<const P: usize>(x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32]) {
    let cout = bias.len();
    let cin = x.len() / P;
    let xs: [&[f32]; P] = array::from_fn(|p| &x[p * cin..][..cin]);
    for o in (0..cout).step_by(CHANNEL_BLOCK) {
        let mut sums = [*block(bias, o); P];
        for (c, row) in weight.chunks_exact(cout).enumerate() {
            let w = block(row, o);
            for (sum, x) in sums.iter_mut().zip(&xs) {
                let x = x[c];
                for (sum, &w) in sum.iter_mut().zip(w) {
                    *sum += x * w;
                }
            }
        }
        for (p, sum) in sums.iter().enumerate() {
            y[p * cout + o..][..CHANNEL_BLOCK].copy_from_slice(sum);
        }
    }
}

/// Depthwise 3x3 convolution of a row with stride 1:
/// `y[p, o] = bias[o] + Σ_{i,j} rows[i][p + j, o] · weight[i, j, o]`, negative results set to 0 if `relu`.
///
/// `rows` are the rows above, at and below the output, each [pixels + 2, channels] with one pixel of border at either
/// end; `weight` is [3, 3, channels], `bias` [channels], `y` [pixels, channels].
///
/// # Panics
/// When the lengths do not fit together or channels is not a multiple of [`CHANNEL_BLOCK`].
#[inline(always)]
pub fn depthwise_row(rows: [&[f32]; 3], weight: &[f32], bias: &[f32], relu: bool, y: &mut [f32]) {
    let channels = bias.len();
    assert!(channels.is_multiple_of(CHANNEL_BLOCK) && weight.len() == 9 * channels);
    assert!(rows.iter().all(|row| row.len() == y.len() + 2 * channels));
    let mut p = 0;
    let mut ys = y.chunks_exact_mut(PIXELS * channels);
    for y in &mut ys {
        let xs = rows.map(|row| &row[p * channels..]);
        depthwise_tile::<PIXELS, { PIXELS + 2 }>(xs, weight, bias, relu, y);
        p += PIXELS;
    }
    for y in ys.into_remainder().chunks_exact_mut(channels) {
        let xs = rows.map(|row| &row[p * channels..]);
        depthwise_tile::<1, 3>(xs, weight, bias, relu, y);
        p += 1;
    }
}

/// [`depthwise_row`] of `P` pixels, from `Q` = `P` + 2 columns.
#[inline(always)]
fn depthwise_tile<const P: usize, const Q: usize>(
    rows: [&[f32]; 3],
    weight: &[f32],
    bias: &[f32],
    relu: bool,
    y: &mut [f32],
) {
    let channels = bias.len();
    for o in (0..channels).step_by(CHANNEL_BLOCK) {
        let mut sums = [*block(bias, o); P];
        for (i, row) in rows.iter().enumerate() {
            let w: [_; 3] = array::from_fn(|j| block(weight, (i * 3 + j) * channels + o));
            // Each column is read once and serves up to three pixels; a pixel still meets its taps left to right.
            for q in 0..Q {
                let x = *block(row, q * channels + o);
                for (p, sum) in sums.iter_mut().enumerate() {
                    if let Some(w) = q.checked_sub(p).and_then(|j| w.get(j)) {
                        for ((sum, x), &w) in sum.iter_mut().zip(x).zip(*w) {
                            *sum += x * w;
                        }
                    }
                }
            }
        }
        for (p, sum) in sums.iter().enumerate() {
            let y = &mut y[p * channels + o..][..CHANNEL_BLOCK];
            for (y, &sum) in y.iter_mut().zip(sum) {
                *y = if relu && sum < 0.0 { 0.0 } else { sum };
            }
        }
    }
}

/// The block of channels at `at`.
#[inline(always)]
fn block(values: &[f32], at: usize) -> &[f32; CHANNEL_BLOCK] {
    values[at..].first_chunk().expect("a whole block")
}

/// Dense 3x3 convolution of a row with stride 2, then ReLU:
/// `y[p, o] = max(0, bias[o] + Σ_{i,j,c} rows[i][2p + j, c] · weight[i, j, c, o])`.
///
/// `rows` are three rows of [at least 2 · pixels + 1, cin] (the first pixel is the border on the left), `weight` is
/// [3, 3, cin, cout], `bias` [cout], `y` [pixels, cout].
///
/// # Panics
/// When the lengths do not fit together or cout is not a multiple of [`CHANNEL_BLOCK`].
#[inline(always)]
pub fn dense_row_stride2(rows: [&[f32]; 3], weight: &[f32], bias: &[f32], y: &mut [f32]) {
    let cout = bias.len();
    let taps = weight.len() / 3 / cout;
    let cin = taps / 3;
    assert!(cout.is_multiple_of(CHANNEL_BLOCK) && weight.len() == 9 * cin * cout);
    for (p, y) in y.chunks_exact_mut(cout).enumerate() {
        let xs = rows.map(|row| &row[2 * p * cin..][..taps]);
        for o in (0..cout).step_by(CHANNEL_BLOCK) {
            let mut sum = *block(bias, o);
            let taps = xs.iter().flat_map(|x| x.iter());
            for (&x, row) in taps.zip(weight.chunks_exact(cout)) {
                let w = block(row, o);
                for (sum, &w) in sum.iter_mut().zip(w) {
                    *sum += x * w;
                }
            }
            let sum = sum.map(|v| if v > 0.0 { v } else { 0.0 });
            y[o..][..CHANNEL_BLOCK].copy_from_slice(&sum);
        }
    }
}

/// Maximum of neighbouring pairs of pixels of a row, joined to what `y` holds if `join` (max pool 2x2 with stride 2, in
/// two calls).
///
/// `x` is [2 · pixels, channels], `y` [pixels, channels].
pub fn max_pool_row(x: &[f32], channels: usize, join: bool, y: &mut [f32]) {
    let max = |a: f32, b: f32| if a > b { a } else { b };
    for (y, pair) in y
        .chunks_exact_mut(channels)
        .zip(x.chunks_exact(2 * channels))
    {
        let (a, b) = pair.split_at(channels);
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            let m = max(a, b);
            *y = if join { max(*y, m) } else { m };
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    /// Values with many significant bits, so that another order of summation shows.
    fn noise(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        core::iter::repeat_with(next).take(len).collect()
    }

    /// The sum as the documentation writes it: bias, then the products in their order.
    fn sum(bias: f32, products: impl Iterator<Item = (f32, f32)>) -> f32 {
        products.fold(bias, |sum, (x, w)| sum + x * w)
    }

    #[test]
    fn pointwise_is_the_documented_sum() {
        for (pixels, cin, cout) in [(1, 16, 16), (2, 3, 48), (7, 64, 32), (10, 1, 16)] {
            let (x, w, b) = (noise(pixels * cin, 1), noise(cin * cout, 2), noise(cout, 3));
            let mut y = noise(pixels * cout, 4);
            pointwise_row::<2>(&x, &w, &b, &mut y);
            for (i, &y) in y.iter().enumerate() {
                let (p, o) = (i / cout, i % cout);
                let want = sum(b[o], (0..cin).map(|c| (x[p * cin + c], w[c * cout + o])));
                assert_eq!(y.to_bits(), want.to_bits(), "pixel {p}, channel {o}");
            }
        }
    }

    #[test]
    fn depthwise_is_the_documented_sum() {
        for (pixels, channels, relu) in [(1, 16, false), (5, 32, true), (8, 64, false)] {
            let x = noise(3 * (pixels + 2) * channels, 5);
            let rows =
                [0, 1, 2].map(|i| &x[i * (pixels + 2) * channels..][..(pixels + 2) * channels]);
            let (w, b) = (noise(9 * channels, 6), noise(channels, 7));
            let mut y = noise(pixels * channels, 8);
            depthwise_row(rows, &w, &b, relu, &mut y);
            for (at, &y) in y.iter().enumerate() {
                let (p, o) = (at / channels, at % channels);
                let tap = |k: usize| {
                    let (i, j) = (k / 3, k % 3);
                    (rows[i][(p + j) * channels + o], w[k * channels + o])
                };
                let want = sum(b[o], (0..9).map(tap));
                let want = if relu { want.max(0.0) } else { want };
                assert_eq!(y.to_bits(), want.to_bits(), "pixel {p}, channel {o}");
            }
        }
    }

    #[test]
    fn dense_is_the_documented_sum() {
        for (pixels, cin, cout) in [(1, 1, 16), (4, 3, 32)] {
            let len = (2 * pixels + 1) * cin;
            let x = noise(3 * len, 9);
            let rows = [0, 1, 2].map(|i| &x[i * len..][..len]);
            let (w, b) = (noise(9 * cin * cout, 10), noise(cout, 11));
            let mut y = noise(pixels * cout, 12);
            dense_row_stride2(rows, &w, &b, &mut y);
            for (at, &y) in y.iter().enumerate() {
                let (p, o) = (at / cout, at % cout);
                let tap = |k: usize| {
                    let (i, j, c) = (k / cin / 3, k / cin % 3, k % cin);
                    (rows[i][(2 * p + j) * cin + c], w[k * cout + o])
                };
                let want = sum(b[o], (0..9 * cin).map(tap)).max(0.0);
                assert_eq!(y.to_bits(), want.to_bits(), "pixel {p}, channel {o}");
            }
        }
    }

    #[test]
    fn pooling_takes_the_largest_of_four() {
        let (above, below) = ([1.0, -1.0, 3.0, -4.0], [2.0, -3.0, 0.0, -2.0]);
        let mut y = [9.0; 2];
        max_pool_row(&above, 2, false, &mut y);
        assert_eq!(y, [3.0, -1.0]);
        max_pool_row(&below, 2, true, &mut y);
        assert_eq!(y, [3.0, -1.0]);
        max_pool_row(&[5.0, -3.0, 0.0, -2.0], 2, true, &mut y);
        assert_eq!(y, [5.0, -1.0]);
    }
}
