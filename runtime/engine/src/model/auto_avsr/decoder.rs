//! The transformer decoder (Vaswani et al., "Attention Is All You Need", 2017, in its pre-norm form): some hypotheses
//! at a time, one token further each step.
//!
//! Keys and values are computed once: those of the memory when decoding begins, those of a token in the step that takes
//! it. A hypothesis is a path through the rows of earlier steps, so that nothing is copied when hypotheses branch.

use alloc::vec;
use alloc::vec::Vec;

use viseme_format::spec::auto_avsr::{AutoAvsr, NORM_EPS};

use super::Model;
use super::branch::Quantiser;
use super::watch::{Observer, Watched};
use crate::decode::attention::{NextToken, Step};
use crate::kernels::elementwise::Activation;
use crate::kernels::{Kernels, WeightsF32};
use crate::math;
use crate::model::conformer::LoadError;
use crate::model::conformer::encoder::{Norm, sinusoids};
use crate::model::conformer::linear::Linear;
use crate::model::conformer::load::Tensors;

/// The decoder's layers.
#[derive(Debug)]
pub(crate) struct DecoderLayers<'a> {
    embed: &'a [f32],
    blocks: Vec<Block<'a>>,
    norm: Norm<'a>,
    output: Linear<'a>,
    pub d: usize,
    pub vocabulary: usize,
    heads: usize,
    ff: usize,
}

#[derive(Debug)]
struct Block<'a> {
    own: Attention<'a>,
    cross: Attention<'a>,
    norm: Norm<'a>,
    up: Linear<'a>,
    down: Linear<'a>,
}

#[derive(Debug)]
struct Attention<'a> {
    norm: Norm<'a>,
    q: Linear<'a>,
    k: Linear<'a>,
    v: Linear<'a>,
    out: Linear<'a>,
}

impl<'a> DecoderLayers<'a> {
    pub fn load(t: &Tensors<'_, 'a>, of: &AutoAvsr<'_>) -> Result<Self, LoadError> {
        let (d, ff) = (of.decoder.d_model as usize, of.decoder.ff as usize);
        let vocabulary = of.tokens.len();
        let attention = |b: u32, name: &str| {
            let at = format_args!("decoder.{b}.{name}");
            let linear = |name: &str| t.linear(format_args!("{at}.{name}"), &[d, d]);
            Ok::<_, LoadError>(Attention {
                norm: Norm::load(t, format_args!("{at}.norm"), d)?,
                q: linear("q")?,
                k: linear("k")?,
                v: linear("v")?,
                out: linear("out")?,
            })
        };
        let block = |b: u32| {
            Ok::<_, LoadError>(Block {
                own: attention(b, "self")?,
                cross: attention(b, "cross")?,
                norm: Norm::load(t, format_args!("decoder.{b}.ff.norm"), d)?,
                up: t.linear(format_args!("decoder.{b}.ff.up"), &[ff, d])?,
                down: t.linear(format_args!("decoder.{b}.ff.down"), &[d, ff])?,
            })
        };
        Ok(DecoderLayers {
            embed: t.floats(format_args!("decoder.embed.weight"), &[vocabulary, d])?,
            blocks: (0..of.decoder.blocks)
                .map(block)
                .collect::<Result<_, _>>()?,
            norm: Norm::load(t, format_args!("decoder.norm"), d)?,
            output: t.linear(format_args!("decoder.output"), &[vocabulary, d])?,
            d,
            vocabulary,
            heads: of.decoder.heads as usize,
            ff,
        })
    }
}

/// The decoder over one memory.
pub struct Decoding<'d> {
    layers: &'d DecoderLayers<'d>,
    kernels: &'d dyn Kernels,
    int8: bool,
    watched: Watched<'d>,
    /// Keys and values of the memory, a block each.
    memory: Vec<Remembered>,
    /// Keys and values of tokens, a block each, [rows, d] of all steps.
    tokens: Vec<[Vec<f32>; 2]>,
    rows: usize,
    quant: Quantiser,
    /// Log-probabilities of the last step.
    out: Vec<f32>,
}

/// Keys and values of a memory, so that scores and contexts are matrix products.
struct Remembered {
    /// [heads, frames, d_k].
    keys: Vec<f32>,
    /// [heads, d_k, frames].
    values: Vec<f32>,
}

