//! `cargo xtask test`: every check there is, in the order in which they fail fastest.

use std::process::Command;

use crate::run::{Failure, cargo, root, step};
use crate::toolchain::{Target, Toolchain};
use crate::{emulate, golden, panics, setup};

/// Bare-metal targets that the engine and the format must build for.
const BARE_METAL: [Target; 3] = [Target::ThumbV7em, Target::ThumbV8m, Target::Aarch64Bare];

/// Runs all checks.
pub fn test(rest: &[String]) -> Result<(), Failure> {
    if let Some(extra) = rest.first() {
        return Err(Failure::usage(format!(
            "`test` takes no arguments, not `{extra}`"
        )));
    }
    setup::packages();
    step("formatting", cargo().args(["fmt", "--all", "--check"]))?;
    let mut check = cargo();
    check.arg("check");
    step("no standard library in the engine", &mut no_std(check))?;
    bare_metal()?;
    step(
        "lints",
        cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]),
    )?;
    // Of the engines that the command can have besides ours, the one that links no library.
    step(
        "lints of the command with tract",
        cargo().args([
            "clippy",
            "--package",
            "viseme",
            "--features",
            "tract",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]),
    )?;
    step("tests", cargo().args(["test", "--workspace"]))?;
    step(
        "the same bits from a debug build",
        &mut same_bits("unoptimised"),
    )?;
    step(
        "the same bits from a release build",
        &mut same_bits("release"),
    )?;
    golden::golden(&[])?;
    emulate::emulate()?;
    panics::panics(&[])?;
    miri()?;
    eprintln!("── all checks passed");
    Ok(())
}

/// Without features, so that a workspace build cannot hide a use of the standard library.
fn no_std(mut cargo: Command) -> Command {
    cargo.args(["--package", "viseme-format", "--package", "viseme-engine"]);
    cargo
}

fn bare_metal() -> Result<(), Failure> {
    for target in BARE_METAL {
        let what = format!("building for {}", target.triple());
        match Toolchain::new(target) {
            Ok(toolchain) => step(&what, &mut no_std(toolchain.cargo("check")))?,
            Err(install) => eprintln!("── skipped: {what}: {install}"),
        }
    }
    Ok(())
}

/// The portable path without undefined behaviour, where a nightly compiler has Miri.
fn miri() -> Result<(), Failure> {
    let there = Command::new("cargo")
        .args(["+nightly", "miri", "--version"])
        .env_remove("RUSTUP_TOOLCHAIN")
        .output();
    if !there.is_ok_and(|o| o.status.success()) {
        eprintln!(
            "── skipped: Miri on the portable kernels: run `rustup +nightly component add miri rust-src`"
        );
        return Ok(());
    }
    let mut command = Command::new("cargo");
    command.current_dir(root()).env_remove("RUSTUP_TOOLCHAIN");
    command.args(["+nightly", "miri", "test", "--package", "viseme-engine"]);
    command.args([
        "--target-dir",
        "target/miri",
        "--lib",
        "--",
        "kernels::portable",
        "kernels::norm",
    ]);
    command.args([
        "kernels::depthwise",
        "kernels::im2row",
        "kernels::elementwise",
    ]);
    step("Miri on the portable kernels", &mut command)
}

/// The engine's golden logits, bit for bit, in another profile.
fn same_bits(profile: &str) -> Command {
    let mut command = cargo();
    command.current_dir(root());
    command.args([
        "test",
        "--profile",
        profile,
        "--package",
        "viseme-engine",
        "--test",
        "it",
    ]);
    command.args(["--", "bits_are_the_same_in_every_build"]);
    command
}
