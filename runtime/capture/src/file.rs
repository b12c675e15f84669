//! Opening files that a user names: never a pipe or a device, which would be waited for or read without end.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Opens a regular file.
///
/// # Errors
/// As [`File::open`]; also if `path` is a pipe, a device or a folder.
pub fn open(path: &Path) -> io::Result<File> {
    if fs::metadata(path)?.is_file() {
        File::open(path)
    } else {
        Err(io::Error::other("not a file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_devices_are_refused() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(open(&here.join("Cargo.toml")).is_ok());
        assert_eq!(open(here).unwrap_err().to_string(), "not a file");
        assert!(open(&here.join("no such file")).is_err());
        #[cfg(unix)]
        assert_eq!(
            open(Path::new("/dev/zero")).unwrap_err().to_string(),
            "not a file"
        );
    }
}
