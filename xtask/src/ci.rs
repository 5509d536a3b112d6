//! `cargo xtask ci`: everything that has to hold before a change lands.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use crate::figures::duration;
use crate::process;
use crate::toolchain;
use crate::wasm;
use crate::workspace::{self, Workspace};

/// Checks everything that has to hold before a change lands, as .ci/run does: format, lints, dependencies, docs, tests.
///
/// In order, and it stops at the first stage that fails: plugins (the host embeds them), `cargo fmt --check`, clippy with
/// warnings as errors, cargo-deny on bans, licenses and sources, the docs with warnings as errors, `cargo xtask test`, the Helm
/// chart against kustomize's manifests by `go test` in tests/chart, and `cargo xtask e2e --ci` on a real Kubernetes. cargo-deny
/// has to be on PATH: .ci/run installs it. Only the last two stages need a network once all crates are fetched, and Go: they
/// fetch Helm's engine, and build and install a Kubernetes where there is none yet.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    toolchain: toolchain::Selection,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    let workspace = Workspace::find()?;
    let mut times = Vec::new();
    let (_, took) = process::stage("plugins", || wasm::build(&workspace, options.toolchain))?;
    times.push(("plugins", took));
    for (name, mut command) in checks() {
        command.current_dir(&workspace.root);
        let ((), took) = process::stage(name, || process::run(&mut command))?;
        times.push((name, took));
    }
    process::summary(&format!("ci: all passed in {} ({})", duration(start.elapsed()), listed(&times)));
    Ok(())
}

fn checks() -> [(&'static str, Command); 7] {
    let cargo = |line: &str| {
        let mut command = workspace::cargo();
        command.args(line.split(' '));
        command
    };
    let mut docs = cargo("doc --workspace --no-deps --document-private-items");
    docs.env("RUSTDOCFLAGS", "-D warnings");
    let mut chart = Command::new("go");
    // Never from Go's cache: it does not know that the tests read `deploy/`.
    chart.args(["-C", "tests/chart", "test", "-count=1", "./..."]);
    [
        ("format", cargo("fmt --all --check")),
        ("lints", cargo("clippy --workspace --all-targets -- -D warnings")),
        ("dependencies", cargo("deny --offline check --hide-inclusion-graph bans licenses sources")),
        ("docs", docs),
        ("test", cargo("xtask test")),
        ("chart", chart),
        ("e2e", cargo("xtask e2e --ci")),
    ]
}

fn listed(times: &[(&str, Duration)]) -> String {
    times.iter().map(|(name, took)| format!("{name} {}", duration(*took))).collect::<Vec<_>>().join(", ")
}
