//! Every engine on every architecture that is exported, and on the published model, against our own.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use viseme_capture::tracker::DetectorFile;
use viseme_corpus::backend::{Backend, BackendError};
use viseme_corpus::crops::{ClipCrops, CropMaker};
use viseme_corpus::recognise::{Recogniser, pipeline_options};
use viseme_corpus::{Manifest, detector};
use viseme_engine::decode::Options;
use viseme_engine::decode::ctc::{self, TokenRun};
use viseme_engine::model::conformer::{Model, arena_bytes};
use viseme_engine::session::{self, Session};
use viseme_export::testing::{Case, single_steps_whole, streams, utterances};
use viseme_export::{Format, export};
use viseme_format::gguf::{Reader, Writer};
use viseme_format::spec::{ModelSpec, Weights};
use viseme_format::{layout, weights};
use viseme_synth::{Options as SynthOptions, Rng, Speaker, grid_sentence, render};

use super::exported::{self, Runtime};
use super::{litert, tflite, tract};
use crate::model::ModelFile;

/// Engines that compute in f32. LiteRT does that too; the command has no use for it.
const F32: [(&str, Runtime); 3] = [
    ("tract", tract::ONNX),
    ("tflite", tflite::F32),
    (
        "litert",
        Runtime {
            format: Format::Tflite,
            ..litert::INT8
        },
    ),
];

/// The largest difference between logits in f32, as a share of the largest logit, or of 1. Sums are in another order,
/// which costs about one rounding, 6e-8, times the root of how many terms there are; softmax and norms amplify that.
const SUMS: f32 = 1e-5;

/// The largest root of the mean square of the difference between logits of quantised models, as a share of that of the
/// logits. Each engine rounds the inputs of products to 8 bits by rules of its own, or not at all: a step is 1/255 of a
/// row's range and so an error some 0.5 % of what goes in, and there are a dozen such products in a block, whose errors
/// add in squares. Random weights amplify them more than trained ones, which average over frames that are alike.
const ROUNDING: f32 = 0.05;

/// As [`ROUNDING`], for the published model: about twice what it is at most over twelve clips.
const ROUNDING_TRAINED: f32 = 0.015;

#[test]
fn other_engines_compute_what_ours_computes() {
    for case in utterances(Weights::F32) {
        let own = case.engine();
        for (engine, runtime) in F32 {
            let found = run(&case, runtime);
            same(&format!("{engine} {}", case.name), &case, &found, &own);
        }
    }
}

#[test]
fn other_engines_stream_what_they_encode() {
    for (engine, runtime) in F32 {
        for [encoder, steps] in streams() {
            let (whole, found) = (run(&encoder, runtime), run(&steps, runtime));
            same(&format!("{engine} {}", steps.name), &steps, &found, &whole);
            if steps.name == "tiny-single-steps" {
                let own = single_steps_whole().engine();
                same(&format!("{engine} beside ours"), &steps, &found, &own);
            }
        }
    }
}

/// int8 in LiteRT; as the numbers that the weights stand for, in the engines that know no int8.
#[test]
fn other_engines_round_no_worse_than_ours() {
    let int8 = [("litert int8", litert::INT8)];
    for (weights, engines) in [
        (Weights::Int8, &int8[..]),
        (Weights::Int8, &F32),
        (Weights::Int4, &F32),
    ] {
        for case in utterances(weights) {
            let own = case.engine();
            for (engine, runtime) in engines {
                let found = run(&case, *runtime);
                let name = format!("{engine} {weights} {}", case.name);
                rounded(&name, &found, &own, ROUNDING);
            }
        }
    }
}

/// The weights of the published model, in f32 and as they are, on clips of people where the shared data is there.
#[test]
fn other_engines_read_the_same_with_the_published_model() {
    let published = ModelFile::load(None).expect("the published model");
    let floats = in_f32(published.bytes());
    let [int8, f32] = [published.bytes(), &floats].map(|file| Model::open(file).expect("a model"));
    let mut clips: Vec<ClipCrops> = (0..4).map(synthetic).collect();
    match people(&int8) {
        Ok(people) => clips.extend(people),
        Err(why) => println!("skipped people: {why}"),
    }
    for clip in &clips {
        let own = own(&f32, clip);
        for (engine, runtime) in F32 {
            let found = read(&f32, exported::backend(&floats, &f32, runtime), clip);
            let name = format!("{engine} published f32 {}", clip.id);
            near(&name, &found.logits, &own.logits);
            assert_eq!(found.text, own.text, "{name}");
        }
        let own = self::own(&int8, clip);
        let others = [F32[0], F32[1], ("litert int8", litert::INT8)];
        for (engine, runtime) in others {
            let file = published.bytes();
            let found = read(&int8, exported::backend(file, &int8, runtime), clip);
            let name = format!("{engine} published {}", clip.id);
            rounded(&name, &found.logits, &own.logits, ROUNDING_TRAINED);
            assert_eq!(found.text, own.text, "{name}");
        }
    }
}

fn run(case: &Case, runtime: Runtime) -> Vec<f32> {
    let file = export(&case.model, case.part, runtime.format).expect("an exported model");
    let outputs = case.run(|inputs| (runtime.run)(&file, inputs));
    outputs.unwrap_or_else(|e| panic!("{}: {e}", case.name))
}

/// Near, and the same tokens.
fn same(name: &str, case: &Case, found: &[f32], own: &[f32]) {
    near(name, found, own);
    let tokens = |logits: &[f32]| -> Vec<u32> {
        let vocabulary = Model::open(&case.model).expect("a model").vocabulary();
        let mut runs = vec![TokenRun::default(); logits.len() / vocabulary];
        let read = ctc::greedy(logits, vocabulary, &mut runs).expect("finite logits");
        read.runs.iter().map(|run| run.token).collect()
    };
    assert_eq!(tokens(found), tokens(own), "{name}");
}

