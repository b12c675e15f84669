//! Rules about crates and sources.

use std::collections::{BTreeMap, BTreeSet};

use toml::Table;

use super::source::{code, lines_with, without_tests};
use super::tree::{File, Tree, get, spans, table};

/// Longest file of source or text, in lines. Code should stay below 700; from here on it is refused.
pub const MOST_LINES: usize = 900;
const LICENCE: &str = "MIT OR Apache-2.0";
/// Where `unsafe` may stand: below this folder, and in files of this name.
const UNSAFE_DOORS: (&str, &str) = ("runtime/engine/src/kernels/", "/sys.rs");
const ENGINE: &str = "runtime/engine/src/";
const FORMAT: &str = "runtime/format/src/";

/// The table of `ARCHITECTURE.md` is what the manifests say.
pub fn imports(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    let rows = table(tree.text("ARCHITECTURE.md"), "Who may import whom");
    let rows = rows
        .iter()
        .filter_map(|row| Some((*spans(row.first()?).first()?, spans(row.last()?))));
    let table_says: BTreeMap<&str, BTreeSet<&str>> = rows
        .map(|(importer, imported)| (importer, imported.into_iter().collect()))
        .collect();
    let manifests = tree.manifests();
    let crates: BTreeSet<&str> = manifests
        .iter()
        .filter(|m| m.member)
        .map(|m| m.name.as_str())
        .collect();
    for manifest in manifests.iter().filter(|manifest| manifest.member) {
        let (path, name) = (manifest.path, manifest.name.as_str());
        let imported = manifest.dependencies(&["dependencies", "build-dependencies"]);
        let imported: BTreeSet<&str> = imported
            .iter()
            .map(String::as_str)
            .filter(|i| crates.contains(i))
            .collect();
        let everything =
            manifest.dependencies(&["dependencies", "build-dependencies", "dev-dependencies"]);
        for alone in ["viseme-tests", "xtask"]
            .iter()
            .filter(|alone| everything.contains(**alone))
        {
            breaches.push(format!(
                "{path}: imports {alone}, which nothing may; move what is shared into a crate"
            ));
        }
        if name == "xtask" && everything.iter().any(|i| crates.contains(i.as_str())) {
            breaches.push(format!(
                "{path}: xtask links a crate of the workspace; spawn its program instead"
            ));
        }
        let Some(allowed) = table_says.get(name) else {
            breaches.push(format!(
                "{path}: {name} is not in the import table; give it a row in ARCHITECTURE.md"
            ));
            continue;
        };
        for new in imported.difference(allowed) {
            breaches.push(format!(
                "{path}: imports {new}, which the table in ARCHITECTURE.md does not allow; do without it, or change \
                 the table and say why in a commit of its own"
            ));
        }
        for gone in allowed.difference(&imported) {
            breaches.push(format!(
                "{path}: does not import {gone}, which the table in ARCHITECTURE.md lists; take it out of the table"
            ));
        }
    }
    for gone in table_says.keys().filter(|name| !crates.contains(*name)) {
        breaches.push(format!(
            "ARCHITECTURE.md: {gone} is in the import table, and no crate; take the row out"
        ));
    }
    breaches
}

/// What referees our engine is optional in the command, and no default feature brings it in.
pub fn other_engines(tree: &Tree) -> Vec<String> {
    const PATH: &str = "runtime/app/Cargo.toml";
    let manifest: Table = tree.text(PATH).parse().unwrap_or_default();
    let dependencies = get(&manifest, "dependencies");
    let is_optional = |name: &str| {
        let optional = dependencies.and_then(|all| all.get(name)?.get("optional")?.as_bool());
        optional == Some(true)
    };
    let engines = ["tract-onnx", "tflitec", "litert", "viseme-export"];
    let built_in = engines.iter().filter(|name| !is_optional(name));
    let mut breaches: Vec<String> = built_in
        .map(|name| {
            format!(
                "{PATH}: {name} is not optional; make it so, for a feature that has to be asked for"
            )
        })
        .collect();
    let default = get(&manifest, "features").and_then(|features| features.get("default"));
    let default = default.map(ToString::to_string).unwrap_or_default();
    if default != "[\"download\"]" {
        breaches.push(format!(
            "{PATH}: default features are {default}; only `download` is, other engines have to be asked for"
        ));
    }
    breaches
}

