//! Packages that the tests use: installed where that is allowed, named where it is not.

use std::process::{Command, Stdio};

use crate::run::exists;

/// A program, and the Debian package that holds it.
const PROGRAMS: [(&str, &str); 7] = [
    ("ffmpeg", "ffmpeg"),
    ("ffprobe", "ffmpeg"),
    ("python3", "python3-venv"),
    ("qemu-aarch64-static", "qemu-user-static"),
    ("qemu-system-arm", "qemu-system-arm"),
    ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    ("aarch64-linux-gnu-gcc", "libc6-dev-arm64-cross"),
];

/// Installs what is missing with apt if this user may; otherwise says what to install. The tests
/// that need a missing program say `skipped` and why.
pub fn packages() {
    let missing = missing();
    if missing.is_empty() {
        return;
    }
    eprintln!("── installing {}", missing.join(" "));
    if !install(&missing) {
        eprintln!(
            "could not install; some tests will be skipped. Run: sudo apt-get install {}",
            missing.join(" ")
        );
    }
}

fn missing() -> Vec<&'static str> {
    let mut packages: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| !exists(program))
        .map(|&(_, package)| package)
        .collect();
    packages.dedup();
    packages
}

/// Installs packages if this user may.
pub fn install(packages: &[&str]) -> bool {
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    // The package lists may be old or absent: then one refresh.
    as_root("apt-get", &arguments)
        || (as_root("apt-get", &["update"]) && as_root("apt-get", &arguments))
}

/// Lets packages of another architecture be installed beside those of this one, if this user may.
pub fn architecture(name: &str) -> bool {
    as_root("dpkg", &["--add-architecture", name]) && as_root("apt-get", &["update"])
}

/// Runs a program quietly; without being root only by a sudo that asks for no password.
fn as_root(program: &str, arguments: &[&str]) -> bool {
    let root = Command::new("id").arg("-u").output();
    let root = root.is_ok_and(|o| o.stdout.starts_with(b"0\n"));
    let mut command = Command::new(if root { program } else { "sudo" });
    if !root {
        command.args(["-n", program]);
    }
    let status = command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    status.is_ok_and(|s| s.success())
}