impl<'d> Decoding<'d> {
    /// Begins with a memory of whole frames, at least one.
    pub fn new(
        model: &'d Model<'d>,
        kernels: &'d dyn Kernels,
        memory: &[f32],
        observer: Option<&'d dyn Observer>,
    ) -> Self {
        let (layers, int8) = (&model.decoder, model.int8());
        let (d, heads) = (layers.d, layers.heads);
        let (frames, d_k) = (memory.len() / d, d / heads);
        let mut quant = Quantiser::default();
        let x = quant.load(kernels, int8, memory, d);
        let mut projected = vec![0.0; frames * d];
        let remember = |block: &Block<'_>| {
            let mut all = Remembered {
                keys: vec![0.0; frames * d],
                values: vec![0.0; frames * d],
            };
            block.cross.k.run(kernels, x, &mut projected);
            for (t, row) in projected.chunks_exact(d).enumerate() {
                for (h, key) in row.chunks_exact(d_k).enumerate() {
                    all.keys[(h * frames + t) * d_k..][..d_k].copy_from_slice(key);
                }
            }
            block.cross.v.run(kernels, x, &mut projected);
            for (t, row) in projected.chunks_exact(d).enumerate() {
                for (c, v) in row.iter().enumerate() {
                    all.values[c * frames + t] = *v;
                }
            }
            all
        };
        Decoding {
            memory: layers.blocks.iter().map(remember).collect(),
            tokens: layers.blocks.iter().map(|_| Default::default()).collect(),
            rows: 0,
            quant,
            out: Vec::new(),
            layers,
            kernels,
            int8,
            watched: Watched::new(observer, "decoder"),
        }
    }

    /// Queries to contexts over the tokens of each hypothesis, the one of this step included.
    fn attend_tokens(&self, block: usize, steps: &[Step<'_>], q: &mut [f32]) {
        let (d, heads) = (self.layers.d, self.layers.heads);
        let d_k = d / heads;
        let scale = math::rsqrt(d_k as f32);
        let [keys, values] = &self.tokens[block];
        let mut scores = Vec::new();
        for (i, (step, q)) in steps.iter().zip(q.chunks_exact_mut(d)).enumerate() {
            let own = [self.rows + i];
            let path = || step.path.iter().chain(&own);
            for (h, q) in q.chunks_exact_mut(d_k).enumerate() {
                let place = |row: usize| row * d + h * d_k..row * d + (h + 1) * d_k;
                scores.clear();
                for &row in path() {
                    let key = &keys[place(row)];
                    let sum: f32 = q.iter().zip(key).map(|(q, k)| q * k).sum();
                    scores.push(sum * scale);
                }
                softmax(&mut scores);
                q.fill(0.0);
                for (&row, w) in path().zip(&scores) {
                    for (q, v) in q.iter_mut().zip(&values[place(row)]) {
                        *q += w * v;
                    }
                }
            }
        }
    }

    /// Queries to contexts over the memory.
    fn attend_memory(&self, block: usize, q: &mut [f32]) {
        let (d, heads) = (self.layers.d, self.layers.heads);
        let (d_k, n) = (d / heads, q.len() / d);
        let all = &self.memory[block];
        let frames = all.keys.len() / d;
        let scale = math::rsqrt(d_k as f32);
        let (mut of_head, mut scores) = (vec![0.0; n * d_k], vec![0.0; n * frames]);
        for h in 0..heads {
            let rows = of_head.chunks_exact_mut(d_k);
            for (to, q) in rows.zip(q.chunks_exact(d)) {
                for (to, q) in to.iter_mut().zip(&q[h * d_k..]) {
                    *to = q * scale;
                }
            }
            let part = h * frames * d_k..(h + 1) * frames * d_k;
            let (keys, values) = (&all.keys[part.clone()], &all.values[part]);
            let (Some(keys), Some(values)) =
                (WeightsF32::new(keys, d_k), WeightsF32::new(values, frames))
            else {
                return;
            };
            self.kernels.matmul_f32(&of_head, keys, &[], &mut scores);
            scores.chunks_exact_mut(frames).for_each(softmax);
            self.kernels.matmul_f32(&scores, values, &[], &mut of_head);
            for (from, q) in of_head.chunks_exact(d_k).zip(q.chunks_exact_mut(d)) {
                q[h * d_k..][..d_k].copy_from_slice(from);
            }
        }
    }
}

