//! Runs one scenario: sets it up, executes its steps, and checks the result.

use std::collections::BTreeMap;
use std::fs;
use std::net::ToSocketAddrs as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Map, Value, json};

use crate::deployment::Deployment;
use crate::host::{CANARY, Host, Order, Place};
use crate::kubectl::Kubectl;
use crate::own_cluster::OwnCluster;
use crate::proxy::Proxy;
use crate::records::text;
use crate::rights;
use crate::scenario::{Scenario, SignalName, Start, Step};
use crate::verdict;

/// The label of what a run must delete at its end. The record of a run that a daemon drove outlives it.
const OF_RUNS: &str = "app.kubernetes.io/managed-by=paperclip,app.kubernetes.io/component!=run-record";
/// Continues a selector: all but the Leases of hosts.
const BUT_HOSTS: &str = ",app.kubernetes.io/component!=host";
/// Kinds of objects that a run must delete at its end.
const KINDS: &str = "jobs,pods,secrets,configmaps,leases.coordination.k8s.io";
/// Cluster-scoped kinds, whose objects carry the scenario's label `e2e`.
const CLUSTER_WIDE: &str = "validatingadmissionpolicies,validatingadmissionpolicybindings,\
    mutatingadmissionpolicies,mutatingadmissionpolicybindings,persistentvolumes";
/// How long after the result the cluster may take to collect what the Job owned: its controllers need a minute after an outage of the API server.
const COLLECTION: Duration = Duration::from_secs(100);

/// What all scenarios share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) program: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) image: String,
    /// The image with the real CLI.
    pub(crate) cli_image: Option<String>,
    /// The program as it was before hosts had Leases.
    pub(crate) previous: Option<PathBuf>,
    pub(crate) own_cluster: Option<OwnCluster>,
    /// A folder for each scenario's files.
    pub(crate) folder: PathBuf,
}

struct Stage<'a> {
    world: &'a World,
    scenario: &'a Scenario,
    kubectl: Kubectl,
    folder: PathBuf,
    deadline: Instant,
    hosts: BTreeMap<String, Host>,
    proxy: Option<(Proxy, PathBuf)>,
    deployment: Option<Deployment>,
}

/// Runs a scenario in its own namespace. Fails with everything that was wrong, and with what a person would inspect next.
pub(crate) fn play(world: &World, scenario: &Scenario) -> Result<()> {
    // Another run of the suite may still be deleting its namespaces.
    let namespace = format!("e2e-{}-{}", scenario.name, std::process::id());
    let folder = world.folder.join(&scenario.name);
    fs::create_dir_all(&folder)?;
    let mut stage = Stage {
        world,
        scenario,
        kubectl: Kubectl::new(&world.kubeconfig, &namespace),
        folder,
        deadline: Instant::now() + Duration::from_secs(scenario.limit_sec),
        hosts: BTreeMap::new(),
        proxy: None,
        deployment: None,
    };
    stage.set()?;
    let outcome = stage.perform().map_err(|error| error.context(stage.story()));
    stage.hosts.clear();
    stage.clear().and(outcome)
}

