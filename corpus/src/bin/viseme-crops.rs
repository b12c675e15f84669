//! Makes the mouth crops of a corpus ahead of training.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use viseme_capture::tracker::DetectorFile;
use viseme_corpus::crops::{CropOptions, crops};
use viseme_corpus::{Manifest, grid};

/// Cuts the mouths out of every clip of a corpus and keeps them in a cache folder. Can be killed and started again.
#[derive(Parser)]
struct Arguments {
    /// Manifest (.json) of the clips, or the folder of the GRID corpus as it ships.
    #[arg(long)]
    manifest: PathBuf,
    /// Face detector, imported (.gguf).
    #[arg(long)]
    detector: Option<PathBuf>,
    /// Folder for the crops.
    #[arg(long)]
    cache: PathBuf,
    /// Split of the manifest, `pair:train`, or `all`.
    #[arg(long, default_value = "all")]
    split: String,
    /// Half window of the landmark smoothing, in frames.
    #[arg(long, default_value_t = 2)]
    smooth: usize,
    /// A detection every so many frames.
    #[arg(long, default_value_t = 5)]
    every: usize,
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
    let detector = arguments
        .detector
        .as_deref()
        .map(DetectorFile::open)
        .transpose()?;
    let mut options = CropOptions::new(detector.as_ref(), &arguments.cache);
    options.pipeline.smooth = arguments.smooth;
    options.pipeline.tracker.every = arguments.every;
    options.threads = arguments.threads;
    let wanted: Vec<String> = manifest
        .in_split(&arguments.split)
        .map(|clip| clip.id())
        .collect();
    anyhow::ensure!(
        !wanted.is_empty(),
        "no clip is in split {}; give one that the manifest names",
        arguments.split
    );
    let wanted: std::collections::HashSet<String> = wanted.into_iter().collect();
    let loaded = crops(&manifest, |clip| wanted.contains(&clip.id()), &options)
        .context("the crops were not made")?;

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
