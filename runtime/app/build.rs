//! Says whether the published model is there to be built into the command.

use std::path::Path;

fn main() {
    // A file that is missing counts as changed on every build; its folder, once there, does not.
    let folder = Path::new("../models");
    let watched = if folder.is_dir() { "../models" } else { ".." };
    println!("cargo::rerun-if-changed={watched}");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(published_model)");
    if folder.join("grid-vsr.gguf").is_file() {
        println!("cargo::rustc-cfg=published_model");
    }
}
