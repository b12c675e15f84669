//! The Viseme engine: mouth crops (and later sound) in, words out, in memory the caller supplies.
//!
//! `no_std`. Never opens a file, starts a thread, reads a clock, or allocates after a session is loaded.
#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod decode;
pub mod kernels;
pub mod math;
pub mod model;
mod parts;
pub mod preprocess;
pub mod session;
pub mod stream;
#[cfg(feature = "testing")]
pub mod testing;
