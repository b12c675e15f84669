//! Synthetic speakers: looks, speaking style and voice, all drawn from one seed.
//!
//! Lengths are pixels of the 96x96 crop (the mean face of 256 pixels, where the eyes are
//! about 54 pixels apart); grey values are those of an 8-bit picture.

use crate::phoneme::Phoneme;
use crate::rng::Rng;

/// A person: the same seed gives the same face, habits and voice.
#[derive(Clone, Debug)]
pub struct Speaker {
    seed: u64,
    pub(crate) look: Look,
    pub(crate) style: Style,
    pub(crate) voice: Voice,
}

/// What the camera sees of a speaker.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// Grey of the lit cheek.
    pub skin: f32,
    /// How strongly shading shows (1 = typical).
    pub contrast: f32,
    /// Half the mouth's width at rest.
    pub half_width: f32,
    /// Thickness of the upper lip at its middle.
    pub upper_lip: f32,
    /// Thickness of the lower lip at its middle.
    pub lower_lip: f32,
    /// How much darker than skin the upper lip is.
    pub upper_tone: f32,
    /// How much darker than skin the lower lip is.
    pub lower_tone: f32,
    /// Brightness of the lower lip's highlight.
    pub gloss: f32,
    /// Darkness of the shadow under the lower lip, 0..1.
    pub lip_shadow: f32,
    /// How much the lower lip's lower edge blends into the chin, 0..1.
    pub soft_rim: f32,
    /// Depth of the cupid's bow.
    pub bow: f32,
    /// How far the upper lip's middle hangs below its sides.
    pub tubercle: f32,
    /// Height of the corners relative to the middle (positive: hanging).
    pub corner_drop: f32,
    /// Slope of the lip line (a crooked mouth), pixels per half width.
    pub tilt: f32,
    /// How much further one half opens than the other, −1..1.
    pub skew: f32,
    /// Grey of the mouth's inside.
    pub cavity: f32,
    /// Grey of the teeth.
    pub teeth: f32,
    /// How far the upper teeth reach below the resting lip line.
    pub teeth_length: f32,
    /// Width of an upper front tooth.
    pub tooth_width: f32,
    /// Contrast of the gaps between teeth, 0..1.
    pub tooth_gaps: f32,
    /// How far lower teeth hide behind the upper ones with the jaw shut.
    pub overbite: f32,
    /// Grey of the tongue.
    pub tongue: f32,
    /// Height of the nose base above the lip line.
    pub nose_height: f32,
    /// Half the distance between the nose wings.
    pub nose_half_width: f32,
    /// Height of the nose's tip over the cheeks.
    pub nose_length: f32,
    /// Darkness of the nose's underside, 0..1.
    pub nose_shade: f32,
    /// Darkness of the nostrils, 0..1.
    pub nostrils: f32,
    /// Depth of the folds from nose to mouth corners.
    pub folds: f32,
    /// Depth of the philtrum.
    pub philtrum: f32,
    /// Distance from the lip line to the chin's lower edge.
    pub chin: f32,
    /// Half the face's width at the height of the mouth.
    pub jaw_half_width: f32,
    /// Squareness of the jaw, 0 (pointed) to 1 (square).
    pub jaw_square: f32,
    /// Depth of the furrow under the lower lip.
    pub chin_furrow: f32,
    /// Height of the chin's ball.
    pub chin_ball: f32,
    /// Moustache and beard, 0 (none) to 1 (full): (upper lip, chin and cheeks).
    pub beard: (f32, f32),
    /// Grey of the hair.
    pub hair: f32,
    /// Strength of the skin's texture.
    pub texture: f32,
    /// Number of spots on the skin.
    pub spots: usize,
    /// Direction of the light: to the right (+), and down (+; lamps above are negative),
    /// relative to 1 towards the camera.
    pub light: (f32, f32),
    /// Share of the light that comes from everywhere.
    pub ambient: f32,
    /// Seed of the skin's texture.
    pub skin_seed: u64,
    /// Height of the mouth in the crop, from its middle (trackers differ).
    pub mouth_offset: f32,
}

