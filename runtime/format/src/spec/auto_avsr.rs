//! `viseme-auto-avsr`: models of Auto-AVSR (Ma et al., "Auto-AVSR: Audio-Visual Speech Recognition with Automatic Labels",
//! 2023; github.com/mpc001/auto_avsr): ResNet front-ends, conformer encoders, a transformer decoder beside CTC.

use super::check::{check_crop, check_tokens, ensure};
use super::fields::{Source, choice, need};
use super::*;

/// Sound samples a second.
pub const SAMPLE_RATE: u32 = 16_000;

/// Sound samples of a video frame.
pub const FRAME_SAMPLES: u32 = 640;

/// Vectors of the audio front-end that are averaged to that of a frame.
pub const AUDIO_POOL: usize = 20;

/// Epsilon of the layer norms in encoders and decoder.
pub const NORM_EPS: f32 = 1e-12;

/// Epsilon of the layer norm in the fusion.
pub const FUSION_EPS: f32 = 1e-5;

/// Rows of the table of [`Positions::Legacy`], unless an utterance is longer.
pub const LEGACY_LENGTH: usize = 5000;

/// The geometry of the original (facts of its `preparation` folder): 96 pixels around the mouth on a canvas of 256, of
/// which a model sees 88.
pub const CROP: Crop = Crop {
    canvas: 256,
    patch: 96,
    size: 88,
    mean: 0.421,
    std: 0.165,
    smooth: 6,
};

/// A model of family `viseme-auto-avsr`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AutoAvsr<'a> {
    /// Geometry and scaling of the mouth crop.
    pub crop: Crop,
    /// What makes vectors of pictures.
    pub video: Option<Branch>,
    /// What makes vectors of sound.
    pub audio: Option<Branch>,
    /// What joins them; present exactly when both are.
    pub fusion: Option<Fusion>,
    /// From vectors to tokens.
    pub decoder: TransformerDecoder,
    /// Longest utterance, in frames of 1/25 s.
    pub max_frames: u32,
    /// The vocabulary; index 0 is [`BLANK`], the last one begins and ends a sentence.
    pub tokens: Tokens<'a>,
}

/// `viseme.video.*`, `viseme.audio.*`: a ResNet-18 front-end and a conformer encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Channels of the stem; the stages have 1, 2, 4 and 8 times as many.
    pub width: u32,
    /// Non-linearity of the residual blocks.
    pub trunk: Trunk,
    /// Width of the residual stream.
    pub d_model: u32,
    /// Attention heads; divides `d_model`.
    pub heads: u32,
    /// Inner width of the feed-forward layers.
    pub ff: u32,
    /// Conformer blocks.
    pub blocks: u32,
    /// Width of the depthwise convolution, in frames; odd, its middle is the current frame.
    pub conv_kernel: u32,
    /// How attention counts distances.
    pub positions: Positions,
}

/// `viseme.*.trunk`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trunk {
    /// x · sigmoid(x).
    Silu,
    /// x, times a trained factor where it is negative (He et al., "Delving Deep into Rectifiers", 2015).
    Prelu,
}

/// `viseme.*.positions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// By the distance from query to key (Transformer-XL).
    Latest,
    /// As ESPnet's first version did, whose table is not aligned with the queries.
    Legacy,
}

/// `viseme.fusion.*`: a perceptron over the vectors of both branches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fusion {
    /// Inner width.
    pub hidden: u32,
    /// What follows the first layer, before the ReLU.
    pub norm: FusionNorm,
}

/// `viseme.fusion.norm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FusionNorm {
    /// Nothing.
    None,
    /// x · weight + bias: a batch norm, as it is at evaluation.
    Batch,
    /// A layer norm.
    Layer,
}

/// `viseme.decoder.*`: a pre-norm transformer decoder (Vaswani et al. 2017).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransformerDecoder {
    /// Width of the residual stream, and of the vectors it attends to.
    pub d_model: u32,
    /// Attention heads; divides `d_model`.
    pub heads: u32,
    /// Inner width of the feed-forward layers.
    pub ff: u32,
    /// Blocks.
    pub blocks: u32,
}

