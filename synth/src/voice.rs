//! A small formant synthesiser (after Klatt 1980, "Software for a cascade/parallel formant
//! synthesizer"): a glottal pulse train through four cascaded resonators, and noise through
//! one resonator for hisses and bursts.

use crate::math::{Wander, cos_turns, exp, lerp, smooth};
use crate::phoneme::{Manner, Phoneme};
use crate::rng::Rng;
use crate::speaker::Voice;
use crate::timing::{Segment, Timeline, begins_silent};

/// Samples a second of every synthetic voice.
pub const SAMPLE_RATE: u32 = 16_000;

/// Samples between two settings of the synthesiser (5 ms).
const STEP: usize = 80;

/// The synthesiser's settings at one moment.
#[derive(Clone, Copy, Debug)]
struct Setting {
    formants: [f32; 3],
    /// Loudness of voice, breath and hiss.
    voicing: f32,
    aspiration: f32,
    frication: f32,
    /// Centre and bandwidth of the hiss, Hz.
    hiss: (f32, f32),
    nasal: f32,
}

/// Formants of a phoneme (Hz, long vocal tract) at its start and end.
fn formants(phoneme: Phoneme) -> ([f32; 3], [f32; 3]) {
    use Phoneme::*;
    let same = |f: [f32; 3]| (f, f);
    match phoneme {
        Sil | Hh => same([500.0, 1450.0, 2450.0]),
        Aa => same([700.0, 1150.0, 2500.0]),
        Ae => same([690.0, 1680.0, 2450.0]),
        Ah => same([640.0, 1230.0, 2500.0]),
        Ao => same([520.0, 880.0, 2450.0]),
        Ax => same([500.0, 1450.0, 2450.0]),
        Eh => same([560.0, 1800.0, 2500.0]),
        Er => same([490.0, 1380.0, 2300.0]),
        Ih => same([400.0, 1950.0, 2560.0]),
        Iy => same([290.0, 2250.0, 2950.0]),
        Uh => same([430.0, 1050.0, 2300.0]),
        Uw => same([320.0, 1000.0, 2250.0]),
        Aw => ([720.0, 1300.0, 2500.0], [420.0, 950.0, 2350.0]),
        Ay => ([710.0, 1250.0, 2500.0], [380.0, 1950.0, 2550.0]),
        Ey => ([530.0, 1800.0, 2500.0], [350.0, 2150.0, 2700.0]),
        Ow => ([540.0, 1150.0, 2400.0], [370.0, 900.0, 2300.0]),
        Oy => ([500.0, 900.0, 2450.0], [390.0, 1900.0, 2550.0]),
        P | B => same([320.0, 900.0, 2250.0]),
        M => same([280.0, 950.0, 2200.0]),
        F | V => same([330.0, 1100.0, 2200.0]),
        Th | Dh => same([330.0, 1350.0, 2500.0]),
        T | D => same([320.0, 1750.0, 2650.0]),
        N => same([280.0, 1600.0, 2550.0]),
        L => same([350.0, 1150.0, 2700.0]),
        S | Z => same([320.0, 1600.0, 2600.0]),
        Sh | Zh | Ch | Jh => same([320.0, 1800.0, 2450.0]),
        K | G => same([320.0, 1900.0, 2350.0]),
        Ng => same([280.0, 1900.0, 2400.0]),
        R => same([340.0, 1150.0, 1600.0]),
        W => same([310.0, 700.0, 2200.0]),
        Y => same([280.0, 2200.0, 2900.0]),
    }
}

/// Loudness, centre and bandwidth of a phoneme's noise.
fn hiss(phoneme: Phoneme) -> (f32, f32, f32) {
    use Phoneme::*;
    match phoneme {
        S => (0.50, 6200.0, 1600.0),
        Z => (0.30, 6000.0, 1600.0),
        Sh | Ch => (0.55, 3200.0, 1200.0),
        Zh | Jh => (0.32, 3100.0, 1200.0),
        F => (0.16, 4800.0, 5000.0),
        V => (0.06, 4500.0, 5000.0),
        Th => (0.13, 5600.0, 4500.0),
        Dh => (0.05, 5200.0, 4500.0),
        T => (0.60, 4400.0, 2200.0),
        D => (0.40, 4000.0, 2200.0),
        K => (0.50, 2100.0, 900.0),
        G => (0.35, 2000.0, 900.0),
        P => (0.40, 900.0, 1600.0),
        B => (0.26, 800.0, 1500.0),
        _ => (0.0, 3000.0, 2000.0),
    }
}

