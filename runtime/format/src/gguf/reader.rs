//! The checked reader.

use core::fmt;

use sha2::{Digest, Sha256};

use super::cursor::Cursor;
use super::tensor::{DType, Tensor};
use super::value::{self, Value};
use super::*;

/// A GGUF file that has been checked as a whole. Borrows the bytes, copies nothing.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    keys: u32,
    keys_at: usize,
    tensors: u32,
    tensors_at: usize,
    data_at: usize,
    alignment: usize,
}

impl<'a> Reader<'a> {
    /// Checks a whole file, except the digest ([`Self::verify`]) and the meaning of its content.
    ///
    /// Takes time in proportion to the header, plus the square of the tensor count; allocates nothing.
    ///
    /// # Errors
    /// The first thing that is wrong, in file order.
    pub fn open(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut cursor = Cursor::new(bytes, 0);
        if cursor.array().map_err(|_| Error::NotGguf)? != *b"GGUF" {
            return Err(Error::NotGguf);
        }
        match cursor.u32()? {
            3 => (),
            version if version.swap_bytes() == 3 => return Err(Error::BigEndian),
            version => return Err(Error::Version(version)),
        }
        let tensors = cursor.u64()?;
        if tensors > MAX_TENSORS as u64 {
            return Err(Error::TooManyTensors(tensors));
        }
        let keys = cursor.u64()?;
        if keys > MAX_KEYS as u64 {
            return Err(Error::TooManyKeys(keys));
        }

        let mut reader = Self {
            bytes,
            keys: keys as u32,
            keys_at: cursor.at(),
            tensors: tensors as u32,
            tensors_at: 0,
            data_at: 0,
            alignment: DEFAULT_ALIGNMENT,
        };
        reader.check_keys(&mut cursor)?;
        reader.tensors_at = cursor.at();
        reader.check_tensors(&mut cursor)?;
        Ok(reader)
    }

    /// Number of metadata entries.
    pub fn key_count(&self) -> usize {
        self.keys as usize
    }

    /// Number of tensors.
    pub fn tensor_count(&self) -> usize {
        self.tensors as usize
    }

