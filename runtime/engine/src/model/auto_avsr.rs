//! Models of Auto-AVSR (Ma et al., "Auto-AVSR: Audio-Visual Speech Recognition with Automatic Labels", 2023;
//! github.com/mpc001/auto_avsr): whole utterances of pictures, sound or both to the vectors that a decoder attends to.
//!
//! These are models for boards with an operating system: they are read with full context, an utterance at a time, and
//! take their working memory from the heap, as much as the utterance is long. Their conformer blocks are those of
//! [`conformer`](super::conformer), run on more frames at a time since their weights fit no cache.
//!
//! [`Model::open`] checks an untrusted file once. [`Model::encode`] gives the memory, [`Model::ctc`] its CTC
//! log-probabilities, and [`decode`](crate::decode::attention) searches for the sentence.

mod aligned;
mod branch;
pub mod decoder;
mod maps;
mod resnet;
pub mod watch;

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use viseme_format::gguf::Reader;
use viseme_format::layout;
use viseme_format::spec::auto_avsr::{FRAME_SAMPLES, FUSION_EPS, FusionNorm};
use viseme_format::spec::{ModelSpec, Weights, auto_avsr};

use super::conformer::LoadError;
use super::conformer::encoder::Norm;
use super::conformer::linear::Linear;
use super::conformer::load::Tensors;
use crate::kernels::Kernels;
use crate::kernels::elementwise::Activation;
use branch::{Branch, Quantiser};
use decoder::DecoderLayers;
use watch::{Observer, Watched};

/// Sound samples of a frame.
const FRAME: usize = FRAME_SAMPLES as usize;

/// A checked model, borrowing its weights from the file.
#[derive(Debug)]
pub struct Model<'a> {
    spec: ModelSpec<'a>,
    video: Option<Branch<'a>>,
    audio: Option<Branch<'a>>,
    fusion: Option<Fusion<'a>>,
    pub(crate) decoder: DecoderLayers<'a>,
    ctc: Linear<'a>,
    int8: bool,
}

/// The perceptron that joins both branches.
#[derive(Clone, Copy, Debug)]
struct Fusion<'a> {
    up: Linear<'a>,
    norm: Option<(FusionNorm, Norm<'a>)>,
    down: Linear<'a>,
    hidden: usize,
}

/// What is perceived of an utterance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Input<'x> {
    /// Crops, [frames, side, side], normalised ([`normalise`](crate::preprocess::crop::normalise)).
    pub video: Option<&'x [f32]>,
    /// Samples at 16 kHz, normalised to mean 0 and variance 1 over the utterance.
    pub audio: Option<&'x [f32]>,
}