/// Every module begins with a line that says what it is.
pub fn module_docs(tree: &Tree) -> Vec<String> {
    let says = |file: &File| {
        let first = file
            .text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("//! "));
        first.is_some_and(|line| !line.trim().is_empty())
    };
    let silent = tree.ending(".rs").filter(|file| !says(file));
    silent
        .map(|file| {
            format!(
                "{}: begin the file with `//! ` and a line that says what it is",
                file.path
            )
        })
        .collect()
}

/// `unsafe` stands only in the kernels and behind drivers' doors, and each block says why it is sound.
pub fn unsafe_doors(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    for file in tree.ending(".rs") {
        let (path, code) = (&file.path, code(&file.text));
        if !(path.starts_with(UNSAFE_DOORS.0) || path.ends_with(UNSAFE_DOORS.1)) {
            for name in ["unsafe", "allow(unsafe_code)", "expect(unsafe_code)"] {
                breaches.extend(lines_with(&code, name).map(|line| {
                    format!(
                        "{path}:{line}: `{name}` outside {}** and sys.rs; do it in safe code",
                        UNSAFE_DOORS.0
                    )
                }));
            }
            continue;
        }
        let text: Vec<&str> = file.text.lines().collect();
        for block in ["unsafe {", "unsafe impl"] {
            let is_argued = |line: usize| {
                text[line.saturating_sub(8)..line]
                    .iter()
                    .any(|l| l.contains("SAFETY:"))
            };
            breaches.extend(lines_with(&code, block).filter(|&line| !is_argued(line)).map(|line| {
                format!("{path}:{line}: say in a comment `// SAFETY: …` above it why this is sound")
            }));
        }
    }
    breaches
}

/// No cargo feature is named after a board, or after a family of boards.
pub fn board_features(tree: &Tree) -> Vec<String> {
    let plain = |name: &str| name.to_lowercase().replace(['-', '_'], "");
    let boards = tree.ending(".toml").filter_map(|file| {
        let id = file
            .path
            .strip_prefix("boards/data/")?
            .strip_suffix(".toml")?;
        Some((plain(id), id.split('-').next().unwrap_or(id)))
    });
    let boards: Vec<_> = boards.collect();
    let mut breaches = Vec::new();
    for manifest in tree.manifests() {
        for feature in get(&manifest.table, "features")
            .into_iter()
            .flat_map(|table| table.keys())
        {
            let is_board = |(id, family): &(String, &str)| {
                plain(feature).contains(id) || plain(feature) == *family
            };
            if boards.iter().any(is_board) {
                breaches.push(format!(
                    "{}: feature {feature} is named after a board; name what it does, and put the board's data into \
                     boards/data",
                    manifest.path
                ));
            }
        }
    }
    breaches
}

/// The engine and the format use nothing of an operating system: no files, threads, clocks, environment.
pub fn bare(tree: &Tree) -> Vec<String> {
    let advice = "the engine gets memory, bytes and timestamps from its caller";
    let mut breaches = Vec::new();
    for (path, code) in product_code(tree, &[ENGINE, FORMAT]) {
        // Asking which instructions there are is all that the standard library is good for here.
        let code = code.replace("std::arch", "core::arch");
        for name in [
            "std::",
            "Instant",
            "SystemTime",
            "thread_local",
            "println",
            "eprintln",
        ] {
            breaches.extend(
                lines_with(&code, name).map(|line| format!("{path}:{line}: `{name}`; {advice}")),
            );
        }
    }
    breaches
}

