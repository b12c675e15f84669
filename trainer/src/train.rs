//! The training loop: resumable at every step, the same bits however many threads run it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::checkpoint::{self, Checkpoint};
use crate::curve::Curve;
use crate::data::{self, Clip};
use crate::loss::{Loss, loss};
use crate::model::ops::Moments;
use crate::model::{Array, Leaves, Mode, Params, forward, values};
use crate::optim::{State, learning_rate};
use crate::recipe::Recipe;
use crate::rng::rng;
use crate::rounding::Rounding;
use crate::spec;

/// Things that may differ between two runs of one recipe without changing the result.
#[derive(Debug, Clone)]
pub struct Run {
    /// Where the checkpoint, the curve and the exported model go.
    pub out: PathBuf,
    /// Threads to run shards on.
    pub threads: usize,
    /// Folder of the finished run that one which fine-tunes goes on from.
    pub from: Option<PathBuf>,
    /// How often to save.
    pub save_every: Duration,
    /// Stop (as if killed at a step boundary) after this many steps in all.
    pub stop_after: Option<usize>,
}

/// New moments weigh this much against the running ones.
const MOMENTUM: f32 = 0.02;

/// Trains until the recipe is done and exports the averaged weights.
///
/// A run whose folder holds a checkpoint of the same recipe and clips goes on from there.
pub fn train(recipe: &Recipe, clips: &[Clip], run: &Run) -> Result<()> {
    ensure!(
        !clips.is_empty() || recipe.train.real_per_shard == 0,
        "there is no clip to train on; check --data and --split"
    );
    std::fs::create_dir_all(&run.out)
        .with_context(|| format!("cannot make the folder {}", run.out.display()))?;
    let fingerprint = fingerprint(clips);
    let path = run.out.join(checkpoint::CHECKPOINT);
    let mut at = if path.exists() {
        Checkpoint::load(&path, recipe, &fingerprint)?
    } else {
        start(recipe, run.from.as_deref())?
    };
    let rounding = Rounding::of(recipe)?;
    let mut curve = Curve::resume(&run.out, at.state.step)?;
    let total = recipe.train.epochs * data::steps_per_epoch(recipe, clips.len());
    let until = run.stop_after.map_or(total, |s| s.min(total));
    let bar = progress(total, at.state.step);
    let mut saved = Instant::now();
    while at.state.step < until {
        let step = step(recipe, clips, &rounding, &mut at, run.threads, total)?;
        curve.push(
            at.state.step,
            &step,
            learning_rate(&recipe.train, at.state.step, total),
        );
        bar.set_position(at.state.step as u64);
        bar.set_message(curve.recent());
        if saved.elapsed() >= run.save_every {
            at.save(&path, recipe, &fingerprint)?;
            curve.save()?;
            saved = Instant::now();
        }
    }
    at.save(&path, recipe, &fingerprint)?;
    curve.save()?;
    bar.finish();
    if at.state.step == total {
        write_model(recipe, &at, &run.out)?;
    }
    Ok(())
}

/// Trains all parts of a recipe, each in a folder of its own below `out`, the last in `out` itself. Each can be stopped, and
/// one that is done is not done again.
pub fn train_parts(
    recipe: &Recipe,
    clips: &[Clip],
    out: &Path,
    run: impl Fn(PathBuf, Option<PathBuf>) -> Run,
) -> Result<()> {
    let folder = |part: usize| match recipe.polish.len() - part {
        0 => out.to_owned(),
        _ => out.join(format!("part-{}", part + 1)),
    };
    train(&recipe.clone().base(), clips, &run(folder(0), None))?;
    for index in 0..recipe.polish.len() {
        let before = folder(index);
        let part = recipe.polished(index, &checkpoint::digest(&before)?);
        let part = part.context("every part has a recipe")?;
        train(&part, clips, &run(folder(index + 1), Some(before)))?;
    }
    Ok(())
}

/// Writes the averaged weights and their description as the model that is quantised.
pub fn write_model(recipe: &Recipe, at: &Checkpoint, out: &Path) -> Result<()> {
    checkpoint::export(&out.join(checkpoint::MODEL), &at.state.average, &at.moments)?;
    let json = spec::json(recipe)?;
    checkpoint::write_atomically(&out.join(checkpoint::SPEC), json.as_bytes())
}

/// What one step reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// CTC loss per token.
    pub ctc: f32,
    /// Frame cross-entropy.
    pub frame: f32,
    /// Norm of the gradient before clipping.
    pub norm: f32,
}

fn start(recipe: &Recipe, from: Option<&Path>) -> Result<Checkpoint> {
    let initial = Params::init(
        &recipe.model,
        recipe.tokens().len(),
        &mut rng(recipe.seed, &[0]),
    );
    let Some(folder) = from else {
        let moments = initial.initial_moments();
        let state = State::new(initial);
        return Ok(Checkpoint { state, moments });
    };
    let (weights, moments) = checkpoint::import(&folder.join(checkpoint::MODEL))?;
    let shapes = |params: &Params| -> Vec<(String, Vec<usize>)> {
        let shape = |(name, array): (&String, &Array)| (name.clone(), array.shape.clone());
        params.0.iter().map(shape).collect()
    };
    ensure!(
        shapes(&weights) == shapes(&initial) && moments.keys().eq(initial.initial_moments().keys()),
        "{} holds another model than the recipe describes; give the recipe it was trained with",
        folder.display()
    );
    let state = State::new(weights);
    Ok(Checkpoint { state, moments })
}