/// How a speaker moves.
#[derive(Clone, Debug)]
pub(crate) struct Style {
    /// Length of everything, 1 = the corpus average, smaller = faster.
    pub tempo: f32,
    /// Relative spread of phoneme lengths.
    pub irregular: f32,
    /// Gain of each articulator, in the order of `Mouth`'s channels.
    pub gains: [f32; CHANNELS],
    /// Per-phoneme habits added to the targets.
    pub habits: Vec<[f32; CHANNELS]>,
    /// Width of the dominance functions, 1 = typical, larger = more blurred together.
    pub blur: f32,
    /// Lips a little open at rest.
    pub rest_open: f32,
    /// Resting width (a smile, or pursed).
    pub rest_spread: f32,
    /// Size of head movements, 1 = typical.
    pub sway: f32,
    /// Whether r is spoken after vowels.
    pub rhotic: bool,
    /// Probability of a pause between words.
    pub pauses: f32,
}

/// How a speaker sounds.
#[derive(Clone, Debug)]
pub(crate) struct Voice {
    /// Mean pitch, Hz.
    pub f0: f32,
    /// Formant scale: 1 for a long vocal tract, larger for shorter ones.
    pub formants: f32,
    /// Breathiness, 0..1.
    pub breath: f32,
    /// Liveliness of the melody, 1 = typical.
    pub melody: f32,
    /// Background noise, full scale = 1.
    pub noise: f32,
}

/// Number of articulators, see `Mouth`.
pub(crate) const CHANNELS: usize = 8;

/// Seeds of `unseen` speakers have this bit set, those of `train` speakers do not.
const UNSEEN: u64 = 1 << 63;

impl Speaker {
    /// The `index`-th speaker for training. Never equal to any `unseen` speaker.
    #[must_use]
    pub fn train(index: u64) -> Self {
        Self::from_seed(index & !UNSEEN)
    }

    /// The `index`-th speaker for measuring. Never equal to any `train` speaker.
    #[must_use]
    pub fn unseen(index: u64) -> Self {
        Self::from_seed(index | UNSEEN)
    }

    /// The speaker of this seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let low_voice = Rng::stream(seed, 1).chance(0.5);
        Self {
            seed,
            look: Look::draw(&mut Rng::stream(seed, 2), low_voice),
            style: Style::draw(&mut Rng::stream(seed, 3)),
            voice: Voice::draw(&mut Rng::stream(seed, 4), low_voice),
        }
    }

    /// The seed this speaker was made from.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Mean pitch of the voice, Hz.
    #[must_use]
    pub fn f0_hz(&self) -> f32 {
        self.voice.f0
    }

    /// A name for manifests: `train-N` or `unseen-N`.
    #[must_use]
    pub fn name(&self) -> String {
        let side = if self.seed & UNSEEN == 0 {
            "train"
        } else {
            "unseen"
        };
        format!("{side}-{}", self.seed & !UNSEEN)
    }
}

