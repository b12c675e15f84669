//! `viseme info`: what a model file is, and what it costs to run.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use viseme_boards::Board;
use viseme_capture::tracker::DetectorFile;
use viseme_engine::model::conformer;
use viseme_format::gguf::Reader;
use viseme_format::layout;
use viseme_format::spec::{AutoAvsr, Conformer, Family, Modality, ModelSpec, TokenKind, Weights};

use crate::cli::Info;
use crate::model::{self, ModelFile};
use crate::output::{self, one_line};

/// Utterance that costs are given for, in seconds: attention costs more in longer ones.
const UTTERANCE_S: f32 = 3.0;
/// What a full-size model of Auto-AVSR takes from the heap for an utterance of so many seconds, measured.
const AUTO_AVSR_HEAP: usize = 10 << 20;
/// Frames a second of models of Auto-AVSR.
const AUTO_AVSR_FPS: f64 = 25.0;
/// Tokens that are listed.
const TOKENS_SHOWN: usize = 64;

/// Runs the command.
///
/// # Errors
/// If the file is no sound model file, or stdout is closed.
pub fn run(arguments: &Info) -> Result<ExitCode> {
    let file = ModelFile::load(arguments.model.as_deref())?;
    let (reader, spec) = file.inspect()?;
    let runs = runs(&file, &spec)?;
    let mut text = String::new();
    describe(&mut text, &reader, &spec, file.bytes().len())?;
    if !runs {
        writeln!(
            text,
            "runs            no: it needs sound, which this version does not take; its tensors are not checked"
        )?;
    }
    if let Family::Conformer(recogniser) = &spec.family {
        describe_recogniser(&mut text, &spec, recogniser, file.bytes().len())?;
    }
    if let Family::AutoAvsr(model) = &spec.family {
        describe_auto_avsr(&mut text, &spec, model, file.bytes().len())?;
    }
    text.lines().try_for_each(output::print)?;
    Ok(ExitCode::SUCCESS)
}

/// Whether this version can run the model.
///
/// # Errors
/// If it should be able to, but the engine refuses the file.
fn runs(file: &ModelFile, spec: &ModelSpec<'_>) -> Result<bool> {
    match spec.family {
        Family::Yunet(_) => {
            DetectorFile::from_bytes(Path::new(file.name()), file.bytes()).map(drop)?
        }
        Family::AutoAvsr(_) => file.auto_avsr().map(drop)?,
        Family::Conformer(_) if spec.modality == Modality::Video => file.open().map(drop)?,
        Family::Conformer(_) => return Ok(false),
    }
    Ok(true)
}

fn describe(
    text: &mut String,
    reader: &Reader<'_>,
    spec: &ModelSpec<'_>,
    bytes: usize,
) -> std::fmt::Result {
    let family = match spec.family {
        Family::AutoAvsr(_) => "viseme-auto-avsr",
        Family::Conformer(_) => "viseme-conformer",
        Family::Yunet(_) => "viseme-yunet",
    };
    let parameters = parameters(reader, spec);
    writeln!(text, "name            {}", one_line(spec.name))?;
    writeln!(
        text,
        "architecture    {family}, {}, {}",
        model::modality(spec.modality),
        spec.weights
    )?;
    writeln!(text, "parameters      {}", grouped(parameters as u64))?;
    writeln!(
        text,
        "file            {} bytes, digest correct",
        grouped(bytes as u64)
    )?;
    writeln!(text, "licence         {}", one_line(spec.license))?;
    writeln!(text, "training data   {}", one_line(spec.training_data))
}

/// Trained numbers, however they are stored.
fn parameters(reader: &Reader<'_>, spec: &ModelSpec<'_>) -> usize {
    let mut sum = 0;
    match &spec.family {
        Family::Conformer(recogniser) => {
            let count = |_: &str, shape: &[usize], _| -> Result<(), std::convert::Infallible> {
                sum += shape.iter().product::<usize>();
                Ok(())
            };
            let Ok(()) = layout::model(recogniser, Weights::F32, count);
        }
        Family::AutoAvsr(model) => {
            let count = |_: &str, shape: &[usize], _| -> Result<(), std::convert::Infallible> {
                sum += shape.iter().product::<usize>();
                Ok(())
            };
            let Ok(()) = layout::auto_avsr::model(model, Weights::F32, count);
        }
        Family::Yunet(_) => sum = reader.tensors().map(|tensor| tensor.elements()).sum(),
    }
    sum
}

