//! The conformer encoder (Gulati et al., "Conformer: Convolution-augmented Transformer for Speech
//! Recognition", 2020) in the pre-norm macaron form of Auto-AVSR (github.com/mpc001/auto_avsr):
//!
//! ```text
//! x += 0.5 · FF1(LN(x));  x += MHA(LN(x));  x += Conv(LN(x));  x += 0.5 · FF2(LN(x));  x = LN(x)
//! ```
//!
//! Everything but attention and the depthwise convolution works on some frames at a time ([`ROWS`] in small
//! models), so that the wide intermediates stay in the cache and the arena stays small. No result depends on
//! that number: each row is quantised and summed by itself.
//!
//! A whole utterance and a step of a stream run the same code. What a block needs of frames before
//! the ones at hand is in its [`Memory`]: rings, which for an utterance are as long as it.

use core::fmt::Arguments;

use viseme_format::spec::auto_avsr::LEGACY_LENGTH;

use super::linear::{Linear, QuantBuffer, Weight};
use super::load::{LoadError, Tensors};
use crate::kernels::attention::slots::{Heads, ValueSlots, VectorSlots};
use crate::kernels::attention::{
    Attended, AttendedInt8, Int8Attention, Int8Scratch, Mask, RelativeAttention, Shift,
};
use crate::kernels::depthwise::{Depthwise, Frames};
use crate::kernels::elementwise::{Activation, transpose_into};
use crate::kernels::{Kernels, WeightsF32};
use crate::math;
use crate::parts::{after, copy, first, first_mut, part_mut};

/// Frames worked on at a time where all weights fit the caches.
pub(crate) const ROWS: usize = 16;

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
    /// Without a bias.
    pub pos: Linear<'a>,
    pub bias_u: &'a [f32],
    pub bias_v: &'a [f32],
}

/// The convolution module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Convolution<'a> {
    pub norm: Norm<'a>,
    pub pointwise1: Linear<'a>,
    /// [kernel, d].
    pub depthwise: &'a [f32],
    pub depthwise_bias: &'a [f32],
    pub pointwise2: Linear<'a>,
}

/// Sizes of a conformer block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockDims {
    pub d: usize,
    pub ff: usize,
    pub heads: Heads,
    pub kernel: usize,
    /// Whether the projection of positions has the precision of the matrices, or is f32.
    pub packed_positions: bool,
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
    pub heads: Heads,
    pub conv_left: usize,
    pub activation: Activation,
    pub eps: f32,
    /// Whether matrices hold integers.
    pub int8: bool,
    /// Whether attention computes with integers.
    pub int8_attention: bool,
    pub mask: Mask,
    pub shift: Shift,
    /// Frames worked on at a time.
    pub rows: usize,
    pub watch: Watch<'k>,
}

/// Somebody who looks at what is computed on the way, in models that were imported.
#[derive(Clone, Copy, Default)]
pub(crate) struct Watch<'k>(pub Option<&'k dyn Watcher>);

/// What it sees.
pub(crate) trait Watcher {
    /// Values of module `part`, of frame `first` and those after it.
    fn see(&self, part: &'static str, first: usize, values: &[f32]);
}

impl Watch<'_> {
    pub fn see(&self, part: &'static str, first: usize, values: &[f32]) {
        if let Some(watcher) = self.0 {
            watcher.see(part, first, values);
        }
    }
}

impl core::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(if self.0.is_some() { "watched" } else { "" })
    }
}

/// What one block keeps from one run to the next, and its table of positions.
#[derive(Debug)]
pub(crate) struct Memory<'s> {
    /// f32 attention: projected positions, transposed, see [`RelativeAttention::positions`].
    pub positions: &'s mut [f32],
    /// int8 attention: projected positions, see [`Int8Attention::positions`].
    pub places: VectorSlots<'s>,
    /// int8 attention: keys and values, a ring.
    pub keys: VectorSlots<'s>,
    pub values: ValueSlots<'s>,
    /// What the depthwise convolution sees, [ring, d].
    pub gated: &'s mut [f32],
}

