//! What takes `unsafe`: a model file as memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// A file as memory.
///
/// # Errors
/// A file that cannot be opened or mapped.
pub fn map(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: the mapping is read-only, and every access goes through slices whose ends were checked against its
    // length. A program that rewrites the file meanwhile can change weights, which any bits are valid for, or end the
    // process where it cuts the file off.
    unsafe { Mmap::map(&file) }
}
