//! The command line.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use viseme_corpus::SplitField;
use viseme_corpus::degrade::Noise;

/// Reads lips: video in, words out, offline.
#[derive(Parser)]
#[command(name = "viseme", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Prints what is said in clips.
    Transcribe(Transcribe),
    /// Measures word and character error rates over the clips of a manifest.
    Eval(Eval),
    /// Says what a model file is and what it costs to run.
    Info(Info),
    /// Runs a model made from an Auto-AVSR checkpoint on a stored input, to compare it with its original.
    Forward(Forward),
    /// Lists the models that this command uses, and fetches those that are not in it.
    Models(Models),
}

#[derive(Args)]
pub struct Transcribe {
    /// Video files, or folders of images.
    #[arg(required = true, value_name = "CLIP")]
    pub clips: Vec<PathBuf>,
    /// Model file (.gguf); without it the published model.
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Face detector: YuNet's .onnx file, or one imported (.gguf); without it the one that was pulled.
    #[arg(long, value_name = "FILE")]
    pub detector: Option<PathBuf>,
    /// What may be said: a grammar that ships (grid), a grammar file, or none.
    #[arg(long, value_name = "NAME|FILE|none", default_value = "none", value_parser = NonEmptyStringValueParser::new())]
    pub grammar: String,
    /// Mouth region in pixels of the picture as it is shown, for cameras that are fixed on it; no face is looked for.
    #[arg(long, value_name = "X,Y,W,H", allow_hyphen_values = true, value_parser = region)]
    pub roi: Option<[f32; 4]>,
    /// Frames a second of image folders; videos know their own.
    #[arg(long, value_name = "F", default_value_t = 25.0, value_parser = rate)]
    pub fps: f64,
    /// What computes: our engine, or another one that runs the exported model (needs a build with it).
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Backend::Engine)]
    pub backend: Backend,
    #[command(flatten)]
    pub sentences: Sentences,
    /// Prints one JSON object a clip.
    #[arg(long)]
    pub json: bool,
}

/// What makes the clips harder to read than they are, for measuring how much.
#[derive(Args)]
pub struct Harder {
    /// Noise over the sound, and decibels that the sound is above it, as means over a clip: white, pink, babble (six other
    /// clips of the manifest at once) or a file, such as babble:-5.
    #[arg(long, value_name = "KIND|FILE:DB")]
    pub noise: Option<Noise>,
    /// Frames a second of the camera, or two bounds between which it varies (10-30).
    #[arg(long, value_name = "F|LOW-HIGH", value_parser = rates)]
    pub fps: Option<[f64; 2]>,
    /// Percent of the frames that are lost.
    #[arg(
        long,
        value_name = "PERCENT",
        default_value_t = 0.0,
        allow_hyphen_values = true
    )]
    pub drop: f64,
    /// Seconds from second 1 on in which the picture stands still.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0.0,
        allow_hyphen_values = true
    )]
    pub freeze: f64,
    /// Covers the mouth.
    #[arg(long)]
    pub occlude: bool,
    /// Milliseconds by which the sound comes later than the pictures; earlier if negative.
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 0,
        allow_hyphen_values = true
    )]
    pub desync: i32,
}

/// How an Auto-AVSR model is run.
#[derive(Args)]
pub struct Sentences {
    /// Sentences that an Auto-AVSR model's search keeps (default: 40).
    #[arg(long, value_name = "N")]
    pub beam: Option<usize>,
    /// Weight of CTC beside the decoder in an Auto-AVSR model's search, from 0 to 1 (default: 0.1).
    #[arg(long, value_name = "W")]
    pub ctc_weight: Option<f32>,
    /// Added for every token in an Auto-AVSR model's search (default: 0).
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub penalty: Option<f32>,
    /// Threads that compute an Auto-AVSR model (default: 1).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub threads: Option<u8>,
}

