//! The option `--grammar`: a name, a file, or none.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use viseme_capture::file;
use viseme_engine::decode::grammar::{Grammar, SHIPPED};

use crate::output::show;

/// Largest grammar file that is read.
const MOST_BYTES: u64 = 1 << 20;

/// The grammar that `choice` names; `None` for `none`.
///
/// # Errors
/// If it is no name and no readable grammar file.
pub fn load(choice: &str) -> Result<Option<Grammar>> {
    if choice == "none" {
        return Ok(None);
    }
    if let Some(grammar) = Grammar::shipped(choice) {
        return Ok(Some(grammar));
    }
    let path = Path::new(choice);
    let name = show(path);
    if !path.exists() {
        let shipped: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
        bail!(
            "{name}: no such grammar; give a grammar file, none, or one that ships: {}",
            shipped.join(", ")
        );
    }
    let source = file::read(path, MOST_BYTES)
        .map_err(|e| anyhow!("{name}: the grammar cannot be read ({e}); give a grammar file"))?;
    Ok(Some(Grammar::parse(&source).with_context(|| name)?))
}
