//! Exported models in the engines they are exported for, ONNX Runtime and LiteRT, against our own.

use std::fs;
use std::path::{Path, PathBuf};

use viseme_engine::model::conformer::Model;
use viseme_engine::session::{Options, Session};
use viseme_engine::testing::{self, REFERENCE, Size, TINY};
use viseme_export::{Chunks, Format, Part, export};
use viseme_format::spec::{Activation, Conformer, Family, Weights};

use crate::python;

/// The peers: the script's name for them, and their packages. LiteRT is the release whose C library the peers of
/// `bench/peers/` are bound to.
const ONNX: (&str, &[&str]) = ("onnx", &["numpy", "onnxruntime==1.31.1"]);
const TFLITE: (&str, &[&str]) = ("tflite", &["numpy", "ai-edge-litert==2.1.4"]);

/// Sums of a network in f32, in another order: far below, but for softmax and norms, which amplify.
const TOLERANCE: f32 = 1e-4;

/// Something to run: a model, what of it, and what goes in.
struct Job {
    name: &'static str,
    model: Vec<u8>,
    part: Part,
    format: Format,
    /// Crops or features of all frames.
    input: Vec<f32>,
}

#[test]
fn onnxruntime_computes_what_the_engine_computes() {
    skip(compare(ONNX, Format::Onnx));
}

#[test]
fn litert_computes_what_the_engine_computes() {
    skip(compare(TFLITE, Format::Tflite));
}

#[test]
fn onnxruntime_streams_what_it_encodes() {
    skip(compare_streams(ONNX, Format::Onnx));
}

#[test]
fn litert_streams_what_it_encodes() {
    skip(compare_streams(TFLITE, Format::Tflite));
}

/// LiteRT multiplies the int8 weights of the file and quantises activations in rows, as the engine does: its error is
/// the engine's own, but for roundings that fall the other way.
#[test]
fn litert_in_int8_is_as_near_to_f32_as_the_engine() {
    let compare = || {
        let sizes = [("tiny", TINY, 24), ("reference", REFERENCE, 16)];
        let jobs = sizes.map(|(name, size, frames)| Job {
            name,
            model: model(&size, Weights::Int8, |_| {}),
            part: whole(frames),
            format: Format::TfliteInt8,
            input: features(&size, frames),
        });
        let outputs = run("int8", TFLITE, &jobs)?;
        for ((job, output), (_, size, frames)) in jobs.iter().zip(outputs).zip(sizes) {
            let exact = model(&size, Weights::F32, |_| {});
            let exact = engine(&exact, job.part, &features(&size, frames));
            let own = rms(&engine(&job.model, job.part, &job.input), &exact);
            let peer = rms(&output, &exact);
            println!("{}: engine {own:.5}, LiteRT {peer:.5}", job.name);
            assert!(own > 0.0 && peer < 1.25 * own && own < 1.25 * peer);
        }
        Ok(())
    };
    skip(compare());
}

fn skip(result: Result<(), String>) {
    if let Err(why) = result {
        println!("skipped: {why}");
    }
}

fn compare(peer: (&str, &[&str]), format: Format) -> Result<(), String> {
    type Change = fn(&mut Conformer<'_>);
    let centred: Change = |_| {};
    let causal: Change = |c| c.encoder.conv_left = c.encoder.conv_kernel - 1;
    let limited: Change = |c| {
        (c.encoder.att_left, c.encoder.att_right) = (4, 1);
        c.encoder.ff_activation = Activation::Relu;
        c.frontend.frames = 1;
    };
    let wide: Change = |c| c.frontend.frames = 5;
    let crops = |frames| Part::Whole { frames };
    let cases: [(&str, Size, Change, Part); 9] = [
        ("tiny", TINY, centred, whole(19)),
        ("tiny-causal", TINY, causal, whole(19)),
        ("tiny-limited", TINY, limited, whole(19)),
        ("tiny-one", TINY, centred, whole(1)),
        ("tiny-crops", TINY, centred, crops(7)),
        ("tiny-limited-crops", TINY, limited, crops(7)),
        ("tiny-wide-crops", TINY, wide, crops(2)),
        ("reference", REFERENCE, centred, whole(64)),
        ("reference-crops", REFERENCE, causal, crops(8)),
    ];
    let jobs = cases.map(|(name, size, change, part)| Job {
        name,
        model: model(&size, Weights::F32, change),
        part,
        format,
        input: match part {
            Part::Whole { frames } => testing::crops(7, frames, 88)
                .into_iter()
                .map(f32::from)
                .collect(),
            Part::Encoder { frames, .. } | Part::Step { frames, .. } => features(&size, frames),
        },
    });
    let outputs = run("whole", peer, &jobs)?;
    for (job, output) in jobs.iter().zip(outputs) {
        near(job.name, &output, &engine(&job.model, job.part, &job.input));
    }
    Ok(())
}

fn compare_streams(peer: (&str, &[&str]), format: Format) -> Result<(), String> {
    // Chunk, left context, frames; the last has a left context that is no multiple of its chunk.
    let cases: [(&str, [&str; 2], Size, [usize; 3]); 5] = [
        ("tiny", ["a", "a-steps"], TINY, [4, 8, 28]),
        ("tiny-single", ["b", "b-steps"], TINY, [1, 5, 12]),
        ("tiny-none", ["c", "c-steps"], TINY, [3, 0, 9]),
        ("reference", ["d", "d-steps"], REFERENCE, [8, 64, 96]),
        ("reference-odd", ["e", "e-steps"], REFERENCE, [8, 19, 48]),
    ];
    let mut jobs = Vec::new();
    for (_, names, size, [chunk, left, frames]) in cases {
        let causal = |c: &mut Conformer<'_>| c.encoder.conv_left = c.encoder.conv_kernel - 1;
        let chunks = Some(Chunks {
            frames: chunk,
            left,
        });
        let parts = [
            Part::Encoder { frames, chunks },
            Part::Step {
                frames: chunk,
                left,
            },
        ];
        jobs.extend(names.into_iter().zip(parts).map(|(name, part)| Job {
            name,
            model: model(&size, Weights::F32, causal),
            part,
            format,
            input: features(&size, frames),
        }));
    }
    let outputs = run("stream", peer, &jobs)?;
    for ((name, ..), pair) in cases.iter().zip(outputs.chunks(2)) {
        near(name, &pair[1], &pair[0]);
    }
    // A chunk of one frame sees what a model with so much left context, and none to the right, sees.
    let seen = |c: &mut Conformer<'_>| {
        c.encoder.conv_left = c.encoder.conv_kernel - 1;
        (c.encoder.att_left, c.encoder.att_right) = (5, 0);
    };
    let own = engine(&model(&TINY, Weights::F32, seen), whole(12), &jobs[2].input);
    near("tiny-single beside the engine", &outputs[3], &own);
    // And what is hidden matters: with all to be seen the result is another one.
    let all = engine(&jobs[2].model, whole(12), &jobs[2].input);
    assert!(rms(&outputs[3], &all) > 0.01);
    Ok(())
}

