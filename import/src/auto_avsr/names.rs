//! Names of a checkpoint's tensors as today's Auto-AVSR writes them, and checkpoints of other models.

use std::collections::BTreeMap;

use crate::ImportError;
use crate::checkpoint::{Checkpoint, TensorInfo};
use crate::error::shown;

/// A checkpoint's tensors by today's names.
#[derive(Debug)]
pub struct Source<'a> {
    tensors: BTreeMap<String, (&'a str, &'a TensorInfo)>,
}

/// What holds the model in the programs that wrote the checkpoint.
const WRAPPERS: [&str; 2] = ["module.", "model."];

/// Names that older versions wrote. The original renames them when it loads a state dict.
const RENAMED: [(&str, &str); 5] = [
    ("encoder.input_layer.", "encoder.embed."),
    ("encoder.norm.", "encoder.after_norm."),
    ("aux_encoder.input_layer.", "aux_encoder.embed."),
    ("aux_encoder.norm.", "aux_encoder.after_norm."),
    ("decoder.output_norm.", "decoder.after_norm."),
];

impl<'a> Source<'a> {
    /// The tensors of a checkpoint, without those that no inference needs.
    ///
    /// # Errors
    /// [`ImportError::WrongModel`] when they are those of another model.
    pub fn of(checkpoint: &'a Checkpoint) -> Result<Self, ImportError> {
        let mut names: Vec<(&str, &str, &TensorInfo)> = checkpoint
            .tensors()
            .map(|(raw, info)| (raw, raw, info))
            .collect();
        // Some programs wrap a model twice.
        for wrapper in WRAPPERS.iter().cycle().take(2 * WRAPPERS.len()) {
            if !names.is_empty() && names.iter().all(|(name, ..)| name.starts_with(wrapper)) {
                names
                    .iter_mut()
                    .for_each(|(name, ..)| *name = &name[wrapper.len()..]);
            }
        }
        let mut tensors = BTreeMap::new();
        for (name, raw, info) in names {
            let last = name.rsplit('.').next();
            if matches!(last, Some("num_batches_tracked" | "pe")) {
                continue;
            }
            let renamed = RENAMED.iter().find_map(|(old, new)| {
                let rest = name.strip_prefix(old)?;
                Some(format!("{new}{rest}"))
            });
            let name = renamed.unwrap_or_else(|| name.to_owned());
            if let Some((other, _)) = tensors.insert(name, (raw, info)) {
                return Err(ImportError::Damaged(format!(
                    "{} and {} are one tensor under two names",
                    shown(other),
                    shown(raw)
                )));
            }
        }
        let source = Self { tensors };
        match source.other_model() {
            None => Ok(source),
            Some(what) => Err(ImportError::WrongModel(format!(
                "this is {what}, not an Auto-AVSR recogniser; give the checkpoint of one (VSR, ASR or AV-ASR)"
            ))),
        }
    }

    /// A tensor's description.
    pub fn info(&self, name: &str) -> Option<&'a TensorInfo> {
        self.tensors.get(name).map(|(_, info)| *info)
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Whether some name begins so.
    pub fn begins(&self, prefix: &str) -> bool {
        self.names().any(|name| name.starts_with(prefix))
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The name that the checkpoint has for a tensor.
    pub fn raw<'n>(&'n self, name: &'n str) -> &'n str {
        self.tensors.get(name).map_or(name, |(raw, _)| raw)
    }

    /// How many blocks are numbered below `prefix`: one more than the highest number.
    pub fn blocks(&self, prefix: &str) -> usize {
        const MOST: usize = 256;
        let numbers = self.names().filter_map(|name| {
            let number = name.strip_prefix(prefix)?.split('.').next()?;
            number.parse::<usize>().ok().filter(|&number| number < MOST)
        });
        numbers.max().map_or(0, |highest| highest + 1)
    }

    /// What else this looks like.
    fn other_model(&self) -> Option<&'static str> {
        let begins = |prefix: &str| self.begins(prefix);
        let only = |prefixes: &[&str]| {
            let known = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
            self.names().all(known)
        };
        let has_encoder = begins("encoder.encoders.");
        if self.tensors.is_empty() {
            Some("a checkpoint without tensors")
        } else if self.has("frontend.conv.0.weight") && self.has("frontend.proj.weight") {
            Some("a checkpoint of Viseme's own trainer (viseme-quantize makes a model of it)")
        } else if self.has("encoder.conv1.weight") || self.has("audio_encoder.conv1.weight") {
            Some("a Whisper checkpoint")
        } else if begins("gru1.") && begins("conv1.") {
            Some("a LipNet checkpoint")
        } else if begins("encoder.w2v_model.") || begins("feature_extractor_video.") {
            Some("an AV-HuBERT checkpoint")
        } else if begins("trunk.") && only(&["trunk.", "frontend3D.", "tcn.", "gru."]) {
            Some("a front-end trained on single words (LRW), without encoder and decoder")
        } else if has_encoder && !begins("encoder.frontend.") && !begins("frontend.") {
            Some("an encoder without a front-end, a language model perhaps")
        } else if !has_encoder {
            Some("another model")
        } else {
            None
        }
    }
}
