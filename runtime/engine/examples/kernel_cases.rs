//! Runs the table of kernel cases on every set of kernels that this CPU has. No threads, so that it also runs where an
//! emulator cannot start any.
//!
//! `cargo run --release -p viseme-engine --features testing --example kernel_cases`

use std::process::ExitCode;

use viseme_engine::kernels::{self, cases};

fn main() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for kernels in kernels::all() {
        match cases::check(kernels) {
            Ok(()) => println!("{}: same bits", kernels.name()),
            Err(what) => {
                println!("{what}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
