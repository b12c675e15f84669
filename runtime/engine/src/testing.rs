//! Models with random weights, for tests and benchmarks (feature `testing`).
//!
//! A random model reads no lips, but it costs what a trained one of its size does, and its logits
//! depend on every weight.

pub mod golden;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use viseme_format::gguf::{DType, WriteError, Writer};
use viseme_format::layout;
use viseme_format::panels;
use viseme_format::spec::*;

use crate::math;
use crate::model::conformer::{LoadError, arena_bytes};

/// The dimensions in which our models differ most.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Channels of the front-end's three convolutions.
    pub channels: [u32; 3],
    /// Conformer blocks.
    pub blocks: u32,
    /// Width of the residual stream.
    pub d_model: u32,
    /// Attention heads.
    pub heads: u32,
    /// Width of the feed-forward modules.
    pub ff: u32,
    /// Width of the depthwise convolution, in frames.
    pub conv_kernel: u32,
    /// Vocabulary, the blank included; at most [`TOKENS`]`.len()`.
    pub tokens: usize,
    /// Longest utterance, in frames.
    pub max_frames: u32,
}

/// As small as a model can be without becoming a special case: milliseconds even in debug builds.
pub const TINY: Size = Size {
    channels: [4, 6, 8],
    blocks: 2,
    d_model: 24,
    heads: 3,
    ff: 40,
    conv_kernel: 5,
    tokens: 11,
    max_frames: 64,
};

/// A word-level lip reader for a small vocabulary: 1.2M parameters.
pub const SMALL: Size = Size {
    channels: [24, 48, 96],
    blocks: 3,
    d_model: 144,
    heads: 4,
    ff: 576,
    conv_kernel: 15,
    tokens: 52,
    max_frames: 512,
};

/// The reference encoder of the engine's benchmarks: 6.1M parameters.
pub const REFERENCE: Size = Size {
    channels: [24, 48, 96],
    blocks: 4,
    d_model: 256,
    heads: 4,
    ff: 1024,
    conv_kernel: 31,
    tokens: 52,
    max_frames: 512,
};

/// A vocabulary: the blank, then words from the GRID corpus (Cooke et al., "An audio-visual corpus
/// for speech perception and automatic speech recognition", 2006).
pub const TOKENS: [&str; 52] = [
    BLANK, "bin", "lay", "place", "set", "blue", "green", "red", "white", "at", "by", "in", "with",
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s",
    "t", "u", "v", "x", "y", "z", "zero", "one", "two", "three", "four", "five", "six", "seven",
    "eight", "nine", "again", "now", "please", "soon",
];

/// A spec of this size: full context, SiLU, crops of 88 pixels at 25 frames a second, and the arena
/// that the engine needs. Change its public fields for other models.
pub fn spec(size: &Size, weights: Weights) -> ModelSpec<'static> {
    let stage = |channels, kernel, stride, pad| Stage {
        channels,
        kernel,
        stride,
        pad,
    };
    let [c0, c1, c2] = size.channels;
    let stages = [stage(c0, 8, 4, 2), stage(c1, 4, 2, 0), stage(c2, 4, 2, 0)];
    ModelSpec {
        name: "random",
        license: "CC0-1.0",
        training_data: "none: random weights",
        modality: Modality::Video,
        weights,
        arena_bytes: 0,
        family: Family::Conformer(Conformer {
            fps: 25.0,
            crop: auto_avsr::CROP,
            frontend: Frontend::new(&stages, 3, 107).expect("three stages are allowed"),
            encoder: Encoder {
                blocks: size.blocks,
                d_model: size.d_model,
                heads: size.heads,
                ff: size.ff,
                conv_kernel: size.conv_kernel,
                conv_left: size.conv_kernel / 2,
                att_left: -1,
                att_right: -1,
                ff_activation: Activation::Silu,
                norm_eps: 1e-5,
            },
            mel: None,
            max_frames: size.max_frames,
            token_kind: TokenKind::Word,
            tokens: Tokens::from(TOKENS.get(..size.tokens).unwrap_or(&TOKENS)),
        }),
    }
}

