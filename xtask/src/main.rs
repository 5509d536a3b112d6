//! The project's own tasks: `cargo xtask --help`.
//!
//! Each command is a module: `wasm`, `dist`, `test`, `demo`, `new-plugin`, `bench`, `sim`, `kubernetes`, `e2e`, `chaos`, `adapter`, `paperclip`, `claude`, `agents`, `ci`. They share the
//! `workspace` as cargo describes it, the `toolchain` that compiles plugins, `node` with
//! packages of npm, and `process`, which runs programs. `agent_names`, `architecture`, `links`, `proofs`, `words` and `platforms` are tests of docs, language and sources.

mod adapter;
#[cfg(test)]
mod agent_names;
mod agents;
#[cfg(test)]
mod architecture;
mod bench;
mod chaos;
mod ci;
mod claude;
mod demo;
mod dist;
mod e2e;
mod figures;
mod init;
mod kubernetes;
#[cfg(test)]
mod links;
mod new_plugin;
mod node;
mod paperclip;
#[cfg(test)]
mod platforms;
mod previous;
mod process;
#[cfg(test)]
mod proofs;
mod sim;
mod test;
mod toolchain;
mod wasm;
#[cfg(test)]
mod words;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds the plugins, runs the demo, the tests and the measurements.
#[derive(Parser, Debug)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true,
    max_term_width = 110
)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand, Debug)]
enum Task {
    Wasm(wasm::Options),
    Dist(dist::Options),
    Test(test::Options),
    Demo(demo::Options),
    NewPlugin(new_plugin::Options),
    Bench(bench::Options),
    Sim(sim::Options),
    Adapter(adapter::Options),
    Paperclip(paperclip::Options),
    Claude(claude::Options),
    Agents(agents::Options),
    Ci(ci::Options),
    Kubernetes(kubernetes::Options),
    E2e(e2e::Options),
    Chaos(chaos::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Task::Wasm(options) => wasm::run(&options),
        Task::Dist(options) => dist::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Demo(options) => demo::run(&options),
        Task::NewPlugin(options) => new_plugin::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Sim(options) => sim::run(&options),
        Task::Paperclip(options) => paperclip::run(&options),
        Task::Claude(options) => claude::run(&options),
        Task::Agents(options) => agents::run(&options),
        Task::Adapter(options) => adapter::run(&options),
        Task::Ci(options) => ci::run(&options),
        Task::Kubernetes(options) => kubernetes::run(&options),
        Task::E2e(options) => e2e::run(&options),
        Task::Chaos(options) => chaos::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::report_error(&error);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
