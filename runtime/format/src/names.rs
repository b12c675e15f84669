//! Tensor names without a heap.

use core::fmt::{self, Write};
use core::ops::Deref;

use crate::gguf::MAX_NAME_LEN;

/// A tensor name built on the stack, for look-ups such as `encoder.{block}.ff1.up.weight`.
///
/// ```
/// # use viseme_format::names::TensorName;
/// let block = 2;
/// let name = TensorName::new(format_args!("encoder.{block}.norm.weight"));
/// assert_eq!(&*name, "encoder.2.norm.weight");
/// ```
#[derive(Clone, Copy)]
pub struct TensorName {
    bytes: [u8; MAX_NAME_LEN],
    len: usize,
}

impl TensorName {
    /// Formats a name. What does not fit is cut off: such a name is in no file, so the look-up fails.
    pub fn new(text: fmt::Arguments<'_>) -> Self {
        let mut name = Self {
            bytes: [0; MAX_NAME_LEN],
            len: 0,
        };
        let _ = name.write_fmt(text); // fails only when full
        name
    }
}

impl Write for TensorName {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let end = self.len + c.len_utf8();
            c.encode_utf8(self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?);
            self.len = end;
        }
        Ok(())
    }
}

impl Deref for TensorName {
    type Target = str;

    fn deref(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("")
    }
}

impl fmt::Display for TensorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for TensorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
