//! Elementary functions with the same bits on every target.
//!
//! The engine never calls the platform's `exp`, `sin` or `sqrt`: those differ between C libraries,
//! and a model has to give the same logits everywhere. Everything here is made of IEEE additions,
//! multiplications, divisions, integer operations and selects, in one fixed order and without fused
//! multiply-add, so that the result does not depend on the compiler or the instruction set.
//!
//! All functions used per activation ([`exp_of_negative`], [`exp`], [`sigmoid`], [`silu`], [`tanh`], [`ln`],
//! [`rsqrt`], [`round_half_even`]) are free of branches, so that their slice forms vectorise.
//!
//! Polynomials and range reductions follow Cephes (S. L. Moshier, `single/expf.c`, `logf.c`,
//! `tanhf.c`, `sinf.c`); the reduction of large angles is the integer method of Payne and Hanek,
//! "Radian reduction for trigonometric functions" (1983). Errors are measured by this module's
//! tests against f64 and are in units in the last place (ulp) of the exact result:
//!
//! | function | largest error | remarks |
//! |---|---|---|
//! | [`exp`] | 1 ulp | results below the smallest normal number are 0 |
//! | [`sigmoid`] | 4.5 + 1.25 abs(x) ulp | and 1.2e-7; below -87 it stays at `sigmoid(-87)`, 1.6e-38 |
//! | [`silu`] | 4.5 + 1.25 abs(x) ulp | below -87 it is within 1.5e-36 of 0 |
//! | [`exp_of_negative`] | 4.5 + 1.25 abs(x) ulp | below -87 it stays at `exp_of_negative(-87)`, 1.6e-38 |
//! | [`tanh`] | 2 ulp | |
//! | [`ln`] | 1 ulp | `ln(0)` is -inf, of a negative number NaN |
//! | [`sin`], [`cos`] | 2 ulp | any finite angle; infinities give NaN |
//! | [`sqrt`] | correctly rounded | of a negative number NaN |
//! | [`sqrt_f64`] | 1 ulp | as above |
//! | [`rsqrt`] | 3 ulp | `rsqrt(±0)` is +inf, of a negative number NaN |
//! | [`round_half_even`] | exact | |
//!
//! A NaN gives a NaN everywhere (its payload is unspecified).

use core::f64::consts::FRAC_PI_2;

/// e to the power of `x`: within 1 ulp; +inf above 88.72284, exactly 0 where the result would be
/// below the smallest normal number (`x` < -87.33654).
///
/// Subnormal results are zero on purpose: some targets flush them, and they cost others hundreds of
/// cycles in a softmax.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const OVERFLOW: f32 = 88.722_84;
    const UNDERFLOW: f32 = -87.336_54;
    // Comparisons are written so that a NaN passes through.
    let c = if x > OVERFLOW { OVERFLOW } else { x };
    let c = if c < UNDERFLOW { UNDERFLOW } else { c };
    let (p, n) = exp_parts(c);
    // 2^n in two halves, since 2^128 itself is not a number (n = 128 needs p < 1).
    let half = n >> 1;
    let y = p * power_of_two(half) * power_of_two(n.wrapping_sub(half));
    let y = if x > OVERFLOW { f32::INFINITY } else { y };
    if x < UNDERFLOW { 0.0 } else { y }
}

/// e^x = p · 2^n for -87.4 <= `x` <= 88.8, with 0.7 < p < 1.5.
#[inline(always)]
fn exp_parts(x: f32) -> (f32, i32) {
    // x = n ln 2 + r with |r| <= ln 2 / 2; adding 1.5 * 2^23 rounds to the nearest integer.
    const SHIFT: f32 = 12_582_912.0;
    let shifted = x * core::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * (r * r) + r + 1.0;
    let n = (shifted.to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32);
    (p, n)
}

/// The logistic function 1 / (1 + e^-x): within 1.2e-7, and within 4.5 + 1.25 |x| ulp for `x` >= -87; `sigmoid(-87)` below.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    gated(1.0, x)
}

/// x · sigmoid(x) (also called swish): within 4.5 + 1.25 |x| ulp for `x` >= -87, and within 1.5e-36 of 0 below.
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    // Clamped so that -inf meets a finite divisor: the limit is 0, not NaN.
    gated(if x < -87.0 { -87.0 } else { x }, x)
}

