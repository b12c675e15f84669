//! `cargo xtask referee`: the command with other engines in it, tested or run.

use std::process::{Command, Stdio};

use crate::run::{Failure, cargo, exists, output, program_with, root, step};
use crate::setup;

/// What the bindings of `tflitec` are made with.
const PACKAGES: [&str; 3] = ["libclang-dev", "libssl-dev", "pkg-config"];

/// Tests the other engines against ours; with arguments, runs the command with those.
///
/// They are fetched and built below `target`, the command in a folder of its own, since it does not start without their
/// libraries.
pub fn referee(rest: &[String]) -> Result<(), Failure> {
    if !exists("npm") {
        setup::install(&["npm"]);
    }
    // libclang has no program that tells whether it is there; if it can be neither found nor installed, bindgen says so.
    setup::install(&PACKAGES);
    let mut libraries = cargo();
    libraries.args([
        "run",
        "--quiet",
        "--package",
        "viseme-bench",
        "--",
        "libraries",
    ]);
    let variables = output("fetch the other engines", &mut libraries)?;
    let options = |command: &mut Command| {
        command.args(["--features", "tract,tflite,litert", "--target-dir"]);
        command.arg(root().join("target/referee"));
        command.envs(variables.lines().filter_map(|line| line.split_once('=')));
    };
    if !rest.is_empty() {
        return program_with("viseme", rest, options);
    }
    let test = || {
        let mut test = cargo();
        test.args(["test", "--release", "--package", "viseme"]);
        options(&mut test);
        test
    };
    step(
        "building other engines, which takes minutes, once",
        test().arg("--no-run"),
    )?;
    let mut test = test();
    test.args(["--", "other_engines", "--show-output"]);
    // LiteRT tells its story there whenever it is started; what failed is on standard output.
    test.stderr(Stdio::null());
    step("comparing other engines with ours", &mut test)
}
