//! The files of the repository, its manifests, and what its documents say.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use toml::{Table, Value};

/// A text file.
pub struct File {
    /// Relative to the workspace, with slashes.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// All text files.
pub struct Tree {
    /// In the order of their paths.
    pub files: Vec<File>,
}

/// A `Cargo.toml` that describes a package.
pub struct Manifest<'t> {
    /// Its path.
    pub path: &'t str,
    /// Name of the package.
    pub name: String,
    /// Whether it is a member of the workspace.
    pub member: bool,
    /// All of it.
    pub table: Table,
}

impl Tree {
    /// The repository that this test is part of: what git tracks or is about to, else what its folder holds.
    pub fn of_the_repository() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut paths = tracked(&root).unwrap_or_else(|| found(&root));
        paths.sort();
        // What is no text is no concern of these rules.
        let text = |path: String| {
            let text = fs::read_to_string(root.join(&path)).ok()?;
            Some(File { path, text })
        };
        let files: Vec<File> = paths.into_iter().filter_map(text).collect();
        assert!(
            files.len() > 100,
            "the repository has more files than {}",
            files.len()
        );
        Self { files }
    }

    /// A tree for trying a rule.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let file = |&(path, text): &(&str, &str)| File {
            path: path.into(),
            text: text.into(),
        };
        Self {
            files: files.iter().map(file).collect(),
        }
    }

    /// The text of a file; empty if there is none.
    pub fn text(&self, path: &str) -> &str {
        self.files
            .iter()
            .find(|file| file.path == path)
            .map_or("", |file| &file.text)
    }

    /// Whether there is such a file or folder.
    pub fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let below = |file: &File| {
            let rest = file.path.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.files.iter().any(below)
    }

    /// The files whose names end so.
    pub fn ending<'t>(&'t self, end: &'t str) -> impl Iterator<Item = &'t File> {
        self.files
            .iter()
            .filter(move |file| file.path.ends_with(end))
    }

    /// The workspace's own manifest.
    pub fn workspace(&self) -> Table {
        let table = parse("Cargo.toml", self.text("Cargo.toml"));
        get(&table, "workspace").cloned().unwrap_or_default()
    }

    /// The packages' manifests.
    pub fn manifests(&self) -> Vec<Manifest<'_>> {
        let workspace = self.workspace();
        let members = strings(workspace.get("members"));
        let manifest = |file: &'_ File| {
            let table = parse(&file.path, &file.text);
            let name = get(&table, "package")?.get("name")?.as_str()?.to_owned();
            let folder = file
                .path
                .trim_end_matches("Cargo.toml")
                .trim_end_matches('/');
            Some((name, members.contains(folder), table))
        };
        let manifests = self.ending("Cargo.toml").filter_map(|file| {
            let (name, member, table) = manifest(file)?;
            Some(Manifest {
                path: &file.path,
                name,
                member,
                table,
            })
        });
        manifests.collect()
    }
}

impl Manifest<'_> {
    /// A field of `[package]`.
    pub fn package(&self, field: &str) -> Option<&Value> {
        get(&self.table, "package")?.get(field)
    }

    /// The packages that it names under keys such as `dependencies`, for any target.
    pub fn dependencies(&self, keys: &[&str]) -> BTreeSet<String> {
        let targets = get(&self.table, "target").into_iter().flatten();
        let targets = targets.filter_map(|(_, target)| target.as_table());
        let tables = targets.chain([&self.table]);
        let lists = tables.flat_map(|table| keys.iter().filter_map(|key| get(table, key)));
        let package = |(key, value): (&String, &Value)| {
            let renamed = value.get("package").and_then(Value::as_str);
            renamed.unwrap_or(key).to_owned()
        };
        lists.flat_map(|list| list.iter().map(package)).collect()
    }
}

/// The table within a table.
pub fn get<'t>(table: &'t Table, key: &str) -> Option<&'t Table> {
    table.get(key)?.as_table()
}

/// A list of strings.
fn strings(value: Option<&Value>) -> BTreeSet<String> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|value| Some(value.as_str()?.to_owned()))
        .collect()
}

/// The rows of the first table below the heading, each a list of cells, without the table's head.
pub fn table<'t>(document: &'t str, heading: &str) -> Vec<Vec<&'t str>> {
    let below = document
        .lines()
        .skip_while(|line| !(line.starts_with('#') && line.contains(heading)));
    let rows = below
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let cells = |row: &'t str| {
        row.trim()
            .trim_matches('|')
            .split('|')
            .map(str::trim)
            .collect()
    };
    rows.skip(2).map(cells).collect()
}

/// What stands in single backticks.
pub fn spans(markdown: &str) -> Vec<&str> {
    let outside_fences = markdown.split("```").step_by(2);
    outside_fences
        .flat_map(|text| text.split('`').skip(1).step_by(2))
        .collect()
}

/// Lines of fenced blocks, those that a backslash continues joined.
pub fn fenced_lines(markdown: &str) -> Vec<String> {
    let blocks = markdown.split("```").skip(1).step_by(2);
    let joined = blocks.map(|block| block.replace("\\\n", " "));
    joined
        .flat_map(|block| block.lines().skip(1).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

fn parse(path: &str, text: &str) -> Table {
    text.parse()
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What git tracks and what it would add; `None` where there is no git, or no repository.
fn tracked(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args([
            "-c",
            "safe.directory=*",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let list = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<String> = list
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
        .collect();
    (!paths.is_empty()).then_some(paths)
}

/// All files below `root` but those in folders that the root's `.gitignore` names.
fn found(root: &Path) -> Vec<String> {
    let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let is_left_out = |folder: &Path| {
        let name = folder.file_name().unwrap_or_default();
        let names = |line: &str| match line.strip_prefix('/') {
            Some(at_the_root) => root.join(at_the_root) == folder,
            None => name == line.trim_end_matches('/'),
        };
        name == ".git" || ignored.lines().any(names)
    };
    let mut folders: Vec<PathBuf> = vec![root.to_owned()];
    let mut paths = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.is_symlink() {
                folders.extend((!is_left_out(&path)).then_some(path));
            } else if let Ok(path) = path.strip_prefix(root) {
                paths.push(path.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    paths
}
