//! Which compiler builds the plugins.
//!
//! A plugin needs Rust's standard library for `wasm32-unknown-unknown`. rustup provides it; where rustup cannot, Debian's
//! compiler builds it from Debian's package of its source.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::figures::duration;
use crate::process;
use crate::workspace::{self, WASM_TARGET, Workspace};

/// How to choose the compiler of the plugins.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct Selection {
    /// The compiler for the plugins. Default: the first that works of the installed wasm target, `rustup target add`, the
    /// system's compiler, and the system's compiler after its installation.
    #[arg(long, value_enum, env = "PAPERCLIP_WASM_TOOLCHAIN")]
    pub(crate) toolchain: Option<Toolchain>,
}

/// A family of compilers that the command line can select.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The compiler on PATH, with its `wasm32-unknown-unknown` target: installed, or added by rustup
    Rustup,
    /// Debian's compiler in /usr/bin, which builds the standard library from Debian's package of its source
    System,
}

/// The compilers and permissions of this machine.
#[derive(Debug, Clone)]
struct Facts {
    /// The compiler on PATH has the target's standard library.
    is_target_installed: bool,
    has_rustup: bool,
    /// Packages that the system's compiler lacks. None if it can be used.
    system_lacks: Vec<&'static str>,
    /// `apt-get` exists, and the user is root.
    may_install_packages: bool,
}

/// A way to get a compiler for plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    InstalledTarget,
    AddTarget,
    System,
    InstallSystem,
}

/// A compiler that is ready to build plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// The one on PATH.
    Path,
    /// The system's, which builds the standard library too.
    System,
}

/// What Debian's compiler needs to build plugins: each package with a file that shows that it is installed.
const SYSTEM_PARTS: [(&str, &str); 5] = [
    ("rustc-web", "/usr/bin/rustc"),
    ("cargo-web", "/usr/bin/cargo"),
    ("rust-web-src", "/usr/lib/rustlib/src/rust/library/std/src/lib.rs"),
    ("rust-web-llvm", "/usr/bin/rust-lld"),
    // A link to the linker; it is dangling if the package is missing.
    ("lld-22", "/usr/bin/rust-lld"),
];

/// Finds a compiler and prepares it: uses the first way that works, and prints which one it is.
pub(crate) fn prepare(selection: Selection) -> Result<Compiler> {
    let start = Instant::now();
    let facts = Facts::of_this_machine();
    let mut failures = Vec::new();
    for way in ways(selection.toolchain, &facts)? {
        match way.prepare() {
            Ok(compiler) => {
                process::note(&format!(
                    "plugin compiler: {} ({})",
                    way.describe(),
                    duration(start.elapsed())
                ));
                return Ok(compiler);
            }
            Err(error) => failures.push(format!("{}: {error:#}", way.describe())),
        }
    }
    bail!("no compiler for plugins: {}\n{}", failures.join("; "), hint(&facts));
}

impl Compiler {
    /// Returns a cargo command that builds for the plugins' target; the caller adds the packages.
    pub(crate) fn build(self, workspace: &Workspace) -> Command {
        let mut command = match self {
            Self::Path => {
                let mut command = workspace::cargo();
                command.args(["build", "--target", WASM_TARGET]);
                command
            }
            Self::System => system_build(workspace),
        };
        command.env("CARGO_ENCODED_RUSTFLAGS", rustflags());
        command
    }
}

/// `-Z build-std` is Cargo's unstable way to build the standard library; RUSTC_BOOTSTRAP lets a stable Cargo accept it.
fn system_build(workspace: &Workspace) -> Command {
    let mut command = Command::new("/usr/bin/cargo");
    for (name, _) in workspace::cargo().get_envs() {
        command.env_remove(name);
    }
    command
        // rustup sets it to the libraries of another compiler.
        .env_remove("LD_LIBRARY_PATH")
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["build", "--target", WASM_TARGET, "-Zbuild-std=std,panic_abort", "--target-dir"])
        .arg(workspace.target.join("wasm-system"));
    command
}

