//! LiteRT, formerly TensorFlow Lite, by `litert`: its CPU backend, which is XNNPACK on one thread.

use std::path::Path;

use litert::{CompilationOptions, CompiledModel, Environment, Model, TensorBuffer};
use peer_protocol::{Engine, Tensor, serve};

struct Peer {
    model: CompiledModel,
    inputs: Vec<TensorBuffer>,
    outputs: Vec<TensorBuffer>,
}

impl Engine for Peer {
    fn load(path: &Path) -> Result<Self, String> {
        let load = || -> litert::Result<Self> {
            let environment = Environment::new()?;
            let model = Model::from_file(path)?;
            let signature = model.signature(0)?;
            let inputs = (0..signature.input_count()?)
                .map(|i| TensorBuffer::managed_host(&environment, &signature.input_shape(i)?))
                .collect::<litert::Result<_>>()?;
            let outputs = (0..signature.output_count()?)
                .map(|i| TensorBuffer::managed_host(&environment, &signature.output_shape(i)?))
                .collect::<litert::Result<_>>()?;
            let options = CompilationOptions::new()?;
            let model = CompiledModel::new(environment, model, &options)?;
            Ok(Peer {
                model,
                inputs,
                outputs,
            })
        };
        load().map_err(|e| e.to_string())
    }

    fn set(&mut self, inputs: &[Tensor]) -> Result<(), String> {
        for (buffer, input) in self.inputs.iter_mut().zip(inputs) {
            let shape = buffer.shape().map_err(|e| e.to_string())?.dims;
            if !shape
                .iter()
                .map(|&n| n as usize)
                .eq(input.shape.iter().copied())
            {
                return Err(format!("an input is {shape:?}, not {:?}", input.shape));
            }
            let mut values = buffer.lock_for_write::<f32>().map_err(|e| e.to_string())?;
            values.copy_from_slice(&input.data);
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), String> {
        let result = self.model.run(&mut self.inputs, &mut self.outputs);
        result.map_err(|e| e.to_string())
    }

    fn outputs(&mut self) -> Result<Vec<Vec<f32>>, String> {
        self.run()?;
        let read = |buffer: &TensorBuffer| Ok(buffer.lock_for_read::<f32>()?.to_vec());
        let all: litert::Result<_> = self.outputs.iter().map(read).collect();
        all.map_err(|e| e.to_string())
    }
}

fn main() {
    serve::<Peer>();
}
