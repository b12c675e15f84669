//! tract, a Rust engine for ONNX files.

use std::path::Path;
use std::sync::Arc;

use peer_protocol::{Engine, Tensor, serve};
use tract_onnx::prelude::*;

struct Peer {
    model: Arc<TypedRunnableModel>,
    inputs: TVec<TValue>,
    outputs: TVec<TValue>,
}

impl Engine for Peer {
    fn load(model: &Path) -> Result<Self, String> {
        let load = || {
            tract_onnx::onnx()
                .model_for_path(model)?
                .into_optimized()?
                .into_runnable()
        };
        Ok(Peer {
            model: load().map_err(|e: TractError| format!("{e:#}"))?,
            inputs: tvec!(),
            outputs: tvec!(),
        })
    }

    fn set(&mut self, inputs: &[Tensor]) -> Result<(), String> {
        let value = |t: &Tensor| {
            let tensor = tract_onnx::prelude::Tensor::from_shape(&t.shape, &t.data);
            tensor.map(IntoTValue::into_tvalue)
        };
        let values: TractResult<TVec<TValue>> = inputs.iter().map(value).collect();
        self.inputs = values.map_err(|e| format!("{e:#}"))?;
        Ok(())
    }

    fn run(&mut self) -> Result<(), String> {
        let outputs = self.model.run(self.inputs.clone());
        self.outputs = outputs.map_err(|e| format!("{e:#}"))?;
        Ok(())
    }

    fn outputs(&mut self) -> Result<Vec<Vec<f32>>, String> {
        self.run()?;
        let read = |value: &TValue| {
            let view = value.to_plain_array_view::<f32>()?;
            Ok(view.iter().copied().collect())
        };
        let all: TractResult<_> = self.outputs.iter().map(read).collect();
        all.map_err(|e| format!("{e:#}"))
    }
}

fn main() {
    serve::<Peer>();
}
