//! The metadata of a model, typed: what `viseme.*` keys mean. `SPEC.md` is the normative text.
//!
//! [`ModelSpec::read`] checks every range, so that sizes derived from a spec cannot overflow and a model is refused
//! before any memory is planned for it. The same reading and writing code serves GGUF metadata and, with feature
//! `json`, the `spec.json` beside a trainer checkpoint.

pub mod auto_avsr;
mod check;
mod fields;
#[cfg(feature = "json")]
pub mod json;
mod tokens;

use core::fmt;

pub use auto_avsr::AutoAvsr;
pub use tokens::Tokens;

use crate::gguf::Reader;
#[cfg(feature = "alloc")]
use crate::gguf::{WriteError, Writer};

/// Version of the meaning of the `viseme.*` keys.
pub const VERSION: u32 = 2;

/// Most convolution stages of a front-end.
pub const MAX_STAGES: usize = 4;

/// Most detector strides.
pub const MAX_STRIDES: usize = 4;

/// Token 0 of every vocabulary: the CTC blank (Graves et al. 2006).
pub const BLANK: &str = "<blank>";

/// What a model file says about itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelSpec<'a> {
    /// `general.name`: for people.
    pub name: &'a str,
    /// `general.license`: SPDX expression or a sentence.
    pub license: &'a str,
    /// `viseme.training_data`: credit to the data the model was trained on.
    pub training_data: &'a str,
    /// `viseme.modality`: what the model perceives.
    pub modality: Modality,
    /// `viseme.quant.weights`: how the matrices are stored.
    pub weights: Weights,
    /// `viseme.arena_bytes`: working memory that the writer of the file computed; 0 when not stated. A claim, to be
    /// compared with the engine's own plan, never to be allocated from.
    pub arena_bytes: u64,
    /// `general.architecture` and the keys that belong to it.
    pub family: Family<'a>,
}

/// `general.architecture`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // one per loaded model; there is no heap to put the large one on
pub enum Family<'a> {
    /// `viseme-conformer`: convolutional front-end, conformer encoder (Gulati et al. 2020), CTC head.
    Conformer(Conformer<'a>),
    /// `viseme-auto-avsr`: a model of Auto-AVSR.
    AutoAvsr(AutoAvsr<'a>),
    /// `viseme-yunet`: the YuNet face detector (Wu, Peng, Yu 2023).
    Yunet(Yunet),
}

/// `viseme.modality`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modality {
    /// Pictures only.
    Video,
    /// Sound only.
    Audio,
    /// Both.
    AudioVideo,
}

/// `viseme.quant.weights`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Every tensor is F32.
    F32,
    /// Matrices are F16, the rest is F32: for keeping models, which are widened to be run (`widen`).
    F16,
    /// Matrices are I8 rows with one scale per row; the rest is F32.
    Int8,
    /// As `Int8`, but the matrices of the encoder's blocks have two weights in a byte
    /// ([`layout::stored`](crate::layout::stored)).
    Int4,
}

/// As the file says it.
impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Weights::F32 => "f32",
            Weights::F16 => "f16",
            Weights::Int8 => "int8",
            Weights::Int4 => "int4",
        })
    }
}

/// A recogniser of family `viseme-conformer`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conformer<'a> {
    /// Input frames per second.
    pub fps: f32,
    /// Geometry and scaling of the mouth crop.
    pub crop: Crop,
    /// From crops to vectors.
    pub frontend: Frontend,
    /// From vectors to vectors.
    pub encoder: Encoder,
    /// Log-mel settings; present exactly when the model hears.
    pub mel: Option<Mel>,
    /// Longest utterance, in frames.
    pub max_frames: u32,
    /// What a token stands for.
    pub token_kind: TokenKind,
    /// The vocabulary; index 0 is [`BLANK`].
    pub tokens: Tokens<'a>,
}

/// `viseme.crop.*`: from face landmarks to the pixels of a mouth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crop {
    /// Side of the square canvas that holds the mean face, in pixels.
    pub canvas: u32,
    /// Side of the patch cut around the mouth, in pixels.
    pub patch: u32,
    /// Side of the centre of the patch that the model sees, in pixels.
    pub size: u32,
    /// Subtracted from pixels scaled to 0..1.
    pub mean: f32,
    /// Divides them afterwards.
    pub std: f32,
    /// Half width of the landmark smoothing window, in frames.
    pub smooth: u32,
}

