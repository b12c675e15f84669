//! The gate as its users meet it: a quantised model that reads worse than its f32 original is not written, nor half of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::tensor::{Dtype, TensorView};
use viseme_corpus::crops::{CropOptions, crops};
use viseme_corpus::recognise::Recogniser;
use viseme_corpus::{Clip, Manifest};
use viseme_engine::decode;
use viseme_engine::model::conformer::Model;
use viseme_engine::testing::{self, Size, TINY, TOKENS};
use viseme_format::layout;
use viseme_format::spec::Weights;

const CLIPS: usize = 3;
const FRAMES: usize = 40;
const SIDE: usize = 96;

/// A folder that goes away with the test: a checkpoint in `run`, clips and a manifest.
struct Bench(PathBuf);

impl Bench {
    /// Random weights. In a `brittle` checkpoint each row of the last layer has one and the same huge weight: it adds
    /// the same to the logits of all words, so f32 reads on, but leaves no int8 codes for the weights that matter.
    fn new(name: &str, brittle: bool) -> Self {
        let folder =
            std::env::temp_dir().join(format!("viseme-gate-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("run")).expect("a folder");
        write_checkpoint(&folder.join("run"), brittle);
        for clip in 0..CLIPS {
            let mut y4m = format!("YUV4MPEG2 W{SIDE} H{SIDE} F25:1 Cmono\n").into_bytes();
            for crop in testing::crops(clip as u64, FRAMES, SIDE).chunks(SIDE * SIDE) {
                y4m.extend_from_slice(b"FRAME\n");
                y4m.extend_from_slice(crop);
            }
            fs::write(folder.join(format!("{clip}.y4m")), y4m).expect("writable");
        }
        let bench = Bench(folder);
        bench.say(&vec![String::new(); CLIPS]);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes the manifest: what is said in each clip.
    fn say(&self, texts: &[String]) {
        let clip = |(index, text): (usize, &String)| Clip {
            speaker: "s".into(),
            code: index.to_string(),
            text: text.clone(),
            split: "test".into(),
            file: format!("{index}.y4m").into(),
            roi: Some([0.0, 0.0, SIDE as f32, SIDE as f32]),
            ..Clip::default()
        };
        let manifest = Manifest {
            clips: texts.iter().enumerate().map(clip).collect(),
            ..Manifest::default()
        };
        manifest.write(&self.path("m.json")).expect("writable");
    }

    /// What a model file reads in each clip.
    fn read(&self, model: &str) -> Vec<String> {
        let file = fs::read(self.path(model)).expect("there");
        let model = Model::open(&file).expect("a model");
        let manifest = Manifest::read(&self.path("m.json")).expect("readable");
        let cache = self.path("crops");
        let clips = crops(&manifest, |_| true, &CropOptions::new(None, &cache)).expect("readable");
        let mut memory = Vec::new();
        let mut recogniser =
            Recogniser::new(&model, &mut memory, decode::Options::default()).expect("fits");
        let texts = clips.clips.iter().map(|clip| recogniser.recognise(clip));
        texts.map(|read| read.expect("finite").text).collect()
    }

    /// Runs the quantizer: exit code, stderr.
    fn quantize(&self, arguments: &str) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_viseme-quantize"))
            .args(["run", "--cache", "crops"])
            .args(arguments.split(' '))
            .current_dir(&self.0)
            .output()
            .expect("the command runs");
        let error = String::from_utf8(output.stderr).expect("text");
        (output.status.code().unwrap_or(-1), error)
    }

    /// Names of the files beside the clips.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("readable");
        let names = entries.map(|e| {
            e.expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        });
        let mut names: Vec<String> = names.filter(|name| name != "crops").collect();
        names.sort();
        names
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn write_checkpoint(run: &Path, brittle: bool) {
    let size = Size {
        tokens: TOKENS.len(),
        ..TINY
    };
    let spec = testing::spec(&size, Weights::F32);
    fs::write(run.join("spec.json"), spec.to_json().expect("a spec")).expect("writable");
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut state = 1_u64;
    // Knuth's linear congruential generator (MMIX), from -1 to 1.
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let conformer = spec.conformer().expect("a recogniser");
    layout::checkpoint::<()>(conformer, |name, shape| {
        let count: usize = shape.iter().product();
        let inputs: usize = shape.iter().skip(1).product();
        let is_norm = name.contains("norm.weight") || name.contains(".bn.");
        let mut values: Vec<f32> = if name.ends_with(".var") || is_norm && name.ends_with("weight")
        {
            vec![1.0; count]
        } else {
            let gain = if shape.len() > 1 {
                (3.0 / inputs as f32).sqrt()
            } else {
                0.1
            };
            (0..count).map(|_| gain * noise()).collect()
        };
        if name == "ctc.weight" && brittle {
            values.chunks_mut(inputs).for_each(|row| row[0] = 1e4);
        }
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        tensors.push((name.to_owned(), shape.to_vec(), bytes));
        Ok(())
    })
    .expect("no visit fails");
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("whole");
        (name.as_str(), view)
    });
    let file = safetensors::serialize(views, None).expect("a file");
    fs::write(run.join("model.safetensors"), file).expect("writable");
}

#[test]
fn a_model_that_lost_accuracy_is_not_written_unless_forced() {
    let bench = Bench::new("brittle", true);
    assert_eq!(
        bench.quantize("--bits f32 --out f32.gguf"),
        (0, String::new())
    );
    // What f32 reads is what is said: its error rate is 0.
    let said = bench.read("f32.gguf");
    assert!(
        said.iter().all(|text| text.contains(' ')),
        "random models say something: {said:?}"
    );
    bench.say(&said);
    fs::write(bench.path("m.gguf"), "the last good model").expect("writable");
    let before = bench.files();
    for out in ["m.gguf", "new.gguf"] {
        let (code, error) = bench.quantize(&format!("--out {out} --manifest m.json"));
        assert_eq!((code, error.lines().count()), (2, 1), "{error}");
        assert!(
            error.contains("reads worse than f32 by more than 0.5 points"),
            "{error}"
        );
        assert_eq!(
            bench.files(),
            before,
            "nothing is left, of {out} or beside it"
        );
    }
    let kept = fs::read(bench.path("m.gguf")).expect("there");
    assert_eq!(kept, b"the last good model");

    let (code, error) = bench.quantize("--out m.gguf --manifest m.json --force");
    assert_eq!(code, 0, "{error}");
    assert_eq!(bench.files(), before);
    assert_ne!(bench.read("m.gguf"), said, "int8 does read worse");
}

#[test]
fn a_model_that_was_not_measured_is_not_written_unless_forced() {
    let bench = Bench::new("blind", false);
    let before = bench.files();
    let (code, error) = bench.quantize("--out m.gguf");
    assert_eq!(code, 2, "{error}");
    assert!(
        error.contains("must be measured: give --manifest, or --force"),
        "{error}"
    );
    // Clips without references measure nothing.
    let (code, error) = bench.quantize("--out m.gguf --manifest m.json");
    assert_eq!(code, 2, "{error}");
    assert!(
        error.contains("no clip has words in its reference"),
        "{error}"
    );
    assert_eq!(bench.files(), before);
    let (code, error) = bench.quantize("--out m.gguf --force");
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("not measured"), "{error}");
}