impl Stage<'_> {
    fn set(&self) -> Result<()> {
        let namespace = &self.kubectl.namespace;
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace, "labels": self.scenario.namespace_labels},
        });
        self.kubectl.apply(&object.to_string())?;
        // The API rejects pods until it exists.
        self.kubectl.until(
            "get serviceaccounts default -o name --ignore-not-found",
            "serviceaccount/default",
            self.deadline,
        )?;
        if self.scenario.service_account {
            rights::grant(&self.kubectl, &rights::manifests(), &self.granted())?;
        }
        if !self.scenario.before.is_empty() {
            self.kubectl.apply(&self.fill(&self.scenario.before))?;
        }
        if let Some(until) = &self.scenario.before_works {
            self.kubectl.until_output_contains(&until.kubectl, &until.prints, self.deadline)?;
        }
        Ok(())
    }

    /// Deletes what the scenario created in the cluster.
    fn clear(&self) -> Result<()> {
        let namespace = &self.kubectl.namespace;
        if !self.scenario.before.is_empty() {
            // A volume that a claim of the namespace is bound to is deleted after that.
            self.kubectl.run(&format!("delete {CLUSTER_WIDE} -l e2e={namespace} --wait=false"))?;
        }
        if self.scenario.alone && self.world.own_cluster.is_some() {
            self.kubectl.run("uncordon node")?;
        }
        // Not waited for: it takes seconds.
        self.kubectl.run(&format!("delete namespace {namespace} --wait=false")).map(drop)
    }

    fn perform(&mut self) -> Result<()> {
        if !self.starts_by_itself() {
            self.start(&Start {
                host: "a".into(),
                run: 1,
                state_of: None,
                config: Map::new(),
                play: None,
                through_proxy: false,
                replica: None,
            })?;
        }
        for step in &self.scenario.steps {
            self.take(step).with_context(|| format!("at {step:?}"))?;
        }
        let mut complaints = Vec::new();
        for (name, expect) in &self.scenario.expect {
            let host = self.hosts.get_mut(name).ok_or_else(|| anyhow!("host {name} was never started"))?;
            let exit = host.wait(self.deadline).with_context(|| format!("host {name}"))?;
            let found = verdict::complaints(expect, exit, &host.records.lock().records);
            complaints.extend(found.into_iter().map(|complaint| format!("host {name}: {complaint}")));
        }
        complaints.extend(self.agent_starts()?);
        complaints.extend(self.leftovers()?);
        complaints.extend(self.leaks()?);
        if complaints.is_empty() { Ok(()) } else { bail!(complaints.join("\n")) }
    }

    /// Whether a step starts host `a` in a way of its own, before anything else happens or where it is to be deployed first.
    fn starts_by_itself(&self) -> bool {
        let is_deployed = |step: &Step| matches!(step, Step::Deploy { .. });
        let first = self.scenario.steps.iter().find(|step| !is_deployed(step));
        matches!(first, Some(Step::Start(start)) if start.host == "a")
    }

    fn take(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Start(start) => self.start(start)?,
            Step::WaitLine(text) => self.wait(&text.host, "log", &text.text)?,
            Step::WaitStatus(text) => self.wait(&text.host, "status", &text.text)?,
            Step::WaitExit(host) => self.host(host)?.records.wait_for_end(self.deadline)?,
            Step::Signal { host, signal } => self.host(host)?.signal(*signal)?,
            Step::Kubectl(line) => drop(self.kubectl.run(&self.fill(line))?),
            Step::Until { kubectl, prints } => {
                self.kubectl.until(&self.fill(kubectl), prints, self.deadline)?;
            }
            Step::Apply(manifests) => self.kubectl.apply(&self.fill(manifests))?,
            Step::EachRightIsNeeded => {
                rights::each_is_needed(
                    &self.kubectl,
                    &rights::manifests(),
                    &self.world.program,
                    &self.granted(),
                )?;
            }
            Step::Evict => self.evict()?,
            Step::Deploy { replicas } => {
                let cluster = self.own_cluster()?;
                let (world, kubectl) = (self.world, &self.kubectl);
                self.deployment = Some(Deployment::install(
                    &world.program,
                    cluster,
                    kubectl,
                    &self.folder,
                    *replicas,
                    self.deadline,
                )?);
            }
            Step::ImportImage(name) => self.own_cluster()?.import_image(&self.fill(name))?,
            Step::Restart(component) => self.own_cluster()?.restart(component)?,
            Step::Outage { component, seconds } => {
                let cluster = self.own_cluster()?;
                cluster.stop(component)?;
                std::thread::sleep(Duration::from_secs(*seconds));
                cluster.start(component)?;
            }
            Step::Cut { seconds } => {
                let (proxy, _) = self.proxy.as_ref().context("no host was started through the proxy")?;
                proxy.cut();
                std::thread::sleep(Duration::from_secs(*seconds));
                proxy.restore();
            }
        }
        Ok(())
    }

    fn start(&mut self, start: &Start) -> Result<()> {
        let play = start.play.as_ref().unwrap_or(&self.scenario.play);
        let cli_image = self.world.cli_image.as_ref().filter(|_| self.scenario.real_cli);
        let mut config = json!({
            "image": cli_image.unwrap_or(&self.world.image),
            "resources": {"requests": {"cpu": "20m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
        });
        for layer in [&self.scenario.config, &start.config] {
            merge(&mut config, &Value::Object(layer.clone()));
        }
        merge(&mut config, &json!({"env": {"PLAY": play}}));
        let text = self.fill(&config.to_string());
        let config: Map<String, Value> = serde_json::from_str(&text)?;
        if start.through_proxy && self.proxy.is_none() {
            self.proxy = Some(self.lay_proxy()?);
        }
        let mut context = json!({"taskId": "T-1"});
        merge(&mut context, &Value::Object(self.scenario.context.clone()));
        let context: Value = serde_json::from_str(&self.fill(&context.to_string()))?;
        let granted = self.granted();
        let kubeconfig = match &self.proxy {
            Some((_, kubeconfig)) if start.through_proxy => kubeconfig,
            Some(_) | None if self.scenario.service_account => &granted,
            Some(_) | None => &self.world.kubeconfig,
        };
        let run_id = format!("{}-{}", self.kubectl.namespace, start.run);
        let order = Order {
            run_id: &run_id,
            agent: &self.kubectl.namespace,
            config: &config,
            context: &context,
            self_pod: self.scenario.self_pod.as_ref(),
            runtime: &self.scenario.runtime,
        };
        let state = self.folder.join(format!("{}-state", start.state_of.as_ref().unwrap_or(&start.host)));
        let place = Place {
            program: &self.world.program,
            kubeconfig,
            namespace: &self.kubectl.namespace,
            folder: &self.folder,
            state: &state,
        };
        let host = match start.replica {
            None => Host::start(&start.host, &order, &place)?,
            Some(replica) => {
                let deployment = self.deployment.as_ref().context("no step deploys the host")?;
                Host::at(deployment.replica(replica)?, &start.host, &order, &self.folder)?
            }
        };
        self.hosts.insert(start.host.clone(), host);
        Ok(())
    }

    /// The kubeconfig with the rights of a service account.
    fn granted(&self) -> PathBuf {
        self.folder.join("granted-kubeconfig")
    }

    fn host(&self, name: &str) -> Result<&Host> {
        self.hosts.get(name).ok_or_else(|| anyhow!("host {name} was never started"))
    }

    fn own_cluster(&self) -> Result<&OwnCluster> {
        self.world
            .own_cluster
            .as_ref()
            .context("this needs the cluster of tests/kubernetes: own-cluster: true")
    }

    fn wait(&self, host: &str, kind: &str, expected: &str) -> Result<()> {
        let what = format!("{kind} record with {expected:?}");
        let records = &self.host(host)?.records;
        records.wait_for(&what, self.deadline, |record| text(record, kind).contains(expected)).map(drop)
    }

    fn evict(&self) -> Result<()> {
        let (namespace, pod) = (&self.kubectl.namespace, self.pod()?);
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace},
        });
        self.kubectl.post(&format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction"), &eviction)
    }

    /// A way to the API server that can be cut, and the kubeconfig that leads through it.
    fn lay_proxy(&self) -> Result<(Proxy, PathBuf)> {
        let mut kubeconfig = self.kubectl.json("config view --raw --minify --flatten")?;
        let server = kubeconfig["clusters"][0]["cluster"]["server"].take();
        let server =
            server.as_str().and_then(|url| url.strip_prefix("https://")).context("no https server")?;
        let address = if server.contains(':') { server.to_owned() } else { format!("{server}:443") };
        let address = address.to_socket_addrs()?.next().context("the API server has no address")?;
        let proxy = Proxy::start(address)?;
        kubeconfig["clusters"][0]["cluster"]["server"] = format!("https://127.0.0.1:{}", proxy.port).into();
        let path = self.folder.join("kubeconfig");
        fs::write(&path, kubeconfig.to_string())?;
        Ok((proxy, path))
    }

    fn fill(&self, template: &str) -> String {
        let mut text = template
            .replace("{namespace}", &self.kubectl.namespace)
            .replace("{image}", &self.world.image)
            .replace("{deploy}", &rights::manifests().to_string_lossy());
        if text.contains("{job}") {
            text = text.replace("{job}", &self.job().unwrap_or_default());
        }
        if text.contains("{pod}") {
            text = text.replace("{pod}", &self.pod().unwrap_or_default());
        }
        text
    }

    fn job(&self) -> Result<String> {
        let records = &self.host("a")?.records;
        let meta = records.wait_for("meta record", self.deadline, |record| record["type"] == "meta")?;
        Ok(meta["jobName"].as_str().context("the meta record has no jobName")?.to_owned())
    }

    fn pod(&self) -> Result<String> {
        let job = self.job()?;
        self.kubectl.run(&format!(
            "get pods -l batch.kubernetes.io/job-name={job} -o jsonpath={{.items[0].metadata.name}}"
        ))
    }

    fn agent_starts(&self) -> Result<Option<String>> {
        let found = self.kubectl.agent_starts()?;
        let expected = self.scenario.agent_starts;
        Ok((found != expected).then(|| format!("agents were started {found} times instead of {expected}")))
    }

    /// Returns what is left in the cluster after the time for garbage collection.
    fn leftovers(&self) -> Result<Option<String>> {
        // A deployed host lives on. The Lease of a killed one exists until another host of the namespace finds that it has expired.
        let leaves_lease =
            |step: &Step| matches!(step, Step::Deploy { .. } | Step::Signal { signal: SignalName::Kill, .. });
        let but = if self.scenario.steps.iter().any(leaves_lease) { BUT_HOSTS } else { "" };
        let line = format!("get {KINDS} -l {OF_RUNS}{but} -o name");
        let left = self.kubectl.until(&line, "", Instant::now() + COLLECTION);
        Ok(left.err().map(|error| format!("something is left behind: {error:#}")))
    }

    /// Returns the files of hosts that contain the run's token.
    fn leaks(&self) -> Result<Vec<String>> {
        let mut leaks = Vec::new();
        find(&self.folder, CANARY.as_bytes(), &mut leaks)?;
        // The suite's own files: the hosts' input.
        leaks.retain(|path| !path.to_string_lossy().ends_with("-context.json"));
        Ok(leaks.iter().map(|path| format!("the run's token is in {}", path.display())).collect())
    }

    /// Returns what a person would inspect first.
    fn story(&self) -> String {
        let mut story = String::new();
        for (name, host) in &self.hosts {
            story.push_str(&format!("--- host {name}\n"));
            let received = host.records.lock();
            let from = received.records.len().saturating_sub(25);
            for record in &received.records[from..] {
                story.push_str(&format!("{:.400}\n", record.to_string()));
            }
            drop(received);
            let stderr = host.stderr();
            story.push_str(&format!("--- stderr of host {name}\n{stderr:.4000}\n"));
        }
        for line in ["get jobs,pods -o wide", "get events --sort-by=.lastTimestamp"] {
            let found = self.kubectl.run(line).unwrap_or_else(|error| format!("{error:#}"));
            story.push_str(&format!("--- kubectl {line}\n{found}\n"));
        }
        story
    }
}

/// Merges an object over another, key by key.
fn merge(below: &mut Value, above: &Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                merge(below.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above.clone(),
    }
}

fn find(folder: &Path, needle: &[u8], found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, needle, found)?;
        } else if path.is_file() && fs::read(&path)?.windows(needle.len()).any(|window| window == needle) {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_merged_key_by_key() {
        let mut config = json!({"image": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}});
        merge(&mut config, &json!({"image": "b", "resources": {"limits": {"memory": "64Mi"}}}));
        assert_eq!(config, json!({"image": "b", "resources": {"limits": {"cpu": "1", "memory": "64Mi"}}}));
    }
}
