//! Manifests: JSON lists of clips with the words that are said in them.
//!
//! ```json
//! { "corpus": "...", "licence": "...", "attribution": "...",
//!   "clips": [ { "speaker": "s1", "code": "bbaf2n", "text": "bin blue at f two now",
//!                "words": [[0.0, 0.95, "sil"], [0.95, 1.18, "bin"]],
//!                "split": "train", "pair_split": "test", "file": "s1/bbaf2n.mp4", "roi": [60, 130, 96, 96] } ] }
//! ```
//!
//! `words` (seconds), `split`, `pair_split` and `roi` (fixed mouth region, pixels of the video) may be absent; files
//! are relative to the manifest's folder. Fields that are not named here are ignored.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use viseme_capture::file;

use crate::Error;

/// Largest manifest that is read; one of a million clips is smaller.
const MAX_BYTES: u64 = 512 << 20;
/// Longest clip whose times are believed, in seconds.
const MAX_SECONDS: f64 = 24.0 * 3600.0;

/// A list of clips.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of the corpus.
    #[serde(default)]
    pub corpus: String,
    /// Licence of the clips.
    #[serde(default)]
    pub licence: String,
    /// Credit that anything made from the clips has to show.
    #[serde(default)]
    pub attribution: String,
    /// The clips, in the order of the file.
    pub clips: Vec<Clip>,
    /// Folder that the clips' files are relative to.
    #[serde(skip)]
    pub root: PathBuf,
}

/// One clip.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Clip {
    /// Who speaks.
    pub speaker: String,
    /// Name of the clip, unique for its speaker.
    pub code: String,
    /// What is said: lower-case words, one space between them.
    pub text: String,
    /// When each word is said, silences (`sil`, `sp`) included; empty if unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<Word>,
    /// Which part of the corpus it belongs to, such as `train` or `test`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub split: String,
    /// Its side in the split that keeps whole (command, colour) pairs apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair_split: Option<String>,
    /// The video, relative to [`Manifest::root`] or absolute.
    pub file: PathBuf,
    /// Fixed mouth region x, y, width, height in pixels, for clips where no face is to be looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roi: Option<[f32; 4]>,
}

impl Clip {
    /// `speaker/code`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.speaker, self.code)
    }
}

/// A word with its time, `[start_s, end_s, "word"]` in the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Word {
    /// Start in seconds.
    pub start_s: f64,
    /// End in seconds.
    pub end_s: f64,
    /// The word, or `sil` / `sp` for silence.
    pub text: String,
}

impl Word {
    /// Whether it stands for silence.
    pub fn is_silence(&self) -> bool {
        matches!(self.text.as_str(), "sil" | "sp")
    }
}

/// The fields of a clip that name the side of a split it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SplitField {
    /// The corpus's own split.
    #[value(name = "split")]
    Split,
    /// The split in which no pair of first words is on both sides.
    #[value(name = "pair_split", alias = "pair-split")]
    PairSplit,
}

impl SplitField {
    /// The side that `clip` is on, if it is in this split.
    pub fn side(self, clip: &Clip) -> Option<&str> {
        match self {
            Self::Split => Some(&clip.split),
            Self::PairSplit => clip.pair_split.as_deref(),
        }
    }
}

