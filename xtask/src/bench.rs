//! `cargo xtask bench`: measurements, by name.

use std::process::Command;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::component;
use crate::dist::HOST;
use crate::figures::size;
use crate::process;
use crate::toolchain;
use crate::wasm;
use crate::workspace::{self, Workspace};

/// The program that puts the daemon under load.
const LOAD: &str = "paperclip-load";
/// What it measures without a host.
const REDACT: &str = "redact";

/// Measures something. Without a name, lists what can be measured.
///
/// The figures go to stdout, everything else to stderr.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// What to measure.
    #[arg(value_enum)]
    name: Option<Bench>,

    #[command(flatten)]
    toolchain: toolchain::Selection,

    /// For `serve` and `swap`: build host and load without optimisation, to try something out
    #[arg(long)]
    dev: bool,

    /// For `serve` and `swap`, as they are, such as `-- --runs 100`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(ValueEnum, Debug, Clone, Copy)]
enum Bench {
    /// How large each plugin's component is, and what its bytes are for
    Size,
    /// How fast a plugin reads an agent's output against the same parser natively, and in how much memory
    Parse,
    /// How much slower output is with the run's secrets masked
    Redact,
    /// How 1,000 runs that stream at a time use the daemon: memory, CPU, requests, latency of lines and results
    Serve,
    /// How 100 swaps of a plugin disturb 100 runs that stream
    Swap,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    match options.name {
        Some(Bench::Size) => measure_size(options.toolchain),
        Some(Bench::Parse) => measure_parse(options.toolchain),
        Some(Bench::Redact) => measure_load(REDACT, options),
        Some(Bench::Serve) => measure_load("serve", options),
        Some(Bench::Swap) => measure_load("swap", options),
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
        for section in component::sections(&plugin.bytes)? {
            let share = 100.0 * section.bytes as f64 / total as f64;
            anstream::println!("{:>12} {share:5.1} %  {}", size(section.bytes), section.name);
        }
    }
    Ok(())
}

/// In a program of its own, which holds both the host and the natively compiled parser.
fn measure_parse(toolchain: toolchain::Selection) -> Result<()> {
    let workspace = Workspace::find()?;
    wasm::build(&workspace, toolchain)?;
    let mut cargo = workspace::cargo();
    cargo.current_dir(&workspace.root).args(["bench", "--workspace", "--bench", "parse"]);
    process::run(&mut cargo)
}

/// In processes of their own: the host as it is shipped, a scripted API server, and who follows the runs.
fn measure_load(name: &str, options: &Options) -> Result<()> {
    let workspace = Workspace::find()?;
    wasm::build(&workspace, options.toolchain)?;
    let mut cargo = workspace::cargo();
    // With the features of the whole workspace: what `cargo xtask dist` builds is then the same, and nothing is compiled twice.
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
