//! The sizes of a model, from the shapes of its tensors.

use super::compare::nearest;
use super::model_json::ModelJson;
use super::names::Source;
use super::{Branch, Config, Decoder, Fusion, FusionNorm, Positions};
use crate::ImportError;
use crate::error::shown;

/// Where the parts of a branch are in the checkpoint.
#[derive(Debug, Clone)]
pub struct BranchLayout {
    /// Before the front-end's names.
    pub frontend: String,
    /// The projection.
    pub proj: String,
    /// Before the conformer's names.
    pub encoder: String,
}

/// Where the parts of a model are in the checkpoint.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// The encoder of lips.
    pub video: Option<BranchLayout>,
    /// The encoder of sound.
    pub audio: Option<BranchLayout>,
}

/// Sizes are at most this, far above any model.
const MOST: usize = 1 << 16;

/// The sizes of a model, and where its parts are.
///
/// # Errors
/// As [`super::from_checkpoint`].
pub fn config(
    source: &Source<'_>,
    model_json: Option<&ModelJson>,
    positions: Option<Positions>,
) -> Result<(Config, Layout), ImportError> {
    let mut config = Config::default();
    let mut layout = Layout::default();
    match source.begins("encoder.frontend.") {
        true => zoo(source, model_json, positions, &mut config, &mut layout)?,
        false => training(source, positions, &mut config, &mut layout)?,
    }
    if config.video.is_some() && config.audio.is_some() {
        let norm = if source.begins("fusion.bn1.") {
            FusionNorm::BatchNorm
        } else if source.begins("fusion.norm1.") {
            FusionNorm::LayerNorm
        } else {
            FusionNorm::None
        };
        let hidden = dim(source, "fusion.fc1.weight", 0, 2)?;
        config.fusion = Some(Fusion { hidden, norm });
    }
    let main = config.video.as_ref().or(config.audio.as_ref());
    let heads = main.map_or(0, |main| main.heads);
    config.vocabulary = dim(source, "decoder.embed.0.weight", 0, 2)?;
    config.decoder = Decoder {
        blocks: source.blocks("decoder.decoders."),
        ff: dim(source, "decoder.decoders.0.feed_forward.w_1.weight", 0, 2)?,
        d_model: dim(source, "decoder.embed.0.weight", 1, 2)?,
        // No shape has them; without a number of its own the decoder has the first encoder's.
        heads: model_json
            .and_then(ModelJson::decoder_heads)
            .unwrap_or(heads),
    };
    let (d, heads) = (config.decoder.d_model, config.decoder.heads);
    if heads == 0 || !d.is_multiple_of(heads) {
        return Err(wrong(format!(
            "{heads} attention heads do not divide the decoder's {d} features; give the model.json of this checkpoint"
        )));
    }
    Ok((config, layout))
}

const NEVER_LEGACY: &str = "this checkpoint has the layout of Auto-AVSR's training repository, whose positions are never \
     legacy; leave out --positions";
const NO_POSITIONS: &str = "checkpoints of the model zoo do not say which relative positions they have; add --config \
     model.json (it is published beside the checkpoint), or --positions latest|legacy";
const SOUND_FIRST: &str = "the first encoder of this checkpoint hears and the second sees; only the other order is supported";
const SAME_KIND: &str = "both encoders of this checkpoint have the same kind of front-end, which no Auto-AVSR model has";

/// The one branch of the training repository's layout.
fn training(
    source: &Source<'_>,
    positions: Option<Positions>,
    config: &mut Config,
    layout: &mut Layout,
) -> Result<(), ImportError> {
    if positions == Some(Positions::Legacy) {
        return Err(wrong(NEVER_LEGACY));
    }
    let place = BranchLayout {
        frontend: "frontend.".into(),
        proj: "proj_encoder".into(),
        encoder: "encoder.".into(),
    };
    add(source, place, Positions::Latest, config, layout)
}

