//! Packages that the tests use: installed where that is allowed, named where it is not.

use std::process::{Command, Stdio};

use crate::run::exists;

/// A program, and the Debian package that holds it.
const PROGRAMS: [(&str, &str); 3] = [
    ("ffmpeg", "ffmpeg"),
    ("ffprobe", "ffmpeg"),
    ("python3", "python3-venv"),
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

fn install(packages: &[&str]) -> bool {
    let root = Command::new("id").arg("-u").output();
    let root = root.is_ok_and(|o| o.stdout.starts_with(b"0\n"));
    let apt = |arguments: &[&str]| {
        // Without being root only a sudo that asks for no password will do.
        let mut command = if root {
            Command::new("apt-get")
        } else {
            Command::new("sudo")
        };
        if !root {
            command.args(["-n", "apt-get"]);
        }
        let status = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
        status.is_ok_and(|s| s.success())
    };
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    // The package lists may be old or absent: then one refresh.
    apt(&arguments) || (apt(&["update"]) && apt(&arguments))
}
