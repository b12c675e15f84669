//! Checkpoints of Auto-AVSR, converted and run: against what the original computed, where the fixtures are at hand, and
//! on a small model with random weights.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;
use viseme_engine::kernels;
use viseme_engine::model::auto_avsr::{Input, Model};
use viseme_format::spec::Weights;
use viseme_format::widen::widen;
use viseme_import::auto_avsr as import;
use viseme_quantize::auto_avsr::{convert, tokens};

use crate::common::Folder;

/// Relative RMS error of the int8 memory, an upper bound to notice faults by. The target is 0.02 (README tells what is
/// reached).
const INT8_ERROR: f64 = 0.045;

type Stages = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

#[test]
fn every_stage_and_sentence_is_that_of_the_original() {
    for name in [
        "video_small",
        "audio_small",
        "av_small",
        "video_legacy_relpos",
    ] {
        let Some(fixture) = fixture(name) else { return };
        let folder = Folder::new();
        let model = folder.path("model.gguf");
        fs::write(&model, file(&fixture.join("model.pth"), Weights::F32)).unwrap();
        let got = forward(&folder, &model, &fixture);
        let want = stages(&fixture.join("io.safetensors"));
        assert!(want.len() > 35, "{name}");
        for (stage, (shape, values)) in &want {
            compare(&format!("{name}: {stage}"), shape, values, &got[stage]);
        }
        let expected = expected(&fixture);
        let searches = expected["beam"].as_array().unwrap();
        for search in searches {
            let best = best(&folder, &model, &fixture, search);
            let want = search["nbest"].as_array().unwrap();
            let safe = search["safe_top_k"].as_u64().unwrap() as usize;
            assert!(safe > 0);
            for (got, want) in best.iter().zip(want).take(safe) {
                assert_eq!(got["yseq"], want["yseq"], "{name}");
                let score = |of: &Value| of["score"].as_f64().unwrap();
                assert!((score(got) - score(want)).abs() < 1e-3, "{name}");
            }
            assert!(best.len() >= safe.min(want.len()), "{name}");
        }
    }
}

#[test]
fn int8_keeps_the_best_sentence() {
    for name in [
        "video_small",
        "audio_small",
        "av_small",
        "video_legacy_relpos",
    ] {
        let Some(fixture) = fixture(name) else { return };
        let folder = Folder::new();
        let model = folder.path("model.gguf");
        fs::write(&model, file(&fixture.join("model.pth"), Weights::Int8)).unwrap();
        let got = forward(&folder, &model, &fixture);
        let want = stages(&fixture.join("io.safetensors"));
        let memory = if want.contains_key("memory") {
            "memory"
        } else {
            "encoder.out"
        };
        let error = relative(&got[memory].1, &want[memory].1);
        println!("{name}: {error:.4}");
        assert!(error < INT8_ERROR, "{name}: {error}");
        for search in expected(&fixture)["beam"].as_array().unwrap() {
            let best = best(&folder, &model, &fixture, search);
            assert_eq!(best[0]["yseq"], search["nbest"][0]["yseq"], "{name}");
        }
    }
}

#[test]
fn all_formats_of_a_checkpoint_make_the_same_file() {
    let Some(fixture) = fixture("audio_small") else {
        return;
    };
    let [pth, ckpt, safetensors] = ["model.pth", "model.ckpt", "model.safetensors"]
        .map(|name| file(&fixture.join(name), Weights::Int8));
    assert!(pth == ckpt && ckpt == safetensors);
}

