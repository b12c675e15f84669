//! Normalisation: LayerNorm and softmax.

use super::portable::tree;
use crate::math;

/// LayerNorm of every row of `x` ([rows, d], d = `weight.len()`) into `y`:
/// (x − mean) / sqrt(variance + eps) · weight + bias, with the biased variance
/// (Ba, Kiros and Hinton, "Layer Normalization", 2016).
#[inline(always)]
pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) {
    let d = weight.len().max(1);
    for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
        let mean = sum(x, |v| v) / d as f32;
        let variance = sum(x, |v| (v - mean) * (v - mean)) / d as f32;
        let scale = math::rsqrt(variance + eps);
        for ((y, &x), (&w, &b)) in y.iter_mut().zip(x).zip(weight.iter().zip(bias)) {
            *y = (x - mean) * scale * w + b;
        }
    }
}

/// Softmax of one row, in place: e^(x − max) / Σ e^(x − max).
#[inline(always)]
pub fn softmax(x: &mut [f32]) {
    let scale = 1.0 / exp_and_sum(x, largest(x));
    for v in x.iter_mut() {
        *v *= scale;
    }
}

/// Replaces each element by e^(x − max) and returns their sum, in the order of [`dot_f32`](super::dot_f32).
#[inline(always)]
pub fn exp_and_sum(x: &mut [f32], max: f32) -> f32 {
    for v in x.iter_mut() {
        *v = math::exp(*v - max);
    }
    sum(x, |v| v)
}

/// The largest element, −∞ if there is none; NaN are passed over.
#[inline(always)]
pub fn largest(x: &[f32]) -> f32 {
    let mut most = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    let mut widen = |values: &[f32]| {
        for (&v, most) in values.iter().zip(&mut most) {
            *most = if v > *most { v } else { *most };
        }
    };
    chunks.iter().for_each(|c| widen(c));
    widen(rest);
    let max = |a, b| if b > a { b } else { a };
    most.into_iter().fold(f32::NEG_INFINITY, max)
}

/// Σ f(x\[i\]) in the order of [`dot_f32`](super::dot_f32).
#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0; 8];
    let (chunks, rest) = x.as_chunks::<8>();
    for chunk in chunks {
        for (sum, &v) in sums.iter_mut().zip(chunk) {
            *sum += f(v);
        }
    }
    for (sum, &v) in sums.iter_mut().zip(rest) {
        *sum += f(v);
    }
    tree(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn layer_norm_has_the_asked_mean_and_variance() {
        for d in [1, 5, 16, 147] {
            let x: Vec<f32> = (0..3 * d)
                .map(|i| (i * i % 97) as f32 * 0.37 + 100.0)
                .collect();
            let (weight, bias) = (std::vec![2.0; d], std::vec![-3.0; d]);
            let mut y = std::vec![f32::NAN; 3 * d];
            layer_norm(&x, &weight, &bias, 1e-5, &mut y);
            for (x, y) in x.chunks(d).zip(y.chunks(d)) {
                let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / d as f64;
                let spread = x
                    .iter()
                    .map(|&v| (f64::from(v) - mean).powi(2))
                    .sum::<f64>();
                let scale = 1.0 / (spread / d as f64 + 1e-5).sqrt();
                for (x, y) in x.iter().zip(y) {
                    let want = 2.0 * (f64::from(*x) - mean) * scale - 3.0;
                    assert!((f64::from(*y) - want).abs() < 3e-5, "{y} {want}");
                }
            }
        }
    }

    #[test]
    fn softmax_matches_f64() {
        for len in [1, 2, 9, 75] {
            let mut x: Vec<f32> = (0..len).map(|i| (i * 7 % 23) as f32 * 0.9 - 30.0).collect();
            let total: f64 = x.iter().map(|&v| f64::from(v).exp()).sum();
            let want: Vec<f64> = x.iter().map(|&v| f64::from(v).exp() / total).collect();
            softmax(&mut x);
            for (got, want) in x.iter().zip(want) {
                assert!((f64::from(*got) - want).abs() < 1e-6);
            }
        }
    }
}
