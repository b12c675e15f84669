//! Python's pickle machine, as far as tensors need it: it builds values and calls nothing.
//!
//! Instructions are those of protocol 2 (PEP 307), which `torch.save` writes, and the short forms of protocols 4 and 5
//! (PEP 3154, PEP 574); semantics as in CPython's `pickletools.py`. The classes that may be named are in `classes.rs`. Of
//! what is called, only what makes a tensor or a dictionary has a result; the rest of that list is inert: a placeholder
//! without content. Memory is bounded by the number of instructions, and there is no recursion: values that hold others
//! hold their places in a list, so that a value that holds itself does no harm.

mod classes;
mod machine;

use super::DType;
use crate::ImportError;
use crate::error::shown;
use machine::{Machine, Value};

/// A tensor as a pickle describes it. Nothing about it has been compared with the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt<'a> {
    /// Where its numbers are.
    pub storage: Storage<'a>,
    /// Of its first number in the storage, in numbers.
    pub offset: usize,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// As many as dimensions, in numbers.
    pub strides: Vec<usize>,
}

/// The numbers that tensors share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storage<'a> {
    /// How they are written.
    pub dtype: DType,
    /// Their entry in the archive.
    pub key: &'a str,
    /// How many there are.
    pub length: usize,
}

/// Most tensors of a checkpoint: the largest Auto-AVSR has 1380.
const MOST_TENSORS: usize = 1 << 16;

/// Where training programs keep the state dict among other things: Lightning, lip-reading repositories, fairseq.
const WRAPPERS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// The names and tensors of the state dict in `pickle`: the whole value, or the part of it that is called so.
///
/// # Errors
/// As [`super::Checkpoint::from_bytes`].
pub fn state_dict(pickle: &[u8]) -> Result<Vec<(&str, Rebuilt<'_>)>, ImportError> {
    let (machine, root) = Machine::run(pickle)?;
    let unsupported = |what: String| Err(ImportError::Unsupported(what));
    let Value::Dict(root) = root else {
        return unsupported(
            "this PyTorch file holds no dictionary of weights; save the model's state_dict()"
                .into(),
        );
    };
    let wrapped = WRAPPERS.iter().find_map(|wrapper| {
        let items = machine.dict(root).items.iter();
        let mut values = items.filter(|(key, _)| key == wrapper);
        values.find_map(|(_, value)| match value {
            Value::Dict(dict) => Some(*dict),
            _ => None,
        })
    });
    let dict = machine.dict(wrapped.unwrap_or(root));
    let tensors = dict.items.iter();
    if !tensors
        .clone()
        .any(|(_, value)| matches!(value, Value::Tensor(_)))
    {
        let mut keys: Vec<String> = tensors.take(4).map(|(key, _)| shown(key)).collect();
        if dict.items.len() > keys.len() {
            keys.push("…".into());
        }
        return unsupported(format!(
            "this PyTorch file holds no weights, but ({}); save the model's state_dict()",
            keys.join(", ")
        ));
    }
    if dict.other_keys || dict.items.len() > MOST_TENSORS {
        return unsupported("the state dict of this checkpoint has keys that are no names".into());
    }
    let tensor = |&(name, value): &(_, Value<'_>)| match value {
        Value::Tensor(tensor) => Ok((name, machine.tensor(tensor).clone())),
        _ => Err(ImportError::Unsupported(format!(
            "{} in the state dict of this checkpoint is no tensor; save the model's state_dict() alone",
            shown(name)
        ))),
    };
    tensors.map(tensor).collect()
}
