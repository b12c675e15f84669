//! From a model file to a [`Detector`]: every tensor's shape, type and values checked.

use viseme_format::gguf::{DType, Reader};
use viseme_format::names::TensorName;
use viseme_format::spec::ModelSpec;

use super::chain::{Step, Unit};
use super::faces::{HEAD, STRIDES};
use super::{Detector, MULTIPLE, OpenError, UNITS};
use crate::kernels::{self, conv_f32::CHANNEL_BLOCK};

/// Most channels of a layer. The published variants have 64; this bounds what a foreign file makes the arena.
const MAX_CHANNELS: usize = 256;

/// The detector in `file`.
pub(super) fn detector<'m>(file: &Reader<'m>) -> Result<Detector<'m>, OpenError> {
    let spec = ModelSpec::read(file).map_err(OpenError::Spec)?;
    let yunet = spec.yunet().map_err(OpenError::Spec)?;
    let strides = yunet.strides().iter().map(|&stride| stride as usize);
    if !strides.eq(STRIDES) || yunet.input_multiple as usize != MULTIPLE {
        return Err(OpenError::Strides);
    }

    let stem_bias = channels(file, TensorName::new(format_args!("stem.bias")))?;
    let mut c = stem_bias.len();
    let stem = tensor(
        file,
        TensorName::new(format_args!("stem.weight")),
        &[3, 3, 3, c],
    )?;

    let mut backbone = [EMPTY; UNITS];
    for (i, step) in backbone.iter_mut().enumerate() {
        let (stage, last) = (i.div_ceil(2), i % 2 == 0);
        *step = Step {
            unit: unit(file, &backbone_unit(i), c)?,
            relu: true,
            pool: last && matches!(stage, 0 | 2 | 3 | 4),
        };
        c = step.unit.cout();
    }

    let shared = file.tensor("share.0.pointwise.weight").is_some();
    let mut levels = [[EMPTY; 3]; 3];
    for level in (0..3).rev() {
        // What is upsampled is added to the backbone's output, so all have the same channels.
        if backbone[super::TAPS[level]].unit.cout() != c {
            return Err(OpenError::Tensor(TensorName::new(format_args!(
                "neck.{level}.pointwise.weight"
            ))));
        }
        let names = [
            TensorName::new(format_args!("neck.{level}")),
            TensorName::new(format_args!("share.{level}")),
            TensorName::new(format_args!("head.{level}")),
        ];
        let names = names.iter().enumerate().filter(|(i, _)| shared || *i != 1);
        let mut cin = c;
        for ((i, name), step) in names.zip(&mut levels[level]) {
            *step = Step {
                unit: unit(file, name, cin)?,
                relu: i != 2,
                pool: false,
            };
            cin = step.unit.cout();
        }
        if cin != HEAD {
            return Err(OpenError::Tensor(TensorName::new(format_args!(
                "head.{level}.pointwise.weight"
            ))));
        }
        if levels[level][0].unit.cout() != c {
            return Err(OpenError::Tensor(TensorName::new(format_args!(
                "neck.{level}.pointwise.weight"
            ))));
        }
    }
    no_others(file, shared)?;
    Ok(Detector {
        stem,
        stem_bias,
        backbone,
        levels,
        level_steps: if shared { 3 } else { 2 },
        max_side: 320,
        overlap: 0.3,
        kernels: kernels::detect(),
    })
}

/// Refuses a file with more tensors than the stem and the units, all of which must have been found in it.
fn no_others(file: &Reader<'_>, shared: bool) -> Result<(), OpenError> {
    let units = UNITS + if shared { 9 } else { 6 };
    // No name is in a file twice.
    if file.tensor_count() == 2 + 4 * units {
        return Ok(());
    }
    let unknown = file.tensors().find(|t| !is_wanted(t.name, shared));
    unknown.map_or(Ok(()), |t| {
        let name = TensorName::new(format_args!("{}", t.name));
        Err(OpenError::Unknown(name))
    })
}

/// Whether a detector has a tensor of this name.
fn is_wanted(name: &str, shared: bool) -> bool {
    let of_unit = [
        ".pointwise.weight",
        ".pointwise.bias",
        ".depthwise.weight",
        ".depthwise.bias",
    ]
    .iter()
    .find_map(|part| name.strip_suffix(part));
    let Some(unit) = of_unit else {
        return matches!(name, "stem.weight" | "stem.bias");
    };
    let is = |wanted: TensorName| *wanted == *unit;
    let in_backbone = (0..UNITS).any(|i| is(backbone_unit(i)));
    let in_level = |level: usize| {
        is(TensorName::new(format_args!("neck.{level}")))
            || is(TensorName::new(format_args!("head.{level}")))
            || shared && is(TensorName::new(format_args!("share.{level}")))
    };
    in_backbone || (0..3).any(in_level)
}

/// The name of the backbone's unit number `i`: unit 0 is stage 0; then there are two a stage.
fn backbone_unit(i: usize) -> TensorName {
    let (stage, within) = (i.div_ceil(2), if i == 0 { 0 } else { (i - 1) % 2 });
    TensorName::new(format_args!("stage.{stage}.{within}"))
}

/// A step not filled yet.
const EMPTY: Step<'static> = Step {
    unit: Unit {
        pointwise: &[],
        pointwise_bias: &[],
        depthwise: &[],
        depthwise_bias: &[],
    },
    relu: false,
    pool: false,
};

/// The unit called `name`, reading `cin` channels.
fn unit<'m>(file: &Reader<'m>, name: &str, cin: usize) -> Result<Unit<'m>, OpenError> {
    let pointwise_bias = channels(file, TensorName::new(format_args!("{name}.pointwise.bias")))?;
    let c = pointwise_bias.len();
    Ok(Unit {
        pointwise: tensor(
            file,
            TensorName::new(format_args!("{name}.pointwise.weight")),
            &[cin, c],
        )?,
        pointwise_bias,
        depthwise: tensor(
            file,
            TensorName::new(format_args!("{name}.depthwise.weight")),
            &[3, 3, c],
        )?,
        depthwise_bias: tensor(
            file,
            TensorName::new(format_args!("{name}.depthwise.bias")),
            &[c],
        )?,
    })
}

/// A bias, whose length is the layer's number of channels.
fn channels<'m>(file: &Reader<'m>, name: TensorName) -> Result<&'m [f32], OpenError> {
    let count = file.tensor(&name).map_or(0, |t| t.elements());
    if count == 0 || !count.is_multiple_of(CHANNEL_BLOCK) || count > MAX_CHANNELS {
        return Err(OpenError::Tensor(name));
    }
    tensor(file, name, &[count])
}

fn tensor<'m>(
    file: &Reader<'m>,
    name: TensorName,
    shape: &[usize],
) -> Result<&'m [f32], OpenError> {
    let found = file
        .tensor(&name)
        .filter(|t| t.dtype == DType::F32 && t.has_shape(shape));
    let found = found.ok_or(OpenError::Tensor(name))?;
    if !found.finite() {
        return Err(OpenError::NotFinite(name));
    }
    found.as_f32().ok_or(OpenError::Unaligned)
}
