//! `paperclip-host`: runs Paperclip's agents on Kubernetes.

mod access;
mod args;
mod beginning;
mod bundle;
mod commands;
mod config;
mod documents;
mod environment;
mod exit;
mod heap;
mod plugins;
mod pretty;
mod probe;
mod serve;
mod state;
mod supervisor;
mod traces;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};
use config::LogFormat;
use exit::{Exit, UsageError};

fn main() -> ExitCode {
    heap::limit_arenas();
    let args = Args::parse();
    // The daemon logs as its configuration says, which is read first.
    if !matches!(args.command, Command::Serve(_)) {
        let level = std::env::var("PAPERCLIP_LOG").unwrap_or_default();
        start_logging(level.parse().unwrap_or(tracing::Level::ERROR), LogFormat::Text);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("cannot start")),
    };
    let outcome = runtime.block_on(dispatch(args.command));
    // A task that still waits for a terminal or a socket does not hold the exit.
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => failed(&error),
    }
}

async fn dispatch(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Run(args) => commands::run::run(args).await,
        Command::Serve(args) => commands::serve::serve(*args).await,
        Command::Manifest(args) => commands::manifest::manifest(&args).await,
        Command::Classify(args) => commands::classify::classify(&args),
        Command::Transcript(args) => commands::transcript::transcript(&args),
        Command::Check(args) => commands::check::check(&args).await,
        Command::Plugins(args) => commands::plugins::plugins(&args).await,
        Command::Replay(args) => commands::replay::replay(&args),
        Command::Cluster(args) => commands::cluster::cluster(args).await,
    }
}

/// Diagnostics go to stderr.
fn start_logging(level: tracing::Level, format: LogFormat) {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        // Nobody may read stderr any more; telling that on stderr would panic.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).with_current_span(false).init(),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    pretty::show_error(&exit::diagnostic_of(error));
    if error.downcast_ref::<UsageError>().is_some() { Exit::Usage.into() } else { Exit::Failed.into() }
}
