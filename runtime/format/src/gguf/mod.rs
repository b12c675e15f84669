//! GGUF v3, little endian: the container of a model.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. This reader accepts a strict subset, so that
//! a file has one meaning only: tensors lie in the order of their descriptions, without gaps beyond the alignment
//! padding, padding is zero, and the file ends where the last padded tensor ends. That is also what ggml's own
//! writer and the Python `gguf` package produce.

mod cursor;
mod error;
mod reader;
mod tensor;
mod value;
#[cfg(feature = "alloc")]
mod writer;

pub use error::Error;
pub use reader::Reader;
pub use tensor::{DType, Tensor};
pub use value::{Array, Value, ValueType};
#[cfg(feature = "alloc")]
pub use writer::{WriteError, Writer};

/// Alignment of tensor data in files that `Writer` makes, in bytes: one cache line, and no less than any vector
/// register of the supported CPUs.
pub const ALIGNMENT: usize = 64;

/// Alignment a file has when it does not state one (GGUF's own default), in bytes.
pub const DEFAULT_ALIGNMENT: usize = 32;

/// Largest alignment accepted, in bytes: one memory page. More would only pad.
pub const MAX_ALIGNMENT: usize = 4096;

/// Most tensors in a file. A 12-block conformer with a 6-block decoder has about 1400; checking names against each
/// other is quadratic because the reader has no heap: 70 ms at this limit, on a busy desktop core.
pub const MAX_TENSORS: usize = 2048;

/// Most metadata entries in a file. A model has about 50; the reader keeps one 4-byte position per entry on the
/// stack while it looks for duplicates.
pub const MAX_KEYS: usize = 256;

/// Longest metadata key, in bytes. The longest of ours has 30.
pub const MAX_KEY_LEN: usize = 128;

/// Longest tensor name, in bytes: ggml keeps 64 with the closing NUL, so a longer name could not be read elsewhere.
pub const MAX_NAME_LEN: usize = 63;

/// Longest metadata string, in bytes: a licence or a data credit is text a person reads.
pub const MAX_STRING_LEN: usize = 65_536;

/// Most elements of a metadata array: vocabularies of sub-word pieces have up to some tens of thousands.
pub const MAX_ARRAY_LEN: usize = 65_536;

/// Most bytes before the tensor data: 65 536 tokens of 56 bytes each. Bounds the work of every metadata look-up.
pub const MAX_HEADER_LEN: usize = 4 << 20;

/// Most dimensions of a tensor (GGUF's own limit).
pub const MAX_RANK: usize = 4;

/// Metadata key of the alignment.
pub const KEY_ALIGNMENT: &str = "general.alignment";

/// Metadata key of the SHA-256 of the tensor data section, lower-case hexadecimal.
pub const KEY_SHA256: &str = "viseme.sha256";
