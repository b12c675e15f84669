//! The 16-bit floating-point formats.

/// The value of an IEEE 754 binary16.
pub fn f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let (exponent, fraction) = (u32::from(bits >> 10 & 31), u32::from(bits & 0x3ff));
    match exponent {
        // Zero and subnormal numbers are multiples of 2^-24, and f32 has them all.
        0 => f32::from_bits(sign | (fraction as f32 / 16_777_216.0).to_bits()),
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// The value of a bfloat16: the upper half of an f32.
pub fn bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_f16_has_the_value_of_the_standards_formula() {
        for bits in 0..=u16::MAX {
            let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff));
            let expected = sign
                * match (exponent, fraction) {
                    (31, 0.0) => f64::INFINITY,
                    (31, _) => f64::NAN,
                    (0, _) => 2f64.powi(-14) * (fraction / 1024.0),
                    _ => 2f64.powi(exponent - 15) * (1.0 + fraction / 1024.0),
                };
            let value = f64::from(super::f16(bits));
            assert!(
                value.to_bits() == expected.to_bits() || value.is_nan() && expected.is_nan(),
                "{bits:04x}: {value} instead of {expected}"
            );
        }
    }
}