impl Look {
    fn draw(rng: &mut Rng, low_voice: bool) -> Self {
        // Most cameras expose faces alike; a few speakers are much darker or lighter.
        let skin = if rng.chance(0.7) {
            173.0 + 11.0 * rng.normal()
        } else {
            rng.range(90.0, 205.0)
        };
        let scale = skin / 158.0;
        let lips = (25.0 + 8.0 * rng.normal()).clamp(4.0, 50.0) * scale;
        let fullness = 1.0 + 0.28 * rng.normal();
        let upper_lip = (6.0 * fullness * (1.0 + 0.15 * rng.normal())).clamp(2.2, 11.0);
        let lower_lip = (8.0 * fullness * (1.0 + 0.15 * rng.normal())).clamp(3.6, 13.0);
        let shaven = !low_voice || rng.chance(0.5);
        let beard = if shaven {
            (0.0, 0.0)
        } else if rng.chance(0.6) {
            let stubble = rng.range(0.1, 0.5);
            (stubble, stubble * rng.range(0.5, 1.2))
        } else {
            let moustache = rng.range(0.0, 1.0);
            (moustache, rng.range(0.0, 1.0))
        };
        Self {
            skin: skin.clamp(80.0, 210.0),
            contrast: rng.range(0.65, 1.45),
            half_width: (24.0 + 2.2 * rng.normal()).clamp(18.0, 30.0),
            upper_lip,
            lower_lip,
            upper_tone: lips + rng.range(0.0, 12.0) * scale,
            lower_tone: 0.85 * lips + rng.range(-10.0, 8.0) * scale,
            gloss: rng.range(0.0, 16.0) * scale,
            lip_shadow: rng.range(0.04, 0.24),
            soft_rim: rng.range(0.0, 0.6),
            bow: rng.range(0.0, 1.9),
            tubercle: rng.range(-0.2, 1.5),
            corner_drop: 0.6 + 1.3 * rng.normal(),
            tilt: 0.7 * rng.normal(),
            skew: (0.22 * rng.normal()).clamp(-0.6, 0.6),
            cavity: rng.range(38.0, 92.0) * (0.5 + 0.5 * scale),
            teeth: (rng.range(140.0, 205.0) * (0.4 + 0.6 * scale)).min(215.0),
            teeth_length: rng.range(-0.6, 4.4),
            tooth_width: rng.range(3.4, 5.4),
            tooth_gaps: rng.range(0.1, 0.75),
            overbite: rng.range(0.2, 2.4),
            tongue: rng.range(82.0, 138.0) * (0.4 + 0.6 * scale),
            nose_height: (24.5 + 2.4 * rng.normal()).clamp(18.0, 31.0),
            nose_half_width: (14.6 + 1.4 * rng.normal()).clamp(10.5, 18.5),
            nose_length: rng.range(7.0, 12.0),
            nostrils: rng.range(0.25, 0.7),
            nose_shade: rng.range(0.0, 0.18),
            folds: rng.range(0.0, 2.0),
            philtrum: rng.range(0.0, 1.0),
            chin: (42.0 + 3.0 * rng.normal()).clamp(33.0, 51.0),
            jaw_half_width: (54.0 + 3.6 * rng.normal()).clamp(43.0, 64.0),
            jaw_square: rng.unit(),
            chin_furrow: rng.range(0.6, 3.2),
            chin_ball: rng.range(0.5, 3.5),
            beard,
            hair: rng.range(25.0, 105.0),
            texture: rng.range(0.5, 2.0),
            spots: if rng.chance(0.5) { 1 + rng.below(9) } else { 0 },
            light: (0.19 * rng.normal(), -0.3 + 0.22 * rng.normal()),
            ambient: rng.range(0.35, 0.65),
            skin_seed: rng.next_u64(),
            mouth_offset: (6.0 + 3.2 * rng.normal()).clamp(-3.0, 14.0),
        }
    }
}

impl Style {
    fn draw(rng: &mut Rng) -> Self {
        let effort = 1.06 + 0.18 * rng.normal();
        let mut gains = [effort; CHANNELS];
        for gain in &mut gains {
            *gain = (*gain * (1.0 + 0.14 * rng.normal())).clamp(0.45, 1.6);
        }
        let habits = (0..Phoneme::ALL.len())
            .map(|_| core::array::from_fn(|_| 0.055 * rng.normal()))
            .collect();
        Self {
            tempo: (1.04 + 0.13 * rng.normal()).clamp(0.75, 1.5),
            irregular: rng.range(0.06, 0.18),
            gains,
            habits,
            blur: rng.range(0.75, 1.3),
            rest_open: if rng.chance(0.35) {
                rng.range(0.0, 0.22)
            } else {
                0.0
            },
            rest_spread: 0.12 * rng.normal(),
            sway: rng.range(0.3, 1.8),
            rhotic: rng.chance(0.2),
            pauses: rng.range(0.0, 0.05),
        }
    }
}

impl Voice {
    fn draw(rng: &mut Rng, low: bool) -> Self {
        let (f0, formants) = if low {
            (112.0 + 18.0 * rng.normal(), 1.0 + 0.04 * rng.normal())
        } else {
            (198.0 + 24.0 * rng.normal(), 1.15 + 0.05 * rng.normal())
        };
        Self {
            f0: f0.clamp(72.0, 290.0),
            formants,
            breath: rng.range(0.01, 0.12),
            melody: rng.range(0.4, 1.5),
            noise: rng.range(0.0002, 0.003),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_never_meet_and_seeds_repeat() {
        for i in 0..50 {
            let (train, unseen) = (Speaker::train(i), Speaker::unseen(i));
            assert_ne!(train.seed(), unseen.seed());
            assert!((train.look.skin - unseen.look.skin).abs() > 1e-4);
            assert!(train.look.skin.to_bits() == Speaker::train(i).look.skin.to_bits());
        }
        // An index beyond the range folds back into its own side.
        assert!(Speaker::train(u64::MAX).name().starts_with("train-"));
        assert!(Speaker::unseen(u64::MAX).name().starts_with("unseen-"));
    }
}
