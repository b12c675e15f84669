//! The conformer encoder (Gulati et al., "Conformer: Convolution-augmented Transformer for Speech
//! Recognition", 2020) in the pre-norm macaron form of Auto-AVSR (github.com/mpc001/auto_avsr):
//!
//! ```text
//! x += 0.5 · FF1(LN(x));  x += MHA(LN(x));  x += Conv(LN(x));  x += 0.5 · FF2(LN(x));  x = LN(x)
//! ```
//!
//! Everything but attention and the depthwise convolution works on [`ROWS`] frames at a time, so
//! that the wide intermediates stay in the cache and the arena stays small. No result depends on
//! that number: each row is quantised and summed by itself.

use core::fmt::Arguments;

use super::dims::Dims;
use super::linear::{Linear, QuantBuffer};
use super::load::{LoadError, Tensors};
use crate::kernels::attention::{Attended, Reach, RelativeAttention};
use crate::kernels::elementwise::{Activation, transpose_into};
use crate::kernels::{Kernels, WeightsF32};
use crate::math;

/// Frames worked on at a time.
pub(crate) const ROWS: usize = 32;

/// Weight and bias of a LayerNorm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm<'a> {
    pub weight: &'a [f32],
    pub bias: &'a [f32],
}

/// One feed-forward module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FeedForward<'a> {
    pub norm: Norm<'a>,
    pub up: Linear<'a>,
    pub down: Linear<'a>,
}

/// The attention module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attention<'a> {
    pub norm: Norm<'a>,
    pub q: Linear<'a>,
    pub k: Linear<'a>,
    pub v: Linear<'a>,
    pub out: Linear<'a>,
    pub pos: WeightsF32<'a>,
    pub bias_u: &'a [f32],
    pub bias_v: &'a [f32],
}

/// The convolution module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Convolution<'a> {
    pub norm: Norm<'a>,
    pub pointwise1: Linear<'a>,
    /// [d, kernel].
    pub depthwise: &'a [f32],
    pub depthwise_bias: &'a [f32],
    pub pointwise2: Linear<'a>,
}

/// One conformer block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    pub ff1: FeedForward<'a>,
    pub att: Attention<'a>,
    pub conv: Convolution<'a>,
    pub ff2: FeedForward<'a>,
    pub norm: Norm<'a>,
}

/// What all blocks of an encoder have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared<'k> {
    pub kernels: &'k dyn Kernels,
    pub d: usize,
    pub ff: usize,
    pub heads: usize,
    pub kernel: usize,
    pub conv_left: usize,
    pub activation: Activation,
    pub eps: f32,
    pub int8: bool,
    pub reach: Reach,
}

/// The encoder's working memory.
#[derive(Debug)]
pub(crate) struct Scratch<'s> {
    /// [frames, d].
    pub q: &'s mut [f32],
    /// [frames, d].
    pub v: &'s mut [f32],
    /// [d, frames].
    pub keys: &'s mut [f32],
    /// [ROWS, d].
    pub normed: &'s mut [f32],
    /// [ROWS, max(ff, 2d)].
    pub wide: &'s mut [f32],
    /// [2 · d_k].
    pub queries: &'s mut [f32],
    /// [frames].
    pub scores: &'s mut [f32],
    /// [kernel, d].
    pub taps: &'s mut [f32],
}

impl Norm<'_> {
    pub fn run(&self, kernels: &dyn Kernels, eps: f32, x: &[f32], y: &mut [f32]) {
        kernels.layer_norm(x, self.weight, self.bias, eps, y);
    }
}

impl<'a> Norm<'a> {
    pub fn load(t: &Tensors<'_, 'a>, prefix: Arguments<'_>, d: usize) -> Result<Self, LoadError> {
        Ok(Norm {
            weight: t.floats(format_args!("{prefix}.weight"), &[d])?,
            bias: t.floats(format_args!("{prefix}.bias"), &[d])?,
        })
    }
}

