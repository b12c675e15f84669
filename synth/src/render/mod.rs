//! Pictures of a talking mouth: skin baked once per clip (`skin`), lips and what is between
//! them drawn per frame (`lips`), then head pose, optics and compression (`camera`).
//!
//! Face coordinates: `u` to the right and `v` down, in pixels of the 96x96 crop, with the
//! middle of the resting lip line at (0, 0).

pub(crate) mod camera;
pub(crate) mod light;
pub(crate) mod lips;
pub(crate) mod skin;

/// Side of the mouth crop, pixels.
pub const CROP: usize = 96;

/// A picture in face coordinates, wider than the crop so that the head may move.
pub(crate) struct Plane {
    pub pixels: Vec<f32>,
}

impl Plane {
    /// Side of the plane.
    pub const SIDE: usize = 136;
    /// Index of face coordinate 0.
    pub const ORIGIN: f32 = 68.0;

    pub fn new() -> Self {
        Self {
            pixels: vec![0.0; Self::SIDE * Self::SIDE],
        }
    }

    /// The value at fractional indices, by bilinear interpolation; clamped at the border.
    #[inline]
    pub fn sample(&self, x: f32, y: f32) -> f32 {
        let limit = (Self::SIDE - 2) as f32 + 0.999;
        let x = x.clamp(0.0, limit);
        let y = y.clamp(0.0, limit);
        let (column, row) = (x as usize, y as usize);
        let (fx, fy) = (x - column as f32, y - row as f32);
        let at = row * Self::SIDE + column;
        let pair = &self.pixels[at..at + Self::SIDE + 2];
        let above = pair[0] + (pair[1] - pair[0]) * fx;
        let below = pair[Self::SIDE] + (pair[Self::SIDE + 1] - pair[Self::SIDE]) * fx;
        above + (below - above) * fy
    }
}
