//! The tensors of a model of Auto-AVSR: the table of `SPEC.md`, section "Tensors of `viseme-auto-avsr`", as code.

use core::fmt::Arguments;

use super::{BlockDims, Part, Visit, batch_norm, encoder_block, linear, norm, stored_parts};
use crate::gguf::DType;
use crate::names::TensorName;
use crate::spec::Weights;
use crate::spec::auto_avsr::{AutoAvsr, Branch, FusionNorm, Trunk};

/// Stages of a ResNet-18.
pub const STAGES: usize = 4;

/// Residual blocks of a stage.
pub const UNITS: usize = 2;

/// Height, width and frames of the kernel that sees pictures.
pub const VIDEO_STEM: [usize; 3] = [7, 7, 5];

/// Samples of the kernel that hears.
pub const AUDIO_STEM: usize = 80;

/// Visits every tensor of a model file, as [`layout::model`](super::model) does.
///
/// # Errors
/// The first error of `visit`, which ends the walk.
pub fn model<E>(
    spec: &AutoAvsr<'_>,
    weights: Weights,
    mut visit: impl FnMut(&str, &[usize], DType) -> Result<(), E>,
) -> Result<(), E> {
    walk(spec, &mut |name, shape, part| {
        stored_parts(weights, name, shape, part, &mut visit)
    })
}

/// Channels that go into and come out of a residual block, and how far its first convolution strides.
pub fn unit(width: usize, stage: usize, unit: usize) -> (usize, usize, usize) {
    let outputs = width << stage;
    match (stage, unit) {
        (0, _) | (_, 1..) => (outputs, outputs, 1),
        (_, 0) => (outputs / 2, outputs, 2),
    }
}

fn walk<E>(spec: &AutoAvsr<'_>, visit: &mut Visit<'_, E>) -> Result<(), E> {
    for (prefix, branch) in spec.branches() {
        frontend(prefix, branch, visit)?;
        let d = branch.d_model as usize;
        linear(
            format_args!("{prefix}.proj"),
            d,
            8 * branch.width as usize,
            visit,
        )?;
        let dims = BlockDims {
            d,
            ff: branch.ff as usize,
            heads: branch.heads as usize,
            kernel: branch.conv_kernel as usize,
        };
        for b in 0..branch.blocks {
            let stem = format_args!("{prefix}.encoder.{b}");
            encoder_block(stem, dims, Part::Matrix, visit)?;
        }
        norm(format_args!("{prefix}.encoder.norm"), d, visit)?;
    }
    let d = spec.decoder.d_model as usize;
    if let Some(fusion) = &spec.fusion {
        let inputs: u32 = spec.branches().map(|(_, branch)| branch.d_model).sum();
        let hidden = fusion.hidden as usize;
        linear(format_args!("fusion.up"), hidden, inputs as usize, visit)?;
        if fusion.norm != FusionNorm::None {
            norm(format_args!("fusion.norm"), hidden, visit)?;
        }
        linear(format_args!("fusion.down"), d, hidden, visit)?;
    }
    decoder(spec, visit)?;
    linear(format_args!("ctc"), spec.tokens.len(), d, visit)
}

fn frontend<E>(prefix: &str, branch: &Branch, visit: &mut Visit<'_, E>) -> Result<(), E> {
    let width = branch.width as usize;
    let is_video = prefix == "video";
    let stem = TensorName::new(format_args!("{prefix}.frontend.stem.weight"));
    if is_video {
        let [height, side, frames] = VIDEO_STEM;
        visit(&stem, &[width, height, side, frames], Part::Matrix)?;
    } else {
        // Sound in eight bits would be too coarse, and this is a thousandth of the work.
        visit(&stem, &[width, AUDIO_STEM], Part::Vector)?;
    }
    bias(format_args!("{prefix}.frontend.stem"), width, visit)?;
    batch_norm(format_args!("{prefix}.frontend.stem.bn"), width, visit)?;
    if branch.trunk == Trunk::Prelu && !is_video {
        let name = TensorName::new(format_args!("{prefix}.frontend.stem.act.weight"));
        visit(&name, &[width], Part::Vector)?;
    }
    for stage in 0..STAGES {
        for u in 0..UNITS {
            let (inputs, outputs, stride) = unit(width, stage, u);
            let stem = format_args!("{prefix}.frontend.{stage}.{u}");
            convolution(
                format_args!("{stem}.conv1"),
                outputs,
                inputs,
                is_video,
                visit,
            )?;
            batch_norm(format_args!("{stem}.bn1"), outputs, visit)?;
            convolution(
                format_args!("{stem}.conv2"),
                outputs,
                outputs,
                is_video,
                visit,
            )?;
            batch_norm(format_args!("{stem}.bn2"), outputs, visit)?;
            if stride > 1 {
                linear(format_args!("{stem}.down"), outputs, inputs, visit)?;
                batch_norm(format_args!("{stem}.down.bn"), outputs, visit)?;
            }
            if branch.trunk == Trunk::Prelu {
                for act in ["act1", "act2"] {
                    let name = TensorName::new(format_args!("{stem}.{act}.weight"));
                    visit(&name, &[outputs], Part::Vector)?;
                }
            }
        }
    }
    Ok(())
}

fn decoder<E>(spec: &AutoAvsr<'_>, visit: &mut Visit<'_, E>) -> Result<(), E> {
    let (d, ff) = (spec.decoder.d_model as usize, spec.decoder.ff as usize);
    let vocabulary = spec.tokens.len();
    visit("decoder.embed.weight", &[vocabulary, d], Part::Vector)?;
    for b in 0..spec.decoder.blocks {
        for attention in ["self", "cross"] {
            norm(format_args!("decoder.{b}.{attention}.norm"), d, visit)?;
            for projection in ["q", "k", "v", "out"] {
                let stem = format_args!("decoder.{b}.{attention}.{projection}");
                linear(stem, d, d, visit)?;
            }
        }
        norm(format_args!("decoder.{b}.ff.norm"), d, visit)?;
        linear(format_args!("decoder.{b}.ff.up"), ff, d, visit)?;
        linear(format_args!("decoder.{b}.ff.down"), d, ff, visit)?;
    }
    norm(format_args!("decoder.norm"), d, visit)?;
    linear(format_args!("decoder.output"), vocabulary, d, visit)
}

/// A convolution of 3 by 3 pixels, or of 3 samples.
fn convolution<E>(
    stem: Arguments<'_>,
    outputs: usize,
    inputs: usize,
    is_video: bool,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    let name = TensorName::new(format_args!("{stem}.weight"));
    if is_video {
        visit(&name, &[outputs, 3, 3, inputs], Part::Matrix)?;
    } else {
        visit(&name, &[outputs, 3, inputs], Part::Matrix)?;
    }
    bias(stem, outputs, visit)
}

fn bias<E>(stem: Arguments<'_>, outputs: usize, visit: &mut Visit<'_, E>) -> Result<(), E> {
    let name = TensorName::new(format_args!("{stem}.bias"));
    visit(&name, &[outputs], Part::Folded)
}