#[derive(Args)]
pub struct Forward {
    /// Model file (.gguf).
    pub model: PathBuf,
    /// Input: input.model, or input.video and input.audio, and decoder.prefix_ids for the decoder's stages
    /// (.safetensors).
    #[arg(long, value_name = "FILE")]
    pub r#in: PathBuf,
    /// Where every stage is written to (.safetensors).
    #[arg(long, value_name = "FILE", required_unless_present = "beam")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub sentences: Sentences,
    /// Prints the best sentences as one JSON object on the last line; needs --beam.
    #[arg(long, requires = "beam")]
    pub json: bool,
}

/// What computes logits.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// Our engine.
    Engine,
    /// tract, by way of ONNX.
    Tract,
    /// TensorFlow Lite, or LiteRT for int8 models.
    Tflite,
}

#[derive(Args)]
pub struct Eval {
    /// Manifest of the clips (.json), or the folder of the GRID corpus as it ships.
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    /// Only clips of this split.
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// Field of the manifest that names the split.
    #[arg(long, value_enum, value_name = "FIELD", default_value_t = SplitField::Split)]
    pub split_field: SplitField,
    /// Model file (.gguf); without it the published model.
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Face detector: YuNet's .onnx file, or one imported (.gguf); without it the one that was pulled.
    #[arg(long, value_name = "FILE")]
    pub detector: Option<PathBuf>,
    /// What may be said: a grammar that ships (grid), a grammar file, or none.
    #[arg(long, value_name = "NAME|FILE|none", default_value = "none", value_parser = NonEmptyStringValueParser::new())]
    pub grammar: String,
    #[command(flatten)]
    pub harder: Harder,
    #[command(flatten)]
    pub sentences: Sentences,
    /// What the model is to perceive; without it whatever it can.
    #[arg(long, value_enum)]
    pub modality: Option<Modality>,
    /// Folder that keeps mouth crops for the next time; without it nothing is written.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Prints a line a clip: name, word errors, reference and what was read, separated by tabs.
    #[arg(long)]
    pub per_clip: bool,
    /// Prints the result as one JSON object on the last line.
    #[arg(long)]
    pub json: bool,
}

/// What a model perceives.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Modality {
    /// Lips.
    Video,
    /// Sound.
    Audio,
    /// Both.
    Av,
}

#[derive(Args)]
pub struct Info {
    /// Model file (.gguf); without it the published model.
    #[arg(value_name = "FILE")]
    pub model: Option<PathBuf>,
}

#[derive(Args)]
pub struct Models {
    #[command(subcommand)]
    pub command: Option<ModelsCommand>,
}

#[derive(Subcommand)]
pub enum ModelsCommand {
    /// Lists the models and where they are.
    List,
    /// Fetches a model, checks it and keeps it. Goes on where an earlier try stopped.
    Pull {
        /// Name of the model, from the list.
        name: String,
        /// Fetches the same file from another place; it is checked all the same.
        #[arg(long, value_name = "URL")]
        from: Option<String>,
    },
}

/// A rate at which pictures were taken.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.1..=1000.0).contains(&rate) => Ok(rate),
        _ => Err("give frames a second, from 0.1 to 1000".into()),
    }
}

/// One rate, or two with a hyphen between.
fn rates(text: &str) -> Result<[f64; 2], String> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    Ok([rate(low)?, rate(high)?])
}

/// Reads `x,y,width,height`.
fn region(text: &str) -> Result<[f32; 4], String> {
    let numbers: Option<Vec<f32>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
    let numbers = numbers.and_then(|n| <[f32; 4]>::try_from(n).ok());
    numbers
        .filter(|[x, y, w, h]| *x >= 0.0 && *y >= 0.0 && *w >= 1.0 && *h >= 1.0)
        .filter(|sides| sides.iter().all(|side| *side <= 65_536.0))
        .ok_or_else(|| "give x,y,width,height in pixels, such as 120,160,96,96".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn regions_are_four_sensible_numbers() {
        assert_eq!(region("1,2.5, 96,80"), Ok([1.0, 2.5, 96.0, 80.0]));
        for bad in [
            "",
            "1,2,3",
            "1,2,3,4,5",
            "a,b,c,d",
            "-1,0,9,9",
            "0,0,0,9",
            "NaN,0,9,9",
            "0,0,inf,9",
        ] {
            assert!(region(bad).is_err(), "{bad}");
        }
    }
}
