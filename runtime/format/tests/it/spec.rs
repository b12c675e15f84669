//! Every key of the metadata: without it, with another type, and outside its range.

use viseme_format::gguf::{Reader, Value, Writer};
use viseme_format::spec::*;

use crate::common;

/// What stands in the place of one key.
#[derive(Clone, Copy)]
enum Other<'a> {
    Nothing,
    U32(u32),
    I32(i32),
    F32(f32),
    Str(&'a str),
    U32s(&'a [u32]),
    Strs(&'a [&'a str]),
}

/// The test file with one key replaced, read.
#[track_caller]
fn with(key: &str, other: Other<'_>, check: impl FnOnce(Result<ModelSpec<'_>, SpecError>)) {
    let original = common::file();
    let file = Reader::open(&original).unwrap();
    let mut writer = Writer::new();
    for (name, value) in file.entries().filter(|entry| entry.0 != key) {
        match value {
            _ if name == "general.alignment" || name == "viseme.sha256" => Ok(()),
            Value::U32(n) => writer.u32(name, n),
            Value::I32(n) => writer.i32(name, n),
            Value::U64(n) => writer.u64(name, n),
            Value::F32(n) => writer.f32(name, n),
            Value::Str(text) => writer.str(name, text),
            Value::Array(array) if array.strs().count() > 0 => writer.strs(name, array.strs()),
            Value::Array(array) => {
                let number = |value| {
                    if let Value::U32(n) = value {
                        n
                    } else {
                        panic!("{value:?}")
                    }
                };
                writer.u32s(name, &array.iter().map(number).collect::<Vec<_>>())
            }
            other => panic!("{name}: {other:?}"),
        }
        .unwrap();
    }
    match other {
        Other::Nothing => Ok(()),
        Other::U32(n) => writer.u32(key, n),
        Other::I32(n) => writer.i32(key, n),
        Other::F32(n) => writer.f32(key, n),
        Other::Str(text) => writer.str(key, text),
        Other::U32s(list) => writer.u32s(key, list),
        Other::Strs(list) => writer.strs(key, list.iter().copied()),
    }
    .unwrap();
    let bytes = writer.finish().unwrap();
    check(ModelSpec::read(&Reader::open(&bytes).unwrap()));
}

#[track_caller]
fn out_of_range(key: &'static str, others: &[Other<'_>]) {
    for &other in others {
        with(key, other, |spec| match spec {
            Err(SpecError::OutOfRange { key: named, .. }) if named == key => (),
            spec => panic!("{key}: {spec:?}"),
        });
    }
}

#[track_caller]
fn accepted(key: &'static str, others: &[Other<'_>]) {
    others
        .iter()
        .for_each(|&other| with(key, other, |spec| assert!(spec.is_ok(), "{key}: {spec:?}")));
}

#[test]
fn every_key_is_needed_and_typed() {
    let bytes = common::file();
    let own = ["general.alignment", "viseme.sha256"];
    let optional = ["viseme.arena_bytes"];
    let mut keys = 0;
    for (key, value) in Reader::open(&bytes)
        .unwrap()
        .entries()
        .filter(|entry| !own.contains(&entry.0))
    {
        keys += 1;
        with(key, Other::Nothing, |spec| match spec {
            Err(SpecError::Missing(missing)) => assert_eq!(missing, key),
            spec => assert!(spec.is_ok() && optional.contains(&key), "{key}: {spec:?}"),
        });
        // A text where a number belongs, and the other way round.
        let other = if matches!(value, Value::Str(_)) {
            Other::U32(1)
        } else {
            Other::Str("1")
        };
        with(key, other, |spec| match spec {
            Err(SpecError::WrongType(named)) => assert_eq!(named, key),
            spec => panic!("{key}: {spec:?}"),
        });
    }
    assert_eq!(keys, 9 + 2 + 6 + 6 + 10 + 2); // general, time, crop, front-end, encoder, tokens
}

#[test]
fn numbers_are_not_converted() {
    // 25 as an integer, heads as a float, attention span as unsigned.
    for (key, other) in [
        ("viseme.fps", Other::U32(25)),
        ("viseme.encoder.heads", Other::F32(4.0)),
        ("viseme.encoder.att_left", Other::U32(7)),
        ("viseme.frontend.pad", Other::Strs(&["2", "0", "0"])),
        ("viseme.tokens.list", Other::U32s(&[1, 2])),
    ] {
        with(key, other, |spec| {
            assert!(matches!(spec, Err(SpecError::WrongType(named)) if named == key))
        });
    }
}

