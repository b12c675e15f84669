//! Rounding the weights of convolutions so that their errors make up for each other.
//!
//! A weight that was rounded up gives too much wherever its input is large, and where a neighbouring pixel has nearly the
//! same value, its weight can take the excess back. GPTQ (Frantar et al., "GPTQ: Accurate Post-Training Quantization for
//! Generative Pre-trained Transformers", 2023, equation 3) does that for inputs whose covariance was measured. A
//! checkpoint comes without inputs, and conversion should need none; but that pictures and what convolutions make of them
//! are smooth is known beforehand, and that knowledge stands in for the measurement.

use viseme_format::rounding::{Rows, code};

/// Inputs that go together, and how the error of each is passed on to those after it.
#[derive(Debug)]
pub struct Feedback {
    size: usize,
    /// Upper triangular U with UᵀU = C⁻¹ for the covariance C, row by row.
    factor: Vec<f64>,
}

/// Correlation of neighbouring values of a feature map.
const MAPS: f64 = 0.5;

/// Correlation of neighbouring pixels of a crop, and of the same pixel in neighbouring frames; and the square of their mean
/// beside their variance.
const PIXELS: f64 = 0.8;
const MEAN: f64 = 0.3;

impl Feedback {
    /// For kernels of feature maps: the taps of a channel go together.
    pub fn taps(height: usize, width: usize) -> Self {
        Feedback::new(height * width, |a, b| {
            MAPS.powi(apart(a / width, b / width) + apart(a % width, b % width))
        })
    }

    /// For kernels [height, width, frames] of pictures, all of whose weights go together.
    pub fn pixels(width: usize, frames: usize) -> Self {
        let place = move |i: usize| [i / frames / width, i / frames % width, i % frames];
        Feedback::new(width * width * frames, |a, b| {
            let (a, b) = (place(a), place(b));
            let all = (0..3).map(|dim| apart(a[dim], b[dim]));
            MEAN + PIXELS.powi(all.sum())
        })
    }

    /// For a covariance that is positive definite.
    fn new(size: usize, covariance: impl Fn(usize, usize) -> f64) -> Self {
        let all: Vec<f64> = (0..size * size)
            .map(|i| covariance(i / size, i % size))
            .collect();
        let inverse = inverse(&cholesky(&all, size), size);
        let lower = cholesky(&inverse, size);
        let upper = (0..size * size).map(|i| lower[i % size * size + i / size]);
        Feedback {
            size,
            factor: upper.collect(),
        }
    }

    /// Rounds `weights` again, by the scales that `rows` has. In a row of `inputs` weights every `inputs / size`-th ones go
    /// together.
    pub fn round(&self, rows: &mut Rows, weights: &[f32], inputs: usize) {
        let apart = (inputs / self.size).max(1);
        let mut left = vec![0.0; self.size];
        let all = weights.chunks_exact(inputs).zip(&rows.scale);
        let codes = rows.values.chunks_exact_mut(inputs).zip(&mut rows.sums);
        for ((row, &scale), (codes, sum)) in all.zip(codes) {
            for first in 0..apart {
                for (to, from) in left.iter_mut().zip(row.iter().skip(first).step_by(apart)) {
                    *to = f64::from(*from);
                }
                for i in 0..self.size {
                    let rounded = code(left[i] as f32, scale, i8::MAX);
                    codes[first + i * apart] = rounded;
                    let own = self.factor[i * self.size + i];
                    let error = (left[i] - f64::from(rounded) * f64::from(scale)) / own;
                    let passed = &self.factor[i * self.size..][i + 1..self.size];
                    for (to, share) in left[i + 1..].iter_mut().zip(passed) {
                        *to -= error * share;
                    }
                }
            }
            *sum = codes.iter().map(|&code| i32::from(code)).sum();
        }
    }
}

fn apart(a: usize, b: usize) -> i32 {
    a.abs_diff(b) as i32
}

/// Lower triangular L with LLᵀ = A, row by row.
fn cholesky(a: &[f64], n: usize) -> Vec<f64> {
    let mut l = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let products = (0..j).map(|k| l[i * n + k] * l[j * n + k]);
            let rest = a[i * n + j] - products.sum::<f64>();
            l[i * n + j] = if i == j {
                rest.sqrt()
            } else {
                rest / l[j * n + j]
            };
        }
    }
    l
}

