//! The ranges of every field. They are what keeps sizes derived from a spec far from overflow; the reasons stand in
//! `SPEC.md`, section "Metadata".

use super::*;

/// Longest row of a matrix: a sum of so many products of u8 and i8 stays within an i32.
const MAX_ROW: u32 = 32_768;

/// Checks a whole spec.
pub(super) fn spec(spec: &ModelSpec<'_>) -> Result<(), SpecError> {
    match &spec.family {
        Family::Conformer(conformer) => check_conformer(conformer, spec.modality),
        Family::AutoAvsr(model) => auto_avsr::check(model, spec.modality),
        Family::Yunet(yunet) => check_yunet(yunet),
    }
}

fn check_conformer(c: &Conformer<'_>, modality: Modality) -> Result<(), SpecError> {
    ensure((1.0..=240.0).contains(&c.fps), "viseme.fps", "1 to 240")?;
    ensure(
        (1..=8192).contains(&c.max_frames),
        "viseme.max_frames",
        "1 to 8192",
    )?;
    check_crop(&c.crop)?;
    check_frontend(&c.frontend, c.crop.size)?;
    check_encoder(&c.encoder)?;
    check_tokens(&c.tokens)?;
    match (&c.mel, modality) {
        (None, Modality::Video) => Ok(()),
        (Some(mel), Modality::Audio | Modality::AudioVideo) => check_mel(mel, c.fps),
        (None, _) => Err(SpecError::Missing("viseme.mel.sample_rate")),
        (Some(_), Modality::Video) => out(
            "viseme.mel.sample_rate",
            "absent from a model that only sees",
        ),
    }
}

pub(super) fn check_crop(crop: &Crop) -> Result<(), SpecError> {
    ensure(
        (1..=1024).contains(&crop.canvas),
        "viseme.crop.canvas",
        "1 to 1024",
    )?;
    ensure(
        (1..=crop.canvas).contains(&crop.patch),
        "viseme.crop.patch",
        "1 to the canvas side",
    )?;
    ensure(
        (1..=crop.patch.min(256)).contains(&crop.size),
        "viseme.crop.size",
        "1 to the patch side, at most 256",
    )?;
    ensure(
        (0.0..=1.0).contains(&crop.mean),
        "viseme.crop.mean",
        "0 to 1",
    )?;
    ensure(
        (1e-3..=10.0).contains(&crop.std),
        "viseme.crop.std",
        "0.001 to 10",
    )?;
    ensure(crop.smooth <= 64, "viseme.crop.smooth", "at most 64")
}

fn check_frontend(frontend: &Frontend, size: u32) -> Result<(), SpecError> {
    ensure(
        frontend.frames % 2 == 1 && frontend.frames <= 9,
        "viseme.frontend.frames",
        "odd and at most 9",
    )?;
    ensure(
        frontend.pad_value <= 255,
        "viseme.frontend.pad_value",
        "at most 255",
    )?;
    let (mut side, mut inputs) = (size, frontend.frames);
    for (index, stage) in frontend.stages().iter().enumerate() {
        ensure(
            (1..=1024).contains(&stage.channels),
            "viseme.frontend.channels",
            "1 to 1024",
        )?;
        ensure(
            (1..=16).contains(&stage.kernel),
            "viseme.frontend.kernel",
            "1 to 16",
        )?;
        ensure(
            (1..=stage.kernel).contains(&stage.stride),
            "viseme.frontend.stride",
            "1 to the kernel side",
        )?;
        let most = if index == 0 { stage.kernel - 1 } else { 0 };
        ensure(
            stage.pad <= most,
            "viseme.frontend.pad",
            "less than the kernel side, and 0 after the first stage",
        )?;
        ensure(
            stage.kernel * stage.kernel * inputs <= MAX_ROW,
            "viseme.frontend.channels",
            "such that no kernel has more than 32768 weights",
        )?;
        inputs = stage.channels;
        side = stage.side(side).ok_or(SpecError::OutOfRange {
            key: "viseme.frontend.kernel",
            want: "no larger than the feature map it slides over",
        })?;
    }
    let features = frontend.features(size).unwrap_or(u32::MAX);
    ensure(
        features <= MAX_ROW,
        "viseme.frontend.channels",
        "such that a frame has at most 32768 features",
    )
}

