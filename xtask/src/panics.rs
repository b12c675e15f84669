//! `cargo xtask panics`: what a session can reach that panics, found in the compiled library.
//!
//! The crate `tests/hotpath` is compiled for bare metal into one object. From its functions every reference is followed, those
//! to constants too, so that kernels behind a table of functions count as called.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::elf::{Object, Target as Referred, objects};
use crate::run::{Failure, root, step};
use crate::toolchain::{Target, Toolchain};

/// Targets, and what makes all of their kernels part of the library.
const TARGETS: [(Target, &str); 2] = [
    (Target::Aarch64Bare, "-Ctarget-feature=+dotprod,+i8mm"),
    (Target::ThumbV7em, "-Ctarget-cpu=cortex-m4"),
];

/// Kernels of the face detector, which no session calls: their shapes are checked where they begin.
const NOT_CALLED: [&str; 3] = ["::pointwise_row", "::depthwise_row", "::dense_row_stride2"];

/// Prints what can panic.
pub fn panics(rest: &[String]) -> Result<(), Failure> {
    if let Some(extra) = rest.first() {
        return Err(Failure::usage(format!(
            "`panics` takes no arguments, not `{extra}`"
        )));
    }
    let mut found = 0;
    for (target, flags) in TARGETS {
        let what = format!("panics of a session on {}", target.triple());
        let toolchain = match Toolchain::new(target) {
            Ok(toolchain) => toolchain.apart("hotpath"),
            Err(install) => {
                eprintln!("── skipped: {what}: {install}");
                continue;
            }
        };
        let mut build = toolchain.cargo("build");
        build.args(["--quiet", "--release", "--manifest-path"]);
        build.arg(root().join("tests/hotpath/Cargo.toml"));
        build.env("RUSTFLAGS", flags);
        step(&what, &mut build)?;
        let library = toolchain.folder("release").join("libviseme_hotpath.a");
        let library = std::fs::read(&library)
            .map_err(|e| Failure::usage(format!("cannot read {}: {e}", library.display())))?;
        let objects = objects(&library)
            .ok_or_else(|| Failure::usage("the library is cut off; delete target/hotpath"))?;
        let places = reachable(&objects)
            .ok_or_else(|| Failure::usage("the library has no functions hot_*"))?;
        for (file, (lines, functions)) in by_file(places) {
            found += 1;
            println!(
                "{file}:{} can panic, in {}",
                lines.join(","),
                functions.join(", ")
            );
        }
    }
    if found == 0 {
        Ok(())
    } else {
        Err(Failure::usage(format!(
            "{found} files of the hot path can panic; check once, where data comes in, and use what cannot fail behind"
        )))
    }
}

type Places = BTreeMap<String, BTreeSet<(String, u64)>>;

/// Lines and compiled functions of each file of the source.
fn by_file(places: Places) -> BTreeMap<String, (Vec<String>, Vec<String>)> {
    let mut lines: BTreeMap<_, (BTreeSet<u64>, BTreeSet<String>)> = BTreeMap::new();
    for (function, places) in places {
        for (file, line) in places {
            let of = lines.entry(file).or_default();
            of.0.insert(line);
            of.1.insert(function.clone());
        }
    }
    let words = |lines: BTreeSet<u64>| lines.iter().map(u64::to_string).collect();
    lines
        .into_iter()
        .map(|(file, (l, f))| (file, (words(l), f.into_iter().collect())))
        .collect()
}

