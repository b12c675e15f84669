//! Viseme model files as ONNX and TFLite: for engines that are compared with ours, and for those that stand in for it.
//!
//! A model file ([`viseme_format`]) becomes a [`graph::Graph`] of plain operations (`network.rs`), and that a file of the
//! other format (`onnx.rs`, `tflite.rs`). All sizes are fixed when the file is made.

mod flatbuffer;
pub mod graph;
mod network;
mod onnx;
mod protobuf;
#[cfg(feature = "testing")]
pub mod testing;
mod tflite;
mod weights;

use std::fmt;

use viseme_engine::model::auto_avsr;
use viseme_engine::model::conformer::{LoadError, Model};
use viseme_format::gguf::Reader;
use viseme_format::spec::{Conformer, Family, ModelSpec};
use viseme_format::weights::ValuesError;
use viseme_format::widen;

pub use network::conformer::HIDDEN;

/// What of the model is written, and for which sizes. All tensors are f32; `d` is the width of the encoder, V the number
/// of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `crops` [frames, side, side], grey values from 0 to 255, to `logits` [frames, V], with the context that the model
    /// was made for.
    ///
    /// Of a model of Auto-AVSR `crops`, `samples` [640 · frames] at 16 kHz with mean 0 and variance 1, or both, to
    /// `memory` [frames, d], what its decoder attends to, and the CTC `logits`.
    Whole {
        /// Frames of an utterance.
        frames: usize,
    },
    /// `features` [frames, d], what the front-end makes of crops, to `logits` [frames, V] and `encoded`
    /// [frames, d], what the last block gives.
    Encoder {
        /// Frames of an utterance.
        frames: usize,
        /// What attention sees, instead of what the model was made for.
        chunks: Option<Chunks>,
    },
    /// One chunk of a stream: `features` [frames, d], for each block the caches `keys.{b}` and `values.{b}` [left, d] and
    /// `conv.{b}` [kernel - 1, d], and `mask` [1, 1, left + frames], to `logits` [frames, V], `next.keys.0`, …, the
    /// caches for the next chunk in the order of the inputs, and `encoded`.
    ///
    /// Every frame sees its whole chunk and `left` frames before it. A stream begins with caches of zeros; the mask, 0 or
    /// [`HIDDEN`], is added to the scores of the keys and hides those that do not exist yet.
    Step {
        /// Frames of a chunk.
        frames: usize,
        /// Frames of the past that attention sees.
        left: usize,
    },
}

/// What goes into one input of an exported file.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its sizes, the outermost first.
    pub shape: Vec<usize>,
    /// Its elements, row by row.
    pub values: Vec<f32>,
}

/// Attention as a stream has it: every frame sees its whole chunk, and the frames just before the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks {
    /// Frames of a chunk.
    pub frames: usize,
    /// Frames before it.
    pub left: usize,
}

/// The file's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// ONNX, operator set 17, f32.
    Onnx,
    /// TFLite, f32.
    Tflite,
    /// TFLite with int8 weights, a scale an output, in its fully connected layers, whose inputs are quantised while
    /// running ("dynamic range"). All else is f32.
    TfliteInt8,
}

/// Makes the file.
///
/// int8 weights of the model file stay what they are in [`Format::TfliteInt8`], and are written as the numbers that they
/// stand for elsewhere.
///
/// # Errors
/// A file that the engine refuses, or a part that it has no room for.
pub fn export(model: &[u8], part: Part, format: Format) -> Result<Vec<u8>, ExportError> {
    let file = Reader::open(model).map_err(|e| ExportError::Model(e.into()))?;
    if widen::is_half(&file) {
        return export(
            &widen::widen(model).map_err(ExportError::Half)?,
            part,
            format,
        );
    }
    let spec = ModelSpec::read(&file).map_err(|e| ExportError::Model(e.into()))?;
    // The engine checks every tensor.
    let graph = match &spec.family {
        Family::AutoAvsr(of) => {
            auto_avsr::Model::open(model).map_err(ExportError::Model)?;
            let (Part::Whole { frames }, Format::Onnx) = (part, format) else {
                return Err(ExportError::WholeOnnx);
            };
            if !(1..=of.max_frames as usize).contains(&frames) {
                return Err(ExportError::Frames(of.max_frames as usize));
            }
            network::auto_avsr::build(&file, of, frames)?
        }
        _ => {
            Model::open(model).map_err(ExportError::Model)?;
            let of = spec.conformer().map_err(|e| ExportError::Model(e.into()))?;
            network::conformer::build(&file, of, part)?
        }
    };
    Ok(match format {
        Format::Onnx => onnx::write(&graph),
        Format::Tflite => tflite::write(&graph, false),
        Format::TfliteInt8 => tflite::write(&graph, true),
    })
}

