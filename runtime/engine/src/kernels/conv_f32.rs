//! Convolutions in single precision, one image row at a time: pointwise 1x1, depthwise 3x3, dense 3x3 with stride 2.
//!
//! Rows are `[width, channels]`, channels innermost, so that the inner loops run over neighbouring output channels and
//! compile to vector code of whatever width the target has. Each output is a sum in one fixed order (bias, then taps
//! row by row and left to right, input channels innermost), every product rounded before it is added: the bits do not
//! depend on the vector width or on the tiling.

use core::array;

/// Channels computed together; channel counts of outputs are multiples of this.
pub const CHANNEL_BLOCK: usize = 16;

/// Pixels computed together by [`pointwise_row`]: with 16 channels, as many sums as fit 16 vector registers of 4
/// lanes beside the operands.
const PIXELS: usize = 2;

/// Pointwise convolution of a row: `y[p, o] = bias[o] + Σ_c x[p, c] · weight[c, o]`.
///
/// `x` is [pixels, cin], `weight` [cin, cout], `bias` [cout], `y` [pixels, cout].
///
/// # Panics
/// When the lengths do not fit together or cout is not a multiple of [`CHANNEL_BLOCK`].
pub fn pointwise_row(x: &[f32], weight: &[f32], bias: &[f32], y: &mut [f32]) {
    let cout = bias.len();
    let cin = weight.len() / cout;
    assert!(cout % CHANNEL_BLOCK == 0 && weight.len() == cin * cout);
    assert!(y.len() / cout * cin == x.len());
    let mut xs = x.chunks_exact(PIXELS * cin);
    let mut ys = y.chunks_exact_mut(PIXELS * cout);
    for (x, y) in (&mut xs).zip(&mut ys) {
        pointwise_tile::<PIXELS>(x, weight, bias, y);
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
        let start: &[f32; CHANNEL_BLOCK] = bias[o..].first_chunk().expect("a whole block");
        let mut sums = [*start; P];
        for (c, row) in weight.chunks_exact(cout).enumerate() {
            let w: &[f32; CHANNEL_BLOCK] = row[o..].first_chunk().expect("a whole block");
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
pub fn depthwise_row(rows: [&[f32]; 3], weight: &[f32], bias: &[f32], relu: bool, y: &mut [f32]) {
    let channels = bias.len();
    assert!(channels % CHANNEL_BLOCK == 0 && weight.len() == 9 * channels);
    assert!(rows.iter().all(|row| row.len() == y.len() + 2 * channels));
    for (p, y) in y.chunks_exact_mut(channels).enumerate() {
        for o in (0..channels).step_by(CHANNEL_BLOCK) {
            let start: &[f32; CHANNEL_BLOCK] = bias[o..].first_chunk().expect("a whole block");
            let mut sum = *start;
            for (i, row) in rows.iter().enumerate() {
                for j in 0..3 {
                    let x: &[f32; CHANNEL_BLOCK] = row[(p + j) * channels + o..]
                        .first_chunk()
                        .expect("a whole block");
                    let w: &[f32; CHANNEL_BLOCK] = weight[(i * 3 + j) * channels + o..]
                        .first_chunk()
                        .expect("a whole block");
                    for ((sum, &x), &w) in sum.iter_mut().zip(x).zip(w) {
                        *sum += x * w;
                    }
                }
            }
            if relu {
                sum = sum.map(|v| if v > 0.0 { v } else { 0.0 });
            }
            y[o..][..CHANNEL_BLOCK].copy_from_slice(&sum);
        }
    }
}

/// Dense 3x3 convolution of a row with stride 2, then ReLU:
/// `y[p, o] = max(0, bias[o] + Σ_{i,j,c} rows[i][2p + j, c] · weight[i, j, c, o])`.
///
/// `rows` are three rows of [at least 2 · pixels + 1, cin] (the first pixel is the border on the left), `weight` is
/// [3, 3, cin, cout], `bias` [cout], `y` [pixels, cout].
///
/// # Panics
/// When the lengths do not fit together or cout is not a multiple of [`CHANNEL_BLOCK`].
pub fn dense_row_stride2(rows: [&[f32]; 3], weight: &[f32], bias: &[f32], y: &mut [f32]) {
    let cout = bias.len();
    let taps = weight.len() / 3 / cout;
    let cin = taps / 3;
    assert!(cout % CHANNEL_BLOCK == 0 && weight.len() == 9 * cin * cout);
    for (p, y) in y.chunks_exact_mut(cout).enumerate() {
        let xs = rows.map(|row| &row[2 * p * cin..][..taps]);
        for o in (0..cout).step_by(CHANNEL_BLOCK) {
            let start: &[f32; CHANNEL_BLOCK] = bias[o..].first_chunk().expect("a whole block");
            let mut sum = *start;
            let taps = xs.iter().flat_map(|x| x.iter());
            for (&x, row) in taps.zip(weight.chunks_exact(cout)) {
                let w: &[f32; CHANNEL_BLOCK] = row[o..].first_chunk().expect("a whole block");
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