/// Functions that a session reaches and that call a panic of the core library, and where in the source they do.
fn reachable(objects: &[Object]) -> Option<Places> {
    let mut by_name = HashMap::new();
    for (o, object) in objects.iter().enumerate() {
        for (name, section) in &object.symbols {
            by_name.entry(name.as_str()).or_insert((o, *section));
        }
    }
    let referred = |(o, s): (usize, usize)| {
        let references = objects[o].sections[s].references.iter();
        references
            .filter_map(|(_, target)| match target {
                Referred::Section(s, _) => Some((o, *s)),
                Referred::Name(name) => by_name.get(name.as_str()).copied(),
            })
            .collect::<Vec<_>>()
    };
    let name = |(o, s): (usize, usize)| plain(&objects[o].sections[s].name);
    let mut todo: Vec<_> = (by_name.iter())
        .filter(|(name, _)| name.starts_with("hot_"))
        .map(|(_, &at)| at)
        .collect();
    let mut places = BTreeMap::new();
    let mut seen = BTreeSet::new();
    if todo.is_empty() {
        return None;
    }
    while let Some(at) = todo.pop() {
        let name_here = name(at);
        if NOT_CALLED.iter().any(|n| name_here.ends_with(n)) || !seen.insert(at) {
            continue;
        }
        let next = referred(at);
        if next.iter().any(|&next| is_panic(&name(next))) {
            let here = next.iter().filter_map(|&(o, s)| location(&objects[o], s));
            let mut here: BTreeSet<_> = here.collect();
            if here.is_empty() {
                let calls = next.iter().map(|&next| name(next)).filter(|n| is_panic(n));
                here.extend(calls.map(|call| (call, 0)));
            }
            places.insert(name_here, here);
        }
        todo.extend(next.into_iter().filter(|&next| !is_panic(&name(next))));
    }
    Some(places)
}

/// Functions of the core library that end in a panic.
fn is_panic(name: &str) -> bool {
    let ends = [
        "_fail",
        "_failed",
        "_failed_rt",
        "_fail_rt",
        "_mismatch_fail",
        "_error",
    ];
    name.starts_with("core::panicking::")
        || name.contains("rust_begin_unwind")
        || (name.starts_with("core::") || name.starts_with("alloc::"))
            && ends.iter().any(|end| name.ends_with(end))
}

/// The `core::panic::Location` of this section, if it is one: address and length of the file's name, line and column.
fn location(object: &Object, section: usize) -> Option<(String, u64)> {
    let (word, section) = (object.word, &object.sections[section]);
    let number = |at: usize, size: usize| {
        let bytes = section.data.get(at..at + size)?.iter().rev();
        Some(bytes.fold(0u64, |v, &b| v << 8 | u64::from(b)))
    };
    if section.code || section.data.len() != 2 * word + 8 {
        return None;
    }
    let (_, Referred::Section(file, from)) = section.references.iter().find(|(at, _)| *at == 0)?
    else {
        return None;
    };
    let file = &object.sections[*file].data;
    let file = file
        .get(*from..)?
        .get(..usize::try_from(number(word, word)?).ok()?)?;
    let file = String::from_utf8_lossy(file).into_owned();
    let file = file
        .rsplit_once("/runtime/")
        .map_or(file.clone(), |(_, f)| format!("runtime/{f}"));
    Some((file, number(2 * word, 4)?))
}

/// A Rust symbol as it is written in a program: all of the first mangling (`_ZN`), of the second (`_R`) the names only.
fn plain(symbol: &str) -> String {
    let first = symbol.starts_with("_ZN");
    let mut rest = symbol;
    let mut parts = Vec::new();
    while let Some(c) = rest.chars().next() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits > 0 {
            let len = rest[..digits].parse::<usize>().unwrap_or(0);
            let name = rest[digits..].strip_prefix('_').filter(|_| !first);
            let name = name.unwrap_or(&rest[digits..]);
            let (part, after) = name.split_at_checked(len).unwrap_or((name, ""));
            parts.push(part);
            rest = after;
        } else if !first && matches!(c, 's' | 'B') {
            // A number in base 62 that tells apart what has the same name, or repeats an earlier one.
            rest = rest.split_once('_').map_or("", |(_, after)| after);
        } else {
            rest = &rest[c.len_utf8()..];
        }
    }
    if !symbol.starts_with("_R") && !first {
        return symbol.to_owned();
    }
    if first {
        // A hash.
        parts.pop();
    }
    let escapes = [
        ("$LT$", "<"),
        ("$GT$", ">"),
        ("$u20$", " "),
        ("$RF$", "&"),
        ("..", "::"),
    ];
    let plain = parts.join("::");
    let plain = escapes
        .iter()
        .fold(plain, |p, (from, to)| p.replace(from, to));
    plain.trim_start_matches('_').to_owned()
}