/// The encoder's working memory, for as many frames as are run at a time.
#[derive(Debug)]
pub(crate) struct Scratch<'s> {
    /// [frames, d].
    pub q: &'s mut [f32],
    /// [frames, d].
    pub v: &'s mut [f32],
    /// f32 attention: [d, frames].
    pub keys: &'s mut [f32],
    /// [rows, d].
    pub normed: &'s mut [f32],
    /// [rows, max(ff, 2d)].
    pub wide: &'s mut [f32],
    /// f32 attention: [2 · d_k].
    pub queries: &'s mut [f32],
    /// f32 attention: [frames].
    pub scores: &'s mut [f32],
    /// Where f32 attention leaves its weights, [heads, frames, frames]; empty where nobody asks.
    pub weights: &'s mut [f32],
    /// int8 attention.
    pub attention: Int8Scratch<'s>,
}

impl Shared<'_> {
    /// Values of the frames that are worked on at a time. Never 0; so written, the compiler knows.
    pub fn batch(&self) -> usize {
        (self.rows * self.d).max(1)
    }

    /// Vectors of the table of positions.
    pub fn columns(&self) -> usize {
        let reach = self.mask.reach();
        match self.shift {
            Shift::Latest => reach.span(),
            Shift::Legacy => reach.left + 1,
        }
    }

    /// Frames in so many values.
    fn frames(&self, len: usize) -> usize {
        len / self.d.max(1)
    }
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
    /// The block whose tensors begin with `stem`.
    pub fn load(
        t: &Tensors<'_, 'a>,
        stem: Arguments<'_>,
        dims: BlockDims,
    ) -> Result<Self, LoadError> {
        let BlockDims {
            d,
            ff,
            heads: Heads {
                count: heads,
                width,
            },
            kernel,
            ..
        } = dims;
        let norm = |name: &str| Norm::load(t, format_args!("{stem}.{name}"), d);
        let linear = |name: &str, outputs, inputs| {
            t.linear(format_args!("{stem}.{name}"), &[outputs, inputs])
        };
        let floats = |name: &str, shape: &[usize]| t.floats(format_args!("{stem}.{name}"), shape);
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
                pos: Linear {
                    weight: if dims.packed_positions {
                        t.matrix(format_args!("{stem}.att.pos"), &[d, d])?
                    } else {
                        let rows = floats("att.pos.weight", &[d, d])?;
                        let rows = WeightsF32::new(rows, d);
                        Weight::F32(rows.ok_or(LoadError::Unsupported("an empty encoder"))?)
                    },
                    bias: &[],
                },
                bias_u: floats("att.bias_u", &[heads, width])?,
                bias_v: floats("att.bias_v", &[heads, width])?,
            },
            conv: Convolution {
                norm: norm("conv.norm")?,
                pointwise1: linear("conv.pointwise1", 2 * d, d)?,
                depthwise: floats("conv.depthwise.weight", &[kernel, d])?,
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

    /// Runs the block on `x` ([frames, d]), in place. `before` is the number of frames that came before, of which
    /// the memory holds as many as are seen.
    pub fn run(
        &self,
        shared: &Shared<'_>,
        memory: &mut Memory<'_>,
        before: usize,
        x: &mut [f32],
        s: &mut Scratch<'_>,
        q: &mut QuantBuffer<'_>,
    ) {
        self.ff1.run(shared, "ff_macaron", x, s, q);
        self.att.run(shared, memory, before, x, s, q);
        self.conv.run(shared, memory.gated, before, x, s, q);
        self.ff2.run(shared, "ff", x, s, q);
        for x in x.chunks_mut(shared.batch()) {
            let y = first_mut(s.normed, x.len());
            self.norm.run(shared.kernels, shared.eps, x, y);
            copy(y, x);
        }
    }
}

impl FeedForward<'_> {
    /// x += 0.5 · down(act(up(LN(x)))).
    pub fn run(
        &self,
        c: &Shared<'_>,
        part: &'static str,
        x: &mut [f32],
        s: &mut Scratch<'_>,
        q: &mut QuantBuffer<'_>,
    ) {
        for (i, x) in x.chunks_mut(c.batch()).enumerate() {
            let normed = first_mut(s.normed, x.len());
            let wide = first_mut(s.wide, c.frames(x.len()) * c.ff);
            self.norm.run(c.kernels, c.eps, x, normed);
            if part == "ff_macaron" {
                c.watch.see("norm_ff_macaron", i * c.rows, normed);
            }
            self.up
                .run(c.kernels, q.load(c.kernels, c.int8, normed, c.d), wide);
            c.kernels.activate(c.activation, wide);
            self.down
                .run(c.kernels, q.load(c.kernels, c.int8, wide, c.ff), normed);
            c.watch.see(part, i * c.rows, normed);
            c.kernels.add_scaled(x, 0.5, normed);
        }
    }
}

