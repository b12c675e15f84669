//! The protobuf wire format: keys, varints, fixed and length-delimited fields.
//!
//! As in the protocol buffers encoding guide; groups (long deprecated, never written by ONNX tools) are refused.

use super::malformed;
use crate::ImportError;

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Field<'a> {
    /// Integers, enums, flags.
    Varint(u64),
    /// Doubles.
    Fixed64,
    /// Strings, bytes, messages, packed lists.
    Bytes(&'a [u8]),
    /// Floats.
    Fixed32(u32),
}

/// The fields of a message, in file order: (field number, value). Ends after the first error.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Fields of the message in `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn field(&mut self) -> Result<(u32, Field<'a>), ImportError> {
        let key = varint(&mut self.rest)?;
        let number = u32::try_from(key >> 3)
            .ok()
            .filter(|n| (1..1 << 29).contains(n));
        let number = number.ok_or_else(|| malformed("a field number is out of range"))?;
        let value = match key & 7 {
            0 => Field::Varint(varint(&mut self.rest)?),
            1 => {
                take(&mut self.rest, 8)?;
                Field::Fixed64
            }
            2 => {
                let len = varint(&mut self.rest)?;
                Field::Bytes(take(&mut self.rest, len)?)
            }
            5 => {
                let bytes = take(&mut self.rest, 4)?;
                Field::Fixed32(bytes.iter().rev().fold(0, |v, &b| (v << 8) | u32::from(b)))
            }
            kind => {
                return Err(malformed(format!(
                    "field {number} has unknown wire type {kind}"
                )));
            }
        };
        Ok((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Takes a base-128 varint off the front of `bytes`.
pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64, ImportError> {
    let mut value = 0u64;
    for i in 0..10 {
        let (&byte, rest) = bytes
            .split_first()
            .ok_or_else(|| malformed("it ends early"))?;
        *bytes = rest;
        // The tenth byte holds the last of 64 bits only.
        if i == 9 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(malformed("a number is longer than 64 bits"))
}

fn take<'a>(bytes: &mut &'a [u8], len: u64) -> Result<&'a [u8], ImportError> {
    let (taken, rest) = (usize::try_from(len).ok())
        .and_then(|len| bytes.split_at_checked(len))
        .ok_or_else(|| malformed("it ends early"))?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the protocol buffers encoding guide.
    #[test]
    fn encoding_guide_examples() {
        let mut bytes: &[u8] = &[0x96, 0x01];
        assert_eq!(varint(&mut bytes), Ok(150));
        let fields: Vec<_> = Fields::new(&[0x08, 0x96, 0x01]).collect();
        assert_eq!(fields, [Ok((1, Field::Varint(150)))]);
        let fields: Vec<_> = Fields::new(b"\x12\x07testing").collect();
        assert_eq!(fields, [Ok((2, Field::Bytes(b"testing")))]);
        let mut minus_two: &[u8] = &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(varint(&mut minus_two), Ok(-2i64 as u64));
    }

    #[test]
    fn bad_wire_data_is_refused_once() {
        for bad in [
            &[0x08][..],         // value missing
            &[0x12, 0x05, b'x'], // length past the end
            &[0x0b],             // group
            &[0x02, 0x00],       // field number 0
            &[0xff; 11],         // endless varint
            &[
                0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ], // length 2^64 - 1
        ] {
            let fields: Vec<_> = Fields::new(bad).collect();
            assert_eq!(fields.len(), 1, "{bad:?}");
            assert!(fields[0].is_err(), "{bad:?}");
        }
    }
}
