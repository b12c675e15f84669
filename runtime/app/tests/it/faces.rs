//! Real faces: the detector from its ONNX file, the tracker, the words about them. Needs the shared data and ffmpeg.

use std::fs;

use serde_json::Value;

use crate::common::{Folder, Run, shared};

/// A GRID clip and YuNet's ONNX file.
fn data() -> Option<(String, String)> {
    let clip = shared("data/grid/original/s1_bbaf5a.mpg")?;
    let yunet = shared("data/models/yunet/yunet_n_320_320.onnx")?;
    if std::process::Command::new("ffmpeg")
        .arg("-version")
        .output()
        .is_err()
    {
        println!("skipped: ffmpeg is not installed");
        return None;
    }
    Some((
        clip.to_string_lossy().into(),
        yunet.to_string_lossy().into(),
    ))
}

fn transcribe(folder: &Folder, clip: &str, more: &[&str]) -> Run {
    folder.viseme_args(&[&["transcribe", clip, "--model", "m.gguf", "--json"], more].concat())
}

fn words(json: &Value) -> &Value {
    &json["words"]
}

#[test]
fn the_detector_is_imported_once_and_kept() {
    let Some((clip, yunet)) = data() else { return };
    let folder = Folder::new();
    folder.model("m.gguf");
    let first = transcribe(&folder, &clip, &["--detector", &yunet]).json();
    assert_eq!(first["frames"], 75);
    assert_eq!(first["tracked_frames"], 75);
    assert_eq!(first["faces"], 1);
    let kept: Vec<_> = folder
        .files()
        .into_iter()
        .filter(|f| f.starts_with(folder.path("models")))
        .collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let imported = kept[0].to_string_lossy().into_owned();
    assert!(imported.ends_with(".gguf"));
    let info = folder.viseme_args(&["info", &imported]);
    assert_eq!(info.code, 0, "{info}");
    assert!(info.out.contains("viseme-yunet"), "{info}");
    // What is kept is the detector, wherever it is then given or found.
    let second = transcribe(&folder, &clip, &["--detector", &imported]).json();
    assert_eq!(words(&first), words(&second));
    fs::copy(&imported, folder.path("models/yunet.gguf")).expect("copied");
    assert_eq!(
        words(&first),
        words(&transcribe(&folder, &clip, &[]).json())
    );
    // A kept file that was damaged is made again.
    fs::write(&imported, "GGUF").expect("writable");
    assert_eq!(
        words(&first),
        words(&transcribe(&folder, &clip, &["--detector", &yunet]).json())
    );
    assert!(fs::metadata(&imported).expect("there").len() > 100_000);
    // A models folder with the ONNX file under its own name will do as well.
    fs::remove_dir_all(folder.path("models")).expect("removed");
    fs::create_dir(folder.path("models")).expect("made");
    fs::copy(&yunet, folder.path("models/yunet_n_320_320.onnx")).expect("copied");
    assert_eq!(
        words(&first),
        words(&transcribe(&folder, &clip, &[]).json())
    );
    assert!(folder.viseme("models").out.contains("yunet_n_320_320.onnx"));
}

#[test]
fn of_two_faces_the_larger_is_read_and_said_so() {
    let Some((clip, yunet)) = data() else { return };
    let Some(other) = shared("data/grid/original") else {
        return;
    };
    let folder = Folder::new();
    folder.model("m.gguf");
    let other = fs::read_dir(other)
        .expect("readable")
        .filter_map(|entry| Some(entry.ok()?.path().to_string_lossy().into_owned()))
        .find(|path| path.ends_with(".mpg") && !path.contains("s1_"))
        .unwrap_or_else(|| clip.clone());
    // Both in one picture, the second at half its size.
    let filter = "[1:v]scale=180:144,pad=180:288[b];[0:v][b]hstack";
    let both = format!("-i {clip} -i {other} -filter_complex {filter} -an -c:v mpeg4 -q:v 2");
    folder.ffmpeg(&both, "two.mp4").expect("ffmpeg is there");
    let run = transcribe(&folder, "two.mp4", &["--detector", &yunet]);
    let json = run.json();
    assert_eq!(json["faces"], 2, "{run}");
    assert_eq!(json["tracked_frames"], json["frames"], "{run}");
    run.complains_of("2 faces; the larger, steadier one was read");
    // Alone, there is nothing to say.
    let run = transcribe(&folder, &clip, &["--detector", &yunet]);
    assert_eq!(run.err, "", "{run}");
}

#[test]
fn every_frame_of_the_full_pictures_is_tracked() {
    let Some((_, yunet)) = data() else { return };
    let Some(originals) = shared("data/grid/original") else {
        return;
    };
    let folder = Folder::new();
    folder.model("m.gguf");
    let mut clips: Vec<String> = fs::read_dir(originals)
        .expect("readable")
        .map(|entry| {
            entry
                .expect("readable")
                .path()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|path| path.ends_with(".mpg"))
        .collect();
    clips.sort();
    assert!(!clips.is_empty());
    let mut arguments = vec![
        "transcribe",
        "--json",
        "--model",
        "m.gguf",
        "--detector",
        &yunet,
    ];
    arguments.extend(clips.iter().map(String::as_str));
    let run = folder.viseme_args(&arguments);
    assert_eq!(run.code, 0, "{run}");
    assert_eq!(run.out.lines().count(), clips.len(), "{run}");
    for (line, clip) in run.out.lines().zip(&clips) {
        let json: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(json["file"], *clip);
        assert_eq!(
            (&json["frames"], &json["tracked_frames"]),
            (&Value::from(75), &Value::from(75)),
            "{json}"
        );
    }
}