impl Attention<'_> {
    /// x += out(attention(q, k, v of LN(x))).
    pub fn run(
        &self,
        c: &Shared<'_>,
        memory: &mut Memory<'_>,
        before: usize,
        x: &mut [f32],
        s: &mut Scratch<'_>,
        q: &mut QuantBuffer<'_>,
    ) {
        let len = x.len();
        for (i, x) in x.chunks(c.batch()).enumerate() {
            let at = i * c.batch();
            let normed = first_mut(s.normed, x.len());
            self.norm.run(c.kernels, c.eps, x, normed);
            let rows = q.load(c.kernels, c.int8, normed, c.d);
            self.q.run(c.kernels, rows, part_mut(s.q, at, x.len()));
            let other = first_mut(s.wide, x.len());
            self.k.run(c.kernels, rows, other);
            if c.int8_attention {
                let first = before + i * c.rows;
                let (keys, values) = (&mut memory.keys, &mut memory.values);
                c.kernels.put_vectors(c.heads, first, other, keys);
                self.v.run(c.kernels, rows, other);
                c.kernels.put_values(c.heads, first, other, values);
            } else {
                transpose_into(other, c.d, s.keys, c.frames(len), i * c.rows);
                self.v.run(c.kernels, rows, part_mut(s.v, at, x.len()));
            }
        }
        if c.int8_attention {
            self.attend_i8(c, memory, before, len, s);
        } else {
            self.attend(c, memory.positions, len, s);
        }
        let contexts = first(s.q, len).chunks(c.batch());
        c.watch.see("attn_weights", 0, s.weights);
        for (i, (x, context)) in x.chunks_mut(c.batch()).zip(contexts).enumerate() {
            let y = first_mut(s.normed, x.len());
            self.out
                .run(c.kernels, q.load(c.kernels, c.int8, context, c.d), y);
            c.watch.see("self_attn", i * c.rows, y);
            c.kernels.add_scaled(x, 1.0, y);
        }
    }

    /// Queries to contexts, in `s.q`.
    fn attend_i8(
        &self,
        c: &Shared<'_>,
        memory: &Memory<'_>,
        before: usize,
        len: usize,
        s: &mut Scratch<'_>,
    ) {
        let attention = Int8Attention {
            heads: c.heads,
            bias_u: self.bias_u,
            bias_v: self.bias_v,
            positions: &memory.places,
            mask: c.mask,
            scale: math::rsqrt(c.heads.width as f32),
        };
        let x = AttendedInt8 {
            q: first_mut(s.q, len),
            first: before,
            keys: &memory.keys,
            values: &memory.values,
            scratch: s.attention.reborrow(),
        };
        c.kernels.attend_i8(&attention, x);
    }

    /// The same in f32, on a whole utterance.
    fn attend(&self, c: &Shared<'_>, positions: &[f32], len: usize, s: &mut Scratch<'_>) {
        let attention = RelativeAttention {
            heads: c.heads.count,
            bias_u: self.bias_u,
            bias_v: self.bias_v,
            positions,
            mask: c.mask,
            shift: c.shift,
            scale: math::rsqrt(c.heads.width as f32),
        };
        let x = Attended {
            q: first_mut(s.q, len),
            first: 0,
            keys: s.keys,
            key_stride: c.frames(len),
            v: first(s.v, len),
            queries: s.queries,
            scores: s.scores,
            weights: s.weights,
        };
        c.kernels.attend(&attention, x);
    }
}