/// `viseme.frontend.*`: a stack of convolutions on a few neighbouring frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frontend {
    /// Input frames stacked as channels: an odd number, centred on the current frame.
    pub frames: u32,
    /// Grey value of pixels outside the crop, 0..=255.
    pub pad_value: u32,
    pub(crate) stages: [Stage; MAX_STAGES],
    pub(crate) count: usize,
}

/// One convolution with its batch norm and SiLU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// Output channels.
    pub channels: u32,
    /// Side of the square kernel.
    pub kernel: u32,
    /// Stride in both directions.
    pub stride: u32,
    /// Padding on all four sides; only the first stage may pad.
    pub pad: u32,
}

/// `viseme.encoder.*`: the conformer blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoder {
    /// Number of blocks.
    pub blocks: u32,
    /// Width of the residual stream.
    pub d_model: u32,
    /// Attention heads; divides `d_model`.
    pub heads: u32,
    /// Inner width of the feed-forward layers.
    pub ff: u32,
    /// Width of the depthwise convolution, in frames.
    pub conv_kernel: u32,
    /// Frames of it that lie in the past; the current frame and `conv_kernel - 1 - conv_left` future ones follow.
    pub conv_left: u32,
    /// Past frames that attention sees, -1 for all.
    pub att_left: i32,
    /// Future frames that attention sees, -1 for all.
    pub att_right: i32,
    /// Non-linearity of the feed-forward layers.
    pub ff_activation: Activation,
    /// Epsilon of every layer norm.
    pub norm_eps: f32,
}

/// `viseme.mel.*`: the log-mel front-end of models that hear.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mel {
    /// Samples per second.
    pub sample_rate: u32,
    /// Mel bands.
    pub bins: u32,
    /// Analysis window, in samples.
    pub window: u32,
    /// Step between windows, in samples.
    pub hop: u32,
    /// Lower edge of the lowest band, in Hz.
    pub low_hz: f32,
    /// Upper edge of the highest band, in Hz.
    pub high_hz: f32,
}

/// `viseme.encoder.ff_activation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// max(x, 0).
    Relu,
}

/// `viseme.tokens.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A token is a word; words are joined by spaces.
    Word,
    /// A token is a character; a space is a token.
    Char,
    /// A token is a sub-word piece; `▁` (U+2581) begins a word, as SentencePiece writes it.
    Piece,
}

/// A face detector of family `viseme-yunet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Yunet {
    /// Width and height of the input are multiples of this, in pixels.
    pub input_multiple: u32,
    pub(crate) strides: [u32; MAX_STRIDES],
    pub(crate) count: usize,
}

impl<'a> ModelSpec<'a> {
    /// Reads and checks the metadata of a model file.
    ///
    /// # Errors
    /// The first key that is missing, of the wrong type, or outside its range.
    pub fn read(file: &Reader<'a>) -> Result<Self, SpecError> {
        let spec = fields::read(file)?;
        check::spec(&spec)?;
        Ok(spec)
    }

    /// Writes the metadata: every key that [`Self::read`] reads. Add it before the tensors or after, once.
    ///
    /// # Errors
    /// [`SpecWriteError::Spec`] when the spec would not be read back, [`SpecWriteError::Write`] when a key exists.
    #[cfg(feature = "alloc")]
    pub fn write(&self, writer: &mut Writer) -> Result<(), SpecWriteError> {
        check::spec(self)?;
        fields::write(self, writer)?;
        Ok(())
    }

    /// Checks all ranges, as [`Self::read`] does: for specs that were not read from a file.
    ///
    /// # Errors
    /// The first key outside its range.
    pub fn check(&self) -> Result<(), SpecError> {
        check::spec(self)
    }

    /// The recogniser's part.
    ///
    /// # Errors
    /// [`SpecError::WrongFamily`] for other models.
    pub fn conformer(&self) -> Result<&Conformer<'a>, SpecError> {
        match &self.family {
            Family::Conformer(conformer) => Ok(conformer),
            _ => Err(SpecError::WrongFamily {
                want: "viseme-conformer",
            }),
        }
    }

    /// The part of a model of Auto-AVSR.
    ///
    /// # Errors
    /// [`SpecError::WrongFamily`] for other models.
    pub fn auto_avsr(&self) -> Result<&AutoAvsr<'a>, SpecError> {
        match &self.family {
            Family::AutoAvsr(model) => Ok(model),
            _ => Err(SpecError::WrongFamily {
                want: "viseme-auto-avsr",
            }),
        }
    }

    /// The detector's part.
    ///
    /// # Errors
    /// [`SpecError::WrongFamily`] for other models.
    pub fn yunet(&self) -> Result<&Yunet, SpecError> {
        match &self.family {
            Family::Yunet(yunet) => Ok(yunet),
            _ => Err(SpecError::WrongFamily {
                want: "viseme-yunet",
            }),
        }
    }
}

