//! A recipe: everything that decides what a training run computes.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::model::Dims;

/// One published model's recipe (`recipes/*.toml`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the model.
    pub name: String,
    /// Licence of the trained weights.
    pub license: String,
    /// Credit to the data they are trained on.
    pub training_data: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// The words the model can say, separated by white space.
    pub words: String,
    /// Dimensions.
    pub model: Dims,
    /// Augmentation of the clips.
    pub augment: Augment,
    /// The optimisation.
    pub train: Train,
    /// What follows the first part of a run, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub polish: Vec<Polish>,
    /// How a finished run is fine-tuned for few bits, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finetune: Option<Finetune>,
    /// In a run that fine-tunes (never in a recipe file): what it goes on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuned: Option<Tuned>,
}

/// A later part of a run: it goes on from the averaged weights of the part before, with a warm-up of its own (warm restarts:
/// Loshchilov and Hutter, "SGDR", 2017), with weights rounded as int8 model files round them, and with clips that are less
/// spoilt: what a model can learn from hidden and frozen pictures it has learned by then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Polish {
    /// Passes over the real clips.
    pub epochs: usize,
    /// Peak of the one-cycle schedule.
    pub learning_rate: f32,
    /// Synthetic clips in a shard.
    pub synthetic_per_shard: usize,
    /// As [`Train::spelling`].
    pub spelling: f32,
    /// As [`Dims::dropout`].
    pub dropout: f32,
    /// As [`Augment::cutout`].
    pub cutout: f32,
    /// As [`Augment::freeze`].
    pub freeze: usize,
    /// As [`Augment::freeze_frames`].
    pub freeze_frames: usize,
}

/// What is different in a run that goes on from a finished one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finetune {
    /// Passes over the real clips.
    pub epochs: usize,
    /// Peak of the one-cycle schedule.
    pub learning_rate: f32,
}

/// A run that goes on from a finished one, with rounded weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuned {
    /// Bits of the model file that it will become: 4 or 8.
    pub bits: u8,
    /// Digest of the weights that it went on from.
    pub from: String,
}

/// How training clips are varied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Probability of continuing in another clip at a word boundary.
    pub splice: f32,
    /// Range of the speaking-rate factor.
    pub speed: [f32; 2],
    /// Largest shift, in pixels.
    pub shift: f32,
    /// Largest relative change of size.
    pub scale: f32,
    /// Largest rotation, in degrees.
    pub rotate: f32,
    /// Whether half of the clips are mirrored.
    pub flip: bool,
    /// Largest change of the logarithm of the contrast.
    pub contrast: f32,
    /// Largest change of brightness, in normalised units.
    pub brightness: f32,
    /// Largest standard deviation of added noise, in normalised units.
    pub noise: f32,
    /// Probability of a hidden rectangle.
    pub cutout: f32,
    /// Largest side of that rectangle, in pixels.
    pub cutout_side: usize,
    /// Most spans of frozen picture.
    pub freeze: usize,
    /// Longest such span, in frames.
    pub freeze_frames: usize,
}

/// How the model is optimised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// Passes over the real clips.
    pub epochs: usize,
    /// Parts of a step that may run on threads of their own.
    pub shards: usize,
    /// Real clips in a shard.
    pub real_per_shard: usize,
    /// Synthetic clips in a shard.
    pub synthetic_per_shard: usize,
    /// Part of the synthetic clips in which about half of all words are letters, whatever their place.
    pub spelling: f32,
    /// Peak of the one-cycle schedule.
    pub learning_rate: f32,
    /// Part of the steps spent warming up.
    pub warmup: f32,
    /// Decoupled weight decay on matrices.
    pub weight_decay: f32,
    /// Largest global norm of the gradient.
    pub clip_norm: f32,
    /// Decay of the averaged weights.
    pub ema: f32,
    /// Weight of the frame cross-entropy.
    pub frame_weight: f32,
    /// Longest training clip, in frames.
    pub frames: usize,
}

