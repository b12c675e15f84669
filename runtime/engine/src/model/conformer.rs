//! The conformer lip reader: convolutional front-end, conformer encoder, CTC head.
//!
//! [`Model::open`] checks an untrusted file once; a [`Session`](crate::session::Session) then runs it
//! in memory that the caller supplies, without allocating and without a way to fail.

pub(crate) mod dims;
pub(crate) mod encoder;
pub(crate) mod frontend;
pub(crate) mod linear;
mod load;
#[cfg(test)]
mod parity;
pub(crate) mod plan;

use viseme_format::gguf::Reader;
use viseme_format::spec::ModelSpec;

use dims::Dims;
use encoder::{Block, Norm, Shared};
use frontend::Frontend;
use linear::Linear;
use load::Tensors;
pub use load::{LoadError, Shape};
use plan::Plan;

use crate::kernels::Kernels;

/// Most conformer blocks: 16. The largest Auto-AVSR encoders have 12.
pub const MAX_BLOCKS: usize = 16;

/// Most working memory a model may ask for at its `max_frames`: 1 GiB.
pub const MAX_ARENA: usize = 1 << 30;

/// A checked model, borrowing its weights from the file.
#[derive(Clone, Debug)]
pub struct Model<'a> {
    spec: ModelSpec<'a>,
    pub(crate) dims: Dims,
    pub(crate) frontend: Frontend<'a>,
    blocks: [Option<Block<'a>>; MAX_BLOCKS],
    pub(crate) norm: Norm<'a>,
    pub(crate) ctc: Linear<'a>,
}

impl<'a> Model<'a> {
    /// Checks a model file: container, metadata, name, shape, type and values of every tensor, and
    /// the working memory it declares. Does not compute its digest
    /// ([`Reader::verify`](viseme_format::gguf::Reader::verify) does).
    ///
    /// `bytes` must lie at a multiple of 4 in memory. Takes time in proportion to the file.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn open(bytes: &'a [u8]) -> Result<Self, LoadError> {
        let file = Reader::open(bytes)?;
        let spec = ModelSpec::read(&file)?;
        let dims = Dims::new(&spec)?;
        let needed = bounded_arena(&dims, dims.max_frames)? as u64;
        if spec.arena_bytes != 0 && spec.arena_bytes < needed {
            return Err(LoadError::Arena {
                needed,
                limit: spec.arena_bytes,
            });
        }
        let tensors = Tensors {
            file: &file,
            weights: spec.weights,
        };
        let mut blocks = [const { None }; MAX_BLOCKS];
        for (b, block) in blocks.iter_mut().take(dims.blocks).enumerate() {
            *block = Some(Block::load(&tensors, b, &dims)?);
        }
        let model = Model {
            spec,
            dims,
            frontend: Frontend::load(&tensors, &dims)?,
            blocks,
            norm: Norm::load(&tensors, format_args!("encoder.norm"), dims.d)?,
            ctc: tensors.linear(format_args!("ctc"), &[dims.vocab, dims.d])?,
        };
        tensors.no_others(&spec)?;
        Ok(model)
    }

    /// What the file says about itself.
    pub fn spec(&self) -> &ModelSpec<'a> {
        &self.spec
    }

    /// Longest utterance, in frames.
    pub fn max_frames(&self) -> usize {
        self.dims.max_frames
    }

    /// Number of tokens: the width of a row of logits.
    pub fn vocabulary(&self) -> usize {
        self.dims.vocab
    }

    /// Side of a mouth crop, in pixels.
    pub fn crop_side(&self) -> usize {
        self.dims.crop
    }

    /// Bytes of working memory that a session for `max_frames` frames needs, at any address.
    /// `max_frames` is brought into 1 to [`Self::max_frames`].
    pub fn arena_bytes(&self, max_frames: usize) -> usize {
        // `open` has planned for the longest utterance; a shorter one needs no more.
        bounded_arena(&self.dims, max_frames.clamp(1, self.dims.max_frames)).unwrap_or(MAX_ARENA)
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Block<'a>> + Clone {
        self.blocks.iter().flatten()
    }

    pub(crate) fn shared<'k>(&self, kernels: &'k dyn Kernels, max_frames: usize) -> Shared<'k> {
        let Dims {
            d,
            ff,
            heads,
            kernel,
            conv_left,
            activation,
            eps,
            int8,
            ..
        } = self.dims;
        let reach = self.dims.reach(max_frames);
        Shared {
            kernels,
            d,
            ff,
            heads,
            kernel,
            conv_left,
            activation,
            eps,
            int8,
            reach,
        }
    }
}

/// Bytes of working memory that this engine needs for a model of this spec and utterances of at most
/// `max_frames` frames: what an exporter writes into `viseme.arena_bytes` for the spec's own
/// `max_frames`, and what [`Model::open`] compares with it.
///
/// # Errors
/// [`LoadError::Unsupported`] and [`LoadError::Arena`] when this engine could not run such a model.
pub fn arena_bytes(spec: &ModelSpec<'_>, max_frames: usize) -> Result<usize, LoadError> {
    bounded_arena(&Dims::new(spec)?, max_frames)
}

fn bounded_arena(dims: &Dims, max_frames: usize) -> Result<usize, LoadError> {
    let bytes = Plan::new(dims, max_frames).and_then(|plan| plan.bytes());
    match bytes {
        Some(bytes) if bytes <= MAX_ARENA => Ok(bytes),
        _ => Err(LoadError::Arena {
            needed: bytes.map_or(u64::MAX, |bytes| bytes as u64),
            limit: MAX_ARENA as u64,
        }),
    }
}
