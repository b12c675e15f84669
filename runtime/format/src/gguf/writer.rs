//! The writer.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::reader::digest;
use super::tensor::DType;
use super::value::ValueType;
use super::*;

/// Builds a GGUF v3 file in memory.
///
/// Entries and tensors stand in the file in the order they were added, so the same calls give the same bytes.
/// [`Writer::finish`] adds `general.alignment` (64) and `viseme.sha256` itself.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    keys: BTreeSet<String>,
    names: BTreeSet<String>,
    entries: Vec<u8>,
    infos: Vec<u8>,
    data: Vec<u8>,
}

/// Why the [`Writer`] refused an entry or a tensor: it only writes what the reader accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// The key or tensor name was added before (`general.alignment` and `viseme.sha256` are the writer's).
    Duplicate(String),
    /// The key or tensor name is empty or too long.
    BadName(String),
    /// A string, array, count or the whole header is over the reader's limit; holds the key or name.
    TooLarge(String),
    /// The shape of this tensor has no dimensions, more than 4, or one of 0.
    BadShape(String),
    /// The data of this tensor does not have the length that its shape and type ask for.
    WrongLength(String),
}

impl Writer {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text entry.
    ///
    /// # Errors
    /// See [`WriteError`]; so for all that add.
    pub fn str(&mut self, key: &str, value: &str) -> Result<(), WriteError> {
        check_string(key, value)?;
        self.key(key, ValueType::Str)?;
        push_str(&mut self.entries, value);
        Ok(())
    }

