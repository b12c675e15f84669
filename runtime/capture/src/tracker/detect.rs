//! The face detector on frames: its model file in memory, and its scratch.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use viseme_engine::model::yunet::{Detector, Face, Image};

use crate::error::one_line;
use crate::{Error, Frame};

/// Largest detector file that is read; YuNet has 0.3 MB.
const MAX_BYTES: u64 = 64 << 20;
/// Faces that score less are none.
const THRESHOLD: f32 = 0.6;
/// Sides to which frames are shrunk: the usual one, and one for small faces when there is none at the usual.
const SIDES: [usize; 2] = [320, 640];

/// A detector's model file in memory, where several trackers can share it.
#[derive(Clone)]
pub struct DetectorFile {
    path: PathBuf,
    /// The bytes lie in whole words: the reader wants them aligned.
    words: Vec<u64>,
    len: usize,
}

impl DetectorFile {
    /// Reads and checks the model file (GGUF, architecture `viseme-yunet`) at `path`.
    ///
    /// # Errors
    /// If it cannot be read or is no detector.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        let file = fs::File::open(path).map_err(|e| Error::io(path, e))?;
        file.take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::io(path, e))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::Detector(path.into(), "far too large".into()));
        }
        DetectorFile::from_bytes(path, &bytes)
    }

    /// Takes a model file that is in memory already; `path` is its name in messages.
    ///
    /// # Errors
    /// If it is no detector.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let mut words = vec![0_u64; bytes.len().div_ceil(8)];
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        let file = DetectorFile {
            path: path.into(),
            words,
            len: bytes.len(),
        };
        file.detector()?;
        Ok(file)
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }

    fn detector(&self) -> Result<Detector<'_>, Error> {
        Detector::open(self.bytes())
            .map_err(|e| Error::Detector(self.path.clone(), one_line(&e.to_string())))
    }
}

/// A detector with its scratch, for frames of one size.
pub(crate) struct Finder<'m> {
    detectors: [Detector<'m>; 2],
    arena: Vec<f32>,
    found: [Face; 8],
}

impl<'m> Finder<'m> {
    pub fn new(file: &'m DetectorFile) -> Result<Self, Error> {
        let detector = file.detector()?;
        let detectors = SIDES.map(|side| detector.clone().with_max_side(side));
        Ok(Finder {
            detectors,
            arena: Vec::new(),
            found: Default::default(),
        })
    }

    /// The faces of a frame, best first.
    pub fn find(&mut self, frame: &Frame) -> &[Face] {
        let image = Image::grey(&frame.pixels, frame.width, frame.height);
        for (detector, side) in self.detectors.iter().zip(SIDES) {
            if side != SIDES[0] && frame.width.max(frame.height) <= SIDES[0] {
                break;
            }
            let need = detector.arena_len(frame.width, frame.height);
            if self.arena.len() < need {
                self.arena.resize(need, 0.0);
            }
            // Frames are never empty nor larger than the detector takes, and the arena fits: no error is left.
            let count = detector
                .detect(&mut self.arena, &image, THRESHOLD, &mut self.found)
                .unwrap_or(0);
            if count > 0 {
                return &self.found[..count];
            }
        }
        &[]
    }
}