#[test]
fn four_bits_are_gated_and_written_like_eight() {
    let bench = Bench::new("four", true);
    assert_eq!(bench.quantize("--bits f32 --out f32.gguf").0, 0);
    bench.say(&bench.read("f32.gguf"));
    let before = bench.files();
    let (code, error) = bench.quantize("--bits 4 --out m.gguf --manifest m.json");
    assert_eq!((code, error.lines().count()), (2, 1), "{error}");
    assert!(error.contains("the int4 model reads worse"), "{error}");
    assert!(error.contains("--finetune"), "{error}");
    assert_eq!(bench.files(), before);

    let bench = Bench::new("four-sound", false);
    for bits in ["4", "8"] {
        let arguments = format!("--bits {bits} --out {bits}.gguf --force");
        assert_eq!(bench.quantize(&arguments).0, 0);
    }
    let files = ["4.gguf", "8.gguf"].map(|name| fs::read(bench.path(name)).expect("there"));
    assert!(files[0].len() < files[1].len());
    let [int4, int8] = files
        .each_ref()
        .map(|file| Model::open(file).expect("a model").spec().weights);
    assert_eq!((int4, int8), (Weights::Int4, Weights::Int8));
}

#[test]
fn a_model_that_reads_as_well_is_written() {
    let bench = Bench::new("sound", false);
    assert_eq!(bench.quantize("--out forced.gguf --force").0, 0);
    bench.say(&bench.read("forced.gguf"));
    let (code, error) = bench.quantize("--out m.gguf --manifest m.json");
    assert_eq!((code, error.as_str()), (0, ""));
    let (forced, measured) = (bench.path("forced.gguf"), bench.path("m.gguf"));
    assert_eq!(
        fs::read(forced).expect("there"),
        fs::read(measured).expect("there")
    );
    // A folder of that name: it stays, and nothing is left beside it.
    fs::create_dir_all(bench.path("taken.gguf")).expect("a folder");
    let before = bench.files();
    let (code, error) = bench.quantize("--out taken.gguf --manifest m.json");
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("taken.gguf"), "{error}");
    assert_eq!(bench.files(), before);
}
