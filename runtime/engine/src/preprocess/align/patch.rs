//! The surroundings of the face in one picture, small and at several scales.

use super::{LEVELS, level_start, pyramid_len};
use crate::preprocess::similarity::{Point, Similarity};
use crate::preprocess::warp::Image;

/// Width and height of the rendered surroundings; the margin bounds the motion between frames.
pub const PATCH: usize = 72;
/// Marks pixels outside the picture.
pub const OUTSIDE: f32 = -1.0;

const PATCH_LEN: usize = pyramid_len(PATCH);

/// The surroundings of the face in one picture, in template pixels: a pyramid.
#[derive(Clone, Debug)]
pub struct Patch {
    pixels: [f32; PATCH_LEN],
}

impl Patch {
    pub const EMPTY: Self = Self {
        pixels: [0.0; PATCH_LEN],
    };

    /// Renders the picture under `to_picture`, from template coordinates; every pixel is the mean
    /// of as many samples as it covers pixels of the picture, up to 4x4.
    pub fn render(&mut self, picture: &Image<'_, 1>, to_picture: &Similarity) {
        let per_side = (to_picture.scale() + 0.5).clamp(1.0, 4.0) as usize;
        let step = 1.0 / per_side as f64;
        let half = PATCH as f64 / 2.0;
        for row in 0..PATCH {
            for column in 0..PATCH {
                let mut sum = 0.0;
                for i in 0..per_side * per_side {
                    let (sx, sy) = (i % per_side, i / per_side);
                    let x = column as f64 + (sx as f64 + 0.5) * step - half;
                    let y = row as f64 + (sy as f64 + 0.5) * step - half;
                    let p = to_picture.apply(Point::new(x, y));
                    sum += sample_picture(picture, p);
                }
                self.pixels[row * PATCH + column] = if sum.is_nan() {
                    OUTSIDE
                } else {
                    sum / (per_side * per_side) as f32
                };
            }
        }
        for level in 1..LEVELS {
            let (fine, side) = (level_start(PATCH, level - 1), PATCH >> level);
            for i in 0..side * side {
                let from = fine + (i / side * 2) * (side * 2) + i % side * 2;
                let four = [from, from + 1, from + side * 2, from + side * 2 + 1];
                let four = four.map(|at| self.pixels[at]);
                let inside = four.iter().all(|&v| v != OUTSIDE);
                let mean = (four[0] + four[1] + four[2] + four[3]) * 0.25;
                self.pixels[level_start(PATCH, level) + i] = if inside { mean } else { OUTSIDE };
            }
        }
    }

    pub fn level(&self, level: usize) -> &[f32] {
        let side = PATCH >> level;
        &self.pixels[level_start(PATCH, level)..][..side * side]
    }
}

/// The grey value between pixels; NaN outside the picture.
fn sample_picture(picture: &Image<'_, 1>, p: Point) -> f32 {
    let (right, bottom) = ((picture.width() - 1) as f64, (picture.height() - 1) as f64);
    let inside = (0.0..=right).contains(&p.x) && (0.0..=bottom).contains(&p.y);
    if !inside {
        return f32::NAN;
    }
    let (x, y) = (p.x as usize, p.y as usize);
    let (fx, fy) = ((p.x - x as f64) as f32, (p.y - y as f64) as f32);
    let (width, data) = (picture.width(), picture.data());
    let (x1, y1) = ((x + 1).min(width - 1), (y + 1).min(picture.height() - 1));
    let at = |x: usize, y: usize| f32::from(data[y * width + x]);
    let top = at(x, y) + fx * (at(x1, y) - at(x, y));
    let bottom = at(x, y1) + fx * (at(x1, y1) - at(x, y1));
    top + fy * (bottom - top)
}

/// The grey of a level of the patch between pixels; NaN where it is not known.
#[inline]
pub fn sample_patch(grey: &[f32], level: usize, p: Point) -> f32 {
    let (side, pixel) = (PATCH >> level, (1 << level) as f64);
    let half = PATCH as f64 / 2.0;
    let (x, y) = ((p.x + half) / pixel - 0.5, (p.y + half) / pixel - 0.5);
    let last = (side - 1) as f64;
    let inside = x >= 0.0 && x < last && y >= 0.0 && y < last;
    if !inside {
        return f32::NAN;
    }
    let (column, row) = (x as usize, y as usize);
    let (fx, fy) = ((x - column as f64) as f32, (y - row as f64) as f32);
    let at = row * side + column;
    let four = [at, at + 1, at + side, at + side + 1].map(|at| grey[at]);
    if four.contains(&OUTSIDE) {
        return f32::NAN;
    }
    let top = four[0] + fx * (four[1] - four[0]);
    let bottom = four[2] + fx * (four[3] - four[2]);
    top + fy * (bottom - top)
}
