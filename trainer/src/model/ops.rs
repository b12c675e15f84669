//! Differentiable operations written out by hand for the CPU backend.
//!
//! burn composes a convolution or a batch norm from many small tensor operations; on a CPU each is
//! a pass over memory, and the backward convolution is several times slower than its arithmetic.
//! These operations do the whole step in one pass with a hand-written pullback. Every one of them
//! is checked against finite differences in this module's tests.

use std::fmt;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData, TensorPrimitive};

/// The backend that trains: reverse-mode differentiation over the plain CPU backend.
pub type Train = Autodiff<Flex>;

/// Geometry of one convolution over channels-last maps with square kernel and stride.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvShape {
    /// Side of the (square) input map, in pixels.
    pub side: usize,
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Kernel side.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Padding on each side.
    pub pad: usize,
}

impl ConvShape {
    /// Side of the output map.
    pub fn out_side(&self) -> usize {
        (self.side + 2 * self.pad - self.kernel) / self.stride + 1
    }

    /// Values one output pixel looks at: `kernel * kernel * cin`.
    pub fn fan_in(&self) -> usize {
        self.kernel * self.kernel * self.cin
    }

    fn in_len(&self) -> usize {
        self.side * self.side * self.cin
    }

    fn out_rows(&self) -> usize {
        self.out_side() * self.out_side()
    }

    /// Calls `f(row, column range, Some(input offset))` for every contiguous run of `kernel row x
    /// channels` of the patch matrix; `None` where the run lies outside the map in y. Runs that
    /// leave the map in x are split into single pixels.
    fn for_runs(&self, mut f: impl FnMut(usize, usize, usize, Option<usize>)) {
        let (out, k, c) = (self.out_side(), self.kernel, self.cin);
        let side = self.side as isize;
        for oy in 0..out {
            for ox in 0..out {
                let row = oy * out + ox;
                let (y0, x0) = (
                    (oy * self.stride) as isize - self.pad as isize,
                    (ox * self.stride) as isize - self.pad as isize,
                );
                for ky in 0..k {
                    let y = y0 + ky as isize;
                    let col = ky * k * c;
                    if y < 0 || y >= side {
                        f(row, col, k * c, None);
                    } else if x0 >= 0 && x0 + k as isize <= side {
                        f(row, col, k * c, Some(((y * side + x0) as usize) * c));
                    } else {
                        for kx in 0..k {
                            let x = x0 + kx as isize;
                            let inside = x >= 0 && x < side;
                            let at = inside.then(|| ((y * side + x) as usize) * c);
                            f(row, col + kx * c, c, at);
                        }
                    }
                }
            }
        }
    }
}

/// First convolution: straight from grey crops, so that no patch matrix of the whole batch and no
/// gradient of the pixels is ever made.
///
/// `frames`: `clips * frames_per_clip` crops of `side * side` normalised pixels. Channel `c` of
/// frame `t` is frame `t + c - 1` of the same clip (ends repeated). `outside` is the value of
/// pixels outside. `weight`: `[cout, kernel * kernel * 3]`. Returns `[frames * out * out, cout]`.
pub fn conv_pixels(
    frames: Arc<Vec<f32>>,
    frames_per_clip: usize,
    shape: ConvShape,
    outside: f32,
    weight: Tensor<Train, 2>,
) -> Tensor<Train, 2> {
    assert_eq!(shape.cin, 3, "the stem stacks three frames");
    let plane = shape.side * shape.side;
    let count = frames.len() / plane;
    let patches = move |frame: usize, cols: &mut [f32]| {
        let (clip, t) = (frame / frames_per_clip, frame % frames_per_clip);
        let at = |t: usize| &frames[(clip * frames_per_clip + t) * plane..][..plane];
        let last = frames_per_clip - 1;
        let stack = [at(t.saturating_sub(1)), at(t), at((t + 1).min(last))];
        let k = shape.fan_in();
        shape.for_runs(|row, col, len, from| {
            let to = &mut cols[row * k + col..][..len];
            match from {
                None => to.fill(outside),
                Some(at) => {
                    let first = at / 3;
                    for (i, px) in to.chunks_exact_mut(3).enumerate() {
                        px[0] = stack[0][first + i];
                        px[1] = stack[1][first + i];
                        px[2] = stack[2][first + i];
                    }
                }
            }
        });
    };
    let w = weight.into_primitive().tensor();
    let out = conv_forward(count, shape, &patches, &w.primitive);
    let w_value = w.primitive.clone();
    apply([w], out, move |grad| {
        let (dw, _) = conv_backward(count, shape, &patches, &w_value, &grad, false);
        [Some(dw)]
    })
}

