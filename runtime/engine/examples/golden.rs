//! Runs the golden cases on every set of kernels that this CPU has, and compares the hashes of the logits with the golden
//! file; with `--bless`, writes the file instead. No threads, so that it also runs where an emulator cannot start any.
//!
//! `cargo run --release -p viseme-engine --features testing --example golden -- runtime/models/grid-vsr.gguf
//! runtime/engine/tests/golden/logits.txt [--bless]`

use std::process::ExitCode;

use viseme_engine::kernels::{self, Portable};
use viseme_engine::testing::golden::CASES;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [model, golden] => check(model, golden),
        [model, golden, "--bless"] => bless(model, golden),
        _ => Err("say which files: MODEL GOLDEN [--bless]".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("golden: {error}");
            ExitCode::from(2)
        }
    }
}

fn check(model: &str, golden: &str) -> Result<(), String> {
    let model = read(model)?;
    let golden = String::from_utf8_lossy(&read(golden)?).into_owned();
    let mut wrong = 0;
    for kernels in kernels::all() {
        let different = CASES.iter().filter_map(|case| {
            let error = case.check(&golden, &model, kernels).err()?;
            println!("{error}");
            Some(())
        });
        let different = different.count();
        if different == 0 {
            println!("{}: golden logits", kernels.name());
        }
        wrong += different;
    }
    if wrong == 0 {
        Ok(())
    } else {
        Err(format!("{wrong} cases give other bits"))
    }
}

/// Writes what the portable kernels give, if all others give the same.
fn bless(model: &str, path: &str) -> Result<(), String> {
    let model = read(model)?;
    let mut golden = String::from(
        "# FNV-1a of the logits' bits of each case of runtime/engine/src/testing/golden.rs; made by `cargo xtask golden --bless`.\n",
    );
    for case in &CASES {
        golden += &case.line(case.hash(&model, &Portable)?);
        golden += "\n";
    }
    for kernels in kernels::all() {
        for case in &CASES {
            case.check(&golden, &model, kernels)?;
        }
    }
    std::fs::write(path, golden).map_err(|e| format!("cannot write {path}: {e}"))
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("cannot read {path}: {e}"))
}
