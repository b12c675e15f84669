//! Following the head between two runs of the face detector.
//!
//! [`Aligner`] keeps a small grey picture of the face at the last detection and finds, frame by
//! frame, the similarity transform that best lays it over the new picture: the inverse
//! compositional Gauss-Newton method (S. Baker and I. Matthews, "Lucas-Kanade 20 Years On: A
//! Unifying Framework", IJCV 2004), coarse to fine, with brightness and contrast projected out.
//! The mouth and what lies beside the face count little, so that talking does not move the head.
//! Since every frame is compared with the detection's picture, errors do not add up.
//!
//! [`Fusion`] joins the landmarks carried along so with newly detected ones, without a jump.

use core::fmt;

use super::similarity::{Point, Similarity};
use super::warp::Image;
use crate::math::sqrt_f64;
use patch::Patch;
use template::{Fit, Template};

mod patch;
mod template;
#[cfg(test)]
mod tests;

/// A [`Track::residual`] above this says that the face has changed too much: detect again.
pub const REDETECT_RESIDUAL: f32 = 0.25;

/// Follows one face. Holds all its memory itself, about 75 KiB: box it on small stacks.
#[derive(Clone, Debug)]
pub struct Aligner {
    template: Template,
    patch: Patch,
    /// From the detection's picture to the template.
    origin: Similarity,
    /// From the template to the latest picture.
    current: Similarity,
    ready: bool,
}

/// What the aligner found in one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Track {
    /// From the picture of the detection to this one: where the detection's landmarks are now.
    pub motion: Similarity,
    /// How unlike the face has become: 1 minus the correlation with the detection's picture, from 0
    /// to 2; see [`REDETECT_RESIDUAL`].
    pub residual: f32,
    /// The part of the face that is inside the picture, from 0 to 1.
    pub overlap: f32,
}

impl Default for Aligner {
    fn default() -> Self {
        Self::new()
    }
}

impl Aligner {
    /// An aligner without a face yet.
    pub const fn new() -> Self {
        Self {
            template: Template::EMPTY,
            patch: Patch::EMPTY,
            origin: Similarity::IDENTITY,
            current: Similarity::IDENTITY,
            ready: false,
        }
    }

    /// Takes the face of a detection as the one to follow. `to_canvas` goes from the picture to the
    /// mean face, as [`Layout::fit`](super::mean_face::Layout::fit) finds it.
    ///
    /// # Errors
    /// When there is nothing to follow; see [`AlignError`]. The face before is then forgotten.
    pub fn set_template(
        &mut self,
        picture: &Image<'_, 1>,
        to_canvas: &Similarity,
    ) -> Result<(), AlignError> {
        self.ready = false;
        let origin = to_canvas.then(&CANVAS_TO_TEMPLATE);
        let current = origin.inverse();
        if !usable(&current) {
            return Err(AlignError::Lost);
        }
        self.patch.render(picture, &current);
        self.template.take(&self.patch)?;
        (self.origin, self.current) = (origin, current);
        self.ready = true;
        Ok(())
    }

    /// Finds the face in the next picture, starting from where it was in the last one.
    ///
    /// The result is to be trusted while its residual is low. On an error, the next call starts
    /// from the same place again.
    ///
    /// # Errors
    /// When there is no face to follow, or it cannot be found; see [`AlignError`].
    pub fn track(&mut self, picture: &Image<'_, 1>) -> Result<Track, AlignError> {
        if !self.ready {
            return Err(AlignError::NoTemplate);
        }
        self.patch.render(picture, &self.current);
        let mut warp = Similarity::IDENTITY;
        let mut fit = Fit::default();
        for level in (0..LEVELS).rev() {
            (warp, fit) = self.template.align(&self.patch, level, warp, COARSE)?;
        }
        let mut current = warp.then(&self.current);
        // What moved is rendered anew, so that it is compared at equal sharpness.
        if usable(&current) && displacement(&warp) > COARSE {
            self.patch.render(picture, &current);
            let start = Similarity::IDENTITY;
            (warp, fit) = self.template.align(&self.patch, 0, start, FINE)?;
            current = warp.then(&current);
        }
        if !usable(&current) {
            return Err(AlignError::Lost);
        }
        self.current = current;
        Ok(Track {
            motion: self.origin.then(&current),
            residual: (1.0 - fit.correlation).max(0.0) as f32,
            overlap: fit.overlap as f32,
        })
    }

