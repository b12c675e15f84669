//! Sound to log-mel energies, as Kaldi computes its filter banks (Povey et al., "The Kaldi Speech Recognition Toolkit", 2011;
//! `feature-fbank` in github.com/kaldi-asr/kaldi), without dither and with a Hann window.
//!
//! Of every window of samples: less its mean; each sample less 0.97 times the one before; tapered; power spectrum; bands
//! that overlap by halves, equally wide on the scale 1127 ln(1 + f / 700); natural logarithm. Windows lie wholly within the
//! sound: the first one is complete when `window` samples have come, the next `hop` later.
//!
//! Samples are whole numbers of 16 bits, and energies of their scale. Nothing here allocates, and all floating-point
//! operations have one order.

use core::fmt;

use viseme_format::spec::Mel;

use crate::math;

/// Length of the Fourier transform.
const FFT: usize = 512;

/// Frequencies that it tells apart, the highest left out.
const FREQUENCIES: usize = FFT / 2;

/// What is taken of the sample before.
const PREEMPHASIS: f32 = 0.97;

/// Computes log-mel energies of a stream of samples.
#[derive(Debug)]
pub struct LogMel<'m> {
    hop: usize,
    bins: usize,
    /// The window function.
    taper: &'m [f32],
    /// Where each frequency lies, in bands: between the lower edges of band ⌊p⌋ and of the next.
    places: &'m [f32],
    /// The last samples, fewer than a window.
    samples: &'m mut [f32],
    filled: usize,
    energies: &'m mut [f32],
}

impl<'m> LogMel<'m> {
    /// Working memory, in floats.
    ///
    /// # Errors
    /// Settings for which there is no transform.
    pub fn memory(mel: &Mel) -> Result<usize, LogMelError> {
        let window = mel.window as usize;
        let fits = (FFT / 2 + 1..=FFT).contains(&window);
        let is_sound = mel.hop >= 1 && mel.bins >= 1 && mel.sample_rate >= 1;
        if !fits || !is_sound || mel.hop > mel.window {
            return Err(LogMelError::Window(mel.window));
        }
        Ok(2 * window + FREQUENCIES + mel.bins as usize)
    }

    /// In working memory that the caller supplies.
    ///
    /// # Errors
    /// Settings for which there is no transform, or too little memory.
    pub fn new(mel: &Mel, memory: &'m mut [f32]) -> Result<Self, LogMelError> {
        let want = Self::memory(mel)?;
        let got = memory.len();
        let memory = memory
            .get_mut(..want)
            .ok_or(LogMelError::Memory { got, want })?;
        let (window, bins) = (mel.window as usize, mel.bins as usize);
        let (taper, rest) = memory.split_at_mut(window);
        let (places, rest) = rest.split_at_mut(FREQUENCIES);
        let (samples, energies) = rest.split_at_mut(window);
        let step = core::f32::consts::TAU / (window - 1) as f32;
        for (i, value) in taper.iter_mut().enumerate() {
            *value = 0.5 - 0.5 * math::cos(step * i as f32);
        }
        let scale = |hz: f32| 1127.0 * math::ln(1.0 + hz / 700.0);
        let (low, high) = (scale(mel.low_hz), scale(mel.high_hz));
        let width = (high - low) / (bins + 1) as f32;
        for (i, place) in places.iter_mut().enumerate() {
            let hz = i as f32 * mel.sample_rate as f32 / FFT as f32;
            *place = (scale(hz) - low) / width;
        }
        Ok(LogMel {
            hop: mel.hop as usize,
            bins,
            taper,
            places,
            samples,
            filled: 0,
            energies,
        })
    }

    /// Takes samples; `row` gets the energies, one a band, of every window that they complete.
    pub fn push(&mut self, samples: &[i16], mut row: impl FnMut(&[f32])) {
        for &sample in samples {
            if let Some(place) = self.samples.get_mut(self.filled) {
                *place = f32::from(sample);
                self.filled += 1;
            }
            if self.filled == self.samples.len() {
                self.window();
                row(self.energies);
                self.samples.copy_within(self.hop.., 0);
                self.filled -= self.hop;
            }
        }
    }

    /// Begins another stream.
    pub fn reset(&mut self) {
        self.filled = 0;
    }

    /// Number of bands.
    pub fn bins(&self) -> usize {
        self.bins
    }

    /// The energies of the window at hand.
    fn window(&mut self) {
        let sum: f32 = self.samples.iter().sum();
        let mean = sum / self.samples.len() as f32;
        let mut buffer = [0.0; FFT];
        // Before the first sample is the first one again.
        let mut before = self.samples.first().map_or(0.0, |first| first - mean);
        let tapered = buffer.iter_mut().zip(self.samples.iter().zip(self.taper));
        for (to, (sample, taper)) in tapered {
            let centred = sample - mean;
            *to = (centred - PREEMPHASIS * before) * taper;
            before = centred;
        }
        let spectrum = microfft::real::rfft_512(&mut buffer);
        // The value at the highest frequency is packed beside that at 0, which is real.
        spectrum[0].im = 0.0;
        self.energies.fill(0.0);
        for (value, &place) in spectrum.iter().zip(self.places) {
            let power = value.re * value.re + value.im * value.im;
            if place <= 0.0 || place >= (self.bins + 1) as f32 {
                continue;
            }
            let band = place as usize;
            let above = place - band as f32;
            if let Some(energy) = self.energies.get_mut(band) {
                *energy += above * power;
            }
            if let Some(energy) = band.checked_sub(1).and_then(|b| self.energies.get_mut(b)) {
                *energy += (1.0 - above) * power;
            }
        }
        for energy in self.energies.iter_mut() {
            let floored = if *energy > f32::EPSILON {
                *energy
            } else {
                f32::EPSILON
            };
            *energy = math::ln(floored);
        }
    }
}

