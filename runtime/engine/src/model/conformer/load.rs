//! Tensors out of an untrusted file: each one is checked for name, shape, type and values before
//! anything computes with it.

use core::fmt;

use viseme_format::gguf::{self, DType, MAX_RANK, Reader, Tensor};
use viseme_format::layout;
use viseme_format::names::TensorName;
use viseme_format::panels;
use viseme_format::spec::{SpecError, Weights};

use super::linear::{Linear, Weight};
use crate::kernels::packed::{Packed, Unit};
use crate::kernels::{WeightsF32, WeightsI4, WeightsI8};

/// Why a model cannot be run. `Display` is one line for the user.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// The file is no sound GGUF.
    File(gguf::Error),
    /// The metadata is incomplete or out of range.
    Spec(SpecError),
    /// A tensor that the spec calls for is not there.
    Missing(TensorName),
    /// A tensor is there that the spec does not call for.
    Unknown(TensorName),
    /// A tensor has another shape than the spec calls for.
    Shape {
        /// The tensor.
        tensor: TensorName,
        /// The shape it should have, outermost first.
        want: Shape,
    },
    /// A tensor has another element type than the spec calls for.
    Type {
        /// The tensor.
        tensor: TensorName,
        /// The type it should have.
        want: DType,
    },
    /// A tensor holds an infinity or NaN.
    NotFinite(TensorName),
    /// A scale is zero or negative.
    Scale(TensorName),
    /// A weight is -128 in int8 or -8 in int4, outside the symmetric range.
    Code(TensorName),
    /// A panel holds weights of outputs or inputs that the layer does not have.
    Padding(TensorName),
    /// A stored sum is not the sum of the weights of its output.
    Colsum(TensorName),
    /// The caller's bytes do not lie at a multiple of 4 in memory, or this machine is big endian.
    Misaligned,
    /// The model is sound, but this engine has no code or room for it.
    Unsupported(&'static str),
    /// The model needs more working memory than it declares, or than the engine's limit.
    Arena {
        /// What its plan comes to, in bytes.
        needed: u64,
        /// What it may be, in bytes.
        limit: u64,
    },
}

/// A shape of up to four dimensions, outermost first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    fn new(shape: &[usize]) -> Self {
        let mut dims = [0; MAX_RANK];
        let rank = shape.len().min(MAX_RANK);
        dims[..rank].copy_from_slice(&shape[..rank]);
        Shape { dims, rank }
    }
}

impl From<gguf::Error> for LoadError {
    fn from(error: gguf::Error) -> Self {
        LoadError::File(error)
    }
}

impl From<SpecError> for LoadError {
    fn from(error: SpecError) -> Self {
        LoadError::Spec(error)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::File(error) => error.fmt(f),
            LoadError::Spec(error) => error.fmt(f),
            LoadError::Missing(name) => {
                write!(f, "the model has no tensor {name}; export it again")
            }
            LoadError::Unknown(name) => write!(
                f,
                "tensor {name} is none that the model's metadata calls for; export the model again"
            ),
            LoadError::Shape { tensor, want } => {
                write!(
                    f,
                    "tensor {tensor} does not have the shape {want}; export the model again"
                )
            }
            LoadError::Type { tensor, want } => {
                write!(
                    f,
                    "tensor {tensor} is not of type {want:?}; export the model again"
                )
            }
            LoadError::NotFinite(name) => {
                write!(
                    f,
                    "tensor {name} holds NaN or infinity; export the model again"
                )
            }
            LoadError::Scale(name) => {
                write!(
                    f,
                    "tensor {name} holds a scale that is not positive; export the model again"
                )
            }
            LoadError::Code(name) => {
                write!(
                    f,
                    "tensor {name} holds a weight outside its symmetric range; export the model again"
                )
            }
            LoadError::Padding(name) => {
                write!(
                    f,
                    "tensor {name} holds weights beyond its shape; export the model again"
                )
            }
            LoadError::Colsum(name) => {
                write!(
                    f,
                    "tensor {name} does not hold the sums of its weights; export the model again"
                )
            }
            LoadError::Misaligned => write!(
                f,
                "the model lies at an odd address or this machine is big endian; load it 64-byte aligned"
            ),
            LoadError::Unsupported(what) => {
                write!(
                    f,
                    "this engine cannot run {what}; use a newer one or a smaller model"
                )
            }
            LoadError::Arena { needed, limit } => write!(
                f,
                "the model needs {needed} bytes of working memory, of at most {limit}; export it again"
            ),
        }
    }
}

impl core::error::Error for LoadError {}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, dim) in self.dims[..self.rank].iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{dim}")?;
        }
        f.write_str("]")
    }
}

/// The tensors of one file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tensors<'r, 'a> {
    pub file: &'r Reader<'a>,
    /// How matrices are stored.
    pub weights: Weights,
}

