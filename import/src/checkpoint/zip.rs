//! ZIP archives as PyTorch writes them: entries stored, one after the other, 32- and 64-bit sizes.
//!
//! PKWARE's APPNOTE.TXT, sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14 to 4.3.16 (its end). An archive of
//! this kind has one meaning or is refused: nothing is compressed or encrypted, nothing overlaps, each name occurs once,
//! no comment follows. Checksums are not compared, since PyTorch can be told to write none
//! (`torch.serialization.set_crc32_options`).

use std::collections::HashMap;
use std::ops::Range;

use crate::ImportError;
use crate::error::shown;

/// The entries of an archive by their names: where their bytes lie in the file.
#[derive(Debug)]
pub struct Archive<'a> {
    entries: HashMap<&'a str, Range<usize>>,
}

impl<'a> Archive<'a> {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// [`ImportError::Damaged`] when it ends early or contradicts itself, [`ImportError::Unsupported`] when an entry is
    /// compressed or encrypted.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ImportError> {
        let (count, directory) = directory(bytes)?;
        let start = directory.start;
        let mut rest = Fields(&bytes[directory]);
        let mut entries = HashMap::new();
        let mut ranges = Vec::new();
        while !rest.0.is_empty() {
            let (name, whole, data) = entry(&mut rest, bytes, start)?;
            ranges.push((whole.start, whole.end));
            if entries.insert(name, data).is_some() {
                return Err(damaged(format!("{} is in it twice", shown(name))));
            }
        }
        if entries.len() as u64 != count {
            return Err(damaged("its directory does not have the length it states"));
        }
        ranges.sort_unstable();
        if ranges.windows(2).any(|pair| pair[0].1 > pair[1].0) {
            return Err(damaged("parts of it overlap"));
        }
        Ok(Self { entries })
    }

    /// Where the bytes of an entry lie.
    pub fn get(&self, name: &str) -> Option<Range<usize>> {
        self.entries.get(name).cloned()
    }

    /// All names, in no order.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.keys().copied()
    }
}

const END: usize = 22;
const END64: usize = 56;
const LOCATOR: usize = 20;
const LOCAL: usize = 30;

/// The number of entries, and where the directory lies.
fn directory(bytes: &[u8]) -> Result<(u64, Range<usize>), ImportError> {
    let cut_off = || damaged("it is cut off: its directory is missing");
    let mut at = bytes.len().checked_sub(END).ok_or_else(cut_off)?;
    let mut end = Fields(&bytes[at..]);
    if end.u32()? != 0x0605_4b50 {
        return Err(cut_off());
    }
    let disks = end.u32()?;
    let (here, mut count) = (u64::from(end.u16()?), u64::from(end.u16()?));
    let (mut size, mut offset) = (u64::from(end.u32()?), u64::from(end.u32()?));
    if disks != 0 || here != count || end.u16()? != 0 {
        return Err(damaged(
            "it is one part of several, or something follows it",
        ));
    }
    let locator = at.checked_sub(LOCATOR).map(|start| Fields(&bytes[start..]));
    if let Some(mut locator) = locator
        && locator.u32()? == 0x0706_4b50
    {
        locator.u32()?;
        let start = locator.u64()?;
        let expected = (at - LOCATOR).checked_sub(END64);
        at = expected
            .filter(|&expected| expected as u64 == start)
            .ok_or_else(|| damaged("the end of its directory is not where it says"))?;
        let mut end = Fields(&bytes[at..]);
        let is_plain = end.u32()? == 0x0606_4b50 && end.u64()? == (END64 - 12) as u64;
        end.u32()?; // versions
        let disks = end.u64()?;
        let (here, entries) = (end.u64()?, end.u64()?);
        let wide = (entries, end.u64()?, end.u64()?);
        let agrees = |narrow: u64, wide: u64, most: u64| narrow == wide || narrow == most;
        let most = u64::from(u32::MAX);
        if !is_plain
            || disks != 0
            || here != wide.0
            || !agrees(count, wide.0, u64::from(u16::MAX))
            || !agrees(size, wide.1, most)
            || !agrees(offset, wide.2, most)
        {
            return Err(damaged("the end of its directory contradicts itself"));
        }
        (count, size, offset) = wide;
    }
    if offset.checked_add(size) != Some(at as u64) {
        return Err(damaged("its directory is not where it says"));
    }
    // Both fit: their sum is a place in the file.
    Ok((count, offset as usize..at))
}

