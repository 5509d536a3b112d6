//! What a plugin may request. The host refuses a command outside the plugin's grant, or a Job that breaks the operator's rules; the
//! refusal names the [`Rule`] and ends the run.
//!
//! The checks here need only the command and the request. Whether an object was created by this run is checked by [`crate::run`].

mod data_volume;
mod grant;
mod pod;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use paperclip_contract::actions::Objects;
use paperclip_contract::types::{
    Action, Command, Label, ListJobs, NewConfigMap, NewSecret, ObjectRef, Request,
};
use paperclip_kubernetes::shared;
use serde_json::Value;

use data_volume::DataVolume;
pub use grant::{Amount, CompanyGrant, Grant, Pattern, PatternError, fits};
pub use pod::secrets as secrets_of;

/// The label of an agent's Jobs that names the agent.
const AGENT_LABEL: &str = "paperclip.io/agent-id";

/// The rule that a refused command breaks. The names are part of the product's interface and are listed in `docs/plugins.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// An object in a namespace that is not the run's, or that the grant does not name.
    Namespace,
    /// A list of Jobs that are not the agent's.
    OtherAgent,
    /// A manifest that is not JSON or not of the expected kind, or a shared ConfigMap whose name is not that of its content.
    Manifest,
    /// A Job that would start before the objects that it owns exist, or more than one Pod.
    JobShape,
    /// A container that is privileged, or that can gain privileges.
    Privileged,
    /// The node's network, PID or IPC namespace.
    HostNamespaces,
    /// A volume with a path of the node.
    HostPath,
    /// A port of the node.
    HostPort,
    /// A Pod that names its node, which bypasses the scheduler.
    NodeName,
    /// A Linux capability that is not granted.
    Capabilities,
    /// A container that runs as root.
    RootUser,
    /// A seccomp or AppArmor profile that is `Unconfined`.
    Seccomp,
    /// A Pod that sets sysctls.
    Sysctls,
    /// A service account that is not granted, the host's own, or a token of the default one.
    ServiceAccount,
    /// A priority class that is not granted.
    PriorityClass,
    /// A runtime class that is not granted.
    RuntimeClass,
    /// A probe or hook by which the node would send requests to another host than the Pod.
    ProbeHost,
    /// A volume of a kind that may give access to more than the run's own data.
    VolumeKind,
    /// A PersistentVolumeClaim that is neither inherited from Paperclip's pod nor granted.
    VolumeClaim,
    /// A folder of Paperclip's data volume that is neither the agent's home, nor its or its company's workspace, nor granted.
    DataVolume,
    /// A Secret that is neither the run's own, nor inherited from Paperclip's pod, nor granted.
    Secret,
    /// A ConfigMap that is neither the run's own, nor inherited from Paperclip's pod, nor granted.
    ConfigMap,
    /// An image that is not granted.
    Image,
    /// A limit above the grant's, or a container without one although the grant has one.
    Resources,
    /// A path of Paperclip's API that the grant does not name.
    HttpPath,
}

impl Rule {
    /// All rules.
    pub const ALL: [Rule; 25] = [
        Rule::Namespace,
        Rule::OtherAgent,
        Rule::Manifest,
        Rule::JobShape,
        Rule::Privileged,
        Rule::HostNamespaces,
        Rule::HostPath,
        Rule::HostPort,
        Rule::NodeName,
        Rule::Capabilities,
        Rule::RootUser,
        Rule::Seccomp,
        Rule::Sysctls,
        Rule::ServiceAccount,
        Rule::PriorityClass,
        Rule::RuntimeClass,
        Rule::ProbeHost,
        Rule::VolumeKind,
        Rule::VolumeClaim,
        Rule::DataVolume,
        Rule::Secret,
        Rule::ConfigMap,
        Rule::Image,
        Rule::Resources,
        Rule::HttpPath,
    ];

    /// Returns the rule's name in messages and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Rule::Namespace => "namespace",
            Rule::OtherAgent => "other-agent",
            Rule::Manifest => "manifest",
            Rule::JobShape => "job-shape",
            Rule::Privileged => "privileged",
            Rule::HostNamespaces => "host-namespaces",
            Rule::HostPath => "host-path",
            Rule::HostPort => "host-port",
            Rule::NodeName => "node-name",
            Rule::Capabilities => "capabilities",
            Rule::RootUser => "root-user",
            Rule::Seccomp => "seccomp",
            Rule::Sysctls => "sysctls",
            Rule::ServiceAccount => "service-account",
            Rule::PriorityClass => "priority-class",
            Rule::RuntimeClass => "runtime-class",
            Rule::ProbeHost => "probe-host",
            Rule::VolumeKind => "volume-kind",
            Rule::VolumeClaim => "volume-claim",
            Rule::DataVolume => "data-volume",
            Rule::Secret => "secret",
            Rule::ConfigMap => "config-map",
            Rule::Image => "image",
            Rule::Resources => "resources",
            Rule::HttpPath => "http-path",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a command is refused: the rule, what breaks it, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule}: {what}; {hint}")]
