//! What `transcribe` and `info` print for clips and models that are as they should be.

use std::fs;

use viseme_engine::decode::ctc::{self, TokenRun};
use viseme_engine::decode::grammar::Grammar;
use viseme_engine::model::conformer::Model;
use viseme_engine::session::{Options, Session};
use viseme_engine::testing::TOKENS;
use viseme_format::spec::Weights;

use crate::common::Folder;

const ROI: &str = "--model m.gguf --roi 0,0,96,96";

/// The greedy text of 96x96 crops, straight from the engine.
fn expected(model: &[u8], frames: &[[u8; 96 * 96]]) -> String {
    let model = Model::open(model).expect("a model");
    let mut arena = vec![0; model.arena_bytes(model.max_frames())];
    let mut session = Session::new(&model, &mut arena, Options::default()).expect("a session");
    for (i, frame) in frames.iter().enumerate() {
        let rows = frame.chunks(96).skip(4).take(88);
        let crop: Vec<u8> = rows.flat_map(|row| &row[4..92]).copied().collect();
        session.push_crop(&crop, 40_000 * i as u64).expect("room");
    }
    session.finish();
    let mut runs = vec![TokenRun::default(); frames.len()];
    let found = ctc::greedy(session.logits(), TOKENS.len(), &mut runs).expect("finite");
    let words: Vec<&str> = found
        .runs
        .iter()
        .map(|run| TOKENS[run.token as usize])
        .collect();
    words.join(" ")
}

#[test]
fn text_and_json_say_what_the_engine_reads() {
    let folder = Folder::new();
    let model = folder.model("m.gguf");
    let clip = folder.clip("clip", "place red in q seven again", 25.0);
    let text = expected(&model, &clip.frames);
    assert!(text.contains(' '), "a random model says something: {text}");

    let run = folder.viseme(&format!("transcribe clip.y4m {ROI}"));
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run}");
    assert_eq!(run.out, format!("{text}\n"));

    let json = folder
        .viseme(&format!("transcribe clip.y4m {ROI} --json"))
        .json();
    assert_eq!(json["file"], "clip.y4m");
    assert_eq!(json["text"], text);
    assert_eq!(json["frames"], clip.frames.len());
    assert_eq!(json["tracked_frames"], clip.frames.len());
    assert_eq!(json["faces"], 0);
    assert_eq!(json["complete"], true);
    let seconds = clip.frames.len() as f64 / 25.0;
    assert_eq!(json["seconds"], seconds);
    let rtf = json["rtf"].as_f64().expect("a number");
    let parts = ["video", "tracking", "recognition"]
        .map(|part| json["rtf_parts"][part].as_f64().expect("a number"));
    assert!(rtf > 0.0 && parts.iter().all(|&part| part >= 0.0));
    assert!((parts.iter().sum::<f64>() - rtf).abs() < 0.001, "{json}");
    let words = json["words"].as_array().expect("words");
    let said: Vec<&str> = words
        .iter()
        .map(|w| w["word"].as_str().expect("a word"))
        .collect();
    assert_eq!(said.join(" "), text);
    let mut last = 0.0;
    for word in words {
        let (start, end) = (
            word["start"].as_f64().expect("s"),
            word["end"].as_f64().expect("s"),
        );
        assert!(last <= start && start < end && end <= seconds, "{json}");
        // Frames begin every 40 ms.
        let frames = start * 25.0;
        assert!((frames - frames.round()).abs() < 1e-6, "{json}");
        last = end;
    }
}

#[test]
fn the_same_clip_twice_gives_the_same_bytes() {
    let folder = Folder::new();
    folder.model("m.gguf");
    folder.clip("clip", "lay green with a zero please", 25.0);
    let read = || {
        let mut json = folder
            .viseme(&format!("transcribe clip.y4m {ROI} --json"))
            .json();
        let object = json.as_object_mut().expect("an object");
        object.retain(|key, _| !key.starts_with("rtf"));
        json
    };
    assert_eq!(read(), read());
}