#[test]
fn choices() {
    for key in [
        "general.architecture",
        "viseme.modality",
        "viseme.quant.weights",
        "viseme.quant.layout",
        "viseme.encoder.ff_activation",
        "viseme.tokens.kind",
    ] {
        out_of_range(
            key,
            &[Other::Str(""), Other::Str("other"), Other::Str("Video")],
        );
    }
    out_of_range("viseme.version", &[Other::U32(1), Other::U32(3)]);
}

#[test]
fn each_precision_has_its_own_layout() {
    for (weights, layout) in [
        (Weights::F32, None),
        (Weights::Int8, Some("panels-16x4")),
        (Weights::Int4, Some("panels-16x4x2")),
    ] {
        let spec = ModelSpec {
            weights,
            ..common::spec()
        };
        let mut writer = Writer::new();
        spec.write(&mut writer).unwrap();
        let bytes = writer.finish().unwrap();
        let file = Reader::open(&bytes).unwrap();
        assert_eq!(ModelSpec::read(&file), Ok(spec));
        let stated = file.value("viseme.quant.layout");
        assert_eq!(stated, layout.map(Value::Str));
    }
    // The file is int8: with int4 weights its layout is the wrong one.
    with("viseme.quant.weights", Other::Str("int4"), |spec| {
        let key = "viseme.quant.layout";
        assert!(matches!(spec, Err(SpecError::OutOfRange { key: named, .. }) if named == key));
    });
    let other = Other::Str("panels-16x4x2");
    out_of_range("viseme.quant.layout", &[other]);
}

#[test]
fn time_and_crop() {
    use Other::{F32, U32};
    out_of_range(
        "viseme.fps",
        &[
            F32(0.0),
            F32(-25.0),
            F32(f32::NAN),
            F32(f32::INFINITY),
            F32(241.0),
        ],
    );
    accepted("viseme.fps", &[F32(1.0), F32(29.97), F32(240.0)]);
    out_of_range("viseme.max_frames", &[U32(0), U32(8193), U32(u32::MAX)]);
    out_of_range("viseme.crop.canvas", &[U32(0), U32(1025)]);
    out_of_range("viseme.crop.patch", &[U32(0), U32(257)]);
    out_of_range("viseme.crop.size", &[U32(0), U32(97)]);
    out_of_range("viseme.crop.mean", &[F32(f32::NAN), F32(-0.1), F32(1.1)]);
    out_of_range(
        "viseme.crop.std",
        &[F32(0.0), F32(-1.0), F32(f32::NAN), F32(f32::INFINITY)],
    );
    out_of_range("viseme.crop.smooth", &[U32(65)]);
}

#[test]
fn frontend() {
    use Other::{U32, U32s};
    out_of_range(
        "viseme.frontend.channels",
        &[
            U32s(&[]),
            U32s(&[24, 0, 96]),
            U32s(&[24, 48, 1025]),
            U32s(&[1; 5]),
        ],
    );
    out_of_range(
        "viseme.frontend.kernel",
        &[
            U32s(&[8, 4]),
            U32s(&[8, 4, 0]),
            U32s(&[17, 4, 4]),
            U32s(&[8, 4, 16]),
        ],
    );
    out_of_range(
        "viseme.frontend.stride",
        &[U32s(&[4, 2, 0]), U32s(&[4, 5, 2]), U32s(&[4, 2, 2, 1])],
    );
    out_of_range(
        "viseme.frontend.pad",
        &[U32s(&[8, 0, 0]), U32s(&[2, 1, 0]), U32s(&[u32::MAX, 0, 0])],
    );
    out_of_range("viseme.frontend.pad_value", &[U32(256)]);
    out_of_range("viseme.frontend.frames", &[U32(0), U32(2), U32(11)]);
    accepted(
        "viseme.frontend.channels",
        &[U32s(&[24, 1024, 2]), U32s(&[1, 1, 1])],
    );
    let stages = |channels| {
        [2, 0].map(|pad| Stage {
            channels,
            kernel: 8,
            stride: 4,
            pad,
        })
    };
    for (channels, fits) in [(512, true), (513, false)] {
        let mut spec = common::spec();
        if let Family::Conformer(conformer) = &mut spec.family {
            conformer.frontend = Frontend::new(&stages(channels), 3, 107).unwrap();
        }
        assert_eq!(spec.check().is_ok(), fits, "8 x 8 x {channels}");
    }
    // 88 wide, stride 1: 85 x 85 x 48 features are too many.
    with("viseme.frontend.stride", U32s(&[1, 1, 1]), |spec| {
        assert!(
            matches!(
                spec,
                Err(SpecError::OutOfRange {
                    key: "viseme.frontend.channels",
                    ..
                })
            ),
            "{spec:?}"
        );
    });
}

