//! `cargo xtask loops`: what the inner loops of the ARM kernels cost, by their instructions.
//!
//! The engine is compiled to assembly text. The loops of a kernel that no other loop lies in and that multiply are counted,
//! and for AArch64 given to llvm-mca (LLVM's model of a CPU), which says how many cycles a turn takes with everything in the
//! first-level cache: the nearest thing to a measurement there is without the board.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::run::{Failure, exists, output};
use crate::setup;
use crate::toolchain::{Target, Toolchain};

/// What is compiled, with which flags, and CPUs that llvm-mca has a model of (its Cortex-A76 is an older core's).
const BUILDS: [(Target, &str, &[&str]); 2] = [
    (
        Target::Aarch64Linux,
        "target-feature=+dotprod,+i8mm",
        &["cortex-a53", "cortex-a72", "cortex-a76"],
    ),
    (Target::ThumbV7em, "target-cpu=cortex-m4", &[]),
];

/// Kernels: how their symbols are recognised, and their names.
const KERNELS: [([&str; 2], &str); 7] = [
    (["aarch64..Neon$", "matmul_i8"], "neon int8"),
    (["aarch64..Neon$", "matmul_i4"], "neon int4"),
    (["aarch64..NeonDot$", "matmul_i8"], "dotprod int8"),
    (["aarch64..NeonDot$", "matmul_i4"], "dotprod int4"),
    (["aarch64..NeonI8mm$", "matmul_i8"], "i8mm int8"),
    (["aarch64..NeonI8mm$", "matmul_i4"], "i8mm int4"),
    (["cortex_m", "dsp3add"], "cortex-m dsp int8"),
];

/// Products of an instruction; llvm-mca and this table know no others that multiply in our loops.
const PRODUCTS: [(&str, usize); 7] = [
    ("smull", 8),
    ("smull2", 8),
    ("smlal", 8),
    ("smlal2", 8),
    ("sdot", 16),
    ("smmla", 32),
    ("smlad", 2),
];

/// Turns of a loop that llvm-mca runs.
const TURNS: usize = 200;

/// Prints the table.
pub fn loops(rest: &[String]) -> Result<(), Failure> {
    if let Some(extra) = rest.first() {
        return Err(Failure::usage(format!(
            "`loops` takes no arguments, not `{extra}`"
        )));
    }
    let mca = exists("llvm-mca") || setup::install(&["llvm"]) && exists("llvm-mca");
    if !mca {
        eprintln!("── without cycles: install llvm-mca (on Debian `apt-get install llvm`)");
    }
    println!(
        "{:<20} {:>9} {:>13} {:>13}  cycles a product, by llvm-mca",
        "kernel", "products", "instructions", "products each"
    );
    for (target, flags, cpus) in BUILDS {
        let text = match Toolchain::new(target) {
            Ok(toolchain) => assembly(&toolchain.apart("loops"), flags)?,
            Err(install) => {
                eprintln!("── skipped: {}: {install}", target.triple());
                continue;
            }
        };
        for (name, inner) in inner_loops(&text) {
            let count = inner.instructions.len();
            print!(
                "{name:<20} {:>9} {count:>13} {:>13.2}",
                inner.products,
                inner.products as f64 / count as f64
            );
            for cpu in cpus.iter().filter(|_| mca) {
                let cycles = cycles(&inner.instructions, cpu)? / inner.products as f64;
                print!("  {cpu} {cycles:.3}");
            }
            println!();
        }
    }
    Ok(())
}

/// The engine as assembly text, in one piece.
fn assembly(toolchain: &Toolchain, flags: &str) -> Result<String, Failure> {
    let mut build = toolchain.cargo("rustc");
    build.args(["--quiet", "--release", "--package", "viseme-engine", "--"]);
    build.args(["--emit", "asm", "-C", flags, "-C", "codegen-units=1"]);
    output("compile the engine", &mut build)?;
    let folder = toolchain.folder("release").join("deps");
    let failed = |e| Failure::usage(format!("cannot read {}: {e}", folder.display()));
    let mut newest = None;
    for entry in std::fs::read_dir(&folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("viseme_engine-") && name.ends_with(".s") {
            let time = entry
                .metadata()
                .and_then(|m| m.modified())
                .map_err(failed)?;
            newest = newest.max(Some((time, entry.path())));
        }
    }
    let (_, path) = newest.ok_or_else(|| Failure::usage("the compiler wrote no assembly text"))?;
    std::fs::read_to_string(path).map_err(failed)
}

/// A loop that no other lies in.
struct Loop {
    products: usize,
    instructions: Vec<String>,
}