/// Speaks `timeline`: mono samples at [`SAMPLE_RATE`] for its whole length.
pub(crate) fn speak(timeline: &Timeline, voice: &Voice, rng: &mut Rng) -> Vec<i16> {
    let samples = (timeline.seconds * SAMPLE_RATE as f32 + 0.5) as usize;
    let steps = samples.div_ceil(STEP) + 1;
    let settings = settings(timeline, voice, steps);
    let pitch = Pitch::new(timeline, voice, rng);
    let mut tract = Tract::new(voice);
    let mut wave = Vec::with_capacity(samples);
    let mut glottis = Glottis { phase: 0.0 };
    for (step, pair) in settings.windows(2).enumerate() {
        tract.set(&pair[1], voice);
        let f0 = pitch.at(step as f32 * STEP as f32 / SAMPLE_RATE as f32);
        for k in 0..STEP {
            if wave.len() == samples {
                break;
            }
            let x = k as f32 / STEP as f32;
            let voicing = lerp(pair[0].voicing, pair[1].voicing, x);
            let aspiration = lerp(pair[0].aspiration, pair[1].aspiration, x);
            let frication = lerp(pair[0].frication, pair[1].frication, x);
            let noise = rng.normal();
            let pulse = glottis.next(f0);
            let breath = noise * (aspiration + voice.breath * voicing * 0.5);
            wave.push(tract.next(voicing * pulse + 0.35 * breath, frication * noise));
        }
    }
    finish(&wave, voice, rng)
}

/// Scales to a common loudness, adds the room's noise and rounds to 16 bits.
fn finish(wave: &[f64], voice: &Voice, rng: &mut Rng) -> Vec<i16> {
    let peak = wave.iter().fold(0.0_f64, |peak, x| peak.max(x.abs()));
    let gain = if peak > 1e-6 { 0.5 / peak } else { 0.0 };
    wave.iter()
        .map(|x| {
            let noisy = x * gain + f64::from(voice.noise * rng.normal());
            (noisy * 32_767.0).clamp(-32_768.0, 32_767.0) as i16
        })
        .collect()
}

/// Settings every 5 ms, transitions smoothed.
fn settings(timeline: &Timeline, voice: &Voice, steps: usize) -> Vec<Setting> {
    let mut settings = Vec::with_capacity(steps);
    let mut index = 0;
    let segments = &timeline.segments;
    for step in 0..steps {
        let t = step as f32 * STEP as f32 / SAMPLE_RATE as f32;
        while index + 1 < segments.len() && t >= segments[index].end {
            index += 1;
        }
        let next = segments.get(index + 1).map_or(Phoneme::Sil, |s| s.phoneme);
        settings.push(setting(&segments[index], next, t, voice));
    }
    // Formants and loudness glide: one-pole smoothing forward, then backward.
    for i in 1..steps {
        let before = settings[i - 1];
        settings[i].follow(&before);
    }
    for i in (0..steps.saturating_sub(1)).rev() {
        let after = settings[i + 1];
        settings[i].follow(&after);
    }
    settings
}

impl Setting {
    fn follow(&mut self, other: &Self) {
        for (mine, theirs) in self.formants.iter_mut().zip(other.formants) {
            *mine = lerp(*mine, theirs, 0.62);
        }
        self.voicing = lerp(self.voicing, other.voicing, 0.35);
        self.aspiration = lerp(self.aspiration, other.aspiration, 0.3);
        self.frication = lerp(self.frication, other.frication, 0.2);
        self.nasal = lerp(self.nasal, other.nasal, 0.4);
    }
}

fn setting(segment: &Segment, next: Phoneme, t: f32, voice: &Voice) -> Setting {
    let phoneme = segment.phoneme;
    let phase = ((t - segment.start) / (segment.end - segment.start)).clamp(0.0, 1.0);
    let (from, to) = formants(phoneme);
    let glide = smooth(phase);
    let (noise, centre, bandwidth) = hiss(phoneme);
    let mut out = Setting {
        formants: core::array::from_fn(|k| lerp(from[k], to[k], glide) * voice.formants),
        voicing: 0.0,
        aspiration: 0.0,
        frication: 0.0,
        hiss: ((centre * voice.formants).min(7400.0), bandwidth),
        nasal: 0.0,
    };
    match phoneme.manner() {
        Manner::Silence => {}
        Manner::Vowel | Manner::Diphthong => out.voicing = 1.0,
        Manner::Approximant => out.voicing = 0.7,
        Manner::Nasal => {
            out.voicing = 0.55;
            out.nasal = 1.0;
        }
        Manner::Fricative => {
            out.frication = noise;
            out.voicing = if phoneme.voiced() { 0.4 } else { 0.0 };
            out.aspiration = if phoneme == Phoneme::Hh { 0.5 } else { 0.0 };
        }
        Manner::Affricate => {
            out.frication = if phase > 0.4 { noise } else { 0.0 };
            out.voicing = if phoneme.voiced() { 0.2 } else { 0.0 };
        }
        Manner::Plosive => {
            let burst = if phoneme.voiced() { 0.78 } else { 0.55 };
            if phase > burst {
                out.frication = noise * (1.0 - 0.7 * (phase - burst) / (1.0 - burst));
                if !phoneme.voiced() && next.is_vowel() {
                    out.aspiration = 0.35;
                }
            }
            out.voicing = if phoneme.voiced() { 0.12 } else { 0.0 };
        }
    }
    debug_assert!(!begins_silent(phoneme) || phase > 0.3 || out.frication == 0.0);
    out
}

