//! `cargo xtask dist`: the files of a release, in `dist/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::figures::{duration, size};
use crate::process;
use crate::toolchain;
use crate::wasm;
use crate::workspace::{self, Workspace, relative};

/// Builds the files of a release: dist/paperclip-host and dist/plugins/TYPE.wasm, where TYPE is the agent type.
///
/// Builds the plugins as `cargo xtask wasm` does, then the host with the profile `release`, which embeds them: the one file
/// works alone. Prints the size of each file and the time of each stage.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    toolchain: toolchain::Selection,

    /// Build the host without this part. `local-cluster`: agents as unisolated processes, which the image does not offer
    #[arg(long, value_enum, value_name = "PART")]
    without: Option<Part>,
}

/// An optional part of the host.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    LocalCluster,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    let workspace = Workspace::find()?;
    let (plugins, _) = process::stage("plugins", || wasm::build(&workspace, options.toolchain))?;
    let (host, _) = process::stage("host", || match options.without {
        None => build_host(&workspace, Profile::Release),
        Some(Part::LocalCluster) => build_host_without_local_cluster(&workspace),
    })?;
    let program = workspace.dist().join(HOST);
    // Written to another file and renamed: a host that runs from this path keeps running.
    let half = program.with_extension("tmp");
    let bytes = fs::copy(&host, &half).with_context(|| format!("cannot write {}", half.display()))?;
    fs::rename(&half, &program).with_context(|| format!("cannot write {}", program.display()))?;
    process::note(&format!("{}: {}", relative(&program, &workspace), size(bytes)));
    for plugin in &plugins {
        process::note(&format!(
            "{}: {}",
            relative(&plugin.path, &workspace),
            size(plugin.bytes.len() as u64)
        ));
    }
    process::summary(&format!("dist: built in {}", duration(start.elapsed())));
    Ok(())
}

/// The host's package and program.
pub(crate) const HOST: &str = "paperclip-host";

/// How much the host is optimised.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Profile {
    /// Shares its artifacts with `cargo test`.
    Dev,
    Release,
}

/// Builds the host with the plugins in `dist/plugins/`, and returns the path of the program.
pub(crate) fn build_host(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    let mut cargo = workspace::cargo();
    // With the features of the whole workspace, as `cargo test` builds it, so that nothing is compiled twice.
    cargo.current_dir(&workspace.root).args(["build", "--workspace", "--bin", HOST]);
    match profile {
        Profile::Dev => {}
        Profile::Release => {
            cargo.arg("--release");
        }
    }
    process::built_program(&process::build(&mut cargo)?, HOST).map(Path::to_owned)
}

/// Builds the host with the release profile and without the feature `local-cluster`, which is the only default feature.
///
/// Of the workspace only the host is built: another member could enable the feature.
fn build_host_without_local_cluster(workspace: &Workspace) -> Result<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo.current_dir(&workspace.root).args(["build", "--release", "--no-default-features"]);
    cargo.args(["--package", HOST, "--bin", HOST]);
    process::built_program(&process::build(&mut cargo)?, HOST).map(Path::to_owned)
}
