//! A scenario: what is set up, what the agent plays, what happens meanwhile, and what has to come of it. One YAML file each.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

/// A file of `scenarios/`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Scenario {
    /// The file's name without `.yaml`.
    #[serde(skip)]
    pub(crate) name: String,
    /// What it shows, in a sentence.
    pub(crate) about: String,
    /// Whether it is one of those that every change has to pass.
    #[serde(default)]
    pub(crate) ci: bool,
    /// Whether it does something to the whole cluster, so that no other may run beside it.
    #[serde(default)]
    pub(crate) alone: bool,
    /// Whether it needs the cluster of `tests/kubernetes`, whose parts it restarts or whose node it puts images on.
    #[serde(default)]
    pub(crate) own_cluster: bool,
    /// Longest it may take, in seconds.
    #[serde(default = "default_limit_sec")]
    pub(crate) limit_sec: u64,
    /// Whether hosts have the rights of the Role in `deploy/base` and no others, instead of an administrator's.
    #[serde(default)]
    pub(crate) service_account: bool,
    /// Labels of its namespace.
    #[serde(default)]
    pub(crate) namespace_labels: BTreeMap<String, String>,
    /// Manifests that are applied before the first host starts.
    #[serde(default)]
    pub(crate) before: String,
    /// When they have taken effect: admission policies take seconds.
    pub(crate) before_works: Option<Works>,
    /// The run's config, over what every run has.
    #[serde(default)]
    pub(crate) config: Map<String, Value>,
    /// The Pod that Paperclip is said to run in.
    pub(crate) self_pod: Option<Value>,
    /// What the stand-in agent does: a shell script, see `agent/claude`.
    pub(crate) play: String,
    /// What happens while host `a`, which starts first, drives run 1.
    #[serde(default)]
    pub(crate) steps: Vec<Step>,
    /// By host: how it ends.
    pub(crate) expect: BTreeMap<String, Expect>,
    /// How often an agent's container may have started, in all.
    #[serde(default = "one")]
    pub(crate) agent_starts: usize,
}

/// Something that happens. `{namespace}`, `{job}` and `{pod}` in texts stand for those of host `a`'s run,
/// `{deploy}` for the folder of the manifests.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum Step {
    /// Starts a host.
    Start(Start),
    /// Waits for an agent's line that contains the text.
    WaitLine(Told),
    /// Waits for a status record that contains the text.
    WaitStatus(Told),
    /// Waits until a host has ended.
    WaitExit(String),
    /// INT, TERM or KILL.
    Signal { host: String, signal: SignalName },
    /// Runs kubectl in the scenario's namespace; it must succeed.
    Kubectl(String),
    /// Runs kubectl in the scenario's namespace until it prints exactly this.
    Until { kubectl: String, prints: String },
    /// Applies manifests to the scenario's namespace.
    Apply(String),
    /// Takes the rights of the Role away one by one: `paperclip-host check` has to name each.
    EachRightIsNeeded,
    /// Asks for the pod's eviction, as a node's drain does.
    Evict,
    /// Installs the host as a Deployment with so many replicas, and waits until they are ready.
    Deploy { replicas: usize },
    /// Puts the agent's image on the node under this name.
    ImportImage(String),
    /// Kills a component of the own cluster; it comes back by itself.
    Restart(String),
    /// Takes a component of the own cluster away for some seconds.
    Outage { component: String, seconds: u64 },
    /// Cuts all connections of hosts that were started `through-proxy`, and refuses new ones for some seconds.
    Cut { seconds: u64 },
}

/// A kubectl command whose output or error contains the text by then.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Works {
    pub(crate) kubectl: String,
    pub(crate) tells: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Start {
    pub(crate) host: String,
    /// Number of the run that it drives.
    #[serde(default = "one")]
    pub(crate) run: usize,
    /// The host whose state folder it has; its own if it names none.
    pub(crate) state_of: Option<String>,
    /// Over the scenario's config.
    #[serde(default)]
    pub(crate) config: Map<String, Value>,
    /// In place of the scenario's.
    pub(crate) play: Option<String>,
    #[serde(default)]
    pub(crate) through_proxy: bool,
    /// The replica of the Deployment that drives it, from 1 on, in place of a host of its own.
    pub(crate) replica: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Told {
    pub(crate) host: String,
    pub(crate) text: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum SignalName {
    Int,
    Term,
    Kill,
}

/// How a host ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Expect {
    /// The exit code; none if it was killed.
    pub(crate) exit: Option<i32>,
    /// What the result has at least. A text that begins with `~` is one that the field must contain.
    pub(crate) result: Option<Value>,
    /// How many numbered lines of the agent came, from 0 on, each once and in order.
    pub(crate) lines: Option<usize>,
    /// Texts that must stand in status records, in this order.
    #[serde(default)]
    pub(crate) statuses: Vec<String>,
    /// Whether output may be missing where a gap record says so.
    #[serde(default)]
    pub(crate) may_have_gaps: bool,
    /// Whether indices begin later than 0: this host went on where another had stopped.
    #[serde(default)]
    pub(crate) goes_on: bool,
}

fn default_limit_sec() -> u64 {
    120
}

fn one() -> usize {
    1
}

/// Reads all scenarios of a folder, by name.
pub(crate) fn read_all(folder: &Path) -> Result<Vec<Scenario>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut scenarios = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            scenarios.push(read(&path).with_context(|| format!("{}", path.display()))?);
        }
    }
    if scenarios.is_empty() {
        bail!("there is no scenario in {}", folder.display());
    }
    scenarios.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(scenarios)
}

fn read(path: &Path) -> Result<Scenario> {
    let text = std::fs::read_to_string(path)?;
    // By way of JSON: there a choice is a map with one key, where YAML has tags.
    let value: Value = serde_yaml_ng::from_str(&text)?;
    let mut scenario: Scenario = serde_json::from_value(value)?;
    scenario.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    if !scenario.expect.contains_key("a") {
        bail!("nothing is expected of host a");
    }
    Ok(scenario)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_can_be_read() {
        let scenarios = read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")).unwrap();
        assert!(scenarios.iter().any(|scenario| scenario.ci));
        for scenario in &scenarios {
            // A namespace's name is made of it.
            assert!(scenario.name.len() <= 40, "{}", scenario.name);
        }
    }
}