impl Manifest {
    /// Reads and checks the manifest at `path`.
    ///
    /// # Errors
    /// If it cannot be read, is not JSON of this form, or a clip's fields make no sense.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bad = |detail| Error::Manifest(path.into(), detail);
        let json = file::read(path, MAX_BYTES).map_err(|e| match e.kind() {
            io::ErrorKind::FileTooLarge => bad(format!("{e}; split it")),
            _ => Error::Io(path.into(), e),
        })?;
        // Editors on Windows begin text with a byte order mark, which JSON does not know (RFC 8259, section 8.1).
        let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&json);
        if !json.trim_ascii_start().starts_with(b"{") {
            return Err(bad(
                "a manifest is an object with `clips`, {\"clips\": [...]}; mend the file".into(),
            ));
        }
        let mut manifest: Manifest =
            serde_json::from_slice(json).map_err(|e| bad(format!("{e}; mend the file")))?;
        manifest.check().map_err(bad)?;
        manifest.root = path.parent().unwrap_or(Path::new("")).into();
        Ok(manifest)
    }

    /// Writes the manifest to `path`; complete or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::Manifest(path.into(), e.to_string()))?;
        json.push(b'\n');
        crate::disk::write_atomic(path, &[&json])
    }

    /// Where the video of `clip` is.
    pub fn path_of(&self, clip: &Clip) -> PathBuf {
        self.root.join(&clip.file)
    }

    fn check(&self) -> Result<(), String> {
        let mut seen = HashSet::new();
        for (index, clip) in self.clips.iter().enumerate() {
            let at = |detail: &str| {
                Err(format!(
                    "clip {index} ({}): {detail}",
                    printable(&clip.id())
                ))
            };
            if clip.speaker.is_empty() || clip.code.is_empty() {
                return at("needs a speaker and a code");
            }
            if clip.file.as_os_str().is_empty() {
                return at("names no file");
            }
            if !seen.insert((clip.speaker.as_str(), clip.code.as_str())) {
                return at("is there twice; give every clip of a speaker its own code");
            }
            let mut last = 0.0;
            for word in &clip.words {
                let ordered =
                    last <= word.start_s && word.start_s <= word.end_s && word.end_s <= MAX_SECONDS;
                if !ordered {
                    return at(
                        "its word times do not follow each other; give seconds, start before end",
                    );
                }
                last = word.start_s;
            }
            if let Some([x, y, w, h]) = clip.roi
                && !(x >= 0.0
                    && y >= 0.0
                    && w >= 1.0
                    && h >= 1.0
                    && x + w <= 65_536.0
                    && y + h <= 65_536.0)
            {
                return at("its roi is no region; give x, y, width, height in pixels");
            }
        }
        Ok(())
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(3)?;
        tuple.serialize_element(&self.start_s)?;
        tuple.serialize_element(&self.end_s)?;
        tuple.serialize_element(&self.text)?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Triple;
        impl<'de> Visitor<'de> for Triple {
            type Value = Word;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("[start_s, end_s, word]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Word, A::Error> {
                let missing = |at| serde::de::Error::invalid_length(at, &"[start_s, end_s, word]");
                Ok(Word {
                    start_s: seq.next_element()?.ok_or_else(|| missing(0))?,
                    end_s: seq.next_element()?.ok_or_else(|| missing(1))?,
                    text: seq.next_element()?.ok_or_else(|| missing(2))?,
                })
            }
        }
        deserializer.deserialize_tuple(3, Triple)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn parse(json: &str) -> Result<Manifest, String> {
        let manifest: Manifest = serde_json::from_str(json).map_err(|e| e.to_string())?;
        manifest.check().map(|()| manifest)
    }

    #[test]
    fn clips_survive_writing_and_reading() {
        let dir = std::env::temp_dir().join(format!("viseme-manifest-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a temporary folder");
        let word = Word {
            start_s: 0.0,
            end_s: 0.25,
            text: "bin".into(),
        };
        let clip = Clip {
            speaker: "s1".into(),
            code: "a".into(),
            text: "bin".into(),
            words: vec![word],
            split: "train".into(),
            pair_split: Some("test".into()),
            file: "v/a.mp4".into(),
            roi: Some([1.0, 2.0, 96.0, 96.0]),
        };
        let written = Manifest {
            corpus: "c".into(),
            clips: vec![clip],
            root: dir.clone(),
            ..Manifest::default()
        };
        let path = dir.join("manifest.json");
        written.write(&path).expect("writable");
        let read = Manifest::read(&path).expect("readable");
        assert_eq!(read, written);
        // As an editor on Windows would save it.
        let text = fs::read_to_string(&path).expect("readable");
        let marked = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        fs::write(&path, marked).expect("writable");
        assert_eq!(Manifest::read(&path).expect("readable"), written);
        assert_eq!(read.path_of(&read.clips[0]), dir.join("v/a.mp4"));
        fs::remove_dir_all(dir).expect("removable");
    }

    #[test]
    fn senseless_clips_are_refused() {
        let clip = |fields: &str| {
            format!(r#"{{"clips":[{{"speaker":"s","text":"","file":"f",{fields}}}]}}"#)
        };
        let says = |json: &str, words: &str| {
            let error = parse(json).expect_err("a fault");
            assert!(error.contains(words) && !error.contains('\n'), "{error}");
        };
        assert!(parse(&clip(r#""code":"c""#)).is_ok());
        says("{}", "clips");
        says("[1,2", "column");
        says(&clip(r#""code":"""#), "code");
        says(&clip(r#""code":"c","words":[[1.0,0.5,"x"]]"#), "word times");
        says(
            &clip(r#""code":"c","words":[[0.0,1e300,"x"]]"#),
            "word times",
        );
        says(&clip(r#""code":"c","words":[[0.0,"x"]]"#), "invalid type");
        says(&clip(r#""code":"c","words":[[0.0,1.0,"x",2]]"#), "trailing");
        says(&clip(r#""code":"c","roi":[0,0,-5,5]"#), "roi");
        says(
            r#"{"clips":[{"speaker":"s","code":"c","text":"","file":"f"},{"speaker":"s","code":"c","text":"","file":"g"}]}"#,
            "twice",
        );
    }

    #[test]
    fn splits_are_selected_by_name() {
        let mut manifest = Manifest::default();
        for (code, split, pair) in [
            ("a", "train", Some("test")),
            ("b", "train", Some("train")),
            ("c", "test", None),
        ] {
            manifest.clips.push(Clip {
                code: code.into(),
                split: split.into(),
                pair_split: pair.map(Into::into),
                ..Clip::default()
            });
        }
        let on = |field: SplitField, side| {
            let clips = manifest.clips.iter();
            let here = clips.filter(|c| field.side(c) == Some(side));
            here.map(|c| c.code.as_str()).collect::<String>()
        };
        assert_eq!(
            ["train", "test", "all"].map(|s| on(SplitField::Split, s)),
            ["ab", "c", ""]
        );
        let pairs = ["train", "test", "none"].map(|s| on(SplitField::PairSplit, s));
        assert_eq!(pairs, ["b", "a", ""]);
    }
}
