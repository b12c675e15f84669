//! Eight floats in two registers.

use core::arch::aarch64::*;

use crate::kernels::eight::Eight;

/// Floats 0 to 3 and 4 to 7.
#[derive(Clone, Copy)]
pub(super) struct Quads(float32x4_t, float32x4_t);

impl Quads {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Quads(f(self.0, other.0), f(self.1, other.1))
    }
}

impl Eight for Quads {
    #[inline(always)]
    fn splat(v: f32) -> Self {
        // SAFETY: NEON is part of AArch64.
        let four = unsafe { vdupq_n_f32(v) };
        Quads(four, four)
    }

    #[inline(always)]
    fn load(from: &[f32; 8]) -> Self {
        // SAFETY: as above; eight floats are read.
        unsafe { Quads(vld1q_f32(from.as_ptr()), vld1q_f32(from.as_ptr().add(4))) }
    }

    #[inline(always)]
    fn array(self) -> [f32; 8] {
        let mut array = [0.0; 8];
        // SAFETY: as above; eight floats are written.
        unsafe {
            vst1q_f32(array.as_mut_ptr(), self.0);
            vst1q_f32(array.as_mut_ptr().add(4), self.1);
        }
        array
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: as above.
        self.zip(other, |a, b| unsafe { vaddq_f32(a, b) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: as above.
        self.zip(other, |a, b| unsafe { vsubq_f32(a, b) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: as above.
        self.zip(other, |a, b| unsafe { vmulq_f32(a, b) })
    }

    #[inline(always)]
    fn least(self, other: Self) -> Self {
        // SAFETY: as above. FMIN would give NaN where one is.
        self.zip(other, |a, b| unsafe { vbslq_f32(vcltq_f32(a, b), a, b) })
    }

    #[inline(always)]
    fn most(self, other: Self) -> Self {
        // SAFETY: as above.
        self.zip(other, |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: as above.
        unsafe {
            let four = vaddq_f32(self.0, self.1);
            vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)))
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn registers_do_what_plain_rust_does() {
        crate::kernels::eight::holds::<super::Quads>();
    }
}