    /// Alignment of the tensor data, in bytes.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// The tensor data section: from the first tensor to the end of the file.
    pub fn data(&self) -> &'a [u8] {
        self.bytes.get(self.data_at..).unwrap_or(&[])
    }

    /// The metadata in file order.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + use<'a> {
        let mut cursor = Cursor::new(self.bytes, self.keys_at);
        (0..self.keys).map_while(move |_| {
            let key = cursor.name(MAX_KEY_LEN).ok()?;
            Some((key, value::value(&mut cursor).ok()?))
        })
    }

    /// The metadata value of a key.
    pub fn value(&self, key: &str) -> Option<Value<'a>> {
        self.entries()
            .find(|entry| entry.0 == key)
            .map(|entry| entry.1)
    }

    /// The tensors in file order.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'a>> + use<'a> {
        let (bytes, data_at) = (self.bytes, self.data_at);
        let mut cursor = Cursor::new(bytes, self.tensors_at);
        (0..self.tensors).map_while(move |index| {
            let info = Info::read(&mut cursor, index).ok()?;
            let start = data_at.checked_add(info.offset)?;
            let data = bytes.get(start..start.checked_add(info.size)?)?;
            Some(Tensor {
                name: info.name,
                dtype: info.dtype,
                data,
                dims: info.dims,
                rank: info.rank,
            })
        })
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'a>> {
        self.tensors().find(|tensor| tensor.name == name)
    }

    /// Compares the SHA-256 of [`Self::data`] with `viseme.sha256`.
    ///
    /// # Errors
    /// [`Error::NoDigest`], [`Error::DigestMismatch`].
    pub fn verify(&self) -> Result<(), Error> {
        let Some(Value::Str(stated)) = self.value(KEY_SHA256) else {
            return Err(Error::NoDigest);
        };
        let stated: &[u8; 64] = stated.as_bytes().try_into().map_err(|_| Error::NoDigest)?;
        if !stated
            .iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(Error::NoDigest);
        }
        if *stated == digest(self.data()) {
            Ok(())
        } else {
            Err(Error::DigestMismatch)
        }
    }

    /// Walks the metadata, refusing a key that was seen before, and takes the alignment from it.
    fn check_keys(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Error> {
        // Positions of the keys so far: finding duplicates by walking the values again would be quadratic in the
        // length of the header instead of in the number of keys.
        let mut seen = [0u32; MAX_KEYS];
        for index in 0..self.keys as usize {
            let position = cursor.at();
            let key = cursor.name(MAX_KEY_LEN)?;
            let earlier = &seen[..index];
            if earlier
                .iter()
                .any(|&at| Cursor::new(self.bytes, at as usize).name(MAX_KEY_LEN) == Ok(key))
            {
                return Err(Error::DuplicateKey(index as u32));
            }
            seen[index] = position as u32; // below MAX_HEADER_LEN
            let value = value::value(cursor)?;
            if key == KEY_ALIGNMENT {
                self.alignment = check_alignment(value)?;
            }
        }
        Ok(())
    }

    /// Walks the tensor descriptions: each must follow the one before it, and the last must end the file.
    fn check_tensors(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Error> {
        let mut end = 0; // of the previous tensor, padded, from the start of the data section
        for index in 0..self.tensors {
            let info = Info::read(cursor, index)?;
            if self.names_before(index).any(|name| name == info.name) {
                return Err(Error::DuplicateTensor(index));
            }
            if !info.offset.is_multiple_of(self.alignment) {
                return Err(Error::Misaligned(index));
            }
            if info.offset < end {
                return Err(Error::Overlap(index));
            }
            if info.offset > end {
                return Err(Error::Gap(index));
            }
            end = end.checked_add(info.size).ok_or(Error::BadShape(index))?;
            end = end
                .checked_next_multiple_of(self.alignment)
                .ok_or(Error::BadShape(index))?;
        }

        let header_end = cursor.at();
        self.data_at = header_end
            .checked_next_multiple_of(self.alignment)
            .ok_or(Error::Truncated)?;
        let file_end = self.data_at.checked_add(end).ok_or(Error::Truncated)?;
        if self.bytes.len() < file_end {
            return Err(Error::Truncated);
        }
        if self.bytes.len() > file_end {
            return Err(Error::TrailingBytes);
        }
        self.check_padding(header_end)
    }

    /// Padding is zero: after the header and after each tensor.
    fn check_padding(&self, header_end: usize) -> Result<(), Error> {
        let zero = |from: usize| {
            let to = from.next_multiple_of(self.alignment);
            self.bytes
                .get(from..to)
                .is_some_and(|padding| padding.iter().all(|&byte| byte == 0))
        };
        let mut cursor = Cursor::new(self.bytes, self.tensors_at);
        let mut clean = zero(header_end);
        for index in 0..self.tensors {
            let info = Info::read(&mut cursor, index)?;
            clean &= zero(self.data_at + info.offset + info.size);
        }
        if clean {
            Ok(())
        } else {
            Err(Error::DirtyPadding)
        }
    }

    /// Names of the first `count` tensors.
    fn names_before(&self, count: u32) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut cursor = Cursor::new(self.bytes, self.tensors_at);
        (0..count).map_while(move |index| Info::read(&mut cursor, index).ok().map(|info| info.name))
    }
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Reader({} entries, {} tensors, {} bytes)",
            self.keys,
            self.tensors,
            self.bytes.len()
        )
    }
}

/// Lower-case hexadecimal SHA-256.
pub(super) fn digest(data: &[u8]) -> [u8; 64] {
    let mut hex = [0; 64];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(Sha256::digest(data)) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    hex
}

fn check_alignment(value: Value<'_>) -> Result<usize, Error> {
    match value {
        Value::U32(n) if n.is_power_of_two() && (8..=MAX_ALIGNMENT as u32).contains(&n) => {
            Ok(n as usize)
        }
        _ => Err(Error::BadAlignment),
    }
}

/// A tensor description, its shape and size already checked.
struct Info<'a> {
    name: &'a str,
    dtype: DType,
    dims: [usize; MAX_RANK],
    rank: usize,
    /// From the start of the data section, in bytes.
    offset: usize,
    /// In bytes.
    size: usize,
}

impl<'a> Info<'a> {
    fn read(cursor: &mut Cursor<'a>, index: u32) -> Result<Self, Error> {
        let name = cursor.name(MAX_NAME_LEN)?;
        let rank = cursor.u32()? as usize;
        if rank == 0 || rank > MAX_RANK {
            return Err(Error::BadRank(index));
        }
        let mut dims = [1; MAX_RANK];
        let mut elements = 1usize;
        for dim in &mut dims[..rank] {
            *dim = usize::try_from(cursor.u64()?).map_err(|_| Error::BadShape(index))?;
            elements = elements.checked_mul(*dim).ok_or(Error::BadShape(index))?;
        }
        if elements == 0 {
            return Err(Error::BadShape(index));
        }
        let dtype = DType::from_u32(cursor.u32()?)?;
        let size = elements
            .checked_mul(dtype.size())
            .ok_or(Error::BadShape(index))?;
        let offset = usize::try_from(cursor.u64()?).map_err(|_| Error::Truncated)?;
        Ok(Self {
            name,
            dtype,
            dims,
            rank,
            offset,
            size,
        })
    }
}
