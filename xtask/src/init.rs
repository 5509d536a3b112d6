//! The init program, built statically for each machine into `dist/init/`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use paperclip_plugin_build::write_if_changed;

use crate::figures::{duration, size};
use crate::workspace::{self, Workspace, relative};
use crate::{process, toolchain};

const PACKAGE: &str = "paperclip-init";
/// The machines that the program is built for, as `uname -m` prints them.
const MACHINES: [&str; 2] = ["aarch64", "x86_64"];

/// The target of a build, and the flags with which it is static.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    name: String,
    flags: &'static [&'static str],
}

/// Builds the program for every machine for which this one can build it. Returns the machines. A host embeds what is there, and its agents run
/// without the program on other machines.
pub(crate) fn build(workspace: &Workspace) -> Result<Vec<&'static str>> {
    let folder = folder(workspace);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut built = Vec::new();
    for machine in MACHINES {
        let start = Instant::now();
        let path = folder.join(machine);
        let Some(target) = target(machine, prepare) else {
            process::note(&format!("init program for {machine}: not built, its target is not installed"));
            let _ = fs::remove_file(&path);
            continue;
        };
        let program = compile(workspace, &target)?;
        let bytes = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
        write_if_changed(&path, &bytes)?;
        process::note(&format!(
            "{}: {}, {}, built in {}",
            relative(&path, workspace),
            size(bytes.len() as u64),
            target.name,
            duration(start.elapsed())
        ));
        built.push(machine);
    }
    Ok(built)
}

/// Returns the folder from which the host embeds the programs.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.root.join("dist").join("init")
}

/// Returns how to build for a machine: for musl, else with a static C library for this machine itself.
fn target(machine: &str, is_ready: impl Fn(&str) -> bool) -> Option<Target> {
    let musl = format!("{machine}-unknown-linux-musl");
    if is_ready(&musl) {
        return Some(Target { name: musl, flags: &["-Clinker=rust-lld", "-Crelocation-model=static"] });
    }
    let is_own = cfg!(target_os = "linux") && machine == std::env::consts::ARCH;
    is_own.then(|| Target {
        name: format!("{machine}-unknown-linux-gnu"),
        flags: &["-Ctarget-feature=+crt-static", "-Crelocation-model=static"],
    })
}

/// Adds the target if it is missing and rustup has it.
fn prepare(target: &str) -> bool {
    let add = || process::run(Command::new("rustup").args(["target", "add", target])).is_ok();
    toolchain::is_installed(target) || add() && toolchain::is_installed(target)
}

fn compile(workspace: &Workspace, target: &Target) -> Result<PathBuf> {
    let flags: Vec<OsString> =
        target.flags.iter().map(OsString::from).chain(toolchain::registry_path_mapping()).collect();
    let mut cargo = workspace::cargo();
    cargo
        .current_dir(&workspace.root)
        .args(["build", "--package", PACKAGE, "--profile", "init", "--target", &target.name])
        // The separator of CARGO_ENCODED_RUSTFLAGS.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join(OsStr::new("\u{1f}")));
    process::build(&mut cargo)?;
    Ok(workspace.target.join(&target.name).join("init").join(PACKAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_musl_target_is_built_for_only_if_it_is_this_one() {
        let own = std::env::consts::ARCH;
        assert_eq!(target(own, |_| true).unwrap().name, format!("{own}-unknown-linux-musl"));
        assert_eq!(target(own, |_| false).unwrap().name, format!("{own}-unknown-linux-gnu"));
        assert_eq!(target("other", |_| false), None);
    }
}
