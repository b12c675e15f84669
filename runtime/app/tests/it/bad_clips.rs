//! Clips that are none: one line each that says what is wrong, exit code 2, and the others still run.

use std::fs;

use crate::common::{Folder, shared};

/// The mouth of the synthetic clips is all of the picture.
const ROI: &str = "--model m.gguf --roi 0,0,96,96";

#[test]
fn files_that_are_no_clips() {
    let folder = Folder::new();
    folder.model("m.gguf");
    let fails = |clip: &str, words: &str| {
        let run = folder.viseme(&format!("transcribe {clip} {ROI}"));
        run.fails_with(words);
        assert!(run.err.contains(clip), "names the clip: {run}");
    };
    fails("gone.mp4", "no such file");
    folder.write("empty.mp4", "");
    fails("empty.mp4", "0 bytes");
    folder.write("empty.y4m", "");
    fails("empty.y4m", "0 bytes");
    fs::create_dir(folder.path("folder")).expect("a folder");
    fails("folder", "without PNG, JPEG or PGM images");
    folder.write("nothing.y4m", "YUV4MPEG2 W96 H96 F25:1 Cmono\n");
    fails("nothing.y4m", "without a single frame");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("loop.mp4", folder.path("loop.mp4")).expect("a link");
        fails("loop.mp4", "check its permissions and the disk\n");
        fails("/dev/null", "neither a file nor a folder");
    }
    assert!(
        !folder.path("models").exists(),
        "nothing is written for a clip with a region"
    );
}

#[test]
fn clips_that_are_cut_off() {
    let folder = Folder::new();
    folder.model("m.gguf");
    folder.clip("clip", "bin blue at f two now", 25.0);
    let whole = fs::read(folder.path("clip.y4m")).expect("written");
    folder.write("cut.y4m", &whole[..whole.len() / 2]);
    folder
        .viseme(&format!("transcribe cut.y4m {ROI}"))
        .fails_with("cut off after 37 frames");
    let noise = "-f lavfi -i nullsrc=s=160x120:r=25:d=1,geq=random(1)*255:128:128";
    let Some(path) = folder.ffmpeg(&format!("{noise} -c:v mpeg4"), "whole.mp4") else {
        return;
    };
    let whole = fs::read(path).expect("written");
    folder.write("cut.mp4", &whole[..whole.len() / 2]);
    folder
        .viseme(&format!("transcribe cut.mp4 {ROI}"))
        .fails_with("cut off before its index");
}

#[test]
fn clips_that_are_damaged_are_read_and_said_to_be() {
    let folder = Folder::new();
    folder.model("m.gguf");
    let noise = "-f lavfi -i nullsrc=s=160x120:r=25:d=1,geq=random(1)*255:128:128";
    let Some(path) = folder.ffmpeg(&format!("{noise} -c:v mpeg4"), "whole.mp4") else {
        return;
    };
    let mut bytes = fs::read(path).expect("written");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 100].fill(0x55);
    folder.write("damaged.mp4", bytes);
    let run = folder.viseme(&format!("transcribe damaged.mp4 {ROI} --json"));
    assert_eq!(run.json()["damaged"], true);
    run.complains_of("damaged.mp4: note: damaged or cut off");
    assert_eq!(run.err.lines().count(), 1, "{run}");
    let run = folder.viseme(&format!("transcribe whole.mp4 {ROI} --json"));
    assert_eq!(
        (&run.json()["damaged"], run.err.as_str()),
        (&false.into(), "")
    );
}

#[test]
fn sound_without_picture() {
    let folder = Folder::new();
    folder.model("m.gguf");
    folder.clip("clip", "bin blue at f two now", 25.0);
    let run = folder.viseme(&format!("transcribe clip.wav {ROI}"));
    if run.err.contains("ffmpeg was not found") {
        return println!("skipped: ffmpeg is not installed");
    }
    run.fails_with("sound but no picture");
}

#[test]
fn a_region_outside_of_the_picture() {
    let folder = Folder::new();
    folder.model("m.gguf");
    folder.clip("clip", "bin", 25.0);
    let run = folder.viseme("transcribe clip.y4m --model m.gguf --roi 10,10,96,96");
    run.fails_with("reaches outside the 96x96 picture");
    for bad in ["1,2,3", "0,0,0,5", "a,b,c,d", "0,0,1e9,5"] {
        let run = folder.viseme(&format!("transcribe clip.y4m --model m.gguf --roi {bad}"));
        run.fails_with("give x,y,width,height in pixels");
    }
}

