//! Every shipped file is valid, and every rule refuses something.

use super::*;

#[test]
fn shipped_files_are_valid() {
    for &(id, text) in FILES {
        let board = Board::parse(id, text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(find(id), Some(board));
    }
    assert_eq!(
        FILES.len(),
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/data"))
            .unwrap()
            .count()
    );
    assert_eq!(find("abacus"), None);
}

/// The boards whose kernels differ: a dot product on the A76 and A78AE, none on the A72 and A53, no I8MM anywhere.
#[test]
fn instruction_sets() {
    for (id, dotprod) in [
        ("rpi-5", true),
        ("rpi-4", false),
        ("rpi-zero-2w", false),
        ("jetson-orin-nano", true),
    ] {
        let cpu = find(id).unwrap().cpu;
        assert_eq!(
            (cpu.has("dotprod"), cpu.has("i8mm")),
            (dotprod, false),
            "{id}"
        );
    }
}

const BOARD: &str = r#"
name = "Test"
target = "aarch64-unknown-linux-gnu"
[cpu]
core = "cortex-a1"
clock_mhz = 1000
features = ["dotprod"]
[memory]
ram_kib = 1000
[camera]
interface = "v4l2"
[budget]
model_kib = 400
arena_kib = 600
real_time_factor = 1.0
"#;

const MICROCONTROLLER: &str = r#"
name = "Test"
target = "thumbv8m.main-none-eabihf"
cpu = { core = "cortex-m33", clock_mhz = 150, features = ["dsp"] }
memory = { ram_kib = 520, flash_kib = 4096 }
camera = { interface = "parallel" }
mic = { interface = "i2s" }
budget = { model_kib = 4096, arena_kib = 520, real_time_factor = 1.0 }
"#;

#[track_caller]
fn refused(original: &str, from: &str, to: &str, why: &str) {
    assert!(original.contains(from), "{from}");
    let error = Board::parse("test", &original.replace(from, to))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("boards/data/test.toml: ") && error.contains(why),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn wrong_files_are_refused() {
    assert!(Board::parse("test", BOARD).is_ok());
    assert!(Board::parse("Test 1", BOARD).is_err() && Board::parse("", BOARD).is_err());
    refused(
        BOARD,
        "name = \"Test\"",
        "name = \" \"",
        "name must not be empty",
    );
    refused(BOARD, "name = \"Test\"", "", "missing field `name`");
    refused(
        BOARD,
        "name = \"Test\"",
        "nome = \"Test\"",
        "line 2: unknown field `nome`",
    );
    refused(BOARD, "[budget]", "[budgets]", "unknown field `budgets`");
    refused(BOARD, "aarch64", "sparc", "target must be");
    refused(BOARD, "cortex-a1", "Cortex A1", "cpu.core");
    refused(BOARD, "1000\nfeatures", "0\nfeatures", "clock_mhz");
    refused(BOARD, "1000\nfeatures", "-1\nfeatures", "line 6");
    refused(BOARD, "dotprod", "avx2", "avx2 is none of dotprod, i8mm");
    refused(BOARD, "\"dotprod\"", "\"dotprod\", \"dotprod\"", "twice");
    refused(BOARD, "ram_kib = 1000", "ram_kib = 0", "do not write 0");
    refused(
        BOARD,
        "ram_kib = 1000",
        "ram_kib = 999",
        "more than memory.ram_kib",
    );
    refused(BOARD, "ram_kib", "flash_kib", "without a file system");
    refused(BOARD, "v4l2", "parallel", "for microcontrollers");
    refused(BOARD, "v4l2", "usb", "unknown variant `usb`");
    refused(BOARD, "arena_kib = 600", "arena_kib = 0", "above 0");
    for factor in ["0.0", "1.5", "nan", "-1.0"] {
        refused(
            BOARD,
            "factor = 1.0",
            &format!("factor = {factor}"),
            "real_time_factor",
        );
    }
    refused(BOARD, "\"\n[cpu]", "\n[cpu]", "line 3");
}

#[test]
fn microcontrollers_keep_the_model_in_flash() {
    assert!(Board::parse("test", MICROCONTROLLER).is_ok());
    refused(
        MICROCONTROLLER,
        "flash_kib = 4096",
        "flash_kib = 4095",
        "more than memory.flash_kib",
    );
    refused(
        MICROCONTROLLER,
        "ram_kib = 520",
        "ram_kib = 519",
        "more than memory.ram_kib",
    );
    refused(MICROCONTROLLER, "parallel", "v4l2", "for Linux");
    refused(MICROCONTROLLER, "i2s", "alsa", "for Linux");
}