struct Shard {
    loss: Loss,
    gradient: Params,
    moments: BTreeMap<String, Moments>,
}

fn step(
    recipe: &Recipe,
    clips: &[Clip],
    rounding: &Rounding,
    at: &mut Checkpoint,
    threads: usize,
    total: usize,
) -> Result<Report> {
    let count = recipe.train.shards;
    let weights = &*rounding.apply(&at.state.weights);
    let number = at.state.step;
    let run = |shard: usize| shard_of(recipe, clips, weights, number, shard);
    // Results are kept in shard order, so the sums below do not depend on the threads.
    let mut shards: Vec<Option<Shard>> = (0..count).map(|_| None).collect();
    let per_thread = count.div_ceil(threads.max(1));
    std::thread::scope(|scope| {
        for (i, places) in shards.chunks_mut(per_thread).enumerate() {
            let run = &run;
            scope.spawn(move || {
                for (j, place) in places.iter_mut().enumerate() {
                    *place = Some(run(i * per_thread + j));
                }
            });
        }
    });
    let shards: Vec<Shard> = shards.into_iter().flatten().collect();
    let share = 1.0 / count as f32;
    let mut gradient = weights.zeros_like();
    let mut report = Report::default();
    for shard in &shards {
        for (name, sum) in &mut gradient.0 {
            for (s, g) in sum.data.iter_mut().zip(&shard.gradient.0[name].data) {
                *s += share * g;
            }
        }
        report.ctc += share * shard.loss.ctc;
        report.frame += share * shard.loss.frame;
        for (name, seen) in &shard.moments {
            let running = at
                .moments
                .get_mut(name)
                .expect("every batch norm has moments");
            let blend = |to: &mut [f32], from: &[f32]| {
                for (t, f) in to.iter_mut().zip(from) {
                    *t += share * MOMENTUM * (f - *t);
                }
            };
            blend(&mut running.mean, &seen.mean);
            blend(&mut running.var, &seen.var);
        }
    }
    report.norm = at.state.update(&gradient, &recipe.train, total);
    ensure!(
        report.ctc.is_finite() && report.norm.is_finite(),
        "the loss is no longer a number at step {number}; lower learning_rate in the recipe"
    );
    Ok(report)
}

fn shard_of(recipe: &Recipe, clips: &[Clip], weights: &Params, step: usize, shard: usize) -> Shard {
    let batch = data::batch(recipe, clips, step, shard);
    let leaves = Leaves::new(weights);
    let mut dropout = rng(recipe.seed, &[4, step as u64, shard as u64]);
    let out = forward(
        &recipe.model,
        &leaves,
        &batch.input,
        Mode::Train(&mut dropout),
    );
    let logits = values(out.logits.clone());
    let tokens = out.logits.dims()[1];
    let loss = loss(&logits, tokens, &batch.targets, recipe.train.frame_weight);
    let value = loss.ctc + recipe.train.frame_weight * loss.frame;
    let scalar = crate::model::ops::with_gradient(out.logits, value, loss.gradient.clone());
    Shard {
        gradient: leaves.gradients(scalar),
        moments: out.moments,
        loss,
    }
}

/// Names the clips of a run, so that a checkpoint is not continued on other data.
fn fingerprint(clips: &[Clip]) -> String {
    // FNV-1a over ids and lengths.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for clip in clips {
        let frames = clip.frames().to_le_bytes();
        for byte in clip.id.bytes().chain(frames) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    format!("{} clips {hash:016x}", clips.len())
}

