//! Running other programs.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Why a command of ours stopped.
#[derive(Debug)]
pub struct Failure {
    /// One line for people; empty when the program that failed has said it already.
    message: String,
}

impl Failure {
    /// What was wrong and what to do.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }

    /// Prints it; the exit code of every failure is 2.
    pub fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("xtask: {}", self.message);
        }
        ExitCode::from(2)
    }
}

/// The workspace's folder.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Builds and runs one of the project's programs, optimised, from the caller's folder.
pub fn program(package: &str, arguments: &[String]) -> Result<(), Failure> {
    program_with(package, arguments, |_| {})
}

/// As [`program`], with more options for cargo, or a changed environment.
pub fn program_with(
    package: &str,
    arguments: &[String],
    options: impl FnOnce(&mut Command),
) -> Result<(), Failure> {
    let manifest = root().join("Cargo.toml");
    let mut command = cargo();
    command.current_dir(std::env::current_dir().unwrap_or_else(|_| root()));
    command
        .args(["run", "--quiet", "--release", "--manifest-path"])
        .arg(manifest);
    command.args(["--package", package, "--bin", package]);
    options(&mut command);
    command.arg("--").args(arguments);
    let status = command
        .status()
        .map_err(|e| Failure::usage(format!("cannot run cargo: {e}; install it from rustup.rs")))?;
    // The program has said itself what was wrong.
    if status.success() {
        Ok(())
    } else {
        Err(Failure {
            message: String::new(),
        })
    }
}

/// Runs a step and returns what it printed on standard output.
pub fn output(what: &str, command: &mut Command) -> Result<String, Failure> {
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|e| Failure::usage(format!("cannot {what}: {e}")))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(Failure::usage(format!(
            "cannot {what}; the lines above say why"
        )))
    }
}

/// Runs a step that prints for itself.
pub fn step(what: &str, command: &mut Command) -> Result<(), Failure> {
    eprintln!("── {what}");
    let status = command.status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Failure::usage(format!(
            "{what}: failed, the lines above say why"
        ))),
        Err(e) => Err(Failure::usage(format!("{what}: cannot start: {e}"))),
    }
}

/// Whether a program can be started.
pub fn exists(program: &str) -> bool {
    Command::new(program)
        .arg("-version")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok()
}
