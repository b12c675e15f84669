//! Exported models in the engines they are exported for, ONNX Runtime and LiteRT, against our own.

use std::fs;
use std::path::{Path, PathBuf};

use viseme_export::testing::{Case, auto_avsr, single_steps_whole, streams, utterances};
use viseme_export::{Format, Part, export};
use viseme_format::spec::Weights;

use crate::python;

/// The peers: the script's name for them, and their packages. LiteRT is the release whose C library the peers of
/// `bench/peers/` are bound to.
const ONNX: (&str, &[&str]) = ("onnx", &["numpy", "onnxruntime==1.31.1"]);
const TFLITE: (&str, &[&str]) = ("tflite", &["numpy", "ai-edge-litert==2.1.4"]);

/// Sums of a network in f32, in another order: far below, but for softmax and norms, which amplify.
const TOLERANCE: f32 = 1e-4;

#[test]
fn onnxruntime_computes_what_the_engine_computes() {
    skip(compare(ONNX, Format::Onnx));
}

#[test]
fn litert_computes_what_the_engine_computes() {
    skip(compare(TFLITE, Format::Tflite));
}

#[test]
fn onnxruntime_computes_what_auto_avsr_does() {
    let compare = || {
        let cases = auto_avsr();
        let outputs = run("auto-avsr", ONNX, Format::Onnx, &cases)?;
        for (case, output) in cases.iter().zip(outputs) {
            near(case.name, &output, &case.memory());
        }
        Ok(())
    };
    skip(compare());
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
        let large = |case: &Case| ["tiny", "reference"].contains(&case.name);
        let [exact, cases] = [Weights::F32, Weights::Int8].map(|weights| {
            let cases = utterances(weights).into_iter();
            cases.filter(large).collect::<Vec<_>>()
        });
        let outputs = run("int8", TFLITE, Format::TfliteInt8, &cases)?;
        for ((case, exact), output) in cases.iter().zip(exact).zip(outputs) {
            let exact = exact.engine();
            let own = rms(&case.engine(), &exact);
            let peer = rms(&output, &exact);
            println!("{}: engine {own:.5}, LiteRT {peer:.5}", case.name);
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
    let cases = utterances(Weights::F32);
    let outputs = run("whole", peer, format, &cases)?;
    for (case, output) in cases.iter().zip(outputs) {
        near(case.name, &output, &case.engine());
    }
    Ok(())
}

fn compare_streams(peer: (&str, &[&str]), format: Format) -> Result<(), String> {
    let cases = streams().concat();
    let outputs = run("stream", peer, format, &cases)?;
    for (cases, pair) in cases.chunks(2).zip(outputs.chunks(2)) {
        near(cases[1].name, &pair[1], &pair[0]);
    }
    // A chunk of one frame sees what a model with so much left context, and none to the right, sees.
    let single = cases
        .iter()
        .position(|case| case.name == "tiny-single-steps");
    let (single, output) = single.map(|at| (&cases[at], &outputs[at])).expect("a case");
    near(single.name, output, &single_steps_whole().engine());
    // And what is hidden matters: with all to be seen the result is another one.
    assert!(rms(output, &single.engine()) > 0.01);
    Ok(())
}

/// The peer's outputs of all jobs.
fn run(
    what: &str,
    (peer, packages): (&str, &[&str]),
    format: Format,
    jobs: &[Case],
) -> Result<Vec<Vec<f32>>, String> {
    let python = python::with(peer, packages)?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("export-{peer}-{what}"));
    fs::create_dir_all(&folder).expect("a folder below target");
    let mut lines = String::new();
    for job in jobs {
        let file = export(&job.model, job.part, format).expect("an exported model");
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
    let output = |job: &Case| {
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
