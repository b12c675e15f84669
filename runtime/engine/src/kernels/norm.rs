//! Normalisation: LayerNorm and softmax.

use core::array::from_fn;

use super::eight::{Eight, tree};
use crate::math;

/// LayerNorm of every row of `x` ([rows, d], d = `weight.len()`) into `y`:
/// (x − mean) / sqrt(variance + eps) · weight + bias, with the biased variance
/// (Ba, Kiros and Hinton, "Layer Normalization", 2016).
#[inline(always)]
pub fn layer_norm<V: Eight>(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) {
    let d = weight.len().max(1);
    for (x, y) in x.chunks((4 * d).max(1)).zip(y.chunks_mut((4 * d).max(1))) {
        // Four rows at a time: one has too few sums to keep an adder busy.
        if x.len() == 4 * d {
            norm_rows::<V, 4>(x, weight, bias, eps, y);
        } else {
            for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
                norm_rows::<V, 1>(x, weight, bias, eps, y);
            }
        }
    }
}

/// [`layer_norm`] of N rows.
#[inline(always)]
fn norm_rows<V: Eight, const N: usize>(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    y: &mut [f32],
) {
    let d = weight.len().max(1);
    let rows: [&[f32]; N] = from_fn(|n| x.get(n * d..(n + 1) * d).unwrap_or(&[]));
    let mean = sums::<V, N, false>(rows, [0.0; N]).map(|sum| sum / d as f32);
    let squares = sums::<V, N, true>(rows, mean);
    let scale = squares.map(|sum| math::rsqrt(sum / d as f32 + eps));
    for (((x, y), mean), scale) in rows.iter().zip(y.chunks_exact_mut(d)).zip(mean).zip(scale) {
        for ((y, &x), (&w, &b)) in y.iter_mut().zip(*x).zip(weight.iter().zip(bias)) {
            *y = (x - mean) * scale * w + b;
        }
    }
}

/// Softmax of one row, in place: e^(x − max) / Σ e^(x − max).
#[inline(always)]
pub fn softmax<V: Eight>(x: &mut [f32]) {
    let scale = 1.0 / exp_and_sum::<V>(x, largest::<V>(x));
    for v in x.iter_mut() {
        *v *= scale;
    }
}

/// Replaces each element by e^(x − max), where no element is above max, and returns their sum, in the order of
/// [`dot_f32`](super::dot_f32).
#[inline(always)]
pub fn exp_and_sum<V: Eight>(x: &mut [f32], max: f32) -> f32 {
    for v in x.iter_mut() {
        *v = math::exp_of_negative(*v - max);
    }
    let [sum] = sums::<V, 1, false>([x], [0.0]);
    sum
}

/// The largest element, −∞ if there is none; NaN are passed over.
#[inline(always)]
pub fn largest<V: Eight>(x: &[f32]) -> f32 {
    let (chunks, rest) = x.as_chunks::<8>();
    let mut most = [V::splat(f32::NEG_INFINITY); 2];
    let pairs = chunks.chunks_exact(2);
    if let [last] = pairs.remainder() {
        most[0] = V::load(last).most(most[0]);
    }
    for pair in pairs {
        for (most, eight) in most.iter_mut().zip(pair) {
            *most = V::load(eight).most(*most);
        }
    }
    let [a, b] = most;
    let eight = a.most(b).array();
    let max = |a, &b| if b > a { b } else { a };
    eight.iter().chain(rest).fold(f32::NEG_INFINITY, max)
}

/// For each of some rows of one length, Σ x\[i\] or, if `SQUARES`, Σ (x\[i\] − mean)², in the order of
/// [`dot_f32`](super::dot_f32).
#[inline(always)]
#[allow(clippy::needless_range_loop)] // Iterators over rows would be calls with an `Eight`.
fn sums<V: Eight, const N: usize, const SQUARES: bool>(x: [&[f32]; N], mean: [f32; N]) -> [f32; N] {
    let chunks = x.map(|x| x.as_chunks::<8>());
    let len = chunks.iter().map(|c| c.0.len()).min().unwrap_or(0);
    let whole: [&[[f32; 8]]; N] = chunks.map(|(chunks, _)| chunks.get(..len).unwrap_or(&[]));
    let mut sums = [V::splat(0.0); N];
    for i in 0..len {
        for n in 0..N {
            let v = V::load(whole[n].get(i).unwrap_or(&[0.0; 8]));
            let v = if SQUARES {
                let v = v.sub(V::splat(mean[n]));
                v.mul(v)
            } else {
                v
            };
            sums[n] = sums[n].add(v);
        }
    }
    let mut all = [0.0; N];
    for n in 0..N {
        let rest = chunks[n].1;
        if rest.is_empty() {
            all[n] = sums[n].sum();
            continue;
        }
        let mut sums = sums[n].array();
        for (sum, &v) in sums.iter_mut().zip(rest) {
            *sum += if SQUARES {
                (v - mean[n]) * (v - mean[n])
            } else {
                v
            };
        }
        all[n] = tree(sums);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::eight::Plain;
    use std::vec::Vec;

    #[test]
    fn layer_norm_has_the_asked_mean_and_variance() {
        for d in [1, 5, 16, 147] {
            let x: Vec<f32> = (0..7 * d)
                .map(|i| (i * i % 97) as f32 * 0.37 + 100.0)
                .collect();
            let (weight, bias) = (std::vec![2.0; d], std::vec![-3.0; d]);
            let mut y = std::vec![f32::NAN; 7 * d];
            layer_norm::<Plain>(&x, &weight, &bias, 1e-5, &mut y);
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
            softmax::<Plain>(&mut x);
            for (got, want) in x.iter().zip(want) {
                assert!((f64::from(*got) - want).abs() < 1e-6);
            }
        }
    }
}
