//! Why a file was refused.

use core::fmt;

/// Why [`Reader::open`](super::Reader::open) or [`Reader::verify`](super::Reader::verify) refused a file.
///
/// `Display` is one line for the user. Tensor numbers count from 0 in file order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The file does not begin with `GGUF`.
    NotGguf,
    /// The file is a big-endian GGUF.
    BigEndian,
    /// The container version is not 3.
    Version(u32),
    /// The file ends before what its header promises.
    Truncated,
    /// More than [`MAX_TENSORS`](super::MAX_TENSORS) tensors.
    TooManyTensors(u64),
    /// More than [`MAX_KEYS`](super::MAX_KEYS) metadata entries.
    TooManyKeys(u64),
    /// More than [`MAX_HEADER_LEN`](super::MAX_HEADER_LEN) bytes before the tensor data.
    HeaderTooLong,
    /// A key, name or string longer than its limit; holds the stated length.
    StringTooLong(u64),
    /// A metadata array longer than [`MAX_ARRAY_LEN`](super::MAX_ARRAY_LEN); holds the stated length.
    ArrayTooLong(u64),
    /// A key, name or string is not UTF-8.
    NotUtf8,
    /// A key or tensor name is empty.
    EmptyName,
    /// A metadata value type that GGUF v3 does not define.
    UnknownValueType(u32),
    /// An array of arrays.
    NestedArray,
    /// A boolean that is neither 0 nor 1.
    BadBool(u8),
    /// The same metadata key twice; holds the number of the second entry.
    DuplicateKey(u32),
    /// The same tensor name twice; holds the number of the second tensor.
    DuplicateTensor(u32),
    /// `general.alignment` is not a `u32`, not a power of two, or outside 8..=4096.
    BadAlignment,
    /// A tensor of 0 or more than [`MAX_RANK`](super::MAX_RANK) dimensions.
    BadRank(u32),
    /// A tensor with a dimension of 0, or of more bytes than can be addressed.
    BadShape(u32),
    /// A tensor of a type this reader does not know; holds the ggml type number.
    UnknownTensorType(u32),
    /// A tensor that does not begin at a multiple of the alignment.
    Misaligned(u32),
    /// A tensor that begins before the one in front of it ends.
    Overlap(u32),
    /// Unused bytes in front of a tensor.
    Gap(u32),
    /// Padding that is not zero.
    DirtyPadding,
    /// Bytes after the last tensor.
    TrailingBytes,
    /// No `viseme.sha256`, or it is not 64 lower-case hexadecimal digits.
    NoDigest,
    /// The tensor data does not match `viseme.sha256`.
    DigestMismatch,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = "fetch or export the model again";
        match *self {
            Error::NotGguf => write!(
                f,
                "this is not a model file (no GGUF header); give a .gguf file"
            ),
            Error::BigEndian => write!(
                f,
                "the model file is big endian; convert it to little endian"
            ),
            Error::Version(v) => write!(
                f,
                "the model file is GGUF version {v}, only 3 is read; convert it"
            ),
            Error::Truncated => write!(f, "the model file ends early; {again}"),
            Error::TooManyTensors(n) => {
                write!(f, "the model file claims {n} tensors (most: 2048); {again}")
            }
            Error::TooManyKeys(n) => write!(
                f,
                "the model file claims {n} metadata entries (most: 256); {again}"
            ),
            Error::HeaderTooLong => {
                write!(f, "the model file has more than 4 MiB of metadata; {again}")
            }
            Error::StringTooLong(n) => write!(
                f,
                "the model file has a name or string of {n} bytes; {again}"
            ),
            Error::ArrayTooLong(n) => {
                write!(f, "the model file has an array of {n} elements; {again}")
            }
            Error::NotUtf8 => write!(f, "the model file has text that is not UTF-8; {again}"),
            Error::EmptyName => write!(f, "the model file has an empty name; {again}"),
            Error::UnknownValueType(t) => write!(
                f,
                "the model file has metadata of unknown type {t}; {again}"
            ),
            Error::NestedArray => write!(f, "the model file has nested metadata arrays; {again}"),
            Error::BadBool(b) => write!(f, "the model file has a boolean of value {b}; {again}"),
            Error::DuplicateKey(i) => {
                write!(f, "metadata entry {i} repeats an earlier key; {again}")
            }
            Error::DuplicateTensor(i) => write!(f, "tensor {i} repeats an earlier name; {again}"),
            Error::BadAlignment => write!(
                f,
                "general.alignment is not a power of two in 8..=4096; {again}"
            ),
            Error::BadRank(i) => write!(f, "tensor {i} has no dimensions or more than 4; {again}"),
            Error::BadShape(i) => write!(f, "tensor {i} has a shape that cannot be; {again}"),
            Error::UnknownTensorType(t) => {
                write!(
                    f,
                    "the model file has a tensor of ggml type {t}; export it as F32 or I8"
                )
            }
            Error::Misaligned(i) => write!(f, "tensor {i} is not aligned; {again}"),
            Error::Overlap(i) => write!(f, "tensor {i} overlaps the one before it; {again}"),
            Error::Gap(i) => write!(f, "tensor {i} does not follow the one before it; {again}"),
            Error::DirtyPadding => {
                write!(f, "the model file has data where padding belongs; {again}")
            }
            Error::TrailingBytes => {
                write!(f, "the model file goes on after its last tensor; {again}")
            }
            Error::NoDigest => write!(f, "the model file has no usable viseme.sha256; {again}"),
            Error::DigestMismatch => {
                write!(f, "the model data does not match its SHA-256; {again}")
            }
        }
    }
}

impl core::error::Error for Error {}
