//! The Viseme model file.
//!
//! A model is one GGUF v3 file ([`gguf`]): typed metadata, then tensors. [`spec::ModelSpec`] is the typed view of
//! the metadata; `SPEC.md` beside this crate is the normative text, with the tensor names and the rounding rule.
//!
//! The file is untrusted. [`gguf::Reader::open`] checks every length, offset and string before anything else can
//! look at it, without allocating; what it hands out afterwards are slices of the caller's bytes.
//!
//! ```
//! use viseme_format::gguf::Reader;
//! let not_a_model = [0u8; 64];
//! assert!(Reader::open(&not_a_model).is_err());
//! ```
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod gguf;
pub mod layout;
pub mod names;
pub mod panels;
#[cfg(feature = "alloc")]
pub mod rounding;
pub mod spec;
#[cfg(feature = "alloc")]
pub mod weights;
#[cfg(feature = "std")]
pub mod widen;
