//! Other engines: their libraries and programs, fetched and built into a folder below target when they are first asked
//! for. Nothing here is part of a default build.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// ONNX Runtime as a library, and its quantiser; the release that `ort` 2.0.0-rc.15 was tried with.
const ONNXRUNTIME: [&str; 3] = ["onnxruntime==1.31.1", "onnx", "numpy"];

/// PyTorch as a registry has it, some 6 GB with the libraries for GPUs that it does not start without.
const TORCH: [&str; 3] = ["torch==2.14.1", "onnx", "numpy"];

/// The release that the headers in `litert` 0.2.1 belong to; the C interface of later ones differs.
const LITERT: &str = "ai-edge-litert==2.1.4";

/// TensorFlow Lite 2.9 with its C interface, the newest that a registry has as a library.
const TFLITE: &str = "tfjs-tflite-node@0.0.2";

/// The headers that `tflitec` 0.7.0 reads, where release 2.19 has them; and what we give it for them: those of 2.9, which
/// has everything in the first two.
const TFLITE_HEADERS: [(&str, &str); 7] = [
    ("tensorflow/lite/c/c_api.h", "c_api.h"),
    ("tensorflow/lite/core/c/c_api_types.h", "c_api_types.h"),
    ("tensorflow/lite/core/c/c_api.h", ""),
    ("tensorflow/lite/core/c/operator.h", ""),
    ("tensorflow/lite/core/async/c/types.h", ""),
    ("tensorflow/lite/builtin_ops.h", ""),
    ("tensorflow/compiler/mlir/lite/core/c/tflite_types.h", ""),
];

/// Declarations that are missing there.
const TFLITE_NEWER: &str = include_str!("tensorflowlite.h");

/// What quantises weights of matrix products to int8 and their inputs while running. Convolutions stay f32: as
/// ConvInteger they are slower.
const QUANTISE: &str = "
import sys
from onnxruntime.quantization import QuantType, quantize_dynamic
for source, target in zip(sys.argv[1::2], sys.argv[2::2]):
    quantize_dynamic(source, target, weight_type=QuantType.QInt8, op_types_to_quantize=['MatMul'])
";

/// Where everything is put.
pub struct Workshop {
    folder: PathBuf,
    manifest: PathBuf,
}

/// A program that speaks the protocol, and what it needs to know.
pub struct Program {
    path: PathBuf,
    arguments: Vec<PathBuf>,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Program {
    /// To start it with.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }
}

impl Workshop {
    /// In `target/peers`.
    pub fn new(root: &Path) -> Self {
        Self {
            folder: root.join("target/peers"),
            manifest: root.join("bench/peers/Cargo.toml"),
        }
    }

    /// Builds a peer: `ort`, `litert`, `tract` or `rten`.
    ///
    /// # Errors
    /// One line: why there is none.
    pub fn peer(&self, name: &str) -> Result<Program, String> {
        let environment = match name {
            "ort" => vec![("ORT_DYLIB_PATH", self.onnxruntime()?)],
            "litert" => {
                let folder = self.litert()?;
                vec![
                    ("LITERT_LIB_DIR", folder.clone()),
                    ("LD_LIBRARY_PATH", folder),
                ]
            }
            _ => Vec::new(),
        };
        let target = self.folder.join("build");
        let package = format!("peer-{name}");
        let path = target.join("release").join(&package);
        if !path.exists() {
            eprintln!("── building {package}, once");
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args([
                "build",
                "--quiet",
                "--release",
                "--locked",
                "--manifest-path",
            ])
            .arg(&self.manifest)
            .args(["--package", &package, "--target-dir"])
            .arg(&target)
            .envs(environment.iter().map(|(key, value)| (key, value)));
        run(&mut command)?;
        Ok(Program {
            path,
            arguments: Vec::new(),
            environment,
        })
    }

    /// PyTorch, which runs ONNX files.
    ///
    /// # Errors
    /// One line: why there is none.
    pub fn torch(&self) -> Result<Program, String> {
        let script = self.manifest.with_file_name("torch").join("peer.py");
        Ok(Program {
            path: self.python("torch", &TORCH)?,
            arguments: vec![script],
            environment: Vec::new(),
        })
    }

    /// The variables with which the crates `litert` and `tflitec` are built, and what is made of them is run.
    ///
    /// # Errors
    /// One line: why there are none.
    pub fn libraries(&self) -> Result<Vec<(&'static str, OsString)>, String> {
        let (litert, (tflite, headers)) = (self.litert()?, self.tflite()?);
        let folders = [litert.as_path(), tflite.parent().unwrap_or(&tflite)];
        let folders = std::env::join_paths(folders).map_err(|e| e.to_string())?;
        Ok(vec![
            ("LITERT_LIB_DIR", litert.into()),
            ("TFLITEC_PREBUILT_PATH", tflite.into()),
            ("TFLITEC_HEADER_DIR", headers.into()),
            ("LD_LIBRARY_PATH", folders),
        ])
    }

    /// Quantises ONNX files: from, to, from, to, …
    ///
    /// # Errors
    /// One line: why it cannot be done.
    pub fn quantise(&self, files: &[PathBuf]) -> Result<(), String> {
        let python = self.python("python", &ONNXRUNTIME)?;
        run(Command::new(python).args(["-c", QUANTISE]).args(files)).map(drop)
    }

    /// The library of ONNX Runtime.
    fn onnxruntime(&self) -> Result<PathBuf, String> {
        let python = self.python("python", &ONNXRUNTIME)?;
        let script = "import onnxruntime; print(onnxruntime.__path__[0])";
        let package = run(Command::new(python).args(["-c", script]))?;
        let folder = Path::new(package.trim()).join("capi");
        let entries = fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let is_library = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libonnxruntime.so") || name.ends_with(".dylib")
        };
        let mut libraries = entries.flatten().map(|entry| entry.path());
        let found = libraries.find(is_library);
        found.ok_or_else(|| format!("{} holds no library", folder.display()))
    }

