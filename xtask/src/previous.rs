//! The host as it was before hosts had Leases, for end-to-end scenarios with mixed versions.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::dist::HOST;
use crate::kubernetes::cache_folder;
use crate::process;
use crate::workspace::{self, Workspace};

/// The last commit in which each run renews a Lease of its own.
const COMMIT: &str = "576b2fd2cef4b8cf2150316ccf76875bde5dab37";

/// Returns the program. Builds it once, from a worktree that is removed afterwards; that takes as long as a first build of this workspace.
///
/// # Errors
/// The commit does not exist here, as in a shallow clone, or does not build.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let folder = cache_folder()?.join(format!("previous-{}", &COMMIT[..12]));
    let program = folder.join(HOST);
    if program.exists() {
        return Ok(program);
    }
    fs::create_dir_all(&folder)?;
    let (source, target) = (folder.join("source"), folder.join("target"));
    let git = || {
        let mut git = Command::new("git");
        git.current_dir(&workspace.root);
        git
    };
    if !source.exists() {
        process::run(git().args(["worktree", "add", "--detach"]).arg(&source).arg(COMMIT)).with_context(
            || {
                format!(
                    "commit {COMMIT} cannot be checked out: fetch the whole history (`git fetch --unshallow`)"
                )
            },
        )?;
    }
    let cargo = || {
        let mut cargo = workspace::cargo();
        cargo.current_dir(&source).env("CARGO_TARGET_DIR", &target);
        cargo
    };
    // The program contains the plugins.
    process::run(cargo().args(["xtask", "wasm"]))?;
    process::run(cargo().args(["build", "--workspace", "--bin", HOST]))?;
    fs::rename(target.join("debug").join(HOST), &program)?;
    fs::remove_dir_all(&target)?;
    process::run(git().args(["worktree", "remove", "--force"]).arg(&source))?;
    Ok(program)
}