/// v · sigmoid(x), as v / (1 + e^-x): within as many ulp as [`sigmoid`].
#[inline(always)]
pub fn gated(v: f32, x: f32) -> f32 {
    // Below the lower bound e^-x no longer changes 1 + e^-x. A NaN passes through.
    let c = if x < -87.0 { -87.0 } else { x };
    let c = if c > 80.0 { 80.0 } else { c };
    v / (1.0 + two_to(c * -core::f32::consts::LOG2_E))
}

/// e to the power of a number not above 0, as a softmax has it: within 4.5 + 1.25 |x| ulp for `x` >= -87, e^-87 below.
#[inline(always)]
pub fn exp_of_negative(x: f32) -> f32 {
    let c = if x < -87.0 { -87.0 } else { x };
    two_to(c * core::f32::consts::LOG2_E)
}

/// 2^t for |t| <= 126, with a relative error of 1.5e-7.
///
/// Where t is a product, its rounding costs the result about as many ulp as t is large. Gates and softmax need no more, and
/// most of the time that a model spends outside of its products goes into them.
#[inline(always)]
fn two_to(t: f32) -> f32 {
    // Adding 1.5 · 2^23 rounds to the nearest integer n; the 127 makes the lowest bits the exponent of 2^n.
    const SHIFT: f32 = 12_582_912.0 + 127.0;
    let shifted = t + SHIFT;
    let power = f32::from_bits(shifted.to_bits() << 23);
    let f = t - (shifted - SHIFT);
    // 2^f for |f| <= 1/2: a minimax polynomial.
    let p = 1.327_647_3e-3;
    let p = p * f + 9.675_541e-3;
    let p = p * f + 5.550_713_3e-2;
    let p = p * f + 2.402_212e-1;
    let p = p * f + 6.931_469_7e-1;
    let p = p * f + 1.0;
    p * power
}

/// Hyperbolic tangent: within 2 ulp.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let a = x.abs();
    // Near zero, an odd polynomial; elsewhere 1 - 2 / (e^2a + 1), which does not cancel there.
    let z = x * x;
    let p = -5.704_988_7e-3;
    let p = p * z + 2.063_909e-2;
    let p = p * z - 5.373_971_6e-2;
    let p = p * z + 1.333_144_2e-1;
    let p = p * z - 3.333_328e-1;
    let near = (p * z * x + x).copysign(x);
    let far = (1.0 - 2.0 / (exp(2.0 * a) + 1.0)).copysign(x);
    if a < 0.625 { near } else { far }
}

/// Natural logarithm: within 1 ulp, subnormal arguments included.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    // Subnormal numbers are scaled by 2^24 first.
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 16_777_216.0 } else { x };
    let bias = if tiny { 126 + 24 } else { 126 };
    // x = m 2^e with sqrt(1/2) <= m < sqrt(2).
    let bits = scaled.to_bits();
    let m = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    let e = ((bits >> 23) & 0xff) as i32 - bias;
    let low = m < core::f32::consts::FRAC_1_SQRT_2;
    let e = (if low { e - 1 } else { e }) as f32;
    let m = if low { m + m - 1.0 } else { m - 1.0 };
    let z = m * m;
    let p = 7.037_683_6e-2;
    let p = p * m - 1.151_461e-1;
    let p = p * m + 1.167_699_9e-1;
    let p = p * m - 1.242_014_1e-1;
    let p = p * m + 1.424_932_3e-1;
    let p = p * m - 1.666_805_8e-1;
    let p = p * m + 2.000_071_5e-1;
    let p = p * m - 2.499_999_4e-1;
    let p = p * m + 3.333_333e-1;
    let y = p * m * z + e * LN2_LOW - 0.5 * z;
    let y = m + y + e * LN2_HIGH;
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    let y = if x < 0.0 { f32::NAN } else { y };
    if x.is_nan() { x } else { y }
}

/// Sine of an angle in radians: within 2 ulp for every finite angle, NaN for the infinities.
#[inline]
pub fn sin(x: f32) -> f32 {
    sin_cos(x).0
}

/// Cosine of an angle in radians: within 2 ulp for every finite angle, NaN for the infinities.
#[inline]
pub fn cos(x: f32) -> f32 {
    sin_cos(x).1
}

/// [`sin`] and [`cos`].
#[inline]
pub fn sin_cos(x: f32) -> (f32, f32) {
    let (quadrant, r) = reduce_angle(x);
    let (sin, cos) = (sin_octant(r), cos_octant(r));
    let (sin, cos) = if quadrant & 1 == 0 {
        (sin, cos)
    } else {
        (cos, sin)
    };
    (
        if quadrant & 2 == 0 { sin } else { -sin },
        if (quadrant + 1) & 2 == 0 { cos } else { -cos },
    )
}

