//! Embeds the init programs that `cargo xtask wasm` has built, one for each machine.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let folder = Path::new(&root).join("../../dist/init");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut programs = Vec::new();
    if let Ok(entries) = fs::read_dir(&folder) {
        for entry in entries {
            programs.push(fs::canonicalize(entry?.path())?);
        }
    }
    programs.sort();
    let mut code = String::from("&[\n");
    for path in programs {
        println!("cargo::rerun-if-changed={}", path.display());
        let machine = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let _ = writeln!(code, "    ({machine:?}, include_bytes!({:?})),", path.display().to_string());
    }
    code.push(']');
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("programs.rs"), code)
}
