//! The face to follow, and the Gauss-Newton steps that lay it over a patch.

use super::patch::{OUTSIDE, PATCH, Patch, sample_patch};
use super::{AlignError, LEVELS, TEMPLATE, displacement, level_start, pyramid_len};
use crate::math::{exp, sqrt_f64};
use crate::preprocess::similarity::{Point, Similarity};

const TEMPLATE_LEN: usize = pyramid_len(TEMPLATE);
/// Most iterations a level.
const ITERATIONS: usize = 20;
/// The least part of the face that must be inside the picture.
const MIN_OVERLAP: f64 = 0.5;
/// The least standard deviation of grey levels that can be followed.
const MIN_CONTRAST: f64 = 2.0;

/// The face at the last detection, with what the method needs of it.
#[derive(Clone, Debug)]
pub struct Template {
    pixels: [f32; TEMPLATE_LEN],
    /// Change of grey a template pixel to the right and down.
    gradient: [[f32; 2]; TEMPLATE_LEN],
    /// 0 for pixels that were outside the picture.
    weights: [f32; TEMPLATE_LEN],
    levels: [Level; LEVELS],
}

/// Sums over one level of the template.
#[derive(Clone, Copy, Debug)]
struct Level {
    total_weight: f64,
    /// The inverse of the Gauss-Newton matrix.
    inverse: [[f64; 4]; 4],
    /// The part of each steepest-descent picture that a change of contrast would explain.
    contrast: [f64; 4],
}

/// How well a level fits.
#[derive(Clone, Copy, Default)]
pub struct Fit {
    pub correlation: f64,
    pub overlap: f64,
}

impl Template {
    pub const EMPTY: Self = Self {
        pixels: [0.0; TEMPLATE_LEN],
        gradient: [[0.0; 2]; TEMPLATE_LEN],
        weights: [0.0; TEMPLATE_LEN],
        levels: [Level {
            total_weight: 0.0,
            inverse: [[0.0; 4]; 4],
            contrast: [0.0; 4],
        }; LEVELS],
    };

    /// Takes the middle of a patch.
    pub fn take(&mut self, patch: &Patch) -> Result<(), AlignError> {
        for level in 0..LEVELS {
            let (side, around) = (TEMPLATE >> level, PATCH >> level);
            let (start, margin) = (level_start(TEMPLATE, level), (around - side) / 2);
            let grey = patch.level(level);
            let pixel = 1.0 / (1 << level) as f32;
            for i in 0..side * side {
                let at = (i / side + margin) * around + i % side + margin;
                let cross = [at, at - 1, at + 1, at - around, at + around].map(|at| grey[at]);
                let inside = cross.iter().all(|&v| v != OUTSIDE);
                let Point { x, y } = position(i, level);
                self.pixels[start + i] = cross[0];
                let [_, left, right, up, down] = cross;
                self.gradient[start + i] = [right - left, down - up].map(|d| d * 0.5 * pixel);
                self.weights[start + i] = if inside { weight(x, y) } else { 0.0 };
            }
            self.levels[level] = self.prepare(level)?;
        }
        Ok(())
    }

