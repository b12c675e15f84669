//! Which tensors a recogniser has: the table of `SPEC.md`, section "Tensors", as code.
//!
//! The trainer writes the names and shapes of [`checkpoint`], the quantiser turns them into those of [`model`], and
//! the engine refuses a file that lacks one of the latter. Shapes are row-major, outermost first.

pub mod auto_avsr;

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
    walk(spec, &mut |name, shape, part| {
        stored_parts(weights, name, shape, part, &mut visit)
    })
}

/// The tensors of a model file that a tensor of the table becomes.
fn stored_parts<E>(
    weights: Weights,
    name: &str,
    shape: &[usize],
    part: Part,
    visit: &mut impl FnMut(&str, &[usize], DType) -> Result<(), E>,
) -> Result<(), E> {
    match (part, stored(weights, name)) {
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
        (Part::Matrix, Weights::F16) => visit(name, shape, DType::F16),
        (Part::Matrix, Weights::F32) | (Part::Vector | Part::Taps | Part::Folded, _) => {
            visit(name, shape, DType::F32)
        }
    }
}

/// How a model of these weights stores the matrix of this name (or of a name that begins so): in an int4 model only the
/// encoder's blocks have four bits (`SPEC.md`, section 3).
pub fn stored(weights: Weights, name: &str) -> Weights {
    match weights {
        Weights::Int4 if !name.contains("encoder.") => Weights::Int8,
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

/// The largest code of a quantised matrix: 127, or 7 in four bits; `None` for one of floats.
pub fn top(stored: Weights) -> Option<i8> {
    match stored {
        Weights::F32 | Weights::F16 => None,
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
    let e = &spec.encoder;
    let dims = BlockDims {
        d,
        ff: e.ff as usize,
        heads: e.heads as usize,
        kernel: e.conv_kernel as usize,
    };
    for block in 0..e.blocks {
        // Used once, when a model is loaded, to fill the table of positions: not worth quantising.
        encoder_block(format_args!("encoder.{block}"), dims, Part::Vector, visit)?;
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

/// Sizes of a conformer block.
#[derive(Clone, Copy)]
struct BlockDims {
    d: usize,
    ff: usize,
    heads: usize,
    kernel: usize,
}

/// A conformer block; `positions` is what becomes of the projection of positions.
fn encoder_block<E>(
    stem: core::fmt::Arguments<'_>,
    BlockDims {
        d,
        ff,
        heads,
        kernel,
    }: BlockDims,
    positions: Part,
    visit: &mut Visit<'_, E>,
) -> Result<(), E> {
    for half in ["ff1", "ff2"] {
        norm(format_args!("{stem}.{half}.norm"), d, visit)?;
        linear(format_args!("{stem}.{half}.up"), ff, d, visit)?;
        linear(format_args!("{stem}.{half}.down"), d, ff, visit)?;
    }

    norm(format_args!("{stem}.att.norm"), d, visit)?;
    for projection in ["q", "k", "v", "out"] {
        linear(format_args!("{stem}.att.{projection}"), d, d, visit)?;
    }
    visit(
        &TensorName::new(format_args!("{stem}.att.pos.weight")),
        &[d, d],
        positions,
    )?;
    for bias in ["bias_u", "bias_v"] {
        let name = TensorName::new(format_args!("{stem}.att.{bias}"));
        visit(&name, &[heads, d / heads.max(1)], Part::Vector)?;
    }

    norm(format_args!("{stem}.conv.norm"), d, visit)?;
    linear(format_args!("{stem}.conv.pointwise1"), 2 * d, d, visit)?;
    let depthwise = TensorName::new(format_args!("{stem}.conv.depthwise.weight"));
    visit(&depthwise, &[kernel, d], Part::Taps)?;
    visit(
        &TensorName::new(format_args!("{stem}.conv.depthwise.bias")),
        &[d],
        Part::Vector,
    )?;
    batch_norm(format_args!("{stem}.conv.bn"), d, visit)?;
    linear(format_args!("{stem}.conv.pointwise2"), d, d, visit)?;

    norm(format_args!("{stem}.norm"), d, visit)
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
