//! `viseme models`: which models the command uses, where they are, and fetching those that are not in it.

mod pull;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use viseme_corpus::detector;

use crate::cli::{Models, ModelsCommand};
use crate::model;
use crate::output::{self, show};

/// A file that can be fetched. It may come from anywhere: size and digest say whether it is the right one.
pub struct Download {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Its name in the models folder.
    pub file: &'static str,
    /// Where it is, in the order to try: pinned to a commit, and to the content itself.
    pub urls: &'static [&'static str],
    /// Bytes.
    pub size: u64,
    /// SHA-256, lower-case hex.
    pub sha256: &'static str,
    /// Whose it is.
    pub licence: &'static str,
}

/// The YuNet face detector (Wu, Peng and Yu, 2023), as its authors publish it.
pub const YUNET: Download = Download {
    name: "yunet",
    file: "yunet_n_320_320.onnx",
    urls: &[
        "https://github.com/ShiqiYu/libfacedetection.train/raw/47198234de8c4646961e46159e02af5b06021a78/onnx/yunet_n_320_320.onnx",
        "https://api.github.com/repos/ShiqiYu/libfacedetection.train/git/blobs/65de38e5a02bc67f24dbdda1eb57f00f92331c6b",
    ],
    size: 317_434,
    sha256: "81dbde155e982455488235acb8ec2dec5d647edf7cf7080d33e4abb69b93a0d2",
    licence: "Apache-2.0, (c) Shiqi Yu and OpenMMLab",
};

/// Runs the command.
///
/// # Errors
/// If there is no folder for models, or a download fails.
pub fn run(arguments: &Models) -> Result<ExitCode> {
    match &arguments.command {
        None | Some(ModelsCommand::List) => list()?,
        Some(ModelsCommand::Pull { name, from }) => {
            if *name != YUNET.name {
                bail!(
                    "{}: no model of this name can be pulled; there is: {}",
                    output::one_line(name),
                    YUNET.name
                );
            }
            let path = pull::pull(&YUNET, from.as_deref(), &detector::models_folder()?)?;
            // A detector that was checked but cannot be imported should be known now.
            detector::load(Some(&path))?;
            output::print(&format!(
                "{}: {} ({})",
                YUNET.name,
                show(&path),
                YUNET.licence
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list() -> Result<()> {
    let published = if model::is_embedded() {
        "part of this command".into()
    } else {
        place(
            model::published_beside().as_deref(),
            "not in this build; give --model FILE",
        )
    };
    output::print(&format!("grid-vsr  lip reader     {published}"))?;
    let found = detector::find().ok().flatten();
    let detector = place(found.as_deref(), "not here; run `viseme models pull yunet`");
    output::print(&format!("yunet     face detector  {detector}"))?;
    Ok(())
}

fn place(found: Option<&Path>, missing: &str) -> String {
    found.map_or_else(|| missing.into(), show)
}
