//! The GRID audio-visual sentence corpus in the folders it ships in.
//!
//! Cooke, Barker, Cunningham, Shao, "An audio-visual corpus for speech perception and automatic speech recognition"
//! (2006). A speaker is a folder `s1` to `s34` with one video a sentence (`bbaf2n.mpg`) and one alignment
//! (`align/bbaf2n.align`) whose times count 25000 a second. The archives have been unpacked in several ways over the
//! years, so alignments are also looked for in `align/s1`, `alignments/s1` and beside the video, and videos in
//! `s1/video` and `video/s1`.

use std::fs;
use std::path::{Path, PathBuf};

use viseme_capture::file;

use crate::{Clip, Error, Manifest, Word};

/// Largest alignment that is read; those of GRID have some hundred bytes.
const MOST_BYTES: u64 = 1 << 20;
/// Alignment units in a second.
const UNITS_PER_SECOND: f64 = 25_000.0;
/// Pairs whose sentences are the test side of `pair_split`: no other clip starts with these two words.
const TEST_PAIRS: [[&str; 2]; 4] = [
    ["bin", "blue"],
    ["lay", "green"],
    ["place", "red"],
    ["set", "white"],
];
/// Every so many-th clip of a speaker, in the order of their names, is the test side of `split`.
const TEST_EVERY: usize = 10;

/// Lists the clips of the GRID speakers under `folder` that have both video and alignment.
///
/// `split` is `test` for every tenth clip of a speaker and `train` for the others; `pair_split` keeps four
/// (command, colour) pairs apart, since neighbouring GRID sentences share their first words.
///
/// # Errors
/// If the folder cannot be read, holds no speaker with videos and alignments, or an alignment is malformed.
pub fn read(folder: &Path) -> Result<Manifest, Error> {
    let mut manifest = Manifest {
        corpus: "GRID audio-visual sentence corpus".into(),
        licence: "CC BY 4.0".into(),
        attribution: "Cooke, M., Barker, J., Cunningham, S., & Shao, X. (2006). The Grid Audio-Visual Speech Corpus \
                      (1.0) [Data set]. Zenodo. https://doi.org/10.5281/zenodo.3625687"
            .into(),
        clips: Vec::new(),
        root: folder.into(),
    };
    for speaker in speakers(folder)? {
        let mut of_speaker = 0;
        for video in videos(folder, &speaker)? {
            let code = video
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let Some(align) = alignment(folder, &speaker, &video, &code) else {
                continue;
            };
            let words = parse_align(&align)?;
            let spoken: Vec<&str> = words
                .iter()
                .filter(|w| !w.is_silence())
                .map(|w| w.text.as_str())
                .collect();
            let pair_side = if TEST_PAIRS.iter().any(|pair| spoken.starts_with(pair)) {
                "test"
            } else {
                "train"
            };
            let side = if of_speaker % TEST_EVERY == TEST_EVERY - 1 {
                "test"
            } else {
                "train"
            };
            of_speaker += 1;
            manifest.clips.push(Clip {
                speaker: speaker.clone(),
                text: spoken.join(" "),
                code,
                split: side.into(),
                pair_split: Some(pair_side.into()),
                file: video.strip_prefix(folder).unwrap_or(&video).into(),
                words,
                roi: None,
            });
        }
    }
    if manifest.clips.is_empty() {
        let detail = "no video with an alignment in it; it should hold s1/bbaf2n.mpg and s1/align/bbaf2n.align";
        return Err(Error::Grid(folder.into(), detail.into()));
    }
    Ok(manifest)
}

