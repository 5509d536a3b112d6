//! `cargo xtask adapter`: the npm packages through which Paperclip's server starts runs.

use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::figures::duration;
use crate::node::Node;
use crate::process;
use crate::workspace::Workspace;

/// Builds the adapter packages into adapter/dist/TYPE, and checks them: types, lints, tests, and what npm would publish.
///
/// Needs npm and its registry; a Node.js that is too old is complemented by one from npm.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Only build the packages
    #[arg(long)]
    build: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    let workspace = Workspace::find()?;
    let node = Node::find(&workspace)?;
    install(&workspace, &node)?;
    let script = if options.build { "build" } else { "check" };
    process::run(npm(&workspace, &node).args(["run", "--silent", script]))?;
    process::summary(&format!("adapter: {script} done in {}", duration(start.elapsed())));
    Ok(())
}

/// Installs the tools, and builds the packages.
pub(crate) fn build(workspace: &Workspace, node: &Node) -> Result<()> {
    install(workspace, node)?;
    process::run(npm(workspace, node).args(["run", "--silent", "build"]))
}

/// Installs what the lock file says, if it is not what is there.
fn install(workspace: &Workspace, node: &Node) -> Result<()> {
    let folder = workspace.root.join("adapter");
    let time = |name: &str| folder.join(name).metadata().and_then(|facts| facts.modified()).ok();
    // npm writes this file last.
    if time("node_modules/.package-lock.json")
        .is_some_and(|installed| Some(installed) > time("package-lock.json"))
    {
        return Ok(());
    }
    process::run(npm(workspace, node).args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]))
}

fn npm(workspace: &Workspace, node: &Node) -> std::process::Command {
    let mut npm = node.command("npm");
    npm.current_dir(workspace.root.join("adapter"));
    npm
}