/// Brings the energies of a stream to a mean of 0 in each band, whatever the microphone and the room: subtracts the mean of
/// what came so far, in which the past fades once there is enough of it, and which begins at a mean that is expected.
#[derive(Debug)]
pub struct RunningMean<'m> {
    mean: &'m mut [f32],
    /// Rows that the mean counts for.
    rows: f32,
    /// The most of them.
    memory: f32,
}

impl<'m> RunningMean<'m> {
    /// Begins at the values in `mean`, one a band, which count for `prior` rows; from `memory` rows on the past fades.
    pub fn new(mean: &'m mut [f32], prior: u32, memory: u32) -> Self {
        RunningMean {
            mean,
            rows: prior as f32,
            memory: memory.max(1) as f32,
        }
    }

    /// Takes the mean, this row included, from the row.
    pub fn apply(&mut self, row: &mut [f32]) {
        self.rows = if self.rows + 1.0 < self.memory {
            self.rows + 1.0
        } else {
            self.memory
        };
        for (value, mean) in row.iter_mut().zip(self.mean.iter_mut()) {
            *mean += (*value - *mean) / self.rows;
            *value -= *mean;
        }
    }
}

/// Why there are no energies. `Display` is one line for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogMelError {
    /// The window has so many samples.
    Window(u32),
    /// Too little working memory.
    Memory {
        /// Floats given.
        got: usize,
        /// Floats needed.
        want: usize,
    },
}

impl fmt::Display for LogMelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogMelError::Window(samples) => write!(
                f,
                "log-mel windows of {samples} samples are not computed; export the model with 257 to 512, and a shorter hop"
            ),
            LogMelError::Memory { got, want } => {
                write!(
                    f,
                    "{got} floats of working memory, and log-mel needs {want}; give more"
                )
            }
        }
    }
}

impl core::error::Error for LogMelError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const MEL: Mel = Mel {
        sample_rate: 16_000,
        bins: 80,
        window: 400,
        hop: 160,
        low_hz: 20.0,
        high_hz: 8000.0,
    };

    fn rows(samples: &[i16], block: usize) -> Vec<Vec<f32>> {
        let mut memory = std::vec![0.0; LogMel::memory(&MEL).unwrap()];
        let mut mel = LogMel::new(&MEL, &mut memory).unwrap();
        let mut rows = Vec::new();
        for block in samples.chunks(block) {
            mel.push(block, |row| rows.push(row.to_vec()));
        }
        rows
    }

    fn tone(hz: f64, len: usize) -> Vec<i16> {
        let value = |i| (8000.0 * (i as f64 * hz * core::f64::consts::TAU / 16_000.0).sin()) as i16;
        (0..len).map(value).collect()
    }

    #[test]
    fn blocks_of_any_size_give_the_same_bits() {
        let samples = tone(440.0, 4000);
        let whole = rows(&samples, 4000);
        assert_eq!(whole.len(), (4000 - 400) / 160 + 1);
        for block in [1, 7, 160, 399, 401] {
            assert_eq!(rows(&samples, block), whole, "{block}");
        }
    }

    #[test]
    fn a_tone_is_loudest_in_its_band() {
        for hz in [300.0, 1000.0, 3000.0, 7000.0] {
            let row = &rows(&tone(hz, 400), 400)[0];
            let loudest = (0..80).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            let scale = |hz: f64| 1127.0 * (1.0 + hz / 700.0).ln();
            let width = (scale(8000.0) - scale(20.0)) / 81.0;
            let centre = (scale(hz) - scale(20.0)) / width - 1.0;
            assert!(
                (loudest as f64 - centre).abs() < 1.0,
                "{hz}: {loudest} {centre}"
            );
        }
    }

    #[test]
    fn silence_has_the_least_energy_and_no_infinity() {
        for constant in [0, 1000, i16::MIN] {
            let row = &rows(&[constant; 400], 400)[0];
            assert!(row.iter().all(|v| *v == f32::EPSILON.ln()), "{constant}");
        }
    }

    #[test]
    fn the_mean_goes_and_the_past_fades() {
        let mut prior = [10.0, 0.0];
        let mut mean = RunningMean::new(&mut prior, 1, 4);
        let mut row = [20.0, 1.0];
        mean.apply(&mut row);
        assert_eq!(row, [5.0, 0.5]);
        for _ in 0..100 {
            row = [3.0, -1.0];
            mean.apply(&mut row);
        }
        assert!(row.iter().all(|v| v.abs() < 1e-5), "{row:?}");
        // A step: the first row after it keeps three quarters of it.
        row = [7.0, -1.0];
        mean.apply(&mut row);
        assert!((row[0] - 3.0).abs() < 1e-5, "{row:?}");
    }

    #[test]
    fn other_windows_and_little_memory_are_refused() {
        for (window, hop) in [(256, 160), (513, 160), (400, 401), (400, 0)] {
            let mel = Mel { window, hop, ..MEL };
            assert_eq!(LogMel::memory(&mel), Err(LogMelError::Window(window)));
        }
        let want = LogMel::memory(&MEL).unwrap();
        let mut memory = std::vec![0.0; want - 1];
        let error = LogMel::new(&MEL, &mut memory).unwrap_err();
        let got = want - 1;
        assert_eq!(error, LogMelError::Memory { got, want });
    }
}
