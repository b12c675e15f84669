//! Follows the face that is read: detects it now and then, carries its landmarks in between.
//!
//! The detector (YuNet, [`viseme_engine::model::yunet`]) runs on every [`TrackerOptions::every`]-th frame, and wherever
//! alignment loses the face. Between two detections [`viseme_engine::preprocess::align`] carries the four landmarks
//! (right eye, left eye, nose tip, mouth centre) from frame to frame, and what it has drifted by when the next
//! detection comes is spread over the frames in between. So landmarks come out a few frames late.

mod detect;
mod faces;

use std::collections::VecDeque;
use std::sync::Arc;

use viseme_engine::model::yunet::Face;
use viseme_engine::preprocess::align::{Aligner, Fusion, REDETECT_RESIDUAL};
use viseme_engine::preprocess::crop::Placement;
use viseme_engine::preprocess::mean_face::FOUR_POINTS;
use viseme_engine::preprocess::similarity::Point;
use viseme_engine::preprocess::warp::Image;

pub use detect::DetectorFile;

use crate::{Error, Frame};
use detect::{Finder, four_of};
use faces::Faces;

/// Right eye, left eye, nose tip and mouth centre in pixels of the frame; right is the person's right.
pub type Landmarks = [Point; 4];

/// Detections that are made before the face is chosen, if there is more than one to choose from.
const DETECTIONS_TO_CHOOSE: usize = 3;
/// Frames that wait for a first face before they are given up.
pub(crate) const LONGEST_WAIT: usize = 25;
/// Detections in a row that alignment alone may bridge.
const LONGEST_BRIDGE: usize = 3;
/// The least part of a carried face that must be inside the picture.
const LEAST_OVERLAP: f32 = 0.6;

/// How faces are followed.
#[derive(Clone, Debug)]
pub struct TrackerOptions {
    /// A detection every so many frames; 1 detects on each.
    pub every: usize,
    /// How often a detected face is looked at again, turned upright and at a set size, each time placed by what the
    /// look before has found. 2 make the landmarks four times less dependent on where in the picture the face is, for
    /// three small detections each.
    pub looks: usize,
}

impl Default for TrackerOptions {
    fn default() -> Self {
        TrackerOptions { every: 5, looks: 2 }
    }
}

/// A frame and where the face is in it.
#[derive(Clone, Debug)]
pub struct Located {
    /// The frame.
    pub frame: Arc<Frame>,
    /// The landmarks, where the face was found or could be carried to.
    pub landmarks: Option<Landmarks>,
}

/// Follows one face through a stream of frames.
pub struct Tracker<'m> {
    finder: Finder<'m>,
    faces: Faces,
    every: usize,
    looks: usize,
    pushed: usize,
    /// Frames that were not handed out. Where `based`, the first one is settled and waits to be carried on from.
    slots: VecDeque<Slot>,
    based: bool,
    /// Carries the face on; holds it as it was at the last detection.
    carrier: Carrier,
    /// Detections in a row that did not find the face.
    bridged: usize,
}

struct Slot {
    frame: Arc<Frame>,
    /// Faces by identity, where the detector ran.
    faces: Option<Vec<(u32, Face)>>,
    landmarks: Option<Landmarks>,
}

impl<'m> Tracker<'m> {
    /// A tracker that detects with `file`.
    ///
    /// # Errors
    /// If the file is no detector, or `every` is 0.
    pub fn new(file: &'m DetectorFile, options: &TrackerOptions) -> Result<Self, Error> {
        if options.every == 0 {
            return Err(Error::Setting(
                "detecting every 0 frames is not possible; use 1 or more".into(),
            ));
        }
        Ok(Tracker {
            finder: Finder::new(file)?,
            faces: Faces::default(),
            every: options.every,
            looks: options.looks,
            pushed: 0,
            slots: VecDeque::new(),
            based: false,
            carrier: Carrier::default(),
            bridged: 0,
        })
    }

    /// Takes the next frame and hands every frame that is now settled, in order, to `out`.
    pub fn push(&mut self, frame: Arc<Frame>, out: &mut VecDeque<Located>) {
        self.slots.push_back(Slot {
            frame,
            faces: None,
            landmarks: None,
        });
        if self.pushed.is_multiple_of(self.every) {
            self.detect(self.slots.len() - 1);
            self.advance(false, out);
        }
        self.pushed += 1;
    }

    /// Ends the stream and hands the remaining frames to `out`.
    pub fn finish(&mut self, out: &mut VecDeque<Located>) {
        if self.slots.back().is_some_and(|slot| slot.faces.is_none()) {
            self.detect(self.slots.len() - 1);
        }
        self.advance(true, out);
    }

    /// The most faces that were there at the same time.
    pub fn faces_seen(&self) -> usize {
        self.faces.most_at_once()
    }

