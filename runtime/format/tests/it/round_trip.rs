//! What is written is what is read.

use viseme_format::gguf::{DType, Reader, Tensor, Value};
use viseme_format::spec::ModelSpec;

use viseme_format::spec::json::JsonSpec;

use crate::common;

#[test]
fn a_spec_survives() {
    let bytes = common::file();
    let file = Reader::open(&bytes).unwrap();
    file.verify().unwrap();
    assert_eq!(ModelSpec::read(&file).unwrap(), common::spec());
}

#[test]
fn a_spec_survives_json() {
    let text = common::spec().to_json().unwrap();
    let json = JsonSpec::parse(&text).unwrap();
    assert_eq!(json.spec().unwrap(), common::spec());
    assert!(text.contains("\"crop.mean\": 0.421"), "{text}");
}

#[test]
fn tensors_survive() {
    let bytes = common::file();
    let file = Reader::open(&bytes).unwrap();
    let get = |name| file.tensor(name).unwrap();
    assert_eq!(file.tensor_count(), 7);
    assert!(file.tensor("c").is_none());

    let a: Tensor = get("a.weight");
    assert_eq!((a.dims(), a.dtype), ([3, 2].as_slice(), DType::F32));
    assert!(a.has_shape(&[2, 3]) && !a.has_shape(&[3, 2]) && !a.has_shape(&[2, 3, 1]));
    let values: Vec<f32> = a.f32s().unwrap().collect();
    assert_eq!(values, [1.0, -2.5, 0.0, f32::MAX, f32::MIN_POSITIVE, 1e-9]);
    assert_eq!(
        (a.f32_at(1), a.f32_at(6), a.f32_at(usize::MAX)),
        (Some(-2.5), None, None)
    );
    assert!(a.as_i8().is_none() && a.as_i32().is_none() && a.finite());

    assert_eq!(get("b.weight").as_i8().unwrap()[..3], [-52, -51, -50]);
    assert_eq!(get("b.weight").dims(), [3, 7, 1, 5]);
    assert!(
        get("b.colsum")
            .i32s()
            .unwrap()
            .eq([i32::MIN, -1, 0, 1, i32::MAX])
    );
}

#[test]
fn aligned_bytes_are_not_copied() {
    let bytes = common::file();
    let words: Vec<u64> = vec![0; bytes.len() / 8];
    let mut aligned = words;
    bytemuck::cast_slice_mut(&mut aligned).copy_from_slice(&bytes);
    let file = Reader::open(bytemuck::cast_slice(&aligned)).unwrap();
    let tensor = file.tensor("a.weight").unwrap();
    assert_eq!(
        tensor.as_f32().unwrap().as_ptr().cast::<u8>(),
        tensor.data.as_ptr()
    );
    assert_eq!(tensor.data.as_ptr() as usize % 8, 0);
}

#[test]
fn the_same_calls_give_the_same_bytes() {
    assert_eq!(common::file(), common::file());
}

#[test]
fn the_writer_closes_with_alignment_and_digest() {
    let bytes = common::file();
    let file = Reader::open(&bytes).unwrap();
    assert_eq!(file.value("general.alignment"), Some(Value::U32(64)));
    assert_eq!(bytes.len() % 64, 0);
    assert!(file.tensors().all(|tensor| {
        (tensor.data.as_ptr() as usize - bytes.as_ptr() as usize).is_multiple_of(64)
    }));
}
