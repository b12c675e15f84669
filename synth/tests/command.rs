//! The `viseme-synth` command writes what the manifest's readers expect, and fails politely.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_viseme-synth"))
        .args(arguments)
        .output()
        .expect("the command starts")
}

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("an old folder can go");
    }
    folder
}

fn manifest(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    serde_json::from_str(&text).expect("valid JSON")
}

#[test]
fn clip_writes_picture_sound_and_manifest() {
    let out = folder("clip");
    let result = run(&[
        "clip",
        "--text",
        "Bin blue at F 2 now",
        "--speaker",
        "4",
        "--seed",
        "2",
        "--out",
        out.to_str().expect("UTF-8"),
    ]);
    assert!(result.status.success(), "{result:?}");
    let manifest = manifest(&out);
    let clip = &manifest["clips"][0];
    assert_eq!(clip["text"], "bin blue at f two now");
    assert_eq!(clip["code"], "bbaf2n");
    assert_eq!(clip["roi"], serde_json::json!([0, 0, 96, 96]));

    let video = std::fs::read(out.join("clip.y4m")).expect("the picture");
    let end = video.iter().position(|b| *b == b'\n').expect("a header") + 1;
    assert_eq!(
        &video[..end],
        b"YUV4MPEG2 W96 H96 F25:1 Ip A1:1 Cmono\n".as_slice()
    );
    assert_eq!(video.len(), end + 75 * (6 + 96 * 96));
    assert_eq!(&video[end..end + 6], b"FRAME\n");

    let sound = std::fs::read(out.join("clip.wav")).expect("the sound");
    assert_eq!(sound.len(), 44 + 2 * 48_000);
    assert_eq!(
        (&sound[..4], &sound[8..16]),
        (&b"RIFF"[..], &b"WAVEfmt "[..])
    );
    assert_eq!(
        u32::from_le_bytes([sound[4], sound[5], sound[6], sound[7]]),
        96_036
    );
}

/// Every field of a GRID clip's entry is in ours, with words that fill the clip.
#[test]
fn set_writes_the_grid_manifests_form() {
    let out = folder("set");
    let result = run(&[
        "set",
        "--count",
        "3",
        "--seed",
        "5",
        "--unseen",
        "--out",
        out.to_str().expect("UTF-8"),
    ]);
    assert!(result.status.success(), "{result:?}");
    let manifest = manifest(&out);
    let clips = manifest["clips"].as_array().expect("a list");
    assert_eq!(clips.len(), 3);
    let speakers: BTreeSet<&str> = clips.iter().filter_map(|c| c["speaker"].as_str()).collect();
    assert_eq!(speakers.len(), 3);
    for clip in clips {
        assert!(
            clip["speaker"]
                .as_str()
                .expect("a name")
                .starts_with("unseen-")
        );
        assert!(out.join(clip["file"].as_str().expect("a name")).is_file());
        let mut now = 0.0;
        for word in clip["words"].as_array().expect("a list") {
            assert_eq!(word[0].as_f64(), Some(now));
            now = word[1].as_f64().expect("a time");
        }
        assert_eq!(now, 3.0);
    }

    let shared = std::env::var_os("VISEME_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let Ok(text) = std::fs::read_to_string(shared.join("data/grid/manifest.json")) else {
        println!("skipped: no GRID manifest to compare with");
        return;
    };
    let grid: Value = serde_json::from_str(&text).expect("valid JSON");
    for key in grid["clips"][0].as_object().expect("an object").keys() {
        // The pair split is about GRID speaker s1 alone.
        if key != "pair_split" {
            assert!(clips[0].get(key).is_some(), "{key}");
        }
    }
}

#[test]
fn mistakes_give_one_line_and_code_2() {
    let file = env!("CARGO_MANIFEST_PATH");
    let cases: [&[&str]; 5] = [
        &["clip", "--text", "?!", "--out", "unused"],
        &["clip", "--text", "hello", "--out", file],
        &["clip", "--out", "unused"],
        &["set", "--count", "0", "--out", "unused"],
        &["sing"],
    ];
    for arguments in cases {
        let result = run(arguments);
        assert_eq!(result.status.code(), Some(2), "{arguments:?}");
        let message = String::from_utf8_lossy(&result.stderr);
        assert_eq!(message.trim_end().lines().count(), 1, "{message}");
        assert!(result.stdout.is_empty());
    }
    assert!(!Path::new("unused").exists());
}