/// Convolution over channels-last maps `x [frames * side * side, cin]` with `weight [cout, k*k*cin]`;
/// padding is zero. Returns `[frames * out * out, cout]`.
pub fn conv(x: Tensor<Train, 2>, shape: ConvShape, weight: Tensor<Train, 2>) -> Tensor<Train, 2> {
    let (x, w) = (
        x.into_primitive().tensor(),
        weight.into_primitive().tensor(),
    );
    let x_value = x.primitive.to_contiguous();
    let count = values(&x_value).len() / shape.in_len();
    let patches = move |frame: usize, cols: &mut [f32]| {
        let map = &values(&x_value)[frame * shape.in_len()..][..shape.in_len()];
        let k = shape.fan_in();
        shape.for_runs(|row, col, len, from| {
            let to = &mut cols[row * k + col..][..len];
            match from {
                None => to.fill(0.0),
                Some(at) => to.copy_from_slice(&map[at..at + len]),
            }
        });
    };
    let out = conv_forward(count, shape, &patches, &w.primitive);
    let w_value = w.primitive.clone();
    apply([x, w], out, move |grad| {
        let (dw, dx) = conv_backward(count, shape, &patches, &w_value, &grad, true);
        [dx, Some(dw)]
    })
}

/// Patch matrices are made for about this many rows at a time, to stay in the second-level cache.
const CHUNK_ROWS: usize = 1024;

fn frames_per_chunk(shape: ConvShape) -> usize {
    (CHUNK_ROWS / shape.out_rows()).max(1)
}

fn conv_forward(
    count: usize,
    shape: ConvShape,
    patches: &impl Fn(usize, &mut [f32]),
    weight: &FlexTensor,
) -> FlexTensor {
    let (rows, k) = (shape.out_rows(), shape.fan_in());
    let mut out = Vec::with_capacity(count * rows * shape.cout);
    let w_t = weight.transpose(0, 1);
    for first in (0..count).step_by(frames_per_chunk(shape)) {
        let n = frames_per_chunk(shape).min(count - first);
        let mut cols = vec![0.0; n * rows * k];
        for (i, cols) in cols.chunks_exact_mut(rows * k).enumerate() {
            patches(first + i, cols);
        }
        let y = matmul(tensor(cols, [n * rows, k]), w_t.clone());
        out.extend_from_slice(values(&y));
    }
    tensor(out, [count * rows, shape.cout])
}

fn conv_backward(
    count: usize,
    shape: ConvShape,
    patches: &impl Fn(usize, &mut [f32]),
    weight: &FlexTensor,
    grad: &FlexTensor,
    want_dx: bool,
) -> (FlexTensor, Option<FlexTensor>) {
    let (rows, k) = (shape.out_rows(), shape.fan_in());
    let grad = grad.to_contiguous();
    let mut dw = vec![0.0f32; shape.cout * k];
    let mut dx = vec![0.0f32; if want_dx { count * shape.in_len() } else { 0 }];
    for first in (0..count).step_by(frames_per_chunk(shape)) {
        let n = frames_per_chunk(shape).min(count - first);
        let mut cols = vec![0.0; n * rows * k];
        for (i, cols) in cols.chunks_exact_mut(rows * k).enumerate() {
            patches(first + i, cols);
        }
        let dy = values(&grad)[first * rows * shape.cout..][..n * rows * shape.cout].to_vec();
        let dy = tensor(dy, [n * rows, shape.cout]);
        let part = matmul(dy.transpose(0, 1), tensor(cols, [n * rows, k]));
        add_assign(&mut dw, values(&part));
        if want_dx {
            let dcols = matmul(dy, weight.clone());
            for (i, dcols) in values(&dcols).chunks_exact(rows * k).enumerate() {
                let map = &mut dx[(first + i) * shape.in_len()..][..shape.in_len()];
                shape.for_runs(|row, col, len, to| {
                    if let Some(at) = to {
                        add_assign(&mut map[at..at + len], &dcols[row * k + col..][..len]);
                    }
                });
            }
        }
    }
    let side_rows = shape.side * shape.side * count;
    (
        tensor(dw, [shape.cout, k]),
        want_dx.then(|| tensor(dx, [side_rows, shape.cin])),
    )
}

