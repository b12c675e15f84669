//! The shared test data, which is not part of the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The file or folder `path` of the shared data: in `VISEME_SHARED`, else in `shared` beside the workspace.
///
/// # Errors
/// Why the test is to be skipped.
pub fn find(path: &str) -> Result<PathBuf, String> {
    let root = std::env::var_os("VISEME_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let found = root.join(path);
    match found.exists() {
        true => Ok(found),
        false => Err(format!("no {path} in the shared data (set VISEME_SHARED)")),
    }
}

/// Decodes a video with ffmpeg: every frame in `format` (`gray`, `bgr24`), each `bytes` long, at its own size.
///
/// # Errors
/// Why the test is to be skipped.
pub fn frames(video: &Path, format: &str, bytes: usize) -> Result<Vec<Vec<u8>>, String> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(video)
        .args(["-pix_fmt", format, "-f", "rawvideo", "-"])
        .output()
        .map_err(|e| format!("no ffmpeg: {e}"))?;
    assert!(
        output.status.success(),
        "ffmpeg failed on {}",
        video.display()
    );
    assert!(!output.stdout.is_empty() && output.stdout.len().is_multiple_of(bytes));
    Ok(output.stdout.chunks(bytes).map(<[u8]>::to_vec).collect())
}
