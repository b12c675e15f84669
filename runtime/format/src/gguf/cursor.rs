//! Bounded little-endian reads: the only place that turns file positions into slices.

use super::{Error, MAX_HEADER_LEN};

/// A position in the file; every read checks the end and the header limit.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn take(&mut self, len: u64) -> Result<&'a [u8], Error> {
        let len = usize::try_from(len).map_err(|_| Error::Truncated)?;
        let end = self.at.checked_add(len).ok_or(Error::Truncated)?;
        let slice = self.bytes.get(self.at..end).ok_or(Error::Truncated)?;
        if end > MAX_HEADER_LEN {
            return Err(Error::HeaderTooLong);
        }
        self.at = end;
        Ok(slice)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let slice = self.take(N as u64)?;
        slice.try_into().map_err(|_| Error::Truncated)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A length-prefixed UTF-8 string of at most `limit` bytes.
    pub(super) fn string(&mut self, limit: usize) -> Result<&'a str, Error> {
        let len = self.u64()?;
        if len > limit as u64 {
            return Err(Error::StringTooLong(len));
        }
        core::str::from_utf8(self.take(len)?).map_err(|_| Error::NotUtf8)
    }

    /// A length-prefixed UTF-8 string of 1 to `limit` bytes.
    pub(super) fn name(&mut self, limit: usize) -> Result<&'a str, Error> {
        match self.string(limit)? {
            "" => Err(Error::EmptyName),
            name => Ok(name),
        }
    }
}
