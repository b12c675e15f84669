//! Makes the mouth crops of a corpus ahead of training.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use viseme_corpus::crops::{CropOptions, crops};
use viseme_corpus::{Clip, Manifest, SplitField, detector, grid};

/// Cuts the mouths out of every clip of a corpus and keeps them in a cache folder. Can be killed and started again.
#[derive(Parser)]
struct Arguments {
    /// Manifest (.json) of the clips, or the folder of the GRID corpus as it ships.
    #[arg(long)]
    manifest: PathBuf,
    /// Face detector: YuNet's .onnx or an imported .gguf (default: the one in the models folder).
    #[arg(long)]
    detector: Option<PathBuf>,
    /// Folder for the crops.
    #[arg(long)]
    cache: PathBuf,
    /// Field of the clips that names their split.
    #[arg(long, value_enum, default_value_t = SplitField::Split)]
    split_field: SplitField,
    /// Side of the split (default: every clip).
    #[arg(long)]
    split: Option<String>,
    /// Half window of the landmark smoothing, in frames.
    #[arg(long, default_value_t = 2)]
    smooth: usize,
    /// A detection every so many frames.
    #[arg(long, default_value_t = 5)]
    every: usize,
    /// How often a detected face is looked at again.
    #[arg(long, default_value_t = 2)]
    looks: usize,
    /// Clips worked on at the same time.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let manifest = if arguments.manifest.is_dir() {
        grid::read(&arguments.manifest)?
    } else {
        Manifest::read(&arguments.manifest)?
    };
    let detector = match &arguments.detector {
        None if manifest.clips.iter().all(|clip| clip.roi.is_some()) => None,
        given => Some(detector::load(given.as_deref())?),
    };
    let mut options = CropOptions::new(detector.as_ref(), &arguments.cache);
    options.pipeline.smooth = arguments.smooth;
    options.pipeline.tracker.every = arguments.every;
    options.pipeline.tracker.looks = arguments.looks;
    options.threads = arguments.threads;
    let side = arguments.split.as_deref();
    let wanted =
        |clip: &Clip| side.is_none_or(|side| arguments.split_field.side(clip) == Some(side));
    anyhow::ensure!(
        manifest.clips.iter().any(wanted),
        "no clip is on the side {}; give one that the manifest names",
        side.unwrap_or_default()
    );
    let loaded = crops(&manifest, wanted, &options).context("the crops were not made")?;

    let frames: usize = loaded.clips.iter().map(|clip| clip.frames()).sum();
    let tracked: usize = loaded.clips.iter().map(|clip| clip.tracked_frames).sum();
    let many = loaded
        .clips
        .iter()
        .filter(|clip| clip.faces_seen > 1)
        .count();
    println!(
        "{} clips, {frames} crops, {tracked} tracked, {} made now, {many} clips with more than one face",
        loaded.clips.len(),
        loaded.made
    );
    for (id, reason) in &loaded.failed {
        eprintln!("{id}: {reason}");
    }
    Ok(())
}
