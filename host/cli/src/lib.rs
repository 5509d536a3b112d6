//! The command line of `paperclip-host`.
//!
//! [`main`] parses the arguments, runs a command and returns the exit code. Each command is a module of its own.

mod args;
mod commands;
mod exit;
mod plugins;
mod pretty;

use std::process::ExitCode;

use clap::Parser as _;
use paperclip_prepare::config::LogFormat;
use paperclip_prepare::plugins::BuiltinPlugins;

use args::{Args, Command};
use exit::{CommandError, Exit};

/// Runs the command that the arguments of this process name. `builtins` are the plugins that are built into the program.
pub fn main(builtins: BuiltinPlugins) -> ExitCode {
    let args = Args::parse();
    // The daemon logs as its configuration says, which it reads first.
    if !matches!(args.command, Command::Serve(_)) {
        let level = std::env::var("PAPERCLIP_LOG").unwrap_or_default();
        start_logging(level.parse().unwrap_or(tracing::Level::ERROR), LogFormat::Text);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let outcome = runtime.block_on(dispatch(args.command, builtins));
    // A task that still waits for a terminal or a socket does not delay the exit.
    runtime.shutdown_background();
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => failed(&error),
    }
}

async fn dispatch(command: Command, builtins: BuiltinPlugins) -> Result<Exit, CommandError> {
    match command {
        Command::Run(args) => commands::run::run(*args, builtins).await,
        Command::Serve(args) => commands::serve::serve(*args, builtins).await,
        Command::Manifest(args) => commands::manifest::manifest(args, builtins),
        Command::Classify(args) => commands::classify::classify(&args, builtins),
        Command::Transcript(args) => commands::transcript::transcript(&args, builtins),
        Command::Check(args) => commands::check::check(args, builtins).await,
        Command::Plugins(args) => commands::plugins::plugins(&args, builtins).await,
        Command::Replay(args) => commands::replay::replay(&args, builtins),
        Command::Cluster(args) => commands::cluster::cluster(args).await,
    }
}

/// Starts to log on stderr.
fn start_logging(level: tracing::Level, format: LogFormat) {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        // Writing the error to stderr, which may be closed, would panic.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).with_current_span(false).init(),
    }
}

fn failed(error: &CommandError) -> ExitCode {
    pretty::show_error(&error.diagnostic);
    error.exit.into()
}