/// The inverse of LLᵀ.
fn inverse(l: &[f64], n: usize) -> Vec<f64> {
    // L⁻¹, column by column.
    let mut m = vec![0.0; n * n];
    for j in 0..n {
        for i in j..n {
            let products = (j..i).map(|k| l[i * n + k] * m[k * n + j]);
            let unit = f64::from(u8::from(i == j));
            m[i * n + j] = (unit - products.sum::<f64>()) / l[i * n + i];
        }
    }
    let product = |i: usize| {
        let (a, b) = (i / n, i % n);
        (a.max(b)..n).map(|k| m[k * n + a] * m[k * n + b]).sum()
    };
    (0..n * n).map(product).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let next = |_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        };
        (0..len).map(next).collect()
    }

    /// Expected square of the error of all rows for inputs of this covariance: Σ eᵀ C e.
    fn expected(
        rows: &Rows,
        weights: &[f32],
        size: usize,
        covariance: impl Fn(usize, usize) -> f64,
    ) -> f64 {
        let errors: Vec<f64> = (rows.dequantised().zip(weights))
            .map(|(q, w)| f64::from(q - w))
            .collect();
        let of_row = |e: &[f64]| -> f64 {
            let places = (0..size * size).map(|i| (i / size, i % size));
            places.map(|(i, j)| e[i] * e[j] * covariance(i, j)).sum()
        };
        errors.chunks(size).map(of_row).sum()
    }

    #[test]
    fn smooth_inputs_see_less_of_the_rounding() {
        let (size, rows) = (49, 60);
        let weights = random(size * rows, 1);
        let covariance = |a: usize, b: usize| MAPS.powi(apart(a / 7, b / 7) + apart(a % 7, b % 7));
        let mut found = Rows::quantise(&weights, size, 127);
        let before = expected(&found, &weights, size, covariance);
        Feedback::taps(7, 7).round(&mut found, &weights, size);
        let after = expected(&found, &weights, size, covariance);
        // What is left is what cannot be told from the inputs before: of a line of seven the first, and 1 - MAPS² of the others.
        let left = ((1.0 + 6.0 * (1.0 - MAPS * MAPS)) / 7.0).powi(2);
        assert!(
            (after / before - left).abs() < 0.1,
            "{left} {before} {after}"
        );
        for (row, sum) in found.values.chunks(size).zip(&found.sums) {
            assert_eq!(row.iter().map(|&v| i32::from(v)).sum::<i32>(), *sum);
        }
    }

    #[test]
    fn channels_keep_to_themselves() {
        // Two channels, one of which is whole already: nothing of the other comes into it.
        let taps = random(9, 2);
        let weights: Vec<f32> = taps.iter().flat_map(|&w| [w, 1.0]).collect();
        let mut rows = Rows::quantise(&weights, 18, 127);
        rows.scale[0] = 1.0 / 100.0;
        Feedback::taps(3, 3).round(&mut rows, &weights, 18);
        assert!(rows.values.iter().skip(1).step_by(2).all(|&v| v == 100));
        let plain: Vec<i8> = taps.iter().map(|&w| code(w, 0.01, 127)).collect();
        let found: Vec<i8> = rows.values.iter().step_by(2).copied().collect();
        let far = |(a, b): (&i8, &i8)| a.abs_diff(*b);
        let furthest = found.iter().zip(&plain).map(far).max();
        assert!(found != plain && furthest <= Some(2), "{found:?} {plain:?}");
    }

    #[test]
    fn the_factor_is_that_of_the_inverse() {
        let feedback = Feedback::pixels(3, 2);
        let n = feedback.size;
        assert_eq!(n, 18);
        // UᵀU C = 1.
        for (a, b) in (0..n * n).map(|i| (i / n, i % n)) {
            let place = |i: usize| [i / 2 / 3, i / 2 % 3, i % 2];
            let covariance = |i: usize, j: usize| {
                let (i, j) = (place(i), place(j));
                MEAN + PIXELS.powi((0..3).map(|d| apart(i[d], j[d])).sum())
            };
            let sum: f64 = (0..n)
                .map(|k| {
                    let inverse: f64 = (0..n)
                        .map(|m| feedback.factor[m * n + a] * feedback.factor[m * n + k])
                        .sum();
                    inverse * covariance(k, b)
                })
                .sum();
            let want = f64::from(u8::from(a == b));
            assert!((sum - want).abs() < 1e-9, "{a} {b} {sum}");
        }
    }
}
