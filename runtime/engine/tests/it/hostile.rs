//! Model files that lie: each is refused with one line that names what is wrong, and nothing panics.

use viseme_engine::model::conformer::{LoadError, MAX_BLOCKS, Model, arena_bytes};
use viseme_engine::session::{Options, Session};
use viseme_engine::testing::{self, Size};
use viseme_format::gguf::{DType, Reader, Tensor, Writer};
use viseme_format::layout;
use viseme_format::panels;
use viseme_format::spec::*;

/// As few tensors as a model can have.
const SIZE: Size = Size {
    blocks: 1,
    max_frames: 8,
    ..testing::TINY
};

fn spec(weights: Weights) -> ModelSpec<'static> {
    testing::spec(&SIZE, weights)
}

/// A tensor as it is about to be written.
#[derive(Clone)]
struct Draft {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    data: Vec<u8>,
}

fn tensors(file: &[u8]) -> Vec<Draft> {
    let draft = |t: Tensor<'_>| Draft {
        name: t.name.to_owned(),
        dtype: t.dtype,
        shape: t.shape().collect(),
        data: t.data.to_vec(),
    };
    Reader::open(file).unwrap().tensors().map(draft).collect()
}

fn write(spec: &ModelSpec<'_>, tensors: &[Draft]) -> Vec<u8> {
    let mut writer = Writer::new();
    spec.write(&mut writer).unwrap();
    for t in tensors {
        writer.tensor(&t.name, t.dtype, &t.shape, &t.data).unwrap();
    }
    writer.finish().unwrap()
}

/// The refusal of a file in which one tensor was changed; the message must be one line with its name.
fn refusal(weights: Weights, index: usize, change: impl Fn(&mut Vec<Draft>, usize)) -> LoadError {
    let mut drafts = tensors(&testing::model(&spec(weights), 1).unwrap());
    let name = drafts[index].name.clone();
    change(&mut drafts, index);
    let error = Model::open(&write(&spec(weights), &drafts)).unwrap_err();
    let line = error.to_string();
    assert!(
        line.contains(&name) && line.lines().count() == 1,
        "{name}: {line}"
    );
    error
}

fn each(check: impl Fn(Weights, usize, &Draft)) {
    for weights in [Weights::F32, Weights::Int8, Weights::Int4] {
        let drafts = tensors(&testing::model(&spec(weights), 1).unwrap());
        for (index, draft) in drafts.iter().enumerate() {
            check(weights, index, draft);
        }
    }
}

