//! Phonemes to moving lips: targets per phoneme, blended by dominance functions (Cohen and
//! Massaro 1993, "Modeling coarticulation in synthetic visual speech").
//!
//! Each phoneme has a target and a dominance for every articulator. At any time the
//! articulator is the average of all nearby targets, weighted by `a * exp(-(|t| / w)^1.5)`,
//! t seconds from the phoneme. Sounds that need a closure (p b m, f v) close the lips by a
//! gate on top of it, since an average never quite closes.

use crate::math::{exp, lerp, smooth};
use crate::phoneme::{Manner, Phoneme};
use crate::rng::Rng;
use crate::speaker::{CHANNELS, Style};
use crate::timing::{Segment, Timeline};

/// The mouth at one moment. 0 is at rest; 1 is about the most speech ever does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mouth {
    /// Jaw lowered.
    pub jaw: f32,
    /// Upper lip raised.
    pub raise: f32,
    /// Lower lip lowered relative to the jaw.
    pub drop: f32,
    /// Corners apart (+) or together (−).
    pub spread: f32,
    /// Lips rounded and pushed forward.
    pub round: f32,
    /// Lower lip tucked under the upper teeth (f, v).
    pub tuck: f32,
    /// Tongue tip at the upper teeth; near 1 between them (th).
    pub tip: f32,
    /// Tongue body raised.
    pub body: f32,
    /// Lips shut (1: touching, whatever the other channels say).
    pub closure: f32,
    /// Lips pressed together, beyond touching.
    pub press: f32,
}

impl Mouth {
    fn from_channels(c: [f32; CHANNELS]) -> Self {
        Self {
            jaw: c[0].max(0.0),
            raise: c[1].max(0.0),
            drop: c[2].max(0.0),
            spread: c[3].clamp(-1.2, 1.2),
            round: c[4].clamp(0.0, 1.3),
            tuck: c[5].clamp(0.0, 1.0),
            tip: c[6].clamp(0.0, 1.1),
            body: c[7].clamp(0.0, 1.0),
            closure: 0.0,
            press: 0.0,
        }
    }

    /// Height of the opening between the lips, 0 (shut) to about 1.
    #[must_use]
    pub fn opening(&self) -> f32 {
        let open = 0.28 * self.raise + 0.62 * self.jaw + 0.32 * self.drop;
        open * (1.0 - self.closure)
    }
}

/// Target of one phoneme: where its articulators are at its start and end (diphthongs
/// move), and how strongly lips, jaw and tongue insist.
struct Target {
    start: [f32; CHANNELS],
    end: [f32; CHANNELS],
    jaw: f32,
    lips: f32,
    round: f32,
    tongue: f32,
}

