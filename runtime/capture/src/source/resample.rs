//! Sound at any rate that devices have to sound at ours.

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Async, FixedAsync, Indexing, Resampler, SincInterpolationParameters, WindowFunction};

use super::SAMPLE_RATE;

/// Rates that devices have, in samples a second.
pub const RATES: std::ops::RangeInclusive<u32> = 4_000..=768_000;

/// Samples that go in at once: 23 ms at 44.1 kHz.
const CHUNK: usize = 1024;

/// Length of the filter: a tone of 11 kHz at 48 kHz is 66 dB down.
const FILTER: usize = 128;

/// Resamples a stream. It stays in its place to within a sample or so.
pub struct Resample {
    inner: Async<f32>,
    ratio: f64,
    input: Vec<f32>,
    output: Vec<f32>,
    /// Samples of the filter's beginning that are still to be left out.
    early: usize,
    taken: u64,
    given: u64,
}

impl Resample {
    /// From `rate` samples a second to [`SAMPLE_RATE`]; `None` for a rate outside [`RATES`].
    pub fn new(rate: u32) -> Option<Self> {
        if !RATES.contains(&rate) {
            return None;
        }
        let ratio = f64::from(SAMPLE_RATE) / f64::from(rate);
        let filter = SincInterpolationParameters::new(FILTER, WindowFunction::BlackmanHarris2);
        let inner = Async::new_sinc(ratio, 1.0, &filter, CHUNK, 1, FixedAsync::Input).ok()?;
        Some(Resample {
            ratio,
            input: Vec::with_capacity(CHUNK),
            output: vec![0.0; inner.output_frames_max()],
            early: inner.output_delay(),
            inner,
            taken: 0,
            given: 0,
        })
    }

    /// Takes samples and appends what they complete to `out`.
    pub fn push(&mut self, mut samples: &[i16], out: &mut Vec<i16>) {
        self.taken += samples.len() as u64;
        while !samples.is_empty() {
            let (now, rest) = samples.split_at(samples.len().min(CHUNK - self.input.len()));
            self.input.extend(now.iter().map(|&s| f32::from(s)));
            samples = rest;
            if self.input.len() == CHUNK {
                self.run(out, u64::MAX);
            }
        }
    }

    /// Appends what is left: the whole stream is then as long as it was.
    pub fn finish(&mut self, out: &mut Vec<i16>) {
        let all = (self.taken as f64 * self.ratio).round() as u64;
        while self.given < all {
            self.run(out, all);
        }
    }

    /// Resamples a chunk, filled up with silence, but gives no more than `most` samples of the whole stream.
    fn run(&mut self, out: &mut Vec<i16>, most: u64) {
        let filled = self.input.len();
        self.input.resize(CHUNK, 0.0);
        let frames = self.output.len();
        let buffers = (
            SequentialSlice::new(&self.input, 1, CHUNK),
            SequentialSlice::new_mut(&mut self.output, 1, frames),
        );
        let (Ok(input), Ok(mut output)) = buffers else {
            unreachable!("both are as long as they say");
        };
        let partial = Indexing::new().partial_len(filled);
        let made = match self
            .inner
            .process_into_buffer(&input, &mut output, Some(&partial))
        {
            Ok((_, made)) => made,
            Err(_) => unreachable!("the buffers have room for a chunk"),
        };
        self.input.clear();
        let skip = self.early.min(made);
        self.early -= skip;
        let left = most - self.given;
        let values = self.output[skip..made].iter().take(left as usize);
        let whole = values.map(|v| v.round().clamp(-32_768.0, 32_767.0) as i16);
        let before = out.len();
        out.extend(whole);
        self.given += (out.len() - before) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    fn tone(hz: f64, rate: u32, seconds: f64) -> Vec<i16> {
        let value = |i| (10_000.0 * (i as f64 * hz * TAU / f64::from(rate)).sin()).round() as i16;
        (0..(f64::from(rate) * seconds) as usize)
            .map(value)
            .collect()
    }

    fn resampled(samples: &[i16], rate: u32, block: usize) -> Vec<i16> {
        let (mut resample, mut out) = (Resample::new(rate).unwrap(), Vec::new());
        for block in samples.chunks(block) {
            resample.push(block, &mut out);
        }
        resample.finish(&mut out);
        out
    }

    #[test]
    fn tones_stay_where_and_when_they_are() {
        for rate in [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 44_101] {
            let got = resampled(&tone(1000.0, rate, 0.5), rate, 777);
            let want = tone(1000.0, SAMPLE_RATE, 0.5);
            assert!(got.len().abs_diff(want.len()) <= 1, "{rate}: {}", got.len());
            // A sine and a cosine of that frequency by least squares; the ends are cut into.
            let inner = 240..got.len() - 240;
            let angle = |i: usize| i as f64 * 1000.0 * TAU / f64::from(SAMPLE_RATE);
            let part = |f: fn(f64) -> f64| {
                let sum: f64 = inner.clone().map(|i| f64::from(got[i]) * f(angle(i))).sum();
                2.0 * sum / inner.len() as f64
            };
            let (sin, cos) = (part(f64::sin), part(f64::cos));
            assert!(
                (sin.hypot(cos) - 10_000.0).abs() < 20.0,
                "{rate}: {sin} {cos}"
            );
            // A part of a sample is lost where the filter's length is no whole number of samples at the other rate.
            let late = (-cos / sin).atan() / angle(1);
            assert!(late.abs() < 1.1, "{rate}: {late} samples late");
            let fitted = |i: usize| sin * angle(i).sin() + cos * angle(i).cos();
            let worst = inner.clone().map(|i| (f64::from(got[i]) - fitted(i)).abs());
            let worst = worst.fold(0.0, f64::max);
            assert!(worst < 10.0, "{rate}: {worst}");
        }
    }

    #[test]
    fn what_is_too_high_goes() {
        let got = resampled(&tone(11_000.0, 48_000, 0.5), 48_000, 4096);
        let loudest = got[200..got.len() - 200]
            .iter()
            .map(|v| v.unsigned_abs())
            .max();
        assert!(loudest < Some(5), "{loudest:?}");
    }

    #[test]
    fn blocks_of_any_size_give_the_same() {
        let samples = tone(440.0, 44_100, 0.2);
        let whole = resampled(&samples, 44_100, samples.len());
        for block in [1, 100, 1024, 5000] {
            assert_eq!(resampled(&samples, 44_100, block), whole, "{block}");
        }
        assert!(resampled(&[], 44_100, 1).is_empty());
        assert_eq!(resampled(&samples[..3], 44_100, 1).len(), 1);
    }

    #[test]
    fn rates_that_nothing_has_are_refused() {
        assert!(Resample::new(3_999).is_none() && Resample::new(u32::MAX).is_none());
        assert!(Resample::new(4_000).is_some() && Resample::new(768_000).is_some());
    }
}
