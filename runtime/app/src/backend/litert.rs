//! LiteRT, formerly TensorFlow Lite, by `litert`: its CPU backend, which is XNNPACK on one thread.
//!
//! Its library writes some lines to stderr whenever it is started; on Linux nothing can be said against that.

use litert::{CompilationOptions, CompiledModel, Environment, Model, Result, TensorBuffer};
use viseme_export::{Format, Input};

use super::exported::{Outputs, Runtime};

/// Runs int8 models: fully connected layers whose inputs it quantises while running, all else in f32.
pub const INT8: Runtime = Runtime {
    format: Format::TfliteInt8,
    run: |file, inputs| run(file, inputs).map_err(|e| format!("LiteRT: {e}")),
};

fn run(file: &[u8], inputs: &[Input]) -> Result<Outputs> {
    let environment = Environment::new()?;
    let model = Model::from_bytes(file)?;
    let signature = model.signature(0)?;
    let buffer = |shape| TensorBuffer::managed_host(&environment, &shape);
    let mut filled = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        let mut buffer = buffer(signature.input_shape(i)?)?;
        buffer
            .lock_for_write::<f32>()?
            .copy_from_slice(&input.values);
        filled.push(buffer);
    }
    let mut outputs = (0..signature.output_count()?)
        .map(|i| buffer(signature.output_shape(i)?))
        .collect::<Result<Vec<_>>>()?;
    let model = CompiledModel::new(environment, model, &CompilationOptions::new()?)?;
    model.run(&mut filled, &mut outputs)?;
    let read = |output: &TensorBuffer| Ok(output.lock_for_read::<f32>()?.to_vec());
    outputs.iter().map(read).collect()
}
