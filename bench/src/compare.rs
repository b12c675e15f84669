//! All engines on all cases, in turns.

use std::path::Path;

use serde_json::{Value, json};

use crate::cases::{self, CASES, Files};
use crate::process::Process;
use crate::setup::{Program, Workshop};

/// One engine on one case.
pub struct Row {
    /// The engine.
    pub engine: &'static str,
    /// Precision of its weights.
    pub variant: &'static str,
    /// Place of the case in [`CASES`].
    pub case: usize,
    /// The fastest run.
    pub min_ms: f64,
    /// The run in the middle.
    pub median_ms: f64,
    /// The most memory of a process that only loads and runs the model.
    pub rss_kb: f64,
    /// The model file.
    pub file_bytes: u64,
    /// Error of what the encoder gives against f32: root of the mean square of the difference, of that of what is right.
    pub rel_rms: f64,
    /// The same of the logits.
    pub logits_rel_rms: f64,
}

impl Row {
    /// As in the object of `--json`.
    pub fn json(&self) -> Value {
        let case = CASES[self.case];
        json!({
            "engine": self.engine, "variant": self.variant, "frames": case.frames, "cached": case.cached,
            "min_ms": self.min_ms, "median_ms": self.median_ms, "rss_kb": self.rss_kb as u64,
            "file_bytes": self.file_bytes, "rel_rms": self.rel_rms, "logits_rel_rms": self.logits_rel_rms,
        })
    }
}

/// What came of a comparison.
#[derive(Default)]
pub struct Outcome {
    /// By case, in the order of [`ENGINES`].
    pub rows: Vec<Row>,
    /// What is missing, and why: one line each.
    pub skipped: Vec<String>,
}

/// A precision of an engine.
struct Contestant {
    engine: &'static str,
    variant: &'static str,
    /// The peer's name in the workshop; ours has none.
    peer: Option<&'static str>,
    /// Ending of the exported file.
    file: &'static str,
}

const fn contestant(
    engine: &'static str,
    variant: &'static str,
    peer: Option<&'static str>,
    file: &'static str,
) -> Contestant {
    Contestant {
        engine,
        variant,
        peer,
        file,
    }
}

const ENGINES: [Contestant; 11] = [
    contestant("viseme", "int8", None, ""),
    contestant("viseme", "int4", None, ""),
    contestant("viseme", "f32", None, ""),
    contestant("litert", "int8 dynamic", Some("litert"), "int8.tflite"),
    contestant("litert", "f32", Some("litert"), "tflite"),
    contestant("onnxruntime", "int8 dynamic", Some("ort"), "int8.onnx"),
    contestant("onnxruntime", "f32", Some("ort"), "onnx"),
    contestant("rten", "int8 dynamic", Some("rten"), "int8.onnx"),
    contestant("rten", "f32", Some("rten"), "onnx"),
    contestant("tract", "int8 dynamic", Some("tract"), "int8.onnx"),
    contestant("tract", "f32", Some("tract"), "onnx"),
];

/// Times that every engine has its turn.
const ROUNDS: usize = 16;
/// Milliseconds of a turn.
const TURN: f64 = 30.0;

/// Our engine, and with `peers` the others.
///
/// # Errors
/// Files that cannot be written.
pub fn compare(root: &Path, peers: bool) -> Result<Outcome, String> {
    let folder = root.join("target/bench");
    let files = cases::write(&folder, peers)?;
    let mut outcome = Outcome::default();
    let workshop = Workshop::new(root);
    let mut programs = Vec::new();
    if peers {
        for name in ["ort", "litert", "rten", "tract"] {
            match workshop.peer(name) {
                Ok(program) => programs.push((name, program)),
                Err(why) => outcome.skipped.push(format!("{name}: {why}")),
            }
        }
        let pairs = files
            .iter()
            .flat_map(|f| ["onnx", "int8.onnx"].map(|e| f.exported(e)));
        if let Err(why) = workshop.quantise(&pairs.collect::<Vec<_>>()) {
            outcome.skipped.push(format!("int8 of ONNX files: {why}"));
        }
    }
    for (case, files) in files.iter().enumerate() {
        eprintln!("── {}", files.case.name());
        one(case, files, &folder, &programs, &mut outcome);
    }
    Ok(outcome)
}