/// Square root, correctly rounded; NaN for negative numbers, -0 for -0.
#[inline]
pub fn sqrt(x: f32) -> f32 {
    // A root known to 2^-51 cannot fall on the wrong side of a midpoint between two f32 values.
    sqrt_f64(f64::from(x)) as f32
}

/// Square root in double precision for geometry: within 1 ulp; NaN for negative numbers, -0 for -0.
#[inline]
pub fn sqrt_f64(x: f64) -> f64 {
    const UP: f64 = (1u128 << 108) as f64;
    const DOWN: f64 = 1.0 / (1u64 << 54) as f64;
    // Subnormal numbers are scaled by 2^108 first.
    let tiny = x < f64::MIN_POSITIVE;
    let scaled = if tiny { x * UP } else { x };
    // 1/sqrt(x) by the exponent trick and Newton's iteration, which doubles the digits each time.
    let mut y = f64::from_bits(0x5fe6_eb50_c7b5_37a9_u64.wrapping_sub(scaled.to_bits() >> 1));
    let h = 0.5 * scaled;
    y = y * (1.5 - h * y * y);
    y = y * (1.5 - h * y * y);
    y = y * (1.5 - h * y * y);
    y = y * (1.5 - h * y * y);
    let s = scaled * y;
    let s = s + 0.5 * y * (scaled - s * s);
    let s = if tiny { s * DOWN } else { s };
    let s = if x == f64::INFINITY || x == 0.0 { x } else { s };
    if x < 0.0 { f64::NAN } else { s }
}

/// 1 / sqrt(x): within 3 ulp, in single precision only; +inf for ±0, NaN for negative numbers.
#[inline(always)]
pub fn rsqrt(x: f32) -> f32 {
    // Subnormal numbers are scaled by 2^24 first.
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 16_777_216.0 } else { x };
    let mut y = f32::from_bits(0x5f37_59df_u32.wrapping_sub(scaled.to_bits() >> 1));
    let h = 0.5 * scaled;
    y = y * (1.5 - h * y * y);
    y = y * (1.5 - h * y * y);
    y = y * (1.5 - h * y * y);
    // The last step in residual form: a small correction to y keeps y's own rounding.
    y = y + y * (0.5 - h * y * y);
    let y = if tiny { y * 4096.0 } else { y };
    let y = if x == f32::INFINITY { 0.0 } else { y };
    let y = if x == 0.0 { f32::INFINITY } else { y };
    let y = if x < 0.0 { f32::NAN } else { y };
    if x.is_nan() { x } else { y }
}

/// The nearest integer, halves to the even one; keeps the sign of zero, infinities and NaN.
#[inline(always)]
pub fn round_half_even(x: f32) -> f32 {
    // From 2^23 on every f32 is an integer; below, adding 2^23 leaves no room for a fraction.
    const INTEGERS: f32 = 8_388_608.0;
    let a = x.abs();
    let r = ((a + INTEGERS) - INTEGERS).copysign(x);
    if a < INTEGERS { r } else { x }
}

/// The nearest integer in double precision, halves to the even one.
#[inline]
pub fn round_half_even_f64(x: f64) -> f64 {
    const INTEGERS: f64 = 4_503_599_627_370_496.0;
    let a = x.abs();
    let r = ((a + INTEGERS) - INTEGERS).copysign(x);
    if a < INTEGERS { r } else { x }
}

/// [`exp`] of every element, in place.
#[inline(always)]
pub fn exp_slice(values: &mut [f32]) {
    values.iter_mut().for_each(|v| *v = exp(*v));
}

/// [`sigmoid`] of every element, in place.
#[inline(always)]
pub fn sigmoid_slice(values: &mut [f32]) {
    values.iter_mut().for_each(|v| *v = sigmoid(*v));
}

/// [`silu`] of every element, in place.
#[inline(always)]
pub fn silu_slice(values: &mut [f32]) {
    values.iter_mut().for_each(|v| *v = silu(*v));
}

/// [`tanh`] of every element, in place.
#[inline(always)]
pub fn tanh_slice(values: &mut [f32]) {
    values.iter_mut().for_each(|v| *v = tanh(*v));
}

/// [`ln`] of every element, in place.
#[inline(always)]
pub fn ln_slice(values: &mut [f32]) {
    values.iter_mut().for_each(|v| *v = ln(*v));
}