    /// Forgets the face.
    pub fn reset(&mut self) {
        self.ready = false;
    }
}

/// Why a face cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AlignError {
    /// No face was given to follow.
    NoTemplate,
    /// The face has no texture that could be followed.
    Flat,
    /// The face left the picture or changed beyond recognition.
    Lost,
}

impl fmt::Display for AlignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoTemplate => "there is no face to follow yet; run the face detector first",
            Self::Flat => "the face is too evenly lit or dark to follow; detect it in every frame",
            Self::Lost => "the face was lost; run the face detector again",
        })
    }
}

impl core::error::Error for AlignError {}

/// Joins landmarks that were carried along with newly detected ones: a complementary filter.
///
/// Motion from the aligner is smooth but may drift with the looks of the face; detections do not
/// drift but jitter. A part `gain` of their difference is taken over at each detection, all of it
/// where they are so far apart that it must be another place or face.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fusion {
    /// How much of the difference a detection corrects, from 0 to 1.
    pub gain: f64,
    /// The mean distance that makes a reset, in parts of the detected face's size (the root mean
    /// square distance of its landmarks from their centre).
    pub jump: f64,
}

impl Default for Fusion {
    fn default() -> Self {
        Self {
            gain: 0.3,
            jump: 0.35,
        }
    }
}

impl Fusion {
    /// The landmarks to go on with.
    pub fn fuse<const N: usize>(
        &self,
        predicted: &[Point; N],
        detected: &[Point; N],
    ) -> [Point; N] {
        let n = N as f64;
        let centre = Point::mean(detected);
        let (mut spread, mut apart) = (0.0, 0.0);
        for (p, d) in predicted.iter().zip(detected) {
            let (x, y) = (d.x - centre.x, d.y - centre.y);
            spread += x * x + y * y;
            apart += p.distance(*d);
        }
        // Written so that a NaN resets.
        let steady = apart / n <= self.jump * sqrt_f64(spread / n);
        if !steady {
            return *detected;
        }
        core::array::from_fn(|i| {
            let (p, d) = (predicted[i], detected[i]);
            Point::new(p.x + self.gain * (d.x - p.x), p.y + self.gain * (d.y - p.y))
        })
    }
}

// Levels of the pyramid; each halves the picture.
const LEVELS: usize = 3;
/// Width and height of the template in its own pixels.
const TEMPLATE: usize = 48;
/// The template shows a square of 128 pixels of the canvas, from the brows to the mouth.
const CANVAS_TO_TEMPLATE: Similarity = {
    let scale = TEMPLATE as f64 / 128.0;
    // The square's middle is between the eyes and the tip of the nose; template coordinates have
    // their origin there.
    Similarity::new(scale, 0.0, -129.0 * scale, -116.0 * scale)
};

/// The displacement, in pixels of a level, at which iteration ends: on the way and at the end.
const COARSE: f64 = 0.05;
const FINE: f64 = 0.01;

const fn pyramid_len(side: usize) -> usize {
    let mut len = 0;
    let mut level = 0;
    while level < LEVELS {
        len += (side >> level) * (side >> level);
        level += 1;
    }
    len
}

const fn level_start(side: usize, level: usize) -> usize {
    let mut start = 0;
    let mut l = 0;
    while l < level {
        start += (side >> l) * (side >> l);
        l += 1;
    }
    start
}

/// A transform from the template to a picture that a face can have.
fn usable(transform: &Similarity) -> bool {
    let finite = [transform.a, transform.b, transform.tx, transform.ty]
        .iter()
        .all(|v| v.is_finite() && v.abs() < 1e6);
    // A scale of 1/16 is a face 8 pixels wide.
    finite && transform.scale() > 1.0 / 16.0
}

/// How far a transform moves the template's edge, about, in template pixels.
fn displacement(warp: &Similarity) -> f64 {
    let half = TEMPLATE as f64 / 2.0;
    let shift = warp.tx.abs() + warp.ty.abs();
    shift + ((warp.a - 1.0).abs() + warp.b.abs()) * half
}
