//! Which key holds which field: once for reading, once for writing, whatever the container.

use super::*;
use crate::gguf::{Reader, Value, ValueType};

/// Where fields come from: GGUF metadata or a JSON object. `Ok(None)` means the key is not there.
pub(super) trait Source<'a> {
    fn str(&self, key: &'static str) -> Result<Option<&'a str>, SpecError>;
    fn u32(&self, key: &'static str) -> Result<Option<u32>, SpecError>;
    fn i32(&self, key: &'static str) -> Result<Option<i32>, SpecError>;
    fn u64(&self, key: &'static str) -> Result<Option<u64>, SpecError>;
    fn f32(&self, key: &'static str) -> Result<Option<f32>, SpecError>;
    /// Fills `out` and returns how many there are; `OutOfRange` when they do not fit.
    fn u32s(&self, key: &'static str, out: &mut [u32]) -> Result<Option<usize>, SpecError>;
    fn tokens(&self, key: &'static str) -> Result<Option<Tokens<'a>>, SpecError>;
}

/// Where fields go: a GGUF writer or a JSON object.
#[cfg(feature = "alloc")]
pub(super) trait Sink {
    fn str(&mut self, key: &'static str, value: &str) -> Result<(), WriteError>;
    fn u32(&mut self, key: &'static str, value: u32) -> Result<(), WriteError>;
    fn i32(&mut self, key: &'static str, value: i32) -> Result<(), WriteError>;
    fn u64(&mut self, key: &'static str, value: u64) -> Result<(), WriteError>;
    fn f32(&mut self, key: &'static str, value: f32) -> Result<(), WriteError>;
    fn u32s(&mut self, key: &'static str, values: &[u32]) -> Result<(), WriteError>;
    fn tokens(&mut self, key: &'static str, values: &Tokens<'_>) -> Result<(), WriteError>;
}

/// Order of quantised weights in the file: see [`crate::panels`].
fn quant_layout(weights: Weights) -> Option<&'static str> {
    match weights {
        Weights::F32 | Weights::F16 => None,
        Weights::Int8 => Some("panels-16x4"),
        Weights::Int4 => Some("panels-16x4x2"),
    }
}

const QUANT_LAYOUT: &str = "viseme.quant.layout";

/// Reads all fields; ranges are not checked here, except those a field's own type has.
pub(super) fn read<'a>(source: &impl Source<'a>) -> Result<ModelSpec<'a>, SpecError> {
    let family = need("general.architecture", |key| source.str(key))?;
    if need("viseme.version", |key| source.u32(key))? != VERSION {
        return Err(SpecError::OutOfRange {
            key: "viseme.version",
            want: "2, the only version that is read",
        });
    }
    let want = "f32, f16, int8 or int4";
    let weights = choice(source, "viseme.quant.weights", &WEIGHTS, want)?;
    if let Some(layout) = quant_layout(weights)
        && need(QUANT_LAYOUT, |key| source.str(key))? != layout
    {
        return Err(SpecError::OutOfRange {
            key: QUANT_LAYOUT,
            want: "panels-16x4 with int8 weights, panels-16x4x2 with int4 weights",
        });
    }
    Ok(ModelSpec {
        name: need("general.name", |key| source.str(key))?,
        license: need("general.license", |key| source.str(key))?,
        training_data: need("viseme.training_data", |key| source.str(key))?,
        modality: choice(source, "viseme.modality", &MODALITIES, "video, audio or av")?,
        weights,
        arena_bytes: source.u64("viseme.arena_bytes")?.unwrap_or(0),
        family: match family {
            "viseme-conformer" => Family::Conformer(read_conformer(source)?),
            "viseme-auto-avsr" => Family::AutoAvsr(auto_avsr::read(source)?),
            "viseme-yunet" => Family::Yunet(read_yunet(source)?),
            _ => {
                let want = "viseme-conformer, viseme-auto-avsr or viseme-yunet";
                return Err(SpecError::OutOfRange {
                    key: "general.architecture",
                    want,
                });
            }
        },
    })
}

fn read_conformer<'a>(source: &impl Source<'a>) -> Result<Conformer<'a>, SpecError> {
    let u32 = |key| need(key, |key| source.u32(key));
    let i32 = |key| need(key, |key| source.i32(key));
    let f32 = |key| need(key, |key| source.f32(key));
    Ok(Conformer {
        fps: f32("viseme.fps")?,
        crop: read_crop(source)?,
        frontend: read_frontend(source)?,
        encoder: Encoder {
            blocks: u32("viseme.encoder.blocks")?,
            d_model: u32("viseme.encoder.d_model")?,
            heads: u32("viseme.encoder.heads")?,
            ff: u32("viseme.encoder.ff")?,
            conv_kernel: u32("viseme.encoder.conv_kernel")?,
            conv_left: u32("viseme.encoder.conv_left")?,
            att_left: i32("viseme.encoder.att_left")?,
            att_right: i32("viseme.encoder.att_right")?,
            ff_activation: choice(
                source,
                "viseme.encoder.ff_activation",
                &ACTIVATIONS,
                "silu or relu",
            )?,
            norm_eps: f32("viseme.encoder.norm_eps")?,
        },
        mel: match source.u32("viseme.mel.sample_rate")? {
            None => None,
            Some(sample_rate) => Some(Mel {
                sample_rate,
                bins: u32("viseme.mel.bins")?,
                window: u32("viseme.mel.window")?,
                hop: u32("viseme.mel.hop")?,
                low_hz: f32("viseme.mel.low_hz")?,
                high_hz: f32("viseme.mel.high_hz")?,
            }),
        },
        max_frames: u32("viseme.max_frames")?,
        token_kind: choice(
            source,
            "viseme.tokens.kind",
            &TOKEN_KINDS,
            "word, char or piece",
        )?,
        tokens: need("viseme.tokens.list", |key| source.tokens(key))?,
    })
}

pub(super) fn read_crop<'a>(source: &impl Source<'a>) -> Result<Crop, SpecError> {
    let u32 = |key| need(key, |key| source.u32(key));
    let f32 = |key| need(key, |key| source.f32(key));
    Ok(Crop {
        canvas: u32("viseme.crop.canvas")?,
        patch: u32("viseme.crop.patch")?,
        size: u32("viseme.crop.size")?,
        mean: f32("viseme.crop.mean")?,
        std: f32("viseme.crop.std")?,
        smooth: u32("viseme.crop.smooth")?,
    })
}

fn read_frontend<'a>(source: &impl Source<'a>) -> Result<Frontend, SpecError> {
    let mut stages = [Stage::default(); MAX_STAGES];
    let mut column = |key, set: fn(&mut Stage, u32)| {
        let mut values = [0; MAX_STAGES];
        let count = list(source, key, &mut values)?;
        stages
            .iter_mut()
            .zip(values)
            .for_each(|(stage, value)| set(stage, value));
        Ok((key, count))
    };
    let (_, count) = column("viseme.frontend.channels", |stage, value| {
        stage.channels = value
    })?;
    let others = [
        column("viseme.frontend.kernel", |stage, value| {
            stage.kernel = value
        })?,
        column("viseme.frontend.stride", |stage, value| {
            stage.stride = value
        })?,
        column("viseme.frontend.pad", |stage, value| stage.pad = value)?,
    ];
    if let Some(&(key, _)) = others.iter().find(|other| other.1 != count) {
        return Err(SpecError::OutOfRange {
            key,
            want: "as long as viseme.frontend.channels",
        });
    }
    let frames = need("viseme.frontend.frames", |key| source.u32(key))?;
    let pad_value = need("viseme.frontend.pad_value", |key| source.u32(key))?;
    Frontend::new(&stages[..count], frames, pad_value).ok_or(SpecError::OutOfRange {
        key: "viseme.frontend.channels",
        want: "a list of 1 to 4 numbers",
    })
}

fn read_yunet<'a>(source: &impl Source<'a>) -> Result<Yunet, SpecError> {
    let mut strides = [0; MAX_STRIDES];
    let count = list(source, "viseme.yunet.strides", &mut strides)?;
    Yunet::new(
        need("viseme.yunet.input_multiple", |key| source.u32(key))?,
        &strides[..count],
    )
    .ok_or(SpecError::OutOfRange {
        key: "viseme.yunet.strides",
        want: "a list of 1 to 4 numbers",
    })
}

/// Writes all fields. The tokens come last: every look-up behind them would walk over them.
#[cfg(feature = "alloc")]
pub(super) fn write(spec: &ModelSpec<'_>, sink: &mut impl Sink) -> Result<(), WriteError> {
    let architecture = match spec.family {
        Family::Conformer(_) => "viseme-conformer",
        Family::AutoAvsr(_) => "viseme-auto-avsr",
        Family::Yunet(_) => "viseme-yunet",
    };
    sink.str("general.architecture", architecture)?;
    sink.str("general.name", spec.name)?;
    sink.str("general.license", spec.license)?;
    sink.u32("viseme.version", VERSION)?;
    sink.str("viseme.training_data", spec.training_data)?;
    sink.str("viseme.modality", text(&MODALITIES, spec.modality))?;
    sink.str("viseme.quant.weights", text(&WEIGHTS, spec.weights))?;
    if let Some(layout) = quant_layout(spec.weights) {
        sink.str(QUANT_LAYOUT, layout)?;
    }
    sink.u64("viseme.arena_bytes", spec.arena_bytes)?;
    match &spec.family {
        Family::Conformer(conformer) => write_conformer(conformer, sink),
        Family::AutoAvsr(model) => auto_avsr::write(model, sink),
        Family::Yunet(yunet) => {
            sink.u32("viseme.yunet.input_multiple", yunet.input_multiple)?;
            sink.u32s("viseme.yunet.strides", yunet.strides())
        }
    }
}

#[cfg(feature = "alloc")]
fn write_conformer(c: &Conformer<'_>, sink: &mut impl Sink) -> Result<(), WriteError> {
    sink.f32("viseme.fps", c.fps)?;
    sink.u32("viseme.max_frames", c.max_frames)?;

    write_crop(&c.crop, sink)?;

    let mut column = |key, get: fn(&Stage) -> u32| {
        let values = c.frontend.stages.each_ref().map(get);
        sink.u32s(key, &values[..c.frontend.count])
    };
    column("viseme.frontend.channels", |stage| stage.channels)?;
    column("viseme.frontend.kernel", |stage| stage.kernel)?;
    column("viseme.frontend.stride", |stage| stage.stride)?;
    column("viseme.frontend.pad", |stage| stage.pad)?;
    sink.u32("viseme.frontend.pad_value", c.frontend.pad_value)?;
    sink.u32("viseme.frontend.frames", c.frontend.frames)?;

    sink.u32("viseme.encoder.blocks", c.encoder.blocks)?;
    sink.u32("viseme.encoder.d_model", c.encoder.d_model)?;
    sink.u32("viseme.encoder.heads", c.encoder.heads)?;
    sink.u32("viseme.encoder.ff", c.encoder.ff)?;
    sink.u32("viseme.encoder.conv_kernel", c.encoder.conv_kernel)?;
    sink.u32("viseme.encoder.conv_left", c.encoder.conv_left)?;
    sink.i32("viseme.encoder.att_left", c.encoder.att_left)?;
    sink.i32("viseme.encoder.att_right", c.encoder.att_right)?;
    sink.str(
        "viseme.encoder.ff_activation",
        text(&ACTIVATIONS, c.encoder.ff_activation),
    )?;
    sink.f32("viseme.encoder.norm_eps", c.encoder.norm_eps)?;

    if let Some(mel) = &c.mel {
        sink.u32("viseme.mel.sample_rate", mel.sample_rate)?;
        sink.u32("viseme.mel.bins", mel.bins)?;
        sink.u32("viseme.mel.window", mel.window)?;
        sink.u32("viseme.mel.hop", mel.hop)?;
        sink.f32("viseme.mel.low_hz", mel.low_hz)?;
        sink.f32("viseme.mel.high_hz", mel.high_hz)?;
    }
    sink.str("viseme.tokens.kind", text(&TOKEN_KINDS, c.token_kind))?;
    sink.tokens("viseme.tokens.list", &c.tokens)
}

#[cfg(feature = "alloc")]
pub(super) fn write_crop(crop: &Crop, sink: &mut impl Sink) -> Result<(), WriteError> {
    sink.u32("viseme.crop.canvas", crop.canvas)?;
    sink.u32("viseme.crop.patch", crop.patch)?;
    sink.u32("viseme.crop.size", crop.size)?;
    sink.f32("viseme.crop.mean", crop.mean)?;
    sink.f32("viseme.crop.std", crop.std)?;
    sink.u32("viseme.crop.smooth", crop.smooth)
}

const MODALITIES: [(&str, Modality); 3] = [
    ("video", Modality::Video),
    ("audio", Modality::Audio),
    ("av", Modality::AudioVideo),
];
const WEIGHTS: [(&str, Weights); 4] = [
    ("f32", Weights::F32),
    ("f16", Weights::F16),
    ("int8", Weights::Int8),
    ("int4", Weights::Int4),
];
const ACTIVATIONS: [(&str, Activation); 2] =
    [("silu", Activation::Silu), ("relu", Activation::Relu)];
const TOKEN_KINDS: [(&str, TokenKind); 3] = [
    ("word", TokenKind::Word),
    ("char", TokenKind::Char),
    ("piece", TokenKind::Piece),
];

pub(super) fn need<T>(
    key: &'static str,
    get: impl FnOnce(&'static str) -> Result<Option<T>, SpecError>,
) -> Result<T, SpecError> {
    get(key)?.ok_or(SpecError::Missing(key))
}

fn list<'a>(
    source: &impl Source<'a>,
    key: &'static str,
    out: &mut [u32],
) -> Result<usize, SpecError> {
    match need(key, |key| source.u32s(key, out))? {
        0 => Err(SpecError::OutOfRange {
            key,
            want: "a list of 1 to 4 numbers",
        }),
        count => Ok(count),
    }
}

pub(super) fn choice<'a, T: Copy>(
    source: &impl Source<'a>,
    key: &'static str,
    choices: &[(&str, T)],
    want: &'static str,
) -> Result<T, SpecError> {
    let text = need(key, |key| source.str(key))?;
    let found = choices.iter().find(|choice| choice.0 == text);
    found
        .map(|choice| choice.1)
        .ok_or(SpecError::OutOfRange { key, want })
}

#[cfg(feature = "alloc")]
pub(super) fn text<T: PartialEq>(choices: &[(&'static str, T)], value: T) -> &'static str {
    choices
        .iter()
        .find(|choice| choice.1 == value)
        .map_or("", |choice| choice.0)
}

impl<'a> Source<'a> for Reader<'a> {
    fn str(&self, key: &'static str) -> Result<Option<&'a str>, SpecError> {
        typed(self, key, |value| {
            if let Value::Str(text) = value {
                Some(text)
            } else {
                None
            }
        })
    }

    fn u32(&self, key: &'static str) -> Result<Option<u32>, SpecError> {
        typed(self, key, |value| {
            if let Value::U32(number) = value {
                Some(number)
            } else {
                None
            }
        })
    }

    fn i32(&self, key: &'static str) -> Result<Option<i32>, SpecError> {
        typed(self, key, |value| {
            if let Value::I32(number) = value {
                Some(number)
            } else {
                None
            }
        })
    }

    fn u64(&self, key: &'static str) -> Result<Option<u64>, SpecError> {
        typed(self, key, |value| {
            if let Value::U64(number) = value {
                Some(number)
            } else {
                None
            }
        })
    }

    fn f32(&self, key: &'static str) -> Result<Option<f32>, SpecError> {
        typed(self, key, |value| {
            if let Value::F32(number) = value {
                Some(number)
            } else {
                None
            }
        })
    }

    fn u32s(&self, key: &'static str, out: &mut [u32]) -> Result<Option<usize>, SpecError> {
        let array = typed(self, key, |value| {
            if let Value::Array(array) = value {
                Some(array)
            } else {
                None
            }
        })?;
        let Some(array) = array else { return Ok(None) };
        if array.len() > out.len() {
            return Err(SpecError::OutOfRange {
                key,
                want: "a list of 1 to 4 numbers",
            });
        }
        for (slot, value) in out.iter_mut().zip(array.iter()) {
            let Value::U32(number) = value else {
                return Err(SpecError::WrongType(key));
            };
            *slot = number;
        }
        Ok(Some(array.len()))
    }

    fn tokens(&self, key: &'static str) -> Result<Option<Tokens<'a>>, SpecError> {
        typed(self, key, |value| match value {
            Value::Array(array) if array.element() == ValueType::Str => {
                Some(Tokens::from_file(array))
            }
            _ => None,
        })
    }
}

fn typed<'a, T>(
    file: &Reader<'a>,
    key: &'static str,
    get: impl FnOnce(Value<'a>) -> Option<T>,
) -> Result<Option<T>, SpecError> {
    file.value(key)
        .map(|value| get(value).ok_or(SpecError::WrongType(key)))
        .transpose()
}

#[cfg(feature = "alloc")]
impl Sink for Writer {
    fn str(&mut self, key: &'static str, value: &str) -> Result<(), WriteError> {
        Writer::str(self, key, value)
    }

    fn u32(&mut self, key: &'static str, value: u32) -> Result<(), WriteError> {
        Writer::u32(self, key, value)
    }

    fn i32(&mut self, key: &'static str, value: i32) -> Result<(), WriteError> {
        Writer::i32(self, key, value)
    }

    fn u64(&mut self, key: &'static str, value: u64) -> Result<(), WriteError> {
        Writer::u64(self, key, value)
    }

    fn f32(&mut self, key: &'static str, value: f32) -> Result<(), WriteError> {
        Writer::f32(self, key, value)
    }

    fn u32s(&mut self, key: &'static str, values: &[u32]) -> Result<(), WriteError> {
        Writer::u32s(self, key, values)
    }

    fn tokens(&mut self, key: &'static str, values: &Tokens<'_>) -> Result<(), WriteError> {
        self.strs(key, values.iter())
    }
}