/// Targets in the order jaw, raise, drop, spread, round, tuck, tip, body.
fn target(phoneme: Phoneme) -> Target {
    use Phoneme::*;
    let steady = |c: [f32; CHANNELS], jaw, lips, round, tongue| Target {
        start: c,
        end: c,
        jaw,
        lips,
        round,
        tongue,
    };
    let vowel = |c| steady(c, 1.0, 1.0, 1.0, 0.8);
    let glide = |start, end| Target {
        start,
        end,
        jaw: 1.1,
        lips: 1.1,
        round: 1.2,
        tongue: 0.8,
    };
    const IH_END: [f32; CHANNELS] = [0.22, 0.32, 0.32, 0.6, 0.0, 0.0, 0.25, 0.7];
    const UH_END: [f32; CHANNELS] = [0.18, 0.2, 0.2, -0.65, 0.85, 0.0, 0.0, 0.4];
    match phoneme {
        Sil => steady(
            [0.02, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3],
            0.7,
            0.8,
            0.6,
            0.4,
        ),
        Aa => vowel([0.82, 0.3, 0.36, 0.05, 0.05, 0.0, 0.0, 0.1]),
        Ae => vowel([0.64, 0.42, 0.42, 0.45, 0.0, 0.0, 0.1, 0.35]),
        Ah => vowel([0.52, 0.3, 0.3, 0.1, 0.05, 0.0, 0.1, 0.3]),
        Ao => vowel([0.55, 0.25, 0.3, -0.45, 0.6, 0.0, 0.0, 0.2]),
        Ax => steady(
            [0.28, 0.22, 0.22, 0.05, 0.05, 0.0, 0.15, 0.4],
            0.5,
            0.45,
            0.3,
            0.4,
        ),
        Eh => vowel([0.48, 0.38, 0.38, 0.4, 0.0, 0.0, 0.15, 0.5]),
        Er => vowel([0.32, 0.26, 0.26, -0.2, 0.35, 0.0, 0.1, 0.5]),
        Ih => vowel([0.28, 0.3, 0.3, 0.45, 0.0, 0.0, 0.25, 0.6]),
        Iy => vowel([0.18, 0.36, 0.38, 0.8, 0.0, 0.0, 0.3, 0.8]),
        Uh => vowel([0.3, 0.2, 0.25, -0.4, 0.5, 0.0, 0.0, 0.4]),
        Uw => steady(
            [0.16, 0.2, 0.22, -0.8, 0.95, 0.0, 0.0, 0.5],
            1.0,
            1.1,
            1.4,
            0.7,
        ),
        Aw => glide([0.78, 0.3, 0.36, 0.1, 0.05, 0.0, 0.0, 0.1], UH_END),
        Ay => glide([0.76, 0.32, 0.38, 0.12, 0.0, 0.0, 0.0, 0.15], IH_END),
        Ey => glide([0.44, 0.38, 0.38, 0.4, 0.0, 0.0, 0.15, 0.5], IH_END),
        Ow => glide([0.44, 0.26, 0.28, -0.3, 0.4, 0.0, 0.0, 0.3], UH_END),
        Oy => glide([0.52, 0.25, 0.3, -0.5, 0.65, 0.0, 0.0, 0.2], IH_END),
        P => steady(
            [0.06, 0.0, 0.0, 0.0, 0.1, 0.0, 0.0, 0.3],
            0.7,
            0.5,
            0.1,
            0.1,
        ),
        B => steady(
            [0.1, 0.0, 0.0, 0.0, 0.05, 0.0, 0.0, 0.3],
            0.6,
            0.45,
            0.1,
            0.1,
        ),
        M => steady(
            [0.08, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0, 0.3],
            0.7,
            0.55,
            0.1,
            0.1,
        ),
        F => steady(
            [0.1, 0.4, 0.02, 0.1, 0.05, 1.0, 0.0, 0.3],
            0.9,
            1.6,
            0.3,
            0.1,
        ),
        V => steady(
            [0.12, 0.34, 0.05, 0.1, 0.05, 0.95, 0.0, 0.3],
            0.8,
            1.4,
            0.3,
            0.1,
        ),
        Th => steady(
            [0.2, 0.28, 0.32, 0.15, 0.0, 0.0, 1.1, 0.5],
            0.8,
            0.6,
            0.2,
            2.5,
        ),
        Dh => steady(
            [0.2, 0.28, 0.3, 0.1, 0.0, 0.0, 1.0, 0.5],
            0.7,
            0.5,
            0.15,
            2.2,
        ),
        T => steady(
            [0.07, 0.28, 0.34, 0.2, 0.0, 0.0, 0.7, 0.6],
            0.9,
            0.4,
            0.12,
            2.0,
        ),
        D => steady(
            [0.16, 0.25, 0.27, 0.15, 0.0, 0.0, 0.76, 0.6],
            0.8,
            0.35,
            0.12,
            2.0,
        ),
        N => steady(
            [0.15, 0.26, 0.28, 0.1, 0.0, 0.0, 0.72, 0.5],
            0.7,
            0.3,
            0.1,
            2.0,
        ),
        L => steady(
            [0.27, 0.3, 0.32, 0.1, 0.0, 0.0, 0.85, 0.3],
            0.7,
            0.45,
            0.1,
            2.2,
        ),
        S => steady(
            [0.03, 0.38, 0.42, 0.38, 0.0, 0.0, 0.45, 0.6],
            1.4,
            0.8,
            0.25,
            1.2,
        ),
        Z => steady(
            [0.04, 0.36, 0.4, 0.35, 0.0, 0.0, 0.45, 0.6],
            1.3,
            0.7,
            0.2,
            1.2,
        ),
        Sh | Zh => steady(
            [0.06, 0.42, 0.48, -0.35, 0.6, 0.0, 0.3, 0.7],
            1.3,
            1.1,
            0.9,
            1.0,
        ),
        Ch | Jh => steady(
            [0.06, 0.42, 0.46, -0.3, 0.55, 0.0, 0.4, 0.7],
            1.3,
            1.0,
            0.9,
            1.2,
        ),
        K => steady(
            [0.2, 0.28, 0.3, 0.1, 0.0, 0.0, 0.05, 0.7],
            0.5,
            0.25,
            0.05,
            1.0,
        ),
        G | Ng => steady(
            [0.27, 0.25, 0.25, 0.1, 0.0, 0.0, 0.05, 0.7],
            0.4,
            0.22,
            0.05,
            1.0,
        ),
        Hh => steady(
            [0.4, 0.25, 0.25, 0.0, 0.0, 0.0, 0.1, 0.3],
            0.15,
            0.12,
            0.05,
            0.2,
        ),
        R => steady(
            [0.16, 0.22, 0.28, -0.35, 0.55, 0.0, 0.1, 0.5],
            0.8,
            0.8,
            0.9,
            0.8,
        ),
        W => steady(
            [0.1, 0.1, 0.12, -0.9, 1.05, 0.0, 0.0, 0.4],
            0.9,
            1.4,
            1.8,
            0.5,
        ),
        Y => steady(
            [0.14, 0.32, 0.34, 0.65, 0.0, 0.0, 0.3, 0.85],
            0.7,
            0.6,
            0.5,
            0.9,
        ),
    }
}

