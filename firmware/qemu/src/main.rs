//! The test image for microcontrollers: kernel cases, golden logits and instruction counts, under QEMU with semihosting.
//!
//! Arguments are those of a command line: `kernels`, `golden MODEL LOGITS`, or `count MHZ`; files are the host's. The exit code is 0
//! or 2. `cargo xtask golden --emulated` builds and runs it on a Cortex-M4, M7, M33 and M55.
#![no_std]
#![no_main]

extern crate alloc;

mod count;
mod sys;

use alloc::ffi::CString;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use semihosting::experimental::env;
use semihosting::fs::File;
use semihosting::io::Read;
use semihosting::{eprintln, println, process};
use viseme_engine::kernels::{self, cases};
use viseme_engine::testing::golden::CASES;

#[cortex_m_rt::entry]
fn main() -> ! {
    sys::heap();
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok(()) => process::exit(0),
        Err(error) => {
            eprintln!("{error}");
            process::exit(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["kernels"] => kernels::all().try_for_each(|kernels| {
            cases::check(kernels)?;
            println!("{}: same bits", kernels.name());
            Ok(())
        }),
        ["golden", model, logits] => golden(model, logits),
        ["count", clock] => count::count(clock),
        _ => Err("say what to run: kernels, golden MODEL LOGITS, count MHZ".into()),
    }
}

fn golden(model: &str, logits: &str) -> Result<(), String> {
    let (model, len) = read(model)?;
    let model = &bytemuck::cast_slice(&model)[..len];
    let (golden, len) = read(logits)?;
    let golden = String::from_utf8_lossy(&bytemuck::cast_slice(&golden)[..len]).into_owned();
    for kernels in kernels::all() {
        for case in &CASES {
            case.check(&golden, model, kernels)?;
        }
        println!("{}: golden logits", kernels.name());
    }
    Ok(())
}

/// A file in whole words, and its length in bytes.
fn read(path: &str) -> Result<(Vec<u64>, usize), String> {
    let failed = |e: &dyn core::fmt::Display| format!("cannot read {path}: {e}");
    let name = CString::new(path).map_err(|e| failed(&e))?;
    let mut file = File::open(&*name).map_err(|e| failed(&e))?;
    let len = file.metadata().map_err(|e| failed(&e))?.len() as usize;
    let mut words = vec![0u64; len.div_ceil(8)];
    let mut rest = &mut bytemuck::cast_slice_mut(&mut words)[..len];
    while !rest.is_empty() {
        match file.read(rest).map_err(|e| failed(&e))? {
            0 => return Err(failed(&"it ends early")),
            n => rest = &mut rest[n..],
        }
    }
    Ok((words, len))
}

/// The command line, without the name of the image.
fn arguments() -> Result<Vec<String>, String> {
    let all = env::args::<1024>().map_err(|e| e.to_string())?;
    let all: Result<Vec<_>, _> = all.map(|a| a.map(ToString::to_string)).collect();
    Ok(all.map_err(|e| e.to_string())?.split_off(1))
}
