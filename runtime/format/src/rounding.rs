//! Matrices rounded to rows of integers: the rule of `SPEC.md`, sections 3 and 4.1, for whoever makes models or trains
//! them to survive it.

use alloc::vec::Vec;

/// A matrix in integers, one scale a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// [outputs, inputs], from minus the largest code to it.
    pub values: Vec<i8>,
    /// Real value of one unit, per row.
    pub scale: Vec<f32>,
    /// Sum of the row's integers.
    pub sums: Vec<i32>,
}

impl Rows {
    /// Rounds each row of a matrix [outputs, inputs] to multiples of its own scale, by codes from -`top` to `top`.
    ///
    /// The scale is the one, out of some, with the least squared error: clipping the largest weights can give all others
    /// a finer step, in four bits more than in eight.
    ///
    /// # Panics
    /// If `inputs` is 0.
    pub fn quantise(weights: &[f32], inputs: usize, top: i8) -> Self {
        let mut out = Self::default();
        for row in weights.chunks_exact(inputs) {
            let scale = best_scale(row, top);
            let codes = row.iter().map(|&w| code(w, scale, top));
            out.sums.push(codes.clone().map(i32::from).sum());
            out.values.extend(codes);
            out.scale.push(scale);
        }
        out
    }

    /// The weights that the integers stand for.
    pub fn dequantised(&self) -> impl Iterator<Item = f32> {
        let inputs = self.values.len() / self.scale.len().max(1);
        let rows = self.values.chunks_exact(inputs.max(1)).zip(&self.scale);
        rows.flat_map(|(row, scale)| row.iter().map(move |&q| f32::from(q) * scale))
    }
}

/// rne(w / scale), clamped to -`top`..=`top`.
#[inline(always)]
pub fn code(w: f32, scale: f32, top: i8) -> i8 {
    // Adding 1.5 · 2^23 to so small a number rounds it to the nearest integer, halves to even. Clamping first gives what
    // clamping afterwards would: the bounds are integers.
    const SHIFT: f32 = 12_582_912.0;
    let top = f32::from(top);
    ((w / scale).clamp(-top, top) + SHIFT - SHIFT) as i8
}

fn best_scale(row: &[f32], top: i8) -> f32 {
    let largest = row.iter().fold(0.0f32, |m, w| m.max(w.abs()));
    if largest == 0.0 {
        // An all-zero row: any positive scale is right.
        return 1.0;
    }
    // Steps of a fortieth, down to where clipping costs more than it gives: of Gaussian weights, a quantiser with 15
    // levels wants about 2.5 standard deviations (Max, "Quantizing for minimum distortion", 1960), one with 255 levels
    // more than the largest of a row has.
    let steps = if top < 64 { 24 } else { 12 };
    let (mut scale, mut least) = (largest / f32::from(top), f64::INFINITY);
    for i in 0..=steps {
        let candidate = largest * (1.0 - 0.025 * i as f32) / f32::from(top);
        let candidate = candidate.max(f32::MIN_POSITIVE);
        let error = error(row, candidate, top);
        if error < least {
            (scale, least) = (candidate, error);
        }
    }
    // For given codes the best scale is that of least squares; other codes may follow from it.
    for _ in 0..3 {
        let candidate = fitted_scale(row, scale, top).max(f32::MIN_POSITIVE);
        let error = error(row, candidate, top);
        if error >= least || !candidate.is_finite() {
            break;
        }
        (scale, least) = (candidate, error);
    }
    scale
}

fn error(row: &[f32], scale: f32, top: i8) -> f64 {
    let each = row.iter().map(|&w| {
        let difference = f64::from(w - f32::from(code(w, scale, top)) * scale);
        difference * difference
    });
    each.sum()
}

/// Σ w·q / Σ q², with the codes q of this scale.
fn fitted_scale(row: &[f32], scale: f32, top: i8) -> f32 {
    let (mut with, mut square) = (0.0f64, 0.0f64);
    for &w in row {
        let q = f64::from(code(w, scale, top));
        with += f64::from(w) * q;
        square += q * q;
    }
    (with / square) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_rounded_with_their_own_scale() {
        let rows = Rows::quantise(&[1.27, -1.27, 0.64, 0.0, 0.0, 0.0], 3, 127);
        assert_eq!(rows.values, [127, -127, 64, 0, 0, 0]);
        assert!((rows.scale[0] - 0.01).abs() < 1e-7);
        assert_eq!(rows.sums, [64, 0]);
        let four_bits = Rows::quantise(&[0.7, -0.7, 0.2, -0.1], 4, 7);
        assert_eq!(four_bits.values, [7, -7, 2, -1]);
        assert!((four_bits.scale[0] - 0.1).abs() < 1e-7);
        let back: Vec<f32> = four_bits.dequantised().collect();
        assert!(
            back.iter()
                .zip([0.7, -0.7, 0.2, -0.1])
                .all(|(a, b)| (a - b).abs() < 1e-6)
        );
    }

    #[test]
    fn halves_round_to_even_and_the_range_is_symmetric() {
        for (w, want) in [(2.5, 2), (3.5, 4), (-2.5, -2), (0.5, 0), (-1000.0, -127)] {
            assert_eq!(code(w, 1.0, 127), want, "{w}");
        }
        for (w, want) in [(6.5, 6), (7.5, 7), (-7.6, -7), (5.5, 6), (f32::MAX, 7)] {
            assert_eq!(code(w, 1.0, 7), want, "{w}");
        }
        assert_eq!(code(f32::MAX, f32::MIN_POSITIVE, 7), 7);
    }

    /// Against every scale of a fine grid.
    #[test]
    fn no_other_scale_is_much_better() {
        let mut state = 1u64;
        let mut uniform = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        for (inputs, top) in [(24, 7), (256, 7), (256, 127), (1024, 7)] {
            // The sum of four uniform numbers is nearly Gaussian.
            let row: Vec<f32> = (0..inputs)
                .map(|_| uniform() + uniform() + uniform() + uniform())
                .collect();
            let rows = Rows::quantise(&row, inputs, top);
            let reached = error(&row, rows.scale[0], top);
            let largest = row.iter().fold(0.0f32, |m, w| m.max(w.abs()));
            let least = (1..=4000)
                .map(|i| error(&row, largest * i as f32 / 4000.0 / f32::from(top), top))
                .fold(f64::INFINITY, f64::min);
            assert!(reached <= 1.04 * least, "{inputs} {top}: {reached} {least}");
        }
    }

    #[test]
    fn odd_rows_are_rounded_without_a_panic() {
        for row in [
            [f32::MIN_POSITIVE; 4],
            [f32::MAX; 4],
            [f32::from_bits(1); 4],
        ] {
            let rows = Rows::quantise(&row, 4, 7);
            assert!(rows.scale[0] > 0.0 && rows.scale[0].is_finite());
        }
    }
}