#[test]
fn a_random_model_reads_what_it_is_given() {
    let folder = Folder::new();
    let checkpoint = folder.path("tiny.safetensors");
    fs::write(&checkpoint, random_checkpoint(1.0)).unwrap();
    let pixels: Vec<f32> = (0..6 * 88 * 88)
        .map(|i| ((i * 7919 % 251) as f32 / 255.0 - 0.421) / 0.165)
        .collect();
    let input = Input {
        video: Some(&pixels),
        audio: None,
    };
    let [exact, rounded] = [Weights::F32, Weights::Int8].map(|weights| {
        let file = file(&checkpoint, weights);
        let words = aligned(&file);
        let model = Model::open(&bytemuck::cast_slice(&words)[..file.len()]).unwrap();
        let memories: Vec<Vec<f32>> = kernels::all()
            .map(|k| model.encode(k, &input, None).unwrap())
            .collect();
        assert!(
            memories.iter().all(|m| *m == memories[0]),
            "{weights}: other bits"
        );
        memories[0].clone()
    });
    let error = relative(&rounded, &exact);
    assert!(error > 0.0 && error < 0.1, "{error}");
    let half = file(&checkpoint, Weights::F16);
    let words = aligned(&half);
    let refused = Model::open(&bytemuck::cast_slice(&words)[..half.len()]).unwrap_err();
    assert!(refused.to_string().contains("half precision"), "{refused}");
    let half = widen(&half).unwrap();
    let words = aligned(&half);
    let model = Model::open(&bytemuck::cast_slice(&words)[..half.len()]).unwrap();
    let error = relative(
        &model.encode(kernels::detect(), &input, None).unwrap(),
        &exact,
    );
    assert!(error > 1e-6 && error < 2e-3, "{error}");

    // A clip from beginning to end.
    let model = folder.path("tiny.gguf");
    fs::write(&model, file(&checkpoint, Weights::Int8)).unwrap();
    folder.clip("clip", "bin blue at f two now", 25.0);
    let all = format!(
        "transcribe clip.y4m --model {} --roi 0,0,96,96 --beam 3 --json",
        model.display()
    );
    let line = folder.viseme(&all).json();
    assert!(line["frames"].as_u64().unwrap() > 20, "{line}");
    assert!(
        line["text"]
            .as_str()
            .unwrap()
            .split(' ')
            .all(|w| w.is_empty() || w.parse::<u32>().is_ok())
    );
    let twice = folder.viseme(&format!("{all} --threads 3")).json();
    assert_eq!(twice["text"], line["text"]);
    let half = folder.path("half.gguf");
    fs::write(&half, file(&checkpoint, Weights::F16)).unwrap();
    let from_half = all.replace("tiny.gguf", "half.gguf");
    assert_eq!(folder.viseme(&from_half).json()["frames"], line["frames"]);
    let info = folder.viseme(&format!("info {}", half.display())).out;
    assert!(info.contains("f16"), "{info}");
    folder
        .viseme(&format!("{all} --grammar grid"))
        .fails_with("takes no grammar");
    folder
        .viseme(&all.replace("--beam 3", "--beam 0"))
        .fails_with("a beam is 1 to");
    folder
        .viseme(&all.replace("--beam 3", "--beam 3 --ctc-weight 2"))
        .fails_with("weight of CTC");
    folder
        .viseme("transcribe clip.y4m --roi 0,0,96,96 --beam 3")
        .fails_with("models made from Auto-AVSR");
    let info = format!("info {}", model.display());
    assert!(folder.viseme(&info).out.contains("viseme-auto-avsr"));

    // What was read as its own reference has no errors, and other words have.
    let clip = |code: &str, text: &str| {
        serde_json::json!({
            "speaker": "a", "code": code, "text": text, "file": "clip.y4m", "roi": [0, 0, 96, 96],
        })
    };
    let read = line["text"].as_str().unwrap();
    let clips = [clip("same", &format!("{read} 1 1")), clip("gone", "bin")];
    let manifest = serde_json::json!({ "clips": &clips }).to_string();
    folder.write("m.json", &manifest);
    let eval = format!(
        "eval --manifest m.json --model {} --beam 3 --json",
        model.display()
    );
    let words = read.split_whitespace().count();
    let result = folder.viseme(&eval).json();
    assert_eq!(result["clips"], 2);
    assert_eq!(result["words"], words + 3);
    let wrong = 2 + words.max(1);
    let wer = 100.0 * wrong as f64 / (words + 3) as f64;
    assert!(
        (result["wer"].as_f64().unwrap() - wer).abs() < 1e-3,
        "{result} {read}"
    );
    folder
        .viseme(&format!("{eval} --grammar grid"))
        .fails_with("takes no grammar");
    folder
        .viseme(&eval.replace("--beam 3", "--threads 0"))
        .fails_with("--threads");
    folder
        .viseme("eval --manifest m.json --beam 3")
        .fails_with("models made from Auto-AVSR");
}