impl Chunks {
    /// Whether frame `i` sees frame `j`.
    pub fn sees(&self, i: usize, j: usize) -> bool {
        let first = i / self.frames * self.frames;
        j + self.left >= first && j < first + self.frames
    }
}

impl Part {
    /// Frames that go in at once.
    pub fn frames(&self) -> usize {
        match *self {
            Part::Whole { frames } | Part::Encoder { frames, .. } | Part::Step { frames, .. } => {
                frames
            }
        }
    }

    /// Most frames of any part: a minute and a half at 90 frames a second, and tables of positions below 100 MB.
    const MOST: usize = 8192;

    fn check(&self, spec: &Conformer<'_>) -> Result<(), ExportError> {
        let counts = match *self {
            Part::Whole { frames } => [frames, 1],
            Part::Encoder { frames, chunks } => [frames, chunks.map_or(1, |c| c.frames)],
            Part::Step { frames, .. } => [frames, 1],
        };
        if !counts.iter().all(|n| (1..=Self::MOST).contains(n)) {
            return Err(ExportError::Frames(Self::MOST));
        }
        if let Part::Step { left, .. } = *self {
            if left > Self::MOST {
                return Err(ExportError::Frames(Self::MOST));
            }
            if spec.encoder.conv_right() > 0 {
                return Err(ExportError::LooksAhead(spec.encoder.conv_right()));
            }
        }
        Ok(())
    }
}

/// Why there is no such file. `Display` is one line for the user.
#[derive(Debug)]
pub enum ExportError {
    /// The engine refuses the model.
    Model(LoadError),
    /// Its weights in half precision cannot be read.
    Half(widen::WidenError),
    /// A tensor is not as it should be.
    Values(ValuesError),
    /// A number of frames is out of range; this is the most there can be.
    Frames(usize),
    /// A model of Auto-AVSR was asked for in parts, or in another format.
    WholeOnnx,
    /// The convolutions of the model see so many frames of the future, which no step has.
    LooksAhead(u32),
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportError::Model(error) => error.fmt(f),
            ExportError::Half(error) => error.fmt(f),
            ExportError::Values(error) => error.fmt(f),
            ExportError::Frames(most) => write!(
                f,
                "there are parts of 1 to {most} frames, with as many before them at most; ask for no others"
            ),
            ExportError::WholeOnnx => write!(
                f,
                "models of Auto-AVSR are written whole and as ONNX; give --to onnx and no --part"
            ),
            ExportError::LooksAhead(frames) => write!(
                f,
                "the convolutions of the model look {frames} frames ahead, so it cannot run in steps; export its encoder"
            ),
        }
    }
}

impl std::error::Error for ExportError {}

impl From<ValuesError> for ExportError {
    fn from(error: ValuesError) -> Self {
        ExportError::Values(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use viseme_engine::testing::{self, TINY};
    use viseme_format::spec::Weights;

    #[test]
    fn what_cannot_be_written_is_told() {
        let model = testing::model(&testing::spec(&TINY, Weights::Int8), 1).unwrap();
        let chunks = Some(Chunks { frames: 0, left: 1 });
        let cases = [
            (&model[..100], Part::Whole { frames: 1 }, "end"),
            (&model, Part::Whole { frames: 0 }, "1 to 8192"),
            (&model, Part::Encoder { frames: 2, chunks }, "1 to 8192"),
            (
                &model,
                Part::Step {
                    frames: 1,
                    left: 9000,
                },
                "1 to 8192",
            ),
            (&model, Part::Step { frames: 1, left: 4 }, "2 frames ahead"),
        ];
        for (model, part, wanted) in cases {
            let error = export(model, part, Format::Onnx).unwrap_err().to_string();
            assert!(error.contains(wanted) && !error.contains('\n'), "{error}");
        }
    }

    #[cfg(feature = "testing")]
    #[test]
    fn auto_avsr_is_written_whole() {
        let case = &crate::testing::auto_avsr()[0];
        let part = Part::Encoder {
            frames: 2,
            chunks: None,
        };
        let cases = [
            (part, Format::Onnx, "no --part"),
            (case.part, Format::Tflite, "--to onnx"),
            (Part::Whole { frames: 65 }, Format::Onnx, "1 to 64"),
        ];
        for (part, format, wanted) in cases {
            let error = export(&case.model, part, format).unwrap_err().to_string();
            assert!(error.contains(wanted) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_chunk_sees_itself_and_what_is_before_it() {
        let chunks = Chunks { frames: 3, left: 2 };
        let seen = |i| (0..9).filter(|&j| chunks.sees(i, j)).collect::<Vec<_>>();
        assert_eq!(seen(0), [0, 1, 2]);
        assert_eq!(seen(4), [1, 2, 3, 4, 5]);
        assert_eq!(seen(8), [4, 5, 6, 7, 8]);
    }
}