/// One row of the directory: name, the place of the whole entry, the place of its data.
fn entry<'a>(
    row: &mut Fields<'a>,
    bytes: &'a [u8],
    directory: usize,
) -> Result<(&'a str, Range<usize>, Range<usize>), ImportError> {
    if row.u32()? != 0x0201_4b50 {
        return Err(damaged("its directory holds something else"));
    }
    row.u32()?; // versions
    let (flags, method) = (row.u16()?, row.u16()?);
    row.u64()?; // time, date, checksum
    let (packed, size) = (u64::from(row.u32()?), u64::from(row.u32()?));
    let (name, extra, comment) = (row.u16()?, row.u16()?, row.u16()?);
    let disk = row.u16()?;
    row.u16()?; // attributes
    row.u32()?;
    let local = u64::from(row.u32()?);
    let name = row.text(name.into())?;
    let extra = row.take(extra.into())?;
    row.take(comment.into())?;
    if method != 0 || flags & 1 != 0 {
        let how = if method != 0 {
            "compressed"
        } else {
            "encrypted"
        };
        return Err(ImportError::Unsupported(format!(
            "{} in this archive is {how}, which PyTorch never does; if a tool packed the checkpoint, unpack it first",
            shown(name)
        )));
    }
    let mut wide = wide(extra)?;
    let mut value = |narrow: u64| match narrow == u64::from(u32::MAX) {
        true => wide.u64(),
        false => Ok(narrow),
    };
    let (size, packed, local) = (value(size)?, value(packed)?, value(local)?);
    let wrong = || damaged(format!("{} is not where its directory says", shown(name)));
    if disk != 0 || size != packed {
        return Err(wrong());
    }
    let start = usize::try_from(local)
        .ok()
        .filter(|&start| start < directory);
    let start = start.ok_or_else(wrong)?;
    let mut head = Fields(&bytes[start..directory]);
    if head.u32()? != 0x0403_4b50 {
        return Err(wrong());
    }
    head.take(22)?;
    let (name_length, extra_length) = (head.u16()?, head.u16()?);
    let local_name = head.take(name_length.into())?;
    head.take(extra_length.into())?;
    let data = start + LOCAL + usize::from(name_length) + usize::from(extra_length);
    let end = usize::try_from(size)
        .ok()
        .and_then(|size| data.checked_add(size))
        .filter(|&end| end <= directory)
        .ok_or_else(|| damaged(format!("{} reaches beyond its end", shown(name))))?;
    match local_name == name.as_bytes() {
        true => Ok((name, start..end, data..end)),
        false => Err(wrong()),
    }
}

/// The 64-bit values among the extra fields.
fn wide(extra: &[u8]) -> Result<Fields<'_>, ImportError> {
    let mut rest = Fields(extra);
    while !rest.0.is_empty() {
        let (kind, length) = (rest.u16()?, rest.u16()?);
        let field = rest.take(length.into())?;
        if kind == 1 {
            return Ok(Fields(field));
        }
    }
    Ok(rest)
}

/// Little-endian fields, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], ImportError> {
        let (field, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| damaged("its directory ends early"))?;
        self.0 = rest;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ImportError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u16(&mut self) -> Result<u16, ImportError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, ImportError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ImportError> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self, length: usize) -> Result<&'a str, ImportError> {
        std::str::from_utf8(self.take(length)?).map_err(|_| damaged("a name in it is no text"))
    }
}

fn damaged(what: impl Into<String>) -> ImportError {
    ImportError::Damaged(what.into())
}
