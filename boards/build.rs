//! Lists `data/*.toml`, so that adding a board is adding a file.

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=data");
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("data");
    let files = fs::read_dir(&folder).expect("the folder boards/data is there");
    let mut files: Vec<_> = files
        .map(|file| file.expect("a readable entry").path())
        .collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "toml")
    });
    files.sort();

    let mut code = String::from("&[\n");
    for path in files {
        let id = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        code += &format!("({id:?}, include_str!({path:?})),\n");
    }
    code += "]\n";
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("boards.rs"), code).expect("the output folder is writable");
}
