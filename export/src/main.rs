//! The exporter's command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use viseme_corpus::{arguments, disk};
use viseme_export::{Chunks, Format, Part, export};

#[derive(Parser)]
#[command(
    name = "viseme-export",
    about = "Writes Viseme model files as ONNX or TFLite",
    version
)]
struct Cli {
    /// Model file.
    model: PathBuf,
    /// Format to write.
    #[arg(long, value_enum)]
    to: To,
    /// File to write.
    #[arg(long)]
    out: PathBuf,
    /// What to write: crops to logits, features to logits, or one chunk of a stream with its caches.
    #[arg(long, value_enum, default_value = "whole")]
    part: Which,
    /// Frames of an utterance, or of a chunk (default: 75, or 8).
    #[arg(long)]
    frames: Option<usize>,
    /// Frames of the past that a chunk sees (default for steps: 64).
    #[arg(long)]
    left: Option<usize>,
    /// Frames of a chunk, for an encoder that sees what a stream does.
    #[arg(long)]
    chunk: Option<usize>,
    /// Precision of fully connected weights.
    #[arg(long, value_enum, default_value = "f32")]
    bits: Bits,
}

#[derive(Clone, Copy, ValueEnum)]
enum To {
    Onnx,
    Tflite,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Which {
    Whole,
    Encoder,
    Step,
}

#[derive(Clone, Copy, ValueEnum)]
enum Bits {
    F32,
    Int8,
}

fn main() -> ExitCode {
    let cli: Cli = match arguments::parse("viseme-export") {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match run(&cli) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(line) => {
            eprintln!("viseme-export: {line}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> Result<String, String> {
    let format = match (cli.to, cli.bits) {
        (To::Onnx, Bits::F32) => Format::Onnx,
        (To::Onnx, Bits::Int8) => {
            return Err(
                "ONNX is written in f32; quantise the file with onnxruntime.quantization.quantize_dynamic".into(),
            );
        }
        (To::Tflite, Bits::F32) => Format::Tflite,
        (To::Tflite, Bits::Int8) => Format::TfliteInt8,
    };
    let part = part(cli)?;
    let path = cli.model.display();
    let model = std::fs::read(&cli.model).map_err(|e| format!("cannot read {path}: {e}"))?;
    let file = export(&model, part, format).map_err(|e| format!("{path}: {e}"))?;
    if disk::same_file(&cli.model, &cli.out) {
        return Err(format!(
            "{path}: would be written over itself; give another --out"
        ));
    }
    disk::write_atomic(&cli.out, &[&file]).map_err(|e| e.to_string())?;
    let out = cli.out.display();
    Ok(format!("wrote {out} ({:.2} MB)", file.len() as f64 / 1e6))
}

fn part(cli: &Cli) -> Result<Part, String> {
    let frames = cli.frames.unwrap_or(match cli.part {
        Which::Step => 8,
        Which::Whole | Which::Encoder => 75,
    });
    let chunks = match (cli.chunk, cli.left) {
        (Some(frames), left) => Some(Chunks {
            frames,
            left: left.unwrap_or(0),
        }),
        (None, None) => None,
        (None, Some(_)) if cli.part == Which::Step => None,
        (None, Some(_)) => {
            return Err("--left is for --part step, or for --part encoder with --chunk".into());
        }
    };
    match (cli.part, chunks) {
        (Which::Encoder, chunks) => Ok(Part::Encoder { frames, chunks }),
        (Which::Whole, None) => Ok(Part::Whole { frames }),
        (Which::Step, None) => Ok(Part::Step {
            frames,
            left: cli.left.unwrap_or(64),
        }),
        (Which::Whole | Which::Step, Some(_)) => Err("--chunk is for --part encoder".into()),
    }
}