/// Mean and (biased) variance of each column of a batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moments {
    /// Mean per channel.
    pub mean: Vec<f32>,
    /// Variance per channel.
    pub var: Vec<f32>,
}

/// Added to a variance before its root is taken (PyTorch's default for both norms).
pub const NORM_EPS: f32 = 1e-5;

/// Batch normalisation (Ioffe & Szegedy 2015) and SiLU in one step over `x [rows, channels]`.
///
/// With `fixed` moments those are used (evaluation); otherwise the batch's own, which are returned.
pub fn batch_norm_silu(
    x: Tensor<Train, 2>,
    gamma: Tensor<Train, 1>,
    beta: Tensor<Train, 1>,
    fixed: Option<&Moments>,
) -> (Tensor<Train, 2>, Moments) {
    let [rows, c] = x.dims();
    let x = x.into_primitive().tensor();
    let (gamma, beta) = (
        gamma.into_primitive().tensor(),
        beta.into_primitive().tensor(),
    );
    let x_value = x.primitive.to_contiguous();
    let moments = fixed
        .cloned()
        .unwrap_or_else(|| moments(values(&x_value), c));
    let inv: Vec<f32> = moments
        .var
        .iter()
        .map(|v| 1.0 / (v + NORM_EPS).sqrt())
        .collect();
    let (g_value, b_value) = (gamma.primitive.clone(), beta.primitive.clone());
    let scale: Vec<f32> = values(&g_value)
        .iter()
        .zip(&inv)
        .map(|(g, i)| g * i)
        .collect();
    let shift: Vec<f32> = (0..c)
        .map(|j| values(&b_value)[j] - moments.mean[j] * scale[j])
        .collect();
    let mut out = vec![0.0; rows * c];
    for (y, x) in out
        .chunks_exact_mut(c)
        .zip(values(&x_value).chunks_exact(c))
    {
        for j in 0..c {
            y[j] = silu_of(x[j] * scale[j] + shift[j]);
        }
    }
    let own = fixed.is_none();
    let mean = moments.mean.clone();
    let out = apply([x, gamma, beta], tensor(out, [rows, c]), move |grad| {
        let grad = grad.to_contiguous();
        let (x, g) = (values(&x_value), values(&grad));
        // d(silu)/dz first, then the usual batch-norm pullback on dz.
        let mut dx = vec![0.0; rows * c];
        let (mut dbeta, mut dgamma) = (vec![0.0f32; c], vec![0.0f32; c]);
        for ((dz, x), g) in dx
            .chunks_exact_mut(c)
            .zip(x.chunks_exact(c))
            .zip(g.chunks_exact(c))
        {
            for j in 0..c {
                let d = g[j] * silu_slope(x[j] * scale[j] + shift[j]);
                dz[j] = d;
                dbeta[j] += d;
                dgamma[j] += d * (x[j] - mean[j]) * inv[j];
            }
        }
        let n = rows as f32;
        for (dz, x) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for j in 0..c {
                let centred = if own {
                    (dbeta[j] + (x[j] - mean[j]) * inv[j] * dgamma[j]) / n
                } else {
                    0.0
                };
                dz[j] = scale[j] * (dz[j] - centred);
            }
        }
        [
            Some(tensor(dx, [rows, c])),
            Some(tensor(dgamma, [c])),
            Some(tensor(dbeta, [c])),
        ]
    });
    (out, moments)
}

fn moments(x: &[f32], c: usize) -> Moments {
    let n = (x.len() / c) as f32;
    let mut mean = vec![0.0f32; c];
    for row in x.chunks_exact(c) {
        add_assign(&mut mean, row);
    }
    mean.iter_mut().for_each(|m| *m /= n);
    let mut var = vec![0.0f32; c];
    for row in x.chunks_exact(c) {
        for j in 0..c {
            let d = row[j] - mean[j];
            var[j] += d * d;
        }
    }
    var.iter_mut().for_each(|v| *v /= n);
    Moments { mean, var }
}