#[test]
fn encoder() {
    use Other::{F32, I32, U32};
    out_of_range("viseme.encoder.blocks", &[U32(0), U32(65)]);
    out_of_range(
        "viseme.encoder.d_model",
        &[U32(0), U32(145), U32(2050), U32(u32::MAX)],
    );
    out_of_range("viseme.encoder.heads", &[U32(0), U32(5), U32(72)]);
    out_of_range("viseme.encoder.ff", &[U32(0), U32(8193)]);
    out_of_range("viseme.encoder.conv_kernel", &[U32(0), U32(256)]);
    out_of_range("viseme.encoder.conv_left", &[U32(15), U32(u32::MAX)]);
    out_of_range(
        "viseme.encoder.att_left",
        &[I32(-2), I32(8193), I32(i32::MIN)],
    );
    out_of_range(
        "viseme.encoder.att_right",
        &[I32(-2), I32(8193), I32(i32::MAX)],
    );
    out_of_range(
        "viseme.encoder.norm_eps",
        &[F32(0.0), F32(-1e-5), F32(1.0), F32(f32::NAN)],
    );
    accepted("viseme.encoder.conv_left", &[U32(0), U32(14)]);
    accepted("viseme.encoder.att_right", &[I32(-1), I32(0), I32(8192)]);
}

#[test]
fn tokens() {
    use Other::Strs;
    out_of_range(
        "viseme.tokens.list",
        &[
            Strs(&["<blank>"]),
            Strs(&["bin", "<blank>"]),
            Strs(&["<blank>", ""]),
            Strs(&["<blank>", "\u{1b}[2J"]),
            Strs(&["<blank>", "two\nlines"]),
        ],
    );
    let text = ["<blank>", " ", "é", "▁und", "日本"];
    with("viseme.tokens.list", Strs(&text), |spec| {
        let spec = spec.unwrap();
        let tokens = spec.conformer().unwrap().tokens;
        assert!(tokens.iter().eq(text));
        assert_eq!(
            (tokens.get(3), tokens.get(5), tokens.len()),
            (Some("▁und"), None, 5)
        );
    });
}

#[test]
fn models_that_hear_have_mel_settings() {
    for modality in ["audio", "av"] {
        with("viseme.modality", Other::Str(modality), |spec| {
            assert_eq!(spec, Err(SpecError::Missing("viseme.mel.sample_rate")));
        });
    }
    with("viseme.mel.sample_rate", Other::U32(16_000), |spec| {
        assert_eq!(spec, Err(SpecError::Missing("viseme.mel.bins")));
    });

    let mel = Mel {
        sample_rate: 16_000,
        bins: 80,
        window: 400,
        hop: 160,
        low_hz: 20.0,
        high_hz: 7600.0,
    };
    let check = |modality, mel| {
        let mut spec = common::spec();
        spec.modality = modality;
        if let Family::Conformer(conformer) = &mut spec.family {
            conformer.mel = mel;
        }
        spec.check()
    };
    let refused = |key| Err(SpecError::OutOfRange { key, want: "" });
    let key_of = |result: Result<(), SpecError>| match result {
        Err(SpecError::OutOfRange { key, .. }) => refused(key),
        other => other,
    };
    assert_eq!(check(Modality::Audio, Some(mel)), Ok(()));
    assert_eq!(
        key_of(check(Modality::Video, Some(mel))),
        refused("viseme.mel.sample_rate")
    );
    for (key, wrong) in [
        (
            "viseme.mel.sample_rate",
            Mel {
                sample_rate: 0,
                ..mel
            },
        ),
        ("viseme.mel.bins", Mel { bins: 0, ..mel }),
        (
            "viseme.mel.window",
            Mel {
                window: 8193,
                ..mel
            },
        ),
        ("viseme.mel.hop", Mel { hop: 0, ..mel }),
        ("viseme.mel.hop", Mel { hop: 401, ..mel }),
        (
            "viseme.mel.low_hz",
            Mel {
                low_hz: f32::NAN,
                ..mel
            },
        ),
        (
            "viseme.mel.high_hz",
            Mel {
                high_hz: 8001.0,
                ..mel
            },
        ),
        (
            "viseme.mel.high_hz",
            Mel {
                high_hz: 20.0,
                ..mel
            },
        ),
    ] {
        assert_eq!(
            key_of(check(Modality::AudioVideo, Some(wrong))),
            refused(key)
        );
    }
}