impl NextToken for Decoding<'_> {
    fn step(&mut self, steps: &[Step<'_>]) -> &[f32] {
        let (layers, kernels, int8) = (self.layers, self.kernels, self.int8);
        let (d, n) = (layers.d, steps.len());
        let mut x = vec![0.0; n * d];
        let mut place = vec![0.0; d];
        sinusoids(
            steps.first().map_or(0, |s| s.path.len()) as f32,
            d,
            &mut place,
        );
        let scale = math::sqrt(d as f32);
        for (step, x) in steps.iter().zip(x.chunks_exact_mut(d)) {
            let row = &layers.embed[step.token * d..][..d];
            for (x, (v, p)) in x.iter_mut().zip(row.iter().zip(&place)) {
                *x = v * scale + p;
            }
        }
        let position = steps.first().map_or(0, |s| s.path.len());
        self.watched.see("embed", position, &[d], &x);
        let [mut normed, mut q, mut y] = [(); 3].map(|()| vec![0.0; n * d]);
        let mut wide = vec![0.0; n * layers.ff];
        for (b, block) in layers.blocks.iter().enumerate() {
            block.own.norm.run(kernels, NORM_EPS, &x, &mut normed);
            let rows = self.quant.load(kernels, int8, &normed, d);
            block.own.q.run(kernels, rows, &mut q);
            for (linear, kept) in [&block.own.k, &block.own.v]
                .into_iter()
                .zip(&mut self.tokens[b])
            {
                linear.run(kernels, rows, &mut y);
                kept.extend_from_slice(&y);
            }
            self.attend_tokens(b, steps, &mut q);
            let rows = self.quant.load(kernels, int8, &q, d);
            block.own.out.run(kernels, rows, &mut y);
            kernels.add_scaled(&mut x, 1.0, &y);

            block.cross.norm.run(kernels, NORM_EPS, &x, &mut normed);
            let rows = self.quant.load(kernels, int8, &normed, d);
            block.cross.q.run(kernels, rows, &mut q);
            self.attend_memory(b, &mut q);
            let rows = self.quant.load(kernels, int8, &q, d);
            block.cross.out.run(kernels, rows, &mut y);
            kernels.add_scaled(&mut x, 1.0, &y);

            block.norm.run(kernels, NORM_EPS, &x, &mut normed);
            let rows = self.quant.load(kernels, int8, &normed, d);
            block.up.run(kernels, rows, &mut wide);
            kernels.activate(Activation::Relu, &mut wide);
            let rows = self.quant.load(kernels, int8, &wide, layers.ff);
            block.down.run(kernels, rows, &mut y);
            kernels.add_scaled(&mut x, 1.0, &y);
            self.watched.see(&alloc::format!("{b}"), position, &[d], &x);
        }
        layers.norm.run(kernels, NORM_EPS, &x, &mut normed);
        self.out.resize(n * layers.vocabulary, 0.0);
        let rows = self.quant.load(kernels, int8, &normed, d);
        layers.output.run(kernels, rows, &mut self.out);
        let v = layers.vocabulary;
        self.watched.see("logits", position, &[v], &self.out);
        self.out.chunks_exact_mut(v).for_each(log_softmax);
        self.watched.see("log_probs", position, &[v], &self.out);
        self.rows += n;
        &self.out
    }

    fn rows(&self) -> usize {
        self.rows
    }
}

fn softmax(x: &mut [f32]) {
    crate::kernels::norm::softmax::<crate::kernels::eight::Plain>(x);
}

/// x − ln Σ e^x, in place.
pub(crate) fn log_softmax(x: &mut [f32]) {
    let largest = x
        .iter()
        .fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m });
    // Eight sums, so that the compiler finds vectors.
    let mut sums = [0.0f32; 8];
    let (chunks, rest) = x.as_chunks::<8>();
    for chunk in chunks {
        for (sum, v) in sums.iter_mut().zip(chunk) {
            *sum += math::exp(v - largest);
        }
    }
    let mut sum: f32 = sums.iter().sum();
    sum += rest.iter().map(|v| math::exp(v - largest)).sum::<f32>();
    let all = largest + math::ln(sum);
    x.iter_mut().for_each(|v| *v -= all);
}
