//! Golden logits: one table of models and clips, and the hash of the bits that each has to give, on every machine.
//!
//! The same code runs on hosts (the example `golden`), on emulated CPUs and on microcontrollers (`firmware/qemu`). What
//! it has to find is in `runtime/engine/tests/golden/logits.txt`, which `cargo xtask golden --bless` writes.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use viseme_format::spec::{Family, ModelSpec, Weights};

use super::{TINY, crops, model, spec};
use crate::kernels::Kernels;
use crate::model::conformer::Model;
use crate::session::{Options, Session};
use crate::stream::{self, Chunks, Stream};

/// A model and a clip.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What the golden file calls it: no spaces.
    pub name: &'static str,
    /// The model.
    pub model: Source,
    /// Length of the synthetic clip.
    pub frames: usize,
    /// Run as a stream in such chunks, not as a whole.
    pub chunks: Option<Chunks>,
}

/// Where the model of a case is from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// The published one, which the caller has.
    Published,
    /// Random weights.
    Random(fn() -> ModelSpec<'static>),
}

/// All cases: the published model, and a random one of each variant that the engine has code for.
pub const CASES: [Case; 10] = [
    case("published", Source::Published, 8),
    case(
        "int8-full",
        Source::Random(|| spec(&TINY, Weights::Int8)),
        20,
    ),
    case("f32-full", Source::Random(|| spec(&TINY, Weights::F32)), 20),
    case(
        "int8-causal",
        Source::Random(|| limited(Weights::Int8, 9, 0)),
        20,
    ),
    case(
        "int8-ahead",
        Source::Random(|| limited(Weights::Int8, 6, 2)),
        20,
    ),
    case(
        "f32-ahead",
        Source::Random(|| limited(Weights::F32, 6, 2)),
        20,
    ),
    case(
        "int4-full",
        Source::Random(|| spec(&TINY, Weights::Int4)),
        20,
    ),
    stream("int8-stream-1", || limited(Weights::Int8, -1, -1), 1),
    stream("int8-stream-8", || limited(Weights::Int8, -1, -1), 8),
    stream("int4-stream-4", || limited(Weights::Int4, -1, -1), 4),
];

const fn case(name: &'static str, model: Source, frames: usize) -> Case {
    Case {
        name,
        model,
        frames,
        chunks: None,
    }
}

/// 30 frames in chunks that see 10 frames before them.
const fn stream(name: &'static str, spec: fn() -> ModelSpec<'static>, look_ahead: usize) -> Case {
    Case {
        name,
        model: Source::Random(spec),
        frames: 30,
        chunks: Some(Chunks {
            look_ahead,
            left: Some(10),
        }),
    }
}

/// Attention that reaches so many frames back and ahead, a causal convolution, one crop a frame.
fn limited(weights: Weights, left: i32, right: i32) -> ModelSpec<'static> {
    let mut spec = spec(&TINY, weights);
    if let Family::Conformer(conformer) = &mut spec.family {
        conformer.frontend.frames = 1;
        conformer.encoder.att_left = left;
        conformer.encoder.att_right = right;
        conformer.encoder.conv_left = conformer.encoder.conv_kernel - 1;
    }
    spec
}

impl Case {
    /// FNV-1a (Fowler, Noll and Vo, "The FNV Non-Cryptographic Hash Algorithm") over the bits of the logits of the
    /// clip. `published` is the file of the published model, at a multiple of 4 in memory.
    ///
    /// # Errors
    /// A model that cannot be opened, in one line.
    pub fn hash(&self, published: &[u8], kernels: &'static dyn Kernels) -> Result<u64, String> {
        let (random, len) = match self.model {
            Source::Published => (Vec::new(), 0),
            Source::Random(spec) => words(&model(&spec(), 3).map_err(|e| e.to_string())?),
        };
        let file = match self.model {
            Source::Published => published,
            Source::Random(_) => &bytemuck::cast_slice(&random)[..len],
        };
        let model = Model::open(file).map_err(|e| e.to_string())?;
        let side = model.crop_side();
        let clip = crops(1, self.frames, side);
        match self.chunks {
            None => whole(&model, self.frames, &clip, kernels),
            Some(chunks) => streamed(&model, chunks, &clip, kernels),
        }
    }

    /// The line of the golden file.
    pub fn line(&self, hash: u64) -> String {
        format!("{} {hash:016x}", self.name)
    }

    /// Runs the case; says whether the golden file has its line.
    ///
    /// # Errors
    /// Other bits than there, or none, in one line.
    pub fn check(
        &self,
        golden: &str,
        published: &[u8],
        kernels: &'static dyn Kernels,
    ) -> Result<(), String> {
        let line = self.line(self.hash(published, kernels)?);
        if golden.lines().any(|l| l == line) {
            Ok(())
        } else {
            Err(format!(
                "{}: `{line}` is not in the golden file; find out why the bits changed before blessing them",
                kernels.name()
            ))
        }
    }
}

/// The hash of a clip that is run as a whole.
fn whole(
    model: &Model<'_>,
    frames: usize,
    clip: &[u8],
    kernels: &'static dyn Kernels,
) -> Result<u64, String> {
    let options = Options {
        max_frames: Some(frames),
        kernels,
        ..Options::default()
    };
    let mut arena = vec![0; model.arena_bytes(frames)];
    let mut session = Session::new(model, &mut arena, options).map_err(|e| e.to_string())?;
    for (t, crop) in (0..).zip(clip.chunks(clip.len() / frames)) {
        session
            .push_crop(crop, 40_000 * t)
            .map_err(|e| e.to_string())?;
    }
    session.finish();
    Ok(fnv(FNV_START, session.logits()))
}

/// The same of a clip that is streamed.
fn streamed(
    model: &Model<'_>,
    chunks: Chunks,
    clip: &[u8],
    kernels: &'static dyn Kernels,
) -> Result<u64, String> {
    let options = stream::Options { chunks, kernels };
    let bytes = Stream::arena_bytes(model, &options).map_err(|e| e.to_string())?;
    let mut arena = vec![0; bytes];
    let mut stream = Stream::new(model, &mut arena, options).map_err(|e| e.to_string())?;
    let mut hash = FNV_START;
    let side = model.crop_side();
    for (t, crop) in (0..).zip(clip.chunks(side * side)) {
        let logits = stream.push_crop(crop, 40_000 * t);
        hash = fnv(hash, logits.map_err(|e| e.to_string())?);
    }
    let mut rest = stream.finish();
    loop {
        match rest.next() {
            [] => return Ok(hash),
            logits => hash = fnv(hash, logits),
        }
    }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(hash: u64, logits: &[f32]) -> u64 {
    let bytes = logits.iter().flat_map(|v| v.to_le_bytes());
    bytes.fold(hash, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A copy that lies at a multiple of 8, as not every heap gives bytes, and its length in bytes.
fn words(bytes: &[u8]) -> (Vec<u64>, usize) {
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    (words, bytes.len())
}
