//! The mouth crop: where it lies on the mean face, its pixels, its centre, its normalisation.

use core::fmt;

use super::mean_face::{CANVAS, Layout};
use super::similarity::{FitError, Point, Similarity};
use super::warp::{Image, Window, warp};
use crate::math::round_half_even_f64;

/// Width and height of the patch around the mouth, in pixels.
pub const PATCH: usize = 96;

/// Width and height of the part of the patch that a model reads, in pixels.
pub const SIZE: usize = 88;

/// How much farther than half a patch the mouth may be from the centre of the canvas, in pixels.
pub const SLACK: f64 = 5.0;

/// Where a mouth crop comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// From the picture to the canvas of the mean face.
    pub transform: Similarity,
    /// The patch on the canvas, [`PATCH`] wide and high.
    pub window: Window,
}

impl Placement {
    /// The placement of the mouth of a face with these landmarks, as Auto-AVSR has it.
    ///
    /// # Errors
    /// When the landmarks are no face's, or the mouth is not where a mouth is; see [`CropError`].
    pub fn new<const N: usize>(
        layout: &Layout<N>,
        landmarks: &[Point; N],
    ) -> Result<Self, CropError> {
        let transform = layout.fit(landmarks)?;
        Self::on_canvas(transform, layout.mouth_centre(landmarks, &transform))
    }

    /// The placement with the mouth's centre already on the canvas, for transforms found otherwise.
    ///
    /// # Errors
    /// When the centre is more than half a patch and [`SLACK`] off the middle of the canvas.
    pub fn on_canvas(transform: Similarity, mouth: Point) -> Result<Self, CropError> {
        let middle = CANVAS as f64 / 2.0;
        let (dx, dy) = ((mouth.x - middle).abs(), (mouth.y - middle).abs());
        let limit = PATCH as f64 / 2.0 + SLACK;
        let near = dx <= limit && dy <= limit;
        if !near {
            return Err(CropError::OffCentre { off: dx.max(dy) });
        }
        let start = |centre: f64| {
            let start = (centre - PATCH as f64 / 2.0).clamp(0.0, (CANVAS - PATCH) as f64);
            round_half_even_f64(start) as usize
        };
        Ok(Self {
            transform,
            window: Window {
                x: start(mouth.x),
                y: start(mouth.y),
                width: PATCH,
                height: PATCH,
            },
        })
    }

    /// The placement for a camera that is fixed on the mouth: the square around the box with its
    /// top left corner at (`x`, `y`), in pixels, becomes the patch.
    ///
    /// # Errors
    /// When the box is empty or not finite.
    pub fn of_box(x: f64, y: f64, width: f64, height: f64) -> Result<Self, CropError> {
        let side = width.max(height);
        if !(width > 0.0 && height > 0.0 && side.is_finite() && x.is_finite() && y.is_finite()) {
            return Err(CropError::EmptyBox);
        }
        // Pixel centres: the box's left edge is half a pixel left of its first column's centre.
        let scale = PATCH as f64 / side;
        let (left, top) = (
            x - 0.5 - (side - width) / 2.0,
            y - 0.5 - (side - height) / 2.0,
        );
        Ok(Self {
            transform: Similarity::new(scale, 0.0, -left * scale - 0.5, -top * scale - 0.5),
            window: Window {
                x: 0,
                y: 0,
                width: PATCH,
                height: PATCH,
            },
        })
    }

    /// Renders the patch, `[PATCH, PATCH, C]`. What lies outside the picture is black.
    ///
    /// # Panics
    /// When `out` has another length.
    pub fn render<const C: usize>(&self, picture: &Image<'_, C>, out: &mut [u8]) {
        warp(picture, &self.transform, self.window, out);
    }
}

/// Why there is no mouth crop.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum CropError {
    /// No transform takes the landmarks to the mean face.
    Fit(FitError),
    /// The mouth is this many pixels off the middle of the canvas.
    OffCentre {
        /// The larger of the horizontal and vertical distance, in pixels.
        off: f64,
    },
    /// The fixed box has no area.
    EmptyBox,
}

impl From<FitError> for CropError {
    fn from(error: FitError) -> Self {
        Self::Fit(error)
    }
}

impl fmt::Display for CropError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fit(error) => error.fmt(f),
            Self::OffCentre { off } => write!(
                f,
                "the mouth is {off:.0} pixels off the middle of the aligned face; run the face detector again"
            ),
            Self::EmptyBox => {
                f.write_str("the mouth box is empty; give a width and height above 0")
            }
        }
    }
}

