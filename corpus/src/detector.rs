//! The face detector: a given file, or the one in the models folder. YuNet's ONNX file is imported on the fly.
//!
//! The command, the trainer and the quantiser all find it here, so what is said of `--detector` is true of each.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};
use viseme_capture::file;
use viseme_capture::tracker::DetectorFile;
use viseme_import::yunet;

use crate::disk;

/// Files in the models folder that are taken for the detector, best first: an imported one, then YuNet's own names.
pub const NAMES: [&str; 4] = [
    "yunet.gguf",
    "yunet_n_320_320.onnx",
    "yunet_n_dynamic.onnx",
    "yunet_s_320_320.onnx",
];

/// Largest detector file that is read; YuNet has 0.3 MB.
const MOST_BYTES: u64 = 64 << 20;

/// The detector at `path`, else the one in the models folder.
///
/// # Errors
/// If there is none, or it is not usable.
pub fn load(path: Option<&Path>) -> Result<DetectorFile> {
    let kept;
    let path = match path {
        Some(path) => path,
        None => {
            let Some(found) = find()? else {
                bail!(
                    "no face detector; run `viseme models pull yunet` once, or give --detector FILE or --roi x,y,w,h"
                );
            };
            kept = found;
            &kept
        }
    };
    let name = crate::error::show(path);
    let bytes = file::read(path, MOST_BYTES).map_err(|e| {
        anyhow!("{name}: the detector cannot be read ({e}); give YuNet's .onnx or .gguf file")
    })?;
    if bytes.starts_with(b"GGUF") {
        return Ok(DetectorFile::from_bytes(path, &bytes)?);
    }
    imported(path, &bytes)
}

/// The folder for models: `VISEME_MODELS`, else `viseme` in the XDG cache folder. It may not be there yet.
///
/// # Errors
/// If neither they nor a home folder are known.
pub fn models_folder() -> Result<PathBuf> {
    let variable = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    // The XDG Base Directory Specification has relative paths ignored.
    let absolute = |name| variable(name).filter(|path: &PathBuf| path.is_absolute());
    variable("VISEME_MODELS")
        .or_else(|| Some(absolute("XDG_CACHE_HOME")?.join("viseme")))
        .or_else(|| Some(variable("HOME")?.join(".cache").join("viseme")))
        .context("no folder for models is known; set VISEME_MODELS to one")
}

/// The detector in the models folder, if there is one.
///
/// # Errors
/// If there is no such folder to look into.
pub fn find() -> Result<Option<PathBuf>> {
    let folder = models_folder()?;
    Ok(NAMES
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file()))
}

/// Imports an ONNX file, or finds what an earlier import of the same bytes has kept.
fn imported(path: &Path, onnx: &[u8]) -> Result<DetectorFile> {
    let digest = Sha256::digest(onnx);
    let hex: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // Another version may import differently.
    let name = format!("yunet-{}-{hex}.gguf", env!("CARGO_PKG_VERSION"));
    let kept = models_folder()
        .ok()
        .map(|folder| folder.join("imported").join(name));
    if let Some(file) = kept
        .as_deref()
        .and_then(|kept| DetectorFile::open(kept).ok())
    {
        return Ok(file);
    }
    let gguf = yunet::import(onnx, "yunet").with_context(|| crate::error::show(path))?;
    let file = DetectorFile::from_bytes(path, &gguf)?;
    if let Some(kept) = kept {
        // A models folder that cannot be written costs some milliseconds every time, no more.
        let _ = keep(&kept, &gguf);
    }
    Ok(file)
}

/// Keeps an imported detector, and removes what killed runs have left beside it.
fn keep(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    disk::sweep(folder);
    Ok(disk::write_atomic(path, &[bytes])?)
}
