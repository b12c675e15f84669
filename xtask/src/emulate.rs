//! The same bits on CPUs that this machine is not: the kernel cases and the golden logits under QEMU.

use std::path::Path;
use std::process::Command;

use crate::golden::{LOGITS, MODEL};
use crate::run::{Failure, exists, root, step};
use crate::toolchain::{Target, Toolchain};

/// AArch64 CPUs: without dot products, with SDOT, with SMMLA.
const AARCH64: [&str; 3] = ["cortex-a53", "cortex-a76", "max"];

/// The library that programs for AArch64 are linked with, as Debian's cross compiler installs it.
const SYSROOT: &str = "/usr/aarch64-linux-gnu";

/// Runs everything on every emulated CPU; says which cannot be, and why.
pub fn emulate() -> Result<(), Failure> {
    aarch64()
}

fn aarch64() -> Result<(), Failure> {
    let what = "the same bits on AArch64";
    let Some(toolchain) = aarch64_toolchain(what) else {
        return Ok(());
    };
    let mut build = toolchain.cargo("build");
    build.args(["--quiet", "--release", "--package", "viseme-engine"]);
    build.args(["--features", "std,testing"]);
    build.args(["--example", "kernel_cases", "--example", "golden"]);
    step("building for AArch64", &mut build)?;
    let examples = toolchain.folder("release").join("examples");
    for cpu in AARCH64 {
        step(
            &format!("kernels on {cpu}"),
            &mut run_on(cpu, &examples.join("kernel_cases")),
        )?;
        let mut golden = run_on(cpu, &examples.join("golden"));
        golden.current_dir(root()).args([MODEL, LOGITS]);
        step(&format!("golden logits on {cpu}"), &mut golden)?;
    }
    Ok(())
}

/// Compiler, linker and emulator; says which of them is not there.
pub fn aarch64_toolchain(what: &str) -> Option<Toolchain> {
    for (program, package) in [
        ("qemu-aarch64-static", "qemu-user-static"),
        (
            "aarch64-linux-gnu-gcc",
            "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
        ),
    ] {
        if !exists(program) {
            eprintln!("── skipped: {what}: install {program} (Debian: apt-get install {package})");
            return None;
        }
    }
    Toolchain::new(Target::Aarch64Linux)
        .map_err(|install| eprintln!("── skipped: {what}: {install}"))
        .ok()
}

/// A program for AArch64 on one of its CPUs.
pub fn run_on(cpu: &str, program: &Path) -> Command {
    let mut qemu = Command::new("qemu-aarch64-static");
    qemu.args(["-cpu", cpu, "-L", SYSROOT]).arg(program);
    qemu
}
