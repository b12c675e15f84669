//! Our engine as one of the engines: in a process of its own, by the protocol of `bench/peers/protocol/`.

use std::path::Path;

use viseme_engine::model::conformer::Model;
use viseme_engine::session::{Options, Session};

use crate::protocol::{Engine, Tensor};
use crate::sys;

/// A model with a session, for as long as the process lives.
pub struct Own {
    model: &'static Model<'static>,
    session: Option<Session<'static>>,
    features: Vec<f32>,
}

impl Engine for Own {
    fn load(path: &Path) -> Result<Self, String> {
        Ok(Own {
            model: open(path)?,
            session: None,
            features: Vec::new(),
        })
    }

    fn set(&mut self, inputs: &[Tensor]) -> Result<(), String> {
        // Streams: a step of the engine's own, with its caches, belongs here (then `cached` in cases.rs learns of it).
        let [features] = inputs else {
            return Err("the engine has no streams yet".into());
        };
        let options = Options {
            max_frames: Some(features.shape[0]),
            ..Options::default()
        };
        let arena = vec![0; self.model.arena_bytes(features.shape[0])].leak();
        let session = Session::new(self.model, arena, options).map_err(|e| e.to_string())?;
        self.session = Some(session);
        features.data.clone_into(&mut self.features);
        Ok(())
    }

    fn run(&mut self) -> Result<(), String> {
        let session = self.session.as_mut().ok_or("no inputs are set")?;
        session.reset();
        let width = self.features.len() / session.max_frames();
        for row in self.features.chunks(width) {
            session.push_features(row, 0).map_err(|e| e.to_string())?;
        }
        session.finish();
        session.logits();
        Ok(())
    }

    fn outputs(&mut self) -> Result<Vec<Vec<f32>>, String> {
        self.run()?;
        let session = self.session.as_mut().ok_or("no inputs are set")?;
        Ok(vec![session.logits().to_vec()])
    }
}

/// Maps and checks a model file.
///
/// # Errors
/// A file that cannot be read, or that the engine refuses.
pub fn open(path: &Path) -> Result<&'static Model<'static>, String> {
    let map = sys::map(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let bytes: &'static [u8] = Box::leak(Box::new(map));
    let model = Model::open(bytes).map_err(|e| e.to_string())?;
    Ok(Box::leak(Box::new(model)))
}
