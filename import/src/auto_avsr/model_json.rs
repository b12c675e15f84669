//! `model.json`: the options that a model of the zoo was trained with.

use serde_json::{Map, Value};

use super::{Branch, Config, FusionNorm, Positions};
use crate::ImportError;
use crate::error::shown;

/// What of it is used.
#[derive(Debug)]
pub struct ModelJson {
    options: Map<String, Value>,
    /// Tokens by number.
    pub char_list: Option<Vec<String>>,
}

impl ModelJson {
    /// Reads it: an object, or ESPnet's list of input size, output size and object.
    ///
    /// # Errors
    /// [`ImportError::WrongModel`] when it is something else.
    pub fn parse(text: &str) -> Result<Self, ImportError> {
        let value: Value = serde_json::from_str(text).map_err(|e| {
            let why = shown(&e.to_string());
            wrong(format!(
                "model.json is no sound JSON ({why}); fetch it again"
            ))
        })?;
        let options = match value {
            Value::Object(options) => Some(options),
            Value::Array(mut list) if list.len() == 3 => match list.pop() {
                Some(Value::Object(options)) => Some(options),
                _ => None,
            },
            _ => None,
        };
        let options = options
            .filter(|options| options.contains_key("adim"))
            .ok_or_else(|| wrong("model.json does not describe an Auto-AVSR model (no adim); give another with --config"))?;
        let char_list = match options.get("char_list") {
            None | Some(Value::Null) => None,
            Some(Value::Array(tokens)) => {
                let tokens = tokens.iter().map(|token| token.as_str().map(str::to_owned));
                let tokens: Option<Vec<String>> = tokens.collect();
                Some(tokens.ok_or_else(|| {
                    wrong("char_list of model.json is no list of tokens; fetch it again")
                })?)
            }
            Some(_) => {
                return Err(wrong(
                    "char_list of model.json is no list of tokens; fetch it again",
                ));
            }
        };
        Ok(Self { options, char_list })
    }

    /// Which relative positions an encoder has.
    ///
    /// # Errors
    /// [`ImportError::Unsupported`] when it has others, or this does not say.
    pub fn positions(&self, is_second: bool) -> Result<Positions, ImportError> {
        let key = self.key(is_second, "transformer_encoder_attn_layer_type");
        let attention = self.options.get(&key).and_then(Value::as_str);
        match (attention, is_second, self.options.get("rel_pos_type")) {
            (Some("legacy_rel_mha"), ..) => Ok(Positions::Legacy),
            // The original lets `rel_pos_type` decide about its first encoder only: a second one is as its type says.
            (Some("rel_mha"), true, _) => Ok(Positions::Latest),
            (Some("rel_mha"), false, None | Some(Value::Null)) => Ok(Positions::Legacy),
            (Some("rel_mha"), false, Some(Value::String(kind))) if kind == "latest" => Ok(Positions::Latest),
            (Some("rel_mha") | None, ..) => Err(ImportError::Unsupported(
                "model.json does not say clearly which relative positions the model has; add --positions latest|legacy".into(),
            )),
            (Some(other), ..) => Err(ImportError::Unsupported(format!(
                "attention of type {} is not supported, only rel_mha and legacy_rel_mha",
                shown(other)
            ))),
        }
    }

    /// The decoder's attention heads, where it has its own number of them.
    pub fn decoder_heads(&self) -> Option<usize> {
        let heads = self.options.get("dheads").and_then(Value::as_u64);
        heads.and_then(|heads| usize::try_from(heads).ok())
    }

