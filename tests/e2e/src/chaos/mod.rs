//! Long tests and measurements, run by hand: `cargo xtask chaos`.

mod cli;
mod figures;
mod proofs;
mod sight;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use serde_json::{Map, Value, json};

use crate::daemon::Client;
use crate::host::{Host, Order, Place};
use crate::kubectl::Kubectl;
use crate::stage::World;

/// Time limit of a run, in addition to the work of its agent.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Subcommand, Debug, Clone)]
pub(crate) enum Chaos {
    /// Kills the host (SIGKILL) at a random moment of a run of 500 lines, starts it again, and counts lines
    Kills {
        #[arg(long, default_value_t = 100)]
        times: usize,
    },
    /// Cancels a run of 200 lines (Ctrl-C) at a random moment, and counts lines and results
    Cancels {
        #[arg(long, default_value_t = 100)]
        times: usize,
    },
    /// Starts two hosts at once, each with a run of the same agent that does not wait: one must work, the other must be rejected
    Races {
        #[arg(long, default_value_t = 200)]
        times: usize,
    },
    /// Times from start to first line and from last line to result, of runs one after another: by `run`, and on a daemon
    Latency {
        #[arg(long, default_value_t = 20)]
        times: usize,
    },
    /// The same of runs at once, on one daemon
    Load {
        #[arg(long, default_value_t = 20)]
        runs: usize,
    },
    /// Runs one after another on one daemon, whose memory is measured
    Sequence {
        #[arg(long, default_value_t = 200)]
        runs: usize,
    },
    /// One run with much output: the host's memory and speed, and the lines lost to rotation
    Output {
        #[arg(long, default_value_t = 200)]
        mb: usize,
    },
    /// The API requests of a run, from the audit log, by the seconds that its agent works
    Requests {
        #[arg(long, value_delimiter = ',', default_values_t = [5, 60, 300])]
        seconds: Vec<u64>,
    },
    /// Runs of the real Claude Code CLI with a scripted model: an answer, a tool, a refused key, a cancel
    Cli {
        /// The files of its image, as `tests/e2e/agent/cli-image.sh DIR VERSION` lays them out
        #[arg(long, value_name = "DIR")]
        files: PathBuf,
    },
}

/// All runs use one namespace, which is deleted at the end.
pub(crate) fn run(world: &World, chaos: &Chaos) -> Result<bool> {
    let namespace = format!("chaos-{}", std::process::id());
    let kubectl = Kubectl::new(&world.kubeconfig, &namespace);
    kubectl.run(&format!("create namespace {namespace}"))?;
    let deadline = Instant::now() + PATIENCE;
    kubectl.until(
        "get serviceaccounts default -o name --ignore-not-found",
        "serviceaccount/default",
        deadline,
    )?;
    let field = Field { world, namespace: &namespace, kubectl: &kubectl };
    let outcome = match chaos {
        Chaos::Kills { times } => field.kills(*times),
        Chaos::Cancels { times } => field.cancels(*times),
        Chaos::Races { times } => field.races(*times),
        Chaos::Latency { times } => field.latency(*times),
        Chaos::Load { runs } => field.load(*runs),
        Chaos::Sequence { runs } => field.sequence(*runs),
        Chaos::Output { mb } => field.output(*mb),
        Chaos::Requests { seconds } => field.requests(seconds),
        Chaos::Cli { files } => field.cli(files),
    };
    let left = kubectl.until(
        // Killed hosts leave Leases of their own, until another host finds that they have expired.
        "get jobs,pods,secrets,leases.coordination.k8s.io \
         -l app.kubernetes.io/managed-by=paperclip,app.kubernetes.io/component!=host -o name",
        "",
        Instant::now() + Duration::from_secs(40),
    );
    kubectl.run(&format!("delete namespace {namespace} --wait=false"))?;
    left.context("something is left behind")?;
    outcome
}

struct Field<'a> {
    world: &'a World,
    namespace: &'a str,
    kubectl: &'a Kubectl,
}

impl Field<'_> {
    fn start(&self, name: &str, host: &str, play: &str) -> Result<Host> {
        self.start_at(name, host, play, None)
    }

    /// Starts a run in a separate host, or on a daemon.
    fn start_at(&self, name: &str, host: &str, play: &str, daemon: Option<&Client>) -> Result<Host> {
        let agent = format!("{}-{name}", self.namespace);
        self.start_run(name, &agent, host, json!({"env": {"PLAY": play}}), daemon)
    }

    fn start_run(
        &self,
        name: &str,
        agent: &str,
        host: &str,
        over: Value,
        daemon: Option<&Client>,
    ) -> Result<Host> {
        self.place(name, agent, over, |order, place| match daemon {
            Some(daemon) => Host::at(daemon, host, order, place.folder),
            None => Host::start(host, order, place),
        })
    }

    /// Starts a run and keeps the records that `keep` selects.
    fn start_tallied(
        &self,
        name: &str,
        over: Value,
        keep: impl FnMut(&Value) -> bool + Send + 'static,
    ) -> Result<Host> {
        let agent = format!("{}-{name}", self.namespace);
        self.place(name, &agent, over, |order, place| Host::start_with("a", order, place, keep))
    }

    fn place<T>(
        &self,
        name: &str,
        agent: &str,
        over: Value,
        start: impl FnOnce(&Order<'_>, &Place<'_>) -> Result<T>,
    ) -> Result<T> {
        let folder = self.world.folder.join(name);
        fs::create_dir_all(&folder)?;
        let mut config: Map<String, Value> = serde_json::from_value(json!({
            "image": self.world.image,
            "resources": {"requests": {"cpu": "20m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
        }))?;
        config.extend(serde_json::from_value::<Map<String, Value>>(over)?);
        let run_id = format!("{}-{name}", self.namespace);
        let (context, runtime) = (json!({"taskId": "T-1"}), Map::new());
        let order = Order {
            run_id: &run_id,
            agent,
            config: &config,
            context: &context,
            self_pod: None,
            runtime: &runtime,
        };
        let place = Place {
            program: &self.world.program,
            kubeconfig: &self.world.kubeconfig,
            namespace: self.namespace,
            folder: &folder,
            state: &folder.join("state"),
        };
        start(&order, &place)
    }
}
