//! PyTorch's archives: `NAME/data.pkl` describes tensors, `NAME/data/K` holds their numbers.

use std::collections::BTreeMap;

use super::pickle::{self, Rebuilt};
use super::zip::Archive;
use super::{Entry, Place, TensorInfo};
use crate::ImportError;
use crate::error::shown;

/// The tensors of an archive.
///
/// # Errors
/// As [`super::Checkpoint::from_bytes`].
pub fn read(bytes: &[u8]) -> Result<BTreeMap<String, Entry>, ImportError> {
    let archive = Archive::open(bytes)?;
    let folder = folder(&archive)?;
    if let Some(order) = archive.get(&format!("{folder}/byteorder"))
        && bytes[order.clone()] != *b"little"
    {
        return Err(ImportError::Unsupported(
            "this checkpoint was written on a big-endian machine; load and save it on a little-endian one".into(),
        ));
    }
    let pickle = archive.get(&format!("{folder}/data.pkl"));
    let pickle = pickle.ok_or_else(|| damaged("it has no data.pkl"))?;
    let mut entries = BTreeMap::new();
    for (name, tensor) in &pickle::state_dict(&bytes[pickle])? {
        let entry = place(&archive, folder, name, tensor)?;
        if entries.insert((*name).to_owned(), entry).is_some() {
            return Err(damaged(format!("{} is in it twice", shown(name))));
        }
    }
    Ok(entries)
}

/// The folder of the archive that holds `data.pkl`.
fn folder<'a>(archive: &Archive<'a>) -> Result<&'a str, ImportError> {
    let mut folders: Vec<&str> = archive
        .names()
        .filter_map(|name| name.strip_suffix("/data.pkl"))
        .collect();
    let script = |name: &str| name.ends_with("/constants.pkl") || name.contains("/code/");
    if archive.names().any(script) {
        return Err(ImportError::Unsupported(
            "this is a TorchScript archive, a program with its weights; save the module's state_dict() instead".into(),
        ));
    }
    match (folders.pop(), folders.pop()) {
        (Some(folder), None) => Ok(folder),
        (None, _) => Err(ImportError::Unsupported(
            "this archive holds no PyTorch checkpoint (data.pkl); if the checkpoint is packed in it, unpack it first".into(),
        )),
        _ => Err(damaged("it holds data.pkl twice")),
    }
}

/// Where a tensor lies, with everything that the pickle says about it checked.
fn place(
    archive: &Archive<'_>,
    folder: &str,
    name: &str,
    tensor: &Rebuilt<'_>,
) -> Result<Entry, ImportError> {
    let wrong = |what: &str| damaged(format!("{} {what}", shown(name)));
    let storage = &tensor.storage;
    let size = storage.dtype.size();
    let range = archive
        .get(&format!("{folder}/data/{}", storage.key))
        .ok_or_else(|| wrong("has no numbers in the archive"))?;
    // Numbers that the archive has room for; from here on nothing overflows.
    let room = storage.length.min(range.len() / size);
    if storage.length > room {
        return Err(wrong(
            "has fewer numbers in the archive than its storage says",
        ));
    }
    let mut dims: Vec<(usize, usize)> = Vec::new();
    let mut count = 1usize;
    for (&length, &stride) in tensor.shape.iter().zip(&tensor.strides) {
        count = count
            .checked_mul(length)
            .filter(|&count| count <= room)
            .ok_or_else(|| wrong("is larger than its storage"))?;
        if length > 1 {
            dims.push((stride, length));
        }
    }
    if tensor.offset > room {
        return Err(wrong("begins behind the end of its storage"));
    }
    // The last index that is used, and whether two indices could meet: each step has to be longer than everything that
    // the smaller steps reach.
    let mut dense = true;
    let mut expected = 1usize;
    if count == 0 {
        dims.clear();
    }
    for &(stride, length) in dims.iter().rev() {
        dense &= stride == expected;
        expected *= length;
    }
    dims.sort_unstable();
    let mut reach = 0usize;
    for &(stride, length) in &dims {
        if stride <= reach {
            return Err(wrong(
                "has elements that share their memory; save a copy made with .contiguous()",
            ));
        }
        let span = stride.checked_mul(length - 1);
        reach = span
            .and_then(|span| span.checked_add(reach))
            .filter(|&reach| reach < room)
            .ok_or_else(|| wrong("reaches beyond its storage"))?;
    }
    let numbers = if count == 0 { 0 } else { reach + 1 };
    if numbers > room - tensor.offset {
        return Err(wrong("reaches beyond its storage"));
    }
    let start = range.start + tensor.offset * size;
    let steps = tensor.shape.iter().zip(&tensor.strides);
    let steps = steps.map(|(&length, &stride)| if length > 1 { stride } else { 0 });
    Ok(Entry {
        info: TensorInfo {
            dtype: storage.dtype,
            shape: tensor.shape.clone(),
        },
        place: Some(Place {
            bytes: start..start + numbers * size,
            strides: (!dense).then(|| steps.collect()),
        }),
    })
}

fn damaged(what: impl Into<String>) -> ImportError {
    ImportError::Damaged(what.into())
}