fn near(name: &str, found: &[f32], own: &[f32]) {
    assert_eq!(found.len(), own.len(), "{name}");
    let largest = own.iter().fold(1.0_f32, |m, v| m.max(v.abs()));
    let error = largest_error(found, own) / largest;
    println!("{name}: {error:.1e}");
    // Not the other way round, since NaN is no small error.
    assert!(error <= SUMS, "{name}: {error:.1e}");
}

fn rounded(name: &str, found: &[f32], own: &[f32], most: f32) {
    assert_eq!(found.len(), own.len(), "{name}");
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>();
    let error = squares(&mut found.iter().zip(own).map(|(a, b)| a - b));
    let error = (error / squares(&mut own.iter().copied())).sqrt();
    println!(
        "{name}: {error:.4}, at most {:.2}",
        largest_error(found, own)
    );
    assert!(error <= most, "{name}: {error:.4}");
}

fn largest_error(found: &[f32], own: &[f32]) -> f32 {
    let pairs = found.iter().zip(own);
    pairs.fold(0.0, |m, (a, b)| f32::max(m, (a - b).abs()))
}

/// The same model with the numbers that its weights stand for.
fn in_f32(file: &[u8]) -> Vec<u8> {
    let reader = Reader::open(file).expect("a model file");
    let quantised = ModelSpec::read(&reader).expect("a spec");
    let conformer = quantised.conformer().expect("a conformer");
    let mut spec = ModelSpec {
        weights: Weights::F32,
        ..quantised
    };
    let bytes = arena_bytes(&spec, conformer.max_frames as usize);
    spec.arena_bytes = bytes.expect("a size") as u64;
    let mut writer = Writer::new();
    spec.write(&mut writer).expect("a spec");
    layout::model(conformer, Weights::F32, |name, shape, _| {
        let values = weights::values(&reader, name, shape).expect("a tensor");
        writer.tensor_f32(name, shape, &values)
    })
    .expect("tensors");
    writer.finish().expect("a file")
}

/// What came of a clip.
struct Found {
    text: String,
    logits: Vec<f32>,
}

fn own(model: &Model<'_>, clip: &ClipCrops) -> Found {
    let mut arena = vec![0; model.arena_bytes(model.max_frames())];
    let options = session::Options::default();
    let session = Session::new(model, &mut arena, options).expect("a session");
    read(model, Box::new(session), clip)
}

fn read<'m>(model: &'m Model<'m>, backend: Box<dyn Backend + 'm>, clip: &ClipCrops) -> Found {
    let logits = Rc::new(RefCell::default());
    let heard = Heard {
        backend,
        logits: Rc::clone(&logits),
    };
    let mut recogniser =
        Recogniser::with_backend(model, Box::new(heard), Options::default()).expect("a recogniser");
    let text = recogniser.recognise(clip).expect("readable").text;
    Found {
        text,
        logits: logits.take(),
    }
}

/// A backend whose logits can be read afterwards.
struct Heard<'m> {
    backend: Box<dyn Backend + 'm>,
    logits: Rc<RefCell<Vec<f32>>>,
}

impl Backend for Heard<'_> {
    fn push(&mut self, crop: &[u8]) -> Result<(), BackendError> {
        self.backend.push(crop)
    }

    fn finish(&mut self) -> Result<&[f32], BackendError> {
        let logits = self.backend.finish()?;
        self.logits.borrow_mut().extend_from_slice(logits);
        Ok(logits)
    }

    fn reset(&mut self) {
        self.backend.reset();
    }
}

fn synthetic(seed: u64) -> ClipCrops {
    let text = grid_sentence(&mut Rng::from_seed(seed));
    let options = SynthOptions {
        audio: false,
        ..SynthOptions::default()
    };
    let clip = render(&text, &Speaker::unseen(seed), seed, options);
    ClipCrops {
        id: format!("synthetic/{seed}"),
        speaker: "synthetic".into(),
        text,
        words: vec![],
        split: String::new(),
        pair_split: None,
        tracked_frames: clip.frames.len(),
        fps: clip.fps,
        crops: clip.frames.concat(),
        faces_seen: 1,
        damaged: false,
    }
}

/// Some clips of GRID: of the speaker that the model knows, and of others.
fn people(model: &Model<'_>) -> Result<Vec<ClipCrops>, String> {
    let shared = |path: &str| -> Result<PathBuf, String> {
        let root = std::env::var_os("VISEME_SHARED").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
            PathBuf::from,
        );
        let found = root.join(path);
        let missing = || format!("no {path} in the shared data (set VISEME_SHARED)");
        found.exists().then_some(found).ok_or_else(missing)
    };
    let manifest = shared("data/grid/manifest.json")?;
    let yunet = shared("data/models/yunet/yunet_n_320_320.onnx")?;
    let ffmpeg = Command::new("ffmpeg").arg("-version").output();
    ffmpeg.map_err(|e| format!("no ffmpeg: {e}"))?;
    let manifest = Manifest::read(&manifest).expect("a manifest");
    let detector: DetectorFile = detector::load(Some(&yunet)).expect("a detector");
    let pipeline = pipeline_options(model).expect("a recogniser");
    let maker = CropMaker::new(Some(&detector), &pipeline, None).expect("no cache");
    let of = |split: &str| {
        let clips = manifest.clips.iter().filter(move |c| c.split == split);
        clips.take(4).collect::<Vec<_>>()
    };
    let clips = [of("test"), of("unseen-speaker")].concat();
    let crops = |clip| {
        maker
            .load(&manifest, clip)
            .map_err(|_| "unreadable clip".into())
    };
    clips.into_iter().map(crops).collect()
}
