//! ONNX Runtime, by `ort`. The library is named by `ORT_DYLIB_PATH`.

use std::borrow::Cow;
use std::path::Path;

use ort::session::{Session, SessionInputValue};
use ort::value::Tensor as Value;
use peer_protocol::{Engine, Tensor, serve};

struct Peer {
    session: Session,
    names: Vec<String>,
    inputs: Vec<Value<f32>>,
    outputs: Vec<Vec<f32>>,
    keep: bool,
}

impl Engine for Peer {
    fn load(model: &Path) -> Result<Self, String> {
        let library = std::env::var("ORT_DYLIB_PATH").map_err(|_| "ORT_DYLIB_PATH is not set")?;
        let environment = ort::init_from(library)
            .map_err(|e| e.to_string())?
            .build()
            .map_err(|e| e.to_string())?;
        let session = Session::builder(&environment)
            .map_err(|e| e.to_string())?
            .with_intra_threads(1)
            .map_err(|e| e.to_string())?
            .with_inter_threads(1)
            .map_err(|e| e.to_string())?
            .commit_from_file(model)
            .map_err(|e| e.to_string())?;
        let names = session.inputs().iter().map(|i| i.name().to_owned());
        Ok(Peer {
            names: names.collect(),
            session,
            inputs: Vec::new(),
            outputs: Vec::new(),
            keep: false,
        })
    }

    fn set(&mut self, inputs: &[Tensor]) -> Result<(), String> {
        let value = |t: &Tensor| Value::from_array((t.shape.clone(), t.data.clone()));
        let values: Result<_, _> = inputs.iter().map(value).collect();
        self.inputs = values.map_err(|e| e.to_string())?;
        Ok(())
    }

    fn run(&mut self) -> Result<(), String> {
        let named = self.names.iter().zip(&self.inputs);
        let named = named.map(|(n, v)| (Cow::from(&**n), SessionInputValue::from(v)));
        let named: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = named.collect();
        let outputs = self.session.run(named).map_err(|e| e.to_string())?;
        if self.keep {
            let read =
                |v: &ort::value::DynValue| v.try_extract_tensor::<f32>().map(|t| t.1.to_vec());
            let all: Result<_, _> = outputs.values().map(|v| read(&v)).collect();
            self.outputs = all.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Outputs belong to the session that made them, so they are made once more.
    fn outputs(&mut self) -> Result<Vec<Vec<f32>>, String> {
        self.keep = true;
        let result = self.run();
        self.keep = false;
        result.map(|()| std::mem::take(&mut self.outputs))
    }
}

fn main() {
    serve::<Peer>();
}
