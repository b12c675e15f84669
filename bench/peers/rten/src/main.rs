//! RTen, a Rust engine for ONNX files.

use std::path::Path;
use std::sync::Arc;

use peer_protocol::{Engine, Tensor, serve};
use rten::{Model, NodeId, RunOptions, ThreadPool, Value, ValueOrView};

struct Peer {
    model: Model,
    pool: Arc<ThreadPool>,
    ids: Vec<NodeId>,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
}

impl Engine for Peer {
    fn load(model: &Path) -> Result<Self, String> {
        let model = Model::load_file(model).map_err(|e| e.to_string())?;
        Ok(Peer {
            ids: model.input_ids().to_vec(),
            model,
            pool: Arc::new(ThreadPool::with_num_threads(1)),
            inputs: Vec::new(),
            outputs: Vec::new(),
        })
    }

    fn set(&mut self, inputs: &[Tensor]) -> Result<(), String> {
        let value = |t: &Tensor| {
            let value = Value::from_shape(t.shape.as_slice(), t.data.clone());
            value.map_err(|e| e.to_string())
        };
        self.inputs = inputs.iter().map(value).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn run(&mut self) -> Result<(), String> {
        let inputs = self.ids.iter().copied().zip(&self.inputs);
        let inputs = inputs.map(|(id, value)| (id, ValueOrView::from(value)));
        let options = RunOptions::default().with_thread_pool(Some(self.pool.clone()));
        let outputs = self.model.output_ids();
        let result = self.model.run(inputs.collect(), outputs, Some(options));
        self.outputs = result.map_err(|e| e.to_string())?;
        Ok(())
    }

    fn outputs(&mut self) -> Result<Vec<Vec<f32>>, String> {
        self.run()?;
        let outputs = std::mem::take(&mut self.outputs);
        let read = |value: Value| value.into_tensor::<f32>().map(|tensor| tensor.into_data());
        let all: Option<_> = outputs.into_iter().map(read).collect();
        all.ok_or_else(|| "an output is not f32".into())
    }
}

fn main() {
    serve::<Peer>();
}
