//! Models kept in half precision, as models to run.
//!
//! An F16 matrix takes half the space of an F32 one, and no kernel multiplies it: a file that is kept so becomes one of
//! [`Weights::F32`] when it is loaded, with the values that the F16 numbers stand for.

use alloc::vec::Vec;
use core::fmt;

use crate::gguf::{DType, Error, Reader, WriteError, Writer};
use crate::layout;
use crate::names::TensorName;
use crate::spec::{Family, ModelSpec, SpecError, SpecWriteError, Weights};

/// Whether the file says that its matrices are F16.
pub fn is_half(file: &Reader<'_>) -> bool {
    ModelSpec::read(file).is_ok_and(|spec| spec.weights == Weights::F16)
}

/// The file with F32 matrices.
///
/// # Errors
/// A file that is not sound, or of a family that is not kept so.
pub fn widen(bytes: &[u8]) -> Result<Vec<u8>, WidenError> {
    let file = Reader::open(bytes)?;
    let spec = ModelSpec::read(&file)?;
    let Family::AutoAvsr(of) = &spec.family else {
        return Err(WidenError::Family);
    };
    let mut writer = Writer::new();
    let wide = ModelSpec {
        weights: Weights::F32,
        ..spec
    };
    wide.write(&mut writer)?;
    layout::auto_avsr::model(of, spec.weights, |name, shape, dtype| {
        let tensor = file.tensor(name).filter(|tensor| tensor.has_shape(shape));
        let values: Option<Vec<f32>> = tensor.and_then(|tensor| match dtype {
            DType::F16 => tensor.f16s().map(Iterator::collect),
            _ => tensor.f32s().map(Iterator::collect),
        });
        let missing = || WidenError::Tensor(TensorName::new(format_args!("{name}")));
        writer.tensor_f32(name, shape, &values.ok_or_else(missing)?)?;
        Ok::<(), WidenError>(())
    })?;
    Ok(writer.finish()?)
}

/// Why a file cannot be widened. `Display` is one line for the user.
#[derive(Debug)]
pub enum WidenError {
    /// The container.
    File(Error),
    /// What the file says about itself.
    Spec(SpecError),
    /// Only models of Auto-AVSR are kept in half precision.
    Family,
    /// A tensor that is missing, or of another shape or type.
    Tensor(TensorName),
    /// What is there cannot be written again.
    Write(SpecWriteError),
}

impl fmt::Display for WidenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WidenError::File(error) => error.fmt(f),
            WidenError::Spec(error) => error.fmt(f),
            WidenError::Family => f.write_str(
                "only models of Auto-AVSR have weights in half precision; export the model again",
            ),
            WidenError::Tensor(name) => write!(
                f,
                "tensor {name} is missing, or of another shape or type; convert the model again"
            ),
            WidenError::Write(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for WidenError {}

impl From<Error> for WidenError {
    fn from(error: Error) -> Self {
        WidenError::File(error)
    }
}

impl From<SpecError> for WidenError {
    fn from(error: SpecError) -> Self {
        WidenError::Spec(error)
    }
}

impl From<SpecWriteError> for WidenError {
    fn from(error: SpecWriteError) -> Self {
        WidenError::Write(error)
    }
}

impl From<WriteError> for WidenError {
    fn from(error: WriteError) -> Self {
        WidenError::Write(error.into())
    }
}
