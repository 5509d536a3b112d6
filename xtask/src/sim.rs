//! `cargo xtask sim`: the simulation, built with optimisation, on the plugins as they are now.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::process;
use crate::toolchain;
use crate::wasm;
use crate::workspace::{self, Workspace};

/// The program that simulates.
const SIMULATION: &str = "simulation";

/// Runs seeded cases of guest and engine in a simulated world with faults: builds the plugins, then the simulation.
///
/// Its own arguments, of which `cargo xtask sim -- --help` tells: `--seeds N`, `--seed S --bytes B`, `--mutant NAME`,
/// `--mutants`, `--time 10m`, `--twice`, `--complete`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    toolchain: toolchain::Selection,

    /// For the simulation, as they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::find()?;
    wasm::build(&workspace, options.toolchain)?;
    let mut cargo = workspace::cargo();
    // As the host is built that is handed out, with the same features of what both use: nothing is compiled twice.
    cargo.current_dir(&workspace.root).args(["build", "--release", "--workspace", "--bin", SIMULATION]);
    let built = process::build(&mut cargo)?;
    process::run(Command::new(process::built_program(&built, SIMULATION)?).args(&options.arguments))
}
