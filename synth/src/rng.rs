//! Small pseudo-random generators with the same output on every machine.
//!
//! PCG-XSH-RR 64/32 (O'Neill 2014, "PCG: A Family of Simple Fast Space-Efficient
//! Statistically Good Algorithms for Random Number Generation"), seeded through the
//! SplitMix64 finaliser (Steele, Lea and Flood 2014) so that neighbouring seeds give
//! unrelated streams.

/// SplitMix64 finaliser: a bijection that scatters neighbouring integers.
#[must_use]
pub fn mix64(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A PCG32 generator.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
    increment: u64,
}

impl Rng {
    /// The generator for `seed`.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self::stream(seed, 0)
    }

    /// One of many independent generators for the same `seed`, so that drawing more
    /// numbers for one purpose never shifts those of another.
    #[must_use]
    pub fn stream(seed: u64, stream: u64) -> Self {
        let key = mix64(seed ^ mix64(stream.wrapping_add(0x5157)));
        let mut rng = Self {
            state: 0,
            increment: (mix64(key) << 1) | 1,
        };
        rng.next_u32();
        rng.state = rng.state.wrapping_add(key);
        rng.next_u32();
        rng
    }

    /// The next 32 uniform bits.
    pub fn next_u32(&mut self) -> u32 {
        let old = self.state;
        self.state = old
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(self.increment);
        let word = (((old >> 18) ^ old) >> 27) as u32;
        word.rotate_right((old >> 59) as u32)
    }

    /// The next 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        let high = u64::from(self.next_u32());
        (high << 32) | u64::from(self.next_u32())
    }

    /// A uniform number in `[0, 1)`.
    pub fn unit(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// A uniform number in `[low, high)`.
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// A bell-shaped number of mean 0 and variance 1, within ±3.47 (sum of four uniforms:
    /// no tails, which is what looks and timings want).
    pub fn normal(&mut self) -> f32 {
        let sum = self.unit() + self.unit() + self.unit() + self.unit();
        (sum - 2.0) * 1.732_050_8
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }

    /// A uniform integer in `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.next_u32()) * n as u64) >> 32) as usize
    }

    /// One of `items`, which must not be empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of the reference `pcg32_srandom(42, 54)` demo, whose state and
    /// increment are known constants.
    #[test]
    fn matches_the_reference_demo() {
        let mut rng = Rng {
            state: 0,
            increment: (54 << 1) | 1,
        };
        rng.next_u32();
        rng.state = rng.state.wrapping_add(42);
        rng.next_u32();
        let got: Vec<u32> = (0..6).map(|_| rng.next_u32()).collect();
        let expected = [
            0xa15c_02b7,
            0x7b47_f409,
            0xba1d_3330,
            0x83d2_f293,
            0xbfa4_784b,
            0xcbed_606e,
        ];
        assert_eq!(got, expected);
    }

    #[test]
    fn normal_has_unit_variance() {
        let mut rng = Rng::from_seed(1);
        let n = 20_000;
        let (mut sum, mut squares) = (0.0_f64, 0.0_f64);
        for _ in 0..n {
            let x = f64::from(rng.normal());
            sum += x;
            squares += x * x;
        }
        let mean = sum / f64::from(n);
        assert!(mean.abs() < 0.03, "mean {mean}");
        let variance = squares / f64::from(n) - mean * mean;
        assert!((variance - 1.0).abs() < 0.03, "variance {variance}");
    }
}
