//! The same bits on CPUs that this machine is not: the kernel cases and the golden logits under QEMU.

use std::path::{Path, PathBuf};
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
    cortex_m()?;
    aarch64()
}

/// A microcontroller that QEMU has.
pub struct Machine {
    /// Its processor.
    pub cpu: &'static str,
    /// Arguments of QEMU.
    machine: [&'static str; 4],
    target: Target,
    /// Its clock, in MHz.
    clock: &'static str,
    /// What the image is compiled for, in the compiler's words.
    compiled: &'static [&'static str],
    /// Our folder with its memory map.
    memory: &'static str,
}

/// Processors with DSP instructions, and one with Helium.
pub const MACHINES: [Machine; 4] = [
    Machine {
        cpu: "cortex-m4",
        machine: ["-M", "mps2-an386", "-cpu", "cortex-m4"],
        target: Target::ThumbV7em,
        clock: "25",
        compiled: &["-Ctarget-cpu=cortex-m4"],
        memory: "an386",
    },
    Machine {
        cpu: "cortex-m7",
        machine: ["-M", "mps2-an500", "-cpu", "cortex-m7"],
        target: Target::ThumbV7em,
        clock: "25",
        compiled: &["-Ctarget-cpu=cortex-m4"],
        memory: "an500",
    },
    Machine {
        cpu: "cortex-m33",
        machine: ["-M", "mps2-an505", "-cpu", "cortex-m33"],
        target: Target::ThumbV8m,
        clock: "20",
        compiled: &["-Ctarget-cpu=cortex-m33"],
        memory: "an505",
    },
    Machine {
        cpu: "cortex-m55",
        machine: ["-M", "mps3-an547", "-cpu", "cortex-m55"],
        target: Target::ThumbV8m,
        clock: "32",
        // Integers of Helium only: see the engine's build.rs.
        compiled: &["-Ctarget-cpu=cortex-m55", "-Ctarget-feature=-mve.fp"],
        memory: "an547",
    },
];

fn cortex_m() -> Result<(), Failure> {
    for machine in MACHINES {
        let Some(image) = machine.image()? else {
            continue;
        };
        step(
            &format!("kernels on {}", machine.cpu),
            &mut machine.run(&image, &["kernels"], &[]),
        )?;
        step(
            &format!("golden logits on {}", machine.cpu),
            &mut machine.run(&image, &["golden", MODEL, LOGITS], &[]),
        )?;
        step(
            &format!("instructions of the int8 product on {}", machine.cpu),
            &mut machine.run(&image, &["count", machine.clock], &["-icount", "shift=0"]),
        )?;
    }
    Ok(())
}

impl Machine {
    /// Builds the test image; says why if it cannot.
    pub fn image(&self) -> Result<Option<PathBuf>, Failure> {
        let what = format!("the same bits on {}", self.cpu);
        if !exists("qemu-system-arm") {
            eprintln!(
                "── skipped: {what}: install qemu-system-arm (Debian: apt-get install qemu-system-arm)"
            );
            return Ok(None);
        }
        let toolchain = match Toolchain::new(self.target) {
            Ok(toolchain) => toolchain,
            Err(install) => {
                eprintln!("── skipped: {what}: {install}");
                return Ok(None);
            }
        };
        let folder = root().join("firmware/qemu");
        let toolchain = toolchain.apart(self.compiled[0].trim_start_matches("-Ctarget-cpu="));
        let mut build = toolchain.cargo("rustc");
        build.args(["--quiet", "--release", "--manifest-path"]);
        build.arg(folder.join("Cargo.toml"));
        build.env("RUSTFLAGS", self.compiled.join(" "));
        // Only the last step knows the board, so that two boards share what is compiled.
        let memory = folder.join("memory").join(self.memory);
        build.args(["--", "-Clink-arg=-Tlink.x"]);
        build.arg(format!("-Clink-arg=-L{}", memory.display()));
        step(&format!("building for {}", self.cpu), &mut build)?;
        Ok(Some(toolchain.folder("release").join("viseme-qemu")))
    }

    /// The image with its command line, from the root.
    pub fn run(&self, image: &Path, arguments: &[&str], options: &[&str]) -> Command {
        // A fault before there is a handler would never end.
        let mut qemu = Command::new("timeout");
        qemu.args(["300", "qemu-system-arm"]).current_dir(root());
        qemu.args(self.machine).args(options);
        let all = ["viseme-qemu"].iter().chain(arguments);
        let all: Vec<String> = all.map(|argument| format!("arg={argument}")).collect();
        qemu.args(["-nographic", "-semihosting-config"]);
        qemu.arg(format!("enable=on,target=native,{}", all.join(",")));
        qemu.arg("-kernel").arg(image);
        qemu
    }
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
