//! What computes the logits: our engine, or another one that runs the exported model, to referee ours.
//!
//! The others are features of this crate, none of them in the default build:
//!
//! | feature | engine | reads | `--backend` |
//! |---|---|---|---|
//! | `tract` | tract | ONNX, f32 | `tract` |
//! | `tflite` | TensorFlow Lite, by tflitec | TFLite, f32 | `tflite`, for models that are not int8 |
//! | `litert` | LiteRT, its successor | TFLite, f32 and int8 | `tflite`, for int8 models |
//!
//! `tflite` and `litert` link libraries that are found by variables while building and running; `xtask/src/referee.rs` sets
//! them. The library of TensorFlow Lite that can be had for tflitec is too old for int8 weights whose inputs are quantised while
//! running.

#[cfg(any(feature = "tract", feature = "tflite", feature = "litert"))]
mod exported;
#[cfg(feature = "litert")]
mod litert;
#[cfg(all(test, feature = "tract", feature = "tflite", feature = "litert"))]
mod tests;
#[cfg(feature = "tflite")]
mod tflite;
#[cfg(feature = "tract")]
mod tract;

use anyhow::{Result, bail};
use viseme_corpus::backend;
use viseme_corpus::recognise::Recogniser;
use viseme_engine::decode::Options;
use viseme_engine::model::conformer::Model;
use viseme_format::spec::Weights;

use crate::cli::Backend;
use crate::model::ModelFile;

/// A recogniser with this backend for the model in `file`; our engine works in `memory`, which is made as large as it
/// needs.
///
/// # Errors
/// If the backend is not in this build, or the model or the grammar is not usable.
pub fn recogniser<'m>(
    backend: Backend,
    file: &'m ModelFile,
    model: &'m Model<'m>,
    memory: &'m mut Vec<u8>,
    options: Options<'_>,
) -> Result<Recogniser<'m>> {
    let feature = match (backend, model.spec().weights) {
        (Backend::Engine, _) => return Ok(Recogniser::new(model, memory, options)?),
        (Backend::Tract, _) => "tract",
        (Backend::Tflite, Weights::Int8) => "litert",
        (Backend::Tflite, Weights::F32 | Weights::F16 | Weights::Int4) => "tflite",
    };
    let backend: Option<Box<dyn backend::Backend + 'm>> = match feature {
        #[cfg(feature = "tract")]
        "tract" => Some(exported::backend(file.bytes(), model, tract::ONNX)),
        #[cfg(feature = "tflite")]
        "tflite" => Some(exported::backend(file.bytes(), model, tflite::F32)),
        #[cfg(feature = "litert")]
        "litert" => Some(exported::backend(file.bytes(), model, litert::INT8)),
        _ => None,
    };
    let Some(backend) = backend else {
        let how = match feature {
            "tract" => "cargo install --locked --path runtime/app --features tract",
            // These want libraries, which this fetches.
            _ => "cargo xtask referee transcribe CLIP --backend tflite",
        };
        bail!(
            "{}: this build has no `{feature}`, the engine that --backend takes for {} models; get one that has it by `{how}`",
            file.name(),
            model.spec().weights
        );
    };
    Ok(Recogniser::with_backend(model, backend, options)?)
}