/// Layer normalisation (Ba et al. 2016) of each row of `x [rows, channels]`.
pub fn layer_norm(
    x: Tensor<Train, 2>,
    gamma: Tensor<Train, 1>,
    beta: Tensor<Train, 1>,
) -> Tensor<Train, 2> {
    let [rows, c] = x.dims();
    let x = x.into_primitive().tensor();
    let (gamma, beta) = (
        gamma.into_primitive().tensor(),
        beta.into_primitive().tensor(),
    );
    let (g_value, b_value) = (gamma.primitive.clone(), beta.primitive.clone());
    let mut normed = vec![0.0; rows * c];
    let mut inv = vec![0.0f32; rows];
    let mut out = vec![0.0; rows * c];
    let x_value = x.primitive.to_contiguous();
    for r in 0..rows {
        let row = &values(&x_value)[r * c..][..c];
        let mean = row.iter().sum::<f32>() / c as f32;
        let var = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / c as f32;
        inv[r] = 1.0 / (var + NORM_EPS).sqrt();
        for j in 0..c {
            let n = (row[j] - mean) * inv[r];
            normed[r * c + j] = n;
            out[r * c + j] = n * values(&g_value)[j] + values(&b_value)[j];
        }
    }
    apply([x, gamma, beta], tensor(out, [rows, c]), move |grad| {
        let grad = grad.to_contiguous();
        let (mut dgamma, mut dbeta) = (vec![0.0f32; c], vec![0.0f32; c]);
        let mut dx = vec![0.0; rows * c];
        let mut scaled = vec![0.0f32; c];
        for r in 0..rows {
            let (g, n) = (&values(&grad)[r * c..][..c], &normed[r * c..][..c]);
            let (mut sum, mut dot) = (0.0f32, 0.0f32);
            for j in 0..c {
                dbeta[j] += g[j];
                dgamma[j] += g[j] * n[j];
                scaled[j] = g[j] * values(&g_value)[j];
                sum += scaled[j];
                dot += scaled[j] * n[j];
            }
            let (sum, dot) = (sum / c as f32, dot / c as f32);
            for j in 0..c {
                dx[r * c + j] = inv[r] * (scaled[j] - sum - n[j] * dot);
            }
        }
        [
            Some(tensor(dx, [rows, c])),
            Some(tensor(dgamma, [c])),
            Some(tensor(dbeta, [c])),
        ]
    })
}

/// Depthwise convolution in time over `x [clips * frames, channels]`, weight `[channels, kernel]`,
/// `left` zero frames before each clip and `kernel - 1 - left` after it.
pub fn depthwise(
    x: Tensor<Train, 2>,
    frames: usize,
    weight: Tensor<Train, 2>,
    bias: Tensor<Train, 1>,
    left: usize,
) -> Tensor<Train, 2> {
    let [rows, c] = x.dims();
    let k = weight.dims()[1];
    let x = x.into_primitive().tensor();
    let (w, b) = (
        weight.into_primitive().tensor(),
        bias.into_primitive().tensor(),
    );
    // Tap-major weights, so that the inner loop runs over channels.
    let taps = transposed(values(&w.primitive.to_contiguous()), c, k);
    let x_value = x.primitive.to_contiguous();
    // Calls f(output row, tap, input row) for every pair inside one clip.
    let pairs = move |f: &mut dyn FnMut(usize, usize, usize)| {
        for clip in 0..rows / frames {
            for t in 0..frames {
                for tap in 0..k {
                    let from = (t + tap) as isize - left as isize;
                    if from >= 0 && from < frames as isize {
                        f(clip * frames + t, tap, clip * frames + from as usize);
                    }
                }
            }
        }
    };
    let mut out = Vec::with_capacity(rows * c);
    for _ in 0..rows {
        out.extend_from_slice(values(&b.primitive));
    }
    pairs(&mut |to, tap, from| {
        let (y, w) = (&mut out[to * c..][..c], &taps[tap * c..][..c]);
        let x = &values(&x_value)[from * c..][..c];
        for j in 0..c {
            y[j] += x[j] * w[j];
        }
    });
    apply([x, w, b], tensor(out, [rows, c]), move |grad| {
        let grad = grad.to_contiguous();
        let (mut dx, mut dtaps, mut db) =
            (vec![0.0f32; rows * c], vec![0.0f32; k * c], vec![0.0f32; c]);
        for g in values(&grad).chunks_exact(c) {
            add_assign(&mut db, g);
        }
        pairs(&mut |to, tap, from| {
            let g = &values(&grad)[to * c..][..c];
            let x = &values(&x_value)[from * c..][..c];
            let (w, dw) = (&taps[tap * c..][..c], &mut dtaps[tap * c..][..c]);
            let dx = &mut dx[from * c..][..c];
            for j in 0..c {
                dx[j] += g[j] * w[j];
                dw[j] += g[j] * x[j];
            }
        });
        [
            Some(tensor(dx, [rows, c])),
            Some(tensor(transposed(&dtaps, k, c), [c, k])),
            Some(tensor(db, [c])),
        ]
    })
}