/// Adapts a plugin's code to metered execution: together they parse output a tenth faster, long lines a quarter faster
/// (`cargo xtask bench parse`), for 48 KiB of code.
const CODE_GENERATION: [&str; 2] = [
    // A jump table becomes an indirect jump whose index is guarded against speculation; a few comparisons cost less.
    "-Cjump-tables=no",
    // A call costs more than LLVM assumes, because it stores and loads the meter. The default weight of an instruction is 5.
    "-Cllvm-args=-inline-instr-cost=4",
];
/// SHA-256 in a loop: unrolled it has 7 KiB more, and a plugin digests little.
const COMPACT_SHA2: &str = "--cfg=sha2_backend_soft=\"compact\"";

/// [`CODE_GENERATION`], [`COMPACT_SHA2`], and a path mapping that makes builds reproducible: panics name files of dependencies relative to the
/// registry, not to the builder's home. The same compiler and sources give the same bytes everywhere, whatever RUSTFLAGS is here.
fn rustflags() -> OsString {
    let mut flags: Vec<OsString> = CODE_GENERATION.map(OsString::from).to_vec();
    flags.push(COMPACT_SHA2.into());
    flags.extend(registry_path_mapping());
    // The separator of CARGO_ENCODED_RUSTFLAGS.
    flags.join(OsStr::new("\u{1f}"))
}

/// Returns the flag that names files of dependencies relative to the registry.
pub(crate) fn registry_path_mapping() -> Option<OsString> {
    let home = std::env::var_os("CARGO_HOME")
        .map(std::path::PathBuf::from)
        .or_else(|| Some(std::env::home_dir()?.join(".cargo")))?;
    let mut remap = OsString::from("--remap-path-prefix=");
    remap.push(home.join("registry").join("src"));
    remap.push("=registry");
    Some(remap)
}

/// Returns the ways to try, in order.
fn ways(selected: Option<Toolchain>, facts: &Facts) -> Result<Vec<Way>> {
    let mut ways = Vec::new();
    if selected != Some(Toolchain::System) {
        if facts.is_target_installed {
            // A build that fails with this one is the plugin's fault: another compiler does not help.
            return Ok(vec![Way::InstalledTarget]);
        }
        if facts.has_rustup {
            ways.push(Way::AddTarget);
        }
    }
    if selected != Some(Toolchain::Rustup) {
        if facts.system_lacks.is_empty() {
            ways.push(Way::System);
        } else if facts.may_install_packages {
            ways.push(Way::InstallSystem);
        }
    }
    if ways.is_empty() {
        bail!("no compiler for plugins.\n{}", hint(facts));
    }
    Ok(ways)
}

fn hint(facts: &Facts) -> String {
    let packages: Vec<_> = SYSTEM_PARTS.iter().map(|(package, _)| *package).collect();
    let lacking = if facts.system_lacks.is_empty() { &packages } else { &facts.system_lacks };
    format!(
        "Either `rustup target add {WASM_TARGET}`, or, on Debian and as root, `apt-get install --no-install-recommends {}`.",
        lacking.join(" ")
    )
}

impl Facts {
    fn of_this_machine() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_root = || process::output(Command::new("id").arg("-u")).is_ok_and(|id| id == "0");
        Self {
            is_target_installed: is_installed(WASM_TARGET),
            has_rustup: process::find_program("rustup", &path).is_some(),
            system_lacks: SYSTEM_PARTS
                .into_iter()
                .filter(|(_, file)| !Path::new(file).exists())
                .map(|(package, _)| package)
                .collect(),
            may_install_packages: process::find_program("apt-get", &path).is_some() && is_root(),
        }
    }
}

