//! `viseme forward`: a model made from an Auto-AVSR checkpoint on a stored input, every stage written under the name that
//! the original's code has for it. It is how a conversion is compared with its original.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow, bail, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Serialize;
use viseme_capture::file;
use viseme_corpus::{disk, sentence};
use viseme_engine::decode::attention::prefix::PrefixScorer;
use viseme_engine::decode::attention::{self, NextToken, Step};
use viseme_engine::decode::ctc;
use viseme_engine::kernels::{self, Kernels};
use viseme_engine::model::auto_avsr::decoder::Decoding;
use viseme_engine::model::auto_avsr::watch::Observer;
use viseme_engine::model::auto_avsr::{Input, Model};
use viseme_format::spec::Modality;

use crate::cli::Forward;
use crate::model::ModelFile;
use crate::{output, sentences};

/// Largest input file that is read.
const MOST_BYTES: u64 = 1 << 30;

/// Runs the command.
///
/// # Errors
/// If the model is none of Auto-AVSR, the input does not fit it, or a file cannot be written.
pub fn run(arguments: &Forward) -> Result<ExitCode> {
    let file = ModelFile::load(Some(&arguments.model))?;
    let model = file.auto_avsr()?.ok_or_else(|| {
        anyhow!(
            "{}: not made from an Auto-AVSR checkpoint; give a file of cargo xtask quantize --from auto-avsr",
            file.name()
        )
    })?;
    let options = sentences::options(&arguments.sentences);
    if arguments.sentences.beam.is_some() {
        options.check(model.vocabulary())?;
    }
    if let Some(out) = &arguments.out {
        let read = [&arguments.model, &arguments.r#in];
        ensure!(
            !read.iter().any(|path| disk::same_file(path, out)),
            "{}: would be written over itself; give another --out",
            output::show(out)
        );
    }
    let stored =
        Stored::read(&arguments.r#in, &model).with_context(|| output::show(&arguments.r#in))?;
    let team = sentences::team(&arguments.sentences)?;
    let kernels = sentences::kernels(team.as_ref());
    let stages = arguments.out.is_some().then(Stages::default);
    let observer = stages.as_ref().map(|stages| stages as &dyn Observer);
    let memory = match (&team, observer) {
        (Some(team), None) => team.run(|| model.encode(kernels, &stored.input(), None)),
        // Whoever looks on sees everything in order.
        _ => model.encode(kernels::detect(), &stored.input(), observer),
    };
    let memory = memory.map_err(|e| anyhow!("{}: {e}", output::show(&arguments.r#in)))?;
    let logits = model.ctc(kernels, &memory);
    let log_probs = ctc::log_probs(&logits, model.vocabulary())?;
    // Before anything is written: a search may find that the model is of no use.
    let found = match arguments.sentences.beam {
        None => None,
        Some(_) => {
            let search = || {
                let mut decoding = Decoding::new(&model, kernels, &memory, None);
                attention::search(&mut decoding, &log_probs, model.vocabulary(), &options)
            };
            Some(match &team {
                Some(team) => team.run(search)?,
                None => search()?,
            })
        }
    };
    if let (Some(out), Some(stages)) = (&arguments.out, &stages) {
        stages.put("ctc.logits", &[model.vocabulary()], &logits);
        stages.put("ctc.log_probs", &[model.vocabulary()], &log_probs);
        if let Some(prefix) = &stored.prefix {
            decode_prefix(&model, kernels, &memory, prefix, stages);
            score_prefix(&log_probs, model.vocabulary(), prefix, stages);
        }
        stages.write(out, model.spec().modality)?;
    }
    if let Some(found) = found {
        let vocabulary = sentence::vocabulary(model.auto_avsr()?)?;
        let best = found.iter().map(|h| {
            let end = model.vocabulary() - 1;
            let tokens = h.tokens.iter().filter(|&&t| t != end && t != 0);
            let tokens: Vec<u32> = tokens.map(|&t| t as u32).collect();
            Sentence {
                yseq: &h.tokens,
                score: h.score,
                scores: Scores {
                    decoder: h.decoder,
                    ctc: h.ctc,
                },
                text: vocabulary.join(&tokens),
            }
        });
        let best = Best {
            nbest: best.collect(),
        };
        if arguments.json {
            output::print(&serde_json::to_string(&best)?)?;
        } else {
            for sentence in &best.nbest {
                output::print(&format!("{:10.4}  {}", sentence.score, sentence.text))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Best<'h> {
    nbest: Vec<Sentence<'h>>,
}

#[derive(Serialize)]
struct Sentence<'h> {
    yseq: &'h [usize],
    score: f32,
    scores: Scores,
    text: String,
}

#[derive(Serialize)]
struct Scores {
    decoder: f32,
    ctc: f32,
}

/// What the input file holds.
struct Stored {
    video: Option<Vec<f32>>,
    audio: Option<Vec<f32>>,
    prefix: Option<Vec<usize>>,
}

impl Stored {
    fn read(path: &Path, model: &Model<'_>) -> Result<Self> {
        let bytes = file::read(path, MOST_BYTES)
            .map_err(|e| anyhow!("the input cannot be read ({e}); give a .safetensors file"))?;
        let tensors = SafeTensors::deserialize(&bytes)
            .map_err(|e| anyhow!("no sound safetensors file ({e}); store the input again"))?;
        let of = model.auto_avsr()?;
        let side = of.crop.size as usize;
        let find = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| tensors.tensor(name).ok());
            let [own, common] = names;
            found.with_context(|| format!("there is no {own} or {common} in it; store the input"))
        };
        let video = match of.video {
            None => None,
            Some(_) => {
                let tensor = find(["input.video", "input.model"])?;
                let frames = tensor.shape().iter().filter(|&&n| n != 1);
                ensure!(
                    frames.clone().rev().take(2).all(|&n| n == side) && frames.count() <= 3,
                    "the pictures are {:?}; store [frames, 1, {side}, {side}]",
                    tensor.shape()
                );
                Some(floats(&tensor)?)
            }
        };
        let audio = match of.audio {
            None => None,
            Some(_) => {
                let tensor = find(["input.audio", "input.model"])?;
                let lengths = tensor.shape().iter().filter(|&&n| n != 1).count();
                ensure!(
                    lengths <= 1,
                    "the sound is {:?}; store [samples, 1]",
                    tensor.shape()
                );
                Some(floats(&tensor)?)
            }
        };
        let prefix = match tensors.tensor("decoder.prefix_ids") {
            Err(_) => None,
            Ok(tensor) => {
                ensure!(
                    tensor.dtype() == Dtype::I64,
                    "decoder.prefix_ids are not I64; store them again"
                );
                let words = tensor.data().as_chunks::<8>().0;
                let ids = words.iter().map(|word| {
                    let id = usize::try_from(i64::from_le_bytes(*word)).ok();
                    id.filter(|&id| id < model.vocabulary()).with_context(|| {
                        format!(
                            "decoder.prefix_ids hold {}, and tokens are 0 to {}; store others",
                            i64::from_le_bytes(*word),
                            model.vocabulary() - 1
                        )
                    })
                });
                let ids = ids.collect::<Result<Vec<_>>>()?;
                ensure!(
                    ids.len() <= of.max_frames as usize,
                    "decoder.prefix_ids are more than {}; store fewer",
                    of.max_frames
                );
                ensure!(
                    !ids.is_empty(),
                    "decoder.prefix_ids are empty; begin with the last token"
                );
                Some(ids)
            }
        };
        Ok(Stored {
            video,
            audio,
            prefix,
        })
    }

    fn input(&self) -> Input<'_> {
        Input {
            video: self.video.as_deref(),
            audio: self.audio.as_deref(),
        }
    }
}

fn floats(tensor: &TensorView<'_>) -> Result<Vec<f32>> {
    if tensor.dtype() != Dtype::F32 {
        bail!("the input is {:?}; store it as F32", tensor.dtype());
    }
    let words = tensor.data().as_chunks::<4>().0;
    Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
}

/// The decoder's stages, one token of the prefix after the other.
fn decode_prefix(
    model: &Model<'_>,
    kernels: &dyn Kernels,
    memory: &[f32],
    prefix: &[usize],
    stages: &Stages,
) {
    let mut decoding = Decoding::new(model, kernels, memory, Some(stages));
    let mut path = Vec::new();
    for &token in prefix {
        let row = decoding.rows();
        decoding.step(&[Step { token, path: &path }]);
        path.push(row);
    }
}

/// CTC's scores of every beginning of the prefix.
fn score_prefix(log_probs: &[f32], vocabulary: usize, prefix: &[usize], stages: &Stages) {
    let scorer = PrefixScorer::new(log_probs, vocabulary);
    let all: Vec<usize> = (0..vocabulary).collect();
    let tokens = &prefix[1..];
    let mut state = scorer.root();
    for step in 0..=tokens.len() {
        let before = &tokens[..step];
        let name = |part: &str| format!("ctc_prefix.step{step}.{part}");
        let scores = scorer.increments(&state, before, &all);
        stages.put(&name("score"), &[], &scores);
        if let Some(&next) = tokens.get(step) {
            stages.put(&name("log_psi"), &[], &scorer.scores(&state, before, &all));
            state = scorer.grow(&state, before, next);
            let pairs = state.token.iter().zip(&state.blank);
            let both: Vec<f32> = pairs.flat_map(|(&token, &blank)| [token, blank]).collect();
            stages.put(&name("r_selected"), &[2], &both);
        }
    }
}

/// All stages by their names in the engine: the shape of a row, and the rows.
#[derive(Default)]
struct Stages(Mutex<BTreeMap<String, Rows>>);

/// The shape of a row, and the values of all rows.
type Rows = (Vec<usize>, Vec<f32>);

impl Observer for Stages {
    fn see(&self, name: &str, _: usize, row: &[usize], values: &[f32]) {
        self.put(name, row, values);
    }
}

impl Stages {
    /// Rows that follow those that are there; with an empty `row` single values.
    fn put(&self, name: &str, row: &[usize], values: &[f32]) {
        let mut all = self.lock();
        let entry = all.entry(name.to_owned()).or_default();
        entry.0 = row.to_vec();
        entry.1.extend_from_slice(values);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Rows>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, path: &Path, modality: Modality) -> Result<()> {
        let all = self.lock();
        let mut named: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
        for (name, (row, values)) in all.iter() {
            for stage in names(name, modality) {
                let (shape, values) = stage.form.shape(row, values);
                let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                named.insert(stage.name, (shape, bytes));
            }
        }
        let views = named.iter().map(|(name, (shape, bytes))| {
            let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
            view.map(|view| (name.as_str(), view))
        });
        let views = views.collect::<Result<Vec<_>, _>>()?;
        let bytes = safetensors::serialize(views, None)?;
        Ok(disk::write_atomic(path, &[&bytes])?)
    }
}

/// What a stage is called in the original.
struct Named {
    name: String,
    form: Form,
}

/// How it lies there.
#[derive(Clone, Copy)]
enum Form {
    /// [rows, row].
    Rows,
    /// The first so many rows, channels first.
    Maps(usize),
    /// The one row, channels first.
    Map,
}

impl Form {
    fn shape(self, row: &[usize], values: &[f32]) -> (Vec<usize>, Vec<f32>) {
        let len: usize = row.iter().product();
        let rows = values.len() / len.max(1);
        match self {
            Form::Rows if row.is_empty() => (vec![values.len()], values.to_vec()),
            Form::Rows => ([&[rows][..], row].concat(), values.to_vec()),
            Form::Maps(most) => {
                let rows = rows.min(most);
                let maps = values.chunks_exact(len).take(rows);
                let (shape, _) = channels_first(row, &values[..len]);
                let values = maps.flat_map(|map| channels_first(row, map).1).collect();
                ([&[rows][..], &shape].concat(), values)
            }
            Form::Map => channels_first(row, &values[..len]),
        }
    }
}

/// [.., channels] to [channels, ..].
fn channels_first(row: &[usize], values: &[f32]) -> (Vec<usize>, Vec<f32>) {
    let (&channels, rest) = row.split_last().unwrap_or((&1, &[]));
    let pixels: usize = rest.iter().product();
    let at = |i: usize| values[i % pixels * channels + i / pixels];
    let values = (0..pixels * channels).map(at).collect();
    ([&[channels][..], rest].concat(), values)
}

/// The original's names of one of the engine's stages.
fn names(name: &str, modality: Modality) -> Vec<Named> {
    let one = |name: String, form| vec![Named { name, form }];
    let parts: Vec<&str> = name.split('.').collect();
    let encoder = match parts[0] {
        "audio" if modality == Modality::AudioVideo => "aux_encoder",
        _ => "encoder",
    };
    let alone = modality != Modality::AudioVideo;
    let is_sound = parts[0] == "audio";
    // The front-end of a model of one modality goes by two names.
    let front = |part: &str, form| {
        let mut all = one(format!("{encoder}.frontend.{part}"), form);
        if alone {
            all.extend(one(format!("frontend.{part}"), form));
        }
        all
    };
    match (parts[0], &parts[1..]) {
        ("video" | "audio", ["frontend"]) => front("out", Form::Rows),
        ("video", ["frontend", "stem_bn"]) => front("stem_bn.t0", Form::Map),
        ("audio", ["frontend", "stem_bn"]) => front("conv1_bn", Form::Map),
        ("video", ["frontend", "stem"]) => front("stem.t0t1", Form::Maps(2)),
        ("video" | "audio", ["frontend", stage]) => {
            let stage: usize = stage.parse().unwrap_or(0);
            match is_sound {
                true => front(&format!("layer{}", stage + 1), Form::Map),
                false => front(&format!("layer{}.t0t1", stage + 1), Form::Maps(2)),
            }
        }
        ("video" | "audio", ["proj"]) => {
            let mut all = one(format!("{encoder}.embed.linear"), Form::Rows);
            if alone {
                all.extend(one("proj_encoder.out".to_owned(), Form::Rows));
            }
            all
        }
        ("video" | "audio", ["scaled"]) => one(format!("{encoder}.embed.x_scaled"), Form::Rows),
        ("video" | "audio", ["pos_emb"]) => one(format!("{encoder}.embed.pos_emb"), Form::Rows),
        ("video" | "audio", ["encoder"]) => one(format!("{encoder}.out"), Form::Rows),
        ("video" | "audio", ["encoder", block]) => {
            one(format!("{encoder}.layer{block}.out"), Form::Rows)
        }
        ("video" | "audio", ["encoder", block, part]) => {
            one(format!("{encoder}.layer{block}.{part}"), Form::Rows)
        }
        ("fusion", _) => one("fusion.fc1".to_owned(), Form::Rows),
        ("memory", _) => {
            let mut all = one("memory".to_owned(), Form::Rows);
            if !alone {
                all.extend(one("fusion.out".to_owned(), Form::Rows));
            }
            all
        }
        ("decoder", ["log_probs"]) => {
            let mut all = one("decoder.log_probs_incremental".to_owned(), Form::Rows);
            all.extend(one("decoder.log_probs".to_owned(), Form::Rows));
            all
        }
        ("decoder", [block]) if block.parse::<usize>().is_ok() => {
            one(format!("decoder.layer{block}.out"), Form::Rows)
        }
        _ => one(name.to_owned(), Form::Rows),
    }
}
