//! Foreign model files in, Viseme's own GGUF out.
//!
//! The files read here come from elsewhere and are not trusted: sizes and counts are checked before use, nothing
//! panics, nothing that a file names is run, and an error is one line that says what the file is and what to do.
//!
//! - [`onnx`]: a reader for the part of the ONNX format that describes a plain network (no subgraphs, no external data).
//! - [`yunet`]: the YuNet face detector, from its ONNX file.
//! - [`checkpoint`]: a reader for tensors that PyTorch, Lightning or safetensors wrote.
//! - [`auto_avsr`]: the Auto-AVSR recognisers, from such a checkpoint.

pub mod auto_avsr;
pub mod checkpoint;
mod error;
pub mod onnx;
pub mod yunet;

pub use error::ImportError;
