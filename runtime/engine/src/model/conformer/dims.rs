//! The dimensions of a conformer as the engine uses them: from a checked spec, as `usize`.

use viseme_format::spec::{self, MAX_STAGES, ModelSpec, Weights};

use super::MAX_BLOCKS;
use super::encoder::BlockDims;
use super::load::LoadError;
use crate::kernels::MAX_INPUTS;
use crate::kernels::attention::slots::Heads;
use crate::kernels::attention::{Mask, Reach};
use crate::kernels::elementwise::Activation;
use crate::kernels::im2row::Windows;
use crate::parts::first;

/// One convolution of the front-end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stage {
    /// Its input map, padding included, and its windows.
    pub windows: Windows,
    /// Output channels.
    pub channels: usize,
    /// Side of the output map.
    pub side: usize,
    /// Values of one window.
    pub inputs: usize,
    /// Output rows worked on at a time.
    pub band: usize,
    /// Pixels added on every side of the input.
    pub pad: usize,
}

impl Stage {
    /// Values of the input map.
    pub fn input_len(&self) -> usize {
        let [height, width] = self.windows.size;
        height * width * self.windows.channels
    }

    /// Values of the output map.
    pub fn output_len(&self) -> usize {
        self.side * self.side * self.channels
    }

    /// Windows worked on at a time.
    pub fn band_windows(&self) -> usize {
        self.band * self.side
    }
}

/// All dimensions of one model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dims {
    /// Side of a crop.
    pub crop: usize,
    /// Crops stacked as channels, odd.
    pub stack: usize,
    /// Grey value outside of the crop.
    pub pad_value: u8,
    stages: [Stage; MAX_STAGES],
    stage_count: usize,
    /// Values of a frame after the last convolution.
    pub features: usize,
    pub d: usize,
    pub heads: Heads,
    pub ff: usize,
    pub kernel: usize,
    pub conv_left: usize,
    att_left: Option<usize>,
    att_right: Option<usize>,
    pub activation: Activation,
    pub eps: f32,
    pub blocks: usize,
    pub vocab: usize,
    /// Whether matrices hold integers, int8 or int4: they meet activations of 8 bits.
    pub int8: bool,
    /// Longest utterance.
    pub max_frames: usize,
}

impl Dims {
    /// The dimensions a spec asks for. The spec's own ranges have been checked; what is refused here
    /// is what this engine has no room for.
    pub fn new(spec: &ModelSpec<'_>) -> Result<Self, LoadError> {
        let conformer = spec.conformer()?;
        if spec.modality != spec::Modality::Video || conformer.mel.is_some() {
            return Err(LoadError::Unsupported("a model that hears"));
        }
        let encoder = &conformer.encoder;
        let front = &conformer.frontend;
        let mut dims = Dims {
            crop: conformer.crop.size as usize,
            stack: front.frames as usize,
            pad_value: front.pad_value as u8,
            stages: [Stage::default(); MAX_STAGES],
            stage_count: front.stages().len(),
            features: front.features(conformer.crop.size).unwrap_or(0) as usize,
            d: encoder.d_model as usize,
            heads: Heads {
                count: encoder.heads as usize,
                width: encoder.head_dim() as usize,
            },
            ff: encoder.ff as usize,
            kernel: encoder.conv_kernel as usize,
            conv_left: encoder.conv_left as usize,
            att_left: usize::try_from(encoder.att_left).ok(),
            att_right: usize::try_from(encoder.att_right).ok(),
            activation: match encoder.ff_activation {
                spec::Activation::Silu => Activation::Silu,
                spec::Activation::Relu => Activation::Relu,
            },
            eps: encoder.norm_eps,
            blocks: encoder.blocks as usize,
            vocab: conformer.tokens.len(),
            int8: spec.weights != Weights::F32,
            max_frames: conformer.max_frames as usize,
        };
        let (mut side, mut channels) = (dims.crop, dims.stack);
        for (to, from) in dims.stages.iter_mut().zip(front.stages()) {
            *to = stage(from, side, channels).ok_or(LoadError::Unsupported(
                "a front-end whose windows hold more than 32768 values",
            ))?;
            (side, channels) = (to.side, to.channels);
        }
        if dims.blocks > MAX_BLOCKS {
            return Err(LoadError::Unsupported("more than 16 conformer blocks"));
        }
        if !(1..=MAX_INPUTS).contains(&dims.features) {
            return Err(LoadError::Unsupported(
                "a front-end with more than 32768 features",
            ));
        }
        Ok(dims)
    }

    /// The sizes of its blocks.
    pub fn block(&self) -> BlockDims {
        BlockDims {
            d: self.d,
            ff: self.ff,
            heads: self.heads,
            kernel: self.kernel,
            packed_positions: false,
        }
    }

    /// The convolutions in order.
    pub fn stages(&self) -> &[Stage] {
        first(&self.stages, self.stage_count)
    }

    /// Values of one crop.
    pub fn crop_len(&self) -> usize {
        self.crop * self.crop
    }

    /// What attention sees in an utterance of at most `frames` frames.
    pub fn mask(&self, frames: usize) -> Mask {
        let most = frames.saturating_sub(1);
        Mask::Reach(Reach {
            left: self.att_left.unwrap_or(most).min(most),
            right: self.att_right.unwrap_or(most).min(most),
        })
    }

    /// Frames before a chunk that a stream sees unless told otherwise.
    pub fn stream_left(&self) -> usize {
        self.att_left.unwrap_or(DEFAULT_LEFT)
    }

    /// Whether the depthwise convolution looks at no later frame, as a stream needs.
    pub fn causal(&self) -> bool {
        self.conv_left + 1 == self.kernel
    }
}

/// 2.56 s at 25 frames a second.
const DEFAULT_LEFT: usize = 64;

fn stage(from: &spec::Stage, side: usize, channels: usize) -> Option<Stage> {
    let size = side + 2 * from.pad as usize;
    let windows = Windows::square(size, channels, from.kernel as usize, from.stride as usize);
    let inputs = windows.values()?;
    (inputs <= MAX_INPUTS).then_some(Stage {
        windows,
        channels: from.channels as usize,
        side: windows.count()?[0],
        inputs,
        band: windows.band()?,
        pad: from.pad as usize,
    })
}