impl<'a> Block<'a> {
    pub fn load(t: &Tensors<'_, 'a>, b: usize, dims: &Dims) -> Result<Self, LoadError> {
        let Dims {
            d,
            ff,
            heads,
            kernel,
            ..
        } = *dims;
        let norm = |name: &str| Norm::load(t, format_args!("encoder.{b}.{name}"), d);
        let linear = |name: &str, outputs, inputs| {
            t.linear(format_args!("encoder.{b}.{name}"), &[outputs, inputs])
        };
        let floats =
            |name: &str, shape: &[usize]| t.floats(format_args!("encoder.{b}.{name}"), shape);
        let pos = floats("att.pos.weight", &[d, d])?;
        Ok(Block {
            ff1: FeedForward {
                norm: norm("ff1.norm")?,
                up: linear("ff1.up", ff, d)?,
                down: linear("ff1.down", d, ff)?,
            },
            att: Attention {
                norm: norm("att.norm")?,
                q: linear("att.q", d, d)?,
                k: linear("att.k", d, d)?,
                v: linear("att.v", d, d)?,
                out: linear("att.out", d, d)?,
                pos: WeightsF32::new(pos, d).ok_or(LoadError::Unsupported("an empty encoder"))?,
                bias_u: floats("att.bias_u", &[heads, d / heads.max(1)])?,
                bias_v: floats("att.bias_v", &[heads, d / heads.max(1)])?,
            },
            conv: Convolution {
                norm: norm("conv.norm")?,
                pointwise1: linear("conv.pointwise1", 2 * d, d)?,
                depthwise: floats("conv.depthwise.weight", &[d, kernel])?,
                depthwise_bias: floats("conv.depthwise.bias", &[d])?,
                pointwise2: linear("conv.pointwise2", d, d)?,
            },
            ff2: FeedForward {
                norm: norm("ff2.norm")?,
                up: linear("ff2.up", ff, d)?,
                down: linear("ff2.down", d, ff)?,
            },
            norm: norm("norm")?,
        })
    }

    /// Runs the block on `x` ([frames, d]), in place.
    ///
    /// `positions` is this block's table, see [`fill_positions`].
    pub fn run(
        &self,
        shared: &Shared<'_>,
        positions: &[f32],
        x: &mut [f32],
        s: &mut Scratch<'_>,
        q: &mut QuantBuffer<'_>,
    ) {
        self.ff1.run(shared, x, s, q);
        self.att.run(shared, positions, x, s, q);
        self.conv.run(shared, x, s, q);
        self.ff2.run(shared, x, s, q);
        for x in x.chunks_mut(ROWS * shared.d) {
            let y = &mut s.normed[..x.len()];
            self.norm.run(shared.kernels, shared.eps, x, y);
            x.copy_from_slice(y);
        }
    }
}

impl FeedForward<'_> {
    /// x += 0.5 · down(act(up(LN(x)))).
    pub fn run(&self, c: &Shared<'_>, x: &mut [f32], s: &mut Scratch<'_>, q: &mut QuantBuffer<'_>) {
        for x in x.chunks_mut(ROWS * c.d) {
            let rows = x.len() / c.d;
            let (normed, wide) = (&mut s.normed[..rows * c.d], &mut s.wide[..rows * c.ff]);
            self.norm.run(c.kernels, c.eps, x, normed);
            self.up
                .run(c.kernels, q.load(c.kernels, c.int8, normed, c.d), wide);
            c.kernels.activate(c.activation, wide);
            self.down
                .run(c.kernels, q.load(c.kernels, c.int8, wide, c.ff), normed);
            c.kernels.add_scaled(x, 0.5, normed);
        }
    }
}

