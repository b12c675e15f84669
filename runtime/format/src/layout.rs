//! Which tensors a recogniser has: the table of `SPEC.md`, section "Tensors", as code.
//!
//! The trainer writes the names and shapes of [`checkpoint`], the quantiser turns them into those of [`model`], and
//! the engine refuses a file that lacks one of the latter. Shapes are row-major, outermost first.

use crate::gguf::DType;
use crate::names::TensorName;
use crate::panels;
use crate::spec::{Conformer, Weights};

/// Visits every tensor of a trainer checkpoint; all are F32.
///
/// The spec must have passed its check, or shapes of 0 may come out.
///
/// # Errors
/// The first error of `visit`, which ends the walk.
pub fn checkpoint<E>(
    spec: &Conformer<'_>,
    mut visit: impl FnMut(&str, &[usize]) -> Result<(), E>,
) -> Result<(), E> {
    walk(spec, &mut |name, shape, part| match part {
        Part::Folded => Ok(()),
        Part::Matrix | Part::Vector | Part::BatchNorm => visit(name, shape),
        Part::Taps => match *shape {
            [kernel, channels] => visit(name, &[channels, kernel]),
            _ => visit(name, shape),
        },
    })
}

/// Visits every tensor of a model file.
///
/// With [`Weights::Int8`] a matrix `X.weight` is I8, its shape that of its [`panels`], and is followed by `X.scale`
/// (F32) and `X.colsum` (I32), one element per output. With [`Weights::Int4`] that holds too, but those matrices that
/// are [`stored`] in four bits have the shape of [`panels::int4`].
///
/// # Errors
/// The first error of `visit`, which ends the walk.
pub fn model<E>(
    spec: &Conformer<'_>,
    weights: Weights,
    mut visit: impl FnMut(&str, &[usize], DType) -> Result<(), E>,
) -> Result<(), E> {
    walk(
        spec,
        &mut |name, shape, part| match (part, stored(weights, name)) {
            (Part::BatchNorm, _) => Ok(()),
            (Part::Matrix, stored @ (Weights::Int8 | Weights::Int4)) => {
                let stem = name.strip_suffix("weight").unwrap_or(name);
                let rows = &shape[..1];
                let inputs = shape[1..].iter().product();
                let packed = match stored {
                    Weights::Int4 => panels::int4::shape(shape[0], inputs),
                    _ => panels::shape(shape[0], inputs),
                };
                visit(name, &packed, DType::I8)?;
                visit(
                    &TensorName::new(format_args!("{stem}scale")),
                    rows,
                    DType::F32,
                )?;
                visit(
                    &TensorName::new(format_args!("{stem}colsum")),
                    rows,
                    DType::I32,
                )
            }
            (Part::Matrix, Weights::F32) | (Part::Vector | Part::Taps | Part::Folded, _) => {
                visit(name, shape, DType::F32)
            }
        },
    )
}

/// How a model of these weights stores the matrix of this name (or of a name that begins so): in an int4 model only the
/// encoder's blocks have four bits (`SPEC.md`, section 3).
pub fn stored(weights: Weights, name: &str) -> Weights {
    match weights {
        Weights::Int4 if !name.starts_with("encoder.") => Weights::Int8,
        weights => weights,
    }
}

/// Visits the matrices: those tensors that have fewer bits than a float in an int8 or int4 model. A trainer can round
/// them as an exporter will; folding a batch norm only multiplies whole rows.
///
/// # Errors
/// The first error of `visit`, which ends the walk.
pub fn matrices<E>(
    spec: &Conformer<'_>,
    mut visit: impl FnMut(&str, &[usize]) -> Result<(), E>,
) -> Result<(), E> {
    walk(spec, &mut |name, shape, part| match part {
        Part::Matrix => visit(name, shape),
        Part::Vector | Part::Taps | Part::BatchNorm | Part::Folded => Ok(()),
    })
}

/// The largest code of a quantised matrix: 127, or 7 in four bits; `None` for one that stays F32.
pub fn top(stored: Weights) -> Option<i8> {
    match stored {
        Weights::F32 => None,
        Weights::Int8 => Some(i8::MAX),
        Weights::Int4 => Some(panels::int4::MAX),
    }
}

/// What becomes of a tensor between checkpoint and model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Quantised in rows when the model is int8 or int4.
    Matrix,
    /// Always F32.
    Vector,
    /// Always F32; transposed: [channels, kernel] in a checkpoint, [kernel, channels] in a model.
    Taps,
    /// In checkpoints only: folded into the neighbouring weights.
    BatchNorm,
    /// In models only: the bias that folding a batch norm leaves behind.
    Folded,
}