#[test]
fn damaged_files_are_refused_or_run() {
    let folder = Folder::new();
    let checkpoint = folder.path("tiny.safetensors");
    fs::write(&checkpoint, random_checkpoint(1.0)).unwrap();
    let good = file(&checkpoint, Weights::Int8);
    let pixels = vec![0.25; 2 * 88 * 88];
    let input = Input {
        video: Some(&pixels),
        audio: None,
    };
    let mut opened = 0;
    for i in 0..600 {
        let mut bad = good.clone();
        // Mostly in the header, which says the sizes.
        let range = if i % 3 == 0 { bad.len() } else { 9000 };
        let at = i * 7919 % range;
        bad[at] ^= 1 << (i % 8);
        let words = aligned(&bad);
        if let Ok(model) = Model::open(&bytemuck::cast_slice(&words)[..bad.len()]) {
            opened += 1;
            let _ = model.encode(kernels::detect(), &input, None);
        }
    }
    assert!(opened > 0 && opened < 600, "{opened}");
    for len in (0..good.len()).step_by(997) {
        let words = aligned(&good[..len]);
        assert!(
            Model::open(&bytemuck::cast_slice(&words)[..len]).is_err(),
            "{len}"
        );
    }
}

#[test]
fn checkpoints_that_make_no_sense_are_refused() {
    let folder = Folder::new();
    let checkpoint = folder.path("nan.safetensors");
    fs::write(&checkpoint, random_checkpoint(f32::NAN)).unwrap();
    let model = import::read(&checkpoint, &import::Options::default()).unwrap();
    let all = tokens(&model, None).unwrap();
    let error = convert(&model, "nan", &all, Weights::Int8, |_| ()).unwrap_err();
    assert!(format!("{error:#}").contains("ctc"), "{error:#}");
    let units = folder.path("units.txt");
    fs::write(&units, "<unk> 1\n").unwrap();
    let error = tokens(&model, Some(&units)).unwrap_err();
    assert!(format!("{error:#}").contains("1 units"), "{error:#}");
    let input = folder.path("io.safetensors");
    fs::write(&input, b"{}").unwrap();
    let model = folder.path("model.gguf");
    fs::write(&checkpoint, random_checkpoint(1.0)).unwrap();
    fs::write(&model, file(&checkpoint, Weights::F32)).unwrap();
    let forward = |input: &str| {
        folder.viseme(&format!(
            "forward {} --in {input} --beam 2",
            model.display()
        ))
    };
    forward("io.safetensors").fails_with("safetensors");
    forward("missing.safetensors").fails_with("missing.safetensors");
    // What is there is not replaced by what it is made of, nor by files in the place of folders.
    let itself = format!("forward {0} --in io.safetensors --out {0}", model.display());
    folder.viseme(&itself).fails_with("over itself");
    let before = fs::read(&model).unwrap();
    let pixels: Vec<u8> = (0..2 * 88 * 88)
        .flat_map(|_| 0.5f32.to_le_bytes())
        .collect();
    let view = |shape: &[usize]| TensorView::new(Dtype::F32, shape.to_vec(), &pixels).unwrap();
    for (shape, words) in [
        (&[2, 1, 88, 88][..], "no file"),
        (&[2 * 88, 88][..], "the pictures are"),
    ] {
        let bytes = safetensors::serialize([("input.model", view(shape))], None).unwrap();
        fs::write(&input, bytes).unwrap();
        let out = format!("forward {} --in io.safetensors --out .", model.display());
        folder.viseme(&out).fails_with(words);
    }
    let options = format!(
        "forward {} --in io.safetensors --out x --beam 0",
        model.display()
    );
    folder.viseme(&options).fails_with("a beam is 1 to");
    assert!(!folder.path("x").exists());
    assert_eq!(fs::read(&model).unwrap(), before);
}

/// The folder of a fixture, or `None` (and a word on why) where the shared data is not at hand.
fn fixture(name: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("VISEME_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").into());
    let folder = shared.join("fixtures/auto_avsr").join(name);
    if !folder.is_dir() {
        println!("skipped: no {}; set VISEME_SHARED", folder.display());
        return None;
    }
    Some(folder)
}

