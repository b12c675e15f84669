//! `viseme-synth`: writes clips of the synthetic talking mouth to files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use viseme_synth::{Options, Rng, Sentence, Speaker, export, grid_sentence, render};

/// Longest text of `clip`, words: about a minute of speech.
const MAX_WORDS: usize = 200;

/// A synthetic talking mouth with a simple voice, the same for the same seeds.
#[derive(Parser)]
#[command(name = "viseme-synth", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One clip of a given text.
    Clip(ClipArgs),
    /// Many clips of random GRID sentences, each by another speaker.
    Set(SetArgs),
}

#[derive(Args)]
struct ClipArgs {
    /// What to say.
    #[arg(long)]
    text: String,
    /// Number of the speaker.
    #[arg(long, default_value_t = 0)]
    speaker: u64,
    /// Take a speaker that training never sees.
    #[arg(long)]
    unseen: bool,
    /// Varies timing, pose, light and noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for clip.y4m, clip.wav and manifest.json.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Args)]
struct SetArgs {
    /// Number of clips.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    count: u64,
    /// Varies sentences, speakers and takes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Take speakers that training never sees.
    #[arg(long)]
    unseen: bool,
    /// Folder for the clips and manifest.json.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            // Help and version, as asked for.
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or("error: bad arguments");
            eprintln!("{line}; see viseme-synth --help");
            return ExitCode::from(2);
        }
    };
    let result = match cli.command {
        Command::Clip(args) => clip(&args),
        Command::Set(args) => set(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn clip(args: &ClipArgs) -> Result<()> {
    let words = Sentence::parse(&args.text).words.len();
    ensure!(
        words > 0,
        "the text has no words; use letters a-z or digits"
    );
    ensure!(
        words <= MAX_WORDS,
        "the text has {words} words, the limit is {MAX_WORDS}; split it"
    );
    make_folder(&args.out)?;
    let speaker = speaker(args.unseen, args.speaker);
    let clip = render(&args.text, &speaker, args.seed, Options::default());
    export::write_clip(&clip, &args.out, "clip")?;
    let entry = export::manifest_entry(&clip, &speaker.name(), split(args.unseen), "clip");
    export::write_manifest(vec![entry], &args.out)?;
    println!(
        "{}: {} frames, {:.2} s, {}",
        args.out.join("clip.y4m").display(),
        clip.frames.len(),
        clip.seconds,
        clip.text()
    );
    Ok(())
}

fn set(args: &SetArgs) -> Result<()> {
    make_folder(&args.out)?;
    let bar = ProgressBar::new(args.count);
    let style = "{bar:40} {pos}/{len} clips, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).context("progress bar")?);
    let mut entries: Vec<Value> = Vec::new();
    let mut sentences = Rng::from_seed(args.seed);
    // Sets of different seeds share no speaker (up to the largest count).
    let first = args.seed.wrapping_mul(100_000);
    for index in 0..args.count {
        let speaker = speaker(args.unseen, first.wrapping_add(index));
        let text = grid_sentence(&mut sentences);
        let clip = render(&text, &speaker, args.seed, Options::default());
        let stem = format!("{index:05}");
        export::write_clip(&clip, &args.out, &stem)?;
        let split = split(args.unseen);
        entries.push(export::manifest_entry(&clip, &speaker.name(), split, &stem));
        bar.inc(1);
    }
    export::write_manifest(entries, &args.out)?;
    bar.finish_and_clear();
    println!("{}: {} clips", args.out.display(), args.count);
    Ok(())
}

fn speaker(unseen: bool, index: u64) -> Speaker {
    if unseen {
        Speaker::unseen(index)
    } else {
        Speaker::train(index)
    }
}

fn split(unseen: bool) -> &'static str {
    if unseen { "test" } else { "train" }
}

fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| {
        format!(
            "cannot make the folder {}; choose another --out",
            folder.display()
        )
    })
}
