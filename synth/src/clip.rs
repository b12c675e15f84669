//! One rendered clip: frames, words and sound.

use crate::articulation::{Articulation, Mouth};
use crate::pronounce::Sentence;
use crate::render::Plane;
use crate::render::camera::{Camera, PIXELS};
use crate::render::lips::Painter;
use crate::render::skin::{Scene, bake};
use crate::rng::{Rng, mix64};
use crate::speaker::Speaker;
use crate::timing::Timeline;
use crate::voice;

/// What to render.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Frames a second; values outside 1..=240 are clamped.
    pub fps: f32,
    /// Shortest clip, seconds; longer sentences make longer clips. At most 60.
    pub min_seconds: f32,
    /// Whether to make the picture (off: `frames` is empty).
    pub video: bool,
    /// Whether to make the sound (off: `audio` is empty).
    pub audio: bool,
}

impl Default for Options {
    /// GRID's 3 s at 25 frames a second, with picture and sound.
    fn default() -> Self {
        Self {
            fps: 25.0,
            min_seconds: 3.0,
            video: true,
            audio: true,
        }
    }
}

/// A talking mouth.
#[derive(Clone, Debug)]
pub struct Clip {
    /// Grey 96x96 mouth crops, row by row, one per frame.
    pub frames: Vec<[u8; PIXELS]>,
    /// Frames a second.
    pub fps: f32,
    /// (start, end, text) of each word, seconds; silence is not listed.
    pub words: Vec<(f32, f32, String)>,
    /// Length, seconds.
    pub seconds: f32,
    /// Sound, mono, `SAMPLE_RATE` Hz.
    pub audio: Vec<i16>,
}

impl Clip {
    /// The transcript: the words separated by single spaces.
    #[must_use]
    pub fn text(&self) -> String {
        let words: Vec<&str> = self.words.iter().map(|w| w.2.as_str()).collect();
        words.join(" ")
    }
}

/// Streams of random numbers, one per purpose.
const TIMING: u64 = 101;
const MOVEMENT: u64 = 102;
const SCENE: u64 = 103;
const CAMERA: u64 = 104;
const VOICE: u64 = 105;

/// Renders `text` as spoken by `speaker`. `seed` varies everything that differs between two
/// takes of the same person (timing, pose, light, noise). The same arguments give the same
/// bytes on every machine. Text without words gives a silent, idle face.
#[must_use]
pub fn render(text: &str, speaker: &Speaker, seed: u64, options: Options) -> Clip {
    let plan = Plan::new(text, speaker, seed, options);
    let audio = if options.audio {
        let mut rng = Rng::stream(plan.seed, VOICE);
        voice::speak(&plan.timeline, &speaker.voice, &mut rng)
    } else {
        Vec::new()
    };
    let frames = if options.video {
        plan.frames(speaker)
    } else {
        Vec::new()
    };
    Clip {
        frames,
        fps: plan.fps,
        seconds: plan.timeline.seconds,
        words: plan.timeline.words,
        audio,
    }
}

/// A take before anything is drawn: when each phoneme is spoken and how the mouth moves.
pub struct Plan {
    /// Phonemes and words in time.
    pub timeline: Timeline,
    articulation: Articulation,
    fps: f32,
    seed: u64,
}

impl Plan {
    /// Plans `text` exactly as [`render`] does for the same arguments.
    #[must_use]
    pub fn new(text: &str, speaker: &Speaker, seed: u64, options: Options) -> Self {
        let fps = if options.fps.is_finite() {
            options.fps.clamp(1.0, 240.0)
        } else {
            25.0
        };
        let min_seconds = options.min_seconds.clamp(0.0, 60.0);
        let seed = mix64(seed ^ mix64(speaker.seed()));
        let sentence = Sentence::parse(text);
        let mut rng = Rng::stream(seed, TIMING);
        let timeline = Timeline::new(&sentence, &speaker.style, min_seconds, fps, &mut rng);
        let mut rng = Rng::stream(seed, MOVEMENT);
        let articulation = Articulation::new(&timeline, &speaker.style, &mut rng);
        Self {
            timeline,
            articulation,
            fps,
            seed,
        }
    }

    /// The mouth at `t` seconds.
    #[must_use]
    pub fn mouth_at(&self, t: f32) -> Mouth {
        self.articulation.mouth_at(t)
    }

    fn frames(&self, speaker: &Speaker) -> Vec<[u8; PIXELS]> {
        let look = &speaker.look;
        let scene = Scene::draw(&mut Rng::stream(self.seed, SCENE), look);
        let skin = bake(look, &scene);
        let mut camera = Camera::new(look, &speaker.style, &mut Rng::stream(self.seed, CAMERA));
        let mut painter = Painter::new(look);
        let mut face = Plane::new();
        let count = (self.timeline.seconds * self.fps + 0.5) as usize;
        (0..count)
            .map(|index| {
                // Frames show the middle of their exposure.
                let t = (index as f32 + 0.5) / self.fps;
                let mouth = self.articulation.mouth_at(t);
                painter.paint(&mouth, look, &scene.light, &skin, &mut face);
                let sink = 5.0 * mouth.jaw;
                camera.shoot(&face, index, f64::from(t), sink)
            })
            .collect()
    }
}
