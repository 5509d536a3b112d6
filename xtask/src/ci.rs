//! `cargo xtask ci`: every check that a change has to pass before it is merged.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::figures::duration;
use crate::new_plugin;
use crate::process;
use crate::toolchain;
use crate::wasm;
use crate::workspace::{self, Workspace};

/// Runs every check that a change has to pass: format, lints, dependencies, docs, tests, Helm chart, end-to-end scenarios.
///
/// Stops at the first stage that fails, and always ends with a table of all stages. The stages: plugins (the host embeds them),
/// `cargo fmt --check`, clippy with warnings as errors, the same for the host without its default features, cargo-deny on bans,
/// licenses and sources, rustdoc with warnings as errors, `cargo xtask adapter`, `cargo xtask test`, a crate that `cargo xtask new-plugin` makes, `cargo xtask claude`, `cargo xtask agents e2e --ci`, `cargo xtask
/// paperclip e2e --ci` on Paperclip's real server, the Helm chart against the rendered manifests (`go test` in tests/chart), and `cargo xtask e2e --ci` on a real Kubernetes. cargo-deny must be on PATH; `.ci/run` installs it and
/// passes its arguments to this command.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    toolchain: toolchain::Selection,

    /// Skip the stages that need this. `kubernetes`: the Helm chart and the end-to-end scenarios, which need Go, root and containerd.
    /// `paperclip`: the adapter packages, Paperclip's server and the agents' CLIs, which need npm and its registry
    #[arg(long, value_enum, value_name = "PART")]
    without: Vec<Part>,
}

/// A part of the checks that needs more than Rust and a C compiler.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Kubernetes,
    Paperclip,
}

/// A check: a command and what it needs.
#[derive(Debug)]
struct Stage {
    name: &'static str,
    needs: Option<Part>,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Plugins,
    Run(Box<Command>),
    /// A crate for another agent type, outside the workspace.
    NewPlugin,
}

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed(Duration),
    Failed(Duration),
    Skipped(Part),
    NotRun,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if process::find_program("cargo-deny", &path).is_none() {
        bail!(
            "cargo-deny is not on PATH: run `.ci/run`, which installs it, or `cargo install --locked cargo-deny`"
        );
    }
    let start = Instant::now();
    let workspace = Workspace::find()?;
    let mut outcomes = Vec::new();
    let mut result = Ok(());
    for stage in stages() {
        let outcome = match stage.needs.filter(|part| options.without.contains(part)) {
            Some(part) => Outcome::Skipped(part),
            None if result.is_err() => Outcome::NotRun,
            None => {
                let stage_start = Instant::now();
                result = perform(stage.name, stage.work, &workspace, options);
                let took = stage_start.elapsed();
                if result.is_ok() { Outcome::Passed(took) } else { Outcome::Failed(took) }
            }
        };
        outcomes.push((stage.name, outcome));
    }
    process::note(&table(&outcomes));
    result?;
    process::summary(&format!("ci: all stages that ran passed in {}", duration(start.elapsed())));
    Ok(())
}

fn perform(name: &'static str, work: Work, workspace: &Workspace, options: &Options) -> Result<()> {
    let (_, _) = process::stage(name, || match work {
        Work::Plugins => wasm::build_all(workspace, options.toolchain),
        Work::Run(mut command) => process::run(command.current_dir(&workspace.root)),
        Work::NewPlugin => new_plugin::try_out(&workspace.target.join("new-plugin"), options.toolchain),
    })?;
    Ok(())
}

/// All stages in the order in which they run: cheap ones first, after the plugins that everything else embeds.
fn stages() -> Vec<Stage> {
    let cargo = |line: &str| {
        let mut command = workspace::cargo();
        command.args(line.split(' '));
        command
    };
    let mut docs = cargo("doc --workspace --no-deps --document-private-items");
    docs.env("RUSTDOCFLAGS", "-D warnings");
    let mut chart = Command::new("go");
    // `-count=1` bypasses Go's test cache, which does not notice changes in `deploy/`.
    chart.args(["-C", "tests/chart", "test", "-count=1", "./..."]);
    let stage = |name, command| Stage { name, needs: None, work: Work::Run(Box::new(command)) };
    let with_npm = |name, command| Stage { needs: Some(Part::Paperclip), ..stage(name, command) };
    let on_kubernetes = |name, command| Stage { needs: Some(Part::Kubernetes), ..stage(name, command) };
    vec![
        Stage { name: "plugins", needs: None, work: Work::Plugins },
        stage("format", cargo("fmt --all --check")),
        stage("lints", cargo("clippy --workspace --all-targets -- -D warnings")),
        // The image's host has no local cluster.
        stage("features", cargo("clippy --package paperclip-host --no-default-features -- -D warnings")),
        stage("dependencies", cargo("deny --offline check --hide-inclusion-graph bans licenses sources")),
        stage("docs", docs),
        with_npm("adapter", cargo("xtask adapter")),
        stage("test", cargo("xtask test")),
        Stage { name: "new-plugin", needs: None, work: Work::NewPlugin },
        with_npm("claude", cargo("xtask claude")),
        with_npm("agents", cargo("xtask agents e2e --ci")),
        with_npm("paperclip", cargo("xtask paperclip e2e --ci")),
        on_kubernetes("chart", chart),
        on_kubernetes("e2e", cargo("xtask e2e --ci")),
    ]
}

/// One line per stage, with its time.
fn table(outcomes: &[(&str, Outcome)]) -> String {
    let mut text = String::from("stage         time          result");
    for (name, outcome) in outcomes {
        let (time, result) = match outcome {
            Outcome::Passed(took) => (duration(*took), "passed"),
            Outcome::Failed(took) => (duration(*took), "failed"),
            Outcome::Skipped(Part::Kubernetes) => ("-".to_owned(), "skipped: --without kubernetes"),
            Outcome::Skipped(Part::Paperclip) => ("-".to_owned(), "skipped: --without paperclip"),
            Outcome::NotRun => ("-".to_owned(), "not run"),
        };
        let _ = write!(text, "\n{name:12}  {time:12}  {result}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_part_skips_only_stages_that_need_it() {
        let needing = |part| -> Vec<_> {
            stages().iter().filter(|stage| stage.needs == Some(part)).map(|stage| stage.name).collect()
        };
        assert_eq!(needing(Part::Kubernetes), ["chart", "e2e"]);
        assert_eq!(needing(Part::Paperclip), ["adapter", "claude", "agents", "paperclip"]);
    }

    #[test]
    fn table_shows_every_stage_with_time_and_result() {
        let outcomes = [
            ("plugins", Outcome::Passed(Duration::from_secs(12))),
            ("dependencies", Outcome::Failed(Duration::from_secs(185))),
            ("test", Outcome::NotRun),
            ("e2e", Outcome::Skipped(Part::Kubernetes)),
        ];
        let expected = "\
stage         time          result
plugins       12 s          passed
dependencies  3 min 05 s    failed
test          -             not run
e2e           -             skipped: --without kubernetes";
        assert_eq!(table(&outcomes), expected);
    }
}