/// Folders named `s` and a number, in the order of the numbers.
fn speakers(folder: &Path) -> Result<Vec<String>, Error> {
    let mut numbers = Vec::new();
    for place in [folder.to_path_buf(), folder.join("video")] {
        if !place.is_dir() && place != folder {
            continue;
        }
        for entry in fs::read_dir(&place).map_err(Error::io(&place))? {
            let entry = entry.map_err(Error::io(&place))?;
            let name = entry.file_name();
            let number = name
                .to_str()
                .and_then(|n| n.strip_prefix('s'))
                .and_then(|n| n.parse::<u16>().ok());
            numbers.extend(number.filter(|_| entry.path().is_dir()));
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers.into_iter().map(|n| format!("s{n}")).collect())
}

fn videos(folder: &Path, speaker: &str) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for place in [
        folder.join(speaker),
        folder.join(speaker).join("video"),
        folder.join("video").join(speaker),
    ] {
        if !place.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&place).map_err(Error::io(&place))? {
            let path = entry.map_err(Error::io(&place))?.path();
            let is_video = path
                .extension()
                .is_some_and(|e| e == "mpg" || e == "mp4" || e == "avi");
            if is_video && path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    files.dedup_by(|a, b| a.file_stem() == b.file_stem());
    Ok(files)
}

fn alignment(folder: &Path, speaker: &str, video: &Path, code: &str) -> Option<PathBuf> {
    let file = format!("{code}.align");
    let of_speaker = folder.join(speaker);
    [
        of_speaker.join("align").join(&file),
        of_speaker.join("alignments").join(&file),
        folder.join("align").join(speaker).join(&file),
        folder.join("alignments").join(speaker).join(&file),
        video.with_extension("align"),
    ]
    .into_iter()
    .find(|path| path.is_file())
}

/// Reads lines of `start end word`.
fn parse_align(path: &Path) -> Result<Vec<Word>, Error> {
    let bytes = file::read(path, MOST_BYTES).map_err(Error::io(path))?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut words: Vec<Word> = Vec::new();
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let word =
            parse_line(line).filter(|w| words.last().is_none_or(|last| last.start_s <= w.start_s));
        let bad = || {
            Error::Grid(
                path.into(),
                format!("line {} is not `start end word` in order", index + 1),
            )
        };
        words.push(word.ok_or_else(bad)?);
    }
    Ok(words)
}

fn parse_line(line: &str) -> Option<Word> {
    let mut fields = line.split_whitespace();
    let mut seconds = || Some(f64::from(fields.next()?.parse::<u32>().ok()?) / UNITS_PER_SECOND);
    let (start_s, end_s) = (seconds()?, seconds()?);
    let text = fields.next()?.to_ascii_lowercase();
    (fields.next().is_none() && start_s <= end_s).then_some(Word {
        start_s,
        end_s,
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_become_a_manifest() {
        let dir = std::env::temp_dir().join(format!("viseme-grid-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("writable");
        };
        // The alignment that the corpus ships for this sentence.
        let align = "0 23750 sil\n23750 29500 bin\n29500 34000 blue\n34000 35500 at\n35500 41000 f\n41000 47250 two\n\
                     47250 53000 now\n53000 74500 sil\n";
        write("s1/bbaf2n.mpg", "");
        write("s1/align/bbaf2n.align", align);
        write("s10/lgwm5s.mpg", "");
        write("align/s10/lgwm5s.align", "0 10 lay\n10 20 sp\n20 30 blue\n");
        write("s2/nowords.mpg", "");
        write("notes/readme.txt", "");

        let manifest = read(&dir).expect("a GRID folder");
        let ids: Vec<String> = manifest.clips.iter().map(Clip::id).collect();
        assert_eq!(ids, ["s1/bbaf2n", "s10/lgwm5s"]);
        let first = &manifest.clips[0];
        assert_eq!(first.text, "bin blue at f two now");
        assert_eq!(
            first.words[0],
            Word {
                start_s: 0.0,
                end_s: 0.95,
                text: "sil".into()
            }
        );
        assert_eq!(first.words[7].end_s, 2.98);
        assert_eq!(first.pair_split.as_deref(), Some("test"));
        assert_eq!(manifest.clips[1].text, "lay blue");
        assert_eq!(manifest.clips[1].pair_split.as_deref(), Some("train"));
        assert_eq!(manifest.path_of(first), dir.join("s1/bbaf2n.mpg"));

        write("s1/align/bbaf2n.align", "0 10\n");
        assert!(
            read(&dir)
                .expect_err("a short line")
                .to_string()
                .contains("line 1")
        );
        fs::remove_dir_all(&dir).expect("removable");
    }
}
