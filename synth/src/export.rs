//! Clips as files: Y4M picture, WAV sound, and a manifest of the same form as the GRID one.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::clip::Clip;
use crate::pronounce::{GRID_DIGITS, in_grid_grammar};
use crate::render::CROP;
use crate::voice::SAMPLE_RATE;

/// A file that could not be written.
#[derive(Debug)]
pub struct ExportError {
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot write {}: {}; choose a folder you may write to, with space left",
            self.path.display(),
            self.source
        )
    }
}

impl core::error::Error for ExportError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The frames as a grey (Cmono) YUV4MPEG2 stream.
#[must_use]
pub fn y4m(clip: &Clip) -> Vec<u8> {
    // Rates like 29.97 are written in thousandths.
    let rate = if clip.fps == clip.fps.floor() {
        format!("{}:1", clip.fps as u32)
    } else {
        format!("{}:1000", (clip.fps * 1000.0 + 0.5) as u32)
    };
    let header = format!("YUV4MPEG2 W{CROP} H{CROP} F{rate} Ip A1:1 Cmono\n");
    let mut out = Vec::with_capacity(header.len() + clip.frames.len() * (6 + CROP * CROP));
    out.extend_from_slice(header.as_bytes());
    for frame in &clip.frames {
        out.extend_from_slice(b"FRAME\n");
        out.extend_from_slice(frame);
    }
    out
}

/// The sound as a 16-bit mono RIFF/WAVE file.
#[must_use]
pub fn wav(clip: &Clip) -> Vec<u8> {
    let bytes = clip.audio.len() as u32 * 2;
    let mut out = Vec::with_capacity(44 + bytes as usize);
    out.extend_from_slice(b"RIFF");
    out.extend_from_slice(&(36 + bytes).to_le_bytes());
    out.extend_from_slice(b"WAVEfmt ");
    out.extend_from_slice(&16_u32.to_le_bytes());
    // PCM, one channel.
    out.extend_from_slice(&1_u16.to_le_bytes());
    out.extend_from_slice(&1_u16.to_le_bytes());
    out.extend_from_slice(&SAMPLE_RATE.to_le_bytes());
    out.extend_from_slice(&(SAMPLE_RATE * 2).to_le_bytes());
    out.extend_from_slice(&2_u16.to_le_bytes());
    out.extend_from_slice(&16_u16.to_le_bytes());
    out.extend_from_slice(b"data");
    out.extend_from_slice(&bytes.to_le_bytes());
    for sample in &clip.audio {
        out.extend_from_slice(&sample.to_le_bytes());
    }
    out
}

/// The manifest's entry for `clip`, stored as `stem`.y4m and `stem`.wav.
///
/// `roi` is the mouth crop, `[x, y, width, height]` in pixels: the whole frame, so that
/// nothing has to look for a face.
#[must_use]
pub fn manifest_entry(clip: &Clip, speaker: &str, split: &str, stem: &str) -> Value {
    let mut words: Vec<Value> = Vec::with_capacity(clip.words.len() + 2);
    let mut now = 0.0;
    for (start, end, text) in &clip.words {
        if hundredths(*start) > hundredths(now) {
            words.push(timed(now, *start, "sil"));
        }
        words.push(timed(*start, *end, text));
        now = *end;
    }
    words.push(timed(now, clip.seconds, "sil"));
    json!({
        "speaker": speaker,
        "code": code(&clip.text()).unwrap_or_else(|| stem.to_owned()),
        "text": clip.text(),
        "words": words,
        "split": split,
        "file": format!("{stem}.y4m"),
        "audio": format!("{stem}.wav"),
        "roi": [0, 0, CROP, CROP],
    })
}

/// The manifest of a set of entries.
#[must_use]
pub fn manifest(entries: Vec<Value>) -> Value {
    json!({
        "corpus": "synthetic talking mouth",
        "licence": "MIT OR Apache-2.0",
        "attribution": "viseme-synth",
        "clip": format!(
            "grey {CROP}x{CROP} mouth crops, Y4M, 25 fps; WAV mono {} kHz",
            SAMPLE_RATE / 1000
        ),
        "words": "[start_s, end_s, word], sil = silence",
        "clips": entries,
    })
}

/// Writes `clip` as `stem`.y4m and `stem`.wav in `folder`, each complete or not at all.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn write_clip(clip: &Clip, folder: &Path, stem: &str) -> Result<(), ExportError> {
    write_whole(&folder.join(format!("{stem}.y4m")), &y4m(clip))?;
    write_whole(&folder.join(format!("{stem}.wav")), &wav(clip))
}

/// Writes `manifest.json` in `folder`, complete or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write_manifest(entries: Vec<Value>, folder: &Path) -> Result<(), ExportError> {
    let text = format!("{:#}\n", manifest(entries));
    write_whole(&folder.join("manifest.json"), text.as_bytes())
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    fs::write(&part, bytes)
        .and_then(|()| fs::rename(&part, path))
        .map_err(|source| {
            // What was written so far is of no use; the error already says what failed.
            let _ = fs::remove_file(&part);
            ExportError {
                path: path.to_owned(),
                source,
            }
        })
}

fn timed(start: f32, end: f32, text: &str) -> Value {
    json!([hundredths(start), hundredths(end), text])
}

/// Seconds rounded to 10 ms, the resolution of GRID's alignments.
fn hundredths(seconds: f32) -> f64 {
    (f64::from(seconds) * 100.0 + 0.5).floor() / 100.0
}

/// GRID's name of a sentence: "bin blue at f two now" is `bbaf2n`.
fn code(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split(' ').collect();
    if !in_grid_grammar(&words) {
        return None;
    }
    let mut code = String::with_capacity(6);
    for (slot, word) in words.iter().enumerate() {
        code.push(match slot {
            4 if *word == "zero" => 'z',
            4 => {
                let digit = GRID_DIGITS.iter().position(|d| d == word)?;
                char::from_digit(digit as u32, 10)?
            }
            _ => word.chars().next()?,
        });
    }
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_corpus() {
        assert_eq!(code("bin blue at f two now").as_deref(), Some("bbaf2n"));
        assert_eq!(
            code("place blue by j zero please").as_deref(),
            Some("pbbjzp")
        );
        assert_eq!(code("place blue by j zero"), None);
        assert_eq!(code(""), None);
    }
}