fn check_encoder(e: &Encoder) -> Result<(), SpecError> {
    ensure(
        (1..=64).contains(&e.blocks),
        "viseme.encoder.blocks",
        "1 to 64",
    )?;
    ensure(
        (2..=2048).contains(&e.d_model),
        "viseme.encoder.d_model",
        "2 to 2048",
    )?;
    ensure(
        e.d_model.is_multiple_of(2),
        "viseme.encoder.d_model",
        "even (sine and cosine columns)",
    )?;
    let divides = (1..=64).contains(&e.heads) && e.d_model.is_multiple_of(e.heads);
    ensure(
        divides,
        "viseme.encoder.heads",
        "1 to 64 and a divisor of the model width",
    )?;
    ensure((1..=8192).contains(&e.ff), "viseme.encoder.ff", "1 to 8192")?;
    ensure(
        (1..=255).contains(&e.conv_kernel),
        "viseme.encoder.conv_kernel",
        "1 to 255",
    )?;
    ensure(
        e.conv_left < e.conv_kernel,
        "viseme.encoder.conv_left",
        "less than the kernel width",
    )?;
    ensure(
        (-1..=8192).contains(&e.att_left),
        "viseme.encoder.att_left",
        "-1 (all) to 8192",
    )?;
    ensure(
        (-1..=8192).contains(&e.att_right),
        "viseme.encoder.att_right",
        "-1 (all) to 8192",
    )?;
    ensure(
        (1e-12..=0.1).contains(&e.norm_eps),
        "viseme.encoder.norm_eps",
        "1e-12 to 0.1",
    )
}

pub(super) fn check_tokens(tokens: &Tokens<'_>) -> Result<(), SpecError> {
    let key = "viseme.tokens.list";
    ensure(
        (2..=65_536).contains(&tokens.len()),
        key,
        "2 to 65536 tokens",
    )?;
    ensure(
        tokens.get(0) == Some(BLANK),
        key,
        "a list that begins with <blank>",
    )?;
    // Tokens are printed as they are: a control character could steer the terminal.
    let printable = |token: &str| !token.is_empty() && !token.chars().any(char::is_control);
    ensure(
        tokens.iter().all(printable),
        key,
        "tokens that are not empty and hold no control characters",
    )
}

fn check_mel(mel: &Mel, fps: f32) -> Result<(), SpecError> {
    ensure(
        (4000..=48_000).contains(&mel.sample_rate),
        "viseme.mel.sample_rate",
        "4000 to 48000",
    )?;
    ensure((1..=256).contains(&mel.bins), "viseme.mel.bins", "1 to 256")?;
    ensure(
        (2..=8192).contains(&mel.window),
        "viseme.mel.window",
        "2 to 8192",
    )?;
    let hop = (1..=mel.window).contains(&mel.hop) && mel.hop as f32 * fps <= mel.sample_rate as f32;
    ensure(
        hop,
        "viseme.mel.hop",
        "1 to the window, and at most one video frame long",
    )?;
    ensure(mel.low_hz >= 0.0, "viseme.mel.low_hz", "0 or more")?;
    let high = mel.high_hz > mel.low_hz && mel.high_hz <= mel.sample_rate as f32 / 2.0;
    ensure(
        high,
        "viseme.mel.high_hz",
        "above low_hz, at most half the sample rate",
    )
}

fn check_yunet(yunet: &Yunet) -> Result<(), SpecError> {
    let multiple = yunet.input_multiple;
    ensure(
        (1..=256).contains(&multiple),
        "viseme.yunet.input_multiple",
        "1 to 256",
    )?;
    let fits = |&stride: &u32| stride > 0 && multiple.is_multiple_of(stride);
    ensure(
        yunet.strides().iter().all(fits),
        "viseme.yunet.strides",
        "divisors of the input multiple",
    )
}

pub(super) fn ensure(holds: bool, key: &'static str, want: &'static str) -> Result<(), SpecError> {
    if holds { Ok(()) } else { out(key, want) }
}

fn out(key: &'static str, want: &'static str) -> Result<(), SpecError> {
    Err(SpecError::OutOfRange { key, want })
}
