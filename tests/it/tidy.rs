//! The rules of the tree, checked on its files: what the documents say holds, and what must not be there is not.
//!
//! A rule takes the files and returns one line for each breach: where, what, and what to do. Every rule is run on this
//! repository, which has to be clean, and on files with a planted breach, which it has to find.

mod documents;
mod rules;
mod source;
mod tree;

use documents::{commands, references};
use rules::*;
use tree::Tree;

type Rule = fn(&Tree) -> Vec<String>;

/// Fails with all breaches of a rule at once.
fn check(rule: Rule) {
    let breaches = rule(&Tree::of_the_repository());
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

/// Fails unless a rule finds these breaches in files made up for it, given by how they begin, in alphabetical order.
fn finds(rule: Rule, files: &[(&str, &str)], wanted: &[&str]) {
    let mut found = rule(&Tree::of(files));
    found.sort();
    let begins = |(found, wanted): (&String, &&str)| found.starts_with(wanted);
    let all = found.len() == wanted.len() && found.iter().zip(wanted).all(begins);
    assert!(all, "found {found:#?}, wanted {wanted:#?}");
}

#[test]
fn crates_import_what_the_table_says() {
    check(imports);
    let table = "## Who may import whom\n\n| crate | imports |\n|---|---|\n| `a` | `b` |\n| `b` | nothing |\n";
    let workspace = "[workspace]\nmembers = [\"a\", \"b\", \"xtask\"]";
    let package = |name: &str, rest: &str| format!("[package]\nname = \"{name}\"\n{rest}");
    let (a, b, x) = (
        package(
            "a",
            "[target.'cfg(unix)'.dependencies]\nlib = { package = \"b\", path = \"../b\" }",
        ),
        package(
            "b",
            "[build-dependencies]\na.workspace = true\n[dev-dependencies]\nxtask.workspace = true",
        ),
        package("xtask", ""),
    );
    finds(
        imports,
        &[
            ("ARCHITECTURE.md", table),
            ("Cargo.toml", workspace),
            ("a/Cargo.toml", &a),
            ("b/Cargo.toml", &b),
            ("xtask/Cargo.toml", &x),
        ],
        &[
            "b/Cargo.toml: imports a",
            "b/Cargo.toml: imports xtask",
            "xtask/Cargo.toml: xtask is not in the import table",
        ],
    );
}

#[test]
fn other_engines_are_left_out_by_default() {
    check(other_engines);
    let app = "[features]\ndefault = [\"download\", \"tract\"]\n[dependencies]\ntract-onnx = { version = \"1\", optional = true }\n\
        litert = \"1\"\nviseme-export = { workspace = true, optional = true }";
    finds(
        other_engines,
        &[("runtime/app/Cargo.toml", app)],
        &[
            "runtime/app/Cargo.toml: default features are",
            "runtime/app/Cargo.toml: litert is not optional",
            "runtime/app/Cargo.toml: tflitec is not optional",
        ],
    );
}

#[test]
fn modules_begin_with_what_they_are() {
    check(module_docs);
    finds(
        module_docs,
        &[
            ("a.rs", "//! What it is.\n"),
            ("b.rs", "use x;\n//! Late."),
            ("c.rs", "//!\n"),
        ],
        &["b.rs:", "c.rs:"],
    );
}

#[test]
fn unsafe_has_doors() {
    check(unsafe_doors);
    let (outside, door) = (
        "// unsafe\nfn f() { unsafe { g() } }",
        "runtime/engine/src/kernels/x86.rs",
    );
    let open = "fn f() {\n    // SAFETY: why.\n    unsafe { g() }\n}\n\n\n\n\n\n\nfn h() { unsafe { g() } }";
    finds(
        unsafe_doors,
        &[
            ("a.rs", outside),
            ("b.rs", "#![allow(unsafe_code)]"),
            ("camera/sys.rs", "unsafe fn f() {}"),
            (door, open),
        ],
        &[
            "a.rs:2:",
            "b.rs:1:",
            "runtime/engine/src/kernels/x86.rs:11:",
        ],
    );
}

#[test]
fn no_feature_is_named_after_a_board() {
    check(board_features);
    finds(
        board_features,
        &[
            ("boards/data/rpi-5.toml", ""),
            (
                "a/Cargo.toml",
                "[package]\nname = \"a\"\n[features]\nstd = []\nrpi5-camera = []\nrpi = []",
            ),
        ],
        &[
            "a/Cargo.toml: feature rpi ",
            "a/Cargo.toml: feature rpi5-camera ",
        ],
    );
}

#[test]
fn the_engine_knows_no_operating_system() {
    check(bare);
    let lib = "fn a() { std::fs::read(p) }\n#[cfg(test)]\nmod tests { use std::fs; }\n#[cfg(test)]\nmod peer;\n";
    finds(
        bare,
        &[
            ("runtime/format/src/lib.rs", lib),
            ("runtime/format/src/peer.rs", "use std::env;"),
            (
                "runtime/engine/src/a.rs",
                "use std::{io, time::Instant};\nif std::arch::is_x86_feature_detected!(x) {}",
            ),
            ("runtime/engine/tests/it/a.rs", "use std::fs;"),
        ],
        &[
            "runtime/engine/src/a.rs:1:",
            "runtime/engine/src/a.rs:1:",
            "runtime/format/src/lib.rs:1:",
        ],
    );
}

#[test]
fn the_engine_has_its_own_elementary_functions() {
    check(own_maths);
    finds(
        own_maths,
        &[
            (
                "runtime/engine/src/a.rs",
                "fn f(x: f32) { math::exp(x); x.exp(); f32::sqrt(x); x.mul_add(y, z) }",
            ),
            ("runtime/format/src/a.rs", "x.exp()"),
        ],
        &[
            "runtime/engine/src/a.rs:1: `.exp(`",
            "runtime/engine/src/a.rs:1: `.mul_add(`",
            "runtime/engine/src/a.rs:1: `f32::sqrt`",
        ],
    );
}

#[test]
fn nothing_names_one_machine_or_its_registry() {
    check(places);
    let home = ["/ho", "me/ann/x"].concat();
    let lock = "source = \"git+https://github.com/a/b\"\n";
    let hosts = ["10.1.2.3/x", "127.0.0.1:9", "mirror/a", "{host}/b", "a.org"]
        .map(|host| format!("http://{host} "));
    finds(
        places,
        &[
            (
                "a.md",
                &format!("in {home}, not $X{home} or https://a.org{home}"),
            ),
            ("b.py", &hosts.concat()),
            ("Cargo.lock", lock),
        ],
        &[
            "Cargo.lock:1: ",
            "a.md:1: ",
            "b.py:1: `10.1.2.3`",
            "b.py:1: `mirror`",
        ],
    );
}

#[test]
fn crates_inherit_lints_and_files_stay_short() {
    check(lints_and_lengths);
    let long = "\n".repeat(MOST_LINES);
    finds(
        lints_and_lengths,
        &[
            ("Cargo.toml", "[workspace]\nmembers = [\"a\"]"),
            ("a/Cargo.toml", "[package]\nname = \"a\""),
            ("a/a.rs", &long),
        ],
        &["Cargo.toml: ", "a/Cargo.toml: ", "a/a.rs: "],
    );
}

#[test]
fn every_manifest_has_the_licence() {
    check(licences);
    finds(
        licences,
        &[
            (
                "LICENSE-MIT",
                "Permission is hereby granted, free of charge",
            ),
            (
                "Cargo.toml",
                "[workspace]\n[workspace.package]\nlicense = \"MIT\"",
            ),
            (
                "a/Cargo.toml",
                "[package]\nname = \"a\"\nlicense.workspace = true",
            ),
            (
                "b/Cargo.toml",
                "[package]\nname = \"b\"\nlicense = \"MIT OR Apache-2.0\"",
            ),
        ],
        &["LICENSE-APACHE: ", "a/Cargo.toml: "],
    );
}

#[test]
fn the_readme_shows_commands_that_exist() {
    check(commands);
    let readme = "Run `viseme sing`, `viseme models pull yunet`.\n\n```\n$ X=1 viseme read a.mp4 --grammar grid \\\n    --loud\n\
        cargo xtask train --recipe r --data d\ncargo xtask bake\ncargo xtask demo\ncargo run --release -p viseme -- read --json\n```\n";
    let cli = "enum Command { Read(Read), Models }\nenum ModelsCommand { Pull }\nstruct Read { grammar: String, json: bool }";
    finds(
        commands,
        &[
            ("README.md", readme),
            ("runtime/app/src/cli.rs", cli),
            (
                "xtask/src/main.rs",
                "match command { \"demo\" => demo(), \"train\" => train() }",
            ),
            ("trainer/src/main.rs", "struct Train { recipe: PathBuf }"),
        ],
        &[
            "README.md: `X=1 viseme read a.mp4 --grammar grid --loud`: runtime/app/src/cli.rs has no option --loud",
            "README.md: `cargo xtask bake`: xtask/src/main.rs has no command bake",
            "README.md: `cargo xtask train --recipe r --data d`: xtask/src/main.rs, trainer/src/main.rs has no option --data",
            "README.md: `viseme sing`: runtime/app/src/cli.rs has no command sing",
            "README.md: does not show `cargo xtask test`",
        ],
    );
}

#[test]
fn documents_name_files_and_tests_that_exist() {
    check(references);
    finds(
        references,
        &[
            (
                "README.md",
                "`a/b.rs`, `a/`, `a/*.toml`, `c/d.md`, `x.rs`, `a/b.rs::holds`, `a/b.rs::fails`, `a/b.rs::two::three`",
            ),
            ("a/b.rs", "fn holds() {}"),
            ("c/e.md", ""),
        ],
        &[
            "README.md: `a/b.rs::fails`",
            "README.md: `a/b.rs::two::three`",
            "README.md: `c/d.md`",
        ],
    );
}
