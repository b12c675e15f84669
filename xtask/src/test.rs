//! `cargo xtask test`: every check there is, in the order in which they fail fastest.

use std::process::Command;

use crate::run::{Failure, cargo, root, step};
use crate::setup;

/// Bare-metal targets that the engine and the format must build for, where rustup has them.
const BARE_METAL: [&str; 2] = ["thumbv7em-none-eabihf", "aarch64-unknown-none"];

/// Runs all checks.
pub fn test(rest: &[String]) -> Result<(), Failure> {
    if let Some(extra) = rest.first() {
        return Err(Failure::usage(format!(
            "`test` takes no arguments, not `{extra}`"
        )));
    }
    setup::packages();
    step("formatting", cargo().args(["fmt", "--all", "--check"]))?;
    step("no standard library in the engine", &mut no_std())?;
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
    step("tests", cargo().args(["test", "--workspace"]))?;
    step(
        "the same bits from a debug build",
        &mut same_bits("unoptimised"),
    )?;
    step(
        "the same bits from a release build",
        &mut same_bits("release"),
    )?;
    eprintln!("── all checks passed");
    Ok(())
}

/// Without features, so that a workspace build cannot hide a use of the standard library.
fn no_std() -> Command {
    let mut command = cargo();
    command.args([
        "check",
        "--package",
        "viseme-format",
        "--package",
        "viseme-engine",
    ]);
    command
}

fn bare_metal() -> Result<(), Failure> {
    let installed = Command::new("rustup")
        .args(["target", "list", "--installed"])
        .output();
    let installed = installed.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
    for target in BARE_METAL {
        if installed
            .as_ref()
            .is_ok_and(|list| list.lines().any(|line| line == target))
        {
            step(
                &format!("building for {target}"),
                no_std().args(["--target", target]),
            )?;
        } else {
            eprintln!("── skipped: building for {target}: run `rustup target add {target}`");
        }
    }
    Ok(())
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
