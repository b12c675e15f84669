//! What the engine costs on this machine, by itself and beside other engines.

mod auto_avsr;
mod cases;
mod clips;
mod compare;
mod hour;
mod kernels;
mod own;
mod process;
// The peers' own crate, which belongs to their workspace and so can be none of ours.
#[path = "../peers/protocol/src/lib.rs"]
mod protocol;
mod setup;
mod sys;
mod table;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::json;

const HELP: &str = "\
cargo xtask bench [--auto-avsr] [--peers] [--json]

Times matrix products, and the reference encoder (4 blocks of width 256, random weights) on one thread: a file of 64
frames, 8 frames by themselves, steps of a stream, and an hour of one.

--peers   beside LiteRT, ONNX Runtime, RTen and tract, fetched and built into target/peers when first asked for
--auto-avsr
          instead, a full-size video model of Auto-AVSR with random weights (266 MB, made in target/bench once);
          with --peers its encoder beside ONNX Runtime and PyTorch (6 GB to install, 1 GB of files)
--json    nothing but one object on the last line: rows of engine, variant, frames, cached, min_ms, median_ms, rss_kb,
          file_bytes, rel_rms (of the encoder) and logits_rel_rms; kernels; between; clips; load_ms; hour; skipped
";

fn main() -> ExitCode {
    let (mut peers, mut auto_avsr, mut json) = (false, false, false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--peers" => peers = true,
            "--auto-avsr" => auto_avsr = true,
            "--json" => json = true,
            "--help" | "-h" => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            // How this program starts itself.
            "engine" => {
                protocol::serve::<own::Own>();
                return ExitCode::SUCCESS;
            }
            "auto-avsr-engine" => {
                protocol::serve::<auto_avsr::Own>();
                return ExitCode::SUCCESS;
            }
            // How `cargo xtask referee` asks for what it builds with: a variable a line.
            "libraries" => return libraries(),
            other => {
                eprintln!(
                    "viseme-bench: `{other}` is no option; there are --peers, --auto-avsr and --json"
                );
                return ExitCode::from(2);
            }
        }
    }
    let result = if auto_avsr {
        auto_avsr::measure(root(), peers, json).map(|result| {
            if json {
                println!("{result}");
            }
        })
    } else {
        run(peers, json)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            eprintln!("viseme-bench: {line}");
            ExitCode::from(2)
        }
    }
}

fn libraries() -> ExitCode {
    match setup::Workshop::new(root()).libraries() {
        Ok(variables) => {
            for (name, value) in variables {
                println!("{name}={}", value.display());
            }
            ExitCode::SUCCESS
        }
        Err(line) => {
            eprintln!("viseme-bench: {line}");
            ExitCode::from(2)
        }
    }
}

fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

fn run(peers: bool, json: bool) -> Result<(), String> {
    let root = root();
    let kernels = kernels::measure(json);
    let between = kernels::between(json);
    let clips = clips::measure(json)?;
    let outcome = compare::compare(root, peers)?;
    let int8 = cases::own(&root.join("target/bench"), "int8");
    let load_ms = load(&int8)?;
    let hour = hour::measure(&int8, json)?;
    let picture = root.join("target/bench/bench.svg");
    std::fs::write(&picture, table::chart(&outcome.rows))
        .map_err(|e| format!("cannot write {}: {e}", picture.display()))?;
    for skipped in &outcome.skipped {
        eprintln!("skipped: {skipped}");
    }
    if json {
        let rows: Vec<_> = outcome.rows.iter().map(compare::Row::json).collect();
        let skipped = outcome.skipped;
        println!(
            "{}",
            json!({"rows": rows, "kernels": kernels, "between": between, "clips": clips, "load_ms": load_ms, "hour": hour, "skipped": skipped})
        );
        return Ok(());
    }
    table::print(&outcome.rows);
    println!("\nloading the int8 model, mapped and checked: {load_ms:.2} ms");
    println!("bar chart: {}", picture.display());
    Ok(())
}

/// Milliseconds to map and check a model that is in the file cache: the best of some.
fn load(path: &Path) -> Result<f64, String> {
    let mut best = f64::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        own::open(path)?;
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(best)
}
