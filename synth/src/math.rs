//! The few functions beyond `+ - * /` and `sqrt` that pixels and samples need.
//!
//! The standard library's `exp` and `sin` may differ between platforms, so these are
//! polynomials of our own: the same bits everywhere.

use crate::rng::Rng;

/// e to the power `x`, relative error below 2e-7; `x` is clamped to ±80.
#[must_use]
pub fn exp(x: f64) -> f64 {
    let x = x.clamp(-80.0, 80.0) * core::f64::consts::LOG2_E;
    let whole = x.floor();
    // Taylor series of 2^f around the middle of [0, 1).
    let f = (x - whole - 0.5) * core::f64::consts::LN_2;
    let series = 1.0
        + f * (1.0
            + f * (1.0 / 2.0
                + f * (1.0 / 6.0
                    + f * (1.0 / 24.0
                        + f * (1.0 / 120.0 + f * (1.0 / 720.0 + f * (1.0 / 5040.0)))))));
    let scale = f64::from_bits(((whole as i64 + 1023) as u64) << 52);
    series * core::f64::consts::SQRT_2 * scale
}

/// The sine of `turns` full turns, absolute error below 1e-7.
#[must_use]
pub fn sin_turns(turns: f64) -> f64 {
    let mut t = turns - turns.floor();
    let mut sign = 1.0;
    if t >= 0.5 {
        t -= 0.5;
        sign = -1.0;
    }
    if t > 0.25 {
        t = 0.5 - t;
    }
    let x = t * core::f64::consts::TAU;
    let x2 = x * x;
    sign * x
        * (1.0
            - x2 * (1.0 / 6.0)
                * (1.0
                    - x2 * (1.0 / 20.0)
                        * (1.0
                            - x2 * (1.0 / 42.0)
                                * (1.0 - x2 * (1.0 / 72.0) * (1.0 - x2 * (1.0 / 110.0))))))
}

/// The cosine of `turns` full turns, absolute error below 1e-7.
#[must_use]
pub fn cos_turns(turns: f64) -> f64 {
    sin_turns(turns + 0.25)
}

/// 0 below 0, 1 above 1, a cubic in between with flat ends.
#[must_use]
pub fn smooth(x: f32) -> f32 {
    let x = x.clamp(0.0, 1.0);
    x * x * (3.0 - 2.0 * x)
}

/// A bump of height 1 at 0 that reaches exactly 0 at `r2 = 1` (argument: squared radius).
#[must_use]
pub fn bump(r2: f32) -> f32 {
    let x = 1.0 - r2;
    if x <= 0.0 { 0.0 } else { x * x }
}

/// The straight line from `a` (at `t = 0`) to `b` (at `t = 1`).
#[must_use]
pub fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// A slow, smooth random function of time: four sinusoids of random phase.
#[derive(Clone, Debug)]
pub struct Wander {
    /// (amplitude, frequency in Hz, phase in turns).
    waves: [(f64, f64, f64); 4],
}

impl Wander {
    /// Standard deviation `sd`, most of the movement below `hz`.
    #[must_use]
    pub fn new(rng: &mut Rng, sd: f32, hz: f32) -> Self {
        let waves = core::array::from_fn(|k| {
            let share = f64::from(rng.range(0.6, 1.0)) / (1.0 + 0.5 * k as f64);
            let frequency = f64::from(hz * rng.range(0.1, 0.5)) * (1.0 + k as f64);
            (
                share * f64::from(sd) * 0.85,
                frequency,
                f64::from(rng.unit()),
            )
        });
        Self { waves }
    }

    /// The value at `t` seconds.
    #[must_use]
    pub fn at(&self, t: f64) -> f32 {
        let mut sum = 0.0;
        for (amplitude, frequency, phase) in self.waves {
            sum += amplitude * sin_turns(frequency * t + phase);
        }
        sum as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_standard_library() {
        for i in -4000..4000 {
            let x = f64::from(i) * 0.01;
            assert!((exp(x) / x.exp() - 1.0).abs() < 2e-7, "exp {x}");
            let turns = x * 0.37;
            let reference = (turns * core::f64::consts::TAU).sin();
            assert!((sin_turns(turns) - reference).abs() < 1e-7, "sin {turns}");
        }
    }

    #[test]
    fn wander_keeps_its_size() {
        let mut rng = Rng::from_seed(3);
        let mut squares = 0.0;
        for _ in 0..200 {
            let wander = Wander::new(&mut rng, 2.0, 1.0);
            let x = f64::from(wander.at(0.7));
            squares += x * x;
        }
        let sd = f64::sqrt(squares / 200.0);
        assert!((1.2..2.4).contains(&sd), "sd {sd}");
    }
}
