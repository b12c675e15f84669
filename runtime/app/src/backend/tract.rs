//! tract, a Rust engine for ONNX files.

use tract_onnx::prelude::*;
use viseme_export::{Format, Input};

use super::exported::{Outputs, Runtime};

/// Runs f32 models.
pub const ONNX: Runtime = Runtime {
    format: Format::Onnx,
    run: |file, inputs| run(file, inputs).map_err(|e| format!("tract: {e:#}")),
};

fn run(mut file: &[u8], inputs: &[Input]) -> TractResult<Outputs> {
    let model = tract_onnx::onnx()
        .model_for_read(&mut file)?
        .into_optimized()?
        .into_runnable()?;
    let value = |input: &Input| {
        let tensor = Tensor::from_shape(&input.shape, &input.values);
        tensor.map(IntoTValue::into_tvalue)
    };
    let inputs: TractResult<TVec<TValue>> = inputs.iter().map(value).collect();
    let read = |output: &TValue| {
        let view = output.to_plain_array_view::<f32>()?;
        Ok(view.iter().copied().collect())
    };
    model.run(inputs?)?.iter().map(read).collect()
}
