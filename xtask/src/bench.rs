//! `cargo xtask bench`: measurements, by name.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::component;
use crate::figures::size;
use crate::process;
use crate::toolchain;
use crate::wasm;
use crate::workspace::{self, Workspace};

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
}

#[derive(ValueEnum, Debug, Clone, Copy)]
enum Bench {
    /// How large each plugin's component is, and what its bytes are for
    Size,
    /// How fast a plugin reads an agent's output against the same parser natively, and in how much memory
    Parse,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    match options.name {
        Some(Bench::Size) => measure_size(options.toolchain),
        Some(Bench::Parse) => measure_parse(options.toolchain),
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