#[test]
fn a_grammar_makes_sentences() {
    let folder = Folder::new();
    folder.model("m.gguf");
    folder.clip("clip", "bin blue at f two now", 25.0);
    let run = folder.viseme(&format!("transcribe clip.y4m {ROI} --grammar grid"));
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run}");
    let grid = Grammar::shipped("grid").expect("it ships");
    assert!(grid.accepts(run.out.split_whitespace()), "{run}");
    folder.write("lamp.grammar", "sentence = set ( red | blue ) now\n");
    let run = folder.viseme(&format!("transcribe clip.y4m {ROI} --grammar lamp.grammar"));
    assert!(
        ["set red now\n", "set blue now\n"].contains(&run.out.as_str()),
        "{run}"
    );
    // More words than frames.
    folder.write(
        "long.grammar",
        format!("sentence = {}\n", "bin blue ".repeat(60)),
    );
    let run = folder.viseme(&format!(
        "transcribe clip.y4m {ROI} --grammar long.grammar --json"
    ));
    assert_eq!(run.json()["complete"], false);
    assert_eq!(run.json()["text"], "");
    run.complains_of("no sentence of the grammar fits");
}

#[test]
fn time_counts_not_frames() {
    let folder = Folder::new();
    folder.model("m.gguf");
    let fast = folder.clip("fast", "bin blue at f two now", 240.0);
    let json = folder
        .viseme(&format!("transcribe fast.y4m {ROI} --json"))
        .json();
    let frames = json["frames"].as_i64().expect("a number");
    assert!(
        (frames - (fast.frames.len() as f64 / 240.0 * 25.0).round() as i64).abs() <= 1,
        "{json}"
    );
    assert!(fast.frames.len() > 700);
    // The same seconds at 25 frames a second are as long.
    let slow = folder.clip("slow", "bin blue at f two now", 25.0);
    assert!((frames - slow.frames.len() as i64).abs() <= 1);
}

#[test]
fn words_lie_within_the_seconds_of_a_clip_that_pauses() {
    let folder = Folder::new();
    folder.model("m.gguf");
    folder.clip("clip", "bin blue at f two now", 25.0);
    // It begins half a second after the sound, and rests for three seconds after its 30th frame.
    let late =
        "-i clip.wav -itsoffset 0.5 -i clip.y4m -map 0 -map 1 -c:v ffv1 -c:a copy -vsync vfr";
    let pause = "-vf setpts='PTS+gte(N,30)*3/TB'";
    if folder
        .ffmpeg(&format!("{late} {pause}"), "rests.mkv")
        .is_none()
    {
        return;
    }
    let frames = folder
        .viseme(&format!("transcribe clip.y4m {ROI} --json"))
        .json()["frames"]
        .as_f64();
    let json = folder
        .viseme(&format!("transcribe rests.mkv {ROI} --json"))
        .json();
    let seconds = json["seconds"].as_f64().expect("a number");
    let expected = frames.expect("a number") / 25.0 + 3.5;
    assert!((seconds - expected).abs() < 0.041, "{expected}: {json}");
    let words = json["words"].as_array().expect("words");
    let end = words.last().expect("a word")["end"]
        .as_f64()
        .expect("a number");
    assert!(end > 3.5 && end <= seconds, "{json}");
}

#[test]
fn a_folder_of_images_is_a_clip() {
    let folder = Folder::new();
    let model = folder.model("m.gguf");
    let clip = folder.clip("clip", "set white by k one soon", 25.0);
    fs::create_dir(folder.path("frames")).expect("a folder");
    for (i, frame) in clip.frames.iter().enumerate() {
        folder.write(
            &format!("frames/{i}.pgm"),
            [b"P5 96 96 255\n", &frame[..]].concat(),
        );
    }
    let run = folder.viseme(&format!("transcribe frames {ROI}"));
    assert_eq!(
        run.out,
        format!("{}\n", expected(&model, &clip.frames)),
        "{run}"
    );
    let json = folder
        .viseme(&format!("transcribe frames {ROI} --fps 50 --json"))
        .json();
    let seconds = json["seconds"].as_f64().expect("a number");
    assert!(
        (seconds - clip.frames.len() as f64 / 50.0).abs() <= 0.04,
        "{json}"
    );
    folder
        .viseme(&format!("transcribe frames {ROI} --fps 0"))
        .fails_with("give frames a second");
}

