//! The quantizer's command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, ValueEnum};
use viseme_corpus::crops::{ClipCrops, CropOptions, crops};
use viseme_corpus::{Manifest, SplitField, arguments, detector, disk};
use viseme_engine::model::conformer::Model;
use viseme_format::spec::{Family, ModelSpec, Weights};
use viseme_import::auto_avsr as import;
use viseme_quantize::auto_avsr;
use viseme_quantize::checkpoint::Checkpoint;
use viseme_quantize::fold::{Tensors, fold};
use viseme_quantize::gate;
use viseme_quantize::pack::{LayerError, pack};

#[derive(Parser)]
#[command(name = "viseme-quantize", about = "Makes Viseme model files", version)]
struct Cli {
    /// Folder of a finished training run (model.safetensors and spec.json), or with --from auto-avsr its authors'
    /// checkpoint (.pth, .ckpt or .safetensors).
    run: PathBuf,
    /// What it is.
    #[arg(long, value_enum, default_value_t = From::Run)]
    from: From,
    /// Tokens of an Auto-AVSR checkpoint, such as unigram5000_units.txt; without it tokens print as their numbers.
    #[arg(long, value_name = "FILE")]
    units: Option<PathBuf>,
    /// The model.json that belongs to an Auto-AVSR checkpoint; without it the one beside it, if there is one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Relative positions of an Auto-AVSR checkpoint, where there is no model.json that says it.
    #[arg(long, value_enum)]
    positions: Option<Positions>,
    /// Model file to write.
    #[arg(long)]
    out: PathBuf,
    /// Precision of the matrices; with 4 those outside the encoder's blocks have 8 bits.
    #[arg(long, value_enum, default_value = "8")]
    bits: Bits,
    #[command(flatten)]
    set: Set,
    /// Write the file even if the word error rate suffered, or was not measured.
    #[arg(long)]
    force: bool,
}

/// What a model file is made of.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    /// A training run of this project.
    Run,
    /// A checkpoint of Auto-AVSR.
    AutoAvsr,
}

/// How attention counts distances.
#[derive(Clone, Copy, ValueEnum)]
enum Positions {
    /// As models since 2022 do.
    Latest,
    /// As ESPnet's first version did.
    Legacy,
}

#[derive(Clone, Copy, ValueEnum)]
enum Bits {
    #[value(name = "4")]
    Int4,
    #[value(name = "8")]
    Int8,
    #[value(name = "f16")]
    F16,
    #[value(name = "f32")]
    F32,
}

/// Clips to compare the quantised model with the original on.
#[derive(Args)]
struct Set {
    /// Manifest of the clips that the word error rate is measured on.
    #[arg(long)]
    manifest: Option<PathBuf>,
    /// Field of the clips that names their split.
    #[arg(long, value_enum, default_value_t = SplitField::Split)]
    split_field: SplitField,
    /// Side of the split.
    #[arg(long, default_value = "test")]
    split: String,
    /// Face detector: YuNet's .onnx or an imported .gguf (default: the one in the models folder).
    #[arg(long)]
    detector: Option<PathBuf>,
    /// Folder of the mouth-crop cache.
    #[arg(long, default_value = "target/crops")]
    cache: PathBuf,
}

