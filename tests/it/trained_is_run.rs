//! What is trained is what runs: the trainer's own forward pass is the referee for the engine's,
//! through export, folding and the model file.

use std::collections::BTreeMap;
use std::path::Path;

use rand::RngExt;
use viseme_engine::model::conformer::Model;
use viseme_engine::session::{Options, Session};
use viseme_format::spec::Weights;
use viseme_quantize::{checkpoint::Checkpoint, fold, pack};
use viseme_trainer::data::{Clip, PATCH, plain};
use viseme_trainer::model::ops::Moments;
use viseme_trainer::model::{Dims, Leaves, Mode, Params, SIDE, forward, values};
use viseme_trainer::recipe::Recipe;
use viseme_trainer::rng::{Rng, rng};

const FRAMES: usize = 21;

struct Trained {
    recipe: Recipe,
    params: Params,
    moments: BTreeMap<String, Moments>,
    clip: Clip,
}

/// A model of odd dimensions whose every weight and moment is random.
fn trained() -> Trained {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../trainer/recipes/grid-vsr.toml");
    let mut recipe = Recipe::read(&path).unwrap();
    recipe.model = Dims {
        channels: [8, 12, 20],
        blocks: 2,
        d_model: 36,
        heads: 3,
        ff: 52,
        conv_kernel: 9,
        conv_left: 5,
        dropout: 0.1,
    };
    let mut r = rng(11, &[]);
    let mut params = Params::init(&recipe.model, recipe.tokens().len(), &mut r);
    let mut moments = params.initial_moments();
    for array in params.0.values_mut() {
        array
            .data
            .iter_mut()
            .for_each(|x| *x += r.random_range(-0.1..0.1));
    }
    for m in moments.values_mut() {
        m.mean
            .iter_mut()
            .for_each(|x| *x = r.random_range(-0.3..0.3));
        m.var.iter_mut().for_each(|x| *x = r.random_range(0.2..2.0));
    }
    Trained {
        recipe,
        params,
        moments,
        clip: moving_clip(&mut r),
    }
}

/// Smooth pictures that move, so that neighbouring frames differ.
fn moving_clip(r: &mut Rng) -> Clip {
    let (a, b) = (r.random_range(0.05..0.2f32), r.random_range(0.05..0.2f32));
    let mut pixels = Vec::new();
    for t in 0..FRAMES {
        for y in 0..PATCH {
            for x in 0..PATCH {
                let wave = (x as f32 * a + t as f32).sin() * (y as f32 * b - 0.3 * t as f32).cos();
                pixels.push((127.0 + 100.0 * wave) as u8);
            }
        }
    }
    Clip {
        id: "waves".into(),
        pixels,
        fps: 25.0,
        words: vec![],
    }
}

/// The model file of a trained model, by way of its files on disk.
fn model_file(t: &Trained, weights: Weights, name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    viseme_trainer::checkpoint::export(&folder.join("model.safetensors"), &t.params, &t.moments)
        .unwrap();
    std::fs::write(
        folder.join("spec.json"),
        viseme_trainer::spec::json(&t.recipe).unwrap(),
    )
    .unwrap();
    let checkpoint = Checkpoint::read(&folder).unwrap();
    let json = checkpoint.spec.clone();
    let mut spec = json.spec().unwrap();
    spec.weights = weights;
    pack::pack(&spec, &fold::fold(checkpoint).unwrap())
        .unwrap()
        .0
}

fn engine_logits(file: &[u8], clip: &Clip) -> Vec<f32> {
    let model = Model::open(file).unwrap();
    let mut arena = vec![0; model.arena_bytes(FRAMES)];
    let options = Options {
        max_frames: Some(FRAMES),
        ..Options::default()
    };
    let mut session = Session::new(&model, &mut arena, options).unwrap();
    let margin = (PATCH - SIDE) / 2;
    for t in 0..FRAMES {
        let crop: Vec<u8> = clip
            .frame(t)
            .chunks_exact(PATCH)
            .skip(margin)
            .take(SIDE)
            .flat_map(|row| row[margin..margin + SIDE].to_vec())
            .collect();
        session.push_crop(&crop, t as u64 * 40_000).unwrap();
    }
    session.finish();
    session.logits().to_vec()
}

fn trainer_logits(t: &Trained) -> Vec<f32> {
    let leaves = Leaves::new(&t.params);
    let out = forward(
        &t.recipe.model,
        &leaves,
        &plain(&t.clip),
        Mode::Eval(&t.moments),
    );
    values(out.logits)
}

#[test]
fn the_engine_computes_in_f32_what_the_trainer_computes() {
    let t = trained();
    let reference = trainer_logits(&t);
    let logits = engine_logits(&model_file(&t, Weights::F32, "parity-f32"), &t.clip);
    assert_eq!(logits.len(), reference.len());
    let top = reference.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (i, (a, b)) in logits.iter().zip(&reference).enumerate() {
        assert!(
            (a - b).abs() <= 1e-4 * top.max(1.0),
            "logit {i}: {a}, trained {b}"
        );
    }
}

#[test]
fn int8_is_close_to_f32() {
    let t = trained();
    let reference = trainer_logits(&t);
    let logits = engine_logits(&model_file(&t, Weights::Int8, "parity-int8"), &t.clip);
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = logits
        .iter()
        .zip(&reference)
        .map(|(a, b)| square(a - b))
        .sum();
    let signal: f64 = reference.iter().map(|&x| square(x)).sum();
    let relative = (error / signal).sqrt();
    assert!(relative < 0.02, "relative RMS error {relative}");
}
