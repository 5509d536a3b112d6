//! `cargo xtask agents`: the real CLIs of the agent types beside the first one.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use crate::claude;
use crate::figures::duration;
use crate::node::Node;
use crate::process;
use crate::toolchain;
use crate::wasm;
use crate::workspace::{self, Workspace};

/// The folder whose lock file pins the CLIs.
const PACKAGE: &str = "tests/agents/package";
/// Parts of the names of the tests that every change has to pass.
const CI: [&str; 2] = ["uses_a_tool", "names_a_refused_key"];

/// Runs the real CLIs of agents.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    E2e(E2e),
}

/// Runs tests/agents: the real CLIs, in the versions of the recordings, on the local cluster with scripted APIs.
///
/// npm installs the CLIs into the cache folder, once. No API key is needed, and no provider is asked.
#[derive(Args, Debug)]
struct E2e {
    #[command(flatten)]
    toolchain: toolchain::Selection,

    /// Only the tests that every change must pass
    #[arg(long)]
    ci: bool,

    /// Only tests whose name contains one of these, such as `codex` or `codex::succeeds`
    names: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let Command::E2e(options) = &options.command;
    let start = Instant::now();
    let workspace = Workspace::find()?;
    process::stage("plugins", || wasm::build(&workspace, options.toolchain))?;
    let (clis, _) = process::stage("the agents' CLIs", || install(&workspace))?;
    let (api, _) = process::stage("the scripted APIs", claude::build_api)?;
    process::stage("tests", || {
        let mut cargo = workspace::cargo();
        cargo.current_dir(&workspace.root).args(["test", "--workspace", "--test", "agents", "--"]);
        cargo.args(if options.ci { &CI[..] } else { &[] }).args(&options.names);
        process::run(cargo.envs(clis).env("PAPERCLIP_TEST_MODEL_APIS", api))
    })?;
    process::summary(&format!("agents e2e: all passed in {}", duration(start.elapsed())));
    Ok(())
}

/// Returns each CLI's command, by the variable that names it to the tests. What is not cached is installed.
fn install(workspace: &Workspace) -> Result<[(&'static str, String); 3]> {
    let node = Node::find(workspace)?;
    let folder = node.install(workspace, PACKAGE)?.join("node_modules");
    let is_arm = cfg!(target_arch = "aarch64");
    let (codex, opencode) = if is_arm {
        ("@openai/codex-linux-arm64/vendor/aarch64-unknown-linux-musl/bin/codex", "opencode-linux-arm64")
    } else {
        ("@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex", "opencode-linux-x64-baseline")
    };
    let installed = |path: PathBuf| {
        if !path.is_file() {
            bail!("npm has not installed {}: the registry may lack it for this platform", path.display());
        }
        Ok(format!("'{}'", path.display()))
    };
    let gemini = installed(folder.join("@google/gemini-cli/bundle/gemini.js"))?;
    Ok([
        ("PAPERCLIP_TEST_CODEX", installed(folder.join(codex))?),
        ("PAPERCLIP_TEST_GEMINI", format!("'{}' {gemini}", node.program("node").display())),
        ("PAPERCLIP_TEST_OPENCODE", installed(folder.join(opencode).join("bin/opencode"))?),
    ])
}