/// Which dominance rules a channel.
fn insistence(target: &Target, channel: usize) -> f32 {
    match channel {
        0 => target.jaw,
        1 | 2 | 5 => target.lips,
        3 | 4 => target.round,
        _ => target.tongue,
    }
}

/// A phoneme ready for blending.
struct Gesture {
    centre: f32,
    start: f32,
    end: f32,
    /// Seconds on either side of the centre where the dominance is full.
    hold: f32,
    /// Reach before and after, seconds.
    reach: (f32, f32),
    from: [f32; CHANNELS],
    to: [f32; CHANNELS],
    weight: [f32; CHANNELS],
    shut: Shut,
}

#[derive(Clone, Copy, PartialEq)]
enum Shut {
    No,
    /// p b m: closure and how hard the lips press.
    Lips(f32),
    /// f v: the lower lip meets the teeth.
    Teeth,
}

/// A short voluntary movement outside speech.
struct Idle {
    centre: f32,
    half: f32,
    delta: [f32; CHANNELS],
    press: f32,
}

/// The movements of a whole clip.
pub struct Articulation {
    gestures: Vec<Gesture>,
    idles: Vec<Idle>,
    rest: [f32; CHANNELS],
    gains: [f32; CHANNELS],
}

/// Seconds outside of which a phoneme has no influence.
const HORIZON: f32 = 0.32;

impl Articulation {
    /// Plans the movements for `timeline` in this speaker's `style`.
    pub(crate) fn new(timeline: &Timeline, style: &Style, rng: &mut Rng) -> Self {
        let gestures = timeline
            .segments
            .iter()
            .map(|segment| gesture(segment, style, rng))
            .collect();
        let mut rest = [0.0; CHANNELS];
        rest[0] = style.rest_open * 0.6;
        rest[1] = style.rest_open * 0.5;
        rest[2] = style.rest_open;
        rest[3] = style.rest_spread;
        Self {
            gestures,
            idles: idles(timeline, rng),
            rest,
            gains: style.gains,
        }
    }

    /// The mouth at `t` seconds.
    #[must_use]
    pub fn mouth_at(&self, t: f32) -> Mouth {
        let mut sum = [0.0_f32; CHANNELS];
        let mut total = [1e-6_f32; CHANNELS];
        let (mut closure, mut press, mut teeth) = (0.0_f32, 0.0_f32, 0.0_f32);
        for gesture in &self.gestures {
            // Distance from the phoneme's inner part, so that long ones hold their target.
            let (distance, reach) = if t < gesture.centre {
                (gesture.centre - gesture.hold - t, gesture.reach.0)
            } else {
                (t - gesture.centre - gesture.hold, gesture.reach.1)
            };
            let distance = distance.max(0.0);
            if distance > HORIZON {
                continue;
            }
            let x = f64::from(distance / reach);
            let dominance = exp(-(x * x.sqrt())) as f32;
            let phase = smooth((t - gesture.start) / (gesture.end - gesture.start));
            for c in 0..CHANNELS {
                let weight = dominance * gesture.weight[c];
                sum[c] += weight * lerp(gesture.from[c], gesture.to[c], phase);
                total[c] += weight;
            }
            match gesture.shut {
                Shut::No => {}
                Shut::Lips(force) => {
                    let gate = gate(gesture, t, 0.034);
                    closure = closure.max(gate);
                    press = press.max(gate * force);
                }
                Shut::Teeth => teeth = teeth.max(gate(gesture, t, 0.04)),
            }
        }
        let mut channels: [f32; CHANNELS] =
            core::array::from_fn(|c| self.gains[c] * sum[c] / total[c]);
        for idle in &self.idles {
            let x = (t - idle.centre) / idle.half;
            let amount = smooth(1.0 - x.abs());
            for (channel, delta) in channels.iter_mut().zip(idle.delta) {
                *channel += amount * delta;
            }
            press = press.max(amount * idle.press);
            closure = closure.max(smooth(amount * idle.press * 2.0));
        }
        for (channel, rest) in channels.iter_mut().zip(self.rest) {
            *channel += rest;
        }
        channels[5] = channels[5].max(teeth);
        let mut mouth = Mouth::from_channels(channels);
        // The tucked lip follows the teeth, not the jaw.
        mouth.drop *= 1.0 - 0.8 * mouth.tuck;
        mouth.closure = closure.min(1.0);
        mouth.press = press.min(1.0);
        mouth
    }
}

