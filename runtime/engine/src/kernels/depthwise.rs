//! Depthwise convolution over time.

/// A filter for each channel.
#[derive(Clone, Copy, Debug)]
pub struct Depthwise<'a> {
    /// [kernel, d]: channels are neighbours.
    pub taps: &'a [f32],
    /// [d].
    pub bias: &'a [f32],
    /// Taps that meet earlier frames than the one they are for.
    pub left: usize,
}

/// Frames of d channels, [frames, d], in one piece or, as a ring holds them, in two.
#[derive(Clone, Copy, Debug)]
pub struct Frames<'x> {
    /// One after the other.
    pub pieces: [&'x [f32]; 2],
    /// How many of the frames lie before the first that the result is for.
    pub before: usize,
}

impl Depthwise<'_> {
    /// y\[t\]\[c\] = bias\[c\] + Σ_k taps\[k\]\[c\] · x\[before + t + k − left\]\[c\], frames outside of x being zero.
    ///
    /// `y` is [frames, d]. Sums run over k upwards from zero, the bias last.
    #[inline(always)]
    pub fn run(&self, x: Frames<'_>, y: &mut [f32]) {
        let d = self.bias.len().max(1);
        let frames = (x.pieces[0].len() + x.pieces[1].len()) / d;
        let kernel = self.taps.len() / d;
        for (t, y) in y.chunks_exact_mut(d).enumerate() {
            // The first tap meets the frame that many places before `t`; taps before the first frame meet nothing.
            let at = x.before + t;
            let first = self.left.saturating_sub(at);
            let end = kernel.min((frames + self.left).saturating_sub(at));
            let from = (at + first).saturating_sub(self.left);
            let taps = self.taps.get(first * d..end * d).unwrap_or(&[]);
            let split = x.pieces[0].len();
            let pieces = match from * d < split {
                true => [x.pieces[0].get(from * d..).unwrap_or(&[]), x.pieces[1]],
                false => [x.pieces[1].get(from * d - split..).unwrap_or(&[]), &[]],
            };
            let mut c = 0;
            while c + LANES <= d {
                channels::<LANES>(taps, self.bias, pieces, d, c, y);
                c += LANES;
            }
            while c + 8 <= d {
                channels::<8>(taps, self.bias, pieces, d, c, y);
                c += 8;
            }
            while c < d {
                channels::<1>(taps, self.bias, pieces, d, c, y);
                c += 1;
            }
        }
    }
}

/// N channels of one frame, whose sums stay in registers.
#[inline(always)]
fn channels<const N: usize>(
    taps: &[f32],
    bias: &[f32],
    pieces: [&[f32]; 2],
    d: usize,
    c: usize,
    y: &mut [f32],
) {
    let mut sums = [0.0; N];
    let mut taps = taps.chunks_exact(d);
    for piece in pieces {
        for (x, taps) in piece.chunks_exact(d).zip(&mut taps) {
            let of = |row: &[f32]| row.get(c..).and_then(|row| row.first_chunk::<N>()).copied();
            let (x, taps) = (of(x).unwrap_or([0.0; N]), of(taps).unwrap_or([0.0; N]));
            for ((sum, x), w) in sums.iter_mut().zip(x).zip(taps) {
                *sum += x * w;
            }
        }
    }
    let outputs = y.iter_mut().zip(bias).skip(c);
    outputs.zip(sums).for_each(|((y, b), sum)| *y = sum + b);
}

/// Channels whose sums stay in registers.
const LANES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn matches_the_formula_with_any_padding_in_any_pieces() {
        // The largest has a block of channels of every width; an interpreter gets the same with fewer frames and taps.
        let largest = if cfg!(miri) { (4, 43, 3) } else { (20, 43, 31) };
        for (frames, d, kernel) in [(1, 1, 1), (2, 3, 5), (9, 16, 4), largest] {
            let x: Vec<f32> = (0..frames * d)
                .map(|i| (i * 31 % 17) as f32 - 8.0)
                .collect();
            let taps: Vec<f32> = (0..kernel * d)
                .map(|i| (i * 13 % 11) as f32 - 5.0)
                .collect();
            let bias: Vec<f32> = (0..d).map(|i| i as f32).collect();
            for left in 0..kernel {
                for (before, split) in [(0, frames), (0, frames / 2), (frames / 3, frames / 2)] {
                    let filter = Depthwise {
                        taps: &taps,
                        bias: &bias,
                        left,
                    };
                    let (a, b) = x.split_at(split * d);
                    let pieces = [a, b];
                    let mut y = std::vec![f32::NAN; (frames - before) * d];
                    filter.run(Frames { pieces, before }, &mut y);
                    for (i, &got) in y.iter().enumerate() {
                        let (t, c) = (before + i / d, i % d);
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
}
