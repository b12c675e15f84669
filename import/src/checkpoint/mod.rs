//! Tensors out of other people's checkpoints: PyTorch's `.pth`, Lightning's `.ckpt`, safetensors. Nothing is executed.
//!
//! A checkpoint is mapped into memory and recognised by its content, not by its name. Opening it lists its tensors;
//! [`Checkpoint::load`] copies one at a time, so that a file of gigabytes costs little memory.
//!
//! PyTorch's files are ZIP archives whose `data.pkl` is a Python pickle, a program for a stack machine. The machine here
//! knows the instructions and classes that tensors need; of what else a checkpoint may hold (counters, options, the state
//! of an optimiser) it keeps nothing. A class or function that it does not know is refused by its name wherever it stands.

mod half;
mod kinds;
mod pickle;
mod sys;
mod torch;
mod zip;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::{Deref, Range};
use std::path::Path;

use memmap2::Mmap;

use crate::ImportError;
use crate::error::shown;

/// How the numbers of a tensor are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum DType {
    F32,
    F16,
    Bf16,
    F64,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl DType {
    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether it is a floating-point format, which [`Checkpoint::load`] can read.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16 | Self::F64)
    }
}

/// What a checkpoint says about one of its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// How its numbers are written.
    pub dtype: DType,
    /// Outermost first; a scalar has none.
    pub shape: Vec<usize>,
}

/// The tensors of a checkpoint by name.
#[derive(Debug)]
pub struct Checkpoint {
    bytes: Bytes,
    tensors: BTreeMap<String, Entry>,
}

impl Checkpoint {
    /// Opens a file. It must not be changed while it is in use.
    ///
    /// # Errors
    /// [`ImportError::Io`] when it cannot be read, else as [`Checkpoint::from_bytes`].
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let failed = |e: std::io::Error| {
            ImportError::Io(format!(
                "this checkpoint cannot be read: {e}; check the path"
            ))
        };
        let length = std::fs::metadata(path).map_err(failed)?;
        if length.is_dir() {
            return Err(ImportError::Io(
                "this is a folder; give the checkpoint file in it".into(),
            ));
        }
        // Some systems refuse to map nothing.
        let bytes = match length.len() {
            0 => Bytes::Owned(Vec::new()),
            _ => Bytes::Mapped(sys::map(path).map_err(failed)?),
        };
        Self::read(bytes)
    }

    /// Reads a file that is in memory already.
    ///
    /// # Errors
    /// [`ImportError::Damaged`] when it ends early or contradicts itself, [`ImportError::Refused`] when it names something
    /// that may run code, [`ImportError::Unsupported`] when it is no checkpoint, or one of an unsupported kind.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ImportError> {
        Self::read(Bytes::Owned(bytes))
    }

    /// A checkpoint of which only names and shapes are known: its tensors cannot be loaded.
    pub fn from_list(tensors: impl IntoIterator<Item = (String, TensorInfo)>) -> Self {
        let entry = |(name, info)| (name, Entry { info, place: None });
        Self {
            bytes: Bytes::Owned(Vec::new()),
            tensors: tensors.into_iter().map(entry).collect(),
        }
    }

    /// All tensors, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        let tensors = self.tensors.iter();
        tensors.map(|(name, entry)| (name.as_str(), &entry.info))
    }

    /// A tensor's description.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|entry| &entry.info)
    }

    /// The numbers of a tensor, row-major. What is f16, bf16 or f32 keeps its value; f64 is rounded.
    ///
    /// # Errors
    /// [`ImportError::WrongModel`] when there is no such tensor, [`ImportError::Unsupported`] when its numbers are
    /// integers, [`ImportError::Damaged`] when one of them is infinite or no number.
    pub fn load(&self, name: &str) -> Result<Vec<f32>, ImportError> {
        let missing = || ImportError::WrongModel(format!("the checkpoint has no {}", shown(name)));
        let entry = self.tensors.get(name).ok_or_else(missing)?;
        let dtype = entry.info.dtype;
        if !dtype.is_float() {
            return Err(ImportError::Unsupported(format!(
                "{} holds {dtype:?} where weights are expected; save the weights as f32",
                shown(name)
            )));
        }
        let place = entry.place.as_ref().ok_or_else(|| {
            ImportError::Unsupported(format!("only the shape of {} is known", shown(name)))
        })?;
        let bytes = &self.bytes[place.bytes.clone()];
        let bytes = match &place.strides {
            None => Cow::Borrowed(bytes),
            Some(strides) => Cow::Owned(gather(bytes, &entry.info, strides)),
        };
        let values = floats(&bytes, dtype);
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(values),
            false => Err(ImportError::Damaged(format!(
                "{} holds values that are infinite or no numbers",
                shown(name)
            ))),
        }
    }

    fn read(bytes: Bytes) -> Result<Self, ImportError> {
        let tensors = match kinds::recognise(&bytes)? {
            kinds::Kind::Torch => torch::read(&bytes)?,
            kinds::Kind::Safetensors => safetensors(&bytes)?,
        };
        Ok(Self { bytes, tensors })
    }
}

