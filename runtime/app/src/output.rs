//! Lines for people and programs: results on stdout, everything else on stderr.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Exit code when something failed.
pub const FAILED: u8 = 2;

/// Prints one line of results.
///
/// # Errors
/// If stdout is closed, or its disk is full.
pub fn print(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .map_err(|e| {
            let what = format!("the results cannot be written ({e}); check where stdout leads");
            io::Error::new(e.kind(), what)
        })
}

/// The exit code of a command that read clips: whether some of them failed, and whether the others could be `printed`.
///
/// # Errors
/// If they could not, unless a failure is to be told to whoever closed stdout.
pub fn exit_code(failed: bool, printed: io::Result<()>) -> io::Result<ExitCode> {
    match printed {
        Err(error) if !(failed && error.kind() == io::ErrorKind::BrokenPipe) => Err(error),
        _ if failed => Ok(ExitCode::from(FAILED)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Prints one line of complaint on stderr.
pub fn complain(what: &str) {
    // Nothing can be done about a stderr that is closed.
    let _ = writeln!(io::stderr().lock(), "viseme: {}", one_line(what));
}

/// `what` without control characters: hostile file names and files must not reach the terminal, nor break the line.
pub fn one_line(what: &str) -> String {
    what.chars().filter(|c| !c.is_control()).collect()
}

/// A path as one printable line.
pub fn show(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

/// `what` went wrong with `path`: named once, whether the message names it already or not.
pub fn about(path: &Path, what: &str) -> String {
    let name = show(path);
    if what.starts_with(&name) {
        what.into()
    } else {
        format!("{name}: {what}")
    }
}

/// Rounds to so many decimals, for JSON.
pub fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).round() / scale
}
