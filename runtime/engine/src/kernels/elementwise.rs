//! Element by element: activations, gates and residual sums.

use crate::math;

/// Activation of the feed-forward modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x · sigmoid(x), also called swish.
    Silu,
    /// max(0, x).
    Relu,
}

impl Activation {
    /// Applies the activation in place.
    #[inline(always)]
    pub fn apply(self, x: &mut [f32]) {
        match self {
            Activation::Silu => math::silu_slice(x),
            Activation::Relu => x
                .iter_mut()
                .for_each(|v| *v = if *v > 0.0 { *v } else { 0.0 }),
        }
    }
}

/// Gated linear unit: y\[c\] = x\[c\] · sigmoid(x\[channels + c\]) for every row of `x`
/// ([rows, 2 · channels]) into `y` ([rows, channels]) (Dauphin et al., "Language Modeling with Gated
/// Convolutional Networks", 2017).
#[inline(always)]
pub fn glu(x: &[f32], channels: usize, y: &mut [f32]) {
    // No slice is longer than half of the address space.
    let channels = channels.clamp(1, usize::MAX / 2);
    for (x, y) in x
        .chunks_exact(2 * channels)
        .zip(y.chunks_exact_mut(channels))
    {
        let (value, gate) = x.split_at_checked(channels).unwrap_or((x, &[]));
        for ((y, &v), &g) in y.iter_mut().zip(value).zip(gate) {
            *y = math::gated(v, g);
        }
    }
}

/// x += factor · y.
#[inline(always)]
pub fn add_scaled(x: &mut [f32], factor: f32, y: &[f32]) {
    for (x, &y) in x.iter_mut().zip(y) {
        *x += factor * y;
    }
}

/// Transposes `x` ([rows, columns]) into columns `at..at + rows` of `y` ([columns, stride]).
pub fn transpose_into(x: &[f32], columns: usize, y: &mut [f32], stride: usize, at: usize) {
    // So few columns at a time that what is written stays in the first-level cache.
    const COLUMNS: usize = 16;
    for (i, y) in y.chunks_mut((COLUMNS * stride).max(1)).enumerate() {
        for (r, row) in x.chunks_exact(columns.max(1)).enumerate() {
            let row = row.get(i * COLUMNS..).unwrap_or(&[]);
            for (&v, y) in row.iter().zip(y.chunks_mut(stride.max(1))) {
                if let Some(y) = y.get_mut(at + r) {
                    *y = v;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glu_gates_the_first_half_with_the_second() {
        let mut y = [0.0; 4];
        glu(&[3.0, -2.0, 0.0, 100.0, 8.0, 4.0, -100.0, 0.0], 2, &mut y);
        assert!(y[2].abs() < 1e-36, "a closed gate");
        y[2] = 0.0;
        assert_eq!(y, [1.5, -2.0, 0.0, 2.0]);
    }

    #[test]
    fn relu_keeps_what_is_positive() {
        let mut x = [-1.0, 0.0, 2.5];
        Activation::Relu.apply(&mut x);
        assert_eq!(x, [0.0, 0.0, 2.5]);
    }

    #[test]
    fn transposition_lands_where_it_is_asked() {
        let mut y = [0.0; 8];
        transpose_into(&[1.0, 2.0, 3.0, 4.0], 2, &mut y, 4, 1);
        assert_eq!(y, [0.0, 1.0, 3.0, 0.0, 0.0, 2.0, 4.0, 0.0]);
    }
}