/// Features to logits, with the context of the model.
fn whole(frames: usize) -> Part {
    Part::Encoder {
        frames,
        chunks: None,
    }
}

fn model(size: &Size, weights: Weights, change: impl FnOnce(&mut Conformer<'_>)) -> Vec<u8> {
    let mut spec = testing::spec(size, weights);
    if let Family::Conformer(conformer) = &mut spec.family {
        change(conformer);
    }
    testing::model(&spec, 3).expect("a model")
}

fn features(size: &Size, frames: usize) -> Vec<f32> {
    testing::features(7, frames, size.d_model as usize)
}

/// Logits of our own engine.
fn engine(model: &[u8], part: Part, input: &[f32]) -> Vec<f32> {
    let model = Model::open(model).expect("a model");
    let options = Options::default();
    let mut arena = vec![0; model.arena_bytes(model.max_frames())];
    let mut session = Session::new(&model, &mut arena, options).expect("a session");
    match part {
        Part::Whole { frames } => {
            let crops: Vec<u8> = input.iter().map(|&grey| grey as u8).collect();
            for crop in crops.chunks(crops.len() / frames) {
                session.push_crop(crop, 0).expect("a crop");
            }
        }
        Part::Encoder { frames, .. } | Part::Step { frames, .. } => {
            for row in input.chunks(input.len() / frames) {
                session.push_features(row, 0).expect("features");
            }
        }
    }
    session.finish();
    session.logits().to_vec()
}

/// The peer's outputs of all jobs.
fn run(
    what: &str,
    (peer, packages): (&str, &[&str]),
    jobs: &[Job],
) -> Result<Vec<Vec<f32>>, String> {
    let python = python::with(peer, packages)?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("export-{peer}-{what}"));
    fs::create_dir_all(&folder).expect("a folder below target");
    let mut lines = String::new();
    for job in jobs {
        let file = export(&job.model, job.part, job.format).expect("an exported model");
        fs::write(folder.join(format!("{}.model", job.name)), file).expect("a written file");
        let input: Vec<u8> = job.input.iter().flat_map(|v| v.to_le_bytes()).collect();
        fs::write(folder.join(format!("{}.in", job.name)), input).expect("a written file");
        lines += &match job.part {
            Part::Step { frames, left } => format!("{} stream {frames} {left}\n", job.name),
            Part::Whole { .. } | Part::Encoder { .. } => format!("{} run\n", job.name),
        };
    }
    fs::write(folder.join("jobs.txt"), lines).expect("a written file");
    let script = include_str!("export_peer.py");
    python::run_script(&python, script, &[Path::new(peer), &folder]);
    let output = |job: &Job| {
        let bytes = fs::read(folder.join(format!("{}.out", job.name))).expect("the peer's output");
        let (values, _) = bytes.as_chunks();
        values.iter().map(|v| f32::from_le_bytes(*v)).collect()
    };
    let outputs = jobs.iter().map(output).collect();
    // Some of these files are large.
    let _: Result<(), _> = fs::remove_dir_all::<PathBuf>(folder);
    Ok(outputs)
}

fn near(name: &str, found: &[f32], want: &[f32]) {
    assert_eq!(found.len(), want.len(), "{name}");
    let largest = want.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    let pairs = found.iter().zip(want);
    let error = pairs.fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    println!("{name}: {:.1e} of {largest:.2}", error / largest);
    // Not the other way round, since NaN is no small error.
    assert!(error <= TOLERANCE * largest, "{name}: {error}");
}

/// Root of the mean square of the difference.
fn rms(a: &[f32], b: &[f32]) -> f32 {
    let sum: f32 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    (sum / a.len() as f32).sqrt()
}