pub struct Refused {
    pub rule: Rule,
    /// The object or field, and its value.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

impl Refused {
    fn new(rule: Rule, what: impl Into<String>, hint: impl Into<String>) -> Refused {
        Refused { rule, what: what.into(), hint: hint.into() }
    }
}

/// Checks the commands of one run against its plugin's grant.
#[derive(Debug, Clone)]
pub struct Policy {
    grant: Grant,
    /// Namespaces that the request names.
    namespaces: BTreeSet<String>,
    /// Names of Secrets that Paperclip's pod has in its environment or pulls images with: an agent inherits them. Those that it mounts
    /// are inherited only if they are granted.
    inherited_secrets: BTreeSet<String>,
    /// Names of ConfigMaps that Paperclip's pod uses, and of the host's own with the init program.
    inherited_config_maps: BTreeSet<String>,
    /// Paperclip's data volume.
    data: Option<DataVolume>,
    /// Audiences of the tokens that Paperclip's pod gets, other than the Kubernetes API.
    inherited_audiences: BTreeSet<String>,
    /// The name of the host's own service account, if it has one.
    own_account: Option<String>,
    agent_id: String,
}

impl Policy {
    /// Returns the policy of a run with this request.
    pub fn new(grant: Grant, request: &Request) -> Policy {
        let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let config = parse(&request.config_json);
        let paperclip_pod = request.paperclip_pod_json.as_deref().map(parse).unwrap_or_default();
        let named = [
            config["namespace"].as_str(),
            paperclip_pod["metadata"]["namespace"].as_str(),
            request.host.default_namespace.as_deref(),
        ];
        let namespaces = named.into_iter().flatten().map(|name| name.trim().to_owned());
        Policy {
            namespaces: namespaces.filter(|name| !name.is_empty()).collect(),
            inherited_secrets: pod::environment_secrets(&paperclip_pod["spec"]).into_iter().collect(),
            inherited_config_maps: pod::config_maps(&paperclip_pod["spec"])
                .into_iter()
                .chain(request.host.init_config_map.clone())
                .collect(),
            data: DataVolume::of(&paperclip_pod, &request.agent.company_id, &request.agent.id),
            inherited_audiences: pod::audiences(&paperclip_pod["spec"]).map(str::to_owned).collect(),
            own_account: None,
            agent_id: request.agent.id.clone(),
            grant,
        }
    }

    /// Never grants an account of the name that the host itself runs as, whatever the grant and the namespace.
    #[must_use]
    pub fn without_account(mut self, own: Option<String>) -> Policy {
        self.own_account = own;
        self
    }

    /// Checks all commands of a call, before the first is carried out.
    ///
    /// # Errors
    /// The first command that breaks a rule.
    pub fn check(&self, commands: &[Command]) -> Result<(), Refused> {
        commands.iter().try_for_each(|command| self.check_action(&command.action))
    }

    fn check_action(&self, action: &Action) -> Result<(), Refused> {
        match action {
            Action::AcquireGuard(guard) => self.namespace("the guard", &guard.namespace),
            Action::ListJobs(list) => self.list(list),
            Action::DryRunPod(pod) => {
                let pod = self.manifest("Pod", &pod.manifest_json)?;
                self.pod("", &pod["metadata"], &pod["spec"])
            }
            Action::CreateJob(job) => self.job(&job.manifest_json),
            Action::CreateSecret(NewSecret { namespace, name, owner, .. }) => {
                self.owned("Secret", namespace, name, owner)
            }
            Action::CreateConfigMap(map) => shared_by_content(map)
                .and_then(|()| self.owned("ConfigMap", &map.namespace, &map.name, &map.owner)),
            Action::PollHttp(poll) => self.http(&poll.path),
            // Only the objects that they name need a check. Listed one by one, so that a new command cannot pass unchecked.
            Action::ReleaseGuard
            | Action::UnsuspendJob(_)
            | Action::AdoptJob(_)
            | Action::LabelJob(_)
            | Action::DeleteJob(_)
            | Action::FollowJob(_)
            | Action::GetJob(_)
            | Action::ListPods(_)
            | Action::ListEvents(_)
            | Action::FollowLog(_)
            | Action::StopLog(_)
            | Action::ReadLog(_)
            | Action::EmitLog(_)
            | Action::SetTimer(_)
            | Action::CancelTimer(_)
            | Action::StopPoll(_)
            | Action::EmitStatus(_)
            | Action::ReportMeta(_)
            | Action::CountObservation(_)
            | Action::Finish(_)
            | Action::Other(_) => Ok(()),
        }?;
        match action.properties().objects {
            Objects::None => Ok(()),
            Objects::OwnJobs(jobs) => jobs.iter().try_for_each(|job| self.object("Job", job)),
            Objects::Job(job) => self.object("Job", job),
            Objects::Pod(pod) => self.object("Pod", pod),
        }
    }

    fn object(&self, kind: &str, object: &ObjectRef) -> Result<(), Refused> {
        self.namespace(&format!("{kind} {}", object.name), &object.namespace)
    }