impl<'a> Model<'a> {
    /// Checks a model file: container, metadata, name, shape, type and values of every tensor. Does not compute its
    /// digest ([`Reader::verify`] does).
    ///
    /// `bytes` must lie at a multiple of 4 in memory. Takes time in proportion to the file.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn open(bytes: &'a [u8]) -> Result<Self, LoadError> {
        let file = Reader::open(bytes)?;
        let spec = ModelSpec::read(&file)?;
        let of = spec.auto_avsr()?;
        let tensors = Tensors {
            file: &file,
            weights: spec.weights,
        };
        let branch = |prefix, branch: &Option<auto_avsr::Branch>| {
            let load = |branch| Branch::load(&tensors, prefix, branch, &of.crop);
            branch.as_ref().map(load).transpose()
        };
        let d = of.decoder.d_model as usize;
        let model = Model {
            video: branch("video", &of.video)?,
            audio: branch("audio", &of.audio)?,
            fusion: Fusion::load(&tensors, of)?,
            decoder: DecoderLayers::load(&tensors, of)?,
            ctc: tensors.linear(format_args!("ctc"), &[of.tokens.len(), d])?,
            int8: spec.weights != Weights::F32,
            spec,
        };
        tensors.no_others(|visit| {
            layout::auto_avsr::model(of, spec.weights, |name, _, _| visit(name))
        })?;
        Ok(model)
    }

    /// What the file says about itself.
    pub fn spec(&self) -> &ModelSpec<'a> {
        &self.spec
    }

    /// What it says about this kind of model.
    pub fn auto_avsr(&self) -> Result<&auto_avsr::AutoAvsr<'a>, LoadError> {
        Ok(self.spec.auto_avsr()?)
    }

    /// Width of the vectors that [`encode`](Self::encode) gives.
    pub fn width(&self) -> usize {
        self.decoder.d
    }

    /// Number of tokens.
    pub fn vocabulary(&self) -> usize {
        self.decoder.vocabulary
    }

    /// Frames of an utterance: crops, or 640 samples each; of both, what both have.
    ///
    /// # Errors
    /// An input that this model does not take or that is missing, values that make no whole crop, no frame at all, or
    /// more than the model reads.
    pub fn frames(&self, input: &Input<'_>) -> Result<usize, InputError> {
        let mut frames = usize::MAX;
        if let Some(branch) = &self.video {
            let video = input.video.ok_or(InputError::Missing("pictures"))?;
            let crop = (branch.crop * branch.crop).max(1);
            if !video.len().is_multiple_of(crop) {
                return Err(InputError::Size { want: crop });
            }
            frames = frames.min(video.len() / crop);
        } else if input.video.is_some() {
            return Err(InputError::Unwanted("pictures"));
        }
        if self.audio.is_some() {
            let audio = input.audio.ok_or(InputError::Missing("sound"))?;
            frames = frames.min(audio.len() / FRAME);
        } else if input.audio.is_some() {
            return Err(InputError::Unwanted("sound"));
        }
        let given = input.video.into_iter().chain(input.audio);
        if given.flatten().any(|v| !v.is_finite()) {
            return Err(InputError::NotFinite);
        }
        let most = self.spec.auto_avsr().map_or(0, |of| of.max_frames as usize);
        match frames {
            0 => Err(InputError::Empty),
            _ if frames > most => Err(InputError::Long { frames, most }),
            _ => Ok(frames),
        }
    }

    /// The memory of an utterance: [frames, [`width`](Self::width)]. `observer` sees what is computed on the way.
    ///
    /// # Errors
    /// See [`frames`](Self::frames).
    pub fn encode(
        &self,
        kernels: &dyn Kernels,
        input: &Input<'_>,
        observer: Option<&dyn Observer>,
    ) -> Result<Vec<f32>, InputError> {
        let frames = self.frames(input)?;
        let encode = |branch: &Branch<'_>, name, values: &[f32], stride| {
            let watched = Watched::new(observer, name);
            branch.run(kernels, &values[..frames * stride], frames, watched)
        };
        let video = (self.video.as_ref().zip(input.video))
            .map(|(branch, values)| encode(branch, "video", values, branch.crop * branch.crop));
        let audio = (self.audio.as_ref().zip(input.audio))
            .map(|(branch, values)| encode(branch, "audio", values, FRAME));
        let memory = match (video, audio, &self.fusion) {
            (Some(video), Some(audio), Some(fusion)) => {
                let watched = Watched::new(observer, "fusion");
                fusion.run(kernels, self.int8, frames, &[&video, &audio], watched)
            }
            (video, audio, _) => video.or(audio).unwrap_or_default(),
        };
        if let Some(observer) = observer {
            observer.see("memory", 0, &[self.width()], &memory);
        }
        Ok(memory)
    }

    /// CTC logits of a memory, [frames, vocabulary].
    pub fn ctc(&self, kernels: &dyn Kernels, memory: &[f32]) -> Vec<f32> {
        let d = self.width().max(1);
        let mut logits = vec![0.0; memory.len() / d * self.vocabulary()];
        let mut quant = Quantiser::default();
        let x = quant.load(kernels, self.int8, memory, d);
        self.ctc.run(kernels, x, &mut logits);
        logits
    }

    /// Whether matrices hold integers.
    pub(crate) fn int8(&self) -> bool {
        self.int8
    }
}

