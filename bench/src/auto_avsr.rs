//! A full-size video model of Auto-AVSR with random int8 weights (250 million parameters): loading, encoding three seconds
//! on one thread and two, a search of twenty tokens, and the encoder beside other engines.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use viseme_corpus::team::Team;
use viseme_engine::decode::attention::{self, NextToken, Options, Step};
use viseme_engine::decode::ctc;
use viseme_engine::kernels::{Kernels, detect};
use viseme_engine::model::auto_avsr::decoder::Decoding;
use viseme_engine::model::auto_avsr::{Input, Model};
use viseme_engine::preprocess::crop::normalise;
use viseme_engine::testing;
use viseme_export::{Format, Part, export};
use viseme_format::spec::auto_avsr::{
    AutoAvsr, Branch, CROP, Positions, TransformerDecoder, Trunk,
};
use viseme_format::spec::{BLANK, Weights};

use crate::compare::relative;
use crate::process::Process;
use crate::protocol::{Engine, Tensor};
use crate::setup::Workshop;
use crate::sys;

/// Three seconds.
const FRAMES: usize = 75;
/// Tokens of a sentence of that length.
const TOKENS: usize = 20;
/// The original's vocabulary and beam.
const VOCABULARY: usize = 5049;
const BEAM: usize = 40;
/// How often the encoder is timed, and the search.
const ROUNDS: usize = 7;
const SEARCHES: usize = 2;
/// Times that every engine has its turn, of so many runs after one that is not counted.
const TURNS: usize = 5;
const RUNS: usize = 2;

/// Measures, and prints unless `quiet`; with `peers` the encoder beside ONNX Runtime and PyTorch, too.
///
/// # Errors
/// One line.
pub fn measure(root: &Path, peers: bool, quiet: bool) -> Result<Value, String> {
    let folder = root.join("target/bench");
    fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let mut result = own(&folder, quiet)?;
    if peers {
        result["peers"] = beside(root, &folder, quiet)?;
    }
    Ok(result)
}

/// Our engine by itself.
fn own(folder: &Path, quiet: bool) -> Result<Value, String> {
    let path = folder.join(OWN);
    save_once(&path, || random_model(Weights::Int8))?;
    let start = Instant::now();
    let pages = sys::map(&path).map_err(|e| format!("cannot map {}: {e}", path.display()))?;
    let mut load_ms = f64::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        Model::open(&pages).map_err(|e| e.to_string())?;
        load_ms = load_ms.min(ms(start));
    }
    let first_ms = ms(start);
    let model = Model::open(&pages).map_err(|e| e.to_string())?;
    let pixels = pixels(&crops());
    let team = Team::new(2).map_err(|e| e.to_string())?;
    let encode = |kernels: &dyn Kernels, best: &mut f64| {
        let input = Input {
            video: Some(&pixels),
            audio: None,
        };
        let start = Instant::now();
        let memory = model.encode(kernels, &input, None);
        *best = best.min(ms(start));
        memory.map_err(|e| e.to_string())
    };
    let (mut encode_ms, mut two_ms) = (f64::MAX, f64::MAX);
    let mut memory = Vec::new();
    for _ in 0..ROUNDS {
        memory = encode(detect(), &mut encode_ms)?;
        let two = team.run(|| encode(&team, &mut two_ms))?;
        if two != memory {
            return Err("two threads give other bits than one".into());
        }
    }
    let logits = model.ctc(detect(), &memory);
    let log_probs = ctc::log_probs(&logits, VOCABULARY).map_err(|e| e.to_string())?;
    let mut search_ms = f64::MAX;
    for _ in 0..SEARCHES {
        let start = Instant::now();
        let mut next = Ended {
            inner: Decoding::new(&model, detect(), &memory, None),
            steps: 0,
            out: Vec::new(),
        };
        let options = Options {
            beam: BEAM,
            ..Options::default()
        };
        let found = attention::search(&mut next, &log_probs, VOCABULARY, &options)
            .map_err(|e| e.to_string())?;
        search_ms = search_ms.min(ms(start));
        let longest = found.iter().map(|h| h.tokens.len()).max().unwrap_or(0);
        if longest != TOKENS + 2 {
            return Err(format!(
                "the search took {longest} tokens, not {}",
                TOKENS + 2
            ));
        }
    }
    if !quiet {
        println!("a full-size video model of Auto-AVSR, int8, random weights");
        let line = |what: &str, ms: f64| println!("  {what:<46} {ms:>8.1} ms");
        println!("  {:<46} {:>8.1} MB", "file", pages.len() as f64 / 1e6);
        line("mapped and checked, in the file cache", load_ms);
        line("three times, the first included", first_ms);
        line(&format!("encoder, {FRAMES} frames, one thread"), encode_ms);
        line(
            &format!("two threads: {:.2} times as fast", encode_ms / two_ms),
            two_ms,
        );
        line(
            &format!("search, beam {BEAM}, {TOKENS} tokens, one thread"),
            search_ms,
        );
    }
    Ok(json!({
        "file_bytes": pages.len(),
        "load_ms": load_ms,
        "encode_ms": encode_ms,
        "encode_two_threads_ms": two_ms,
        "search_ms": search_ms,
    }))
}

