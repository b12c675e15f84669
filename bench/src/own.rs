//! Our engine as one of the engines: in a process of its own, by the protocol of `bench/peers/protocol/`.

use std::path::Path;

use viseme_engine::model::conformer::Model;
use viseme_engine::session::{Options, Session};
use viseme_engine::stream::{self, Chunks, Stream};

use crate::protocol::{Engine, Tensor};
use crate::sys;

/// A model with a session or a stream, for as long as the process lives.
pub struct Own {
    model: &'static Model<'static>,
    runs: Option<Runs>,
    /// The frames of a run.
    features: Vec<f32>,
}

enum Runs {
    Session(Session<'static>),
    /// With its state before the last chunk.
    Stream(Stream<'static>, Vec<u8>),
}

impl Engine for Own {
    fn load(path: &Path) -> Result<Self, String> {
        Ok(Own {
            model: open(path)?,
            runs: None,
            features: Vec::new(),
        })
    }

    fn set(&mut self, inputs: &[Tensor]) -> Result<(), String> {
        let [features] = inputs else {
            return Err("caches are the engine's own".into());
        };
        let options = Options {
            max_frames: Some(features.shape[0]),
            ..Options::default()
        };
        let arena = vec![0; self.model.arena_bytes(features.shape[0])].leak();
        let session = Session::new(self.model, arena, options).map_err(|e| e.to_string())?;
        self.runs = Some(Runs::Session(session));
        features.data.clone_into(&mut self.features);
        Ok(())
    }

    fn prepare(
        &mut self,
        frames: &[f32],
        left: usize,
        shapes: &[Vec<usize>],
    ) -> Result<(), String> {
        let [rows, width] = shapes[0][..] else {
            return Err("frames are rows of features".into());
        };
        if let [shape] = shapes {
            let (shape, data) = (shape.clone(), frames.to_vec());
            return self.set(&[Tensor { shape, data }]);
        }
        let chunks = Chunks {
            look_ahead: rows,
            left: Some(left),
        };
        let options = stream::Options {
            chunks,
            ..stream::Options::default()
        };
        let bytes = Stream::arena_bytes(self.model, &options).map_err(|e| e.to_string())?;
        let mut stream =
            Stream::new(self.model, vec![0; bytes].leak(), options).map_err(|e| e.to_string())?;
        let (before, last) = frames.split_at(frames.len() - rows * width);
        for row in before.chunks(width) {
            stream.push_features(row, 0).map_err(|e| e.to_string())?;
        }
        let mut state = vec![0; stream.state_bytes()];
        stream.save(&mut state).map_err(|e| e.to_string())?;
        last.clone_into(&mut self.features);
        self.runs = Some(Runs::Stream(stream, state));
        Ok(())
    }

    /// A stream goes on with the same frames again: a step costs the same wherever it is.
    fn run(&mut self) -> Result<(), String> {
        match self.runs.as_mut().ok_or("no inputs are set")? {
            Runs::Session(session) => {
                session.reset();
                for row in self
                    .features
                    .chunks(self.features.len() / session.max_frames())
                {
                    session.push_features(row, 0).map_err(|e| e.to_string())?;
                }
                session.finish();
                session.logits();
            }
            Runs::Stream(stream, _) => {
                for row in self.features.chunks(self.features.len() / stream.chunk()) {
                    stream.push_features(row, 0).map_err(|e| e.to_string())?;
                }
            }
        }
        Ok(())
    }

    fn outputs(&mut self) -> Result<Vec<Vec<f32>>, String> {
        if let Some(Runs::Stream(stream, state)) = &mut self.runs {
            stream.restore(state).map_err(|e| e.to_string())?;
        }
        self.run()?;
        match self.runs.as_mut().ok_or("no inputs are set")? {
            Runs::Session(session) => {
                let logits = session.logits().to_vec();
                Ok(vec![logits, session.encoded().to_vec()])
            }
            Runs::Stream(stream, _) => {
                Ok(vec![stream.logits().to_vec(), stream.encoded().to_vec()])
            }
        }
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