impl core::error::Error for CropError {}

/// Copies the centre of a square picture of one channel: `patch` is `[from, from]`, `out` is
/// `[to, to]`, the offset `(from - to) / 2`.
///
/// # Panics
/// When a slice has another length, or `to` is above `from`.
pub fn centre(patch: &[u8], from: usize, out: &mut [u8], to: usize) {
    assert!(patch.len() == from * from && out.len() == to * to && to <= from);
    let offset = (from - to) / 2;
    for (row, out) in out.chunks_exact_mut(to.max(1)).enumerate() {
        let start = (row + offset) * from + offset;
        out.copy_from_slice(&patch[start..start + to]);
    }
}

/// A grey pixel as a model sees it: (v / 255 - mean) / std.
#[inline]
pub fn normalise(v: u8, mean: f32, std: f32) -> f32 {
    (f32::from(v) / 255.0 - mean) / std
}

/// An RGB pixel as a model sees it: grey by 0.2989 R + 0.587 G + 0.114 B without rounding, then
/// [`normalise`]d.
#[inline]
pub fn normalise_rgb([r, g, b]: [u8; 3], mean: f32, std: f32) -> f32 {
    let [r, g, b] = [r, g, b].map(|v| f32::from(v) / 255.0);
    (0.2989 * r + 0.587 * g + 0.114 * b - mean) / std
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corner_rounds_half_to_even() {
        let at = |x, y| {
            Placement::on_canvas(Similarity::IDENTITY, Point::new(x, y))
                .unwrap()
                .window
        };
        assert_eq!((at(128.5, 129.5).x, at(128.5, 129.5).y), (80, 82));
        assert_eq!((at(128.49, 128.51).x, at(128.49, 128.51).y), (80, 81));
        assert_eq!((at(75.0, 181.0).x, at(75.0, 181.0).y), (27, 133));
    }

    #[test]
    fn a_mouth_far_from_the_middle_is_an_error() {
        let place = |x, y| Placement::on_canvas(Similarity::IDENTITY, Point::new(x, y));
        assert_eq!(place(128.0, 182.0), Err(CropError::OffCentre { off: 54.0 }));
        assert!(place(74.9, 128.0).is_err());
        assert!(place(f64::NAN, 128.0).is_err());
    }

    #[test]
    fn a_fixed_box_maps_edge_to_edge() {
        let place = Placement::of_box(10.0, 20.0, 192.0, 96.0).unwrap();
        // The square is 192 wide, so two pixels of the picture make one of the patch.
        let p = place.transform.apply(Point::new(10.5, 20.0 - 48.0 + 0.5));
        assert!(p.distance(Point::new(0.0, 0.0)) < 1e-12, "{p:?}");
        let q = place
            .transform
            .apply(Point::new(10.0 + 190.5, 20.0 - 48.0 + 190.5));
        assert!(q.distance(Point::new(95.0, 95.0)) < 1e-12, "{q:?}");
        assert!(Placement::of_box(0.0, 0.0, 0.0, 5.0).is_err());
        assert!(Placement::of_box(f64::NAN, 0.0, 5.0, 5.0).is_err());
    }

    #[test]
    fn a_box_of_the_patch_size_copies_pixels() {
        let data: std::vec::Vec<u8> = (0..PATCH * PATCH).map(|i| (i * 31 % 251) as u8).collect();
        let picture = Image::<1>::new(&data, PATCH, PATCH).unwrap();
        let mut out = std::vec![0; PATCH * PATCH];
        let side = PATCH as f64;
        Placement::of_box(0.0, 0.0, side, side)
            .unwrap()
            .render(&picture, &mut out);
        assert_eq!(out, data);
    }

    #[test]
    fn the_centre_is_cut_four_pixels_in() {
        let patch: std::vec::Vec<u8> = (0..PATCH * PATCH).map(|i| (i % 253) as u8).collect();
        let mut out = [0; SIZE * SIZE];
        centre(&patch, PATCH, &mut out, SIZE);
        assert_eq!(out[0], patch[4 * PATCH + 4]);
        assert_eq!(out[SIZE * SIZE - 1], patch[91 * PATCH + 91]);
        assert_eq!(out[SIZE], patch[5 * PATCH + 4]);
    }
}