impl Recipe {
    /// Reads and checks a recipe file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the recipe {}", path.display()))?;
        let recipe: Self =
            toml::from_str(&text).with_context(|| format!("{} is no recipe", path.display()))?;
        recipe
            .check()
            .with_context(|| format!("{} cannot be trained", path.display()))?;
        Ok(recipe)
    }

    /// The first part of a run by itself: what follows decides nothing in it.
    pub fn base(mut self) -> Self {
        self.polish = Vec::new();
        self.finetune = None;
        self
    }

    /// The recipe of the polishing part at `index`, which goes on from weights with this digest; `None` if there is no such
    /// part.
    pub fn polished(&self, index: usize, from: &str) -> Option<Self> {
        let part = self.polish.get(index)?;
        let mut recipe = self.clone().base();
        recipe.train.epochs = part.epochs;
        recipe.train.learning_rate = part.learning_rate;
        recipe.train.synthetic_per_shard = part.synthetic_per_shard;
        recipe.train.spelling = part.spelling;
        recipe.model.dropout = part.dropout;
        recipe.augment.cutout = part.cutout;
        recipe.augment.freeze = part.freeze;
        recipe.augment.freeze_frames = part.freeze_frames;
        Some(recipe.going_on(index as u64 + 1, 8, from))
    }

    /// The recipe of the run that goes on from finished weights with this digest.
    ///
    /// # Errors
    /// If the recipe does not say how.
    pub fn tuned(mut self, bits: u8, from: &str) -> Result<Self> {
        let finetune = self.finetune.take().context(
            "the recipe has no table [finetune]; give it one with epochs and learning_rate",
        )?;
        // As the last part was.
        let parts = self.polish.len();
        let last = parts
            .checked_sub(1)
            .and_then(|last| self.polished(last, from));
        let seed = self.seed;
        let mut recipe = last.unwrap_or_else(|| self.base());
        recipe.seed = seed;
        recipe.train.epochs = finetune.epochs;
        recipe.train.learning_rate = finetune.learning_rate;
        Ok(recipe.going_on(parts as u64 + 1, bits, from))
    }

    /// The same after `parts` others. The same seed would bring their first clips once more.
    fn going_on(mut self, parts: u64, bits: u8, from: &str) -> Self {
        self.seed = self.seed.wrapping_add(parts);
        self.tuned = Some(Tuned {
            bits,
            from: from.to_owned(),
        });
        self
    }

    /// `<blank>` and the words, in the order of the model's outputs.
    pub fn tokens(&self) -> Vec<String> {
        let words = self.words.split_whitespace().map(str::to_owned);
        std::iter::once("<blank>".to_owned()).chain(words).collect()
    }

    fn check(&self) -> Result<()> {
        let (m, t) = (&self.model, &self.train);
        ensure!(
            m.heads > 0 && m.d_model.is_multiple_of(m.heads),
            "d_model must divide by heads"
        );
        ensure!(m.d_model.is_multiple_of(2), "d_model must be even");
        ensure!(
            m.conv_left < m.conv_kernel,
            "conv_left must be less than conv_kernel"
        );
        ensure!((0.0..1.0).contains(&m.dropout), "dropout must be in [0, 1)");
        ensure!(
            t.shards > 0 && t.epochs > 0,
            "shards and epochs must be positive"
        );
        ensure!(
            t.real_per_shard + t.synthetic_per_shard > 0,
            "a shard needs clips"
        );
        ensure!(
            (0.0..=1.0).contains(&t.spelling),
            "spelling must be in [0, 1]"
        );
        ensure!(t.frames >= 8, "frames must be at least 8");
        ensure!(self.tokens().len() > 1, "words is empty");
        ensure!(
            self.tuned.is_none(),
            "tuned is set by the trainer, not by a recipe"
        );
        for index in 0..self.polish.len() {
            let part = self.polished(index, "");
            let mut part = part.context("every part has a recipe")?;
            part.tuned = None;
            part.check()
                .with_context(|| format!("part {} of polish", index + 1))?;
        }
        let finetune = self.finetune.as_ref();
        ensure!(
            finetune.is_none_or(|f| f.epochs > 0 && f.learning_rate > 0.0),
            "epochs and learning_rate of finetune must be positive"
        );
        Ok(())
    }
}