/// The model file of a checkpoint.
fn file(checkpoint: &Path, weights: Weights) -> Vec<u8> {
    let model = import::read(checkpoint, &import::Options::default()).unwrap();
    let tokens = tokens(&model, None).unwrap();
    let ([mut header, data], _) = convert(&model, "model", &tokens, weights, |_| ()).unwrap();
    header.extend(data);
    header
}

fn forward(folder: &Folder, model: &Path, fixture: &Path) -> Stages {
    let (input, out) = (
        fixture.join("io.safetensors"),
        folder.path("out.safetensors"),
    );
    let paths = [model, &input, &out].map(|path| path.to_str().unwrap().to_owned());
    let [model, input, out] = &paths;
    let run = folder.viseme_args(&["forward", model, "--in", input, "--out", out]);
    assert_eq!(run.code, 0, "{run}");
    stages(Path::new(out))
}

fn best(folder: &Folder, model: &Path, fixture: &Path, search: &Value) -> Vec<Value> {
    let input = fixture.join("io.safetensors");
    let arguments = [
        "forward".to_owned(),
        model.display().to_string(),
        "--in".to_owned(),
        input.display().to_string(),
        "--beam".to_owned(),
        search["beam_size"].to_string(),
        "--ctc-weight".to_owned(),
        search["ctc_weight"].to_string(),
        "--penalty".to_owned(),
        search["length_penalty"].to_string(),
        "--json".to_owned(),
    ];
    let run = folder.viseme_args(&arguments.each_ref().map(String::as_str));
    run.json()["nbest"].as_array().unwrap().clone()
}

fn expected(fixture: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(fixture.join("expected.json")).unwrap()).unwrap()
}

/// All stages but the inputs.
fn stages(path: &Path) -> Stages {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let all = tensors
        .iter()
        .filter(|(_, view)| view.dtype() == Dtype::F32);
    all.filter(|(name, _)| !name.starts_with("input."))
        .map(|(name, view)| {
            let words = view.data().as_chunks::<4>().0;
            let values = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
            (name.to_owned(), (view.shape().to_vec(), values))
        })
        .collect()
}

/// Within the tolerances of the fixtures: 2e-4 for the CTC prefix scores (those that stand for nothing are below -1e8),
/// else 1e-4 of the largest value or of 1.
fn compare(what: &str, shape: &[usize], want: &[f32], got: &(Vec<usize>, Vec<f32>)) {
    assert_eq!(got.0, shape, "{what}");
    let is_prefix = what.contains("ctc_prefix");
    let largest = want.iter().fold(1.0f32, |m, w| m.max(w.abs()));
    let bound = if is_prefix { 2e-4 } else { 1e-4 * largest };
    for (g, w) in got.1.iter().zip(want) {
        if is_prefix && *w < -1e8 {
            assert!(*g < -1e8, "{what}: {g} instead of {w}");
        } else {
            assert!((g - w).abs() <= bound, "{what}: {g} instead of {w}");
        }
    }
}

fn relative(got: &[f32], want: &[f32]) -> f64 {
    let squares = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.map(|v| f64::from(v) * f64::from(v)).sum()
    };
    let error = squares(&mut got.iter().zip(want).map(|(g, w)| g - w));
    (error / squares(&mut want.iter().copied())).sqrt()
}

fn aligned(bytes: &[u8]) -> Vec<u64> {
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    words
}

