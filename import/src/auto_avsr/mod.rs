//! The Auto-AVSR recognisers, from their authors' checkpoints: video, audio, or both.
//!
//! Auto-AVSR (Ma, Haliassos, Fernandez-Lopez, Chen, Petridis and Pantic, "Auto-AVSR: Audio-Visual Speech Recognition with
//! Automatic Labels", ICASSP 2023) is published in two layouts. The *training* repository (github.com/mpc001/auto_avsr)
//! keeps `frontend.*` and `proj_encoder.*` beside the encoder; the *model zoo*
//! (github.com/mpc001/Visual_Speech_Recognition_for_Multiple_Languages) keeps them in `encoder.*`, has a second encoder
//! `aux_encoder.*` and `fusion.*` in audio-visual models, and a `model.json`. Either becomes the names below, with the
//! sizes found from the shapes. One thing has no shape: which relative positions an encoder was trained with
//! ([`Positions`]); a model of the zoo needs its `model.json` for that, or the caller's word.
//!
//! ## Tensors
//! B: block, S: stage of the ResNet from 0 to 3, U: unit from 0 to 1, P: `video` or `audio`. Elements keep their order.
//!
//! | name | shape |
//! |---|---|
//! | `P.frontend.stem.weight`, `.bn.{weight,bias,mean,var}` | W, 1, 5, 7, 7 (video) or W, 1, 80 (audio); W |
//! | `P.frontend.S.U.{conv1,conv2}.weight`, `.{bn1,bn2}.*` | C, Cin, 3, 3 or C, Cin, 3; C = W · 2^S |
//! | `P.frontend.S.0.down.weight`, `.down.bn.*` (S > 0) | C, Cin, 1, 1 or C, Cin, 1; C |
//! | `P.frontend.S.U.{act1,act2}.weight`, `audio.frontend.stem.act.weight` (PReLU only) | C; W |
//! | `P.proj.{weight,bias}` | D, 8 · W; D |
//! | `P.encoder.B.{ff1,ff2}.{norm,up,down}.{weight,bias}` | D; F, D and F; D, F and D |
//! | `P.encoder.B.att.norm.*`, `.{q,k,v,out}.*`, `.pos.weight`, `.{bias_u,bias_v}` | D; D, D and D; D, D; H, D / H |
//! | `P.encoder.B.conv.norm.*`, `.pointwise1.*`, `.pointwise2.*` | D; 2D, D and 2D; D, D and D |
//! | `P.encoder.B.conv.depthwise.*`, `.bn.*` | D, K and D; D |
//! | `P.encoder.B.norm.*`, `P.encoder.norm.*` | D |
//! | `fusion.{up,down}.*`, `fusion.bn.*` or `fusion.norm.*` | hidden, D + D and hidden; D, hidden and D; hidden |
//! | `decoder.embed.weight`, `decoder.output.*`, `ctc.*` | V, D; V, D and V |
//! | `decoder.B.{self,cross}.{norm,q,k,v,out}.*`, `decoder.B.ff.{norm,up,down}.*`, `decoder.norm.*` | as above |

mod compare;
mod model_json;
mod names;
mod plan;
mod sizes;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::ImportError;
use crate::checkpoint::Checkpoint;
use crate::error::shown;
use model_json::ModelJson;

/// What to read a checkpoint with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The model's `model.json`; else the one beside the checkpoint, if there is one.
    pub config: Option<PathBuf>,
    /// The relative positions of a model of the zoo. They go before what `model.json` says.
    pub positions: Option<Positions>,
}

/// The relative positions that attention of an encoder was trained with. Names and shapes of tensors are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// As in Transformer-XL: a table of 2T - 1 distances.
    Latest,
    /// ESPnet's first version: a table of T, in which distances to the future are wrong.
    Legacy,
}

/// Sizes of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The encoder of lips.
    pub video: Option<Branch>,
    /// The encoder of sound.
    pub audio: Option<Branch>,
    /// What joins both.
    pub fusion: Option<Fusion>,
    /// The attention decoder.
    pub decoder: Decoder,
    /// Number of tokens, with `<blank>` (the first) and `<eos>` (the last).
    pub vocabulary: usize,
}

/// A front-end and its conformer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Channels of the stem.
    pub width: usize,
    /// Length of a feature vector.
    pub d_model: usize,
    /// Attention heads.
    pub heads: usize,
    /// Inner length of the feed-forward parts.
    pub ff: usize,
    /// Conformer blocks.
    pub blocks: usize,
    /// Frames of the depthwise convolution.
    pub kernel: usize,
    /// Whether units of the ResNet end with PReLU instead of SiLU.
    pub prelu: bool,
    /// Which relative positions.
    pub positions: Positions,
}

