//! The conformer lip reader: convolutional front-end, conformer encoder, CTC head.
//!
//! [`Model::open`] checks an untrusted file once; a [`Session`](crate::session::Session) then runs it
//! in memory that the caller supplies, without allocating and without a way to fail.

pub(crate) mod dims;
pub(crate) mod encoder;
pub(crate) mod frontend;
pub(crate) mod linear;
pub(crate) mod load;
pub(crate) mod plan;

use viseme_format::gguf::{KEY_SHA256, Reader, Value};
use viseme_format::layout;
use viseme_format::spec::ModelSpec;

use dims::Dims;
use encoder::{Block, Norm, ROWS, Shared, Watch, fill_positions};
use frontend::Frontend;
use linear::Linear;
use load::Tensors;
pub use load::{LoadError, Shape};
use plan::{Buffers, Plan};

use crate::kernels::Kernels;
use crate::kernels::attention::{Mask, Shift};
use crate::parts::{copy, first, first_mut, part, part_mut};

/// Most conformer blocks: 16. The largest Auto-AVSR encoders have 12.
pub const MAX_BLOCKS: usize = 16;

/// Most working memory a model may ask for at its `max_frames`: 1 GiB.
pub const MAX_ARENA: usize = 1 << 30;

/// A checked model, borrowing its weights from the file.
#[derive(Clone, Debug)]
pub struct Model<'a> {
    spec: ModelSpec<'a>,
    pub(crate) dims: Dims,
    frontend: Frontend<'a>,
    blocks: [Option<Block<'a>>; MAX_BLOCKS],
    identity: u64,
    norm: Norm<'a>,
    ctc: Linear<'a>,
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
            *block = Some(Block::load(
                &tensors,
                format_args!("encoder.{b}"),
                dims.block(),
            )?);
        }
        let model = Model {
            spec,
            dims,
            frontend: Frontend::load(&tensors, &dims)?,
            blocks,
            norm: Norm::load(&tensors, format_args!("encoder.norm"), dims.d)?,
            ctc: tensors.linear(format_args!("ctc"), &[dims.vocab, dims.d])?,
            identity: identity(&file),
        };
        let conformer = spec.conformer()?;
        tensors
            .no_others(|visit| layout::model(conformer, spec.weights, |name, _, _| visit(name)))?;
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

    /// Tells models apart: a saved state belongs to one.
    pub(crate) fn identity(&self) -> u64 {
        self.identity
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Block<'a>> + Clone {
        self.blocks.iter().flatten()
    }

    pub(crate) fn shared<'k>(&self, kernels: &'k dyn Kernels, mask: Mask) -> Shared<'k> {
        let Dims {
            d,
            ff,
            heads,
            conv_left,
            activation,
            eps,
            int8,
            ..
        } = self.dims;
        Shared {
            kernels,
            d,
            ff,
            heads,
            conv_left,
            activation,
            eps,
            int8,
            int8_attention: int8,
            mask,
            shift: Shift::Latest,
            rows: ROWS,
            watch: Watch::default(),
        }
    }

    /// Fills every block's table of positions.
    pub(crate) fn fill_positions(&self, shared: &Shared<'_>, buffers: &mut Buffers<'_>) {
        let layers = self.blocks().map(|block| &block.att);
        let Buffers {
            memories,
            encoder,
            quant,
            ..
        } = buffers;
        let put = |b, first, rows: &[f32]| memories.block(b).put_positions(shared, first, rows);
        fill_positions(shared, layers, put, encoder, quant);
    }

    /// The front-end's vector of frame `t`, of which crop `last` is the last there is, into row `row` of the features.
    pub(crate) fn see(
        &self,
        kernels: &dyn Kernels,
        buffers: &mut Buffers<'_>,
        t: usize,
        last: usize,
        row: usize,
    ) {
        let dims = &self.dims;
        let Buffers {
            crops,
            features,
            frontend,
            quant,
            ..
        } = buffers;
        let (len, around) = (dims.crop_len(), dims.stack / 2);
        let neighbours = (t..=t + 2 * around)
            .map(|t| t.saturating_sub(around).min(last))
            .map(|t| part(crops, t % dims.stack.max(1) * len, len));
        let y = part_mut(features, row * dims.d, dims.d);
        self.frontend
            .run(dims, kernels, neighbours, frontend, quant, y);
    }

    /// Logits of the first `rows` rows of features, before which there were `before` frames.
    pub(crate) fn encode(
        &self,
        shared: &Shared<'_>,
        buffers: &mut Buffers<'_>,
        before: usize,
        rows: usize,
    ) {
        let d = shared.d.max(1);
        let Buffers {
            memories,
            features,
            logits,
            stream,
            encoder,
            quant,
            ..
        } = buffers;
        let x = first_mut(stream, rows * d);
        copy(first(features, rows * d), x);
        for (b, block) in self.blocks().enumerate() {
            block.run(shared, &mut memories.block(b), before, x, encoder, quant);
        }
        let vocabulary = self.vocabulary();
        let results = logits.chunks_mut((ROWS * vocabulary).max(1));
        for (x, y) in x.chunks(shared.batch()).zip(results) {
            let (rows, normed) = (x.len() / d, first_mut(encoder.normed, x.len()));
            self.norm.run(shared.kernels, shared.eps, x, normed);
            let x = quant.load(shared.kernels, shared.int8, normed, d);
            self.ctc
                .run(shared.kernels, x, first_mut(y, rows * vocabulary));
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

/// FNV-1a over the digest that the file states.
fn identity(file: &Reader<'_>) -> u64 {
    let digest = match file.value(KEY_SHA256) {
        Some(Value::Str(digest)) => digest,
        _ => "",
    };
    digest.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn bounded_arena(dims: &Dims, max_frames: usize) -> Result<usize, LoadError> {
    let bytes = Plan::utterance(dims, dims.mask(max_frames), max_frames).bytes();
    match bytes {
        Some(bytes) if bytes <= MAX_ARENA => Ok(bytes),
        _ => Err(LoadError::Arena {
            needed: bytes.map_or(u64::MAX, |bytes| bytes as u64),
            limit: MAX_ARENA as u64,
        }),
    }
}
