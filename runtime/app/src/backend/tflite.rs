//! TensorFlow Lite by `tflitec`: its own kernels on one thread, without a delegate.

use tflitec::Result;
use tflitec::interpreter::{Interpreter, Options};
use tflitec::model::Model;
use viseme_export::{Format, Input};

use super::exported::{Outputs, Runtime};

/// Runs f32 models.
pub const F32: Runtime = Runtime {
    format: Format::Tflite,
    run: |file, inputs| run(file, inputs).map_err(|e| format!("TensorFlow Lite: {e}")),
};

fn run(file: &[u8], inputs: &[Input]) -> Result<Outputs> {
    let model = Model::from_bytes(file)?;
    let interpreter = Interpreter::new(&model, Some(Options { thread_count: 1 }))?;
    interpreter.allocate_tensors()?;
    for (i, input) in inputs.iter().enumerate() {
        interpreter.copy(&input.values, i)?;
    }
    interpreter.invoke()?;
    (0..interpreter.output_tensor_count())
        .map(|i| Ok(interpreter.output(i)?.data().to_vec()))
        .collect()
}