#[test]
fn clips_longer_than_the_model_can_hold() {
    let folder = Folder::new();
    folder.model("m.gguf");
    let clip = folder.clip(
        "clip",
        "bin blue at f two now set white by k one soon lay green with a zero please",
        25.0,
    );
    assert!(clip.frames.len() > 96, "{}", clip.frames.len());
    let run = folder.viseme(&format!("transcribe clip.y4m {ROI} --json"));
    let json = run.json();
    assert_eq!(json["frames"], clip.frames.len());
    assert_eq!(run.err, "", "{run}");
    let last = &json["words"]
        .as_array()
        .expect("words")
        .last()
        .expect("a word")["end"];
    assert!(
        last.as_f64().expect("a number") > 96.0 / 25.0,
        "words after the first window: {json}"
    );
}

#[test]
fn large_pictures_are_read() {
    let folder = Folder::new();
    folder.model("m.gguf");
    folder.clip("clip", "bin blue at f two now", 25.0);
    let read = |file: &str, roi: &str| {
        let run = folder.viseme(&format!(
            "transcribe {file} --model m.gguf --roi {roi} --json"
        ));
        let mut json = run.json();
        json.as_object_mut()
            .expect("an object")
            .retain(|key, _| !key.starts_with("rtf") && key != "file");
        json
    };
    if folder
        .ffmpeg("-i clip.y4m -frames:v 10", "plain.y4m")
        .is_none()
    {
        return;
    }
    let plain = read("plain.y4m", "0,0,96,96");
    assert_ne!(plain["text"], "", "a random model says something");
    for (size, times, x, y) in [("3840x2160", 3, 3000, 1500), ("7680x4320", 6, 6600, 300)] {
        // The clip as a small part of a large picture that is averaged down by as much as the clip was enlarged: the
        // region is in pixels of the picture as shown, and gives the clip back.
        let filter = format!(
            "scale=iw*{times}:ih*{times}:flags=neighbor,pad={}:{x}:{y}",
            size.replace('x', ":")
        );
        let codec = "-pix_fmt gray -c:v libx264 -preset ultrafast -qp 0";
        folder
            .ffmpeg(&format!("-i plain.y4m -vf {filter} {codec}"), "large.mkv")
            .expect("ffmpeg is there");
        let side = 96 * times;
        let large = read("large.mkv", &format!("{x},{y},{side},{side}"));
        assert_eq!(large["text"], plain["text"], "{size}");
        assert_eq!(large["frames"], plain["frames"], "{size}");
        let run = folder.viseme("transcribe large.mkv --model m.gguf --roi 7600,0,96,96");
        run.fails_with(&format!("reaches outside the {size} picture"));
    }
}

#[test]
fn int4_models_are_described_and_read() {
    let folder = Folder::new();
    folder.model_of(Weights::Int4, "m.gguf");
    folder.clip("clip", "bin blue at f two now", 25.0);
    let run = folder.viseme("info m.gguf");
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run}");
    assert!(run.out.contains("viseme-conformer, video, int4"), "{run}");
    let run = folder.viseme("transcribe clip.y4m --model m.gguf --roi 0,0,96,96");
    assert_eq!(run.code, 0, "{run}");
    assert!(
        run.out.contains(' '),
        "a random model says something: {run}"
    );
}

#[test]
fn info_describes_a_model() {
    let folder = Folder::new();
    let bytes = folder.model("m.gguf").len();
    let run = folder.viseme("info m.gguf");
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run}");
    let value = |name: &str| {
        let line = run.out.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{name} in {run}"))[name.len()..]
            .trim()
            .replace(' ', "")
    };
    assert_eq!(value("architecture"), "viseme-conformer,video,int8");
    assert_eq!(value("licence"), "CC0-1.0");
    assert!(value("file").starts_with(&format!("{bytes}bytes")));
    assert!(value("tokens").starts_with("52,words:<blank>binlay"));
    assert!(value("working memory").contains("96frames(3.8s)"));
    for board in viseme_boards::all() {
        assert!(run.out.contains(&board.id), "{run}");
    }
}
