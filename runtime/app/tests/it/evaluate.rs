//! What `eval` measures and prints.

use std::fs;

use serde_json::{Value, json};
use viseme_engine::decode::grammar::Grammar;
use viseme_synth::export;

use crate::common::Folder;

/// Two synthetic clips in a manifest, `a` in split train and `b` in test.
fn corpus(folder: &Folder) {
    folder.model("m.gguf");
    let a = folder.clip("a", "bin blue at f two now", 25.0);
    let b = folder.clip("b", "set white by q nine soon", 25.0);
    let mut entries = vec![
        export::manifest_entry(&a, "synth", "train", "a"),
        export::manifest_entry(&b, "synth", "test", "b"),
    ];
    entries[0]["pair_split"] = json!("test");
    entries[1]["pair_split"] = json!("train");
    folder.write("m.json", export::manifest(entries).to_string());
}

fn number(json: &Value, field: &str) -> f64 {
    json[field]
        .as_f64()
        .unwrap_or_else(|| panic!("{field} in {json}"))
}

/// Edit distance by the recursion that defines it (Wagner and Fischer, 1974).
fn distance(a: &[&str], b: &[&str]) -> usize {
    match (a, b) {
        ([], rest) | (rest, []) => rest.len(),
        ([x, a_rest @ ..], [y, b_rest @ ..]) if x == y => distance(a_rest, b_rest),
        ([_, a_rest @ ..], [_, b_rest @ ..]) => {
            1 + distance(a_rest, b_rest)
                .min(distance(a, b_rest))
                .min(distance(a_rest, b))
        }
    }
}

#[test]
fn the_rates_are_those_of_the_lines() {
    let folder = Folder::new();
    corpus(&folder);
    let before = folder.files();
    let run =
        folder.viseme("eval --manifest m.json --model m.gguf --grammar grid --per-clip --json");
    let json = run.json();
    assert_eq!(run.err, "", "{run}");
    assert_eq!(
        folder.files(),
        before,
        "nothing is written unless it is asked for"
    );

    let grid = Grammar::shipped("grid").expect("it ships");
    let mut errors = 0;
    let lines: Vec<Vec<&str>> = run
        .out
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(lines.len(), 3, "{run}");
    for (line, said) in lines
        .iter()
        .zip(["bin blue at f two now", "set white by q nine soon"])
    {
        let [id, wrong, reference, read] = line[..] else {
            panic!("{run}")
        };
        assert!(id.starts_with("synth/"));
        assert_eq!(reference, said);
        assert!(grid.accepts(read.split(' ')), "{read}");
        let (reference, read): (Vec<&str>, Vec<&str>) =
            (reference.split(' ').collect(), read.split(' ').collect());
        assert_eq!(
            wrong.parse::<usize>().expect("a number"),
            distance(&reference, &read)
        );
        errors += distance(&reference, &read);
    }
    assert!(
        (number(&json, "wer") - 100.0 * errors as f64 / 12.0).abs() < 0.001,
        "{json}"
    );
    assert_eq!(
        (
            number(&json, "clips"),
            number(&json, "words"),
            number(&json, "failed")
        ),
        (2.0, 12.0, 0.0)
    );
    assert!(number(&json, "rtf") > 0.0 && number(&json, "cer") > 0.0);
}

#[test]
fn splits_are_taken_from_either_field() {
    let folder = Folder::new();
    corpus(&folder);
    let reference = |arguments: &str| {
        let run = folder.viseme(&format!(
            "eval --manifest m.json --model m.gguf --per-clip {arguments}"
        ));
        assert_eq!(run.code, 0, "{run}");
        assert!(
            run.out.lines().next_back().expect("a line").contains("WER"),
            "{run}"
        );
        assert_eq!(run.out.lines().count(), 2, "{run}");
        run.out.split('\t').nth(2).expect("a reference").to_owned()
    };
    assert_eq!(reference("--split train"), "bin blue at f two now");
    assert_eq!(reference("--split test"), "set white by q nine soon");
    assert_eq!(
        reference("--split test --split-field pair_split"),
        "bin blue at f two now"
    );
}

#[test]
fn a_cache_changes_nothing_but_the_time() {
    let folder = Folder::new();
    corpus(&folder);
    let run = |cache: &str| {
        let run = folder.viseme(&format!(
            "eval --manifest m.json --model m.gguf --per-clip{cache}"
        ));
        assert_eq!(run.code, 0, "{run}");
        run.out
            .lines()
            .take(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let without = run("");
    assert_eq!(run(" --cache crops"), without);
    let kept = fs::read_dir(folder.path("crops")).expect("made").count();
    assert_eq!(kept, 2);
    // The clips themselves are not read again, but their bytes are: they name the entries.
    assert_eq!(run(" --cache crops"), without);
    folder.write("file", "");
    let bad = folder.viseme("eval --manifest m.json --model m.gguf --cache file");
    bad.fails_with("file");
}

#[test]
fn damaged_clips_are_noted_whether_cached_or_not() {
    let folder = Folder::new();
    folder.model("m.gguf");
    let noise = "-f lavfi -i nullsrc=s=160x120:r=25:d=1,geq=random(1)*255:128:128 -c:v mpeg4";
    let Some(path) = folder.ffmpeg(noise, "a.mp4") else {
        return;
    };
    let mut bytes = fs::read(&path).expect("written");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 100].fill(0x55);
    fs::write(&path, bytes).expect("writable");
    folder.write(
        "m.json",
        r#"{"clips":[{"speaker":"s","code":"a","text":"bin","file":"a.mp4","roi":[0,0,96,96]}]}"#,
    );
    for cache in ["", " --cache crops", " --cache crops"] {
        let run = folder.viseme(&format!("eval --manifest m.json --model m.gguf{cache}"));
        assert_eq!(run.code, 0, "{run}");
        run.complains_of("s/a: note: damaged or cut off");
        assert_eq!(run.err.lines().count(), 1, "{run}");
    }
}

#[test]
fn clips_that_fail_are_listed_and_counted() {
    let folder = Folder::new();
    corpus(&folder);
    let text = fs::read_to_string(folder.path("m.json")).expect("written");
    let mut manifest: Value = serde_json::from_str(&text).expect("JSON");
    let clips = manifest["clips"].as_array_mut().expect("clips");
    let mut gone = clips[0].clone();
    (gone["code"], gone["file"]) = (json!("gone"), json!("gone.y4m"));
    clips.insert(0, gone);
    folder.write("three.json", manifest.to_string());
    for cache in ["", " --cache crops"] {
        let run = folder.viseme(&format!(
            "eval --manifest three.json --model m.gguf --json{cache}"
        ));
        // The others are still read, and whoever looks at the exit code alone learns of the failure.
        assert_eq!(run.code, 2, "{run}");
        let json = run.last_json();
        assert_eq!(
            (number(&json, "clips"), number(&json, "failed")),
            (2.0, 1.0),
            "{run}"
        );
        run.complains_of("synth/gone: ");
        assert_eq!(run.err.lines().count(), 1, "{run}");
    }
    manifest["clips"].as_array_mut().expect("clips").truncate(1);
    folder.write("none.json", manifest.to_string());
    let run = folder.viseme("eval --manifest none.json --model m.gguf --json");
    assert_eq!((run.code, run.out.as_str()), (2, ""), "{run}");
    run.complains_of("none of 1 clips could be read");
}
