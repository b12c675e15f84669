//! Weights as plain numbers, whatever a file stores them as: for exporters, and for measuring what rounding cost.

use alloc::vec::Vec;
use core::fmt;

use crate::gguf::{DType, Reader, Tensor, Value};
use crate::layout;
use crate::names::TensorName;
use crate::panels;
use crate::spec::Weights;

/// The values of tensor `name`, row-major in `shape` (outermost first), as [`layout::model`] lists them for f32.
///
/// F32 values come as they are; an int8 or int4 matrix comes out of its panels, each row times its scale (`SPEC.md`,
/// sections 3.1, 3.2 and 4.3).
///
/// # Errors
/// A tensor that is missing, or of another shape or type than the format has for it.
///
/// [`layout::model`]: crate::layout::model
pub fn values(file: &Reader<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>, ValuesError> {
    let tensor = find(file, name)?;
    let wrong = || ValuesError::Shape(tensor_name(name));
    if let Some(values) = tensor.f32s() {
        return match tensor.has_shape(shape) {
            true => Ok(values.collect()),
            false => Err(wrong()),
        };
    }
    let packed = tensor
        .as_i8()
        .ok_or(ValuesError::Type(tensor_name(name), tensor.dtype))?;
    let (&outputs, rest) = shape.split_first().ok_or_else(wrong)?;
    let inputs: usize = rest.iter().product();
    let int4 = is_int4(file, name);
    let packed_shape = match int4 {
        true => panels::int4::shape(outputs, inputs),
        false => panels::shape(outputs, inputs),
    };
    if !tensor.has_shape(&packed_shape) {
        return Err(wrong());
    }
    let stem = name.strip_suffix("weight").unwrap_or(name);
    let scales = TensorName::new(format_args!("{stem}scale"));
    let scale = find(file, &scales)?;
    let scale = scale.f32s().ok_or(ValuesError::Type(scales, scale.dtype))?;
    if scale.len() != outputs {
        return Err(ValuesError::Shape(scales));
    }
    let row = |(output, scale)| {
        let code = move |input| match int4 {
            true => {
                let (byte, high) = panels::int4::at(output, input, inputs);
                panels::int4::halves(packed[byte] as u8)[usize::from(high)]
            }
            false => packed[panels::at(output, input, inputs)],
        };
        (0..inputs).map(move |input| scale * f32::from(code(input)))
    };
    Ok(scale.enumerate().flat_map(row).collect())
}

/// Whether the file has this matrix in four bits ([`panels::int4`]), rather than in eight or as floats.
pub fn is_int4(file: &Reader<'_>, name: &str) -> bool {
    // Only an int4 model has such matrices, which the shapes do not tell: narrow ones have the same in both types.
    matches!(file.value("viseme.quant.weights"), Some(Value::Str("int4")))
        && layout::stored(Weights::Int4, name) == Weights::Int4
}

/// Why a tensor has no values. `Display` is one line for the user.
#[derive(Clone, Copy, Debug)]
pub enum ValuesError {
    /// The file does not have it.
    Missing(TensorName),
    /// It has another shape.
    Shape(TensorName),
    /// Its elements are of this type, which no weights have.
    Type(TensorName, DType),
}

impl fmt::Display for ValuesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValuesError::Missing(name) => write!(f, "the model has no tensor {name}")?,
            ValuesError::Shape(name) => {
                write!(f, "tensor {name} has another shape than its model")?
            }
            ValuesError::Type(name, dtype) => write!(f, "tensor {name} is of type {dtype:?}")?,
        }
        f.write_str("; export the model again")
    }
}

impl core::error::Error for ValuesError {}

fn find<'a>(file: &Reader<'a>, name: &str) -> Result<Tensor<'a>, ValuesError> {
    file.tensor(name)
        .ok_or_else(|| ValuesError::Missing(tensor_name(name)))
}

fn tensor_name(name: &str) -> TensorName {
    TensorName::new(format_args!("{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::Writer;
    use alloc::string::ToString;
    use alloc::vec;

    fn file() -> Vec<u8> {
        let mut writer = Writer::new();
        let rows: Vec<i8> = (0..18 * 5).map(|i| i - 40).collect();
        let packed = panels::pack(&rows, 5);
        let scale: Vec<f32> = (0..18).map(|o| 0.5 + o as f32).collect();
        writer.tensor_f32("a.weight", &[2, 3], &[1.0; 6]).unwrap();
        writer
            .tensor_i8("b.weight", &panels::shape(18, 5), &packed)
            .unwrap();
        writer.tensor_f32("b.scale", &[18], &scale).unwrap();
        writer.tensor_i32("b.colsum", &[18], &[0; 18]).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn rows_come_out_of_panels_times_their_scales() {
        let file = file();
        let reader = Reader::open(&file).unwrap();
        assert_eq!(values(&reader, "a.weight", &[2, 3]).unwrap(), vec![1.0; 6]);
        let b = values(&reader, "b.weight", &[18, 5]).unwrap();
        assert_eq!(b.len(), 90);
        // Output 17, input 2: code 17 · 5 + 2 - 40, scale 17.5.
        assert_eq!(b[17 * 5 + 2], 47.0 * 17.5);
        assert_eq!(b[..6], [-20.0, -19.5, -19.0, -18.5, -18.0, -35.0 * 1.5]);
    }

    #[test]
    fn matrices_of_an_int4_model_come_out_of_their_pairs() {
        let mut writer = Writer::new();
        writer.str("viseme.quant.weights", "int4").unwrap();
        // Three inputs: both types have the same shape, and only the name tells them apart.
        for (name, packed) in [
            (
                "encoder.0.att.q",
                panels::int4::pack(&[7, -7, 1, 0, -1, 3], 3),
            ),
            ("ctc", panels::pack(&[7, -7, 1, 0, -1, 3], 3)),
        ] {
            let named = |part| alloc::format!("{name}.{part}");
            writer
                .tensor_i8(&named("weight"), &[1, 1, 16, 4], &packed)
                .unwrap();
            writer
                .tensor_f32(&named("scale"), &[2], &[2.0, 0.5])
                .unwrap();
        }
        let file = writer.finish().unwrap();
        let reader = Reader::open(&file).unwrap();
        for name in ["encoder.0.att.q.weight", "ctc.weight"] {
            let got = values(&reader, name, &[2, 3]).unwrap();
            assert_eq!(got, [14.0, -14.0, 2.0, 0.0, -0.5, 1.5], "{name}");
        }
    }

    #[test]
    fn what_is_not_there_is_told() {
        let file = file();
        let reader = Reader::open(&file).unwrap();
        let wrong = [
            ("c.weight", &[2, 3][..]),
            ("a.weight", &[3, 2]),
            ("b.weight", &[18, 9]),
            ("b.weight", &[]),
            ("b.colsum", &[18]),
        ];
        for (name, shape) in wrong {
            let error = values(&reader, name, shape).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
