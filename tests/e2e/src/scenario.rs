//! A scenario: what is set up, what the agent does, what happens meanwhile, and what must result. One YAML file each.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
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
    /// Whether every change must pass it.
    #[serde(default)]
    pub(crate) ci: bool,
    /// Whether it affects the whole cluster, so that no other scenario runs at the same time.
    #[serde(default)]
    pub(crate) alone: bool,
    /// Whether it needs the cluster of `tests/kubernetes`, whose parts it restarts or whose node it puts images on.
    #[serde(default)]
    pub(crate) own_cluster: bool,
    /// Whether its agent is the real CLI, which an image of its own has.
    #[serde(default)]
    pub(crate) real_cli: bool,
    /// `runtime` of the execution context: the session to resume.
    #[serde(default)]
    pub(crate) runtime: Map<String, Value>,
    /// Time limit in seconds.
    #[serde(default = "default_limit_sec")]
    pub(crate) limit_sec: u64,
    /// Whether hosts have exactly the permissions of the Role in `deploy/base` instead of an administrator's.
    #[serde(default)]
    pub(crate) service_account: bool,
    /// Labels of its namespace.
    #[serde(default)]
    pub(crate) namespace_labels: BTreeMap<String, String>,
    /// Manifests that are applied before the first host starts.
    #[serde(default)]
    pub(crate) before: String,
    /// The condition that shows that they are in effect: admission policies take seconds.
    pub(crate) before_works: Option<Works>,
    /// The run's config, merged over that of every run.
    #[serde(default)]
    pub(crate) config: Map<String, Value>,
    /// `context` of the execution context, merged over that of every run.
    #[serde(default)]
    pub(crate) context: Map<String, Value>,
    /// Paperclip's pod.
    pub(crate) self_pod: Option<Value>,
    /// What the scripted agent does: a shell script, see `agent/claude`.
    pub(crate) play: String,
    /// What happens while host `a`, which starts first, drives run 1.
    #[serde(default)]
    pub(crate) steps: Vec<Step>,
    /// How each host ends.
    pub(crate) expect: BTreeMap<String, Expect>,
    /// How often an agent's container may have started, in all.
    #[serde(default = "one")]
    pub(crate) agent_starts: usize,
}

/// A step. In texts, `{namespace}`, `{job}` and `{pod}` are replaced by those of host `a`'s run, `{image}` by the image of the scripted
/// agent, `{deploy}` by the folder of the manifests.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) enum Step {
    /// Starts a host.
    Start(Start),
    /// Waits for an agent's line that contains the text.
    WaitLine(ExpectedText),
    /// Waits for a status record that contains the text.
    WaitStatus(ExpectedText),
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
    /// Removes the permissions of the Role one by one: `paperclip-host check` must name each.
    EachRightIsNeeded,
    /// Requests the pod's eviction, as a node drain does.
    Evict,
    /// Installs the host as a Deployment with this number of replicas, and waits until they are ready.
    Deploy { replicas: usize },
    /// Imports the agent's image under this name.
    ImportImage(String),
    /// Kills a component of the test cluster; it is restarted automatically.
    Restart(String),
    /// Stops a component of the test cluster for some seconds.
    Outage { component: String, seconds: u64 },
    /// Cuts all connections of hosts that were started `through-proxy`, and rejects new ones for some seconds.
    Cut { seconds: u64 },
}

/// A kubectl command and a text that its output or error eventually contains.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Works {
    pub(crate) kubectl: String,
    pub(crate) prints: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Start {
    pub(crate) host: String,
    /// Number of the run that it drives.
    #[serde(default = "one")]
    pub(crate) run: usize,
    /// The host whose state folder it uses; default: its own.
    pub(crate) state_of: Option<String>,
    /// Merged over the scenario's config.
    #[serde(default)]
    pub(crate) config: Map<String, Value>,
    /// Replaces the scenario's.
    pub(crate) play: Option<String>,
    #[serde(default)]
    pub(crate) through_proxy: bool,
    /// The replica of the Deployment that drives it, from 1 on, instead of a separate host.
    pub(crate) replica: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ExpectedText {
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
    /// Fields that the result must have. A text with the prefix `~` must be contained in the field.
    pub(crate) result: Option<Value>,
    /// The number of numbered lines of the agent, from 0 on, each once and in order.
    pub(crate) lines: Option<usize>,
    /// Texts that status records must contain, in this order.
    #[serde(default)]
    pub(crate) statuses: Vec<String>,
    /// Whether output may be missing where a gap record says so.
    #[serde(default)]
    pub(crate) may_have_gaps: bool,
    /// Whether indices start above 0: this host continues where another had stopped.
    #[serde(default)]
    pub(crate) continues: bool,
}

fn default_limit_sec() -> u64 {
    120
}

fn one() -> usize {
    1
}

/// Reads all scenarios of a folder, by name.
pub(crate) fn read_all(folder: &Path) -> Result<Vec<Scenario>> {
    read_files(folder, check)
}

fn check(mut scenario: Scenario, name: &str) -> Result<Scenario> {
    name.clone_into(&mut scenario.name);
    if !scenario.expect.contains_key("a") {
        bail!("nothing is expected of host a");
    }
    Ok(scenario)
}

/// Reads every YAML file of a folder, by name, and makes a scenario of its content and its name without `.yaml`.
///
/// # Errors
/// There is none, or one of them is wrong: the file is named.
pub(crate) fn read_files<T: DeserializeOwned>(
    folder: &Path,
    make: impl Fn(T, &str) -> Result<T>,
) -> Result<Vec<T>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    if paths.is_empty() {
        bail!("there is no scenario in {}", folder.display());
    }
    let read = |path: &Path| {
        // Through JSON, where an enum is a map with one key; in YAML it would need a tag.
        let value: Value = serde_saphyr::from_str(&std::fs::read_to_string(path)?)?;
        make(serde_json::from_value(value)?, &path.file_stem().unwrap_or_default().to_string_lossy())
    };
    paths.iter().map(|path| read(path).with_context(|| path.display().to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_can_be_read() {
        let scenarios = read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")).unwrap();
        assert!(scenarios.iter().any(|scenario| scenario.ci));
        for scenario in &scenarios {
            // It is part of a namespace's name.
            assert!(scenario.name.len() <= 40, "{}", scenario.name);
        }
    }
}