    /// Adds a `u32` entry.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn u32(&mut self, key: &str, value: u32) -> Result<(), WriteError> {
        self.scalar(key, ValueType::U32, &value.to_le_bytes())
    }

    /// Adds an `i32` entry.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn i32(&mut self, key: &str, value: i32) -> Result<(), WriteError> {
        self.scalar(key, ValueType::I32, &value.to_le_bytes())
    }

    /// Adds a `u64` entry.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn u64(&mut self, key: &str, value: u64) -> Result<(), WriteError> {
        self.scalar(key, ValueType::U64, &value.to_le_bytes())
    }

    /// Adds an `f32` entry.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn f32(&mut self, key: &str, value: f32) -> Result<(), WriteError> {
        self.scalar(key, ValueType::F32, &value.to_le_bytes())
    }

    /// Adds a `bool` entry.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn bool(&mut self, key: &str, value: bool) -> Result<(), WriteError> {
        self.scalar(key, ValueType::Bool, &[u8::from(value)])
    }

    /// Adds an array of `u32`.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn u32s(&mut self, key: &str, values: &[u32]) -> Result<(), WriteError> {
        self.array(key, ValueType::U32, values.len())?;
        self.entries
            .extend(values.iter().flat_map(|value| value.to_le_bytes()));
        Ok(())
    }

    /// Adds an array of strings.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn strs<'s>(
        &mut self,
        key: &str,
        values: impl IntoIterator<Item = &'s str>,
    ) -> Result<(), WriteError> {
        let values: Vec<&str> = values.into_iter().collect();
        values
            .iter()
            .try_for_each(|value| check_string(key, value))?;
        self.array(key, ValueType::Str, values.len())?;
        values
            .iter()
            .for_each(|value| push_str(&mut self.entries, value));
        Ok(())
    }

    /// Adds a tensor: `shape` outermost first, `data` row-major and little endian.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn tensor(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[usize],
        data: &[u8],
    ) -> Result<(), WriteError> {
        if shape.is_empty() || shape.len() > MAX_RANK || shape.contains(&0) {
            return Err(WriteError::BadShape(name.to_owned()));
        }
        let size = shape
            .iter()
            .try_fold(dtype.size(), |size, &dim| size.checked_mul(dim));
        if size != Some(data.len()) {
            return Err(WriteError::WrongLength(name.to_owned()));
        }
        insert(&mut self.names, name, MAX_NAME_LEN, MAX_TENSORS)?;

        push_str(&mut self.infos, name);
        self.infos.extend((shape.len() as u32).to_le_bytes());
        self.infos.extend(
            shape
                .iter()
                .rev()
                .flat_map(|&dim| (dim as u64).to_le_bytes()),
        );
        self.infos.extend((dtype as u32).to_le_bytes());
        self.infos.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend_from_slice(data);
        pad(&mut self.data);
        Ok(())
    }

    /// Adds an F32 tensor.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn tensor_f32(
        &mut self,
        name: &str,
        shape: &[usize],
        data: &[f32],
    ) -> Result<(), WriteError> {
        let bytes: Vec<u8> = data.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, DType::F32, shape, &bytes)
    }

    /// Adds an F16 tensor of these values, rounded to nearest, ties to even.
    ///
    /// # Errors
    /// See [`WriteError`].
    #[cfg(feature = "std")]
    pub fn tensor_f16(
        &mut self,
        name: &str,
        shape: &[usize],
        data: &[f32],
    ) -> Result<(), WriteError> {
        let half = |&value: &f32| half::f16::from_f32(value).to_le_bytes();
        let bytes: Vec<u8> = data.iter().flat_map(half).collect();
        self.tensor(name, DType::F16, shape, &bytes)
    }

    /// Adds an I32 tensor.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn tensor_i32(
        &mut self,
        name: &str,
        shape: &[usize],
        data: &[i32],
    ) -> Result<(), WriteError> {
        let bytes: Vec<u8> = data.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, DType::I32, shape, &bytes)
    }

    /// Adds an I8 tensor.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn tensor_i8(
        &mut self,
        name: &str,
        shape: &[usize],
        data: &[i8],
    ) -> Result<(), WriteError> {
        self.tensor(name, DType::I8, shape, bytemuck::cast_slice(data))
    }

    /// The file.
    ///
    /// # Errors
    /// [`WriteError::TooLarge`] when the header as a whole is over the reader's limit.
    pub fn finish(self) -> Result<Vec<u8>, WriteError> {
        let [mut file, mut data] = self.finish_parts()?;
        file.append(&mut data);
        Ok(file)
    }

    /// The file as two parts, one after the other: large models need not be in memory twice.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_parts(mut self) -> Result<[Vec<u8>; 2], WriteError> {
        let hex = digest(&self.data);
        let hex: String = hex.iter().map(|&digit| char::from(digit)).collect();
        self.u32(KEY_ALIGNMENT, ALIGNMENT as u32)?;
        self.str(KEY_SHA256, &hex)?;

        let mut file = Vec::with_capacity(self.entries.len() + self.infos.len() + 256);
        file.extend_from_slice(b"GGUF");
        file.extend(3u32.to_le_bytes());
        file.extend((self.names.len() as u64).to_le_bytes());
        file.extend((self.keys.len() as u64).to_le_bytes());
        file.append(&mut self.entries);
        file.append(&mut self.infos);
        if file.len() > MAX_HEADER_LEN {
            return Err(WriteError::TooLarge("the metadata".to_owned()));
        }
        pad(&mut file);
        Ok([file, self.data])
    }

    fn scalar(&mut self, key: &str, kind: ValueType, bytes: &[u8]) -> Result<(), WriteError> {
        self.key(key, kind)?;
        self.entries.extend_from_slice(bytes);
        Ok(())
    }

    fn array(&mut self, key: &str, element: ValueType, len: usize) -> Result<(), WriteError> {
        if len > MAX_ARRAY_LEN {
            return Err(WriteError::TooLarge(key.to_owned()));
        }
        self.key(key, ValueType::Array)?;
        self.entries.extend((element as u32).to_le_bytes());
        self.entries.extend((len as u64).to_le_bytes());
        Ok(())
    }

    fn key(&mut self, key: &str, kind: ValueType) -> Result<(), WriteError> {
        insert(&mut self.keys, key, MAX_KEY_LEN, MAX_KEYS)?;
        push_str(&mut self.entries, key);
        self.entries.extend((kind as u32).to_le_bytes());
        Ok(())
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Duplicate(name) => {
                write!(f, "{name} was written twice; write each name once")
            }
            WriteError::BadName(name) => {
                write!(f, "the name \"{name}\" is empty or too long; shorten it")
            }
            WriteError::TooLarge(name) => {
                write!(f, "{name} is larger than a model file may hold; shorten it")
            }
            WriteError::BadShape(name) => {
                write!(f, "tensor {name} needs 1 to 4 dimensions, none of them 0")
            }
            WriteError::WrongLength(name) => {
                write!(
                    f,
                    "the data of tensor {name} does not fit its shape and type; pass both of one tensor"
                )
            }
        }
    }
}

impl core::error::Error for WriteError {}

fn insert(
    set: &mut BTreeSet<String>,
    name: &str,
    longest: usize,
    most: usize,
) -> Result<(), WriteError> {
    if name.is_empty() || name.len() > longest {
        return Err(WriteError::BadName(name.to_owned()));
    }
    if set.len() == most {
        return Err(WriteError::TooLarge(name.to_owned()));
    }
    if set.insert(name.to_owned()) {
        Ok(())
    } else {
        Err(WriteError::Duplicate(name.to_owned()))
    }
}

fn check_string(key: &str, value: &str) -> Result<(), WriteError> {
    if value.len() > MAX_STRING_LEN {
        Err(WriteError::TooLarge(key.to_owned()))
    } else {
        Ok(())
    }
}

fn push_str(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}