/// The file of our engine, and those of others.
const OWN: &str = "auto-avsr-video.gguf";
const EXPORTED: [&str; 2] = ["auto-avsr-video.onnx", "auto-avsr-video.int8.onnx"];

/// Encoder and CTC head of the same weights, before rounding, in other engines and ours, by turns, one thread each.
fn beside(root: &Path, folder: &Path, quiet: bool) -> Result<Value, String> {
    let [exported, quantised] = EXPORTED.map(|name| folder.join(name));
    save_once(&exported, || {
        let part = Part::Whole { frames: FRAMES };
        export(&random_model(Weights::F32)?, part, Format::Onnx).map_err(|e| e.to_string())
    })?;
    let workshop = Workshop::new(root);
    let mut skipped = Vec::new();
    if !quantised.is_file()
        && let Err(why) = workshop.quantise(&[exported.clone(), quantised.clone()])
    {
        skipped.push(format!("int8 of ONNX files: {why}"));
    }
    let input = folder.join("auto-avsr-video.frames");
    let crops = crops();
    let bytes: Vec<u8> = crops.iter().flat_map(|v| v.to_le_bytes()).collect();
    fs::write(&input, bytes).map_err(|e| format!("cannot write {}: {e}", input.display()))?;
    let side = CROP.size as usize;
    let shapes = [vec![FRAMES, side, side]];
    let me = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut own = Command::new(me);
    own.arg("auto-avsr-engine");
    let mut engines = vec![("viseme", "int8", Ok(own), folder.join(OWN))];
    let onnxruntime = || workshop.peer("ort").map(|program| program.command());
    engines.push(("onnxruntime", "int8 dynamic", onnxruntime(), quantised));
    engines.push(("onnxruntime", "f32", onnxruntime(), exported.clone()));
    let torch = workshop.torch().map(|program| program.command());
    engines.push(("torch", "f32", torch, exported));
    let mut running = Vec::new();
    for (engine, variant, command, model) in engines {
        let start = |mut command| Process::start(&mut command, &model, &input, &shapes);
        match command.and_then(start) {
            Ok(process) => running.push((engine, variant, process, Vec::new())),
            Err(why) => skipped.push(format!("{engine} {variant}: {why}")),
        }
    }
    for _ in 0..TURNS {
        running.retain_mut(|(engine, variant, process, times)| {
            match process.run(1 + RUNS) {
                Ok(found) => times.extend(found.into_iter().skip(1)),
                Err(why) => {
                    skipped.push(format!("{engine} {variant}: {why}"));
                    return false;
                }
            }
            true
        });
    }
    let mut rows = Vec::new();
    for (engine, variant, process, mut times) in running {
        times.sort_by(f64::total_cmp);
        let mut process = process;
        let rss = process.rss().unwrap_or(f64::NAN);
        let (least, median) = (times[0], times[times.len() / 2]);
        rows.push((engine, variant, least, median, rss, process.output()?));
    }
    let exact = rows
        .iter()
        .find(|row| (row.0, row.1) == ("onnxruntime", "f32"));
    let exact = exact.map(|row| row.5.clone()).unwrap_or_default();
    if !quiet {
        println!(
            "\nencoder and CTC head of {FRAMES} frames beside other engines, one thread, {TURNS} turns"
        );
        println!(
            "{:<12} {:<13} {:>8} {:>10} {:>6} {:>8} {:>9}",
            "engine", "weights", "min ms", "median ms", "times", "RSS MB", "rel. RMS"
        );
        for (engine, variant, least, median, rss, output) in &rows {
            println!(
                "{engine:<12} {variant:<13} {least:>8.1} {median:>10.1} {:>6.2} {:>8.0} {:>9.1e}",
                least / rows[0].2,
                rss / 1e3,
                relative(output, &exact)
            );
        }
    }
    for skipped in &skipped {
        eprintln!("skipped: {skipped}");
    }
    let rows: Vec<Value> = (rows.iter())
        .map(|(engine, variant, least, median, rss, output)| {
            json!({
                "engine": engine, "variant": variant, "min_ms": least, "median_ms": median,
                "rss_kb": rss, "rel_rms": relative(output, &exact),
            })
        })
        .collect();
    Ok(json!({"rows": rows, "skipped": skipped}))
}

