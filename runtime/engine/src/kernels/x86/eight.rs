//! Eight floats in a 256-bit register.

use core::arch::x86_64::*;

use crate::kernels::eight::Eight;

/// Only for functions compiled for AVX2, into which everything here is inlined.
#[derive(Clone, Copy)]
pub(super) struct Avx(__m256);

impl Eight for Avx {
    #[inline(always)]
    fn splat(v: f32) -> Self {
        // SAFETY: inlined only into functions compiled for AVX2.
        Avx(unsafe { _mm256_set1_ps(v) })
    }

    #[inline(always)]
    fn load(from: &[f32; 8]) -> Self {
        // SAFETY: as above; eight floats are read.
        Avx(unsafe { _mm256_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    fn array(self) -> [f32; 8] {
        let mut array = [0.0; 8];
        // SAFETY: as above; eight floats are written.
        unsafe { _mm256_storeu_ps(array.as_mut_ptr(), self.0) };
        array
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: as above.
        Avx(unsafe { _mm256_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        // SAFETY: as above.
        Avx(unsafe { _mm256_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: as above.
        Avx(unsafe { _mm256_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn least(self, other: Self) -> Self {
        // SAFETY: as above. The second operand is the result where one is NaN.
        Avx(unsafe { _mm256_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn most(self, other: Self) -> Self {
        // SAFETY: as above.
        Avx(unsafe { _mm256_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: as above.
        unsafe {
            let (low, high) = (
                _mm256_castps256_ps128(self.0),
                _mm256_extractf128_ps::<1>(self.0),
            );
            let four = _mm_add_ps(low, high);
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn registers_do_what_plain_rust_does() {
        #[target_feature(enable = "avx2")]
        fn compiled() {
            crate::kernels::eight::holds::<super::Avx>();
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: asked on the line above.
            unsafe { compiled() };
        }
    }
}