/// The one or two branches of the zoo's layout.
fn zoo(
    source: &Source<'_>,
    model_json: Option<&ModelJson>,
    positions: Option<Positions>,
    config: &mut Config,
    layout: &mut Layout,
) -> Result<(), ImportError> {
    for (encoder, is_second) in [("encoder.", false), ("aux_encoder.", true)] {
        if is_second && !source.begins(encoder) {
            continue;
        }
        let positions = match (positions, model_json) {
            (Some(positions), _) => positions,
            (None, Some(json)) => json.positions(is_second)?,
            (None, None) => return Err(ImportError::Unsupported(NO_POSITIONS.into())),
        };
        let place = BranchLayout {
            frontend: format!("{encoder}frontend."),
            proj: format!("{encoder}embed.0"),
            encoder: encoder.into(),
        };
        add(source, place, positions, config, layout)?;
        let sees = |video: &BranchLayout| video.encoder == encoder;
        if is_second && layout.video.as_ref().is_some_and(sees) {
            return Err(ImportError::Unsupported(SOUND_FIRST.into()));
        }
    }
    Ok(())
}

/// Puts a branch where its front-end says that it belongs.
fn add(
    source: &Source<'_>,
    place: BranchLayout,
    positions: Positions,
    config: &mut Config,
    layout: &mut Layout,
) -> Result<(), ImportError> {
    let video_stem = format!("{}frontend3D.", place.frontend);
    let is_video = source.begins(&video_stem);
    let (stem, rank) = match is_video {
        true => (format!("{video_stem}0.weight"), 5),
        false => (format!("{}trunk.conv1.weight", place.frontend), 3),
    };
    let block = format!("{}encoders.0.", place.encoder);
    let depthwise = format!("{block}conv_module.depthwise_conv.weight");
    let branch = Branch {
        width: dim(source, &stem, 0, rank)?,
        d_model: dim(source, &format!("{}.weight", place.proj), 0, 2)?,
        heads: dim(source, &format!("{block}self_attn.pos_bias_u"), 0, 2)?,
        ff: dim(source, &format!("{block}feed_forward.w_1.weight"), 0, 2)?,
        blocks: source.blocks(&format!("{}encoders.", place.encoder)),
        kernel: dim(source, &depthwise, 2, 3)?,
        prelu: source.has(&format!("{}trunk.layer1.0.relu1.weight", place.frontend)),
        positions,
    };
    let (d, heads, kernel) = (branch.d_model, branch.heads, branch.kernel);
    if !d.is_multiple_of(heads) || kernel.is_multiple_of(2) {
        return Err(wrong(format!(
            "an encoder of {d} features, {heads} heads and a kernel of {kernel}, as this checkpoint has, cannot be; fetch it \
             again"
        )));
    }
    let (branch_of, layout_of) = match is_video {
        true => (&mut config.video, &mut layout.video),
        false => (&mut config.audio, &mut layout.audio),
    };
    if branch_of.is_some() {
        return Err(wrong(SAME_KIND));
    }
    (*branch_of, *layout_of) = (Some(branch), Some(place));
    Ok(())
}

/// A size of a tensor that has to be there.
fn dim(source: &Source<'_>, name: &str, dim: usize, rank: usize) -> Result<usize, ImportError> {
    let Some(info) = source.info(name) else {
        let similar = nearest(name, source.names());
        let similar = similar.map_or(String::new(), |other| {
            format!(" (is {} meant?)", shown(other))
        });
        return Err(wrong(format!(
            "this checkpoint has no {name}{similar}, so it is no complete Auto-AVSR model; fetch it again"
        )));
    };
    let size = info
        .shape
        .get(dim)
        .copied()
        .filter(|_| info.shape.len() == rank);
    size.filter(|size| (1..=MOST).contains(size))
        .ok_or_else(|| {
            wrong(format!(
                "{name} of this checkpoint has shape {:?}, which no Auto-AVSR model has",
                info.shape
            ))
        })
}

fn wrong(what: impl Into<String>) -> ImportError {
    ImportError::WrongModel(what.into())
}