/// Returns whether the compiler on PATH has the standard library of a target.
pub(crate) fn is_installed(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut query = Command::new(rustc);
    query.args(["--print", "target-libdir", "--target", target]).stderr(Stdio::null());
    let Ok(folder) = process::output(&mut query) else { return false };
    // The folder also exists for targets of which only `core` is installed.
    let Ok(files) = std::fs::read_dir(folder) else { return false };
    files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
}

impl Way {
    fn describe(self) -> &'static str {
        match self {
            Self::InstalledTarget => "rustc on PATH, its wasm32-unknown-unknown target is installed",
            Self::AddTarget => "rustc on PATH, its wasm32-unknown-unknown target added by rustup",
            Self::System => "the system's /usr/bin/rustc, which builds the standard library too",
            Self::InstallSystem => {
                "the system's /usr/bin/rustc, installed by apt-get, which builds the standard library too"
            }
        }
    }

    fn prepare(self) -> Result<Compiler> {
        match self {
            Self::InstalledTarget => Ok(Compiler::Path),
            Self::AddTarget => {
                process::run(Command::new("rustup").args(["target", "add", WASM_TARGET]))?;
                if !is_installed(WASM_TARGET) {
                    bail!("rustup has added the target, but rustc on PATH is not rustup's");
                }
                Ok(Compiler::Path)
            }
            Self::System => Ok(Compiler::System),
            Self::InstallSystem => {
                let apt_get = || {
                    let mut command = Command::new("apt-get");
                    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).arg("--quiet");
                    command
                };
                process::run(apt_get().arg("update"))?;
                let packages = SYSTEM_PARTS.iter().map(|(package, _)| package);
                process::run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages))
                    .context("Debian's compiler cannot be installed")?;
                Ok(Compiler::System)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: Facts = Facts {
        is_target_installed: false,
        has_rustup: false,
        system_lacks: Vec::new(),
        may_install_packages: false,
    };

    fn bare_without_system() -> Facts {
        Facts { system_lacks: vec!["rust-web-src", "lld-22"], ..BARE }
    }

    #[test]
    fn installed_target_is_the_only_way_tried() {
        let facts = Facts { is_target_installed: true, has_rustup: true, may_install_packages: true, ..BARE };
        assert_eq!(ways(None, &facts).unwrap(), [Way::InstalledTarget]);
        assert_eq!(ways(Some(Toolchain::Rustup), &facts).unwrap(), [Way::InstalledTarget]);
    }

    #[test]
    fn rustup_comes_before_the_system() {
        assert_eq!(ways(None, &Facts { has_rustup: true, ..BARE }).unwrap(), [Way::AddTarget, Way::System]);
        assert_eq!(ways(None, &BARE).unwrap(), [Way::System]);
    }

    #[test]
    fn packages_are_installed_only_if_missing_and_permitted() {
        let permitted = Facts { may_install_packages: true, has_rustup: true, ..bare_without_system() };
        assert_eq!(ways(None, &permitted).unwrap(), [Way::AddTarget, Way::InstallSystem]);
        assert_eq!(
            ways(None, &Facts { system_lacks: Vec::new(), ..permitted }).unwrap(),
            [Way::AddTarget, Way::System]
        );
    }

    #[test]
    fn selected_toolchain_is_the_only_one_tried() {
        let facts = Facts { is_target_installed: true, has_rustup: true, ..BARE };
        assert_eq!(ways(Some(Toolchain::System), &facts).unwrap(), [Way::System]);
        let facts = Facts { has_rustup: true, may_install_packages: true, ..bare_without_system() };
        assert_eq!(ways(Some(Toolchain::Rustup), &facts).unwrap(), [Way::AddTarget]);
        assert_eq!(ways(Some(Toolchain::System), &facts).unwrap(), [Way::InstallSystem]);
    }

    #[test]
    fn error_names_what_to_install() {
        let error = ways(None, &bare_without_system()).unwrap_err().to_string();
        assert!(error.contains("rustup target add wasm32-unknown-unknown"), "{error}");
        assert!(error.contains("apt-get install --no-install-recommends rust-web-src lld-22"), "{error}");
    }
}