/// 1 while the closure of `gesture` lasts, with ramps of `ramp` seconds around it.
fn gate(gesture: &Gesture, t: f32, ramp: f32) -> f32 {
    let length = gesture.end - gesture.start;
    let opens = gesture.start + 0.72 * length;
    let rise = smooth((t - (gesture.start - ramp)) / ramp);
    let fall = smooth((opens + ramp - t) / ramp);
    rise.min(fall)
}

fn gesture(segment: &Segment, style: &Style, rng: &mut Rng) -> Gesture {
    let phoneme = segment.phoneme;
    let target = target(phoneme);
    let length = segment.end - segment.start;
    let habit = style.habits[phoneme as usize];
    let silent = phoneme.manner() == Manner::Silence;
    let slip: [f32; CHANNELS] = core::array::from_fn(|c| {
        if silent {
            0.0
        } else {
            habit[c] + 0.03 * rng.normal()
        }
    });
    let apply = |values: [f32; CHANNELS]| core::array::from_fn(|c| values[c] + slip[c]);
    let reach = style.blur * (0.028 + 0.30 * length.min(0.16));
    let rounded = target.round > 1.3;
    Gesture {
        centre: 0.5 * (segment.start + segment.end),
        start: segment.start,
        end: segment.end,
        hold: if silent {
            (0.5 * length - 0.06).max(0.0)
        } else {
            0.25 * length
        },
        // Lip rounding is prepared early; everything lingers a little.
        reach: (if rounded { reach * 1.35 } else { reach }, reach * 1.12),
        from: apply(target.start),
        to: apply(target.end),
        weight: core::array::from_fn(|c| insistence(&target, c) * (1.0 + 0.1 * rng.normal())),
        // Voiceless stops are held harder than voiced ones, those harder than m.
        shut: match phoneme {
            Phoneme::P => Shut::Lips(rng.range(0.65, 1.0)),
            Phoneme::B => Shut::Lips(rng.range(0.25, 0.6)),
            Phoneme::M => Shut::Lips(rng.range(0.15, 0.5)),
            Phoneme::F | Phoneme::V => Shut::Teeth,
            _ => Shut::No,
        },
    }
}

/// Breaths before speech, lips pressed or a smile afterwards: things that are no words.
fn idles(timeline: &Timeline, rng: &mut Rng) -> Vec<Idle> {
    let mut idles = Vec::new();
    let Some((first, last)) = timeline.words.first().zip(timeline.words.last()) else {
        return idles;
    };
    let (begin, end) = (first.0, last.1);
    if rng.chance(0.45) {
        // An opening to breathe in, just before the first word.
        let size = rng.range(0.1, 0.5);
        let half = rng.range(0.08, 0.2);
        let mut delta = [0.0; CHANNELS];
        delta[0] = 0.6 * size;
        delta[1] = 0.5 * size;
        delta[2] = 0.6 * size;
        idles.push(Idle {
            centre: begin - rng.range(0.8, 2.0) * half,
            half,
            delta,
            press: 0.0,
        });
    }
    let mut quiet = vec![(0.0, begin)];
    quiet.push((end, timeline.seconds));
    for (from, to) in quiet {
        if to - from < 0.35 || !rng.chance(0.35) {
            continue;
        }
        let half = rng.range(0.1, 0.35);
        let mut delta = [0.0; CHANNELS];
        let mut press = 0.0;
        if rng.chance(0.5) {
            press = rng.range(0.2, 0.9);
        } else {
            delta[3] = rng.range(-0.35, 0.5);
            delta[2] = rng.range(0.0, 0.15);
        }
        idles.push(Idle {
            centre: rng.range(from + 0.15, to - 0.1),
            half,
            delta,
            press,
        });
    }
    idles
}