/// The engine computes with its own elementary functions, which have the same bits everywhere.
pub fn own_maths(tree: &Tree) -> Vec<String> {
    const FUNCTIONS: [&str; 26] = [
        "exp",
        "exp2",
        "exp_m1",
        "ln",
        "ln_1p",
        "log",
        "log2",
        "log10",
        "sqrt",
        "cbrt",
        "hypot",
        "powf",
        "powi",
        "sin",
        "cos",
        "tan",
        "sin_cos",
        "asin",
        "acos",
        "atan",
        "atan2",
        "sinh",
        "cosh",
        "tanh",
        "mul_add",
        "round_ties_even",
    ];
    let advice = "platforms differ in its last bits; use `viseme_engine::math`, and separate products and sums";
    let mut breaches = Vec::new();
    for (path, code) in product_code(tree, &[ENGINE]) {
        for function in FUNCTIONS {
            let forms = [
                format!(".{function}("),
                format!("f32::{function}"),
                format!("f64::{function}"),
            ];
            for form in forms {
                breaches.extend(
                    lines_with(&code, &form)
                        .map(|line| format!("{path}:{line}: `{form}`; {advice}")),
                );
            }
        }
        breaches.extend(
            lines_with(&code, "libm").map(|line| format!("{path}:{line}: `libm`; {advice}")),
        );
    }
    breaches
}

/// Members inherit the workspace's lints, and files stay short enough to read.
pub fn lints_and_lengths(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    let workspace = tree.workspace();
    let lints = get(&workspace, "lints").and_then(|lints| get(lints, "rust"));
    let level = lints.and_then(|lints| lints.get("unsafe_code")?.as_str());
    if level != Some("deny") {
        breaches.push("Cargo.toml: set `unsafe_code = \"deny\"` in [workspace.lints.rust]".into());
    }
    for manifest in tree.manifests().iter().filter(|manifest| manifest.member) {
        let inherits =
            get(&manifest.table, "lints").and_then(|lints| lints.get("workspace")?.as_bool());
        if inherits != Some(true) {
            breaches.push(format!(
                "{}: add `[lints]` with `workspace = true`",
                manifest.path
            ));
        }
    }
    for end in [".rs", ".py", ".sh", ".md", ".toml"] {
        for file in tree
            .ending(end)
            .filter(|file| file.text.lines().count() >= MOST_LINES)
        {
            breaches.push(format!(
                "{}: has {MOST_LINES} lines or more; split it by what its parts do",
                file.path
            ));
        }
    }
    breaches
}

/// Both licences are there, and every package has them.
pub fn licences(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    let texts = [
        (
            "LICENSE-MIT",
            "Permission is hereby granted, free of charge",
        ),
        ("LICENSE-APACHE", "Apache License"),
    ];
    for (path, says) in texts
        .iter()
        .filter(|(path, says)| !tree.text(path).contains(says))
    {
        breaches.push(format!(
            "{path}: is not there, or does not say \"{says}\"; put the licence's text back"
        ));
    }
    let workspace = tree.workspace();
    let inherited = get(&workspace, "package").and_then(|package| package.get("license")?.as_str());
    for manifest in tree.manifests() {
        let own = manifest.package("license");
        let licence = match own.and_then(|own| own.get("workspace")?.as_bool()) {
            Some(true) => inherited,
            _ => own.and_then(|own| own.as_str()),
        };
        if licence != Some(LICENCE) {
            breaches.push(format!(
                "{}: licence {licence:?}; write `license = \"{LICENCE}\"`",
                manifest.path
            ));
        }
    }
    breaches
}

