//! What makes clips harder to read, for measuring how much: noise over the sound, a covered mouth, sound and pictures apart.
//! What a worse camera does to pictures is in [`viseme_capture::source::faults`].

use std::f64::consts::TAU;
use std::str::FromStr;

/// Voices of babble.
pub const VOICES: usize = 6;

/// Octaves of pink noise.
const OCTAVES: usize = 16;

/// Grey of what covers a mouth.
const COVER: u8 = 96;

/// Noise, and how loud it is: `white:10`, `babble:-5`, `street.wav:0`.
#[derive(Clone, Debug, PartialEq)]
pub struct Noise {
    /// What is heard.
    pub kind: NoiseKind,
    /// Power of the clip's sound over that of the noise, both as means over the whole clip, in decibels.
    pub snr_db: f64,
}

/// Kinds of noise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoiseKind {
    /// The same power at all frequencies.
    White,
    /// The same power in all octaves.
    Pink,
    /// [`VOICES`] other clips at once.
    Babble,
    /// The sound of this file, over and over.
    File(std::path::PathBuf),
}

impl FromStr for Noise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no noise; give white, pink, babble or a file, and decibels: babble:-5"
            )
        };
        let (kind, snr) = text.rsplit_once(':').ok_or_else(wrong)?;
        let snr_db: f64 = snr.parse().map_err(|_| wrong())?;
        if !(-60.0..=100.0).contains(&snr_db) || kind.is_empty() {
            return Err(wrong());
        }
        let kind = match kind {
            "white" => NoiseKind::White,
            "pink" => NoiseKind::Pink,
            "babble" => NoiseKind::Babble,
            file => NoiseKind::File(file.into()),
        };
        Ok(Noise { kind, snr_db })
    }
}