fn main() -> ExitCode {
    let cli: Cli = match arguments::parse("viseme-quantize") {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("viseme-quantize: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    if cli.from == From::AutoAvsr {
        return convert(cli);
    }
    if cli.units.is_some() || cli.config.is_some() || cli.positions.is_some() {
        bail!("--units, --config and --positions belong to --from auto-avsr; leave them out");
    }
    let checkpoint = Checkpoint::read(&cli.run)?;
    let json = checkpoint.spec.clone();
    let spec = json.spec()?;
    if !matches!(spec.family, Family::Conformer(_)) {
        bail!(
            "{} describes no recogniser; give the folder of a training run",
            cli.run.display()
        );
    }
    let tensors = fold(checkpoint)?;
    let (original, _) = pack(&with_arena(spec, Weights::F32, &tensors)?, &tensors)?;
    let weights = match cli.bits {
        Bits::F32 => return write(&cli.out, &original),
        Bits::F16 => bail!("--bits f16 is for --from auto-avsr; use 8, 4 or f32"),
        Bits::Int8 => Weights::Int8,
        Bits::Int4 => Weights::Int4,
    };
    let (file, errors) = pack(&with_arena(spec, weights, &tensors)?, &tensors)?;
    print_errors(&errors);
    match &cli.set.manifest {
        None if cli.force => eprintln!("word error rate not measured: no --manifest was given"),
        None => bail!(
            "the word error rate of the {weights} model must be measured: give --manifest, or --force to write it unmeasured"
        ),
        Some(manifest) => {
            let clips = load(manifest, &cli.set, spec.conformer()?.crop.smooth)?;
            if weights == Weights::Int4 {
                // What the second half of the bits is worth.
                let spec = with_arena(spec, Weights::Int8, &tensors)?;
                let (int8, _) = pack(&spec, &tensors)?;
                println!("{}", gate::compare(&original, &int8, &clips)?);
            }
            let verdict = gate::compare(&original, &file, &clips)?;
            println!("{verdict}");
            if !verdict.passes() && !cli.force {
                let advice = match weights {
                    Weights::Int4 => {
                        "; fine-tune it with cargo xtask train --finetune, or use --bits 8"
                    }
                    _ => "",
                };
                bail!(
                    "the {weights} model reads worse than f32 by more than {} points; nothing was written (--force writes it all the same){advice}",
                    gate::LIMIT
                );
            }
        }
    }
    write(&cli.out, &file)
}

/// Makes a model file of a checkpoint of Auto-AVSR.
fn convert(cli: &Cli) -> Result<()> {
    if cli.set.manifest.is_some() {
        bail!("--manifest measures training runs; leave it out with --from auto-avsr");
    }
    let read = [Some(&cli.run), cli.units.as_ref(), cli.config.as_ref()];
    if (read.into_iter().flatten()).any(|path| disk::same_file(path, &cli.out)) {
        bail!(
            "{}: is read, too, and would be written over; give another --out",
            cli.out.display()
        );
    }
    let options = import::Options {
        config: cli.config.clone(),
        positions: cli.positions.map(|positions| match positions {
            Positions::Latest => import::Positions::Latest,
            Positions::Legacy => import::Positions::Legacy,
        }),
    };
    let name = || cli.run.display().to_string();
    let model = import::read(&cli.run, &options).with_context(name)?;
    let tokens = auto_avsr::tokens(&model, cli.units.as_deref())?;
    let weights = match cli.bits {
        Bits::F32 => Weights::F32,
        Bits::F16 => Weights::F16,
        Bits::Int8 => Weights::Int8,
        Bits::Int4 => Weights::Int4,
    };
    const STEPS: u64 = 1000;
    let bar = indicatif::ProgressBar::new(STEPS);
    let style = indicatif::ProgressStyle::with_template("{bar:40} {percent} % {eta}");
    bar.set_style(style.expect("a template that is sound"));
    let file = cli.run.file_stem().unwrap_or_default().to_string_lossy();
    let progress = |share| bar.set_position((share * STEPS as f64) as u64);
    let converted = auto_avsr::convert(&model, &file, &tokens, weights, progress);
    bar.finish_and_clear();
    let ([header, data], errors) = converted.with_context(name)?;
    print_errors(&errors);
    disk::write_atomic(&cli.out, &[&header, &data])?;
    println!(
        "wrote {} ({:.2} MB)",
        cli.out.display(),
        (header.len() + data.len()) as f64 / 1e6
    );
    Ok(())
}

/// The spec of the file to write, with the working memory that the engine will ask for.
fn with_arena<'a>(
    mut spec: ModelSpec<'a>,
    weights: Weights,
    tensors: &Tensors,
) -> Result<ModelSpec<'a>> {
    spec.weights = weights;
    spec.arena_bytes = 0;
    let (draft, _) = pack(&spec, tensors)?;
    let model =
        Model::open(&draft).map_err(|e| anyhow::anyhow!("the engine refuses the model: {e}"))?;
    spec.arena_bytes = model.arena_bytes(model.max_frames()) as u64;
    Ok(spec)
}

fn load(path: &Path, set: &Set, smooth: u32) -> Result<Vec<ClipCrops>> {
    let manifest = Manifest::read(path)?;
    let wanted = |c: &viseme_corpus::Clip| set.split_field.side(c) == Some(set.split.as_str());
    let detector = match &set.detector {
        None if manifest
            .clips
            .iter()
            .filter(|c| wanted(c))
            .all(|c| c.roi.is_some()) =>
        {
            None
        }
        given => Some(detector::load(given.as_deref())?),
    };
    let mut options = CropOptions::new(detector.as_ref(), &set.cache);
    options.pipeline.smooth = smooth as usize;
    let loaded = crops(&manifest, wanted, &options)?;
    for (id, reason) in &loaded.failed {
        eprintln!("left out {id}: {reason}");
    }
    if loaded.clips.is_empty() {
        bail!("{} has no clip of split {}", path.display(), set.split);
    }
    Ok(loaded.clips)
}

fn print_errors(errors: &[LayerError]) {
    println!("{:<36} {:>5} {:>18} {:>8}", "tensor", "", "shape", "SNR dB");
    for e in errors {
        println!(
            "{:<36} {:>5} {:>18} {:>8.1}",
            e.name,
            e.stored.to_string(),
            format!("{:?}", e.shape),
            e.snr_db
        );
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    disk::write_atomic(path, &[bytes])?;
    println!(
        "wrote {} ({:.2} MB)",
        path.display(),
        bytes.len() as f64 / 1e6
    );
    Ok(())
}
