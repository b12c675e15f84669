//! Compilers for other CPUs: rustup's, else Debian's.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::run::{cargo, root};
use crate::setup;

/// A CPU that we compile for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Cortex-M4 and M7.
    ThumbV7em,
    /// Cortex-M33 and M55.
    ThumbV8m,
    /// AArch64 without an operating system.
    Aarch64Bare,
    /// AArch64 with Linux.
    Aarch64Linux,
}

impl Target {
    /// The triple.
    pub fn triple(self) -> &'static str {
        match self {
            Target::ThumbV7em => "thumbv7em-none-eabihf",
            Target::ThumbV8m => "thumbv8m.main-none-eabihf",
            Target::Aarch64Bare => "aarch64-unknown-none",
            Target::Aarch64Linux => "aarch64-unknown-linux-gnu",
        }
    }

    /// Debian packages of a compiler for it. Bare targets have no library there; it is compiled from its source.
    fn debian(self) -> &'static [&'static str] {
        match self {
            Target::Aarch64Linux => &["rustc-web", "libstd-rust-web-dev:arm64"],
            _ => &["rustc-web", "rust-web-src"],
        }
    }
}

/// A compiler that is there.
pub struct Toolchain {
    target: Target,
    /// Whether it is Debian's.
    debian: bool,
    /// Folder below the target folder.
    apart: String,
}

/// Debian's compiler, also where rustup's comes first in PATH.
const DEBIAN: &str = "/usr/bin/rustc";

impl Toolchain {
    /// Finds or installs one; otherwise says what to install.
    pub fn new(target: Target) -> Result<Self, String> {
        if rustup_has(target) || quiet("rustup", &["target", "add", target.triple()]) {
            return Ok(Toolchain {
                target,
                debian: false,
                apart: String::new(),
            });
        }
        let there = debian_has(target)
            || (target != Target::Aarch64Linux || setup::architecture("arm64"))
                && setup::install(target.debian())
                && debian_has(target);
        there
            .then_some(Toolchain {
                target,
                debian: true,
                apart: String::new(),
            })
            .ok_or(format!(
                "run `rustup target add {}`, or on Debian `apt-get install {}`",
                target.triple(),
                target.debian().join(" ")
            ))
    }

    /// The same, with a target folder for this purpose: other flags would throw away what was made.
    pub fn apart(self, purpose: &str) -> Self {
        Toolchain {
            apart: purpose.to_owned(),
            ..self
        }
    }

    /// Cargo with a command and the target; what is compiled lies below [`Self::folder`].
    pub fn cargo(&self, command: &str) -> Command {
        let mut cargo = cargo();
        cargo.args([command, "--target", self.target.triple()]);
        cargo.arg("--target-dir").arg(self.target_dir());
        cargo.env(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
            "aarch64-linux-gnu-gcc",
        );
        if self.debian {
            cargo.env("RUSTC", DEBIAN).env("RUSTC_BOOTSTRAP", "1");
            if self.target != Target::Aarch64Linux {
                cargo.arg("-Zbuild-std=core,alloc");
                if let Some(linker) = rust_lld() {
                    let variable = self.target.triple().to_uppercase().replace(['-', '.'], "_");
                    cargo.env(format!("CARGO_TARGET_{variable}_LINKER"), linker);
                }
            }
        }
        cargo
    }

    /// Where a profile's programs for the target come to lie.
    pub fn folder(&self, profile: &str) -> PathBuf {
        self.target_dir().join(self.target.triple()).join(profile)
    }

    /// Another compiler would throw away what the first has made.
    fn target_dir(&self) -> PathBuf {
        let compiler = if self.debian {
            "target/debian"
        } else {
            "target"
        };
        root().join(compiler).join(&self.apart)
    }
}

fn rustup_has(target: Target) -> bool {
    let list = Command::new("rustup")
        .args(["target", "list", "--installed"])
        .output();
    list.is_ok_and(|o| {
        let list = String::from_utf8_lossy(&o.stdout).into_owned();
        o.status.success() && list.lines().any(|line| line == target.triple())
    })
}

fn debian_has(target: Target) -> bool {
    let sysroot = "/usr/lib/rustlib";
    let part = match target {
        Target::Aarch64Linux => format!("{sysroot}/{}/lib", target.triple()),
        _ => format!("{sysroot}/src/rust/library"),
    };
    PathBuf::from(DEBIAN).exists() && PathBuf::from(part).exists()
}

/// The linker that comes with rustup's compilers for hosts.
fn rust_lld() -> Option<PathBuf> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir"])
        .output()
        .ok()?;
    let libraries = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    let linker = libraries.parent()?.join("bin/rust-lld");
    linker.exists().then_some(linker)
}

fn quiet(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|s| s.success())
}