fn describe_recogniser(
    text: &mut String,
    spec: &ModelSpec<'_>,
    recogniser: &Conformer<'_>,
    bytes: usize,
) -> std::fmt::Result {
    let most = recogniser.max_frames;
    let arena = conformer::arena_bytes(spec, most as usize);
    match &arena {
        Ok(arena) => writeln!(
            text,
            "working memory  {} bytes for utterances of up to {most} frames ({:.1} s)",
            grouped(*arena as u64),
            most as f32 / recogniser.fps
        )?,
        Err(error) => writeln!(text, "working memory  unknown: {error}")?,
    }
    let frames = ((UTTERANCE_S * recogniser.fps) as u32).clamp(1, most);
    let macs = macs_per_frame(recogniser, frames) as f64 * f64::from(recogniser.fps);
    writeln!(
        text,
        "arithmetic      {:.0} million multiply-adds per second of speech, in utterances of {UTTERANCE_S} s",
        macs / 1e6
    )?;
    let crop = &recogniser.crop;
    writeln!(
        text,
        "input           {} frames a second, {1}x{1} of {2}x{2} pixels around the mouth",
        recogniser.fps, crop.size, crop.patch
    )?;
    let kind = match recogniser.token_kind {
        TokenKind::Word => "words",
        TokenKind::Char => "characters",
        TokenKind::Piece => "pieces of words",
    };
    let mut shown: Vec<String> = recogniser
        .tokens
        .iter()
        .take(TOKENS_SHOWN)
        .map(one_line)
        .collect();
    if recogniser.tokens.len() > TOKENS_SHOWN {
        shown.push("...".into());
    }
    writeln!(
        text,
        "tokens          {}, {kind}: {}",
        recogniser.tokens.len(),
        shown.join(" ")
    )?;
    if let Ok(arena) = arena {
        describe_boards(text, spec.weights, macs, bytes, arena)?;
    }
    Ok(())
}

fn describe_auto_avsr(
    text: &mut String,
    spec: &ModelSpec<'_>,
    model: &AutoAvsr<'_>,
    bytes: usize,
) -> std::fmt::Result {
    let (encoding, token) = auto_avsr_macs(model);
    let macs = encoding as f64 * AUTO_AVSR_FPS;
    writeln!(
        text,
        "arithmetic      {:.0} million multiply-adds per second of speech to encode it, and {:.1} million for each token of each sentence of the beam",
        macs / 1e6,
        token as f64 / 1e6
    )?;
    if model.video.is_some() {
        let crop = &model.crop;
        writeln!(
            text,
            "input           25 frames a second, {0}x{0} of {1}x{1} pixels around the mouth",
            crop.size, crop.patch
        )?;
    }
    if model.audio.is_some() {
        writeln!(text, "input           sound at 16 kHz")?;
    }
    writeln!(
        text,
        "utterances      up to {} frames ({:.0} s), as a whole",
        model.max_frames,
        f64::from(model.max_frames) / AUTO_AVSR_FPS
    )?;
    writeln!(
        text,
        "tokens          {}, pieces of words",
        model.tokens.len()
    )?;
    describe_boards(text, spec.weights, macs, bytes, AUTO_AVSR_HEAP)
}

/// Multiply-adds to encode a frame, and to take a token.
fn auto_avsr_macs(model: &AutoAvsr<'_>) -> (u64, u64) {
    let (mut frame, mut token) = (0, 0);
    // Cannot fail: the visitor never does.
    let _ = layout::auto_avsr::model::<()>(model, Weights::F32, |name, shape, _| {
        if shape.len() < 2 || name.contains(".att.bias_") || name == "decoder.embed.weight" {
            return Ok(());
        }
        let size: u64 = shape.iter().map(|&n| n as u64).product();
        let parts: Vec<&str> = name.split('.').collect();
        match parts[..] {
            // Once an utterance, at every other distance.
            [_, "encoder", _, "att", "pos", _] => frame += 2 * size,
            // Keys and values of what is attended to: once a frame.
            ["decoder", _, "cross", "k" | "v", _] => frame += size,
            ["decoder", ..] => token += size,
            // Outputs of a frame: pixels of 44, 22, 11, 6 and 3 squared; 160 samples and halves of it.
            [branch, "frontend", stage, ..] => {
                let stage = stage.parse::<usize>().map_or(0, |stage| stage + 1);
                let pixels = [44, 22, 11, 6, 3u64].map(|side| side * side);
                let samples = [160, 160, 80, 40, 20];
                let uses = if branch == "video" { pixels } else { samples };
                frame += size * uses[stage.min(4)];
            }
            _ => frame += size,
        }
        Ok(())
    });
    (frame, token)
}

