//! What a training step sees: clips spliced, varied and cut to one length, as a function of the
//! recipe's seed, the step and the place in it.

pub mod load;
mod picture;
mod splice;

use std::sync::Arc;

use rand::RngExt;

use crate::loss::Target;
use crate::model::Input;
use crate::recipe::Recipe;
use crate::rng::{Rng, rng};
use crate::spec::CROP;
pub use splice::Timeline;

/// Side of a stored mouth crop, in pixels.
pub const PATCH: usize = 96;

/// A clip of mouth crops with the words spoken in it.
#[derive(Debug, Clone)]
pub struct Clip {
    /// Where it comes from.
    pub id: String,
    /// `frames * PATCH * PATCH` grey pixels.
    pub pixels: Vec<u8>,
    /// Frames a second.
    pub fps: f32,
    /// The words, in order of time.
    pub words: Vec<Word>,
}

/// A word in a clip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Word {
    /// Token of the model.
    pub token: usize,
    /// Begin, in frames.
    pub start: f32,
    /// End, in frames.
    pub end: f32,
}

impl Clip {
    /// Number of frames.
    pub fn frames(&self) -> usize {
        self.pixels.len() / (PATCH * PATCH)
    }

    /// One frame.
    pub fn frame(&self, t: usize) -> &[u8] {
        &self.pixels[t * PATCH * PATCH..][..PATCH * PATCH]
    }
}

/// One shard of a step.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Model input.
    pub input: Input,
    /// What its clips say.
    pub targets: Vec<Target>,
}

/// The shard `shard` of step `step`: real clips from a permutation of the epoch, synthetic ones
/// rendered for the occasion.
pub fn batch(recipe: &Recipe, clips: &[Clip], step: usize, shard: usize) -> Batch {
    let t = &recipe.train;
    let mut r = rng(recipe.seed, &[1, step as u64, shard as u64]);
    let mut rendered = Vec::with_capacity(t.synthetic_per_shard);
    for i in 0..t.synthetic_per_shard {
        rendered.push(synthetic(recipe, step, shard * t.synthetic_per_shard + i));
    }
    let order = epoch_order(recipe, clips.len(), step);
    let mut lines = Vec::new();
    for i in 0..t.real_per_shard {
        let place = (step * t.shards + shard) * t.real_per_shard + i;
        let first = &clips[order[place % clips.len()]];
        lines.push(Timeline::spliced(
            first,
            clips,
            recipe.augment.splice,
            &mut r,
        ));
    }
    lines.extend(rendered.iter().map(Timeline::whole));
    for line in &mut lines {
        line.change_speed(r.random_range(recipe.augment.speed[0]..=recipe.augment.speed[1]));
    }
    // All clips of a shard get one length, so that nothing is padded: each is cut around its
    // words, from the silence that surrounds them.
    let needed = lines.iter().map(Timeline::extent).max().unwrap_or(1) + 2;
    // Mostly tight cuts, which cost less, and some of full length.
    let (needed, slack) = (needed.min(t.frames), t.frames.saturating_sub(needed));
    let frames = needed + (r.random::<f32>().powi(2) * (slack + 1) as f32) as usize;
    let frames = frames.min(t.frames);
    let mut pixels = Vec::with_capacity(lines.len() * frames * crate::model::SIDE.pow(2));
    let mut targets = Vec::with_capacity(lines.len());
    for line in &mut lines {
        line.cut(frames, &mut r);
        picture::render(line, &recipe.augment, &mut r, &mut pixels);
        targets.push(line.target());
    }
    let clips = lines.len();
    Batch {
        input: Input {
            pixels: Arc::new(pixels),
            clips,
            frames,
            outside: outside(),
        },
        targets,
    }
}

/// A whole clip as the engine would see it: centre crop, no variation.
pub fn plain(clip: &Clip) -> Input {
    let line = Timeline::whole(clip);
    let mut pixels = Vec::new();
    picture::render_plain(&line, &mut pixels);
    Input {
        pixels: Arc::new(pixels),
        clips: 1,
        frames: clip.frames(),
        outside: outside(),
    }
}

/// Steps of one pass over `clips` real clips.
pub fn steps_per_epoch(recipe: &Recipe, clips: usize) -> usize {
    let per_step = recipe.train.shards * recipe.train.real_per_shard;
    if per_step == 0 {
        64
    } else {
        clips.div_ceil(per_step).max(1)
    }
}

fn epoch_order(recipe: &Recipe, clips: usize, step: usize) -> Vec<usize> {
    let epoch = step / steps_per_epoch(recipe, clips);
    let mut r = rng(recipe.seed, &[2, epoch as u64]);
    let mut order: Vec<usize> = (0..clips).collect();
    for i in (1..clips).rev() {
        order.swap(i, r.random_range(0..=i));
    }
    order
}

/// Training speakers of the talking mouth are drawn from this many.
const SYNTHETIC_SPEAKERS: u64 = 100_000;

fn synthetic(recipe: &Recipe, step: usize, place: usize) -> Clip {
    let mut r: Rng = rng(recipe.seed, &[3, step as u64, place as u64]);
    let speaker = viseme_synth::Speaker::train(r.random_range(0..SYNTHETIC_SPEAKERS));
    let seed = r.random();
    let mut text = viseme_synth::grid_sentence(&mut viseme_synth::Rng::from_seed(seed));
    if r.random::<f32>() < recipe.train.spelling {
        text = spelled(&text, &mut r);
    }
    let options = viseme_synth::Options {
        audio: false,
        ..Default::default()
    };
    let clip = viseme_synth::render(&text, &speaker, seed, options);
    let words = clip
        .words
        .iter()
        .map(|(start, end, word)| (*start, *end, word.as_str()));
    from_words(recipe, text, clip.frames.concat(), clip.fps, words)
}

/// The sentence with about half of its words replaced by letters.
///
/// Letters are the shortest words and the most alike, and a sentence has only one: most errors are made in them.
fn spelled(sentence: &str, r: &mut Rng) -> String {
    let letters = viseme_synth::pronounce::GRID_LETTERS;
    let words = sentence.split(' ').map(|word| {
        if r.random::<bool>() {
            letters[r.random_range(0..letters.len())]
        } else {
            word
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A clip from crops and words in seconds; words the recipe does not know are left out.
pub fn from_words<'a>(
    recipe: &Recipe,
    id: String,
    pixels: Vec<u8>,
    fps: f32,
    words: impl Iterator<Item = (f32, f32, &'a str)>,
) -> Clip {
    let tokens = recipe.tokens();
    let words = words.filter_map(|(start, end, word)| {
        let token = tokens.iter().skip(1).position(|t| t == word)? + 1;
        Some(Word {
            token,
            start: start * fps,
            end: end * fps,
        })
    });
    Clip {
        id,
        pixels,
        fps,
        words: words.collect(),
    }
}

/// Grey value taken for pixels outside the crop (the format's `frontend.pad_value`).
pub const PAD_VALUE: u8 = 107;

/// A pixel as the model sees it.
pub fn normalised(grey: f32) -> f32 {
    (grey / 255.0 - CROP.mean) / CROP.std
}

fn outside() -> f32 {
    normalised(f32::from(PAD_VALUE))
}
