//! A checkpoint's tensors beside those that its model needs.

use std::collections::BTreeSet;

use super::names::Source;
use super::plan::Needed;
use crate::ImportError;
use crate::error::shown;

/// Names listed in an error, of each kind.
const LISTED: usize = 3;

/// Whether a checkpoint has exactly what is needed.
///
/// # Errors
/// [`ImportError::WrongModel`] that lists what is missing, what nothing needs, or a shape that is wrong;
/// [`ImportError::Unsupported`] when weights are integers.
pub fn compare(source: &Source<'_>, needed: &[Needed]) -> Result<(), ImportError> {
    let known: BTreeSet<&str> = needed.iter().map(|tensor| tensor.source.as_str()).collect();
    let missing: Vec<&str> = known
        .iter()
        .copied()
        .filter(|name| !source.has(name))
        .collect();
    let extra: Vec<&str> = source
        .names()
        .filter(|name| !known.contains(name))
        .collect();
    let mut says = Vec::new();
    if !missing.is_empty() {
        let names = missing.iter().map(|name| (*name).to_owned());
        says.push(format!("it lacks {}", list(names)));
    }
    if !extra.is_empty() {
        let names = extra.iter().map(|name| {
            let meant = nearest(name, missing.iter().copied());
            let meant = meant.or_else(|| nearest(name, known.iter().copied()));
            let raw = shown(source.raw(name));
            meant.map_or(raw.clone(), |meant| format!("{raw} (is {meant} meant?)"))
        });
        says.push(format!(
            "no Auto-AVSR model of its kind has {}",
            list(names)
        ));
    }
    if !says.is_empty() {
        return Err(ImportError::WrongModel(format!(
            "this checkpoint is not a complete Auto-AVSR model: {}; fetch it again, or give the one that its authors \
             published",
            says.join("; ")
        )));
    }
    for tensor in needed {
        let Some(info) = source.info(&tensor.source) else {
            continue;
        };
        let name = shown(source.raw(&tensor.source));
        if info.shape != tensor.source_shape {
            return Err(ImportError::WrongModel(format!(
                "{name} of this checkpoint has shape {:?} where the others ask for {:?}; fetch it again",
                info.shape, tensor.source_shape
            )));
        }
        if !info.dtype.is_float() {
            return Err(ImportError::Unsupported(format!(
                "{name} of this checkpoint holds {:?} where weights are expected; give the checkpoint in f32",
                info.dtype
            )));
        }
    }
    Ok(())
}

/// The name that is most like another, unless none is.
pub fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    const LONGEST: usize = 120;
    if name.len() > LONGEST {
        return None;
    }
    let similar = names.filter(|other| other.len().abs_diff(name.len()) <= 8);
    let ranked = similar.map(|other| (distance(name.as_bytes(), other.as_bytes()), other));
    let (distance, other) = ranked.min()?;
    (distance <= name.len() / 4).then_some(other)
}

/// Levenshtein's distance.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The first few, and how many more.
fn list(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(LISTED);
    let mut out = names.take(LISTED).collect::<Vec<_>>().join(", ");
    if more > 0 {
        out.push_str(&format!(" and {more} more"));
    }
    out
}