/// A table of the boards. What a board reaches is for a measurement on it to say; arithmetic alone gives a bound.
fn describe_boards(
    text: &mut String,
    weights: Weights,
    macs: f64,
    bytes: usize,
    arena: usize,
) -> std::fmt::Result {
    writeln!(text)?;
    writeln!(
        text,
        "On one core of a board: a lower bound of the real-time factor from arithmetic and clock alone (an estimate,"
    )?;
    writeln!(
        text,
        "nothing measured), beside the board's budget for time, model and memory."
    )?;
    writeln!(text)?;
    writeln!(
        text,
        "{:<22} {:>9} {:>8}   model and memory",
        "board", "at least", "budget"
    )?;
    for board in viseme_boards::all() {
        let kib = |bytes: usize| bytes.div_ceil(1024) as u64;
        let fits = match (
            kib(bytes) <= u64::from(board.budget.model_kib),
            kib(arena) <= u64::from(board.budget.arena_kib),
        ) {
            (true, true) => "fit",
            (false, _) => "model too large",
            (_, false) => "memory too large",
        };
        let rtf = macs / (f64::from(board.cpu.clock_mhz) * 1e6 * macs_per_cycle(&board, weights));
        writeln!(
            text,
            "{:<22} {rtf:>9.4} {:>8.2}   {fits}",
            board.id, board.budget.real_time_factor
        )?;
    }
    Ok(())
}

/// Most multiply-adds a cycle of one core. With SDOT, two 128-bit units of 16 each (Arm Cortex-A76 and A78 Software
/// Optimization Guides); without, one 128-bit SMULL of 8 int8 (or int4) products, or two units of 4 floats.
fn macs_per_cycle(board: &Board, weights: Weights) -> f64 {
    match weights {
        Weights::Int8 | Weights::Int4 if board.cpu.has("dotprod") => 32.0,
        Weights::Int8 | Weights::Int4 | Weights::F32 | Weights::F16 => 8.0,
    }
}

/// Multiply-adds for one frame in an utterance of `frames`.
pub fn macs_per_frame(recogniser: &Conformer<'_>, frames: u32) -> u64 {
    let mut macs = 0;
    // Cannot fail: the visitor never does.
    let _ = layout::model::<()>(recogniser, Weights::F32, |name, shape, _| {
        macs += weight_macs(recogniser, name, shape);
        Ok(())
    });
    macs + attention_macs(recogniser, frames)
}

/// Multiply-adds of one tensor: each element of a matrix is used once a frame, of a convolution once a pixel of its
/// output.
fn weight_macs(recogniser: &Conformer<'_>, name: &str, shape: &[usize]) -> u64 {
    // Positions are multiplied out when a session begins.
    let once = name.ends_with("att.pos.weight") || name.contains(".att.bias_");
    if once || shape.len() < 2 {
        return 0;
    }
    let stage = name
        .strip_prefix("frontend.conv.")
        .and_then(|rest| rest.split('.').next()?.parse().ok());
    let side = stage.and_then(|stage| recogniser.frontend.side(recogniser.crop.size, stage));
    let uses = side.map_or(1, |side| u64::from(side) * u64::from(side));
    shape.iter().map(|&n| n as u64).product::<u64>() * uses
}

/// Multiply-adds of attention itself: content scores, position scores, and the sum of values.
fn attention_macs(recogniser: &Conformer<'_>, frames: u32) -> u64 {
    let encoder = &recogniser.encoder;
    let reach = |side: i32| u32::try_from(side).unwrap_or(frames).min(frames - 1);
    let seen = (reach(encoder.att_left) + reach(encoder.att_right) + 1).min(frames);
    3 * u64::from(encoder.blocks) * u64::from(encoder.d_model) * u64::from(seen)
}

/// A number in groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use viseme_engine::testing::{self, SMALL};

    use super::*;

    #[test]
    fn multiply_adds_are_those_counted_by_hand() {
        let spec = testing::spec(&SMALL, Weights::Int8);
        let recogniser = spec.conformer().expect("a recogniser");
        let (d, ff, kernel, frames) = (144, 576, 15, 75);
        let front = 22 * 22 * (8 * 8 * 3 * 24)
            + 10 * 10 * (4 * 4 * 24 * 48)
            + 4 * 4 * (4 * 4 * 48 * 96)
            + 4 * 4 * 96 * d;
        let feed_forward = 2 * 2 * d * ff;
        let attention = 4 * d * d + 3 * frames * d;
        let convolution = 2 * d * d + kernel * d + d * d;
        let expected = front + 3 * (feed_forward + attention + convolution) + d * 52;
        assert_eq!(macs_per_frame(recogniser, frames as u32), expected as u64);
    }

    #[test]
    fn digits_come_in_threes() {
        let all = [0, 999, 1000, 12_345, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "999", "1 000", "12 345", "1 234 567"]);
    }
}