    /// Normalises a level to mean 0 and standard deviation 1, and inverts its matrix.
    fn prepare(&mut self, level: usize) -> Result<Level, AlignError> {
        let (start, len) = (level_start(TEMPLATE, level), (TEMPLATE >> level).pow(2));
        let weights = &self.weights[start..start + len];
        let (mut total, mut possible, mut sum, mut squares) = (0.0, 0.0, 0.0, 0.0);
        for (i, &w) in weights.iter().enumerate() {
            let (w, v) = (f64::from(w), f64::from(self.pixels[start + i]));
            let Point { x, y } = position(i, level);
            total += w;
            possible += f64::from(weight(x, y));
            sum += w * v;
            squares += w * v * v;
        }
        if total < MIN_OVERLAP * possible {
            return Err(AlignError::Lost);
        }
        let mean = sum / total;
        let deviation = sqrt_f64((squares / total - mean * mean).max(0.0));
        if deviation < MIN_CONTRAST {
            return Err(AlignError::Flat);
        }
        let (mean32, factor) = (mean as f32, (1.0 / deviation) as f32);
        for i in start..start + len {
            self.pixels[i] = (self.pixels[i] - mean32) * factor;
            self.gradient[i] = self.gradient[i].map(|g| g * factor);
        }

        // Steepest-descent pictures without what brightness and contrast explain (project-out).
        let (mut brightness, mut contrast) = ([0.0; 4], [0.0; 4]);
        let mut matrix = [[0.0; 4]; 4];
        for i in 0..len {
            let w = f64::from(self.weights[start + i]);
            let v = f64::from(self.pixels[start + i]);
            let steepest = steepest(self.gradient[start + i], position(i, level));
            for (k, &s) in steepest.iter().enumerate() {
                brightness[k] += w * s / total;
                contrast[k] += w * s * v / total;
                for (sum, &t) in matrix[k].iter_mut().zip(&steepest) {
                    *sum += w * s * t;
                }
            }
        }
        for (k, row) in matrix.iter_mut().enumerate() {
            for (l, sum) in row.iter_mut().enumerate() {
                *sum -= total * (brightness[k] * brightness[l] + contrast[k] * contrast[l]);
            }
        }
        Ok(Level {
            total_weight: total,
            inverse: invert(matrix).ok_or(AlignError::Flat)?,
            contrast,
        })
    }

    /// Gauss-Newton on one level from the template-to-patch transform `warp`, until a step moves the
    /// face by less than `precision` pixels of that level.
    pub fn align(
        &self,
        patch: &Patch,
        level: usize,
        mut warp: Similarity,
        precision: f64,
    ) -> Result<(Similarity, Fit), AlignError> {
        let mut fit = Fit::default();
        for _ in 0..ITERATIONS {
            let gradient;
            (gradient, fit) = self.compare(patch, level, &warp)?;
            let mut step = [0.0; 4];
            for (s, row) in step.iter_mut().zip(&self.levels[level].inverse) {
                *s = row.iter().zip(&gradient).map(|(m, g)| m * g).sum();
            }
            let change = Similarity::new(1.0 + step[0], step[1], step[2], step[3]);
            // Inverse compositional: the template's motion, undone, goes before the warp.
            warp = change.inverse().then(&warp);
            let scale = warp.scale();
            if !(0.5..=2.0).contains(&scale) {
                return Err(AlignError::Lost);
            }
            if displacement(&change) < precision * (1 << level) as f64 {
                break;
            }
        }
        Ok((warp, fit))
    }