/// A number that differs from clip to clip and is the same every time: FNV-1a of its name.
pub fn seed(id: &str) -> u64 {
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// White noise, normal with variance 1 (Box and Muller, "A note on the generation of random normal deviates", 1958).
pub fn white(len: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut next = || {
        let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
        (radius * (TAU * random.f64()).cos()) as f32
    };
    (0..len).map(|_| next()).collect()
}

/// Pink noise: white noises that change every sample, every second, every fourth, and so on, added up (Voss, in Gardner,
/// "White and brown music, fractal curves and one-over-f fluctuations", 1978).
pub fn pink(len: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut held = [0.0; OCTAVES];
    held.fill_with(|| random.f64() - 0.5);
    let next = |i: usize| {
        // One of them changes at a time, so that no two change together.
        let octave = (i.trailing_zeros() as usize).min(OCTAVES - 1);
        held[octave] = random.f64() - 0.5;
        (held.iter().sum::<f64>() + random.f64() - 0.5) as f32
    };
    (1..=len).map(next).collect()
}

/// [`VOICES`] of these sounds at once, or all if there are fewer: as loud as each other, each begun somewhere and heard over
/// and over.
pub fn babble(sounds: &[&[i16]], len: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut chosen: Vec<&[i16]> = sounds.to_vec();
    chosen.retain(|sound| !sound.is_empty());
    random.shuffle(&mut chosen);
    let mut sum = vec![0.0; len];
    for sound in chosen.into_iter().take(VOICES) {
        let loudness = power(sound.iter().map(|&v| f32::from(v))).sqrt();
        let scale = 1.0 / loudness.max(1.0) as f32;
        let start = random.usize(..sound.len());
        let over_and_over = sound.iter().cycle().skip(start);
        for (sum, &value) in sum.iter_mut().zip(over_and_over) {
            *sum += scale * f32::from(value);
        }
    }
    sum
}

/// Adds noise, over and over if it is shorter. What would be too loud for 16 bits makes all of it quieter.
pub fn mix(samples: &mut [i16], noise: &[f32], snr_db: f64) {
    let loud = power(samples.iter().map(|&v| f32::from(v)));
    let noise_power = power(noise.iter().copied());
    if noise_power == 0.0 || noise.is_empty() {
        return;
    }
    let gain = (loud / noise_power / 10f64.powf(snr_db / 10.0)).sqrt() as f32;
    let sum = samples.iter().zip(noise.iter().cycle());
    let sum: Vec<f32> = sum.map(|(&s, n)| f32::from(s) + gain * n).collect();
    let largest = sum.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let fit = if largest > 32_767.0 {
        32_767.0 / largest
    } else {
        1.0
    };
    for (to, from) in samples.iter_mut().zip(sum) {
        *to = (fit * from).round() as i16;
    }
}

/// Lets the sound come later than the pictures, or earlier where `ms` is negative; the length stays.
pub fn shift(samples: &mut [i16], ms: i32, rate: u32) {
    let by = (ms.unsigned_abs() as usize * rate as usize / 1000).min(samples.len());
    if ms >= 0 {
        samples.copy_within(..samples.len() - by, by);
        samples[..by].fill(0);
    } else {
        samples.copy_within(by.., 0);
        let from = samples.len() - by;
        samples[from..].fill(0);
    }
}

/// Covers the mouths of crops, as a hand before them would.
pub fn cover(crops: &mut [u8]) {
    crops.fill(COVER);
}

/// Mean square.
fn power(values: impl ExactSizeIterator<Item = f32>) -> f64 {
    let len = values.len().max(1) as f64;
    values.map(|v| f64::from(v) * f64::from(v)).sum::<f64>() / len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(len: usize) -> Vec<i16> {
        (0..len)
            .map(|i| (3000.0 * (i as f64 * 0.2).sin()) as i16)
            .collect()
    }

    #[test]
    fn noise_is_as_loud_as_was_asked() {
        for snr in [10.0, 0.0, -5.0] {
            for noise in [
                white(20_000, 1),
                pink(20_000, 2),
                babble(&[&tone(7000)], 20_000, 3),
            ] {
                let clean = tone(20_000);
                let mut mixed = clean.clone();
                mix(&mut mixed, &noise, snr);
                let added = mixed
                    .iter()
                    .zip(&clean)
                    .map(|(m, c)| f32::from(*m) - f32::from(*c));
                let ratio = power(clean.iter().map(|&v| f32::from(v))) / power(added);
                assert!((10.0 * ratio.log10() - snr).abs() < 0.05, "{snr}");
            }
        }
        // Louder than 16 bits: quieter as a whole, and nothing cut off.
        let mut mixed = tone(20_000);
        mix(&mut mixed, &white(20_000, 1), -30.0);
        let largest = mixed.iter().map(|v| v.unsigned_abs()).max();
        assert_eq!(largest, Some(32_767));
        assert!(mixed.iter().filter(|v| v.unsigned_abs() > 32_000).count() < 10);
    }

    /// Power between two frequencies, as shares of the sampling rate.
    fn band(noise: &[f32], low: f64, high: f64) -> f64 {
        let window = 2048;
        let mut sum = 0.0;
        for part in noise.chunks_exact(window) {
            for bin in (low * window as f64) as usize..(high * window as f64) as usize {
                let step = TAU * bin as f64 / window as f64;
                let (mut re, mut im) = (0.0, 0.0);
                for (i, v) in part.iter().enumerate() {
                    let (sin, cos) = (step * i as f64).sin_cos();
                    re += f64::from(*v) * cos;
                    im += f64::from(*v) * sin;
                }
                sum += re * re + im * im;
            }
        }
        sum
    }

    #[test]
    fn white_noise_is_even_over_frequencies_and_pink_over_octaves() {
        for (noise, octave_db) in [(white(40_960, 4), 3.0), (pink(40_960, 5), 0.0)] {
            let (low, high) = (band(&noise, 0.0156, 0.0313), band(&noise, 0.125, 0.25));
            let db = 10.0 * (high / low).log10();
            assert!((db - 3.0 * octave_db).abs() < 1.5, "{db}");
        }
    }

    #[test]
    fn sound_moves_and_keeps_its_length() {
        let samples: Vec<i16> = (1..=10).collect();
        let moved = |ms| {
            let mut samples = samples.clone();
            shift(&mut samples, ms, 1000);
            samples
        };
        assert_eq!(moved(3), [0, 0, 0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(moved(-3), [4, 5, 6, 7, 8, 9, 10, 0, 0, 0]);
        assert_eq!(moved(0), samples);
        assert_eq!(moved(99), [0; 10]);
        assert_eq!(moved(-99), [0; 10]);
    }

    #[test]
    fn noises_are_named() {
        let noise: Noise = "babble:-5".parse().unwrap();
        assert_eq!((noise.kind, noise.snr_db), (NoiseKind::Babble, -5.0));
        let noise: Noise = "a:b.wav:2.5".parse().unwrap();
        assert_eq!(noise.kind, NoiseKind::File("a:b.wav".into()));
        for wrong in [
            "white",
            "white:",
            ":3",
            "pink:loud",
            "pink:nan",
            "pink:1000",
        ] {
            assert!(wrong.parse::<Noise>().is_err(), "{wrong}");
        }
    }
}
