//! The trainer's command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use viseme_corpus::{SplitField, arguments};
use viseme_trainer::checkpoint;
use viseme_trainer::data::load;
use viseme_trainer::recipe::Recipe;
use viseme_trainer::sys;
use viseme_trainer::train::{Run, train, train_parts};

#[derive(Parser)]
#[command(
    name = "viseme-trainer",
    about = "Trains Viseme's lip readers",
    version
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a recipe; a run that was stopped goes on where it was.
    Train(TrainArgs),
}

#[derive(Args)]
struct TrainArgs {
    /// Recipe file.
    #[arg(long)]
    recipe: PathBuf,
    /// Folder of a finished run of this recipe to go on from, with the weights rounded to --bits, as its table
    /// [finetune] says.
    #[arg(long, value_name = "RUN", requires = "bits")]
    finetune: Option<PathBuf>,
    /// Bits of the model file that a fine-tuned run is for.
    #[arg(long, value_enum, requires = "finetune")]
    bits: Option<Bits>,
    /// A folder with manifest.json, a manifest file, or the GRID corpus as it ships (sN/*.mpg).
    #[arg(long)]
    data: PathBuf,
    /// Field of the clips that names their split.
    #[arg(long, value_enum, default_value_t = SplitField::Split)]
    split_field: SplitField,
    /// Side to train on.
    #[arg(long, default_value = "train")]
    split: String,
    /// Face detector: YuNet's .onnx or an imported .gguf (default: the cached one).
    #[arg(long)]
    detector: Option<PathBuf>,
    /// Folder of the mouth-crop cache (default: `crops` in the folder of --out).
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Folder of the run: checkpoint, loss curve, trained model.
    #[arg(long)]
    out: PathBuf,
    /// Threads; more than the recipe's shards are of no use.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Minutes between checkpoints.
    #[arg(long, default_value_t = 2.0)]
    save_minutes: f32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Bits {
    #[value(name = "4")]
    Int4 = 4,
    #[value(name = "8")]
    Int8 = 8,
}

fn main() -> ExitCode {
    sys::keep_memory();
    let cli: Cli = match arguments::parse("viseme-trainer") {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let Command::Train(args) = cli.command;
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("viseme-trainer: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &TrainArgs) -> Result<()> {
    let recipe = Recipe::read(&args.recipe)?;
    let tuned = match (&args.finetune, args.bits) {
        (Some(run), Some(bits)) => {
            let tuned = recipe
                .clone()
                .tuned(bits as u8, &checkpoint::digest(run)?)?;
            Some((tuned, run.clone()))
        }
        _ => None,
    };
    let cache = match &args.cache {
        Some(folder) => folder.clone(),
        None => args.out.parent().unwrap_or(Path::new(".")).join("crops"),
    };
    let choice = load::Choice {
        data: &args.data,
        split_field: args.split_field,
        split: &args.split,
        detector: args.detector.as_deref(),
        cache: &cache,
    };
    let clips = load::clips(&recipe, &choice)?;
    eprintln!("{} clips to train on", clips.len());
    let run = |out: PathBuf, from: Option<PathBuf>| Run {
        out,
        threads: args.threads,
        from,
        save_every: Duration::from_secs_f32(args.save_minutes.clamp(0.0, 1e6) * 60.0),
        stop_after: None,
    };
    match tuned {
        Some((tuned, from)) => train(&tuned, &clips, &run(args.out.clone(), Some(from)))?,
        None => train_parts(&recipe, &clips, &args.out, run)?,
    }
    println!("trained {}: {}", recipe.name, args.out.display());
    Ok(())
}