/// A file's bytes.
#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// A tensor, and where it lies if there are bytes.
#[derive(Debug)]
struct Entry {
    info: TensorInfo,
    place: Option<Place>,
}

/// Where a tensor's numbers lie: checked to be inside the file, and as many as its shape says.
#[derive(Debug)]
struct Place {
    bytes: Range<usize>,
    /// Steps between neighbours in each dimension, in numbers, where they do not follow from the shape. They are so that
    /// no two indices meet, hence `bytes` has at least as many numbers as the shape.
    strides: Option<Vec<usize>>,
}

fn safetensors(bytes: &[u8]) -> Result<BTreeMap<String, Entry>, ImportError> {
    use safetensors::tensor::{Dtype, SafeTensors};
    // The error may repeat text of the file.
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| {
        let why = shown(&e.to_string());
        ImportError::Damaged(format!("its list of tensors is wrong ({why})"))
    })?;
    let start = header + 8;
    let entry = |(name, tensor): (String, &safetensors::tensor::TensorInfo)| {
        let dtype = match tensor.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::Bf16,
            Dtype::F64 => DType::F64,
            Dtype::I64 => DType::I64,
            Dtype::I32 => DType::I32,
            Dtype::I16 => DType::I16,
            Dtype::I8 => DType::I8,
            Dtype::U8 => DType::U8,
            Dtype::BOOL => DType::Bool,
            other => {
                return Err(ImportError::Unsupported(format!(
                    "{} has numbers of type {other:?}, which is not supported; save the weights as f32",
                    shown(&name)
                )));
            }
        };
        let (from, to) = tensor.data_offsets;
        let info = TensorInfo {
            dtype,
            shape: tensor.shape.clone(),
        };
        let bytes = start + from..start + to;
        let place = Some(Place {
            bytes,
            strides: None,
        });
        Ok((name, Entry { info, place }))
    };
    metadata.tensors().into_iter().map(entry).collect()
}

/// The bytes of a tensor with strides, in row-major order.
fn gather(bytes: &[u8], info: &TensorInfo, strides: &[usize]) -> Vec<u8> {
    let size = info.dtype.size();
    let count: usize = info.shape.iter().product();
    let mut out = Vec::with_capacity(count * size);
    let mut index = vec![0; info.shape.len()];
    let mut at = 0;
    for _ in 0..count {
        out.extend_from_slice(&bytes[at * size..][..size]);
        for d in (0..index.len()).rev() {
            index[d] += 1;
            at += strides[d];
            if index[d] < info.shape[d] {
                break;
            }
            at -= index[d] * strides[d];
            index[d] = 0;
        }
    }
    out
}

/// Numbers of a floating-point format. Other formats give nothing.
fn floats(bytes: &[u8], dtype: DType) -> Vec<f32> {
    fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let (numbers, _) = bytes.as_chunks::<N>();
        numbers.iter().map(|&number| value(number)).collect()
    }
    match dtype {
        DType::F32 => each(bytes, f32::from_le_bytes),
        DType::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
        DType::F16 => each(bytes, |b| half::f16(u16::from_le_bytes(b))),
        DType::Bf16 => each(bytes, |b| half::bf16(u16::from_le_bytes(b))),
        _ => Vec::new(),
    }
}
