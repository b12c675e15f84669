//! The public `gguf` Python package is the judge of what our bytes mean: it must list what we wrote, and we must
//! read what it wrote. Needs `python3` and a package index; prints `skipped:` where there is none.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use viseme_format::gguf::{DType, Reader, Value, Writer};

use crate::common;

const PACKAGE: &str = "gguf==0.19.0";

#[test]
fn the_peer_lists_what_we_wrote() {
    let Some(python) = python() else { return };
    let path = scratch("ours.gguf");
    // Every value type that the writer has, beside a whole model.
    let mut writer = Writer::new();
    common::spec().write(&mut writer).unwrap();
    writer.bool("test.yes", true).unwrap();
    writer.strs("test.none", []).unwrap();
    common::add_tensors(&mut writer);
    let bytes = writer.finish().unwrap();
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(peer(&python, "list", &path), listing(&bytes));
}

#[test]
fn we_read_what_the_peer_wrote() {
    let Some(python) = python() else { return };
    let path = scratch("theirs.gguf");
    peer(&python, "make", &path);
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(peer(&python, "list", &path), listing(&bytes));

    let file = Reader::open(&bytes).unwrap();
    assert!(
        file.tensor("matrix")
            .unwrap()
            .f32s()
            .unwrap()
            .eq([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    );
    assert!(file.tensor("bytes").unwrap().has_shape(&[5, 1, 2]));
    assert_eq!(file.value("f64"), Some(Value::F64(0.1)));
}

/// Our reader's view, in the words of `peer.py`.
fn listing(bytes: &[u8]) -> String {
    let file = Reader::open(bytes).unwrap();
    let mut out = String::new();
    for (key, value) in file.entries() {
        write!(out, "key {key}").unwrap();
        match value {
            Value::Array(array) => {
                write!(out, " ARRAY").unwrap();
                // The package does not know the element type of an empty array.
                if let Some(first) = array.iter().next() {
                    write!(out, " {}", kind(first)).unwrap();
                }
                array
                    .iter()
                    .for_each(|value| write!(out, " {}", hex(value)).unwrap());
            }
            value => write!(out, " {} {}", kind(value), hex(value)).unwrap(),
        }
        out.push('\n');
    }
    for tensor in file.tensors() {
        let dims: Vec<String> = tensor.dims().iter().map(ToString::to_string).collect();
        let dtype = match tensor.dtype {
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::I8 => "I8",
            DType::I16 => "I16",
            DType::I32 => "I32",
            DType::I64 => "I64",
            DType::F64 => "F64",
        };
        let digest: String = Sha256::digest(tensor.data)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        writeln!(
            out,
            "tensor {} {dtype} {} {digest}",
            tensor.name,
            dims.join(",")
        )
        .unwrap();
    }
    out
}

fn kind(value: Value<'_>) -> &'static str {
    match value {
        Value::U8(_) => "UINT8",
        Value::I8(_) => "INT8",
        Value::U16(_) => "UINT16",
        Value::I16(_) => "INT16",
        Value::U32(_) => "UINT32",
        Value::I32(_) => "INT32",
        Value::F32(_) => "FLOAT32",
        Value::Bool(_) => "BOOL",
        Value::Str(_) => "STRING",
        Value::Array(_) => "ARRAY",
        Value::U64(_) => "UINT64",
        Value::I64(_) => "INT64",
        Value::F64(_) => "FLOAT64",
    }
}

fn hex(value: Value<'_>) -> String {
    let bytes = match value {
        Value::U8(n) => n.to_le_bytes().to_vec(),
        Value::I8(n) => n.to_le_bytes().to_vec(),
        Value::U16(n) => n.to_le_bytes().to_vec(),
        Value::I16(n) => n.to_le_bytes().to_vec(),
        Value::U32(n) => n.to_le_bytes().to_vec(),
        Value::I32(n) => n.to_le_bytes().to_vec(),
        Value::F32(n) => n.to_le_bytes().to_vec(),
        Value::Bool(yes) => vec![u8::from(yes)],
        Value::Str(text) => text.as_bytes().to_vec(),
        Value::Array(_) => unreachable!("the reader refuses nested arrays"),
        Value::U64(n) => n.to_le_bytes().to_vec(),
        Value::I64(n) => n.to_le_bytes().to_vec(),
        Value::F64(n) => n.to_le_bytes().to_vec(),
    };
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn peer(python: &Path, what: &str, path: &Path) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/peer.py");
    let output = Command::new(python)
        .args([script, what])
        .arg(path)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A Python that has the package, in a virtual environment under the target directory.
fn python() -> Option<PathBuf> {
    // Both tests ask; one installs.
    static PYTHON: std::sync::OnceLock<Option<PathBuf>> = std::sync::OnceLock::new();
    PYTHON
        .get_or_init(|| install().map_err(|why| println!("skipped: {why}")).ok())
        .clone()
}

fn install() -> Result<PathBuf, String> {
    let folder = scratch(&format!("venv-{PACKAGE}"));
    let python = folder.join("bin/python");
    let ready = |python: &Path| run(Command::new(python).args(["-c", "import gguf"])).is_ok();
    if !ready(&python) {
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder))?;
        run(Command::new(&python).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            PACKAGE,
        ]))?;
    }
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}
