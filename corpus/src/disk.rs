//! Files that are complete or absent, and what killed runs leave of them.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::Error;

/// No file takes this long to be written: what is older belongs to a run that is gone.
const STALE: Duration = Duration::from_secs(3600);

/// Writes `parts`, one after the other, to `path`: under another name first, so that the file is complete or absent. Where
/// `path` is a link, the file that it leads to is written.
///
/// # Errors
/// If the file cannot be written, or is there and no file (a folder, a device). Nothing of it stays.
pub fn write_atomic(path: &Path, parts: &[&[u8]]) -> Result<(), Error> {
    let target;
    let path = match fs::metadata(path) {
        Ok(data) if !data.is_file() => {
            let what = std::io::Error::other("is there and is no file, so it is not replaced");
            return Err(Error::Io(path.into(), what));
        }
        Ok(_) => {
            target = fs::canonicalize(path).map_err(Error::io(path))?;
            &target
        }
        Err(_) => path,
    };
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(
        ".{}-{}.tmp",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    ));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = fs::File::create(&temporary)?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        file.sync_data()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        // What was half written must not stay; that it may fail too changes nothing.
        let _ = fs::remove_file(&temporary);
        Error::Io(path.into(), e)
    })
}

/// Whether both paths lead to the same file that is there.
pub fn same_file(a: &Path, b: &Path) -> bool {
    let [a, b] = [a, b].map(|path| fs::canonicalize(path).ok());
    a.is_some() && a == b
}

/// Removes what runs that were killed have left of [`write_atomic`] in `folder`. A file that cannot be removed does no
/// harm where it is.
pub fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(is_temporary);
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if is_ours && age().is_some_and(|age| age > STALE) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a name ends as [`write_atomic`] has temporary names end: `.8123-0.tmp`.
fn is_temporary(name: &str) -> bool {
    let numbers = name
        .strip_suffix(".tmp")
        .and_then(|name| name.rsplit_once('.')?.1.split_once('-'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    numbers.is_some_and(|(process, count)| is_number(process) && is_number(count))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn files_are_complete_or_absent_and_stale_ones_go() {
        let folder = std::env::temp_dir().join(format!("viseme-disk-{}", std::process::id()));
        fs::create_dir_all(folder.join("taken")).expect("a folder");
        write_atomic(&folder.join("a"), &[b"one", b" two"]).expect("writable");
        assert_eq!(fs::read(folder.join("a")).expect("there"), b"one two");
        // A folder cannot be replaced by a file; nothing of the file stays.
        assert!(write_atomic(&folder.join("taken"), &[b"one"]).is_err());
        let names = || {
            let entries = fs::read_dir(&folder).expect("readable");
            let mut names: Vec<_> = entries
                .map(|e| {
                    e.expect("an entry")
                        .file_name()
                        .into_string()
                        .expect("text")
                })
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["a", "taken"]);
        let old = SystemTime::now() - 2 * STALE;
        for name in ["a.12-0.tmp", "b.crops.7-31.tmp", "notes.tmp", "c.x-1.tmp"] {
            let file = fs::File::create(folder.join(name)).expect("writable");
            file.set_modified(old).expect("set");
        }
        fs::write(folder.join("young.12-1.tmp"), "being written").expect("writable");
        sweep(&folder);
        assert_eq!(
            names(),
            ["a", "c.x-1.tmp", "notes.tmp", "taken", "young.12-1.tmp"]
        );
        fs::remove_dir_all(folder).expect("removable");
    }
}
