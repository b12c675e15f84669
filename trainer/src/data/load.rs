//! Clips from a corpus on disk, through the mouth-crop cache.

use std::path::Path;

use anyhow::{Result, bail};
use viseme_corpus::crops::{ClipCrops, CropOptions, crops};
use viseme_corpus::{Manifest, SplitField, detector, grid};

use super::{Clip, from_words};
use crate::recipe::Recipe;
use crate::spec::CROP;

/// Which clips to load, and what is needed to cut their mouths out.
pub struct Choice<'a> {
    /// A manifest, a folder that holds one, or a GRID corpus as it ships.
    pub data: &'a Path,
    /// Which of the splits.
    pub split_field: SplitField,
    /// The side to load.
    pub split: &'a str,
    /// Face detector file.
    pub detector: Option<&'a Path>,
    /// Folder of the crop cache.
    pub cache: &'a Path,
}

/// The chosen clips with their words as tokens of the recipe.
///
/// # Errors
/// Data that cannot be read; a clip that says a word the recipe does not know.
pub fn clips(recipe: &Recipe, choice: &Choice<'_>) -> Result<Vec<Clip>> {
    let manifest = manifest(choice.data)?;
    let keep = |clip: &viseme_corpus::Clip| choice.split_field.side(clip) == Some(choice.split);
    if !manifest.clips.iter().any(keep) {
        bail!(
            "no clip is on the side {} of the split; look into the manifest",
            choice.split
        );
    }
    // Clips with a fixed region need no detector, so the lack of one only matters to the others.
    let detector = match choice.detector {
        Some(path) => Some(detector::load(Some(path))?),
        None if manifest
            .clips
            .iter()
            .filter(|c| keep(c))
            .all(|c| c.roi.is_some()) =>
        {
            None
        }
        None => Some(detector::load(None)?),
    };
    let mut options = CropOptions::new(detector.as_ref(), choice.cache);
    options.pipeline.smooth = CROP.smooth as usize;
    let loaded = crops(&manifest, keep, &options)?;
    for (id, reason) in &loaded.failed {
        eprintln!("left out {id}: {reason}");
    }
    loaded.clips.into_iter().map(|c| clip(recipe, c)).collect()
}

fn manifest(data: &Path) -> Result<Manifest> {
    let file = if data.is_dir() {
        data.join("manifest.json")
    } else {
        data.to_owned()
    };
    Ok(if file.exists() || !data.is_dir() {
        Manifest::read(&file)?
    } else {
        grid::read(data)?
    })
}

fn clip(recipe: &Recipe, crops: ClipCrops) -> Result<Clip> {
    let words: Vec<_> = crops.words.iter().filter(|w| !w.is_silence()).collect();
    let spoken = words
        .iter()
        .map(|w| (w.start_s as f32, w.end_s as f32, w.text.as_str()));
    let clip = from_words(recipe, crops.id, crops.crops, crops.fps, spoken);
    if clip.words.len() != words.len() {
        bail!(
            "clip {} says a word that the recipe's `words` does not list",
            clip.id
        );
    }
    Ok(clip)
}
