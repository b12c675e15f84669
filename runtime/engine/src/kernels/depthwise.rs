//! Depthwise convolution over time.

/// y\[t\]\[c\] = bias\[c\] + Σ_k taps\[k\]\[c\] · x\[t + k − left\]\[c\], frames outside of x being zero.
///
/// `x` and `y` are [frames, d], `taps` is [kernel, d] (transposed, so that channels are neighbours),
/// d = `bias.len()`. Sums run over k upwards from zero, the bias last.
#[inline(always)]
pub fn depthwise(x: &[f32], taps: &[f32], bias: &[f32], left: usize, y: &mut [f32]) {
    let d = bias.len().max(1);
    let frames = x.len() / d;
    let kernel = taps.len() / d;
    for (t, y) in y.chunks_exact_mut(d).take(frames).enumerate() {
        // Taps that meet a frame: 0 <= t + k - left < frames.
        let first = left.saturating_sub(t);
        let end = kernel.min((frames + left).saturating_sub(t));
        let taps = taps.get(first * d..end * d).unwrap_or(&[]);
        let x = x.get((t + first).saturating_sub(left) * d..).unwrap_or(&[]);
        let (blocks, rest) = y.as_chunks_mut::<LANES>();
        for (i, y) in blocks.iter_mut().enumerate() {
            let mut sums = [0.0; LANES];
            for (x, w) in x.chunks_exact(d).zip(taps.chunks_exact(d)) {
                let at = i * LANES..(i + 1) * LANES;
                for ((s, x), w) in sums.iter_mut().zip(&x[at.clone()]).zip(&w[at]) {
                    *s += x * w;
                }
            }
            for ((y, s), b) in y.iter_mut().zip(sums).zip(&bias[i * LANES..]) {
                *y = s + b;
            }
        }
        let done = d - rest.len();
        for (c, y) in (done..d).zip(rest) {
            let pairs = x.chunks_exact(d).zip(taps.chunks_exact(d));
            *y = pairs.fold(0.0, |s, (x, w)| s + x[c] * w[c]) + bias[c];
        }
    }
}

/// Channels whose sums stay in registers.
const LANES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn matches_the_formula_with_any_padding() {
        for (frames, d, kernel) in [(1, 1, 1), (2, 3, 5), (9, 16, 4), (20, 35, 31)] {
            let x: Vec<f32> = (0..frames * d)
                .map(|i| (i * 31 % 17) as f32 - 8.0)
                .collect();
            let taps: Vec<f32> = (0..kernel * d)
                .map(|i| (i * 13 % 11) as f32 - 5.0)
                .collect();
            let bias: Vec<f32> = (0..d).map(|i| i as f32).collect();
            for left in 0..kernel {
                let mut y = std::vec![f32::NAN; frames * d];
                depthwise(&x, &taps, &bias, left, &mut y);
                for (i, &got) in y.iter().enumerate() {
                    let (t, c) = (i / d, i % d);
                    // Small integers: exact in any order.
                    let mut want = bias[c];
                    for k in 0..kernel {
                        let from = (t + k) as isize - left as isize;
                        if (0..frames as isize).contains(&from) {
                            want += taps[k * d + c] * x[from as usize * d + c];
                        }
                    }
                    assert_eq!(got, want, "t {t} c {c} left {left}");
                }
            }
        }
    }
}
