//! One branch: a ResNet front-end and a conformer encoder over all frames of an utterance.

use alloc::vec;
use alloc::vec::Vec;

use viseme_format::spec::Crop;
use viseme_format::spec::auto_avsr::{self, NORM_EPS, Positions};

use super::aligned::Aligned;
use super::resnet::Resnet;
use super::watch::Watched;
use crate::kernels::attention::slots::{Heads, ValueSlots, VectorSlots};
use crate::kernels::attention::{Int8Scratch, Mask, Reach, Shift};
use crate::kernels::elementwise::Activation;
use crate::kernels::{Kernels, code_stride};
use crate::math;
use crate::model::conformer::LoadError;
use crate::model::conformer::encoder::{
    Block, BlockDims, Memory, Norm, Scratch, Shared, Watch, fill_positions,
};
use crate::model::conformer::linear::{Activations, Linear, QuantBuffer};
use crate::model::conformer::load::Tensors;

/// Frames worked on at a time: the weights come from far away, and pass by all of them.
const ROWS: usize = 96;

/// A front-end and an encoder.
#[derive(Debug)]
pub(super) struct Branch<'a> {
    frontend: Resnet<'a>,
    proj: Linear<'a>,
    blocks: Vec<Block<'a>>,
    norm: Norm<'a>,
    dims: BlockDims,
    ff: usize,
    shift: Shift,
    int8: bool,
    /// Side of a crop.
    pub crop: usize,
}

impl<'a> Branch<'a> {
    pub fn load(
        t: &Tensors<'_, 'a>,
        prefix: &str,
        of: &auto_avsr::Branch,
        crop: &Crop,
    ) -> Result<Self, LoadError> {
        let (d, heads) = (of.d_model as usize, of.heads as usize);
        let dims = BlockDims {
            d,
            ff: of.ff as usize,
            heads: Heads {
                count: heads,
                width: d / heads.max(1),
            },
            kernel: of.conv_kernel as usize,
            packed_positions: true,
        };
        let block = |b| Block::load(t, format_args!("{prefix}.encoder.{b}"), dims);
        Ok(Branch {
            frontend: Resnet::load(t, prefix, of, crop)?,
            proj: t.linear(format_args!("{prefix}.proj"), &[d, 8 * of.width as usize])?,
            blocks: (0..of.blocks).map(block).collect::<Result<_, _>>()?,
            norm: Norm::load(t, format_args!("{prefix}.encoder.norm"), d)?,
            dims,
            ff: of.ff as usize,
            shift: match of.positions {
                Positions::Latest => Shift::Latest,
                Positions::Legacy => Shift::Legacy,
            },
            int8: t.weights != viseme_format::spec::Weights::F32,
            crop: crop.size as usize,
        })
    }

    /// Vectors of all frames, [frames, d].
    pub fn run(
        &self,
        kernels: &dyn Kernels,
        input: &[f32],
        frames: usize,
        watched: Watched<'_>,
    ) -> Vec<f32> {
        let d = self.dims.d;
        let features = self.frontend.run(kernels, input, frames, watched);
        let width = features.len() / frames.max(1);
        watched.see("frontend", 0, &[width], &features);
        let mut quant = Quantiser::default();
        let mut x = vec![0.0; frames * d];
        let rows = quant.load(kernels, self.int8, &features, width);
        self.proj.run(kernels, rows, &mut x);
        watched.see("proj", 0, &[d], &x);
        let scale = math::sqrt(d as f32);
        x.iter_mut().for_each(|v| *v *= scale);
        watched.see("scaled", 0, &[d], &x);
        self.encode(kernels, &mut x, watched);
        let mut y = vec![0.0; x.len()];
        self.norm.run(kernels, NORM_EPS, &x, &mut y);
        watched.see("encoder", 0, &[d], &y);
        y
    }