/// Our engine in a process of its own.
pub struct Own {
    model: Model<'static>,
    pixels: Vec<f32>,
    memory: Vec<f32>,
    logits: Vec<f32>,
}

impl Engine for Own {
    fn load(path: &Path) -> Result<Self, String> {
        let pages = sys::map(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let bytes: &'static [u8] = Box::leak(Box::new(pages));
        Ok(Own {
            model: Model::open(bytes).map_err(|e| e.to_string())?,
            pixels: Vec::new(),
            memory: Vec::new(),
            logits: Vec::new(),
        })
    }

    fn set(&mut self, inputs: &[Tensor]) -> Result<(), String> {
        let [crops] = inputs else {
            return Err("only models with one input".into());
        };
        self.pixels = pixels(&crops.data);
        Ok(())
    }

    fn run(&mut self) -> Result<(), String> {
        let input = Input {
            video: Some(&self.pixels),
            audio: None,
        };
        let memory = self.model.encode(detect(), &input, None);
        self.memory = memory.map_err(|e| e.to_string())?;
        self.logits = self.model.ctc(detect(), &self.memory);
        Ok(())
    }

    fn outputs(&mut self) -> Result<Vec<Vec<f32>>, String> {
        self.run()?;
        Ok(vec![self.memory.clone(), self.logits.clone()])
    }
}

/// Grey crops of three seconds.
fn crops() -> Vec<f32> {
    let crops = testing::crops(1, FRAMES, CROP.size as usize);
    crops.into_iter().map(f32::from).collect()
}

fn pixels(crops: &[f32]) -> Vec<f32> {
    let normal = |&grey: &f32| normalise(grey as u8, CROP.mean, CROP.std);
    crops.iter().map(normal).collect()
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Writes what `make` gives, unless the file is there; under another name first, so that no half of it has this one.
fn save_once(path: &Path, make: impl FnOnce() -> Result<Vec<u8>, String>) -> Result<(), String> {
    if path.is_file() {
        return Ok(());
    }
    let file = make()?;
    let draft = path.with_extension("part");
    let write = || fs::write(&draft, file).and_then(|()| fs::rename(&draft, path));
    write().map_err(|e| format!("cannot write {}: {e}", path.display()))
}

/// A decoder that ends all sentences after [`TOKENS`] tokens, which random weights would not, and none before.
struct Ended<'d> {
    inner: Decoding<'d>,
    steps: usize,
    out: Vec<f32>,
}

impl NextToken for Ended<'_> {
    fn step(&mut self, steps: &[Step<'_>]) -> &[f32] {
        self.out.clear();
        self.out.extend_from_slice(self.inner.step(steps));
        for row in self.out.chunks_exact_mut(VOCABULARY) {
            if self.steps < TOKENS {
                row[VOCABULARY - 1] = -1e6;
            } else {
                row.fill(-1e6);
                row[VOCABULARY - 1] = 0.0;
            }
        }
        self.steps += 1;
        &self.out
    }

    fn rows(&self) -> usize {
        self.inner.rows()
    }
}

/// The same weights before rounding, whatever they are stored as.
fn random_model(weights: Weights) -> Result<Vec<u8>, String> {
    let numbers = (1..VOCABULARY - 1).map(|id| format!("\u{2581}{id}"));
    let tokens: Vec<String> = std::iter::once(BLANK.to_owned())
        .chain(numbers)
        .chain(["<eos>".to_owned()])
        .collect();
    let of = AutoAvsr {
        crop: CROP,
        video: Some(Branch {
            width: 64,
            trunk: Trunk::Silu,
            d_model: 768,
            heads: 12,
            ff: 3072,
            blocks: 12,
            conv_kernel: 31,
            positions: Positions::Latest,
        }),
        audio: None,
        fusion: None,
        decoder: TransformerDecoder {
            d_model: 768,
            heads: 12,
            ff: 3072,
            blocks: 6,
        },
        max_frames: 1500,
        tokens: (&tokens[..]).into(),
    };
    testing::model(&testing::auto_avsr_spec(of, weights), 1).map_err(|e| e.to_string())
}
