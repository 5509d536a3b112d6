//! Embeds the plugins that `cargo xtask wasm` has built, so that the program works alone.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let folder = Path::new(&root).join("../dist/plugins");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut plugins = Vec::new();
    if let Ok(entries) = fs::read_dir(&folder) {
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "wasm") {
                plugins.push(fs::canonicalize(path)?);
            }
        }
    }
    plugins.sort();
    let mut code = String::from("&[\n");
    for path in plugins {
        println!("cargo::rerun-if-changed={}", path.display());
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let _ = writeln!(code, "    ({name:?}, include_bytes!({:?})),", path.display().to_string());
    }
    code.push(']');
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("builtin_plugins.rs"), code)
}