    /// Settles every frame up to the last one, where the detector ran.
    fn advance(&mut self, ended: bool, out: &mut VecDeque<Located>) {
        if !self.based && !ended && self.faces.detections() < DETECTIONS_TO_CHOOSE {
            return;
        }
        let keep = match self.faces.choose() {
            // Frames wait for a first face for a while, since it is carried back to them.
            None => LONGEST_WAIT,
            Some(chosen) => {
                let mut last_key = 0;
                for at in usize::from(self.based)..self.slots.len() {
                    self.settle(chosen, at, &mut last_key);
                }
                self.based = true;
                1
            }
        };
        let count = self
            .slots
            .len()
            .saturating_sub(if ended { 0 } else { keep });
        out.extend(self.slots.drain(..count).map(|s| Located {
            frame: s.frame,
            landmarks: s.landmarks,
        }));
    }

    /// Decides on the landmarks of frame `at`; those of the frames before it are settled.
    fn settle(&mut self, chosen: u32, at: usize, last_key: &mut usize) {
        let was_there = at > 0 && self.slots[at - 1].landmarks.is_some();
        let carried = if was_there {
            self.carrier.carry(&self.slots[at].frame)
        } else {
            None
        };
        if was_there && carried.is_none() && self.slots[at].faces.is_none() {
            self.detect(at);
        }
        let Some(faces) = &self.slots[at].faces else {
            self.slots[at].landmarks = carried;
            return;
        };
        let face = faces
            .iter()
            .find(|(id, _)| *id == chosen)
            .map(|(_, face)| *face);
        let found = face.and_then(|face| self.look_closely(&face, at));
        self.bridged = if found.is_some() { 0 } else { self.bridged + 1 };
        self.slots[at].landmarks = match (&found, &carried) {
            (Some(found), Some(carried)) => Some(self.correct(*last_key, at, found, carried)),
            (Some(found), None) => Some(*found),
            (None, carried) => carried.filter(|_| self.bridged <= LONGEST_BRIDGE),
        };
        if let (Some(_), Some(landmarks)) = (&found, &self.slots[at].landmarks) {
            self.carrier.take(&self.slots[at].frame, landmarks);
        }
        if found.is_some() && carried.is_none() {
            self.carry_back(at);
        }
        *last_key = at;
    }

    /// The landmarks of a detected face, if a mouth can be cut out by them.
    fn look_closely(&mut self, face: &Face, at: usize) -> Option<Landmarks> {
        let mut landmarks = four_of(face);
        for _ in 0..self.looks {
            landmarks = self
                .finder
                .look_again(&self.slots[at].frame, &landmarks)
                .unwrap_or(landmarks);
        }
        Placement::new(&FOUR_POINTS, &landmarks)
            .is_ok()
            .then_some(landmarks)
    }

    /// The landmarks of frame `at`, between those found and those carried there; what has been drifted by since the
    /// detection at `key` is spread over the frames after it.
    fn correct(
        &mut self,
        key: usize,
        at: usize,
        found: &Landmarks,
        carried: &Landmarks,
    ) -> Landmarks {
        let fused = Fusion::default().fuse(carried, found);
        if fused == *found {
            // Too far apart to be drift.
            return fused;
        }
        for i in key + 1..at {
            let part = (i - key) as f64 / (at - key) as f64;
            let Some(marks) = &mut self.slots[i].landmarks else {
                continue;
            };
            for ((mark, f), c) in marks.iter_mut().zip(&fused).zip(carried) {
                *mark = Point::new(mark.x + part * (f.x - c.x), mark.y + part * (f.y - c.y));
            }
        }
        fused
    }

    /// Carries the landmarks of frame `from` back to the frames before it that have none.
    fn carry_back(&mut self, from: usize) {
        let Some(landmarks) = self.slots[from].landmarks else {
            return;
        };
        let mut carrier = Carrier::default();
        carrier.take(&self.slots[from].frame, &landmarks);
        for slot in self.slots.range_mut(..from).rev() {
            if slot.landmarks.is_some() {
                break;
            }
            slot.landmarks = carrier.carry(&slot.frame);
            if slot.landmarks.is_none() {
                break;
            }
        }
    }

    fn detect(&mut self, at: usize) {
        let found = self.finder.find(&self.slots[at].frame);
        self.slots[at].faces = Some(self.faces.observe(found));
    }
}

/// An aligner with the landmarks that its template was taken by.
#[derive(Default)]
struct Carrier {
    aligner: Box<Aligner>,
    anchor: Landmarks,
}

impl Carrier {
    /// Takes the face in `frame` as the one to carry on.
    fn take(&mut self, frame: &Frame, landmarks: &Landmarks) {
        self.aligner.reset();
        self.anchor = *landmarks;
        if let (Some(picture), Ok(fit)) = (picture(frame), FOUR_POINTS.fit(landmarks)) {
            // A face too flat to follow is detected on every frame: carrying it fails.
            let _ = self.aligner.set_template(&picture, &fit);
        }
    }

    /// Where the face is in the next frame, if it can still be recognised.
    fn carry(&mut self, frame: &Frame) -> Option<Landmarks> {
        let track = self.aligner.track(&picture(frame)?).ok()?;
        let landmarks = track.motion.apply_all(&self.anchor);
        let good = track.residual <= REDETECT_RESIDUAL && track.overlap >= LEAST_OVERLAP;
        (good && Placement::new(&FOUR_POINTS, &landmarks).is_ok()).then_some(landmarks)
    }
}

fn picture(frame: &Frame) -> Option<Image<'_, 1>> {
    Image::new(&frame.pixels, frame.width, frame.height).ok()
}
