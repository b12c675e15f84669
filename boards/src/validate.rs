//! What the types of a board file do not say.

use crate::{Board, CameraInterface, MicInterface};

/// The targets we build for, and the features their kernels ask about.
const TARGETS: [(&str, &[&str]); 2] = [
    ("aarch64-unknown-linux-gnu", &["dotprod", "i8mm"]),
    ("thumbv8m.main-none-eabihf", &["dsp"]),
];

/// Checks a board; the error says which field must be what.
pub(crate) fn board(board: &Board) -> Result<(), String> {
    let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure(!board.id.is_empty() && board.id.chars().all(kebab), || {
        "name the file in lower-case letters, digits and dashes".into()
    })?;
    ensure(!board.name.trim().is_empty(), || {
        "name must not be empty".into()
    })?;

    let Some((_, known)) = TARGETS.iter().find(|target| target.0 == board.target) else {
        let all = TARGETS.map(|target| target.0).join(" or ");
        return Err(format!("target must be {all}"));
    };
    let cpu = &board.cpu;
    ensure(!cpu.core.is_empty() && cpu.core.chars().all(kebab), || {
        "cpu.core must be like cortex-a76".into()
    })?;
    ensure((1..=10_000).contains(&cpu.clock_mhz), || {
        "cpu.clock_mhz must be 1 to 10000".into()
    })?;
    for (index, feature) in cpu.features.iter().enumerate() {
        ensure(known.contains(&feature.as_str()), || {
            format!(
                "cpu.features: {feature} is none of {} ({})",
                known.join(", "),
                board.target
            )
        })?;
        ensure(!cpu.features[..index].contains(feature), || {
            format!("cpu.features: {feature} twice")
        })?;
    }

    let memory = [
        board.memory.ram_kib,
        board.memory.flash_kib,
        board.memory.copy_mb_s,
    ];
    ensure(!memory.contains(&Some(0)), || {
        "memory: leave out what is not known, do not write 0".into()
    })?;
    let linux = board.target.contains("-linux-");
    ensure(!(linux && board.memory.flash_kib.is_some()), || {
        "memory.flash_kib is for boards without a file system".into()
    })?;
    let pins = board
        .camera
        .is_some_and(|camera| camera.interface == CameraInterface::Parallel)
        || board
            .mic
            .is_some_and(|mic| mic.interface == MicInterface::I2s);
    let drivers = board
        .camera
        .is_some_and(|camera| camera.interface == CameraInterface::V4l2)
        || board
            .mic
            .is_some_and(|mic| mic.interface == MicInterface::Alsa);
    ensure(!(linux && pins || !linux && drivers), || {
        "camera and mic: v4l2 and alsa are for Linux, parallel and i2s for microcontrollers".into()
    })?;

    let budget = board.budget;
    ensure(budget.model_kib > 0 && budget.arena_kib > 0, || {
        "budget: model_kib and arena_kib must be above 0".into()
    })?;
    let factor = budget.real_time_factor;
    ensure(factor > 0.0 && factor <= 1.0, || {
        "budget.real_time_factor must be above 0, at most 1".into()
    })?;
    // A model stays in flash where there is some, and in RAM elsewhere.
    let model_in_ram = if board.memory.flash_kib.is_some() {
        0
    } else {
        u64::from(budget.model_kib)
    };
    let ram = board.memory.ram_kib.map_or(u64::MAX, u64::from);
    ensure(u64::from(budget.arena_kib) + model_in_ram <= ram, || {
        "budget: more than memory.ram_kib".into()
    })?;
    ensure(
        board
            .memory
            .flash_kib
            .is_none_or(|flash| budget.model_kib <= flash),
        || "budget.model_kib: more than memory.flash_kib".into(),
    )
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}
