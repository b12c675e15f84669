//! The published model: what its card claims, as far as it can be checked without data, and on
//! GRID where the shared data is there.

use std::path::{Path, PathBuf};

use viseme_corpus::crops::{ClipCrops, CropOptions, crops};
use viseme_corpus::recognise::{Evaluation, Recogniser, evaluate, pipeline_options};
use viseme_corpus::{Manifest, detector};
use viseme_engine::decode::Options;
use viseme_engine::decode::grammar::Grammar;
use viseme_engine::model::conformer::Model;
use viseme_format::gguf::Reader;
use viseme_format::spec::Weights;
use viseme_synth::{Options as SynthOptions, Rng, Speaker, grid_sentence, render};

use crate::shared;

/// Largest size that the model may have.
const MOST_BYTES: usize = 3_000_000;
/// Sentences of unseen synthetic speakers to read: few, so that the test is quick.
const SENTENCES: u64 = 60;
/// Word error rate that must not be exceeded on them. The measured rate is in the model card; the
/// margin is for so few sentences.
const SYNTHETIC_LIMIT: f64 = 7.0;
/// Word error rate with the grammar that must not be exceeded on GRID s1 `test`.
const GRID_LIMIT: f64 = 4.5;

fn file() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/models/grid-vsr.gguf");
    std::fs::read(path).expect("the published model is part of the repository")
}

fn read(model: &Model<'_>, clips: &[ClipCrops], grammar: Option<&Grammar>) -> Evaluation {
    let mut memory = Vec::new();
    let options = Options {
        grammar,
        ..Options::default()
    };
    let mut recogniser = Recogniser::new(model, &mut memory, options).unwrap();
    evaluate(clips, |clip| recogniser.recognise(clip), |_, _| {}).unwrap()
}

#[test]
fn is_sound_small_and_int8() {
    let file = file();
    assert!(file.len() <= MOST_BYTES, "{} bytes", file.len());
    Reader::open(&file).unwrap().verify().unwrap();
    let model = Model::open(&file).unwrap();
    assert_eq!(model.spec().weights, Weights::Int8);
    assert!(
        model.spec().training_data.contains("CC BY 4.0"),
        "the data must be credited"
    );
}

#[test]
fn reads_unseen_synthetic_speakers() {
    let file = file();
    let model = Model::open(&file).unwrap();
    let clips: Vec<ClipCrops> = (0..SENTENCES).map(synthetic).collect();
    let result = read(&model, &clips, Some(&Grammar::shipped("grid").unwrap()));
    eprintln!(
        "WER on {SENTENCES} synthetic sentences: {:.2} %",
        result.wer
    );
    assert!(result.wer <= SYNTHETIC_LIMIT, "WER {:.2} %", result.wer);
}

fn synthetic(i: u64) -> ClipCrops {
    // Far away from the seeds of the set that the README's figure is measured on.
    let seed = 1_000_000 + i;
    let text = grid_sentence(&mut Rng::from_seed(seed));
    let options = SynthOptions {
        audio: false,
        ..SynthOptions::default()
    };
    let clip = render(&text, &Speaker::unseen(seed), seed, options);
    ClipCrops {
        id: format!("synthetic/{i}"),
        speaker: "synthetic".into(),
        text,
        words: vec![],
        split: "test".into(),
        pair_split: None,
        tracked_frames: clip.frames.len(),
        fps: clip.fps,
        crops: clip.frames.concat(),
        faces_seen: 1,
        damaged: false,
    }
}

#[test]
fn reads_grid_s1_test_as_well_as_its_card_says() {
    let needed = [
        "data/grid/manifest.json",
        "data/models/yunet/yunet_n_320_320.onnx",
    ];
    let (manifest, yunet) = match needed.map(shared::find) {
        [Ok(manifest), Ok(yunet)] => (manifest, yunet),
        [Err(why), _] | [_, Err(why)] => {
            println!("skipped: {why}");
            return;
        }
    };
    if std::process::Command::new("ffmpeg")
        .arg("-version")
        .output()
        .is_err()
    {
        println!("skipped: no ffmpeg");
        return;
    }
    let file = file();
    let model = Model::open(&file).unwrap();
    let detector = detector::load(Some(&yunet)).unwrap();
    let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("published-crops");
    let mut options = CropOptions::new(Some(&detector), &cache);
    options.pipeline = pipeline_options(&model).unwrap();
    let manifest = Manifest::read(&manifest).unwrap();
    let clips = crops(&manifest, |c| c.split == "test", &options)
        .unwrap()
        .clips;
    assert_eq!(clips.len(), 98);
    let greedy = read(&model, &clips, None);
    let grammar = read(&model, &clips, Some(&Grammar::shipped("grid").unwrap()));
    eprintln!(
        "WER on GRID s1 test: greedy {:.2} %, grammar {:.2} %",
        greedy.wer, grammar.wer
    );
    assert!(grammar.wer <= GRID_LIMIT, "WER {:.2} %", grammar.wer);
}
