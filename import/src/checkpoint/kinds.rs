//! What a file is, by its content: checkpoints of two kinds, and what people take for one by mistake.

use crate::ImportError;

/// A kind of file that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A ZIP archive, as PyTorch 1.6 and later write it.
    Torch,
    /// safetensors.
    Safetensors,
}

/// The kind of a file.
///
/// # Errors
/// [`ImportError::Unsupported`] that says what it is and what to do.
pub fn recognise(bytes: &[u8]) -> Result<Kind, ImportError> {
    if bytes.starts_with(b"PK\x03\x04") {
        return Ok(Kind::Torch);
    }
    // Before anything that two bytes tell: here they are a length.
    if is_safetensors(bytes) {
        return Ok(Kind::Safetensors);
    }
    let lines = bytes.trim_ascii_start();
    let begins = |start: &[u8]| {
        let head = lines.get(..start.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(start))
    };
    let says = if bytes.is_empty() {
        "the file is empty; fetch the checkpoint again"
    } else if begins(b"<!doctype") || begins(b"<html") {
        "this is a web page, not a checkpoint: the link answered with a page (a confirmation, perhaps); open the link in a \
         browser and save what it offers"
    } else if begins(b"version http") {
        "this is a Git LFS pointer, not the checkpoint; fetch the file itself with `git lfs pull`"
    } else if legacy(bytes) {
        "this checkpoint is in the format that PyTorch had before 1.6, which is not read; load it with a newer PyTorch where \
         you trust it, and save it again"
    } else if bytes.starts_with(b"\x89HDF\r\n\x1a\n") {
        "this is an HDF5 file (Keras weights?), not a PyTorch or safetensors checkpoint of Auto-AVSR"
    } else if bytes.starts_with(b"GGUF") {
        "this is a GGUF model file already, not a checkpoint; use it as it is"
    } else if bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"7z\xbc\xaf") {
        "this is a packed archive; unpack it and give the checkpoint in it"
    } else if bytes
        .get(..4)
        .is_some_and(|head| head.iter().all(|&b| b == 0))
    {
        "the file begins with zeros: its download was not finished; fetch it again"
    } else {
        "this is not a checkpoint: neither PyTorch (.pth, .ckpt) nor safetensors; give the file that the model's authors \
         published"
    };
    Err(ImportError::Unsupported(says.into()))
}

/// Whether this is a pickle by itself, or the tar archive of the earliest versions.
fn legacy(bytes: &[u8]) -> bool {
    let is_pickle = matches!(bytes, [0x80, 2..=5, ..]);
    is_pickle || bytes.get(257..262) == Some(b"ustar")
}

/// The length of a list in JSON, and its beginning.
fn is_safetensors(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, _, _, _, 0, 0, 0, b'{', ..])
}
