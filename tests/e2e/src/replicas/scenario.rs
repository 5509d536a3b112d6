//! A scenario with several daemons on one cluster: who is started, stopped, killed, paused or cut off while runs stream. One YAML file each.

use std::path::Path;

use anyhow::{Result, bail};
use serde::Deserialize;

use super::plugin::Build;
use crate::scenario::read_files;

/// A file of `scenarios/replicas/`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Scenario {
    /// `replicas-` and the file's name without `.yaml`.
    #[serde(skip)]
    pub(crate) name: String,
    /// What it shows, in a sentence.
    pub(crate) about: String,
    /// Whether every change must pass it.
    #[serde(default)]
    pub(crate) ci: bool,
    /// Whether it needs the cluster of `tests/kubernetes`, whose parts it stops.
    #[serde(default)]
    pub(crate) own_cluster: bool,
    /// Time limit in seconds.
    pub(crate) limit_sec: u64,
    /// The replicas that are ready before the first run.
    pub(crate) replicas: Vec<Start>,
    /// The runs that are started first, each at a random replica.
    pub(crate) runs: usize,
    /// Whether all runs are of one agent, so that they wait for each other.
    #[serde(default)]
    pub(crate) is_one_agent: bool,
    /// Numbered lines that each agent prints.
    pub(crate) lines: usize,
    /// Time between two lines, in seconds.
    #[serde(default = "default_pause_sec")]
    pub(crate) pause_sec: f64,
    #[serde(default)]
    pub(crate) steps: Vec<Step>,
    /// Longest time for which a run may have no host, in ms.
    pub(crate) undriven_within_ms: Option<u64>,
    /// Longest time from the release of a guard to its next acquisition, in ms.
    pub(crate) handover_within_ms: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum Step {
    /// Starts a replica and waits until it is ready.
    Start(Start),
    /// SIGTERM, and waits for its end.
    Stop(String),
    /// SIGKILL.
    Kill(String),
    /// SIGSTOP, and SIGCONT after these seconds.
    Pause { replica: String, seconds: u64 },
    /// Cuts the connections through which other replicas reach it, and accepts no new ones.
    Cut(String),
    /// Lets other replicas reach it again.
    Restore(String),
    /// Stops a component of the test cluster for some seconds.
    Outage { component: String, seconds: u64 },
    /// Starts this number of further runs.
    Runs(usize),
    /// Cancels this number of runs whose agents print, each at a random replica.
    Cancel(usize),
    /// Puts a plugin into a ConfigMap that all replicas watch, and waits until each has taken or rejected it.
    SwapPlugin(Build),
    /// Waits for seconds.
    Wait(u64),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Start {
    pub(crate) name: String,
    /// The replica whose state folder it uses, as with a volume; default: a new one.
    pub(crate) state_of: Option<String>,
    /// Whether it is the build of before hosts had Leases.
    #[serde(default)]
    pub(crate) is_previous: bool,
}

fn default_pause_sec() -> f64 {
    0.3
}

impl Scenario {
    /// Whether the previous build takes part.
    pub(crate) fn has_previous(&self) -> bool {
        let later = self.steps.iter().filter_map(|step| match step {
            Step::Start(start) => Some(start),
            _ => None,
        });
        self.replicas.iter().chain(later).any(|start| start.is_previous)
    }

    /// Whether plugins are swapped.
    pub(crate) fn swaps_plugins(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::SwapPlugin(_)))
    }

    /// How many runs it starts.
    pub(crate) fn all_runs(&self) -> usize {
        let later = self.steps.iter().map(|step| match step {
            Step::Runs(count) => *count,
            _ => 0,
        });
        self.runs + later.sum::<usize>()
    }
}

/// Reads all scenarios of a folder, by name.
pub(crate) fn read_all(folder: &Path) -> Result<Vec<Scenario>> {
    read_files(folder, check)
}

fn check(mut scenario: Scenario, name: &str) -> Result<Scenario> {
    scenario.name = format!("replicas-{name}");
    if scenario.replicas.is_empty() {
        bail!("it needs a replica to start with");
    }
    Ok(scenario)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/replicas");
        let scenarios = read_all(&folder).unwrap();
        assert!(scenarios.iter().any(|scenario| scenario.ci));
        for scenario in &scenarios {
            assert!(scenario.name.len() <= 40, "{}", scenario.name);
            let named = |name: &String| {
                let starts = scenario.steps.iter().filter_map(|step| match step {
                    Step::Start(start) => Some(start),
                    _ => None,
                });
                scenario.replicas.iter().chain(starts).any(|start| start.name == *name)
            };
            for step in &scenario.steps {
                match step {
                    Step::Stop(name) | Step::Kill(name) | Step::Cut(name) | Step::Restore(name) => {
                        assert!(named(name), "{}: {name}", scenario.name);
                    }
                    Step::Pause { replica, .. } => assert!(named(replica), "{}: {replica}", scenario.name),
                    Step::Start(_)
                    | Step::Outage { .. }
                    | Step::Runs(_)
                    | Step::Cancel(_)
                    | Step::SwapPlugin(_)
                    | Step::Wait(_) => {}
                }
            }
        }
    }
}
