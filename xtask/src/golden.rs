//! `cargo xtask golden`: the golden logits, on every set of kernels that this machine's CPU has.

use std::process::Command;

use crate::emulate;
use crate::run::{Failure, cargo, root, step};

/// The published model, from the root.
pub const MODEL: &str = "runtime/models/grid-vsr.gguf";
/// What every machine has to find, from the root.
pub const LOGITS: &str = "runtime/engine/tests/golden/logits.txt";

/// Compares; with `--emulated` on the CPUs that QEMU has instead of this machine's; or with `--bless` writes the golden file: after a new published model, or a change of the arithmetic that
/// is meant.
pub fn golden(rest: &[String]) -> Result<(), Failure> {
    match rest.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => step("golden logits", &mut natively(false)),
        ["--emulated"] => emulate::emulate(),
        ["--bless"] => step("blessing the logits of this build", &mut natively(true)),
        _ => Err(Failure::usage("`golden` takes --emulated or --bless")),
    }
}

/// The program for this machine's own CPU.
fn natively(bless: bool) -> Command {
    let mut command = cargo();
    command.current_dir(root());
    command.args(["run", "--quiet", "--release", "--package", "viseme-engine"]);
    command.args(["--features", "std,testing", "--example", "golden", "--"]);
    command.args([MODEL, LOGITS]);
    if bless {
        command.arg("--bless");
    }
    command
}
