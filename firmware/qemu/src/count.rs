//! Instructions of the int8 product, counted.
//!
//! With `qemu-system-arm -icount shift=0` virtual time passes by one nanosecond an instruction, and SysTick shows it.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use cortex_m::Peripherals;
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use semihosting::println;
use viseme_engine::kernels::{self, Kernels, QuantRows, WeightsI8};

/// Instructions between two ticks: nanoseconds of the emulated boards' clocks, of 25, 20 and 32 MHz.
const PER_TICK: [(&str, f64); 3] = [("25", 40.0), ("20", 50.0), ("32", 31.25)];
/// MAC per instruction that the inner loops of an instruction set have to reach, with any number of rows.
const LEAST: f64 = 0.8;
/// Outputs: a whole number of panels, as many as pass by the rows together.
const OUTPUTS: usize = 64;
/// Ticks are tens of instructions; so many products that they do not matter.
const REPEATED: u32 = 20;

/// Prints MAC per instruction of each set of kernels; `clock` is that of the board, in MHz.
///
/// # Errors
/// An instruction set whose inner loop falls short.
pub fn count(clock: &str) -> Result<(), String> {
    let per_tick = PER_TICK.iter().find(|(mhz, _)| *mhz == clock);
    let per_tick = per_tick
        .ok_or("say the board's clock: 20, 25 or 32 (MHz)")?
        .1;
    let mut timer = Peripherals::take().ok_or("the timer is in use")?.SYST;
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(0x00ff_ffff);
    timer.clear_current();
    timer.enable_counter();
    let mut short = 0;
    for kernels in kernels::all() {
        for rows in [1, 2, 4, 8] {
            let [few, many] = [256, 512].map(|inputs| {
                let ticks = product(kernels, rows, inputs);
                (
                    f64::from(ticks) * per_tick / f64::from(REPEATED),
                    (rows * inputs * OUTPUTS) as f64,
                )
            });
            // What a longer sum costs more is the inner loop; the rest happens once an output.
            let inner = (many.1 - few.1) / (many.0 - few.0);
            let whole = few.1 / few.0;
            println!(
                "{}, {rows} rows: {inner:.2} MAC per instruction in the inner loop, {whole:.2} in a product of 256 inputs",
                kernels.name()
            );
            short += u32::from(kernels.name() != "portable" && inner < LEAST);
        }
    }
    if short == 0 {
        Ok(())
    } else {
        Err(format!(
            "{short} inner loops have fewer than {LEAST} MAC per instruction"
        ))
    }
}

/// Ticks of [`REPEATED`] products of codes and weights that are never zero.
fn product(kernels: &dyn Kernels, rows: usize, inputs: usize) -> u32 {
    let codes: Vec<u8> = (0..rows * inputs).map(|i| (i * 7 % 255) as u8).collect();
    // The group makes the panels lie at a multiple of 4, as they do in a model file.
    let words: Vec<u32> = (0..OUTPUTS * inputs / 4)
        .map(|i| (i as u32).wrapping_mul(0x0101_0307) & 0x7f7f_7f7f)
        .collect();
    let weights: &[i8] = bytemuck::cast_slice(&words);
    let (scale, zero) = (vec![1.0; rows], vec![3; rows]);
    let (scales, colsum) = (vec![1.0; OUTPUTS], vec![1; OUTPUTS]);
    let Some(w) = WeightsI8::new(weights, &scales, &colsum, inputs) else {
        return 0;
    };
    let x = QuantRows {
        codes: &codes,
        scale: &scale,
        zero: &zero,
    };
    let mut y = vec![0.0; rows * OUTPUTS];
    let start = SYST::get_current();
    for _ in 0..REPEATED {
        kernels.matmul_i8(core::hint::black_box(x), w, &[], &mut y);
        core::hint::black_box(&y);
    }
    // The timer counts down, in 24 bits.
    start.wrapping_sub(SYST::get_current()) & 0x00ff_ffff
}