/// A video model of the training repository, as small as they can be; one weight is `odd`.
fn random_checkpoint(odd: f32) -> Vec<u8> {
    let (w, d, ff, kernel, vocabulary) = (4, 8, 12, 3, 9);
    let mut all: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    let mut put = |name: &str, shape: &[usize]| {
        let len: usize = shape.iter().product();
        let fan: usize = shape[1..].iter().product();
        let is_norm = name.contains("norm") || name.contains("bn") || name.contains(".1.");
        let seed = name
            .bytes()
            .fold(1usize, |h, b| (h * 31 + b as usize) % 1_000_003);
        let value = |i: usize| {
            let noise = ((i * 7919 + seed * 104_729 + i * i * 31) % 1009) as f32 / 504.5 - 1.0;
            match name.rsplit('.').next() {
                Some("running_var") => 1.0 + 0.5 * noise,
                Some("weight") if is_norm => 1.0 + 0.3 * noise,
                Some("weight") if shape.len() > 1 => noise * 2.0 / (fan as f32).sqrt(),
                _ => 0.1 * noise,
            }
        };
        let mut values: Vec<f32> = (0..len).map(value).collect();
        if name == "ctc.ctc_lo.weight" {
            values[3] *= odd;
        }
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        all.insert(name.to_owned(), (shape.to_vec(), bytes));
    };
    let norm = |put: &mut dyn FnMut(&str, &[usize]), name: &str, c: usize| {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            put(&format!("{name}.{part}"), &[c]);
        }
    };
    let pair = |put: &mut dyn FnMut(&str, &[usize]), name: &str, shape: &[usize]| {
        put(&format!("{name}.weight"), shape);
        put(&format!("{name}.bias"), &shape[..1]);
    };
    put("frontend.frontend3D.0.weight", &[w, 1, 5, 7, 7]);
    norm(&mut put, "frontend.frontend3D.1", w);
    for stage in 0..4 {
        for unit in 0..2 {
            let at = format!("frontend.trunk.layer{}.{unit}", stage + 1);
            let outputs = w << stage;
            let inputs = if unit == 0 && stage > 0 {
                outputs / 2
            } else {
                outputs
            };
            put(&format!("{at}.conv1.weight"), &[outputs, inputs, 3, 3]);
            put(&format!("{at}.conv2.weight"), &[outputs, outputs, 3, 3]);
            norm(&mut put, &format!("{at}.bn1"), outputs);
            norm(&mut put, &format!("{at}.bn2"), outputs);
            if inputs != outputs {
                put(
                    &format!("{at}.downsample.0.weight"),
                    &[outputs, inputs, 1, 1],
                );
                norm(&mut put, &format!("{at}.downsample.1"), outputs);
            }
        }
    }
    pair(&mut put, "proj_encoder", &[d, 8 * w]);
    let at = "encoder.encoders.0";
    for half in ["feed_forward", "feed_forward_macaron"] {
        pair(&mut put, &format!("{at}.{half}.w_1"), &[ff, d]);
        pair(&mut put, &format!("{at}.{half}.w_2"), &[d, ff]);
    }
    for name in [
        "norm_ff",
        "norm_mha",
        "norm_ff_macaron",
        "norm_conv",
        "norm_final",
    ] {
        pair(&mut put, &format!("{at}.{name}"), &[d]);
    }
    let attention = |put: &mut dyn FnMut(&str, &[usize]), at: &str| {
        for name in ["q", "k", "v", "out"] {
            pair(put, &format!("{at}.linear_{name}"), &[d, d]);
        }
    };
    attention(&mut put, &format!("{at}.self_attn"));
    put(&format!("{at}.self_attn.linear_pos.weight"), &[d, d]);
    put(&format!("{at}.self_attn.pos_bias_u"), &[2, d / 2]);
    put(&format!("{at}.self_attn.pos_bias_v"), &[2, d / 2]);
    pair(
        &mut put,
        &format!("{at}.conv_module.pointwise_cov1"),
        &[2 * d, d, 1],
    );
    pair(
        &mut put,
        &format!("{at}.conv_module.depthwise_conv"),
        &[d, 1, kernel],
    );
    norm(&mut put, &format!("{at}.conv_module.norm"), d);
    pair(
        &mut put,
        &format!("{at}.conv_module.pointwise_cov2"),
        &[d, d, 1],
    );
    pair(&mut put, "encoder.after_norm", &[d]);
    put("decoder.embed.0.weight", &[vocabulary, d]);
    attention(&mut put, "decoder.decoders.0.self_attn");
    attention(&mut put, "decoder.decoders.0.src_attn");
    pair(&mut put, "decoder.decoders.0.feed_forward.w_1", &[ff, d]);
    pair(&mut put, "decoder.decoders.0.feed_forward.w_2", &[d, ff]);
    for name in ["norm1", "norm2", "norm3"] {
        pair(&mut put, &format!("decoder.decoders.0.{name}"), &[d]);
    }
    pair(&mut put, "decoder.after_norm", &[d]);
    pair(&mut put, "decoder.output_layer", &[vocabulary, d]);
    pair(&mut put, "ctc.ctc_lo", &[vocabulary, d]);
    let views = all.iter().map(|(name, (shape, bytes))| {
        (
            name,
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    safetensors::serialize(views, None).unwrap()
}
