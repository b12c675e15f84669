//! Tensors: a name, a shape, a type and the bytes in the file.

use core::fmt;

use super::{Error, MAX_RANK};

/// Element type of a tensor, with ggml's type numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the types
#[repr(u32)]
pub enum DType {
    F32 = 0,
    F16 = 1,
    I8 = 24,
    I16 = 25,
    I32 = 26,
    I64 = 27,
    F64 = 28,
}

impl DType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            DType::I8 => 1,
            DType::F16 | DType::I16 => 2,
            DType::F32 | DType::I32 => 4,
            DType::I64 | DType::F64 => 8,
        }
    }

    /// The type with this ggml number.
    ///
    /// # Errors
    /// [`Error::UnknownTensorType`].
    pub fn from_u32(number: u32) -> Result<Self, Error> {
        use DType::*;
        [F32, F16, I8, I16, I32, I64, F64]
            .into_iter()
            .find(|dtype| *dtype as u32 == number)
            .ok_or(Error::UnknownTensorType(number))
    }
}

/// A tensor, borrowed from the file: row-major, little endian.
#[derive(Clone, Copy, PartialEq)]
pub struct Tensor<'a> {
    /// Name, 1 to 63 bytes.
    pub name: &'a str,
    /// Element type.
    pub dtype: DType,
    /// The elements, `elements() * dtype.size()` bytes.
    pub data: &'a [u8],
    pub(super) dims: [usize; MAX_RANK],
    pub(super) rank: usize,
}

impl<'a> Tensor<'a> {
    /// Dimensions in GGUF's order: innermost (contiguous) first.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// Dimensions in the usual row-major order: outermost first.
    pub fn shape(&self) -> impl Iterator<Item = usize> + '_ {
        self.dims().iter().rev().copied()
    }

    /// Whether the row-major shape (outermost first) is exactly this.
    pub fn has_shape(&self, shape: &[usize]) -> bool {
        self.shape().eq(shape.iter().copied())
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.dims().iter().product()
    }

    /// The elements of an I8 tensor.
    pub fn as_i8(&self) -> Option<&'a [i8]> {
        (self.dtype == DType::I8).then(|| bytemuck::cast_slice(self.data))
    }

    /// The elements of an F32 tensor without copying; `None` also when the caller's bytes do not lie at a multiple
    /// of 4 in memory, or the machine is big endian. [`Self::f32s`] works everywhere.
    pub fn as_f32(&self) -> Option<&'a [f32]> {
        self.cast(DType::F32)
    }

    /// The elements of an I32 tensor without copying, under the conditions of [`Self::as_f32`].
    pub fn as_i32(&self) -> Option<&'a [i32]> {
        self.cast(DType::I32)
    }

    /// The elements of an F32 tensor.
    pub fn f32s(&self) -> Option<impl ExactSizeIterator<Item = f32> + use<'a>> {
        (self.dtype == DType::F32).then(|| words(self.data).map(f32::from_le_bytes))
    }

    /// The elements of an F16 tensor.
    #[cfg(feature = "std")]
    pub fn f16s(&self) -> Option<impl ExactSizeIterator<Item = f32> + use<'a>> {
        let value = |word| half::f16::from_le_bytes(word).to_f32();
        (self.dtype == DType::F16).then(|| words(self.data).map(value))
    }

    /// The elements of an I32 tensor.
    pub fn i32s(&self) -> Option<impl ExactSizeIterator<Item = i32> + use<'a>> {
        (self.dtype == DType::I32).then(|| words(self.data).map(i32::from_le_bytes))
    }

    /// Element `index` of an F32 tensor, in row-major order.
    pub fn f32_at(&self, index: usize) -> Option<f32> {
        if self.dtype != DType::F32 {
            return None;
        }
        let start = index.checked_mul(4)?;
        let bytes = self.data.get(start..start.checked_add(4)?)?;
        Some(f32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Whether no element is infinite or NaN. Integers always are.
    pub fn finite(&self) -> bool {
        match self.dtype {
            DType::F32 => words(self.data).all(|word| f32::from_le_bytes(word).is_finite()),
            DType::F64 => words(self.data).all(|word| f64::from_le_bytes(word).is_finite()),
            // An F16 is infinite or NaN exactly when all five exponent bits are set.
            DType::F16 => words(self.data).all(|word| u16::from_le_bytes(word) & 0x7c00 != 0x7c00),
            DType::I8 | DType::I16 | DType::I32 | DType::I64 => true,
        }
    }

    fn cast<T: bytemuck::Pod>(&self, dtype: DType) -> Option<&'a [T]> {
        if self.dtype != dtype || cfg!(target_endian = "big") {
            return None;
        }
        bytemuck::try_cast_slice(self.data).ok()
    }
}

/// Without the elements, of which there may be millions.
impl fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Tensor({:?}, {:?}, {:?})",
            self.name,
            self.dtype,
            self.dims()
        )
    }
}

/// The data in groups of `N` bytes; the reader has checked that it divides.
fn words<const N: usize>(data: &[u8]) -> impl ExactSizeIterator<Item = [u8; N]> + use<'_, N> {
    data.as_chunks::<N>().0.iter().copied()
}