impl<'a> Tensors<'_, 'a> {
    /// A finite F32 tensor of this shape.
    pub fn floats(
        &self,
        name: fmt::Arguments<'_>,
        shape: &[usize],
    ) -> Result<&'a [f32], LoadError> {
        let name = TensorName::new(name);
        let tensor = self.find(name, DType::F32, shape)?;
        if !tensor.finite() {
            return Err(LoadError::NotFinite(name));
        }
        tensor.as_f32().ok_or(LoadError::Misaligned)
    }

    /// `{prefix}.weight` of this shape, outputs first, in the model's precision, and `{prefix}.bias`.
    pub fn linear(
        &self,
        prefix: fmt::Arguments<'_>,
        shape: &[usize],
    ) -> Result<Linear<'a>, LoadError> {
        let outputs = shape.first().copied().unwrap_or(0);
        Ok(Linear {
            weight: self.matrix(prefix, shape)?,
            bias: self.floats(format_args!("{prefix}.bias"), &[outputs])?,
        })
    }

    /// `{prefix}.weight` of this shape, outputs first, in the model's precision.
    pub fn matrix(
        &self,
        prefix: fmt::Arguments<'_>,
        shape: &[usize],
    ) -> Result<Weight<'a>, LoadError> {
        let outputs = shape.first().copied().unwrap_or(0);
        let inputs = shape.iter().skip(1).product();
        let too_wide = LoadError::Unsupported("a layer with more than 32768 inputs");
        let name = TensorName::new(format_args!("{prefix}.weight"));
        Ok(match layout::stored(self.weights, &name) {
            Weights::F32 => {
                let rows = self.floats(format_args!("{prefix}.weight"), shape)?;
                Weight::F32(WeightsF32::new(rows, inputs).ok_or(too_wide)?)
            }
            Weights::F16 => {
                return Err(LoadError::Unsupported(
                    "weights in half precision; widen the file",
                ));
            }
            Weights::Int8 => {
                let packed = self.packed(name, &panels::shape(outputs, inputs))?;
                if packed.contains(&i8::MIN) {
                    return Err(LoadError::Code(name));
                }
                let (scale, sums) = self.scales(prefix, outputs)?;
                let w = WeightsI8::new(packed, scale, sums, inputs).ok_or(too_wide)?;
                Weight::I8(self.sound(prefix, w)?)
            }
            Weights::Int4 => {
                let packed = self.packed(name, &panels::int4::shape(outputs, inputs))?;
                let least = |&byte: &i8| panels::int4::halves(byte as u8).contains(&-8);
                if packed.iter().any(least) {
                    return Err(LoadError::Code(name));
                }
                let (scale, sums) = self.scales(prefix, outputs)?;
                let w = WeightsI4::new(packed, scale, sums, inputs).ok_or(too_wide)?;
                Weight::I4(self.sound(prefix, w)?)
            }
        })
    }

    /// The bytes of packed panels.
    fn packed(&self, name: TensorName, shape: &[usize]) -> Result<&'a [i8], LoadError> {
        let tensor = self.find(name, DType::I8, shape)?;
        tensor.as_i8().ok_or(LoadError::Misaligned)
    }

    /// `{prefix}.scale`, all positive, and `{prefix}.colsum`.
    fn scales(
        &self,
        prefix: fmt::Arguments<'_>,
        outputs: usize,
    ) -> Result<(&'a [f32], &'a [i32]), LoadError> {
        let scale = self.floats(format_args!("{prefix}.scale"), &[outputs])?;
        if scale.iter().any(|&s| s <= 0.0) {
            return Err(LoadError::Scale(TensorName::new(format_args!(
                "{prefix}.scale"
            ))));
        }
        let colsum = TensorName::new(format_args!("{prefix}.colsum"));
        let tensor = self.find(colsum, DType::I32, &[outputs])?;
        Ok((scale, tensor.as_i32().ok_or(LoadError::Misaligned)?))
    }

    /// Weights whose padding and sums are what they should be.
    fn sound<U: Unit>(
        &self,
        prefix: fmt::Arguments<'_>,
        w: Packed<'a, U>,
    ) -> Result<Packed<'a, U>, LoadError> {
        let name = |part| TensorName::new(format_args!("{prefix}.{part}"));
        if !w.padding_is_zero() {
            return Err(LoadError::Padding(name("weight")));
        }
        if !w.sums_hold() {
            return Err(LoadError::Colsum(name("colsum")));
        }
        Ok(w)
    }

    /// Refuses a file with more tensors than those that `walk` visits by name, all of which must have been found in it.
    /// `walk` returns whether it came to an end.
    pub fn no_others(
        &self,
        walk: impl Fn(&mut dyn FnMut(&str) -> Result<(), ()>) -> Result<(), ()>,
    ) -> Result<(), LoadError> {
        let mut wanted = 0;
        // The visitor never fails, so the walk does not.
        let _ = walk(&mut |_| {
            wanted += 1;
            Ok(())
        });
        // No name is in a file twice.
        if self.file.tensor_count() == wanted {
            return Ok(());
        }
        let is_wanted = |found: &str| {
            let mut differs = |name: &str| if name == found { Err(()) } else { Ok(()) };
            walk(&mut differs).is_err()
        };
        let unknown = self.file.tensors().find(|t| !is_wanted(t.name));
        unknown.map_or(Ok(()), |t| {
            let name = TensorName::new(format_args!("{}", t.name));
            Err(LoadError::Unknown(name))
        })
    }

    fn find(
        &self,
        name: TensorName,
        dtype: DType,
        shape: &[usize],
    ) -> Result<Tensor<'a>, LoadError> {
        let tensor = self.file.tensor(&name).ok_or(LoadError::Missing(name))?;
        if !tensor.has_shape(shape) {
            let want = Shape::new(shape);
            return Err(LoadError::Shape { tensor: name, want });
        }
        if tensor.dtype != dtype {
            return Err(LoadError::Type {
                tensor: name,
                want: dtype,
            });
        }
        Ok(tensor)
    }
}