/// The melody: falling over the sentence, raised on every word's vowels.
struct Pitch {
    f0: f32,
    melody: f32,
    begin: f32,
    length: f32,
    accents: Vec<(f32, f32)>,
    wander: Wander,
}

impl Pitch {
    fn new(timeline: &Timeline, voice: &Voice, rng: &mut Rng) -> Self {
        let begin = timeline.words.first().map_or(0.0, |w| w.0);
        let end = timeline.words.last().map_or(1.0, |w| w.1);
        let accents = timeline
            .words
            .iter()
            .map(|(start, end, _)| (0.5 * (start + end), rng.range(-0.01, 0.07)))
            .collect();
        Self {
            f0: voice.f0,
            melody: voice.melody,
            begin,
            length: (end - begin).max(0.1),
            accents,
            wander: Wander::new(rng, 0.008, 8.0),
        }
    }

    fn at(&self, t: f32) -> f32 {
        let along = ((t - self.begin) / self.length).clamp(0.0, 1.0);
        let mut relative = 0.07 - 0.18 * along;
        for &(centre, size) in &self.accents {
            let x = (t - centre) / 0.14;
            relative += size * smooth(1.0 - x.abs());
        }
        self.f0 * (1.0 + self.melody * relative + self.wander.at(f64::from(t)))
    }
}

/// Pulses of the vocal folds: the derivative of a cubic flow pulse.
struct Glottis {
    phase: f32,
}

impl Glottis {
    fn next(&mut self, f0: f32) -> f32 {
        self.phase += f0 / SAMPLE_RATE as f32;
        if self.phase >= 1.0 {
            self.phase -= 1.0;
        }
        let open = self.phase / 0.62;
        if open < 1.0 {
            open * (2.0 - 3.0 * open)
        } else {
            0.0
        }
    }
}

/// A two-pole resonance with unit gain at 0 Hz.
#[derive(Clone, Copy, Default)]
struct Resonator {
    a: f64,
    b: f64,
    c: f64,
    y1: f64,
    y2: f64,
}

impl Resonator {
    fn tune(&mut self, hz: f32, bandwidth: f32) {
        let step = 1.0 / f64::from(SAMPLE_RATE);
        let radius = exp(-core::f64::consts::PI * f64::from(bandwidth) * step);
        self.c = -radius * radius;
        self.b = 2.0 * radius * cos_turns(f64::from(hz) * step);
        self.a = 1.0 - self.b - self.c;
    }

    fn next(&mut self, x: f64) -> f64 {
        let y = self.a * x + self.b * self.y1 + self.c * self.y2;
        self.y2 = self.y1;
        self.y1 = y;
        y
    }
}

/// Throat and mouth.
struct Tract {
    cascade: [Resonator; 4],
    hiss: Resonator,
    hiss_gain: f64,
}

impl Tract {
    fn new(voice: &Voice) -> Self {
        let mut cascade = [Resonator::default(); 4];
        cascade[3].tune((3500.0 * voice.formants).min(7000.0), 250.0);
        Self {
            cascade,
            hiss: Resonator::default(),
            hiss_gain: 0.0,
        }
    }

    fn set(&mut self, setting: &Setting, _voice: &Voice) {
        let widths = [
            70.0 + 90.0 * setting.nasal,
            100.0 + 120.0 * setting.nasal,
            160.0,
        ];
        for (k, width) in widths.into_iter().enumerate() {
            self.cascade[k].tune(setting.formants[k].min(7000.0), width);
        }
        self.hiss.tune(setting.hiss.0, setting.hiss.1);
        // Unit gain at the peak instead of at 0 Hz, roughly.
        let radius2 = -self.hiss.c;
        self.hiss_gain = (1.0 - radius2) / self.hiss.a.abs().max(1e-6);
    }

    fn next(&mut self, voiced: f32, noise: f32) -> f64 {
        let mut x = f64::from(voiced);
        for resonator in &mut self.cascade {
            x = resonator.next(x);
        }
        x + 0.55 * self.hiss_gain * self.hiss.next(f64::from(noise))
    }
}
