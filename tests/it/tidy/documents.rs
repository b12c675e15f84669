//! Rules about what the documents show and name.

use super::source::{code, lines_with};
use super::tree::{Tree, fenced_lines, spans};

/// The documents that people read first.
const DOCUMENTS: [&str; 6] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "firmware/README.md",
    "runtime/models/README.md",
];

/// A program of this repository, where its command line is written down.
struct Program {
    /// How it is called.
    name: &'static str,
    /// Files that have its subcommands: variants of clap's enums, or words in quotes.
    commands: &'static [&'static str],
    /// A subcommand, and the files that have its options besides those.
    passes_on: &'static [(&'static str, &'static str)],
}

const PROGRAMS: [Program; 4] = [
    Program {
        name: "cargo xtask",
        commands: &["xtask/src/main.rs"],
        passes_on: &[
            ("train", "trainer/src/main.rs"),
            ("quantize", "quantize/src/main.rs"),
            ("export", "export/src/main.rs"),
            ("bench", "bench/src/main.rs"),
            ("referee", "runtime/app/src/cli.rs"),
            ("golden", "xtask/src/golden.rs"),
        ],
    },
    Program {
        name: "viseme",
        commands: &["runtime/app/src/cli.rs"],
        passes_on: &[],
    },
    Program {
        name: "viseme-synth",
        commands: &["synth/src/main.rs"],
        passes_on: &[],
    },
    Program {
        name: "viseme-trainer",
        commands: &["trainer/src/main.rs"],
        passes_on: &[],
    },
];

/// What a person who has just cloned the repository runs.
const FIRST: [&str; 2] = ["cargo xtask demo", "cargo xtask test"];

/// The commands in the documents have subcommands and options that exist.
pub fn commands(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    for first in FIRST
        .iter()
        .filter(|first| !tree.text("README.md").contains(**first))
    {
        breaches.push(format!("README.md: does not show `{first}`; put it back"));
    }
    for path in DOCUMENTS {
        let text = tree.text(path);
        let shown = fenced_lines(text)
            .into_iter()
            .chain(spans(text).into_iter().map(str::to_owned));
        for command in shown {
            let words: Vec<&str> = command.split_whitespace().collect();
            for wrong in wrong_words(tree, &words) {
                breaches.push(format!(
                    "{path}: `{}`: {wrong}",
                    words.join(" ").trim_start_matches("$ ")
                ));
            }
        }
    }
    breaches
}

/// The files and tests that the documents name are there; `NAME` in a path is a placeholder.
pub fn references(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    for path in DOCUMENTS {
        for name in spans(tree.text(path)) {
            let (file, test) = name.split_once("::").unwrap_or((name, ""));
            let is_name = file
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            let is_below = file
                .split_once('/')
                .is_some_and(|(folder, _)| tree.has(folder));
            let is_file = ["/", ".rs", ".md", ".toml", ".grammar"]
                .iter()
                .any(|end| file.ends_with(end));
            if !(is_name && is_below && is_file) || file.contains("NAME") {
                continue;
            }
            if !tree.has(file) {
                breaches.push(format!(
                    "{path}: `{name}`: there is no {file}; name what there is"
                ));
            } else if !test.is_empty() {
                let function = test.rsplit("::").next().unwrap_or(test);
                let wanted = format!("fn {function}");
                if lines_with(&code(tree.text(file)), &wanted).next().is_none() {
                    breaches.push(format!(
                        "{path}: `{name}`: {file} has no `{wanted}`; name what there is"
                    ));
                }
            }
        }
    }
    breaches
}

/// What is wrong with a command line, if it calls a program of ours.
fn wrong_words(tree: &Tree, words: &[&str]) -> Vec<String> {
    let Some((program, arguments)) = program(words) else {
        return Vec::new();
    };
    let Some(subcommand) = arguments.first().filter(|word| !word.starts_with('-')) else {
        return Vec::new();
    };
    let passed_on = program
        .passes_on
        .iter()
        .filter(|(command, _)| command == subcommand);
    let files: Vec<&str> = program
        .commands
        .iter()
        .copied()
        .chain(passed_on.map(|(_, file)| *file))
        .collect();
    let mut wrong = Vec::new();
    if !has(tree, program.commands, &pascal(subcommand))
        && !quotes(tree, program.commands, subcommand)
    {
        wrong.push(format!(
            "{} has no command {subcommand}; show one that it has",
            program.commands.join(", ")
        ));
    }
    for option in arguments.iter().filter_map(|word| word.strip_prefix("--")) {
        let option = option.split('=').next().unwrap_or(option);
        let field = format!("{}:", option.replace('-', "_"));
        if !option.is_empty()
            && !has(tree, &files, &field)
            && !quotes(tree, &files, &format!("--{option}"))
        {
            wrong.push(format!(
                "{} has no option --{option}; show one that it has",
                files.join(", ")
            ));
        }
    }
    wrong
}

/// The program that a command line calls, and its arguments.
fn program<'w>(words: &'w [&'w str]) -> Option<(&'static Program, &'w [&'w str])> {
    let is_setting = |word: &&&str| {
        **word == "$"
            || word
                .split_once('=')
                .is_some_and(|(name, _)| is_variable(name))
    };
    let words = &words[words.iter().take_while(is_setting).count()..];
    let by_name = |name: &str| PROGRAMS.iter().find(|program| program.name == name);
    match words {
        ["cargo", "xtask", rest @ ..] => Some((by_name("cargo xtask")?, rest)),
        ["cargo", "run", rest @ ..] => {
            let package = rest.iter().skip_while(|word| **word != "-p").nth(1)?;
            let arguments = rest.iter().position(|word| *word == "--")? + 1;
            Some((by_name(package)?, &rest[arguments..]))
        }
        [program, rest @ ..] => Some((by_name(program.rsplit('/').next()?)?, rest)),
        [] => None,
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
}

/// Whether the code of one of the files has this name.
fn has(tree: &Tree, files: &[&str], name: &str) -> bool {
    files
        .iter()
        .any(|file| lines_with(&code(tree.text(file)), name).next().is_some())
}

/// Whether one of the files has this text in quotes.
fn quotes(tree: &Tree, files: &[&str], text: &str) -> bool {
    files
        .iter()
        .any(|file| tree.text(file).contains(&format!("\"{text}\"")))
}

/// As clap turns names around: `split-field` is the variant `SplitField`.
fn pascal(name: &str) -> String {
    let capital = |part: &str| part[..1].to_uppercase() + &part[1..];
    name.split('-')
        .filter(|part| part.is_ascii() && !part.is_empty())
        .map(capital)
        .collect()
}