    fn owned(&self, kind: &str, namespace: &str, name: &str, owner: &ObjectRef) -> Result<(), Refused> {
        let what = format!("{kind} {name}");
        if owner.namespace != namespace {
            let what = format!("{what} in {namespace} is owned by a Job in {}", owner.namespace);
            return Err(Refused::new(Rule::Namespace, what, "an owner is in the same namespace"));
        }
        self.namespace(&what, namespace)
    }

    fn namespace(&self, what: &str, namespace: &str) -> Result<(), Refused> {
        if !self.namespaces.contains(namespace) {
            let own: Vec<&str> = self.namespaces.iter().map(String::as_str).collect();
            let hint = format!("this run's are {}: set `namespace` in the agent's config", listed(&own));
            return Err(Refused::new(Rule::Namespace, format!("{what} is in {namespace:?}"), hint));
        }
        if self.grant.has_namespace(namespace) {
            return Ok(());
        }
        Err(Refused::new(
            Rule::Namespace,
            format!("{what} is in {namespace:?}"),
            format!("the plugin is granted {}: add it to `namespaces`", shown(&self.grant.namespaces)),
        ))
    }

    fn list(&self, list: &ListJobs) -> Result<(), Refused> {
        self.namespace("a list of Jobs", &list.namespace)?;
        let agent = list.labels.iter().find(|label| label.key == AGENT_LABEL);
        match agent {
            Some(label) if is_label_of(&label.value, &self.agent_id) => Ok(()),
            Some(_) | None => Err(Refused::new(
                Rule::OtherAgent,
                format!("a list of Jobs without {AGENT_LABEL}={}", self.agent_id),
                "a plugin lists its own agent's Jobs",
            )),
        }
    }

    fn manifest(&self, kind: &str, manifest_json: &str) -> Result<Value, Refused> {
        let bad = |what: String| Refused::new(Rule::Manifest, what, format!("give a {kind} as JSON"));
        let object: Value = serde_json::from_str(manifest_json)
            .map_err(|error| bad(format!("the manifest of a {kind} is not JSON: {error}")))?;
        if object["kind"] != kind {
            return Err(bad(format!("the manifest of a {kind} has kind {}", object["kind"])));
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        self.namespace(&format!("{kind} {name}"), namespace)?;
        Ok(object)
    }

    fn job(&self, manifest_json: &str) -> Result<(), Refused> {
        let job = self.manifest("Job", manifest_json)?;
        let name = job["metadata"]["name"].as_str().unwrap_or_default();
        let spec = &job["spec"];
        if spec["suspend"] != true {
            let what = format!("Job {name} is not suspended");
            return Err(Refused::new(
                Rule::JobShape,
                what,
                "create it with suspend: true, then unsuspend it",
            ));
        }
        for field in ["parallelism", "completions"] {
            if spec[field].as_u64().is_some_and(|count| count > 1) {
                let what = format!("Job {name} has {field} {}", spec[field]);
                return Err(Refused::new(Rule::JobShape, what, "a run has one Pod at a time"));
            }
        }
        self.pod(name, &spec["template"]["metadata"], &spec["template"]["spec"])
    }

    fn http(&self, path: &str) -> Result<(), Refused> {
        let is_plain = !path.contains("..") && !path.contains("//");
        if is_plain && matches(&self.grant.http_paths, path) {
            return Ok(());
        }
        Err(Refused::new(
            Rule::HttpPath,
            format!("a poll of {path:?}"),
            format!("the plugin is granted {}: add it to `http_paths`", shown(&self.grant.http_paths)),
        ))
    }
}

fn entries(entries: &[Label]) -> BTreeMap<&str, &str> {
    entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect()
}

/// Checks that a shared ConfigMap has the name of its content: another run could get what this one wrote under a name of its choice.
fn shared_by_content(map: &NewConfigMap) -> Result<(), Refused> {
    if !map.is_shared {
        return Ok(());
    }
    let expected = shared::name(&entries(&map.entries), &entries(&map.binary_entries));
    if map.name == expected {
        return Ok(());
    }
    let what = format!("shared ConfigMap {} has the content of {expected}", map.name);
    Err(Refused::new(Rule::Manifest, what, "name a shared ConfigMap after its content"))
}

/// Returns whether a label's value identifies this id. Characters that a label cannot contain are replaced or left out, and long ids
/// are cut.
pub fn is_label_of(value: &str, id: &str) -> bool {
    let plain = |text: &str| -> Vec<char> { text.chars().filter(char::is_ascii_alphanumeric).collect() };
    let (value, id) = (plain(value), plain(id));
    !value.is_empty() && (value == id || (value.len() >= MIN_CUT_CHARS && id.starts_with(&value)))
}

/// A label's value has at most 63 characters; a value with fewer alphanumeric characters than this was not cut.
const MIN_CUT_CHARS: usize = 32;

fn matches(patterns: &[Pattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(text))
}

fn shown(patterns: &[Pattern]) -> String {
    let patterns: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
    listed(&patterns)
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests;
