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

/// A model and a clip.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What the golden file calls it: no spaces.
    pub name: &'static str,
    /// The model.
    pub model: Source,
    /// Length of the synthetic clip.
    pub frames: usize,
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
pub const CASES: [Case; 6] = [
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
];

const fn case(name: &'static str, model: Source, frames: usize) -> Case {
    Case {
        name,
        model,
        frames,
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
        let options = Options {
            max_frames: Some(self.frames),
            kernels,
        };
        let mut arena = vec![0; model.arena_bytes(self.frames)];
        let mut session = Session::new(&model, &mut arena, options).map_err(|e| e.to_string())?;
        let side = model.crop_side();
        for (t, crop) in crops(1, self.frames, side).chunks(side * side).enumerate() {
            let pushed = session.push_crop(crop, 40_000 * t as u64);
            pushed.map_err(|e| e.to_string())?;
        }
        session.finish();
        let bytes = session.logits().iter().flat_map(|v| v.to_le_bytes());
        Ok(bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
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

/// A copy that lies at a multiple of 8, as not every heap gives bytes, and its length in bytes.
fn words(bytes: &[u8]) -> (Vec<u64>, usize) {
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    (words, bytes.len())
}