fn first_float(draft: &mut Draft, value: f32) {
    draft.data[..4].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn a_missing_tensor_is_named() {
    each(|weights, index, _| {
        let error = refusal(weights, index, |drafts, i| drop(drafts.remove(i)));
        assert!(matches!(error, LoadError::Missing(_)));
    });
}

#[test]
fn a_tensor_that_nothing_calls_for_is_named() {
    for weights in [Weights::F32, Weights::Int8, Weights::Int4] {
        let size = Size { blocks: 2, ..SIZE };
        let of_two = tensors(&testing::model(&testing::spec(&size, weights), 1).unwrap());
        assert!(Model::open(&write(&testing::spec(&size, weights), &of_two)).is_ok());
        // The metadata speak of one block, and all of it is there.
        let error = Model::open(&write(&spec(weights), &of_two)).unwrap_err();
        assert!(matches!(error, LoadError::Unknown(_)), "{error}");
        assert!(
            error.to_string().starts_with("tensor encoder.1."),
            "{error}"
        );
    }
    // A tensor of any name, at any place; `ctc.scale` belongs to int8 only.
    for (name, weights) in [("notes", Weights::Int8), ("ctc.scale", Weights::F32)] {
        let whole = tensors(&testing::model(&spec(weights), 1).unwrap());
        for at in [0, whole.len() / 2, whole.len()] {
            let mut more = whole.clone();
            let (dtype, shape, data) = (DType::F32, vec![1], vec![0; 4]);
            more.insert(
                at,
                Draft {
                    name: name.into(),
                    dtype,
                    shape,
                    data,
                },
            );
            let error = Model::open(&write(&spec(weights), &more)).unwrap_err();
            assert!(matches!(error, LoadError::Unknown(_)), "{error}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    each(|weights, index, _| {
        let other_rank = refusal(weights, index, |drafts, i| {
            let shape = &mut drafts[i].shape;
            *shape = match shape[..] {
                [len] => vec![1, len],
                _ => vec![shape.iter().product()],
            };
        });
        assert!(matches!(other_rank, LoadError::Shape { .. }));
        let larger = refusal(weights, index, |drafts, i| {
            let more = drafts[i].data.len() / drafts[i].shape[0];
            drafts[i].shape[0] += 1;
            let end = drafts[i].data.len() + more;
            drafts[i].data.resize(end, 0);
        });
        assert!(matches!(larger, LoadError::Shape { .. }));
    });
}

#[test]
fn a_tensor_of_another_type_is_named() {
    each(|weights, index, _| {
        let error = refusal(weights, index, |drafts, i| {
            let t = &mut drafts[i];
            t.dtype = if t.dtype == DType::F32 {
                DType::I32
            } else {
                DType::F32
            };
            t.data.resize(4 * t.shape.iter().product::<usize>(), 0);
        });
        assert!(matches!(error, LoadError::Type { .. }));
    });
}

#[test]
fn nan_and_infinity_are_named() {
    each(|weights, index, draft| {
        if draft.dtype == DType::F32 {
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let error = refusal(weights, index, |drafts, i| {
                    first_float(&mut drafts[i], value)
                });
                assert!(matches!(error, LoadError::NotFinite(_)));
            }
        }
    });
}

#[test]
fn quantised_values_outside_their_ranges_are_named() {
    each(|weights, index, draft| {
        if draft.name.ends_with(".scale") {
            for value in [0.0, -0.0, -1.0] {
                let error = refusal(weights, index, |drafts, i| {
                    first_float(&mut drafts[i], value)
                });
                assert!(matches!(error, LoadError::Scale(_)));
            }
        }
        if draft.dtype == DType::I8 {
            let stored = layout::stored(weights, &draft.name);
            // In a byte with two weights, -8 in either half, whatever the other is.
            let least: &[u8] = match stored {
                Weights::Int4 => &[0x80, 0x08, 0x88, 0x8f, 0x78],
                _ => &[0x80],
            };
            for &byte in least {
                let last = draft.data.len() - 1;
                for at in [0, last] {
                    let error = refusal(weights, index, |drafts, i| drafts[i].data[at] = byte);
                    assert!(matches!(error, LoadError::Code(_)));
                }
            }
        }
        if draft.dtype == DType::I32 {
            let error = refusal(weights, index, |drafts, i| drafts[i].data[0] ^= 1);
            assert!(matches!(error, LoadError::Colsum(_)));
        }
    });
}

/// Each matrix of an int4 model has one precision, which its name tells.
#[test]
fn a_matrix_in_the_other_precision_is_named() {
    let (int8, int4) = (
        tensors(&testing::model(&spec(Weights::Int8), 1).unwrap()),
        tensors(&testing::model(&spec(Weights::Int4), 1).unwrap()),
    );
    for (index, of_int8) in int8.iter().enumerate() {
        if int4[index].shape == of_int8.shape {
            continue;
        }
        for (weights, other) in [(Weights::Int4, of_int8), (Weights::Int8, &int4[index])] {
            let error = refusal(weights, index, |drafts, i| drafts[i] = other.clone());
            assert!(matches!(error, LoadError::Shape { .. }), "{error}");
        }
    }
    // A whole file whose metadata say the other thing.
    for (said, held) in [(Weights::Int4, &int8), (Weights::Int8, &int4)] {
        let error = Model::open(&write(&spec(said), held)).unwrap_err();
        assert!(matches!(error, LoadError::Shape { .. }), "{error}");
    }
}

/// The sizes of `SIZE` fill their panels; one with a width of 18 leaves inputs, a whole half of bytes, and outputs over.
#[test]
fn weights_beyond_the_shape_are_named() {
    let size = Size {
        d_model: 18,
        heads: 3,
        ff: 36,
        ..SIZE
    };
    for weights in [Weights::Int8, Weights::Int4] {
        let spec = testing::spec(&size, weights);
        let file = testing::model(&spec, 1).unwrap();
        assert!(Model::open(&file).is_ok());
        let whole = tensors(&file);
        for (index, draft) in whole.iter().enumerate() {
            if !matches!(
                draft.name.as_str(),
                "encoder.0.ff1.up.weight" | "encoder.0.ff1.down.weight"
            ) {
                continue;
            }
            // Both have spare outputs in the last panel; 18 inputs end in the middle of a group, 36 of a pair.
            let inputs: usize = if draft.name.contains("up") { 18 } else { 36 };
            let outputs = 54 - inputs;
            let mut spare = vec![
                (outputs, 0),
                (outputs, inputs - 1),
                (0, inputs),
                (1, inputs + 1),
            ];
            if inputs == 36 && weights == Weights::Int8 {
                // Nine whole groups.
                spare.truncate(2);
            }
            for (output, input) in spare {
                let mut drafts = whole.clone();
                match weights {
                    Weights::Int4 => {
                        let groups = inputs.next_multiple_of(panels::int4::PAIR);
                        let (byte, high) = panels::int4::at(output, input, groups);
                        drafts[index].data[byte] = if high { 0x10 } else { 0x01 };
                    }
                    _ => {
                        drafts[index].data[panels::at(output, input, inputs.next_multiple_of(4))] =
                            1
                    }
                }
                let error = Model::open(&write(&spec, &drafts)).unwrap_err();
                assert!(
                    matches!(error, LoadError::Padding(_)),
                    "{output} {input}: {error}"
                );
                assert!(error.to_string().contains(&draft.name), "{error}");
            }
        }
    }
}

#[test]
fn specs_beyond_the_engine_are_refused() {
    let refused = |change: fn(&mut Conformer<'_>)| {
        let mut spec = spec(Weights::F32);
        if let Family::Conformer(conformer) = &mut spec.family {
            change(conformer);
        }
        let planned = arena_bytes(&spec, spec.conformer().unwrap().max_frames as usize);
        let opened = Model::open(&write(&spec, &[])).map(drop);
        let (planned, opened) = (planned.unwrap_err(), opened.unwrap_err());
        assert_eq!(planned.to_string(), opened.to_string());
        opened
    };
    let blocks = refused(|c| c.encoder.blocks = MAX_BLOCKS as u32 + 1);
    assert!(matches!(blocks, LoadError::Unsupported(_)));
    let memory = refused(|c| {
        (c.encoder.blocks, c.encoder.d_model, c.encoder.heads) = (16, 2048, 64);
        c.max_frames = 8192;
    });
    assert!(matches!(memory, LoadError::Arena { .. }));
}

#[test]
fn an_arena_larger_than_declared_is_refused() {
    let file = testing::model(&spec(Weights::Int8), 1).unwrap();
    let needed = Model::open(&file).unwrap().spec().arena_bytes;
    for (declared, fits) in [
        (needed - 1, false),
        (1, false),
        (needed, true),
        (0, true),
        (u64::MAX, true),
    ] {
        let spec = ModelSpec {
            arena_bytes: declared,
            ..spec(Weights::Int8)
        };
        let opened = Model::open(&write(&spec, &tensors(&file))).map(drop);
        assert_eq!(opened.is_ok(), fits, "{declared} of {needed}");
    }
}

#[test]
fn a_detector_is_no_lip_reader() {
    let yunet = Yunet::new(32, &[8, 16, 32]).unwrap();
    let spec = ModelSpec {
        family: Family::Yunet(yunet),
        ..spec(Weights::F32)
    };
    let error = Model::open(&write(&spec, &[])).unwrap_err();
    assert!(
        matches!(error, LoadError::Spec(SpecError::WrongFamily { .. })),
        "{error}"
    );
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = testing::model(&spec(Weights::Int8), 1).unwrap();
    for len in (0..file.len()).step_by(97).chain([file.len() - 1]) {
        let error = Model::open(&file[..len]).unwrap_err();
        assert_eq!(error.to_string().lines().count(), 1);
    }
}

#[test]
fn a_file_at_an_odd_address_is_refused() {
    let file = testing::model(&spec(Weights::Int8), 1).unwrap();
    let mut shifted = vec![0; file.len() + 1];
    let offset = 1 - shifted.as_ptr().addr() % 2;
    shifted[offset..][..file.len()].copy_from_slice(&file);
    let error = Model::open(&shifted[offset..][..file.len()]).unwrap_err();
    assert!(matches!(error, LoadError::Misaligned), "{error}");
}

/// Whatever passes the checks runs, however wild its numbers.
#[test]
fn files_with_flipped_bits_never_panic() {
    let mut state = 1u64;
    let mut next = |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let crops = testing::crops(1, 3, 88);
    let (mut refused, mut ran) = (0, 0);
    for weights in [Weights::F32, Weights::Int8, Weights::Int4] {
        let file = testing::model(&spec(weights), 1).unwrap();
        // The data begins after some thousand bytes of metadata; hit both about as often.
        let metadata = file.len() - Reader::open(&file).unwrap().data().len();
        for round in 0..1500 {
            let mut file = file.clone();
            for _ in 0..1 + next(3) {
                let at = if round % 2 == 0 {
                    next(metadata)
                } else {
                    next(file.len())
                };
                file[at] ^= 1 << next(8);
            }
            match Model::open(&file) {
                Ok(model) if round < 400 => {
                    run(&model, &crops);
                    ran += 1;
                }
                Ok(_) => (),
                Err(_) => refused += 1,
            }
        }
    }
    println!("refused {refused}, ran {ran}");
    assert!(refused > 100 && ran > 100);
}

#[test]
fn the_largest_weights_overflow_without_a_panic() {
    for weights in [Weights::F32, Weights::Int8, Weights::Int4] {
        let mut drafts = tensors(&testing::model(&spec(weights), 1).unwrap());
        for t in drafts.iter_mut().filter(|t| t.dtype == DType::F32) {
            for (i, word) in t.data.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let positive = t.name.ends_with(".scale") || i % 3 == 0;
                *word = if positive { f32::MAX } else { f32::MIN }.to_le_bytes();
            }
        }
        let file = write(&spec(weights), &drafts);
        run(&Model::open(&file).unwrap(), &testing::crops(1, 3, 88));
    }
}

fn run(model: &Model<'_>, crops: &[u8]) {
    // A flipped bit may ask for long utterances; three frames need little.
    let frames = model.max_frames().min(3);
    let options = Options {
        max_frames: Some(frames),
        ..Options::default()
    };
    let mut arena = vec![0; model.arena_bytes(frames)];
    let mut session = Session::new(model, &mut arena, options).unwrap();
    let len = model.crop_side() * model.crop_side();
    for crop in crops.chunks_exact(len).take(frames) {
        session.push_crop(crop, 0).unwrap();
    }
    session.finish();
    assert_eq!(
        session.logits().len(),
        session.frames() * model.vocabulary()
    );
}
