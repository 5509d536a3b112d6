//! `cargo xtask chaos`: long tests and measurements on a real Kubernetes, run by hand.

use anyhow::Result;
use clap::Args;

use crate::e2e;

/// Kills hosts, cancels runs, loads the cluster, counts and times requests. Each takes minutes.
///
/// `kills --times 100`, `cancels --times 100`, `races --times 200`, `latency --times 20`, `load --runs 20`, `sequence --runs 200`,
/// `output --mb 200`, `requests --seconds 5,60,300`, `cli --files DIR` (the real Claude Code CLI, laid out by
/// tests/e2e/agent/cli-image.sh); on the same cluster as `cargo xtask e2e`, or with --kubeconfig on any other, such as that of
/// `PATH=tests/e2e/agent:$PATH paperclip-host cluster --kubeconfig-out F`. Figures are meaningful with --release only.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    stage: e2e::Stage,

    /// The test, with its options
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    what: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    e2e::perform(&options.stage, &options.what, false)
}
