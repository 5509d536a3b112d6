//! `cargo xtask claude`: the real CLI of the agent on the local cluster.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::figures::duration;
use crate::node::Node;
use crate::process;
use crate::toolchain;
use crate::wasm;
use crate::workspace::{self, Workspace};

/// The folder whose lock file pins the CLI.
const PACKAGE: &str = "tests/claude/package";
/// The program of the scripted APIs.
const API: &str = "paperclip-messages-api";

/// Runs tests/claude: the real CLI, in the version of the recordings, on the local cluster with a scripted Messages API.
///
/// npm installs the CLI into the cache folder, once. No API key is needed, and no provider is asked.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    toolchain: toolchain::Selection,

    /// Only tests whose name contains this
    name: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    let workspace = Workspace::find()?;
    process::stage("plugins", || wasm::build(&workspace, options.toolchain))?;
    let (cli, _) = process::stage("the agent's CLI", || install(&workspace))?;
    let (api, _) = process::stage("the scripted API", build_api)?;
    process::stage("tests", || {
        let mut cargo = workspace::cargo();
        cargo.current_dir(&workspace.root).args(["test", "--workspace", "--test", "claude"]);
        cargo.args(&options.name);
        process::run(cargo.env("PAPERCLIP_TEST_CLAUDE", cli).env("PAPERCLIP_TEST_MESSAGES_API", api))
    })?;
    process::summary(&format!("claude: all passed in {}", duration(start.elapsed())));
    Ok(())
}

/// Returns the CLI's program, which is installed if it is not cached.
pub(crate) fn install(workspace: &Workspace) -> Result<PathBuf> {
    let folder = Node::find(workspace)?.install(workspace, PACKAGE)?.join("node_modules/@anthropic-ai");
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let found =
        ["", "-musl"].map(|libc| folder.join(format!("claude-code-linux-{architecture}{libc}/claude")));
    match found.into_iter().find(|program| program.is_file()) {
        Some(program) => Ok(program),
        None => bail!("npm has installed no CLI for this platform into {}", folder.display()),
    }
}

/// Builds the scripted API with the profile and features of the tests, so that nothing is compiled twice.
pub(crate) fn build_api() -> Result<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--workspace", "--bin", API, "--profile", "test"]);
    let built = process::build(&mut cargo)?;
    Ok(process::built_program(&built, API)?.to_owned())
}