#[test]
fn no_face_to_be_seen() {
    let folder = Folder::new();
    folder.model("m.gguf");
    let Some(yunet) = shared("data/models/yunet/yunet_n_320_320.onnx") else {
        return;
    };
    let mut grey = b"YUV4MPEG2 W320 H240 F25:1 Cmono\n".to_vec();
    for _ in 0..30 {
        grey.extend_from_slice(b"FRAME\n");
        grey.extend_from_slice(&[90; 320 * 240]);
    }
    folder.write("grey.y4m", &grey);
    let yunet = yunet.to_string_lossy().into_owned();
    let run = folder.viseme_args(&[
        "transcribe",
        "grey.y4m",
        "--model",
        "m.gguf",
        "--detector",
        &yunet,
    ]);
    run.fails_with("no face in any of 30 frames");
}

#[test]
fn the_other_clips_still_run() {
    let folder = Folder::new();
    folder.model("m.gguf");
    folder.clip("a", "bin blue at f two now", 25.0);
    folder.clip("b", "set white by q nine soon", 25.0);
    folder.write("bad.mp4", "");
    let alone = |clip: &str| {
        let run = folder.viseme(&format!("transcribe {clip} {ROI}"));
        assert_eq!(run.code, 0, "{run}");
        assert_eq!(run.err, "", "{run}");
        run.out
    };
    let run = folder.viseme(&format!("transcribe a.y4m bad.mp4 b.y4m {ROI}"));
    assert_eq!(run.code, 2, "{run}");
    assert_eq!(
        run.out,
        format!("a.y4m: {}b.y4m: {}", alone("a.y4m"), alone("b.y4m"))
    );
    run.complains_of("bad.mp4: the file is empty");
    assert_eq!(run.err.lines().count(), 1, "{run}");

    let run = folder.viseme(&format!("transcribe bad.mp4 b.y4m --json {ROI}"));
    assert_eq!(run.code, 2, "{run}");
    let lines: Vec<serde_json::Value> = run
        .out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2, "{run}");
    assert_eq!(lines[0]["file"], "bad.mp4");
    assert!(
        lines[0]["error"]
            .as_str()
            .expect("a reason")
            .contains("0 bytes")
    );
    assert_eq!(
        lines[1]["text"].as_str().expect("text"),
        alone("b.y4m").trim_end()
    );
}

#[test]
fn failures_are_told_to_those_who_do_not_listen() {
    let folder = Folder::new();
    folder.model("m.gguf");
    folder.clip("a", "bin blue at f two now", 25.0);
    folder.write("bad.mp4", "");
    for (clips, code, lines) in [
        ("a.y4m", 0, 0),
        ("bad.mp4 a.y4m", 2, 1),
        ("bad.mp4 a.y4m --json", 2, 1),
    ] {
        let run = folder.viseme_unread(&format!("transcribe {clips} {ROI}"));
        assert_eq!(
            (run.code, run.err.lines().count()),
            (code, lines),
            "{clips}: {run}"
        );
    }
    let clip = |code: &str, file: &str| {
        format!(
            r#"{{"speaker":"s","code":"{code}","text":"bin","file":"{file}","roi":[0,0,96,96]}}"#
        )
    };
    let (good, bad) = (clip("a", "a.y4m"), clip("b", "bad.mp4"));
    folder.write("good.json", format!(r#"{{"clips":[{good}]}}"#));
    folder.write("bad.json", format!(r#"{{"clips":[{bad},{good}]}}"#));
    for (manifest, code) in [("good", 0), ("bad", 2)] {
        for more in ["", " --per-clip", " --json"] {
            let run = folder.viseme_unread(&format!(
                "eval --manifest {manifest}.json --model m.gguf{more}"
            ));
            assert_eq!(
                (run.code, run.err.lines().count()),
                (code, code as usize / 2),
                "{more}: {run}"
            );
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_to_be_full() {
    let folder = Folder::new();
    folder.model("m.gguf");
    let full = fs::File::create("/dev/full").expect("a device");
    let run = folder.viseme_to("info m.gguf", full);
    run.fails_with("the results cannot be written");
}

#[test]
fn names_that_would_garble_a_terminal() {
    let folder = Folder::new();
    folder.model("m.gguf");
    let run = folder.viseme_args(&[
        "transcribe",
        "x\u{1b}[31m\ny.mp4",
        "--model",
        "m.gguf",
        "--roi",
        "0,0,96,96",
    ]);
    run.fails_with("x[31my.mp4: no such file");
}
