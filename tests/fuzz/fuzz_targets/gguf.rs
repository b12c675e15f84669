//! The model file reader on bytes of any kind: no panic, no overflow, nothing outside its bounds.

#![no_main]

use std::convert::Infallible;
use std::hint::black_box;

use libfuzzer_sys::fuzz_target;
use viseme_format::gguf::{DType, Reader, Tensor};
use viseme_format::layout;
use viseme_format::spec::{ModelSpec, Weights};
use viseme_format::widen::{is_half, widen};

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = Reader::open(bytes) else { return };

    // What was accepted is there, to the last byte.
    assert_eq!(file.tensors().count(), file.tensor_count());
    assert_eq!(file.entries().count(), file.key_count());
    for tensor in file.tensors() {
        check(&tensor);
        assert_eq!(file.tensor(tensor.name), Some(tensor));
    }
    for (key, value) in file.entries() {
        black_box(format!("{value:?}"));
        assert!(file.value(key).is_some());
    }
    black_box(file.verify().is_ok());
    if let Ok(wide) = widen(bytes) {
        assert!(Reader::open(&wide).is_ok_and(|wide| !is_half(&wide)));
    }

    let Ok(spec) = ModelSpec::read(&file) else { return };
    let sizes = |_: &str, shape: &[usize], dtype: DType| -> Result<(), Infallible> {
        // Sizes that follow from an accepted spec fit the 32 bits of a small board.
        let size = shape.iter().try_fold(dtype.size() as u32, |size, &dim| size.checked_mul(dim as u32));
        assert!(size.is_some_and(|size| size > 0), "{shape:?}");
        Ok(())
    };
    for weights in [Weights::F32, Weights::F16, Weights::Int8, Weights::Int4] {
        if let Ok(model) = spec.conformer() {
            assert!(model.tokens.iter().count() == model.tokens.len());
            let Ok(()) = layout::model(model, weights, sizes);
        }
        if let Ok(model) = spec.auto_avsr() {
            assert!(model.tokens.iter().count() == model.tokens.len());
            let Ok(()) = layout::auto_avsr::model(model, weights, sizes);
        }
    }
});

fn check(tensor: &Tensor<'_>) {
    assert_eq!(tensor.elements() * tensor.dtype.size(), tensor.data.len());
    let last = tensor.elements() - 1;
    match tensor.dtype {
        DType::F32 => {
            assert_eq!(tensor.f32s().map(|values| values.len()), Some(last + 1));
            assert!(tensor.f32_at(last).is_some() && tensor.f32_at(last + 1).is_none());
        }
        DType::I32 => assert!(tensor.i32s().is_some_and(|values| values.len() == last + 1)),
        DType::I8 => assert!(tensor.as_i8().is_some_and(|values| values.len() == last + 1)),
        _ => assert!(tensor.f32s().is_none()),
    }
    black_box((tensor.finite(), tensor.as_f32(), tensor.as_i32()));
}