    /// A Python with these packages, in a folder of this name.
    fn python(&self, name: &str, packages: &[&str]) -> Result<PathBuf, String> {
        let folder = self.folder.join(name);
        let python = folder.join("bin/python");
        let wanted = packages.join("\n");
        self.once(name, &wanted, || {
            eprintln!("── installing {}, once", packages[0]);
            run(Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&folder))?;
            let pip = [
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ];
            run(Command::new(&python).args(pip).args(packages)).map(drop)
        })?;
        Ok(python)
    }

    /// The folder of LiteRT's library, out of its Python package.
    fn litert(&self) -> Result<PathBuf, String> {
        let folder = self.folder.join("litert");
        self.once("litert", LITERT, || {
            eprintln!("── fetching {LITERT}, once");
            let python = self.python("python", &ONNXRUNTIME)?;
            let wheels = self.folder.join("wheels");
            let platform = format!("manylinux_2_27_{}", std::env::consts::ARCH);
            let pip = [
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
            ];
            let only = [
                "--no-deps",
                "--only-binary=:all:",
                "--python-version",
                "311",
            ];
            let mut download = Command::new(&python);
            download
                .args(pip)
                .args(only)
                .args(["--platform", &platform, LITERT]);
            run(download.arg("--dest").arg(&wheels))?;
            let wheel = fs::read_dir(&wheels)
                .ok()
                .and_then(|mut all| all.next()?.ok());
            let wheel = wheel.ok_or("pip downloaded nothing")?.path();
            let mut unpack = Command::new(&python);
            unpack.args(["-m", "zipfile", "-e"]).arg(wheel).arg(&folder);
            run(&mut unpack).map(drop)
        })?;
        Ok(folder.join("ai_edge_litert"))
    }

    /// TensorFlow Lite's library out of a package for Node, and the folder of the headers that `tflitec` wants.
    fn tflite(&self) -> Result<(PathBuf, PathBuf), String> {
        let folder = self.folder.join("tflite");
        let (package, headers) = (folder.join("package/cc_deps"), folder.join("headers"));
        self.once("tflite", &[TFLITE, TFLITE_NEWER].join("\n"), || {
            eprintln!("── fetching {TFLITE}, once");
            let tell = |e: std::io::Error| format!("cannot write {}: {e}", folder.display());
            fs::create_dir_all(&folder).map_err(tell)?;
            let npm = ["pack", "--silent", TFLITE];
            let printed = run(Command::new("npm").args(npm).current_dir(&folder))?;
            let tarball = printed.lines().last().ok_or("npm downloaded nothing")?;
            run(Command::new("tar")
                .args(["-xzf", tarball])
                .current_dir(&folder))?;
            for (to, from) in TFLITE_HEADERS {
                let text = match from {
                    "" => String::new(),
                    from => {
                        let from = package.join("include/tensorflow/lite/c").join(from);
                        fs::read_to_string(from).map_err(tell)?
                    }
                };
                let mut text = text.replace("lite/c/c_api_types.h", "lite/core/c/c_api_types.h");
                if from == "c_api.h" {
                    text += TFLITE_NEWER;
                }
                let to = headers.join(to);
                fs::create_dir_all(to.parent().unwrap_or(&headers)).map_err(tell)?;
                fs::write(&to, text).map_err(tell)?;
            }
            Ok(())
        })?;
        let (os, end) = match std::env::consts::OS {
            "macos" => ("darwin", "dylib"),
            other => (other, "so"),
        };
        let cpu = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let library = package.join(format!("{os}_{cpu}/libtensorflowlite_c.{end}"));
        match library.exists() {
            true => Ok((library, headers)),
            false => Err(format!("{TFLITE} has no library for {os} on {cpu}")),
        }
    }

    /// Does something unless it has been done for the same packages.
    fn once(
        &self,
        name: &str,
        wanted: &str,
        make: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), String> {
        let done = self.folder.join(format!("{name}.installed"));
        if fs::read_to_string(&done).is_ok_and(|found| found == wanted) {
            return Ok(());
        }
        let tell = |e: std::io::Error| format!("cannot write {}: {e}", self.folder.display());
        fs::create_dir_all(&self.folder).map_err(tell)?;
        make()?;
        fs::write(&done, wanted).map_err(tell)
    }
}

/// Runs a program; returns what it printed, or the last line of what it complained of.
fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("cannot start {name}: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let errors = said.lines().filter(|line| line.contains("rror"));
    let line = errors
        .chain(said.lines().rev())
        .find(|line| !line.trim().is_empty());
    Err(format!("{name}: {}", line.unwrap_or("failed").trim()))
}