    /// The steepest-descent products of the differences under `warp`, and how well it fits.
    fn compare(
        &self,
        patch: &Patch,
        level: usize,
        warp: &Similarity,
    ) -> Result<([f64; 4], Fit), AlignError> {
        let start = level_start(TEMPLATE, level);
        let len = (TEMPLATE >> level).pow(2);
        let grey = patch.level(level);
        // First the sums, since the patch is normalised by its own mean and deviation.
        let (mut total, mut sum, mut squares, mut product) = (0.0, 0.0, 0.0, 0.0);
        let (mut t_sum, mut t_squares) = (0.0, 0.0);
        let (mut along, mut plain, mut shown) = ([0.0; 4], [0.0; 4], [0.0; 4]);
        for i in 0..len {
            let w = f64::from(self.weights[start + i]);
            let at = position(i, level);
            let v = f64::from(sample_patch(grey, level, warp.apply(at)));
            if w == 0.0 || v.is_nan() {
                continue;
            }
            let t = f64::from(self.pixels[start + i]);
            total += w;
            sum += w * v;
            squares += w * v * v;
            product += w * v * t;
            t_sum += w * t;
            t_squares += w * t * t;
            for (k, s) in steepest(self.gradient[start + i], at)
                .into_iter()
                .enumerate()
            {
                along[k] += w * s * v;
                plain[k] += w * s;
                shown[k] += w * s * t;
            }
        }
        let level = &self.levels[level];
        if total < MIN_OVERLAP * level.total_weight {
            return Err(AlignError::Lost);
        }
        let (mean, t_mean) = (sum / total, t_sum / total);
        let deviation = sqrt_f64((squares / total - mean * mean).max(0.0));
        let t_deviation = sqrt_f64((t_squares / total - t_mean * t_mean).max(0.0));
        if deviation < MIN_CONTRAST || t_deviation <= 0.0 {
            return Err(AlignError::Lost);
        }
        let covariance = product / total - mean * t_mean;
        let correlation = covariance / (deviation * t_deviation);

        // The patch at the template's brightness and contrast, minus the template, times the
        // steepest-descent pictures; from the sums, so that every pixel is visited once.
        let factor = t_deviation / deviation;
        let difference = total * t_deviation * t_deviation * (correlation - 1.0);
        let mut gradient = [0.0; 4];
        for (k, g) in gradient.iter_mut().enumerate() {
            let scaled = factor * (along[k] - mean * plain[k]) + t_mean * plain[k];
            *g = scaled - shown[k] - level.contrast[k] * difference;
        }
        let overlap = total / level.total_weight;
        let fit = Fit {
            correlation,
            overlap,
        };
        Ok((gradient, fit))
    }
}

/// How much a pixel of the template counts, at (x, y) from its middle.
fn weight(x: f64, y: f64) -> f32 {
    // An ellipse that fades towards the edges, where hair and background are ...
    let half = TEMPLATE as f64 / 2.0;
    let (u, v) = (x / half, y / half);
    let radius = u * u + v * v;
    let face = exp(-1.5 * (radius * radius) as f32);
    // ... and a fade from below the nose, 5 template pixels under the middle, to the lips.
    let below = ((y - 5.0) / 6.0).clamp(0.0, 1.0) as f32;
    face * (1.0 - 0.95 * below)
}

/// Where pixel `i` of a template's level is, in template pixels from its middle.
#[inline]
fn position(i: usize, level: usize) -> Point {
    let (side, pixel) = (TEMPLATE >> level, (1 << level) as f64);
    let half = TEMPLATE as f64 / 2.0;
    let at = |k: usize| (k as f64 + 0.5) * pixel - half;
    Point::new(at(i % side), at(i / side))
}

/// How grey changes with the four parameters: scale, rotation, shift right, shift down.
#[inline]
fn steepest([gx, gy]: [f32; 2], Point { x, y }: Point) -> [f64; 4] {
    let (gx, gy) = (f64::from(gx), f64::from(gy));
    [gx * x + gy * y, gy * x - gx * y, gx, gy]
}

/// The inverse of a symmetric positive definite matrix by Gauss-Jordan elimination; None where it
/// is not (nearly) so.
fn invert(mut m: [[f64; 4]; 4]) -> Option<[[f64; 4]; 4]> {
    let mut inverse = [[0.0; 4]; 4];
    for (k, row) in inverse.iter_mut().enumerate() {
        row[k] = 1.0;
    }
    let diagonal = [m[0][0], m[1][1], m[2][2], m[3][3]];
    for k in 0..4 {
        let pivot = m[k][k];
        // Without texture in some direction, what is left of the diagonal is rounding.
        let sound = pivot > 1e-6 * diagonal[k];
        if !sound {
            return None;
        }
        for column in 0..4 {
            m[k][column] /= pivot;
            inverse[k][column] /= pivot;
        }
        for row in (0..4).filter(|&row| row != k) {
            let factor = m[row][k];
            for column in 0..4 {
                m[row][column] -= factor * m[k][column];
                inverse[row][column] -= factor * inverse[k][column];
            }
        }
    }
    Some(inverse)
}