// ln 2 in two parts; the first has 10 significant bits, so that its product with an exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// 2^n for -126 <= n <= 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// The bits of 2/π after the point, behind 32 zero bits.
const TWO_OVER_PI: [u32; 8] = [
    0,
    0xa2f9_836e,
    0x4e44_1529,
    0xfc27_57d1,
    0xf534_ddc0,
    0xdb62_9599,
    0x3c43_9041,
    0xfe51_63ab,
];

/// x = (quadrant + 4k) π/2 + r with |r| <= π/4, for an integer k nobody needs.
#[inline]
fn reduce_angle(x: f32) -> (u32, f32) {
    let magnitude = x.abs();
    if magnitude <= core::f32::consts::FRAC_PI_4 {
        return (0, x);
    }
    if !x.is_finite() {
        return (0, f32::NAN);
    }
    // |x| = m 2^e with a 24-bit m. Bits of 2/π worth 4 or more after the product fall away; the 96
    // that follow leave 2 bits of quadrant and a fraction with an error below 2^-70.
    let bits = magnitude.to_bits();
    let m = (bits & 0x007f_ffff) | 0x0080_0000;
    let offset = ((bits >> 23) as i32 - 150 + 30) as usize;
    let (word, shift) = (offset / 32, (offset % 32) as u32);
    let at = |i: usize| u64::from(TWO_OVER_PI.get(i).copied().unwrap_or(0));
    let window = |i: usize| ((((at(i) << 32) | at(i + 1)) << shift) >> 32) as u32;
    let (high, mid, low) = (window(word), window(word + 1), window(word + 2));
    // The top 64 bits of the 96-bit product m * window, modulo 2^96.
    let tail = u64::from(low) * u64::from(m);
    let middle = u64::from(mid) * u64::from(m) + (tail >> 32);
    let phase = (u64::from(high.wrapping_mul(m)) << 32).wrapping_add(middle);
    let quadrant = (phase.wrapping_add(1 << 61) >> 62) as u32;
    let fraction = phase.wrapping_sub(u64::from(quadrant) << 62) as i64;
    const UNIT: f64 = FRAC_PI_2 / (1u64 << 62) as f64;
    let r = (fraction as f64 * UNIT) as f32;
    if x < 0.0 {
        (quadrant.wrapping_neg() & 3, -r)
    } else {
        (quadrant, r)
    }
}

/// sin(r) for |r| <= π/4; the sign is copied for the sake of -0.
#[inline]
fn sin_octant(r: f32) -> f32 {
    let z = r * r;
    let p = -1.951_529_6e-4;
    let p = p * z + 8.332_161e-3;
    let p = p * z - 1.666_665_5e-1;
    (p * z * r + r).copysign(r)
}

