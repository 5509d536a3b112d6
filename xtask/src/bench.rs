//! `cargo xtask bench`: measurements, by name.

use std::process::Command;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::dist::HOST;
use crate::figures::size;
use crate::process;
use crate::toolchain;
use crate::wasm;
use crate::workspace::{self, Workspace};

/// The load generator.
const LOAD: &str = "paperclip-load";
/// The measurement that needs no host.
const REDACT: &str = "redact";

/// Runs a measurement, or lists them if no name is given.
///
/// Figures are printed to stdout, everything else to stderr.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The measurement
    #[arg(value_enum)]
    name: Option<Bench>,

    #[command(flatten)]
    toolchain: toolchain::Selection,

    /// For `serve`, `swap`, `takeover` and `bulk`: build host and load generator without optimisation, for a quick try
    #[arg(long)]
    dev: bool,

    /// Arguments of the load generator for `serve`, `swap`, `takeover` and `bulk`, such as `-- --runs 100`
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(ValueEnum, Debug, Clone, Copy)]
enum Bench {
    /// The size of each plugin's component, by section
    Size,
    /// Speed and memory of a plugin that parses an agent's output, compared with the same parser compiled natively
    Parse,
    /// The cost of masking a run's secrets in its output
    Redact,
    /// The daemon with 1,000 concurrent streaming runs: memory, CPU, requests, latency of lines and results
    Serve,
    /// The effect of 100 plugin swaps on 100 streaming runs
    Swap,
    /// One run on the local cluster that prints 200,000 lines at once: time, CPU, system calls, journal, memory
    Bulk,
    /// How another host takes over 500 runs of a host that is killed: time, requests, lines lost
    Takeover,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    match options.name {
        Some(Bench::Size) => measure_size(options.toolchain),
        Some(Bench::Parse) => measure_parse(options.toolchain),
        Some(Bench::Redact) => measure_load(REDACT, options),
        Some(Bench::Serve) => measure_load("serve", options),
        Some(Bench::Swap) => measure_load("swap", options),
        Some(Bench::Bulk) => measure_load("bulk", options),
        Some(Bench::Takeover) => measure_load("takeover", options),
        None => {
            for bench in Bench::value_variants().iter().filter_map(Bench::to_possible_value) {
                let help = bench.get_help().map(ToString::to_string).unwrap_or_default();
                anstream::println!("{:8} {help}", bench.get_name());
            }
            Ok(())
        }
    }
}

fn measure_size(toolchain: toolchain::Selection) -> Result<()> {
    for plugin in wasm::build(&Workspace::find()?, toolchain)? {
        let total = plugin.bytes.len() as u64;
        anstream::println!("{} {} ({total} bytes)", plugin.agent_type, size(total));
        for section in paperclip_plugin_build::sections(&plugin.bytes)? {
            let share = 100.0 * section.bytes as f64 / total as f64;
            anstream::println!("{:>12} {share:5.1} %  {}", size(section.bytes), section.name);
        }
    }
    Ok(())
}

/// Runs a separate program, which contains both the host and the natively compiled parser.
fn measure_parse(toolchain: toolchain::Selection) -> Result<()> {
    let workspace = Workspace::find()?;
    wasm::build(&workspace, toolchain)?;
    let mut cargo = workspace::cargo();
    cargo.current_dir(&workspace.root).args(["bench", "--workspace", "--bench", "parse"]);
    process::run(&mut cargo)
}

/// Runs separate processes: the host with the release profile, a scripted API server, and the runs' followers.
fn measure_load(name: &str, options: &Options) -> Result<()> {
    let workspace = Workspace::find()?;
    wasm::build(&workspace, options.toolchain)?;
    let mut cargo = workspace::cargo();
    // With the features of the whole workspace, as `cargo xtask dist` builds it, so that nothing is compiled twice.
    cargo.current_dir(&workspace.root).args(["build", "--workspace", "--bin", LOAD]);
    if name != REDACT {
        cargo.args(["--bin", HOST]);
    }
    if !options.dev {
        cargo.arg("--release");
    }
    let built = process::build(&mut cargo)?;
    let program = |name| process::built_program(&built, name);
    let mut load = Command::new(program(LOAD)?);
    load.arg(name);
    match name {
        REDACT => {
            let recordings = workspace.root.join("tests/fixtures/claude-cli-2.1.330");
            load.args(["ok.ndjson", "tool.ndjson"].map(|name| recordings.join(name)));
        }
        "swap" => {
            load.arg("--host").arg(program(HOST)?);
            load.arg("--plugin").arg(workspace.dist_plugins().join("claude_k8s.wasm"));
        }
        _ => {
            load.arg("--host").arg(program(HOST)?);
        }
    }
    process::run(load.args(&options.arguments))
}