impl Convolution<'_> {
    /// x += pointwise2(SiLU(depthwise(GLU(pointwise1(LN(x)))))).
    ///
    /// `gated` is a ring, frame f in row f mod its rows; `past` frames came before.
    pub fn run(
        &self,
        c: &Shared<'_>,
        gated: &mut [f32],
        past: usize,
        x: &mut [f32],
        s: &mut Scratch<'_>,
        q: &mut QuantBuffer<'_>,
    ) {
        let ring = c.frames(gated.len()).max(1);
        for (i, x) in x.chunks(c.batch()).enumerate() {
            let normed = first_mut(s.normed, x.len());
            let wide = first_mut(s.wide, 2 * x.len());
            self.norm.run(c.kernels, c.eps, x, normed);
            self.pointwise1
                .run(c.kernels, q.load(c.kernels, c.int8, normed, c.d), wide);
            let rows = wide.chunks_exact((2 * c.d).max(1));
            for (frame, wide) in (past + i * c.rows..).zip(rows) {
                let row = part_mut(gated, frame % ring * c.d, c.d);
                c.kernels.glu(wide, c.d, row);
            }
        }
        let filtered = first_mut(s.v, x.len());
        let filter = Depthwise {
            taps: self.depthwise,
            bias: self.depthwise_bias,
            left: c.conv_left,
        };
        // The ring holds what the filter sees, and begins again where it ends.
        let before = past.min(c.conv_left);
        let len = before * c.d + x.len();
        let to_end = after(gated, (past - before) % ring * c.d);
        let one = len.min(to_end.len());
        let pieces = [first(to_end, one), first(gated, len - one)];
        c.kernels
            .depthwise(&filter, Frames { pieces, before }, filtered);
        let batches = x.chunks_mut(c.batch()).zip(filtered.chunks_mut(c.batch()));
        for (i, (x, filtered)) in batches.enumerate() {
            let y = first_mut(s.normed, x.len());
            c.kernels.activate(Activation::Silu, filtered);
            self.pointwise2
                .run(c.kernels, q.load(c.kernels, c.int8, filtered, c.d), y);
            c.watch.see("conv_module", i * c.rows, y);
            c.kernels.add_scaled(x, 1.0, y);
        }
    }
}

/// Computes the projected position vectors, W_pos · sinusoid(r) (Vaswani et al., "Attention Is All You Need", 2017).
/// With [`Shift::Latest`] slot (or column) m has r = left − m, with [`Shift::Legacy`] r = 4999 − m. `put` takes the
/// index of the layer, the first slot, and some rows of [d].
pub(crate) fn fill_positions<'a>(
    c: &Shared<'_>,
    layers: impl Iterator<Item = &'a Attention<'a>> + Clone,
    mut put: impl FnMut(usize, usize, &[f32]),
    s: &mut Scratch<'_>,
    q: &mut QuantBuffer<'_>,
) {
    let span = c.columns();
    let from = match c.shift {
        Shift::Latest => c.mask.reach().left,
        Shift::Legacy => LEGACY_LENGTH.max(span) - 1,
    };
    // Small models keep this projection in f32, whatever their other matrices have.
    let is_packed = |layer: &Attention<'_>| !matches!(layer.pos.weight, Weight::F32(_));
    let packed = layers.clone().any(is_packed);
    let rows = c.rows.max(1);
    for first in (0..span).step_by(rows) {
        let len = rows.min(span - first) * c.d;
        let (waves, projected) = (&mut s.normed[..len], &mut s.wide[..len]);
        sinusoids(from as f32 - first as f32, c.d, waves);
        c.watch.see("pos_emb", first, waves);
        let waves = q.load(c.kernels, packed, waves, c.d);
        for (i, layer) in layers.clone().enumerate() {
            layer.pos.run(c.kernels, waves, projected);
            put(i, first, projected);
        }
    }
}

/// sin(p w_k) at 2k and cos(p w_k) at 2k + 1, w_k = 10000^(−2k / d), in rows of d, of which row m has position
/// p = `first` − m.
pub(crate) fn sinusoids(first: f32, d: usize, rows: &mut [f32]) {
    // As PyTorch code does it: the factor in double precision, its products in single.
    let factor = (-LN_10000 / d as f64) as f32;
    for at in (0..d).step_by(2) {
        let frequency = math::exp(at as f32 * factor);
        for (m, row) in rows.chunks_exact_mut(d.max(1)).enumerate() {
            let (sin, cos) = math::sin_cos((first - m as f32) * frequency);
            let pair = row.iter_mut().skip(at).take(2);
            pair.zip([sin, cos]).for_each(|(to, from)| *to = from);
        }
    }
}

impl Memory<'_> {
    /// Takes rows of projected position vectors, the first for slot `first`.
    pub fn put_positions(&mut self, c: &Shared<'_>, first: usize, rows: &[f32]) {
        if c.int8_attention {
            c.kernels
                .put_vectors(c.heads, first, rows, &mut self.places);
        } else {
            transpose_into(rows, c.d, self.positions, c.columns(), first);
        }
    }
}

const LN_10000: f64 = 9.210_340_371_976_184;