fn progress(total: usize, done: usize) -> ProgressBar {
    let bar = ProgressBar::new(total as u64).with_position(done as u64);
    let style = "training {bar:30} step {pos}/{len} {msg} ETA {eta}";
    bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
    bar.reset_eta();
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recipe small enough for a test, on synthetic clips only.
    fn tiny() -> Recipe {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/grid-vsr.toml");
        let mut recipe = Recipe::read(Path::new(path)).expect("the published recipe is valid");
        recipe.model.channels = [4, 6, 8];
        (recipe.model.blocks, recipe.model.d_model, recipe.model.ff) = (1, 16, 32);
        recipe.train.epochs = 1;
        recipe.train.real_per_shard = 0;
        recipe.train.synthetic_per_shard = 1;
        recipe.base()
    }

    fn folder(name: &str) -> PathBuf {
        let folder = Path::new(option_env!("CARGO_TARGET_TMPDIR").unwrap_or("target")).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        folder
    }

    fn run(out: &Path, threads: usize, stop_after: usize) -> Checkpoint {
        run_of(&tiny(), None, out, threads, stop_after)
    }

    fn run_of(
        recipe: &Recipe,
        from: Option<&Path>,
        out: &Path,
        threads: usize,
        stop_after: usize,
    ) -> Checkpoint {
        let run = Run {
            out: out.to_owned(),
            threads,
            from: from.map(Path::to_owned),
            save_every: Duration::from_secs(3600),
            stop_after: Some(stop_after),
        };
        train(recipe, &[], &run).expect("training runs");
        let path = out.join(checkpoint::CHECKPOINT);
        Checkpoint::load(&path, recipe, &fingerprint(&[])).expect("a checkpoint was written")
    }

    #[test]
    fn a_run_that_was_stopped_reaches_the_same_bits_on_any_number_of_threads() {
        let straight = run(&folder("straight"), 2, 6);
        let resumed = folder("resumed");
        let early = run(&resumed, 1, 3);
        assert!(early != straight, "three more steps change the weights");
        assert!(
            run(&resumed, 1, 6) == straight,
            "a resumed run must not differ"
        );
    }

    #[test]
    fn fine_tuning_goes_on_from_a_finished_run_and_can_be_stopped_too() {
        let base = folder("base");
        let before = run(&base, 2, 2);
        write_model(&tiny(), &before, &base).expect("writable");
        let mut recipe = tiny();
        recipe.finetune = Some(crate::recipe::Finetune {
            epochs: 1,
            learning_rate: 1e-4,
        });
        let digest = checkpoint::digest(&base).expect("the base is there");
        let recipe = recipe.tuned(4, &digest).expect("it has the table");
        let from = Some(base.as_path());
        let straight = run_of(&recipe, from, &folder("tuned"), 2, 4);
        let resumed = folder("tuned-resumed");
        // Nothing but the rounding is new in the first step: from the averaged weights, a little away from them.
        let early = run_of(&recipe, from, &resumed, 1, 1);
        for (name, array) in &early.state.weights.0 {
            let start = &before.state.average.0[name].data;
            let moved = array.data.iter().zip(start).map(|(a, b)| (a - b).abs());
            assert!(moved.fold(0.0, f32::max) < 1e-3, "{name}");
        }
        assert!(run_of(&recipe, from, &resumed, 1, 4) == straight);
        // Without rounding the same steps lead elsewhere.
        let mut unrounded = recipe.clone();
        unrounded.tuned = None;
        let other = run_of(&unrounded, from, &folder("unrounded"), 2, 4);
        assert!(other.state.weights != straight.state.weights);
        // A run that began from other weights is not continued.
        let mut elsewhere = recipe.clone();
        elsewhere.tuned = Some(crate::recipe::Tuned {
            bits: 4,
            from: "others".into(),
        });
        let path = resumed.join(checkpoint::CHECKPOINT);
        assert!(Checkpoint::load(&path, &elsewhere, &fingerprint(&[])).is_err());
        // Another model does not fit.
        let mut wider = recipe;
        wider.model.ff = 40;
        let error = start(&wider, from).unwrap_err().to_string();
        assert!(error.contains("another model"), "{error}");
    }

    #[test]
    fn parts_follow_each_other_and_are_done_once() {
        let out = folder("parts");
        let mut recipe = tiny();
        let polish = crate::recipe::Polish {
            epochs: 1,
            learning_rate: 1e-4,
            synthetic_per_shard: 1,
            spelling: 0.0,
            dropout: 0.0,
            cutout: 0.0,
            freeze: 0,
            freeze_frames: 0,
        };
        recipe.polish = vec![polish.clone(), polish];
        let run = |out: PathBuf, from: Option<PathBuf>| Run {
            out,
            threads: 2,
            from,
            save_every: Duration::from_secs(3600),
            stop_after: None,
        };
        train_parts(&recipe, &[], &out, run).expect("training runs");
        let model = |folder: &str| {
            let path = out.join(folder).join(checkpoint::MODEL);
            std::fs::read(path).expect("every part leaves a model")
        };
        let [first, second, last] = ["part-1", "part-2", ""].map(model);
        assert!(first != second && second != last);
        // The part before decides a part, and what is done stays.
        let step = |index: usize, folder: &str| {
            let digest = checkpoint::digest(&out.join(folder)).expect("there");
            let recipe = recipe.polished(index, &digest).expect("two parts");
            assert_eq!(recipe.seed, tiny().seed + index as u64 + 1);
            recipe
        };
        step(0, "part-1");
        let path = out.join(checkpoint::CHECKPOINT);
        Checkpoint::load(&path, &step(1, "part-2"), &fingerprint(&[])).expect("of this part");
        train_parts(&recipe, &[], &out, run).expect("there is nothing left to do");
        assert!(model("") == last);
    }

    #[test]
    fn a_checkpoint_of_another_recipe_is_refused() {
        let out = folder("other");
        run(&out, 1, 1);
        let mut other = tiny();
        other.seed += 1;
        let path = out.join(checkpoint::CHECKPOINT);
        let error = Checkpoint::load(&path, &other, &fingerprint(&[])).unwrap_err();
        assert!(error.to_string().contains("another recipe"), "{error}");
    }
}