/// Of each kernel, the loop with the most products an instruction.
fn inner_loops(text: &str) -> BTreeMap<&'static str, Loop> {
    let mut found: BTreeMap<&str, Loop> = BTreeMap::new();
    let mut kernel = None;
    let mut labels: BTreeMap<&str, usize> = BTreeMap::new();
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        let code = line.split("//").next().unwrap_or_default().trim();
        if let Some(label) = code.strip_suffix(':') {
            if label.starts_with("_ZN") || label.starts_with("_R") {
                let has = |parts: &[&str; 2]| parts.iter().all(|part| label.contains(part));
                kernel = KERNELS.iter().find(|(parts, _)| has(parts)).map(|k| k.1);
                labels.clear();
                lines.clear();
            } else {
                labels.insert(label, lines.len());
            }
            continue;
        }
        let Some(name) = kernel.filter(|_| is_instruction(code)) else {
            continue;
        };
        lines.push(code);
        // A branch back to a label after which there is no other.
        let Some(to) = branch(code) else { continue };
        let Some(&from) = labels.get(to) else {
            continue;
        };
        if labels.values().any(|&at| at > from) {
            continue;
        }
        let instructions: Vec<String> = lines[from..].iter().map(|&l| l.to_owned()).collect();
        let products = instructions.iter().map(|l| products(l)).sum();
        let share = |l: &Loop| l.products as f64 / l.instructions.len() as f64;
        let new = Loop {
            products,
            instructions,
        };
        if products > 0 && found.get(name).is_none_or(|old| share(old) < share(&new)) {
            found.insert(name, new);
        }
    }
    found
}

fn is_instruction(code: &str) -> bool {
    code.starts_with(|c: char| c.is_ascii_lowercase())
}

/// The label that a branch goes to, if the instruction is one.
fn branch(code: &str) -> Option<&str> {
    let (op, operands) = code.split_once(char::is_whitespace)?;
    let branches = op.starts_with('b') && !op.starts_with("bi") && !op.starts_with("bf")
        || op.starts_with("cb")
        || op.starts_with("tb");
    let to = operands.rsplit(',').next()?.trim();
    // `2b` is the label `2` behind.
    let to = match to.strip_suffix('b') {
        Some(number) if number.bytes().all(|b| b.is_ascii_digit()) => number,
        _ => to,
    };
    branches.then_some(to)
}

fn products(instruction: &str) -> usize {
    let op = instruction.split_whitespace().next().unwrap_or_default();
    let op = op.split('.').next().unwrap_or_default();
    let known = PRODUCTS.iter().find(|(name, _)| *name == op);
    known.map_or(0, |(_, products)| *products)
}

/// Cycles of a turn on a CPU.
fn cycles(instructions: &[String], cpu: &str) -> Result<f64, Failure> {
    let failed = |what: &str| Failure::usage(format!("llvm-mca: {what}"));
    let mut command = Command::new("llvm-mca");
    command.args(["-mtriple=aarch64", "-mattr=+dotprod,+i8mm"]);
    command.args([format!("-mcpu={cpu}"), format!("-iterations={TURNS}")]);
    let mut mca = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| failed(&e.to_string()))?;
    // The last instruction is the branch back.
    let text = instructions.join("\n") + "\n";
    let written = mca.stdin.take().map(|mut to| to.write_all(text.as_bytes()));
    written.transpose().map_err(|e| failed(&e.to_string()))?;
    let out = mca.wait_with_output().map_err(|e| failed(&e.to_string()))?;
    let out = String::from_utf8_lossy(&out.stdout).into_owned();
    let total = out.lines().find_map(|l| l.strip_prefix("Total Cycles:"));
    let total = total.and_then(|t| t.trim().parse::<f64>().ok());
    total
        .map(|t| t / TURNS as f64)
        .ok_or_else(|| failed("it printed no cycles"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_densest_innermost_loop_of_a_kernel_is_found() {
        let text = "_ZN5other3fooE:\n.L0:\n\tsdot v0.4s, v1.16b, v2.16b\n\tb.ne .L0\n\
                    _ZN2aa..aarch64..NeonDot$u20$matmul_i8E:\n.L1:\n\tldr q0, [x0]\n.L2:\n\t//APP\n\
                    \tsdot v0.4s, v1.16b, v2.16b // four\n\tadd x0, x0, #16\n\tb.ne .L2\n\tb .L1\n\
                    2:\n\tsdot v0.4s, v1.16b, v2.16b\n\tcbnz x1, 2b\n";
        let found = inner_loops(text);
        assert_eq!(found.len(), 1);
        let inner = &found["dotprod int8"];
        assert_eq!((inner.products, inner.instructions.len()), (16, 2));
        assert_eq!(branch("bic v0.16b, v1.16b, v2.16b"), None);
        assert_eq!(products("smlal2 v0.8h, v1.16b, v2.16b"), 8);
    }
}
