//! The face detector on frames: its model file in memory, and its scratch.

use std::path::{Path, PathBuf};

use viseme_engine::model::yunet::{Detector, Face, Image};
use viseme_engine::preprocess::mean_face::{FOUR_POINTS, four_of_five};
use viseme_engine::preprocess::similarity::{Point, Similarity};
use viseme_engine::preprocess::warp::Window;

use super::Landmarks;
use crate::error::one_line;
use crate::sampling::render;
use crate::{Error, Frame};

/// Largest detector file that is read; YuNet has 0.3 MB.
const MAX_BYTES: u64 = 64 << 20;
/// Faces that score less are none.
const THRESHOLD: f32 = 0.6;
/// Width and height of a second look at a face.
const VIEW: usize = 192;
/// The middle of the face on the mean face's canvas: between the eyes and the tip of the nose.
const MIDDLE: Point = Point::new(129.0, 116.0);
/// The views of a second look: pixels for each of the canvas, and where the middle of the face lies. The detector
/// computes on grids of 8, 16 and 32 pixels; other scales and places put other pixels on them.
const VIEWS: [(f64, [f64; 2]); 3] = [
    (1.0, [96.0, 96.0]),
    (0.85, [93.0, 91.0]),
    (0.7, [91.0, 93.0]),
];
/// Farthest that a second look may move the landmarks, in pixels of the canvas; the eyes are 54 apart.
const FARTHEST: f64 = 20.0;
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
        let bytes = crate::file::read(path, MAX_BYTES).map_err(|e| Error::io(path, e))?;
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
    view: Vec<u8>,
}

impl<'m> Finder<'m> {
    pub fn new(file: &'m DetectorFile) -> Result<Self, Error> {
        let detector = file.detector()?;
        let detectors = SIDES.map(|side| detector.clone().with_max_side(side));
        Ok(Finder {
            detectors,
            arena: Vec::new(),
            found: Default::default(),
            view: vec![0; VIEW * VIEW],
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

    /// Looks again at the face with `landmarks`, turned upright, centred and at a few sizes; the mean of what is found.
    ///
    /// What the detector says depends a little on where in the picture a face is, how large and how tilted. Seen
    /// always in the same ways, a face gets the same landmarks wherever it is. `None` if nothing is found there.
    pub fn look_again(&mut self, frame: &Frame, landmarks: &Landmarks) -> Option<Landmarks> {
        let to_canvas = FOUR_POINTS.fit(landmarks).ok()?;
        let (mut sums, mut count) = (Landmarks::default(), 0.0);
        for (scale, [x, y]) in VIEWS {
            let view = Similarity::new(scale, 0.0, x - scale * MIDDLE.x, y - scale * MIDDLE.y);
            let to_view = to_canvas.then(&view);
            let Some(found) = self.find_in_view(frame, &to_view, landmarks, FARTHEST * scale)
            else {
                continue;
            };
            count += 1.0;
            for (sum, point) in sums.iter_mut().zip(found) {
                *sum = Point::new(sum.x + point.x, sum.y + point.y);
            }
        }
        (count > 0.0).then(|| sums.map(|sum| Point::new(sum.x / count, sum.y / count)))
    }

    /// The landmarks of the face in one view that lies where `expected` says, give or take `reach` pixels of the view.
    fn find_in_view(
        &mut self,
        frame: &Frame,
        to_view: &Similarity,
        expected: &Landmarks,
        reach: f64,
    ) -> Option<Landmarks> {
        let window = Window {
            x: 0,
            y: 0,
            width: VIEW,
            height: VIEW,
        };
        render(frame, to_view, window, &mut self.view);
        let detector = &self.detectors[0];
        let need = detector.arena_len(VIEW, VIEW);
        if self.arena.len() < need {
            self.arena.resize(need, 0.0);
        }
        let image = Image::grey(&self.view, VIEW, VIEW);
        let count = detector
            .detect(&mut self.arena, &image, THRESHOLD, &mut self.found)
            .ok()?;
        let expected = to_view.apply_all(expected);
        let back = to_view.inverse();
        self.found[..count].iter().map(four_of).find_map(|found| {
            let near = found
                .iter()
                .zip(&expected)
                .all(|(found, expected)| found.distance(*expected) <= reach);
            near.then(|| back.apply_all(&found))
        })
    }
}

/// Right eye, left eye, nose tip and mouth centre of a face.
pub(crate) fn four_of(face: &Face) -> Landmarks {
    four_of_five(
        &face
            .points
            .map(|(x, y)| Point::new(f64::from(x), f64::from(y))),
    )
}