/// `x * sigmoid(x)` (Elfwing et al. 2018).
pub fn silu<const D: usize>(x: Tensor<Train, D>) -> Tensor<Train, D> {
    let dims = x.dims();
    let x = x.into_primitive().tensor();
    let x_value = x.primitive.to_contiguous();
    let out = values(&x_value).iter().map(|&z| silu_of(z)).collect();
    apply([x], tensor(out, dims), move |grad| {
        let grad = grad.to_contiguous();
        let pairs = values(&grad).iter().zip(values(&x_value));
        [Some(tensor(
            pairs.map(|(g, &z)| g * silu_slope(z)).collect(),
            dims,
        ))]
    })
}

/// A scalar made outside the graph whose gradient with respect to `x` is already known.
pub fn with_gradient(x: Tensor<Train, 2>, value: f32, gradient: Vec<f32>) -> Tensor<Train, 1> {
    let dims = x.dims();
    let x = x.into_primitive().tensor();
    apply([x], tensor(vec![value], [1]), move |grad| {
        let upstream = values(&grad.to_contiguous())[0];
        let scaled = gradient.iter().map(|g| g * upstream).collect();
        [Some(tensor(scaled, dims))]
    })
}

fn silu_of(z: f32) -> f32 {
    z * sigmoid(z)
}

fn silu_slope(z: f32) -> f32 {
    let s = sigmoid(z);
    s * (1.0 + z * (1.0 - s))
}

fn sigmoid(z: f32) -> f32 {
    viseme_engine::math::sigmoid(z)
}

fn transposed(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for r in 0..rows {
        for c in 0..cols {
            out[c * rows + r] = x[r * cols + c];
        }
    }
    out
}

fn add_assign(to: &mut [f32], from: &[f32]) {
    for (a, b) in to.iter_mut().zip(from) {
        *a += b;
    }
}

fn matmul(a: FlexTensor, b: FlexTensor) -> FlexTensor {
    use burn::tensor::ops::FloatTensorOps;
    Flex::float_matmul(a, b)
}

fn tensor<const D: usize>(data: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(data, shape))
}

/// The values of a contiguous tensor.
fn values(t: &FlexTensor) -> &[f32] {
    t.as_slice::<f32>().expect("contiguous f32 tensor")
}

type AdTensor = burn::tensor::ops::FloatTensor<Train>;
type Pull<const N: usize> = dyn Fn(FlexTensor) -> [Option<FlexTensor>; N] + Send + Sync;

/// Puts `out` into the graph as a function of `inputs` with the given pullback.
fn apply<const N: usize, const D: usize>(
    inputs: [AdTensor; N],
    out: FlexTensor,
    pull: impl Fn(FlexTensor) -> [Option<FlexTensor>; N] + Send + Sync + 'static,
) -> Tensor<Train, D> {
    let nodes = inputs.map(|t| t.node.clone());
    let out = match ByHand::<N>
        .prepare::<NoCheckpointing>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish(Pullback(Arc::new(pull)), out),
        OpsKind::UnTracked(prep) => prep.finish(out),
    };
    Tensor::from_primitive(TensorPrimitive::Float(out))
}

#[derive(Debug)]
struct ByHand<const N: usize>;

struct Pullback<const N: usize>(Arc<Pull<N>>);

impl<const N: usize> Clone for Pullback<N> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<const N: usize> fmt::Debug for Pullback<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pullback")
    }
}

impl<const N: usize> Backward<Flex, N> for ByHand<N> {
    type State = Pullback<N>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node);
        for (parent, grad) in ops.parents.into_iter().zip((ops.state.0)(grad)) {
            if let (Some(parent), Some(grad)) = (parent, grad) {
                grads.register::<Flex>(parent.id, grad);
            }
        }
    }
}

#[cfg(test)]
mod tests;
