//! The description of a trained model, written beside its weights.

use anyhow::{Context, Result};
use viseme_format::spec::{
    Activation, Conformer, Crop, Encoder, Family, Frontend, Modality, ModelSpec, Stage, TokenKind,
    Tokens, Weights,
};

use crate::data::PAD_VALUE;
use crate::model::{CONVS, SIDE, ops::NORM_EPS};
use crate::recipe::Recipe;

/// Frames a second that models are trained at.
pub const FPS: f32 = 25.0;
/// The mouth crop of Auto-AVSR, with a shorter smoothing window so that live text waits less.
pub const CROP: Crop = Crop {
    canvas: 256,
    patch: 96,
    size: SIDE as u32,
    mean: 0.421,
    std: 0.165,
    smooth: 2,
};
/// Longest utterance the exported model is planned for: 20 s.
const MAX_FRAMES: u32 = 500;

/// `spec.json` of a recipe's model.
pub fn json(recipe: &Recipe) -> Result<String> {
    let tokens = recipe.tokens();
    let stages: Vec<Stage> = CONVS
        .iter()
        .zip(recipe.model.channels)
        .map(|(&(kernel, stride, pad), channels)| Stage {
            channels: channels as u32,
            kernel: kernel as u32,
            stride: stride as u32,
            pad: pad as u32,
        })
        .collect();
    let m = &recipe.model;
    let spec = ModelSpec {
        name: &recipe.name,
        license: &recipe.license,
        training_data: &recipe.training_data,
        modality: Modality::Video,
        weights: Weights::F32,
        arena_bytes: 0,
        family: Family::Conformer(Conformer {
            fps: FPS,
            crop: CROP,
            frontend: Frontend::new(&stages, 3, u32::from(PAD_VALUE)).context("front-end")?,
            encoder: Encoder {
                blocks: m.blocks as u32,
                d_model: m.d_model as u32,
                heads: m.heads as u32,
                ff: m.ff as u32,
                conv_kernel: m.conv_kernel as u32,
                conv_left: m.conv_left as u32,
                att_left: -1,
                att_right: -1,
                ff_activation: Activation::Silu,
                norm_eps: NORM_EPS,
            },
            mel: None,
            max_frames: MAX_FRAMES,
            token_kind: TokenKind::Word,
            tokens: Tokens::from(tokens.as_slice()),
        }),
    };
    spec.to_json()
        .context("the recipe's dimensions are outside the model format's limits")
}
