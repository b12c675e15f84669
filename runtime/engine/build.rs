//! Tells the kernels which extensions a Cortex-M has: the compiler knows them, but stable Rust does not yet say so in
//! `cfg(target_feature)`.

use std::env;

/// Processors with DSP instructions that `thumbv8m.main` leaves out.
const DSP: [&str; 5] = [
    "cortex-m33",
    "cortex-m35p",
    "cortex-m52",
    "cortex-m55",
    "cortex-m85",
];
/// Processors with Helium.
const HELIUM: [&str; 3] = ["cortex-m52", "cortex-m55", "cortex-m85"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(cortex_m_dsp, cortex_m_helium)");
    let target = env::var("TARGET").unwrap_or_default();
    if !target.starts_with("thumb") {
        return;
    }
    // `-C key=value`, with and without a space.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let values = |key: &str| -> Vec<&str> {
        let options = flags.split('\x1f').map(|f| f.trim_start_matches("-C"));
        options
            .filter_map(|f| f.strip_prefix(key)?.strip_prefix('='))
            .collect()
    };
    let cpu = values("target-cpu").last().copied().unwrap_or_default();
    let features = values("target-feature").join(",");
    let has = |feature: &str| features.split(',').any(|f| f == feature);
    let dsp = target.starts_with("thumbv7em") || DSP.contains(&cpu) || has("+dsp");
    if dsp && !has("-dsp") {
        println!("cargo::rustc-cfg=cortex_m_dsp");
    }
    let helium = HELIUM.contains(&cpu) || has("+mve") || has("+mve.fp");
    if helium && !has("-mve") {
        println!("cargo::rustc-cfg=cortex_m_helium");
        // Architecture Reference Manual of Armv8-M, on vector floating-point: it is done with the standard value of
        // FPSCR, which flushes subnormal numbers to zero. No other CPU does that, and the bits would differ.
        if !has("-mve.fp") {
            println!(
                "cargo::error=Helium rounds the smallest numbers to zero: compile with -C target-feature=-mve.fp, \
                 which leaves its integers"
            );
        }
    }
}
