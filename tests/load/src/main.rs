//! The host under load, run by `cargo xtask bench serve`, `bench swap`, `bench takeover` and `bench bulk`.
//!
//! Three processes: the host with the release profile; a scripted API server, whose agents write lines that contain the time; and this
//! one, which starts runs, follows each of them and compares the times. All share one machine and its clock.

mod bulk;
mod client;
mod cluster;
mod figures;
mod host;
mod redact;
mod serve;
mod swap;
mod takeover;

use clap::{Parser, Subcommand};

/// Measures the daemon under load.
#[derive(Parser, Debug)]
#[command(name = "paperclip-load", disable_help_subcommand = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// The scripted API server alone, until standard input ends
    Cluster(cluster::Script),
    Serve(serve::Options),
    Swap(swap::Options),
    Takeover(takeover::Options),
    Redact(redact::Options),
    Bulk(bulk::Options),
    /// What an agent of `bulk` prints
    Print(bulk::Output),
}

fn main() -> anyhow::Result<()> {
    raise_file_limit()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = match Cli::parse().command {
        Command::Cluster(options) => runtime.block_on(cluster::run(&options)),
        Command::Serve(options) => runtime.block_on(serve::run(&options)),
        Command::Redact(options) => redact::run(&options),
        Command::Bulk(options) => bulk::run(&options),
        Command::Print(output) => bulk::print(output),
        Command::Swap(options) => runtime.block_on(swap::run(&options)),
        Command::Takeover(options) => runtime.block_on(takeover::run(&options)),
    };
    runtime.shutdown_background();
    outcome
}

/// A run needs one socket here and one or two in the scripted server.
fn raise_file_limit() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(())
}
