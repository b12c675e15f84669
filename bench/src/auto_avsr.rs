//! A full-size video model of Auto-AVSR with random int8 weights (250 million parameters): loading, encoding three seconds,
//! and a search of twenty tokens.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use viseme_engine::decode::attention::{self, NextToken, Options, Step};
use viseme_engine::decode::ctc;
use viseme_engine::kernels::detect;
use viseme_engine::model::auto_avsr::decoder::Decoding;
use viseme_engine::model::auto_avsr::{Input, Model};
use viseme_engine::testing;
use viseme_format::gguf::{DType, Writer};
use viseme_format::spec::auto_avsr::{AutoAvsr, Branch, Positions, TransformerDecoder, Trunk};
use viseme_format::spec::{BLANK, Crop, Family, Modality, ModelSpec, Weights};
use viseme_format::{layout, panels};

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

/// Measures, and prints unless `quiet`.
///
/// # Errors
/// One line.
pub fn measure(folder: &Path, quiet: bool) -> Result<Value, String> {
    let path = folder.join("auto-avsr.gguf");
    if !path.is_file() {
        let file = random_model()?;
        let write = || fs::create_dir_all(folder).and_then(|()| fs::write(&path, file));
        write().map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
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
    let pixels: Vec<f32> = (testing::crops(1, FRAMES, 88).into_iter())
        .map(|v| (f32::from(v) / 255.0 - 0.421) / 0.165)
        .collect();
    let input = Input {
        video: Some(&pixels),
        audio: None,
    };
    let mut encode_ms = Vec::new();
    let mut memory = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        memory = model
            .encode(detect(), &input, None)
            .map_err(|e| e.to_string())?;
        encode_ms.push(ms(start));
    }
    let logits = model.ctc(detect(), &memory);
    let log_probs = ctc::log_probs(&logits, VOCABULARY).map_err(|e| e.to_string())?;
    let mut search_ms = Vec::new();
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
        search_ms.push(ms(start));
        let longest = found.iter().map(|h| h.tokens.len()).max().unwrap_or(0);
        if longest != TOKENS + 2 {
            return Err(format!(
                "the search took {longest} tokens, not {}",
                TOKENS + 2
            ));
        }
    }
    let least = |all: &[f64]| all.iter().copied().fold(f64::MAX, f64::min);
    let (encode_ms, search_ms) = (least(&encode_ms), least(&search_ms));
    let result = json!({
        "file_bytes": pages.len(),
        "load_ms": load_ms,
        "encode_ms": encode_ms,
        "search_ms": search_ms,
    });
    if !quiet {
        println!("a full-size video model of Auto-AVSR, int8, random weights, one thread");
        println!(
            "  file                                  {:>9.1} MB",
            pages.len() as f64 / 1e6
        );
        println!(
            "  mapped and checked, in the file cache {load_ms:>9.1} ms (three times {first_ms:.0})"
        );
        println!("  encoder, {FRAMES} frames                   {encode_ms:>9.1} ms");
        println!("  search, beam {BEAM}, {TOKENS} tokens            {search_ms:>9.1} ms");
    }
    Ok(result)
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
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

fn random_model() -> Result<Vec<u8>, String> {
    let numbers = (1..VOCABULARY - 1).map(|id| format!("\u{2581}{id}"));
    let tokens: Vec<String> = std::iter::once(BLANK.to_owned())
        .chain(numbers)
        .chain(["<eos>".to_owned()])
        .collect();
    let of = AutoAvsr {
        crop: Crop {
            canvas: 256,
            patch: 96,
            size: 88,
            mean: 0.421,
            std: 0.165,
            smooth: 6,
        },
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
    let spec = ModelSpec {
        name: "random",
        license: "none",
        training_data: "none",
        modality: Modality::Video,
        weights: Weights::Int8,
        arena_bytes: 0,
        family: Family::AutoAvsr(of),
    };
    let mut writer = Writer::new();
    spec.write(&mut writer).map_err(|e| e.to_string())?;
    let mut state = 1u64;
    let mut noise = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as i8
    };
    // The matrix at hand: its inputs, and the sum of each row.
    let (mut inputs, mut sums) = (1, Vec::new());
    let mut shapes = std::collections::BTreeMap::new();
    let _ = layout::auto_avsr::model::<()>(&of, Weights::F32, |name, shape, _| {
        shapes.insert(name.to_owned(), shape.to_vec());
        Ok(())
    });
    layout::auto_avsr::model(&of, Weights::Int8, |name, shape, dtype| {
        let len: usize = shape.iter().product();
        match dtype {
            DType::I8 => {
                let rows = &shapes[name];
                inputs = rows[1..].iter().product();
                let codes: Vec<i8> = (0..rows[0] * inputs).map(|_| noise().max(-127)).collect();
                let sum = |row: &[i8]| row.iter().map(|&v| i32::from(v)).sum();
                sums = codes.chunks_exact(inputs).map(sum).collect();
                writer.tensor_i8(name, shape, &panels::pack(&codes, inputs))
            }
            DType::I32 => writer.tensor_i32(name, shape, &sums),
            _ if name.ends_with(".scale") => {
                // Codes have a deviation of 73: rows of unit length, or nearly.
                let scale = 1.0 / (73.0 * (inputs as f32).sqrt());
                writer.tensor_f32(name, shape, &vec![scale; len])
            }
            _ => {
                let is_norm = name.ends_with("norm.weight");
                let value = |_| f32::from(noise()) / 1280.0 + if is_norm { 1.0 } else { 0.0 };
                let values: Vec<f32> = (0..len).map(value).collect();
                writer.tensor_f32(name, shape, &values)
            }
        }
    })
    .map_err(|e| e.to_string())?;
    writer.finish().map_err(|e| e.to_string())
}