/// No file names a folder of one machine, a mirror of a registry, or a host that only some can reach.
pub fn places(tree: &Tree) -> Vec<String> {
    // In pieces, so that this file does not name them either.
    let folders = [
        ["/wo", "rk/"],
        ["/ro", "ot/"],
        ["/ho", "me/"],
        ["/Us", "ers/"],
        ["/tm", "p/"],
    ]
    .map(|p| p.concat());
    let registries = [
        ["index.crates", ".io"],
        ["static.crates", ".io"],
        ["pythonhos", "ted.org"],
        ["pypi.o", "rg/simple"],
        ["registry.npm", "js"],
        ["proxy.gol", "ang"],
        ["index-", "url"],
        ["replace-", "with"],
        ["artifac", "tory"],
    ]
    .map(|pieces| pieces.concat());
    let mut breaches = Vec::new();
    let mut say = |file: &File, line: usize, what: &str, advice: &str| {
        breaches.push(format!("{}:{line}: `{what}`; {advice}", file.path));
    };
    for file in &tree.files {
        for (line, number) in file.text.lines().zip(1..) {
            for folder in folders.iter().filter(|folder| names_folder(line, folder)) {
                say(
                    file,
                    number,
                    folder,
                    "this folder is on one machine only; take the path from the user, or from target/",
                );
            }
            for registry in registries
                .iter()
                .filter(|registry| line.contains(registry.as_str()))
            {
                say(
                    file,
                    number,
                    registry,
                    "leave it to the user's own settings where packages come from",
                );
            }
            for host in hosts(line).filter(|host| is_private(host)) {
                say(
                    file,
                    number,
                    host,
                    "not everyone can reach this host; name a public one",
                );
            }
            let is_source = file.path.ends_with("Cargo.lock") && line.starts_with("source = ");
            if is_source
                && line != "source = \"registry+https://github.com/rust-lang/crates.io-index\""
            {
                say(file, number, line, "use a release from crates.io");
            }
        }
    }
    breaches
}

/// Whether the line has the folder as the beginning of an absolute path.
fn names_folder(line: &str, folder: &str) -> bool {
    let begins = |(at, _): (usize, &str)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !(c.is_alphanumeric() || "._-~$}])/*".contains(c)))
    };
    line.match_indices(folder).any(begins)
}

/// The hosts of the addresses in a line.
fn hosts(line: &str) -> impl Iterator<Item = &str> {
    let is_host = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
    line.split("://").skip(1).filter_map(move |rest| {
        let end = rest.find(|c| !is_host(c)).unwrap_or(rest.len());
        // A placeholder such as `{host}` is none.
        (end > 0 && !rest[end..].starts_with(['{', '<'])).then_some(&rest[..end])
    })
}

fn is_private(host: &str) -> bool {
    let is_address = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let is_inside = [".internal", ".local", ".lan", ".corp", ".intranet"]
        .iter()
        .any(|end| host.ends_with(end));
    let is_here = host == "localhost" || host.starts_with("127.");
    !is_here && (is_address || is_inside || !host.contains('.'))
}

/// Path and code of the files below these folders, without tests.
fn product_code<'t>(tree: &'t Tree, folders: &[&str]) -> Vec<(&'t str, String)> {
    let files = tree
        .ending(".rs")
        .filter(|file| folders.iter().any(|folder| file.path.starts_with(folder)));
    let mut product = Vec::new();
    let mut tests = Vec::new();
    for file in files {
        let (code, modules) = without_tests(&code(&file.text));
        let stem = file.path.trim_end_matches(".rs");
        let (folder, name) = stem.rsplit_once('/').unwrap_or(("", stem));
        let below = if ["mod", "lib", "main"].contains(&name) {
            folder
        } else {
            stem
        };
        tests.extend(modules.iter().map(|module| format!("{below}/{module}")));
        product.push((file.path.as_str(), code));
    }
    let is_test = |path: &str| {
        let of = |test: &String| {
            path.strip_prefix(test.as_str())
                .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        tests.iter().any(of)
    };
    product.retain(|(path, _)| !is_test(path));
    product
}