    fn encode(&self, kernels: &dyn Kernels, x: &mut [f32], watched: Watched<'_>) {
        let BlockDims {
            d, heads, kernel, ..
        } = self.dims;
        let frames = x.len() / d.max(1);
        let table = watched.block(0, d, frames);
        let most = frames.saturating_sub(1);
        let shared = Shared {
            kernels,
            d,
            ff: self.ff,
            heads,
            conv_left: kernel / 2,
            activation: Activation::Relu,
            eps: NORM_EPS,
            int8: self.int8,
            int8_attention: false,
            mask: Mask::Reach(Reach {
                left: most,
                right: most,
            }),
            shift: self.shift,
            rows: ROWS.min(frames),
            watch: Watch(watched.is_watched().then_some(&table)),
        };
        let rows = shared.rows;
        let floats = Aligned::new;
        let (mut q, mut v, mut keys) = (floats(x.len()), floats(x.len()), floats(x.len()));
        let (mut normed, mut wide) = (floats(rows * d), floats(rows * self.ff.max(2 * d)));
        let (mut queries, mut scores) = (floats(2 * heads.width), floats(frames));
        let weights = if watched.is_watched() {
            heads.count * frames * frames
        } else {
            0
        };
        let mut weights = floats(weights);
        let mut s = Scratch {
            q: &mut q,
            v: &mut v,
            keys: &mut keys,
            normed: &mut normed,
            wide: &mut wide,
            queries: &mut queries,
            scores: &mut scores,
            weights: &mut weights,
            attention: no_int8_attention(),
        };
        let mut quant = Quantiser::default();
        quant.reserve(rows, self.ff.max(2 * d));
        let mut quant = quant.buffer();
        let columns = shared.columns();
        let mut positions = floats(self.blocks.len() * d * columns);
        let mut gated = floats(x.len());
        let mut tables = positions.chunks_exact_mut((d * columns).max(1));
        let mut memories: Vec<Memory<'_>> = (self.blocks.iter())
            .map(|_| memory(tables.next().unwrap_or_default(), &mut []))
            .collect();
        let layers = self.blocks.iter().map(|block| &block.att);
        let put = |b: usize, first, rows: &[f32]| memories[b].put_positions(&shared, first, rows);
        fill_positions(&shared, layers, put, &mut s, &mut quant);
        for (b, block) in self.blocks.iter().enumerate() {
            let watcher = watched.block(b, d, frames);
            let shared = Shared {
                watch: Watch(watched.is_watched().then_some(&watcher)),
                ..shared
            };
            let mut memory = memory(&mut *memories[b].positions, &mut gated);
            block.run(&shared, &mut memory, 0, x, &mut s, &mut quant);
            watched.see(&alloc::format!("encoder.{b}"), 0, &[d], x);
        }
    }
}

fn memory<'s>(positions: &'s mut [f32], gated: &'s mut [f32]) -> Memory<'s> {
    let none = || VectorSlots {
        panels: &mut [],
        scale: &mut [],
        sum: &mut [],
    };
    Memory {
        positions,
        places: none(),
        keys: none(),
        values: ValueSlots {
            panels: &mut [],
            scale: &mut [],
        },
        gated,
    }
}

fn no_int8_attention() -> Int8Scratch<'static> {
    Int8Scratch {
        query: &mut [],
        codes: &mut [],
        scores: &mut [],
        places: &mut [],
        weights: &mut [],
        offsets: &mut [],
    }
}

/// A [`QuantBuffer`] that grows.
#[derive(Debug, Default)]
pub(crate) struct Quantiser {
    codes: Vec<u8>,
    scale: Vec<f32>,
    zero: Vec<i32>,
}

impl Quantiser {
    /// Makes room for so many rows of so many values.
    pub fn reserve(&mut self, rows: usize, width: usize) {
        let codes = rows * code_stride(width);
        if self.codes.len() < codes {
            self.codes.resize(codes, 0);
        }
        if self.scale.len() < rows {
            self.scale.resize(rows, 0.0);
            self.zero.resize(rows, 0);
        }
    }

    pub fn buffer(&mut self) -> QuantBuffer<'_> {
        QuantBuffer {
            codes: &mut self.codes,
            scale: &mut self.scale,
            zero: &mut self.zero,
        }
    }

    /// See [`QuantBuffer::load`].
    pub fn load<'x>(
        &'x mut self,
        kernels: &dyn Kernels,
        int8: bool,
        values: &'x [f32],
        width: usize,
    ) -> Activations<'x> {
        if !int8 {
            return Activations::floats(values);
        }
        let rows = values.len() / width.max(1);
        self.reserve(rows, width);
        let Quantiser { codes, scale, zero } = self;
        let mut buffer = QuantBuffer { codes, scale, zero };
        buffer.quantise(kernels, values, width);
        Activations::quantised(crate::kernels::QuantRows {
            codes: &self.codes[..rows * code_stride(width)],
            scale: &self.scale[..rows],
            zero: &self.zero[..rows],
        })
    }
}