/// A spec of a model of Auto-AVSR.
pub fn auto_avsr_spec(of: auto_avsr::AutoAvsr<'_>, weights: Weights) -> ModelSpec<'_> {
    ModelSpec {
        name: "random",
        license: "CC0-1.0",
        training_data: "none: random weights",
        modality: of.modality(),
        weights,
        arena_bytes: 0,
        family: Family::AutoAvsr(of),
    }
}

/// A model file of this spec, with the arena that the engine needs for it. The weights depend on the
/// seed and the tensors' names only, so that the f32, int8 and int4 files of one seed hold the same
/// weights before rounding.
///
/// # Errors
/// A spec that the format or the engine refuses.
pub fn model(spec: &ModelSpec<'_>, seed: u64) -> Result<Vec<u8>, ModelError> {
    model_with(spec, seed, Init::Lively)
}

/// How random weights are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// So that every layer changes the residual stream about as much as it is large, and no bias is 0: faults show.
    Lively,
    /// As PyTorch's layers begin, uniform within 1 / √inputs, norms with weight 1 and bias 0: as published comparisons of
    /// engines have them.
    Torch,
}

/// [`model`] with weights drawn like this.
///
/// # Errors
/// A spec that the format or the engine refuses.
pub fn model_with(spec: &ModelSpec<'_>, seed: u64, init: Init) -> Result<Vec<u8>, ModelError> {
    let arena_bytes = match &spec.family {
        Family::Conformer(conformer) => arena_bytes(spec, conformer.max_frames as usize)? as u64,
        _ => 0,
    };
    let mut writer = Writer::new();
    ModelSpec {
        arena_bytes,
        ..*spec
    }
    .write(&mut writer)?;
    let rows = |stem: &str| Rows::new(spec, seed, init, stem);
    tensors(spec, spec.weights, |name, shape, dtype| {
        let stem = name
            .rsplit_once('.')
            .map_or(name, |(stem, _)| stem)
            .to_owned();
        match (dtype, name.ends_with(".scale")) {
            (DType::F32, false) => writer.tensor_f32(name, shape, &values(seed, init, name, shape)),
            (DType::F32, true) => {
                let rows = rows(&stem);
                writer.tensor_f32(name, shape, &rows.scale)
            }
            (DType::I8, _) => {
                let rows = rows(&stem);
                let pack = match layout::stored(spec.weights, name) {
                    Weights::Int4 => panels::int4::pack,
                    _ => panels::pack,
                };
                writer.tensor_i8(name, shape, &pack(&rows.codes, rows.inputs))
            }
            _ => {
                let rows = rows(&stem);
                writer.tensor_i32(name, shape, &rows.colsum)
            }
        }
    })?;
    Ok(writer.finish()?)
}

/// Grey crops of `side` pixels, [frames, side, side]: blobs that move, and noise.
pub fn crops(seed: u64, frames: usize, side: usize) -> Vec<u8> {
    let mut noise = Noise::new(seed, "crops");
    let phases: Vec<f32> = (0..4).map(|_| 3.0 * noise.next()).collect();
    let mut all = Vec::with_capacity(frames * side * side);
    for t in 0..frames {
        let angle = t as f32 * 0.4;
        for i in 0..side * side {
            let (y, x) = ((i / side) as f32 / 14.0, (i % side) as f32 / 17.0);
            let waves = math::sin(x + angle + phases[0]) * math::cos(y - phases[1])
                + math::sin(y + phases[2] - 0.7 * angle) * math::cos(x * 0.5 + phases[3]);
            all.push((110.0 + 45.0 * waves + 12.0 * noise.next()) as u8);
        }
    }
    all
}

/// Vectors such as a front-end makes, [frames, width]: noise of unit variance.
pub fn features(seed: u64, frames: usize, width: usize) -> Vec<f32> {
    let mut noise = Noise::new(seed, "features");
    // A uniform number in -1..1 has a variance of a third.
    (0..frames * width)
        .map(|_| 1.732_050_8 * noise.next())
        .collect()
}

/// Why there is no random model of a spec.
#[derive(Clone, Debug)]
pub enum ModelError {
    /// The engine could not run it.
    Load(LoadError),
    /// The format refuses the spec or a tensor.
    Write(String),
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModelError::Load(error) => error.fmt(f),
            ModelError::Write(error) => f.write_str(error),
        }
    }
}