/// cos(r) for |r| <= π/4.
#[inline]
fn cos_octant(r: f32) -> f32 {
    let z = r * r;
    let p = 2.443_315_7e-5;
    let p = p * z - 1.388_731_6e-3;
    let p = p * z + 4.166_664_6e-2;
    p * (z * z) - 0.5 * z + 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::println;

    /// Distance of `got` from `exact` in units of the last place of an f32 next to `exact`.
    fn ulps(got: f32, exact: f64) -> f64 {
        let nearest = exact as f32;
        let exponent = ((nearest.abs().to_bits() >> 23) as i32).max(1) - 150;
        (f64::from(got) - exact).abs() / 2f64.powi(exponent)
    }

    /// Every `stride`-th bit pattern between two numbers of the same sign.
    fn patterns(from: f32, to: f32, stride: u32) -> impl Iterator<Item = f32> {
        assert_eq!(from.is_sign_negative(), to.is_sign_negative());
        let (a, b) = (from.to_bits(), to.to_bits());
        let (a, b) = (a.min(b), a.max(b));
        (a..=b).step_by(stride as usize).map(f32::from_bits)
    }

    /// Both signs of every `stride`-th bit pattern up to `limit`.
    fn both_signs(limit: f32, stride: u32) -> impl Iterator<Item = f32> {
        patterns(0.0, limit, stride).flat_map(|v| [v, -v])
    }

    fn worst(
        name: &str,
        values: impl Iterator<Item = f32>,
        f: fn(f32) -> f32,
        exact: fn(f64) -> f64,
    ) -> f64 {
        let mut worst = (0.0, 0.0);
        for v in values {
            let (got, want) = (f(v), exact(f64::from(v)));
            // Results below the smallest normal number may be zero.
            if want.abs() < f64::from(f32::MIN_POSITIVE) && got == 0.0 {
                continue;
            }
            if want.abs() > f64::from(f32::MAX) {
                assert!(
                    ulps(f32::MAX, want) < 1.0 || got.is_infinite(),
                    "{name}({v}) = {got}"
                );
                continue;
            }
            let error = ulps(got, want);
            assert!(!error.is_nan(), "{name}({v}) = {got}");
            if error > worst.0 {
                worst = (error, v);
            }
        }
        println!("{name}: {:.3} ulp at {:e}", worst.0, worst.1);
        worst.0
    }

    #[test]
    fn exp_is_within_1_ulp() {
        assert!(worst("exp", both_signs(110.0, 211), exp, f64::exp) <= 1.0);
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::MAX), f32::INFINITY);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert_eq!(exp(-88.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(88.722_83).is_finite());
        assert!(exp(-87.336_54) >= f32::MIN_POSITIVE);
        assert!(exp(f32::NAN).is_nan());
    }

    /// Bounds of a gate: near zero, and more the further from it.
    fn gate_is_within_its_bounds(name: &str, f: fn(f32) -> f32, exact: fn(f64) -> f64) {
        assert!(worst(name, both_signs(1.0, 211), f, exact) <= 3.5);
        for end in 1..87 {
            let (from, to) = (end as f32, (end + 1) as f32);
            let values = patterns(-from, -to, 211).chain(patterns(from, to, 211));
            assert!(worst(name, values, f, exact) <= 4.5 + 1.25 * f64::from(from));
        }
    }

    #[test]
    fn sigmoid_is_within_its_bound() {
        let exact = |x: f64| 1.0 / (1.0 + (-x).exp());
        gate_is_within_its_bounds("sigmoid", sigmoid, exact);
        for v in both_signs(87.0, 211) {
            assert!((f64::from(sigmoid(v)) - exact(f64::from(v))).abs() <= 1.2e-7);
        }
        assert_eq!(sigmoid(f32::INFINITY), 1.0);
        assert_eq!(sigmoid(f32::NEG_INFINITY), sigmoid(-87.0));
        assert!((1.6e-38..1.7e-38).contains(&sigmoid(-87.0)));
        assert_eq!(sigmoid(0.0), 0.5);
        assert!(sigmoid(f32::NAN).is_nan());
    }

    #[test]
    fn silu_is_within_its_bound() {
        let exact = |x: f64| x / (1.0 + (-x).exp());
        gate_is_within_its_bounds("silu", silu, exact);
        assert!(worst("silu", patterns(87.0, f32::MAX, 211), silu, exact) <= 3.0);
        assert_eq!(silu(f32::INFINITY), f32::INFINITY);
        for v in [-87.1, -128.0, f32::MIN, f32::NEG_INFINITY] {
            assert!((-1.5e-36..=0.0).contains(&silu(v)), "silu({v})");
        }
        assert!(silu(f32::NAN).is_nan());
    }

    #[test]
    fn exp_of_negative_is_within_its_bound() {
        for end in 0..87 {
            let values = patterns(-(end as f32), -(end as f32 + 1.0), 211);
            let bound = 4.5 + 1.25 * f64::from(end);
            assert!(worst("exp_of_negative", values, exp_of_negative, f64::exp) <= bound);
        }
        assert_eq!(exp_of_negative(0.0), 1.0);
        assert_eq!(exp_of_negative(f32::NEG_INFINITY), exp_of_negative(-87.0));
        assert!((1.6e-38..1.7e-38).contains(&exp_of_negative(-87.0)));
        assert!(exp_of_negative(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_within_its_bound() {
        assert!(worst("tanh", both_signs(f32::MAX, 211), tanh, f64::tanh) <= 2.0);
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
        assert!(tanh(-0.0).is_sign_negative());
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn ln_is_within_1_ulp() {
        let all = patterns(f32::from_bits(1), f32::MAX, 211);
        assert!(worst("ln", all, ln, f64::ln) <= 1.0);
        let around_one = patterns(0.5, 2.0, 7);
        assert!(worst("ln near 1", around_one, ln, f64::ln) <= 1.0);
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(ln(0.0), f32::NEG_INFINITY);
        assert_eq!(ln(-0.0), f32::NEG_INFINITY);
        assert_eq!(ln(f32::INFINITY), f32::INFINITY);
        assert!(ln(-1.0).is_nan());
        assert!(ln(f32::NEG_INFINITY).is_nan());
        assert!(ln(f32::NAN).is_nan());
    }

    #[test]
    fn sine_and_cosine_are_within_their_bound() {
        // f64's own reduction is exact enough for every f32 angle.
        assert!(worst("sin", both_signs(f32::MAX, 211), sin, f64::sin) <= 2.0);
        assert!(worst("cos", both_signs(f32::MAX, 211), cos, f64::cos) <= 2.0);
        let turns = patterns(0.5, 8192.0, 31);
        assert!(worst("sin to 8192", turns, sin, f64::sin) <= 2.0);
        let turns = patterns(0.5, 8192.0, 31);
        assert!(worst("cos to 8192", turns, cos, f64::cos) <= 2.0);
        assert!(sin(-0.0).is_sign_negative());
        assert_eq!(cos(0.0), 1.0);
        for v in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            assert!(sin(v).is_nan() && cos(v).is_nan());
        }
    }

    #[test]
    fn square_root_is_correctly_rounded() {
        // Both parities of the exponent, every mantissa; then every exponent.
        for v in patterns(1.0, 4.0, 1) {
            assert_eq!(sqrt(v).to_bits(), v.sqrt().to_bits(), "sqrt({v})");
        }
        for v in patterns(0.0, f32::INFINITY, 1009) {
            assert_eq!(sqrt(v).to_bits(), v.sqrt().to_bits(), "sqrt({v})");
        }
        assert!(sqrt(-0.0).is_sign_negative() && sqrt(-0.0) == 0.0);
        for v in [-1.0, f32::NEG_INFINITY, f32::NAN, -f32::from_bits(1)] {
            assert!(sqrt(v).is_nan());
        }
    }

    #[test]
    fn double_square_root_is_within_1_ulp() {
        let mut worst = 0;
        for i in 0..4_000_000u64 {
            // An odd multiplier walks over all exponents and mantissas.
            let v = f64::from_bits(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1);
            if !v.is_finite() {
                continue;
            }
            worst = worst.max(sqrt_f64(v).to_bits().abs_diff(v.sqrt().to_bits()));
        }
        println!("sqrt_f64: {worst} ulp");
        assert!(worst <= 1);
        for n in 0..100_000u64 {
            assert_eq!(sqrt_f64((n * n) as f64), n as f64);
        }
        assert_eq!(sqrt_f64(f64::INFINITY), f64::INFINITY);
        assert!(sqrt_f64(-1.0).is_nan() && sqrt_f64(f64::NAN).is_nan());
    }

    #[test]
    fn reciprocal_square_root_is_within_its_bound() {
        let exact = |x: f64| 1.0 / x.sqrt();
        let all = patterns(f32::from_bits(1), f32::MAX, 211);
        assert!(worst("rsqrt", all, rsqrt, exact) <= 3.0);
        assert_eq!(rsqrt(0.0), f32::INFINITY);
        assert_eq!(rsqrt(-0.0), f32::INFINITY);
        assert_eq!(rsqrt(f32::INFINITY), 0.0);
        assert!(rsqrt(-1.0).is_nan() && rsqrt(f32::NAN).is_nan());
    }

    #[test]
    fn rounding_matches_the_standard_library() {
        for v in both_signs(f32::INFINITY, 101) {
            assert_eq!(round_half_even(v).to_bits(), v.round_ties_even().to_bits());
            let d = f64::from(v) * 1.000_000_1;
            assert_eq!(
                round_half_even_f64(d).to_bits(),
                d.round_ties_even().to_bits()
            );
        }
        for n in -1000..1000 {
            let half = n as f32 + 0.5;
            assert_eq!(round_half_even(half), half.round_ties_even());
        }
        assert!(round_half_even(f32::NAN).is_nan());
    }

    #[test]
    fn slices_have_the_bits_of_the_scalars() {
        type Pair = (fn(&mut [f32]), fn(f32) -> f32);
        let pairs: [Pair; 5] = [
            (exp_slice, exp),
            (sigmoid_slice, sigmoid),
            (silu_slice, silu),
            (tanh_slice, tanh),
            (ln_slice, ln),
        ];
        for (over_slice, scalar) in pairs {
            let mut values: std::vec::Vec<f32> = both_signs(f32::INFINITY, 1_000_003).collect();
            let want: std::vec::Vec<u32> = values.iter().map(|&v| scalar(v).to_bits()).collect();
            over_slice(&mut values);
            for (got, want) in values.iter().zip(want) {
                assert!(got.to_bits() == want || got.is_nan() && f32::from_bits(want).is_nan());
            }
        }
    }
}
