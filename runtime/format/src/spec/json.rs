//! A spec as JSON: `spec.json` beside a trainer checkpoint.
//!
//! One flat object with the GGUF keys, those of ours without `viseme.`:
//! `{"general.architecture": "viseme-conformer", …, "crop.canvas": 256, …}`.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde_json::{Map, Value};

use super::fields::{self, Sink, Source};
use super::{ModelSpec, SpecError, Tokens, check};
use crate::gguf::WriteError;

/// A parsed `spec.json`: owns the text that [`Self::spec`] borrows.
#[derive(Clone, Debug)]
pub struct JsonSpec {
    object: Map<String, Value>,
    tokens: Vec<String>,
}

/// Why a `spec.json` was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// Not a JSON object; says where.
    Syntax(String),
    /// A field is missing or wrong.
    Spec(SpecError),
}

impl JsonSpec {
    /// Parses and checks a `spec.json`.
    ///
    /// # Errors
    /// See [`JsonError`].
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        let object: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| JsonError::Syntax(error.to_string()))?;
        let key = "viseme.tokens.list";
        let tokens = match object.get(short(key)) {
            None => Vec::new(),
            Some(value) => {
                serde_json::from_value(value.clone()).map_err(|_| SpecError::WrongType(key))?
            }
        };
        let json = Self { object, tokens };
        check::spec(&fields::read(&&json)?)?;
        Ok(json)
    }

    /// The spec.
    ///
    /// # Errors
    /// None in practice: [`Self::parse`] has read it once already.
    pub fn spec(&self) -> Result<ModelSpec<'_>, SpecError> {
        fields::read(&self)
    }
}

impl ModelSpec<'_> {
    /// The spec as `spec.json`, one key a line.
    ///
    /// # Errors
    /// The first key outside its range.
    pub fn to_json(&self) -> Result<String, SpecError> {
        check::spec(self)?;
        let mut object = Map::new();
        // The sink below has no limit that could fail; a spec that passed the check is always written.
        let _ = fields::write(self, &mut object);
        Ok(serde_json::to_string_pretty(&object).unwrap_or_default())
    }
}

impl From<SpecError> for JsonError {
    fn from(error: SpecError) -> Self {
        Self::Spec(error)
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(error) => write!(
                f,
                "spec.json is not a JSON object ({error}); write it again"
            ),
            Self::Spec(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for JsonError {}

impl<'a> Source<'a> for &'a JsonSpec {
    fn str(&self, key: &'static str) -> Result<Option<&'a str>, SpecError> {
        self.typed(key, Value::as_str)
    }

    fn u32(&self, key: &'static str) -> Result<Option<u32>, SpecError> {
        self.typed(key, |value| value.as_u64()?.try_into().ok())
    }

    fn i32(&self, key: &'static str) -> Result<Option<i32>, SpecError> {
        self.typed(key, |value| value.as_i64()?.try_into().ok())
    }

    fn u64(&self, key: &'static str) -> Result<Option<u64>, SpecError> {
        self.typed(key, Value::as_u64)
    }

    fn f32(&self, key: &'static str) -> Result<Option<f32>, SpecError> {
        self.typed(key, |value| Some(value.as_f64()? as f32))
    }

    fn u32s(&self, key: &'static str, out: &mut [u32]) -> Result<Option<usize>, SpecError> {
        let Some(list) = self.typed(key, Value::as_array)? else {
            return Ok(None);
        };
        if list.len() > out.len() {
            return Err(SpecError::OutOfRange {
                key,
                want: "a list of 1 to 4 numbers",
            });
        }
        for (slot, value) in out.iter_mut().zip(list) {
            let number = value.as_u64().and_then(|number| number.try_into().ok());
            *slot = number.ok_or(SpecError::WrongType(key))?;
        }
        Ok(Some(list.len()))
    }

    fn tokens(&self, key: &'static str) -> Result<Option<Tokens<'a>>, SpecError> {
        Ok(self
            .object
            .contains_key(short(key))
            .then(|| Tokens::from(self.tokens.as_slice())))
    }
}

impl JsonSpec {
    fn typed<'a, T>(
        &'a self,
        key: &'static str,
        get: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, SpecError> {
        let value = self.object.get(short(key));
        value
            .map(|value| get(value).ok_or(SpecError::WrongType(key)))
            .transpose()
    }
}

impl Sink for Map<String, Value> {
    fn str(&mut self, key: &'static str, value: &str) -> Result<(), WriteError> {
        put(self, key, value)
    }

    fn u32(&mut self, key: &'static str, value: u32) -> Result<(), WriteError> {
        put(self, key, value)
    }

    fn i32(&mut self, key: &'static str, value: i32) -> Result<(), WriteError> {
        put(self, key, value)
    }

    fn u64(&mut self, key: &'static str, value: u64) -> Result<(), WriteError> {
        put(self, key, value)
    }

    fn f32(&mut self, key: &'static str, value: f32) -> Result<(), WriteError> {
        // By way of its shortest decimal form: 0.421 instead of 0.42100000381469727, and the same f32 when read.
        let shortest: f64 = value.to_string().parse().unwrap_or(f64::from(value));
        put(self, key, shortest)
    }

    fn u32s(&mut self, key: &'static str, values: &[u32]) -> Result<(), WriteError> {
        put(self, key, values)
    }

    fn tokens(&mut self, key: &'static str, values: &Tokens<'_>) -> Result<(), WriteError> {
        put(
            self,
            key,
            values.iter().map(Value::from).collect::<Vec<_>>(),
        )
    }
}

fn put(
    object: &mut Map<String, Value>,
    key: &str,
    value: impl Into<Value>,
) -> Result<(), WriteError> {
    object.insert(short(key).into(), value.into());
    Ok(())
}

/// The key as `spec.json` has it.
fn short(key: &str) -> &str {
    key.strip_prefix("viseme.").unwrap_or(key)
}