impl core::error::Error for ModelError {}

impl From<LoadError> for ModelError {
    fn from(error: LoadError) -> Self {
        ModelError::Load(error)
    }
}

impl From<WriteError> for ModelError {
    fn from(error: WriteError) -> Self {
        ModelError::Write(alloc::format!("{error}"))
    }
}

impl From<SpecWriteError> for ModelError {
    fn from(error: SpecWriteError) -> Self {
        ModelError::Write(alloc::format!("{error}"))
    }
}

/// Visits every tensor of a file with these weights.
fn tensors<E>(
    spec: &ModelSpec<'_>,
    weights: Weights,
    visit: impl FnMut(&str, &[usize], DType) -> Result<(), E>,
) -> Result<(), E> {
    match &spec.family {
        Family::Conformer(conformer) => layout::model(conformer, weights, visit),
        Family::AutoAvsr(of) => layout::auto_avsr::model(of, weights, visit),
        _ => Ok(()),
    }
}

/// The values of an F32 tensor, of a size that keeps activations near 1.
fn values(seed: u64, init: Init, name: &str, shape: &[usize]) -> Vec<f32> {
    let len = shape.iter().product();
    let inputs: usize = match name.ends_with(".depthwise.weight") {
        true => shape.iter().take(1).product(),
        false => shape.iter().skip(1).product(),
    };
    let mut noise = Noise::new(seed, name);
    let is_norm = name.ends_with("norm.weight") || name.ends_with("norm.bias");
    let (offset, size) = match (name, shape.len()) {
        _ if init == Init::Torch => match shape.len() {
            _ if is_norm => (f32::from(u8::from(name.ends_with(".weight"))), 0.0),
            // The inputs of a bias are not known here.
            1 => (0.0, 0.05),
            _ => (0.0, 1.0 / math::sqrt(inputs as f32)),
        },
        // Acts on grey values, whose spread is about 40.
        ("frontend.conv.0.weight", _) => (0.0, 0.06 / math::sqrt(inputs as f32)),
        (_, 1) if name.ends_with("norm.weight") => (1.0, 0.2),
        (_, 1) => (0.0, 0.2),
        _ if name.contains(".att.bias_") => (0.0, 0.5),
        _ => (0.0, 1.8 / math::sqrt(inputs as f32)),
    };
    (0..len).map(|_| offset + size * noise.next()).collect()
}

/// A matrix rounded to rows of integers.
struct Rows {
    codes: Vec<i8>,
    scale: Vec<f32>,
    colsum: Vec<i32>,
    inputs: usize,
    /// The largest of the codes.
    top: f32,
}

impl Rows {
    fn new(spec: &ModelSpec<'_>, seed: u64, init: Init, stem: &str) -> Self {
        let name = alloc::format!("{stem}.weight");
        let mut rows = Rows {
            codes: Vec::new(),
            scale: Vec::new(),
            colsum: Vec::new(),
            inputs: 0,
            top: match layout::stored(spec.weights, &name) {
                Weights::Int4 => f32::from(panels::int4::MAX),
                _ => 127.0,
            },
        };
        let _ = tensors::<()>(spec, Weights::F32, |found, shape, _| {
            if found == name {
                let inputs: usize = shape.iter().skip(1).product();
                rows.inputs = inputs;
                values(seed, init, found, shape)
                    .chunks(inputs)
                    .for_each(|row| rows.push(row));
            }
            Ok(())
        });
        rows
    }

    fn push(&mut self, row: &[f32]) {
        let largest = row.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
        let scale = largest / self.top;
        let codes = row.iter().map(|v| math::round_half_even(v / scale) as i8);
        self.colsum.push(codes.clone().map(i32::from).sum());
        self.codes.extend(codes);
        self.scale.push(scale);
    }
}

/// Numbers in [-1, 1): SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014), begun at a hash of a seed and a name.
struct Noise(u64);

impl Noise {
    fn new(seed: u64, name: &str) -> Self {
        // FNV-1a.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Noise(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    }
}
