//! `cargo xtask sim`: the simulation, built with optimisation, with the current plugins.

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
/// Arguments of the simulation, described by `cargo xtask sim -- --help`: `--seeds N`, `--seed S --bytes B`, `--mutant NAME`,
/// `--mutants`, `--time 10m`, `--twice`, `--complete`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    toolchain: toolchain::Selection,

    /// Arguments of the simulation
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::find()?;
    wasm::build(&workspace, options.toolchain)?;
    let mut cargo = workspace::cargo();
    // With the profile and features of `cargo xtask dist`, so that nothing is compiled twice.
    cargo.current_dir(&workspace.root).args(["build", "--release", "--workspace", "--bin", SIMULATION]);
    let built = process::build(&mut cargo)?;
    process::run(Command::new(process::built_program(&built, SIMULATION)?).args(&options.arguments))
}