impl AutoAvsr<'_> {
    /// The branches there are, with the prefix of their tensors.
    pub fn branches(&self) -> impl Iterator<Item = (&'static str, &Branch)> {
        let video = self.video.as_ref().map(|branch| ("video", branch));
        let audio = self.audio.as_ref().map(|branch| ("audio", branch));
        video.into_iter().chain(audio)
    }

    /// What the model perceives.
    pub fn modality(&self) -> Modality {
        match (&self.video, &self.audio) {
            (Some(_), Some(_)) => Modality::AudioVideo,
            (None, Some(_)) => Modality::Audio,
            _ => Modality::Video,
        }
    }
}

/// The keys of one branch.
struct Keys {
    width: &'static str,
    trunk: &'static str,
    d_model: &'static str,
    heads: &'static str,
    ff: &'static str,
    blocks: &'static str,
    conv_kernel: &'static str,
    positions: &'static str,
}

const VIDEO: Keys = Keys {
    width: "viseme.video.width",
    trunk: "viseme.video.trunk",
    d_model: "viseme.video.d_model",
    heads: "viseme.video.heads",
    ff: "viseme.video.ff",
    blocks: "viseme.video.blocks",
    conv_kernel: "viseme.video.conv_kernel",
    positions: "viseme.video.positions",
};

const AUDIO: Keys = Keys {
    width: "viseme.audio.width",
    trunk: "viseme.audio.trunk",
    d_model: "viseme.audio.d_model",
    heads: "viseme.audio.heads",
    ff: "viseme.audio.ff",
    blocks: "viseme.audio.blocks",
    conv_kernel: "viseme.audio.conv_kernel",
    positions: "viseme.audio.positions",
};

const TRUNKS: [(&str, Trunk); 2] = [("silu", Trunk::Silu), ("prelu", Trunk::Prelu)];
const POSITIONS: [(&str, Positions); 2] =
    [("latest", Positions::Latest), ("legacy", Positions::Legacy)];
const NORMS: [(&str, FusionNorm); 3] = [
    ("none", FusionNorm::None),
    ("batch", FusionNorm::Batch),
    ("layer", FusionNorm::Layer),
];

pub(super) fn read<'a>(source: &impl Source<'a>) -> Result<AutoAvsr<'a>, SpecError> {
    let u32 = |key| need(key, |key| source.u32(key));
    let fusion = match source.u32("viseme.fusion.hidden")? {
        None => None,
        Some(hidden) => Some(Fusion {
            hidden,
            norm: choice(source, "viseme.fusion.norm", &NORMS, "none, batch or layer")?,
        }),
    };
    Ok(AutoAvsr {
        crop: fields::read_crop(source)?,
        video: read_branch(source, &VIDEO)?,
        audio: read_branch(source, &AUDIO)?,
        fusion,
        decoder: TransformerDecoder {
            d_model: u32("viseme.decoder.d_model")?,
            heads: u32("viseme.decoder.heads")?,
            ff: u32("viseme.decoder.ff")?,
            blocks: u32("viseme.decoder.blocks")?,
        },
        max_frames: u32("viseme.max_frames")?,
        tokens: need("viseme.tokens.list", |key| source.tokens(key))?,
    })
}

fn read_branch<'a>(source: &impl Source<'a>, keys: &Keys) -> Result<Option<Branch>, SpecError> {
    let Some(width) = source.u32(keys.width)? else {
        return Ok(None);
    };
    let u32 = |key| need(key, |key| source.u32(key));
    Ok(Some(Branch {
        width,
        trunk: choice(source, keys.trunk, &TRUNKS, "silu or prelu")?,
        d_model: u32(keys.d_model)?,
        heads: u32(keys.heads)?,
        ff: u32(keys.ff)?,
        blocks: u32(keys.blocks)?,
        conv_kernel: u32(keys.conv_kernel)?,
        positions: choice(source, keys.positions, &POSITIONS, "latest or legacy")?,
    }))
}

