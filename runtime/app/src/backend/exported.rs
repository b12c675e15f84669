//! A backend that exports the model for as many frames as a window has, and has another engine run it.

use viseme_corpus::backend::{Backend, BackendError};
use viseme_engine::model::conformer::Model;
use viseme_engine::session::PushError;
use viseme_export::{Format, Input, Part, export};

/// An engine, and what it reads.
#[derive(Clone, Copy)]
pub struct Runtime {
    /// The files it is given.
    pub format: Format,
    /// Runs such a file once, with all its inputs in its order; or one line that says why not.
    pub run: fn(&[u8], &[Input]) -> Result<Outputs, String>,
}

/// The elements of all outputs of a file, in its order.
pub type Outputs = Vec<Vec<f32>>;

/// The backend that runs `model`, whose file this is, in another engine.
pub fn backend<'m>(
    file: &'m [u8],
    model: &'m Model<'m>,
    runtime: Runtime,
) -> Box<dyn Backend + 'm> {
    Box::new(Exported {
        file,
        model,
        runtime,
        crops: Vec::new(),
        logits: Vec::new(),
    })
}

struct Exported<'m> {
    file: &'m [u8],
    model: &'m Model<'m>,
    runtime: Runtime,
    /// The window's, as they go in: [frames, side, side], grey values from 0 to 255.
    crops: Vec<f32>,
    logits: Vec<f32>,
}

impl Exported<'_> {
    fn crop_len(&self) -> usize {
        self.model.crop_side() * self.model.crop_side()
    }
}

impl Backend for Exported<'_> {
    fn push(&mut self, crop: &[u8]) -> Result<(), BackendError> {
        let (got, want) = (crop.len(), self.crop_len());
        if got != want {
            return Err(PushError::Size { got, want }.into());
        }
        let max_frames = self.model.max_frames();
        if self.crops.len() == max_frames * want {
            return Err(PushError::Full { max_frames }.into());
        }
        self.crops.extend(crop.iter().map(|&grey| f32::from(grey)));
        Ok(())
    }

    fn finish(&mut self) -> Result<&[f32], BackendError> {
        let frames = self.crops.len() / self.crop_len();
        if frames == 0 {
            return Ok(&[]);
        }
        let part = Part::Whole { frames };
        let file = export(self.file, part, self.runtime.format)
            .map_err(|e| BackendError::Other(e.to_string()))?;
        let side = self.model.crop_side();
        let crops = Input {
            shape: vec![frames, side, side],
            values: std::mem::take(&mut self.crops),
        };
        let outputs = (self.runtime.run)(&file, &[crops]).map_err(BackendError::Other)?;
        let (found, wanted) = (outputs.concat(), frames * self.model.vocabulary());
        if found.len() != wanted {
            let line = format!(
                "the other engine gave {} logits instead of {wanted}; read the clip without --backend",
                found.len()
            );
            return Err(BackendError::Other(line));
        }
        self.logits = found;
        Ok(&self.logits)
    }

    fn reset(&mut self) {
        self.crops.clear();
    }
}