/// The perceptron that joins both encoders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fusion {
    /// Its inner length.
    pub hidden: usize,
    /// Between its layers.
    pub norm: FusionNorm,
}

/// A norm of the fusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FusionNorm {
    /// With `fusion.bn.*`.
    BatchNorm,
    /// With `fusion.norm.*`.
    LayerNorm,
    /// Without either.
    None,
}

/// The attention decoder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decoder {
    /// Blocks.
    pub blocks: usize,
    /// Inner length of the feed-forward parts.
    pub ff: usize,
    /// Length of a feature vector.
    pub d_model: usize,
    /// Attention heads.
    pub heads: usize,
}

/// A model with its weights, which stay in the file until they are loaded.
#[derive(Debug)]
pub struct AutoAvsr {
    /// Sizes.
    pub config: Config,
    /// Weights by the names of this module.
    pub tensors: Tensors,
    /// The tokens by number, where `model.json` lists them: as many as the vocabulary has.
    pub char_list: Option<Vec<String>>,
}

/// Tensors by their names here.
#[derive(Debug)]
pub struct Tensors {
    checkpoint: Checkpoint,
    entries: BTreeMap<String, Tensor>,
}

/// A tensor: its name in the checkpoint, and its shape here.
#[derive(Debug)]
struct Tensor {
    source: String,
    shape: Vec<usize>,
}

/// Reads a checkpoint, and the `model.json` that belongs to it.
///
/// # Errors
/// As [`Checkpoint::open`] and [`from_checkpoint`]. Errors are about the checkpoint, unless they name `model.json`.
pub fn read(path: &Path, options: &Options) -> Result<AutoAvsr, ImportError> {
    let checkpoint = Checkpoint::open(path)?;
    let beside = path.with_file_name("model.json");
    let config = options
        .config
        .clone()
        .or(beside.is_file().then_some(beside));
    let model_json = config.as_deref().map(text).transpose()?;
    from_checkpoint(checkpoint, model_json.as_deref(), options.positions)
}

/// A model from its tensors and the text of its `model.json`.
///
/// # Errors
/// [`ImportError::WrongModel`] when it is another model (naming it), lacks tensors or has others, when a shape is wrong or
/// `model.json` contradicts it; [`ImportError::Unsupported`] when positions are not known, or are of another kind.
pub fn from_checkpoint(
    checkpoint: Checkpoint,
    model_json: Option<&str>,
    positions: Option<Positions>,
) -> Result<AutoAvsr, ImportError> {
    let model_json = model_json.map(ModelJson::parse).transpose()?;
    let source = names::Source::of(&checkpoint)?;
    let (config, layout) = sizes::config(&source, model_json.as_ref(), positions)?;
    let needed = plan::tensors(&config, &layout);
    compare::compare(&source, &needed)?;
    if let Some(json) = &model_json {
        json.check(&config)?;
    }
    let entries = needed
        .into_iter()
        .map(|tensor| {
            let source = source.raw(&tensor.source).to_owned();
            let shape = tensor.shape;
            (tensor.name, Tensor { source, shape })
        })
        .collect();
    let char_list = model_json.and_then(|json| json.char_list);
    Ok(AutoAvsr {
        config,
        tensors: Tensors {
            checkpoint,
            entries,
        },
        char_list,
    })
}

impl Tensors {
    /// Names and shapes, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let entries = self.entries.iter();
        entries.map(|(name, tensor)| (name.as_str(), tensor.shape.as_slice()))
    }

    /// The shape of a tensor, outermost first.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|tensor| tensor.shape.as_slice())
    }

    /// A tensor's name in the checkpoint.
    pub fn source(&self, name: &str) -> Option<&str> {
        self.entries.get(name).map(|tensor| tensor.source.as_str())
    }

    /// The values of a tensor, row-major.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn load(&self, name: &str) -> Result<Vec<f32>, ImportError> {
        let missing =
            || ImportError::WrongModel(format!("this model has no tensor {}", shown(name)));
        let tensor = self.entries.get(name).ok_or_else(missing)?;
        self.checkpoint.load(&tensor.source)
    }
}

/// The text of a `model.json`.
fn text(path: &Path) -> Result<String, ImportError> {
    const MOST_BYTES: u64 = 16 << 20;
    let mut text = String::new();
    let file = std::fs::File::open(path);
    let length = file.and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text));
    match length {
        Ok(length) if length as u64 <= MOST_BYTES => Ok(text),
        Ok(_) => Err(ImportError::Unsupported(
            "model.json has more than 16 MB; give the one that belongs to the checkpoint".into(),
        )),
        Err(e) => Err(ImportError::Io(format!(
            "model.json cannot be read: {e}; check --config"
        ))),
    }
}