#[cfg(feature = "alloc")]
pub(super) fn write(model: &AutoAvsr<'_>, sink: &mut impl fields::Sink) -> Result<(), WriteError> {
    sink.u32("viseme.max_frames", model.max_frames)?;
    fields::write_crop(&model.crop, sink)?;
    for (keys, branch) in [(&VIDEO, &model.video), (&AUDIO, &model.audio)] {
        if let Some(branch) = branch {
            sink.u32(keys.width, branch.width)?;
            sink.str(keys.trunk, fields::text(&TRUNKS, branch.trunk))?;
            sink.u32(keys.d_model, branch.d_model)?;
            sink.u32(keys.heads, branch.heads)?;
            sink.u32(keys.ff, branch.ff)?;
            sink.u32(keys.blocks, branch.blocks)?;
            sink.u32(keys.conv_kernel, branch.conv_kernel)?;
            sink.str(keys.positions, fields::text(&POSITIONS, branch.positions))?;
        }
    }
    if let Some(fusion) = &model.fusion {
        sink.u32("viseme.fusion.hidden", fusion.hidden)?;
        sink.str("viseme.fusion.norm", fields::text(&NORMS, fusion.norm))?;
    }
    sink.u32("viseme.decoder.d_model", model.decoder.d_model)?;
    sink.u32("viseme.decoder.heads", model.decoder.heads)?;
    sink.u32("viseme.decoder.ff", model.decoder.ff)?;
    sink.u32("viseme.decoder.blocks", model.decoder.blocks)?;
    sink.tokens("viseme.tokens.list", &model.tokens)
}

/// Checks all ranges.
pub(super) fn check(model: &AutoAvsr<'_>, modality: Modality) -> Result<(), SpecError> {
    let max = (1..=8192).contains(&model.max_frames);
    ensure(max, "viseme.max_frames", "1 to 8192")?;
    check_crop(&model.crop)?;
    for (keys, branch) in [(&VIDEO, &model.video), (&AUDIO, &model.audio)] {
        if let Some(branch) = branch {
            check_branch(branch, keys)?;
        }
    }
    let d = &model.decoder;
    check_widths(
        [d.d_model, d.heads, d.ff, d.blocks],
        [
            "viseme.decoder.d_model",
            "viseme.decoder.heads",
            "viseme.decoder.ff",
            "viseme.decoder.blocks",
        ],
    )?;
    if model.video.is_none() && model.audio.is_none() {
        return Err(SpecError::Missing(VIDEO.width));
    }
    ensure(
        modality == model.modality(),
        "viseme.modality",
        "that of the branches",
    )?;
    let widths: u32 = model.branches().map(|(_, branch)| branch.d_model).sum();
    match &model.fusion {
        Some(fusion) => {
            ensure(
                model.modality() == Modality::AudioVideo,
                "viseme.fusion.hidden",
                "absent from a model of one modality",
            )?;
            ensure(
                (1..=32_768).contains(&fusion.hidden),
                "viseme.fusion.hidden",
                "1 to 32768",
            )?;
        }
        None => {
            if model.modality() == Modality::AudioVideo {
                return Err(SpecError::Missing("viseme.fusion.hidden"));
            }
            ensure(
                widths == d.d_model,
                "viseme.decoder.d_model",
                "as wide as the encoder",
            )?;
        }
    }
    check_tokens(&model.tokens)
}

fn check_branch(b: &Branch, keys: &Keys) -> Result<(), SpecError> {
    ensure((1..=256).contains(&b.width), keys.width, "1 to 256")?;
    check_widths(
        [b.d_model, b.heads, b.ff, b.blocks],
        [keys.d_model, keys.heads, keys.ff, keys.blocks],
    )?;
    ensure(
        b.conv_kernel % 2 == 1 && b.conv_kernel <= 255,
        keys.conv_kernel,
        "odd and at most 255",
    )
}

fn check_widths(
    [d_model, heads, ff, blocks]: [u32; 4],
    keys: [&'static str; 4],
) -> Result<(), SpecError> {
    let even = (2..=4096).contains(&d_model) && d_model.is_multiple_of(2);
    ensure(even, keys[0], "even, 2 to 4096")?;
    let divides = (1..=64).contains(&heads) && d_model.is_multiple_of(heads);
    ensure(divides, keys[1], "1 to 64 and a divisor of the model width")?;
    ensure((1..=32_768).contains(&ff), keys[2], "1 to 32768")?;
    ensure((1..=64).contains(&blocks), keys[3], "1 to 64")
}