#[test]
fn detectors() {
    let read = |multiple, strides: &[u32]| {
        let mut spec = common::spec();
        spec.family = Family::Yunet(Yunet::new(multiple, strides)?);
        let mut writer = Writer::new();
        spec.write(&mut writer).ok()?;
        let bytes = writer.finish().unwrap();
        let read = ModelSpec::read(&Reader::open(&bytes).unwrap()).unwrap();
        assert_eq!(read, spec);
        assert_eq!(
            read.conformer(),
            Err(SpecError::WrongFamily {
                want: "viseme-conformer"
            })
        );
        Some(read.yunet().unwrap().strides().to_vec())
    };
    assert_eq!(read(32, &[8, 16, 32]), Some(vec![8, 16, 32]));
    for (multiple, strides) in [
        (32, [8, 16, 64].as_slice()),
        (0, &[8]),
        (32, &[0]),
        (32, &[]),
        (32, &[1; 5]),
    ] {
        assert_eq!(read(multiple, strides), None);
    }
}

#[test]
fn sizes_of_the_front_end() {
    let spec = common::spec();
    let frontend = &spec.conformer().unwrap().frontend;
    // 88 + 2 + 2 = 92: (92 - 8) / 4 + 1 = 22, (22 - 4) / 2 + 1 = 10, (10 - 4) / 2 + 1 = 4.
    assert_eq!(
        [0, 1, 2].map(|stage| frontend.side(88, stage)),
        [Some(22), Some(10), Some(4)]
    );
    assert_eq!(
        (frontend.side(88, 3), frontend.features(88)),
        (None, Some(4 * 4 * 96))
    );
    assert_eq!(
        (frontend.features(15), frontend.features(u32::MAX)),
        (None, None)
    );
}

#[test]
fn a_wrong_spec_is_not_written() {
    let mut spec = common::spec();
    if let Family::Conformer(conformer) = &mut spec.family {
        conformer.encoder.heads = 7;
    }
    let mut writer = Writer::new();
    let key = "viseme.encoder.heads";
    assert!(
        matches!(spec.write(&mut writer), Err(SpecWriteError::Spec(SpecError::OutOfRange { key: k, .. })) if k == key)
    );
    common::spec().write(&mut writer).unwrap();
    assert!(matches!(
        common::spec().write(&mut writer),
        Err(SpecWriteError::Write(_))
    ));
}

#[test]
fn json_is_checked_too() {
    use viseme_format::spec::json::{JsonError, JsonSpec};
    let text = common::spec().to_json().unwrap();
    let parse = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} is not in {text}");
        JsonSpec::parse(&text.replace(from, to)).unwrap_err()
    };
    assert!(matches!(parse("{", "["), JsonError::Syntax(_)));
    assert_eq!(
        parse("\"fps\"", "\"FPS\""),
        SpecError::Missing("viseme.fps").into()
    );
    assert_eq!(
        parse("\"fps\": 25.0", "\"fps\": null"),
        SpecError::WrongType("viseme.fps").into()
    );
    assert_eq!(
        parse("\"tokens.list\"", "\"tokens\""),
        SpecError::Missing("viseme.tokens.list").into()
    );
    assert_eq!(
        parse("\"bin\"", "7"),
        SpecError::WrongType("viseme.tokens.list").into()
    );
    let wrong = SpecError::WrongType("viseme.encoder.heads").into();
    assert_eq!(parse("heads\": 4", "heads\": -4"), wrong);
    assert_eq!(parse("heads\": 4", "heads\": 4294967300"), wrong);
    assert!(matches!(
        parse("heads\": 4", "heads\": 5"),
        JsonError::Spec(SpecError::OutOfRange {
            key: "viseme.encoder.heads",
            ..
        })
    ));
    // By hand, as people write it: an integer for a float.
    assert!(JsonSpec::parse(&text.replace("\"fps\": 25.0", "\"fps\": 25")).is_ok());
}