/// Adds the rows of a case.
fn one(
    case: usize,
    files: &Files,
    folder: &Path,
    programs: &[(&str, Program)],
    outcome: &mut Outcome,
) {
    let mut running = Vec::new();
    for contestant in &ENGINES {
        // Streams are for quantised models.
        if files.case.cached && contestant.peer.is_none() && contestant.variant == "f32" {
            continue;
        }
        let (mut command, model) = match contestant.peer {
            None => {
                let Ok(me) = std::env::current_exe() else {
                    continue;
                };
                let mut command = std::process::Command::new(me);
                command.arg("engine");
                (command, cases::own(folder, contestant.variant))
            }
            Some(peer) => match programs.iter().find(|(name, _)| *name == peer) {
                Some((_, program)) => (program.command(), files.exported(contestant.file)),
                None => continue,
            },
        };
        let name = format!(
            "{} {}, {}",
            contestant.engine,
            contestant.variant,
            files.case.name()
        );
        let bytes = std::fs::metadata(&model).map_or(0, |data| data.len());
        match Process::start(&mut command, &model, &files.input, &files.shapes) {
            Ok(process) => running.push((contestant, process, bytes, Vec::new())),
            Err(why) => outcome.skipped.push(format!("{name}: {why}")),
        }
    }
    for _ in 0..ROUNDS {
        running.retain_mut(|(contestant, process, _, times)| {
            let turn = |process: &mut Process, times: &mut Vec<f64>| {
                // Caches have gone cold since the last turn.
                let warm = process.run(3)?;
                let each = warm.into_iter().fold(f64::MAX, f64::min).max(1e-3);
                let count = (TURN / each).clamp(5.0, 400.0);
                times.extend(process.run(count as usize)?);
                Ok::<(), String>(())
            };
            let result = turn(process, times);
            if let Err(why) = &result {
                let Contestant {
                    engine, variant, ..
                } = contestant;
                outcome
                    .skipped
                    .push(format!("{engine} {variant}, {}: {why}", files.case.name()));
            }
            result.is_ok()
        });
    }
    // ONNX Runtime in f32 is the measure; without it our own f32.
    let mut outputs: Vec<[Vec<f64>; 2]> = Vec::new();
    for (_, process, ..) in &mut running {
        let (encoded, logits) = (process.encoded(), process.output());
        outputs.push([encoded, logits].map(Result::unwrap_or_default));
    }
    let find = |engine: &str| {
        let is = |(c, ..): &(&Contestant, Process, u64, Vec<f64>)| {
            c.engine == engine && c.variant == "f32"
        };
        running.iter().position(is)
    };
    let reference = find("onnxruntime")
        .or_else(|| find("viseme"))
        .map(|at| outputs[at].clone());
    for ((contestant, mut process, file_bytes, mut times), output) in
        running.into_iter().zip(outputs)
    {
        times.sort_by(f64::total_cmp);
        let error = |which: usize| {
            let exact = reference.as_ref().map_or(&[][..], |exact| &exact[which]);
            relative(&output[which], exact)
        };
        outcome.rows.push(Row {
            engine: contestant.engine,
            variant: contestant.variant,
            case,
            min_ms: times.first().copied().unwrap_or(f64::NAN),
            median_ms: times.get(times.len() / 2).copied().unwrap_or(f64::NAN),
            rss_kb: process.rss().unwrap_or(f64::NAN),
            file_bytes,
            rel_rms: error(0),
            logits_rel_rms: error(1),
        });
    }
}

/// √(Σ (y - e)² / Σ e²); not a number if they are not of one length.
pub fn relative(y: &[f64], exact: &[f64]) -> f64 {
    if y.len() != exact.len() {
        return f64::NAN;
    }
    let error: f64 = y.iter().zip(exact).map(|(y, e)| (y - e) * (y - e)).sum();
    (error / exact.iter().map(|e| e * e).sum::<f64>()).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_relative_to_the_size_of_what_is_right() {
        assert_eq!(relative(&[3.0, 4.5], &[3.0, 4.0]), 0.1);
        assert_eq!(relative(&[1.0, -1.0], &[1.0, -1.0]), 0.0);
        assert!(relative(&[1.0], &[1.0, 2.0]).is_nan());
    }

    #[test]
    fn rows_have_what_the_object_promises() {
        let rows = [Row {
            engine: "viseme",
            variant: "int8",
            case: 2,
            min_ms: 0.25,
            median_ms: 0.5,
            rss_kb: 4096.0,
            file_bytes: 17,
            rel_rms: 0.01,
            logits_rel_rms: 0.02,
        }];
        let object = rows[0].json();
        let wanted = json!({
            "engine": "viseme", "variant": "int8", "frames": 8, "cached": true, "min_ms": 0.25, "median_ms": 0.5,
            "rss_kb": 4096, "file_bytes": 17, "rel_rms": 0.01, "logits_rel_rms": 0.02,
        });
        assert_eq!(object, wanted);
        let picture = crate::table::chart(&rows);
        assert!(picture.starts_with("<svg ") && picture.contains("8 frames, a step"));
    }
}
