//! Public Python packages as referees, in virtual environments below the target folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// A Python with `packages` (pip requirements) installed; made at the first call, kept for later runs.
///
/// # Errors
/// Why the test is to be skipped: no Python, or the packages cannot be installed.
pub fn with(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    // Tests run side by side; one makes the environment, the others find it.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{name}"));
    let python = folder.join("bin/python");
    let done = folder.join("installed");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&done).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&folder))?;
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    run(Command::new(&python).args(pip).args(packages))?;
    std::fs::write(&done, wanted).map_err(|e| e.to_string())?;
    Ok(python)
}

/// Runs a script with arguments.
///
/// # Panics
/// When it fails: the referee is there, so its failure is no reason to skip.
pub fn run_script(python: &Path, script: &str, arguments: &[&Path]) {
    let output = Command::new(python)
        .args(["-c", script])
        .args(arguments)
        .output();
    let output = output.expect("the Python just installed");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn run(command: &mut Command) -> Result<(), String> {
    let said = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("{said}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let error = String::from_utf8_lossy(&output.stderr);
            Err(format!(
                "{said}: {}",
                error.lines().last().unwrap_or("failed")
            ))
        }
    }
}