    /// Whether the sizes, which came from shapes, are those of this file, and whether the rest is supported.
    ///
    /// # Errors
    /// [`ImportError::WrongModel`] and [`ImportError::Unsupported`].
    pub fn check(&self, config: &Config) -> Result<(), ImportError> {
        let branches = [config.video.as_ref(), config.audio.as_ref()];
        let branches = branches.into_iter().flatten();
        for (branch, is_second) in branches.zip([false, true]) {
            let is_video = !is_second && config.video.is_some();
            self.check_branch(branch, is_second, is_video)?;
        }
        self.agrees("dunits", config.decoder.ff)?;
        self.agrees("dlayers", config.decoder.blocks)?;
        self.agrees("ddim", config.decoder.d_model)?;
        if let Some(fusion) = &config.fusion {
            self.agrees("fusion_hdim", fusion.hidden)?;
            let norm = match fusion.norm {
                FusionNorm::BatchNorm => "batchnorm",
                FusionNorm::LayerNorm => "layernorm",
                FusionNorm::None => "none",
            };
            // Any other word is no norm.
            let said = self.options.get("fusion_norm").and_then(Value::as_str);
            let said = said.map(|said| match said {
                "batchnorm" | "layernorm" => said,
                _ => "none",
            });
            if said.is_some_and(|said| said != norm) {
                return Err(other("fusion_norm", said.unwrap_or_default(), norm));
            }
        }
        match &self.char_list {
            Some(tokens) if tokens.len() != config.vocabulary => {
                Err(other("char_list, tokens", tokens.len(), config.vocabulary))
            }
            _ => Ok(()),
        }
    }

    fn check_branch(
        &self,
        branch: &Branch,
        is_second: bool,
        is_video: bool,
    ) -> Result<(), ImportError> {
        let sizes = [
            ("adim", branch.d_model),
            ("aheads", branch.heads),
            ("eunits", branch.ff),
            ("elayers", branch.blocks),
            ("cnn_module_kernel", branch.kernel),
        ];
        for (key, size) in sizes {
            self.agrees(&self.key(is_second, key), size)?;
        }
        let texts = [
            ("relu_type", if branch.prelu { "prelu" } else { "swish" }),
            (
                "transformer_input_layer",
                if is_video { "conv3d" } else { "conv1d" },
            ),
        ];
        for (key, expected) in texts {
            let key = self.key(is_second, key);
            let said = self.options.get(&key).and_then(Value::as_str);
            match said {
                Some("relu") => {
                    return Err(ImportError::Unsupported(
                        "front-ends with ReLU are not supported, only those with SiLU (swish) or PReLU".into(),
                    ));
                }
                Some(said) if said != expected => return Err(other(&key, shown(said), expected)),
                _ => {}
            }
        }
        // Options under which the same weights would be another network.
        for (key, expected) in [
            ("macaron_style", 1),
            ("use_cnn_module", 1),
            ("zero_triu", 0),
            ("a_upsample_ratio", 1),
        ] {
            let key = self.key(is_second, key);
            let said = match self.options.get(&key) {
                Some(Value::Bool(said)) => Some(i64::from(*said)),
                Some(Value::Number(said)) => Some(said.as_i64().unwrap_or(-1)),
                _ => None,
            };
            if let Some(said) = said.filter(|said| *said != expected) {
                return Err(ImportError::Unsupported(format!(
                    "models with {key} {said} are not supported, only with {expected}"
                )));
            }
        }
        Ok(())
    }

    /// An option's name for the first or the second encoder.
    fn key(&self, is_second: bool, key: &str) -> String {
        match is_second {
            true => format!("aux_{key}"),
            false => key.to_owned(),
        }
    }

    fn agrees(&self, key: &str, size: usize) -> Result<(), ImportError> {
        match self.options.get(key) {
            None | Some(Value::Null) => Ok(()),
            Some(said) if said.as_u64() == Some(size as u64) => Ok(()),
            Some(said) => Err(other(key, shown(&said.to_string()), size)),
        }
    }
}

fn other(key: &str, said: impl ToString, is: impl ToString) -> ImportError {
    wrong(format!(
        "model.json says {key} {}, the weights say {}; give the model.json of this checkpoint with --config",
        said.to_string(),
        is.to_string()
    ))
}

fn wrong(what: impl Into<String>) -> ImportError {
    ImportError::WrongModel(what.into())
}
