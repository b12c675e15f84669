//! Opening files that a user names: never a pipe or a device, which would be waited for or read without end.

use std::fs::{self, File};
use std::io::{self, Read};
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

/// Reads a whole regular file of at most `most` bytes.
///
/// # Errors
/// As [`open`]; also if the file is larger, of kind [`io::ErrorKind::FileTooLarge`].
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more tells that there are more.
    let size = open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if size as u64 > most {
        let what = format!("larger than {} MiB", most >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
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

    #[test]
    fn files_are_read_up_to_a_size() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let size = fs::metadata(&here).unwrap().len();
        assert_eq!(read(&here, size).unwrap(), fs::read(&here).unwrap());
        let error = read(&here, size - 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(read(Path::new("/dev/zero"), 1).is_err());
    }
}