/// Receives the name, the shape and the fate of each tensor.
type Visit<'v, E> = dyn FnMut(&str, &[usize], Part) -> Result<(), E> + 'v;

fn walk<E>(spec: &Conformer<'_>, visit: &mut Visit<'_, E>) -> Result<(), E> {
    let d = spec.encoder.d_model as usize;
    frontend(spec, visit)?;
    for block in 0..spec.encoder.blocks {
        encoder_block(spec, block, visit)?;
    }
    norm(format_args!("encoder.norm"), d, visit)?;
    linear(format_args!("ctc"), spec.tokens.len(), d, visit)
}

fn frontend<E>(spec: &Conformer<'_>, visit: &mut Visit<'_, E>) -> Result<(), E> {
    let mut inputs = spec.frontend.frames as usize;
    for (index, stage) in spec.frontend.stages().iter().enumerate() {
        let (outputs, side) = (stage.channels as usize, stage.kernel as usize);
        let weight = TensorName::new(format_args!("frontend.conv.{index}.weight"));
        visit(&weight, &[outputs, side, side, inputs], Part::Matrix)?;
        visit(
            &TensorName::new(format_args!("frontend.conv.{index}.bias")),
            &[outputs],
            Part::Folded,
        )?;
        batch_norm(format_args!("frontend.bn.{index}"), outputs, visit)?;
        inputs = outputs;
    }
    let features = spec.frontend.features(spec.crop.size).unwrap_or(0) as usize;
    linear(
        format_args!("frontend.proj"),
        spec.encoder.d_model as usize,
        features,
        visit,
    )
}

fn encoder_block<E>(spec: &Conformer<'_>, b: u32, visit: &mut Visit<'_, E>) -> Result<(), E> {
    let e = &spec.encoder;
    let (d, ff, kernel) = (e.d_model as usize, e.ff as usize, e.conv_kernel as usize);
    let (heads, head_dim) = (e.heads as usize, e.head_dim() as usize);

    for half in ["ff1", "ff2"] {
        norm(format_args!("encoder.{b}.{half}.norm"), d, visit)?;
        linear(format_args!("encoder.{b}.{half}.up"), ff, d, visit)?;
        linear(format_args!("encoder.{b}.{half}.down"), d, ff, visit)?;
    }

    norm(format_args!("encoder.{b}.att.norm"), d, visit)?;
    for projection in ["q", "k", "v", "out"] {
        linear(format_args!("encoder.{b}.att.{projection}"), d, d, visit)?;
    }
    // Used once, when a model is loaded, to fill the table of positions: not worth quantising.
    visit(
        &TensorName::new(format_args!("encoder.{b}.att.pos.weight")),
        &[d, d],
        Part::Vector,
    )?;
    for bias in ["bias_u", "bias_v"] {
        let name = TensorName::new(format_args!("encoder.{b}.att.{bias}"));
        visit(&name, &[heads, head_dim], Part::Vector)?;
    }

    norm(format_args!("encoder.{b}.conv.norm"), d, visit)?;
    linear(format_args!("encoder.{b}.conv.pointwise1"), 2 * d, d, visit)?;
    let depthwise = TensorName::new(format_args!("encoder.{b}.conv.depthwise.weight"));
    visit(&depthwise, &[kernel, d], Part::Taps)?;
    visit(
        &TensorName::new(format_args!("encoder.{b}.conv.depthwise.bias")),
        &[d],
        Part::Vector,
    )?;
    batch_norm(format_args!("encoder.{b}.conv.bn"), d, visit)?;
    linear(format_args!("encoder.{b}.conv.pointwise2"), d, d, visit)?;

    norm(format_args!("encoder.{b}.norm"), d, visit)
}

fn linear<E>(
    stem: core::fmt::Arguments<'_>,
    outputs: usize,
    inputs: usize,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    visit(
        &TensorName::new(format_args!("{stem}.weight")),
        &[outputs, inputs],
        Part::Matrix,
    )?;
    visit(
        &TensorName::new(format_args!("{stem}.bias")),
        &[outputs],
        Part::Vector,
    )
}

fn norm<E>(
    stem: core::fmt::Arguments<'_>,
    width: usize,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    visit(
        &TensorName::new(format_args!("{stem}.weight")),
        &[width],
        Part::Vector,
    )?;
    visit(
        &TensorName::new(format_args!("{stem}.bias")),
        &[width],
        Part::Vector,
    )
}

fn batch_norm<E>(
    stem: core::fmt::Arguments<'_>,
    width: usize,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    for part in ["weight", "bias", "mean", "var"] {
        visit(
            &TensorName::new(format_args!("{stem}.{part}")),
            &[width],
            Part::BatchNorm,
        )?;
    }
    Ok(())
}
