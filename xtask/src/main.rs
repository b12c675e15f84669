//! `cargo xtask …`: everything a developer runs. It spawns cargo and the project's programs.

mod demo;
mod elf;
mod emulate;
mod golden;
mod loops;
mod panics;
mod picture;
mod referee;
mod run;
mod setup;
mod test;
mod toolchain;

use std::process::ExitCode;

use run::{Failure, program};

const HELP: &str = "\
cargo xtask demo                     render a talking mouth, read its lips, draw what was read
cargo xtask test                     install what the tests need, run every check
cargo xtask golden [--emulated]      compare the logits with the golden ones, on this CPU or on emulated ones
cargo xtask golden --bless           make the golden logits: after a new published model
cargo xtask panics                   list what a session can reach that panics
cargo xtask loops                    count the instructions of the ARM kernels' inner loops, and their cycles by llvm-mca
cargo xtask train --recipe R --data DIR [--out runs/NAME] [...]
                                     train a recipe (viseme-trainer train --help lists the rest)
cargo xtask train --recipe R --data DIR --finetune RUN --bits 4 [--out runs/NAME-int4] [...]
                                     go on from a finished run with rounded weights
cargo xtask quantize RUN --out M.gguf [...]
                                     make a model file (viseme-quantize --help lists the rest)
cargo xtask quantize --from auto-avsr MODEL --units UNITS --out M.gguf [...]
                                     make one of a checkpoint of Auto-AVSR (.pth, .ckpt, .safetensors)
cargo xtask export M.gguf --to onnx|tflite --out FILE [...]
                                     write a model for other engines (viseme-export --help lists the rest)
cargo xtask referee                  compare tract, TensorFlow Lite and LiteRT with our engine, on every architecture
cargo xtask referee transcribe CLIP --backend tract|tflite [...]
                                     run the command with them in it (viseme --help lists the rest)
cargo xtask bench [--peers] [--json] time the engine, and with --peers other engines beside it
cargo xtask bench --auto-avsr [--peers]
                                     time a full-size model of Auto-AVSR, and its encoder beside other engines
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let result = match command.as_str() {
        "demo" => demo::demo(&rest),
        "test" => test::test(&rest),
        "golden" => golden::golden(&rest),
        "panics" => panics::panics(&rest),
        "loops" => loops::loops(&rest),
        "train" => train(rest),
        "quantize" => program("viseme-quantize", &rest),
        "export" => program("viseme-export", &rest),
        "referee" => referee::referee(&rest),
        "bench" => program("viseme-bench", &rest),
        "" | "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(Failure::usage(format!(
            "`{other}` is no command; try cargo xtask help"
        ))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// `--out` defaults to a folder named after the recipe.
fn train(mut rest: Vec<String>) -> Result<(), Failure> {
    let value = |flag: &str| {
        let place = rest.iter().position(|a| a == flag)?;
        rest.get(place + 1).cloned()
    };
    let help = rest.iter().any(|a| a == "--help" || a == "-h");
    if !help && value("--out").is_none() && !rest.iter().any(|a| a.starts_with("--out=")) {
        let recipe = value("--recipe").ok_or_else(|| {
            Failure::usage("say which model to train: --recipe trainer/recipes/grid-vsr.toml")
        })?;
        let name = std::path::Path::new(&recipe)
            .file_stem()
            .unwrap_or_default();
        let name = name.to_string_lossy();
        let out = match (value("--finetune"), value("--bits")) {
            (Some(_), Some(bits)) => format!("runs/{name}-int{bits}"),
            _ => format!("runs/{name}"),
        };
        rest.extend(["--out".into(), out]);
    }
    rest.insert(0, "train".into());
    program("viseme-trainer", &rest)
}