impl Attention<'_> {
    /// x += out(attention(q, k, v of LN(x))).
    pub fn run(
        &self,
        c: &Shared<'_>,
        positions: &[f32],
        x: &mut [f32],
        s: &mut Scratch<'_>,
        q: &mut QuantBuffer<'_>,
    ) {
        let frames = x.len() / c.d;
        let (queries, values) = (&mut s.q[..x.len()], &mut s.v[..x.len()]);
        for (i, x) in x.chunks(ROWS * c.d).enumerate() {
            let at = i * ROWS * c.d..i * ROWS * c.d + x.len();
            let normed = &mut s.normed[..x.len()];
            self.norm.run(c.kernels, c.eps, x, normed);
            let rows = q.load(c.kernels, c.int8, normed, c.d);
            self.q.run(c.kernels, rows, &mut queries[at.clone()]);
            self.v.run(c.kernels, rows, &mut values[at]);
            let keys = &mut s.wide[..x.len()];
            self.k.run(c.kernels, rows, keys);
            transpose_into(keys, c.d, s.keys, frames, i * ROWS);
        }
        let attention = RelativeAttention {
            heads: c.heads,
            bias_u: self.bias_u,
            bias_v: self.bias_v,
            positions,
            reach: c.reach,
            scale: math::rsqrt((c.d / c.heads.max(1)) as f32),
        };
        c.kernels.attend(
            &attention,
            Attended {
                q: queries,
                keys: s.keys,
                key_stride: frames,
                v: values,
                queries: s.queries,
                scores: s.scores,
            },
        );
        for (x, context) in x.chunks_mut(ROWS * c.d).zip(queries.chunks(ROWS * c.d)) {
            let y = &mut s.normed[..x.len()];
            self.out
                .run(c.kernels, q.load(c.kernels, c.int8, context, c.d), y);
            c.kernels.add_scaled(x, 1.0, y);
        }
    }
}

impl Convolution<'_> {
    /// x += pointwise2(SiLU(depthwise(GLU(pointwise1(LN(x)))))).
    pub fn run(&self, c: &Shared<'_>, x: &mut [f32], s: &mut Scratch<'_>, q: &mut QuantBuffer<'_>) {
        let (gated, filtered) = (&mut s.q[..x.len()], &mut s.v[..x.len()]);
        for (x, gated) in x.chunks(ROWS * c.d).zip(gated.chunks_mut(ROWS * c.d)) {
            let (normed, wide) = (&mut s.normed[..x.len()], &mut s.wide[..2 * x.len()]);
            self.norm.run(c.kernels, c.eps, x, normed);
            self.pointwise1
                .run(c.kernels, q.load(c.kernels, c.int8, normed, c.d), wide);
            c.kernels.glu(wide, c.d, gated);
        }
        transpose_into(self.depthwise, c.kernel, s.taps, c.d, 0);
        let taps = &s.taps[..c.kernel * c.d];
        c.kernels
            .depthwise(gated, taps, self.depthwise_bias, c.conv_left, filtered);
        for (x, filtered) in x
            .chunks_mut(ROWS * c.d)
            .zip(filtered.chunks_mut(ROWS * c.d))
        {
            let y = &mut s.normed[..x.len()];
            c.kernels.activate(Activation::Silu, filtered);
            self.pointwise2
                .run(c.kernels, q.load(c.kernels, c.int8, filtered, c.d), y);
            c.kernels.add_scaled(x, 1.0, y);
        }
    }
}

/// Fills the tables of projected position vectors, one after the other for each layer of `layers`,
/// each transposed to [d, span]: column m is W_pos · sinusoid(left − m), with sinusoid(r) =
/// sin(r w_k) at 2k and cos(r w_k) at 2k + 1, w_k = 10000^(−2k / d) (Vaswani et al., "Attention Is
/// All You Need", 2017).
pub(crate) fn fill_positions<'a>(
    c: &Shared<'_>,
    layers: impl Iterator<Item = &'a Attention<'a>> + Clone,
    tables: &mut [f32],
    s: &mut Scratch<'_>,
) {
    let span = c.reach.span();
    // As PyTorch code does it: the factor in double precision, its products in single.
    let factor = (-LN_10000 / c.d as f64) as f32;
    for first in (0..span).step_by(ROWS) {
        let rows = ROWS.min(span - first);
        let (waves, projected) = (&mut s.normed[..rows * c.d], &mut s.wide[..rows * c.d]);
        for (m, row) in (first..).zip(waves.chunks_exact_mut(c.d)) {
            let offset = c.reach.left as f32 - m as f32;
            for (k, pair) in row.chunks_mut(2).enumerate() {
                let angle = offset * math::exp((2 * k) as f32 * factor);
                let waves = [math::sin(angle), math::cos(angle)];
                pair.iter_mut().zip(waves).for_each(|(to, from)| *to = from);
            }
        }
        for (layer, table) in layers.clone().zip(tables.chunks_exact_mut(c.d * span)) {
            c.kernels.matmul_f32(waves, layer.pos, &[], projected);
            transpose_into(projected, c.d, table, span, first);
        }
    }
}

const LN_10000: f64 = 9.210_340_371_976_184;
