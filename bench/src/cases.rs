//! What is measured: the reference encoder with random weights, as files for every engine.

use std::fs;
use std::path::{Path, PathBuf};

use viseme_engine::testing::{self, Init, REFERENCE, Size};
use viseme_export::{Format, Part, export};
use viseme_format::spec::{Family, Weights};

/// Past frames that a step sees.
pub const LEFT: usize = 64;

/// Elements of a frame.
pub const WIDTH: usize = REFERENCE.d_model as usize;

/// The encoder of [`REFERENCE`]; its front-end is as small as can be, since only our own files have one.
const SIZE: Size = Size {
    channels: [1, 1, 1],
    ..REFERENCE
};

/// One row of the comparison.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Frames that go in at once.
    pub frames: usize,
    /// Whether they are a step of a stream, with the [`LEFT`] frames before them in caches. Otherwise they are all there
    /// is, and see each other.
    pub cached: bool,
}

/// All of them.
pub const CASES: [Case; 4] = [
    Case {
        frames: 64,
        cached: false,
    },
    Case {
        frames: 8,
        cached: false,
    },
    Case {
        frames: 8,
        cached: true,
    },
    Case {
        frames: 1,
        cached: true,
    },
];

/// The files of a case, and what goes into them.
pub struct Files {
    /// The case.
    pub case: Case,
    /// f32, the frames of all chunks.
    pub input: PathBuf,
    /// Of all inputs of an exported model.
    pub shapes: Vec<Vec<usize>>,
    folder: PathBuf,
}

impl Case {
    /// For people.
    pub fn name(&self) -> String {
        let frames = match self.frames {
            1 => "1 frame".to_owned(),
            n => format!("{n} frames"),
        };
        match self.cached {
            true => format!("{frames}, a step with {LEFT} cached"),
            false => format!("{frames}, no cache"),
        }
    }

    fn stem(&self) -> String {
        let kind = if self.cached { "step" } else { "whole" };
        format!("{kind}-{}", self.frames)
    }

    fn part(&self) -> Part {
        let frames = self.frames;
        match self.cached {
            true => Part::Step { frames, left: LEFT },
            false => Part::Encoder {
                frames,
                chunks: None,
            },
        }
    }
}

impl Files {
    /// An exported model: `onnx`, `int8.onnx` (made from it by ONNX Runtime's quantiser), `tflite` or `int8.tflite`.
    pub fn exported(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}.{ending}", self.case.stem()))
    }
}

/// Our own model file in `folder` with weights of `f32`, `int8` or `int4`: the same before rounding.
pub fn own(folder: &Path, bits: &str) -> PathBuf {
    folder.join(format!("reference-{bits}.gguf"))
}

/// Writes all model files and inputs into `folder`; with `peers`, those of other engines too.
///
/// # Errors
/// A folder that cannot be written to.
pub fn write(folder: &Path, peers: bool) -> Result<Vec<Files>, String> {
    let save = |path: &Path, bytes: &[u8]| {
        fs::write(path, bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))
    };
    fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let models = [Weights::F32, Weights::Int8, Weights::Int4].map(model);
    for (bits, model) in ["f32", "int8", "int4"].iter().zip(&models) {
        save(&own(folder, bits), model)?;
    }
    let (d, kernel) = (WIDTH, SIZE.conv_kernel as usize);
    let mut all = Vec::new();
    for case in CASES {
        let stem = case.stem();
        let input = folder.join(format!("{stem}.frames"));
        // Enough for full caches.
        let frames = match case.cached {
            true => (LEFT + 2 * case.frames).next_multiple_of(case.frames),
            false => case.frames,
        };
        let features = testing::features(1, frames, d);
        let bytes: Vec<u8> = features.iter().flat_map(|v| v.to_le_bytes()).collect();
        save(&input, &bytes)?;
        let mut shapes = vec![vec![case.frames, d]];
        if case.cached {
            for _ in 0..SIZE.blocks {
                shapes.extend([vec![LEFT, d], vec![LEFT, d], vec![kernel - 1, d]]);
            }
            shapes.push(vec![1, 1, LEFT + case.frames]);
        }
        let files = Files {
            case,
            input,
            shapes,
            folder: folder.to_owned(),
        };
        let formats = [
            ("onnx", Format::Onnx),
            ("tflite", Format::Tflite),
            ("int8.tflite", Format::TfliteInt8),
        ];
        for (ending, format) in formats.into_iter().filter(|_| peers) {
            let file = export(&models[0], case.part(), format).map_err(|e| e.to_string())?;
            save(&files.exported(ending), &file)?;
        }
        all.push(files);
    }
    Ok(all)
}

/// Causal convolutions, so that it can run in steps; weights as those have that the targets for the error were taken from.
fn model(weights: Weights) -> Vec<u8> {
    let mut spec = testing::spec(&SIZE, weights);
    if let Family::Conformer(conformer) = &mut spec.family {
        conformer.encoder.conv_left = conformer.encoder.conv_kernel - 1;
    }
    testing::model_with(&spec, 1, Init::Torch).expect("a size that the engine runs")
}