impl Frontend {
    /// A front-end of 1 to [`MAX_STAGES`] stages; `None` for other counts. Ranges are checked with the whole spec.
    pub fn new(stages: &[Stage], frames: u32, pad_value: u32) -> Option<Self> {
        let mut all = [Stage::default(); MAX_STAGES];
        all.get_mut(..stages.len())?.copy_from_slice(stages);
        (!stages.is_empty()).then_some(Self {
            frames,
            pad_value,
            stages: all,
            count: stages.len(),
        })
    }

    /// The stages, from the pixels on.
    pub fn stages(&self) -> &[Stage] {
        &self.stages[..self.count]
    }

    /// Side of the square feature map after stage `stage`, for a crop of side `size`; `None` when it vanishes.
    pub fn side(&self, size: u32, stage: usize) -> Option<u32> {
        self.stages()
            .get(..=stage)?
            .iter()
            .try_fold(size, |side, stage| stage.side(side))
    }

    /// Length of the flattened last feature map (rows, columns, channels) for a crop of side `size`.
    pub fn features(&self, size: u32) -> Option<u32> {
        let side = self.side(size, self.count.checked_sub(1)?)?;
        side.checked_mul(side)?
            .checked_mul(self.stages().last()?.channels)
    }
}

impl Stage {
    /// Side of the output for an input of side `side`; `None` when the kernel does not fit.
    pub fn side(&self, side: u32) -> Option<u32> {
        let padded = side.checked_add(self.pad.checked_mul(2)?)?;
        Some(padded.checked_sub(self.kernel)?.checked_div(self.stride)? + 1)
    }
}

impl Encoder {
    /// Width of one attention head.
    pub fn head_dim(&self) -> u32 {
        self.d_model.checked_div(self.heads).unwrap_or(0)
    }

    /// Frames of the depthwise convolution that lie in the future.
    pub fn conv_right(&self) -> u32 {
        self.conv_kernel
            .saturating_sub(1)
            .saturating_sub(self.conv_left)
    }
}

impl Yunet {
    /// A detector of 1 to [`MAX_STRIDES`] strides; `None` for other counts.
    pub fn new(input_multiple: u32, strides: &[u32]) -> Option<Self> {
        let mut all = [0; MAX_STRIDES];
        all.get_mut(..strides.len())?.copy_from_slice(strides);
        (!strides.is_empty()).then_some(Self {
            input_multiple,
            strides: all,
            count: strides.len(),
        })
    }

    /// Pixels per cell of each output grid.
    pub fn strides(&self) -> &[u32] {
        &self.strides[..self.count]
    }
}

/// Why a model's metadata was refused. `Display` is one line for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpecError {
    /// A required key is not there.
    Missing(&'static str),
    /// A key has a value of another type.
    WrongType(&'static str),
    /// A value outside its range; `want` says which.
    OutOfRange {
        /// The key.
        key: &'static str,
        /// What it may be.
        want: &'static str,
    },
    /// A model of another family than the one asked for.
    WrongFamily {
        /// The family asked for.
        want: &'static str,
    },
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SpecError::Missing(key) => {
                write!(f, "the model says nothing about {key}; export it again")
            }
            SpecError::WrongType(key) => {
                write!(f, "the model has {key} of another type; export it again")
            }
            SpecError::OutOfRange { key, want } => {
                write!(f, "the model's {key} must be {want}; export it again")
            }
            SpecError::WrongFamily { want } => write!(
                f,
                "this model is of another kind; give one of family {want}"
            ),
        }
    }
}

impl core::error::Error for SpecError {}

/// Why [`ModelSpec::write`] wrote nothing usable.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecWriteError {
    /// The spec itself is wrong.
    Spec(SpecError),
    /// The writer refused a key.
    Write(WriteError),
}

#[cfg(feature = "alloc")]
impl From<SpecError> for SpecWriteError {
    fn from(error: SpecError) -> Self {
        Self::Spec(error)
    }
}

#[cfg(feature = "alloc")]
impl From<WriteError> for SpecWriteError {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

#[cfg(feature = "alloc")]
impl fmt::Display for SpecWriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spec(error) => error.fmt(f),
            Self::Write(error) => error.fmt(f),
        }
    }
}

#[cfg(feature = "alloc")]
impl core::error::Error for SpecWriteError {}
