//! Metadata values.

use core::fmt;

use super::cursor::Cursor;
use super::{Error, MAX_ARRAY_LEN, MAX_STRING_LEN};

/// A metadata value, borrowed from the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// GGUF type 0.
    U8(u8),
    /// GGUF type 1.
    I8(i8),
    /// GGUF type 2.
    U16(u16),
    /// GGUF type 3.
    I16(i16),
    /// GGUF type 4.
    U32(u32),
    /// GGUF type 5.
    I32(i32),
    /// GGUF type 6.
    F32(f32),
    /// GGUF type 7.
    Bool(bool),
    /// GGUF type 8.
    Str(&'a str),
    /// GGUF type 9.
    Array(Array<'a>),
    /// GGUF type 10.
    U64(u64),
    /// GGUF type 11.
    I64(i64),
    /// GGUF type 12.
    F64(f64),
}

/// The type of a metadata value, with GGUF's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the types
#[repr(u32)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    Str = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

/// A metadata array of scalars or strings, borrowed from the file.
#[derive(Clone, Copy, PartialEq)]
pub struct Array<'a> {
    element: ValueType,
    len: usize,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    /// Type of the elements, never [`ValueType::Array`].
    pub fn element(&self) -> ValueType {
        self.element
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (mut cursor, element) = (Cursor::new(self.bytes, 0), self.element);
        (0..self.len).map_while(move |_| scalar(&mut cursor, element).ok())
    }

    /// The elements as text; empty when the elements are not strings.
    pub fn strs(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.iter().map_while(|value| match value {
            Value::Str(text) => Some(text),
            _ => None,
        })
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl ValueType {
    /// The type with this GGUF number.
    ///
    /// # Errors
    /// [`Error::UnknownValueType`].
    pub fn from_u32(number: u32) -> Result<Self, Error> {
        use ValueType::*;
        [
            U8, I8, U16, I16, U32, I32, F32, Bool, Str, Array, U64, I64, F64,
        ]
        .get(number as usize)
        .copied()
        .ok_or(Error::UnknownValueType(number))
    }
}

/// Reads a value (its type, then its content) and checks all of it.
pub(super) fn value<'a>(cursor: &mut Cursor<'a>) -> Result<Value<'a>, Error> {
    let kind = ValueType::from_u32(cursor.u32()?)?;
    if kind == ValueType::Array {
        Ok(Value::Array(array(cursor)?))
    } else {
        scalar(cursor, kind)
    }
}

fn array<'a>(cursor: &mut Cursor<'a>) -> Result<Array<'a>, Error> {
    let element = ValueType::from_u32(cursor.u32()?)?;
    let len = cursor.u64()?;
    if len > MAX_ARRAY_LEN as u64 {
        return Err(Error::ArrayTooLong(len));
    }
    let mut end = *cursor;
    for _ in 0..len {
        scalar(&mut end, element)?;
    }
    let bytes = cursor.take((end.at() - cursor.at()) as u64)?;
    Ok(Array {
        element,
        len: len as usize,
        bytes,
    })
}

fn scalar<'a>(cursor: &mut Cursor<'a>, kind: ValueType) -> Result<Value<'a>, Error> {
    Ok(match kind {
        ValueType::U8 => Value::U8(u8::from_le_bytes(cursor.array()?)),
        ValueType::I8 => Value::I8(i8::from_le_bytes(cursor.array()?)),
        ValueType::U16 => Value::U16(u16::from_le_bytes(cursor.array()?)),
        ValueType::I16 => Value::I16(i16::from_le_bytes(cursor.array()?)),
        ValueType::U32 => Value::U32(cursor.u32()?),
        ValueType::I32 => Value::I32(i32::from_le_bytes(cursor.array()?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(cursor.array()?)),
        ValueType::Bool => match cursor.array::<1>()?[0] {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            other => return Err(Error::BadBool(other)),
        },
        ValueType::Str => Value::Str(cursor.string(MAX_STRING_LEN)?),
        ValueType::Array => return Err(Error::NestedArray),
        ValueType::U64 => Value::U64(cursor.u64()?),
        ValueType::I64 => Value::I64(i64::from_le_bytes(cursor.array()?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(cursor.array()?)),
    })
}