impl<'a> Fusion<'a> {
    fn load(t: &Tensors<'_, 'a>, of: &auto_avsr::AutoAvsr<'_>) -> Result<Option<Self>, LoadError> {
        let Some(fusion) = &of.fusion else {
            return Ok(None);
        };
        let hidden = fusion.hidden as usize;
        let inputs: u32 = of.branches().map(|(_, branch)| branch.d_model).sum();
        let norm = match fusion.norm {
            FusionNorm::None => None,
            kind => Some((kind, Norm::load(t, format_args!("fusion.norm"), hidden)?)),
        };
        let d = of.decoder.d_model as usize;
        Ok(Some(Fusion {
            up: t.linear(format_args!("fusion.up"), &[hidden, inputs as usize])?,
            norm,
            down: t.linear(format_args!("fusion.down"), &[d, hidden])?,
            hidden,
        }))
    }

    /// down(ReLU(norm(up([video, audio])))), frame by frame.
    fn run(
        &self,
        kernels: &dyn Kernels,
        int8: bool,
        frames: usize,
        branches: &[&[f32]],
        watched: Watched<'_>,
    ) -> Vec<f32> {
        let inputs: usize = branches.iter().map(|values| values.len() / frames).sum();
        let mut joined = Vec::with_capacity(frames * inputs);
        for frame in 0..frames {
            for values in branches {
                let width = values.len() / frames;
                joined.extend_from_slice(&values[frame * width..][..width]);
            }
        }
        let mut quant = Quantiser::default();
        let mut hidden = vec![0.0; frames * self.hidden];
        let x = quant.load(kernels, int8, &joined, inputs);
        self.up.run(kernels, x, &mut hidden);
        watched.see("up", 0, &[self.hidden], &hidden);
        match &self.norm {
            None => {}
            Some((FusionNorm::Layer, norm)) => {
                let mut normed = vec![0.0; hidden.len()];
                norm.run(kernels, FUSION_EPS, &hidden, &mut normed);
                hidden = normed;
            }
            Some((_, norm)) => {
                for row in hidden.chunks_exact_mut(self.hidden) {
                    for (v, (w, b)) in row.iter_mut().zip(norm.weight.iter().zip(norm.bias)) {
                        *v = *v * w + b;
                    }
                }
            }
        }
        kernels.activate(Activation::Relu, &mut hidden);
        let x = quant.load(kernels, int8, &hidden, self.hidden);
        let mut memory = vec![0.0; frames * self.down.outputs()];
        self.down.run(kernels, x, &mut memory);
        memory
    }
}

/// Why an utterance cannot be read. `Display` is one line for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InputError {
    /// The model perceives this, and it is not there.
    Missing(&'static str),
    /// The model does not perceive this.
    Unwanted(&'static str),
    /// Pictures that are not whole crops.
    Size {
        /// Values of a crop.
        want: usize,
    },
    /// Less than one frame.
    Empty,
    /// More frames than the model reads.
    Long {
        /// Frames given.
        frames: usize,
        /// Frames that it reads.
        most: usize,
    },
    /// A value is no number.
    NotFinite,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputError::Missing(what) => write!(
                f,
                "the model needs {what}, and there is none; give another clip or another model"
            ),
            InputError::Unwanted(what) => {
                write!(f, "the model takes no {what}; give another model")
            }
            InputError::Size { want } => write!(
                f,
                "pictures are not crops of {want} pixels each; give [frames, height, width] of the model's size"
            ),
            InputError::Empty => write!(f, "not one whole frame; give a longer clip"),
            InputError::Long { frames, most } => write!(
                f,
                "{frames} frames, and the model reads at most {most}; cut the clip"
            ),
            InputError::NotFinite => write!(f, "a value is no number; give another clip"),
        }
    }
}

impl core::error::Error for InputError {}
