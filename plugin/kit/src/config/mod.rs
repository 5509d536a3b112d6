//! An agent's config: what operators set in Paperclip's form, checked before anything is created.

use serde::{Deserialize, Serialize};

use crate::kubernetes::{image, label, name, path, toleration::Toleration};
use crate::refusal::Refusal;
use crate::request::Request;

pub mod document;
pub mod fields;
pub mod resources;
pub mod schema;
pub mod text_area;
pub mod tolerations;

use fields::Fields;
use resources::Resources;
use text_area::Entry;

/// No time in a config is longer than a year.
pub const SECONDS_MAX: u32 = 365 * 24 * 3600;

/// Label keys that Kubernetes sets on a Job's Pods itself; it refuses other values.
const KUBERNETES_OWN_LABELS: [&str; 2] = ["job-name", "controller-uid"];
const KUBERNETES_OWN_PREFIX: &str = "batch.kubernetes.io/";
/// Labels under these prefixes are the product's own; others that a config gives are skipped.
const RESERVED_PREFIXES: [&str; 2] = ["paperclip.io/", "app.kubernetes.io/"];

/// A config, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub settings: Settings,
    pub placement: Placement,
    /// What was given and is not used, and why.
    pub warnings: Vec<String>,
}

/// How a run is watched over and judged. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// How long the agent may work; none is without end.
    pub timeout_sec: Option<u32>,
    /// What is added to the timeout before the Job itself is taken for stuck.
    pub grace_sec: u32,
    /// How long a run waits for another one of its key.
    pub queue_timeout_sec: u32,
    /// From SIGTERM to SIGKILL.
    pub cancel_grace_sec: u32,
    /// How long images may fail to be pulled.
    pub image_grace_sec: u32,
    /// How long volumes, Secrets and the container's creation may fail.
    pub mount_grace_sec: u32,
    /// How long no node may have room.
    pub schedule_grace_sec: u32,
    /// How long a quota may keep the Pod from being created.
    pub quota_grace_sec: u32,
    pub ttl_seconds_after_finished: u32,
    pub retain_jobs: bool,
    pub reattach_orphaned_jobs: bool,
    pub retry_fresh_session: bool,
    pub concurrency_scope: ConcurrencyScope,
    pub when_busy: WhenBusy,
    pub inherit_env: InheritEnv,
    pub model: Option<String>,
    pub effort: Option<String>,
}

/// Which runs exclude one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConcurrencyScope {
    /// One run an agent.
    Agent,
    /// One run an agent and task.
    Task,
    None,
}

/// What a run does when another one holds its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WhenBusy {
    Wait,
    Fail,
}

/// What agents inherit of the environment of Paperclip's pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InheritEnv {
    /// All but the server's own secrets.
    Filtered,
    All,
    None,
}

/// Where and as what the agent's Pod runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// The host's cluster of this name, else its own.
    pub cluster: Option<String>,
    pub namespace: Option<String>,
    pub image: Option<String>,
    pub image_pull_policy: &'static str,
    pub service_account: Option<String>,
    pub resources: Resources,
    pub node_selector: Vec<(String, String)>,
    pub tolerations: Vec<Toleration>,
    pub extra_labels: Vec<(String, String)>,
    /// Keys of labels that a config may not set.
    pub skipped_labels: Vec<String>,
    pub working_dir: Option<String>,
}

/// Reads a request's config.
///
/// # Errors
/// A field holds what Kubernetes or the agent would not take; what merely has the wrong type is a warning.
pub fn read(request: &Request) -> Result<Config, Refusal> {
    let mut fields = Fields::new(&request.config);
    let settings = settings(&mut fields)?;
    let placement = placement(&mut fields, &request.host.clusters)?;
    if fields.flag("enableRtk", false) {
        fields.warn("config field enableRtk: tool output is no longer shortened; it has no effect".into());
    }
    Ok(Config { settings, placement, warnings: fields.into_warnings() })
}

fn settings(fields: &mut Fields<'_>) -> Result<Settings, Refusal> {
    let scopes = [
        ("agent", ConcurrencyScope::Agent),
        ("task", ConcurrencyScope::Task),
        ("none", ConcurrencyScope::None),
    ];
    let inherit = [("filtered", InheritEnv::Filtered), ("all", InheritEnv::All), ("none", InheritEnv::None)];
    Ok(Settings {
        timeout_sec: fields.limit("timeoutSec", SECONDS_MAX)?,
        grace_sec: fields.whole("graceSec", 60, SECONDS_MAX)?,
        queue_timeout_sec: fields.whole("queueTimeoutSec", 600, SECONDS_MAX)?,
        cancel_grace_sec: fields.whole("cancelGraceSec", 3, SECONDS_MAX)?,
        image_grace_sec: fields.whole("imageGraceSec", 180, SECONDS_MAX)?,
        mount_grace_sec: fields.whole("mountGraceSec", 120, SECONDS_MAX)?,
        schedule_grace_sec: fields.whole("scheduleGraceSec", 300, SECONDS_MAX)?,
        quota_grace_sec: fields.whole("quotaGraceSec", 300, SECONDS_MAX)?,
        ttl_seconds_after_finished: fields.whole("ttlSecondsAfterFinished", 300, SECONDS_MAX)?,
        retain_jobs: fields.flag("retainJobs", false),
        reattach_orphaned_jobs: fields.flag("reattachOrphanedJobs", true),
        retry_fresh_session: fields.flag("retryFreshSession", true),
        concurrency_scope: fields.choice("concurrencyScope", &scopes, ConcurrencyScope::Agent)?,
        when_busy: fields.choice(
            "whenBusy",
            &[("wait", WhenBusy::Wait), ("fail", WhenBusy::Fail)],
            WhenBusy::Wait,
        )?,
        inherit_env: fields.choice("inheritEnv", &inherit, InheritEnv::Filtered)?,
        model: fields.text("model")?.map(str::to_owned),
        effort: fields.text("effort")?.map(str::to_owned),
    })
}

fn placement(fields: &mut Fields<'_>, clusters: &[String]) -> Result<Placement, Refusal> {
    let policies = [("Always", "Always"), ("IfNotPresent", "IfNotPresent"), ("Never", "Never")];
    let (extra_labels, skipped_labels) = extra_labels(fields)?;
    Ok(Placement {
        cluster: cluster(fields, clusters)?,
        namespace: fields.checked("namespace", name::dns_label)?.map(str::to_owned),
        image: fields.checked("image", image::reference)?.map(str::to_owned),
        image_pull_policy: fields.choice("imagePullPolicy", &policies, "IfNotPresent")?,
        service_account: fields.checked("serviceAccountName", name::dns_subdomain)?.map(str::to_owned),
        resources: resources::read(fields)?,
        node_selector: labels_of("nodeSelector", entries(fields, "nodeSelector")?)?,
        tolerations: fields.value("tolerations").map_or(Ok(Vec::new()), tolerations::read)?,
        extra_labels,
        skipped_labels,
        working_dir: fields.checked("cwd", path::absolute)?.map(str::to_owned),
    })
}

/// A path from a run's config would read any file of the host: only what the operator named is taken.
fn cluster(fields: &mut Fields<'_>, clusters: &[String]) -> Result<Option<String>, Refusal> {
    let Some(wanted) = fields.trimmed("kubeconfig")? else { return Ok(None) };
    if clusters.iter().any(|known| known == wanted) {
        return Ok(Some(wanted.to_owned()));
    }
    let known = match clusters {
        [] => "this host has none; leave the field empty, or let the operator add one under `clusters`"
            .to_owned(),
        names => format!("this host has {}", names.join(", ")),
    };
    let message =
        format!("`{wanted}` must be the name of a cluster in the host's `clusters`, not a file: {known}");
    Err(Refusal::new("kubeconfig", message))
}

fn entries(fields: &mut Fields<'_>, key: &str) -> Result<Vec<Entry>, Refusal> {
    let mut warnings = Vec::new();
    let entries =
        fields.value(key).map_or(Ok(Vec::new()), |value| text_area::entries(key, value, &mut warnings))?;
    warnings.into_iter().for_each(|warning| fields.warn(warning));
    Ok(entries)
}

/// Entries whose keys and values are those of labels.
fn labels_of(field: &str, entries: Vec<Entry>) -> Result<Vec<(String, String)>, Refusal> {
    for Entry { key, value, line } in &entries {
        label::key(key).map_err(|rule| Refusal::on_line(field, *line, format!("the key `{key}` {rule}")))?;
        label::value(value).map_err(|rule| {
            Refusal::on_line(field, *line, format!("the value `{value}` of `{key}` {rule}"))
        })?;
    }
    Ok(entries.into_iter().map(|entry| (entry.key, entry.value)).collect())
}

type Labels = Vec<(String, String)>;

fn extra_labels(fields: &mut Fields<'_>) -> Result<(Labels, Vec<String>), Refusal> {
    let is_reserved = |entry: &Entry| RESERVED_PREFIXES.iter().any(|prefix| entry.key.starts_with(prefix));
    let (reserved, extra): (Vec<_>, Vec<_>) = entries(fields, "labels")?.into_iter().partition(is_reserved);
    let is_kubernetes_own = |entry: &&Entry| {
        KUBERNETES_OWN_LABELS.contains(&entry.key.as_str()) || entry.key.starts_with(KUBERNETES_OWN_PREFIX)
    };
    if let Some(entry) = extra.iter().find(is_kubernetes_own) {
        let message = format!("`{}` is set by Kubernetes itself; choose another key", entry.key);
        return Err(Refusal::on_line("labels", entry.line, message));
    }
    let skipped: Vec<_> = reserved.into_iter().map(|entry| entry.key).collect();
    for key in &skipped {
        fields.warn(format!(
            "config field labels: `{key}` is skipped; labels under paperclip.io/ and app.kubernetes.io/ are set by the run itself"
        ));
    }
    Ok((labels_of("labels", extra)?, skipped))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn request(config: &Value) -> Request {
        let mut request = Request { config: config.as_object().cloned().unwrap(), ..Request::default() };
        request.host.clusters = vec!["east".into(), "west".into()];
        request
    }

    #[test]
    fn defaults() {
        let config = read(&request(&json!({}))).unwrap();
        assert_eq!(config.settings.timeout_sec, None);
        assert_eq!(config.settings.cancel_grace_sec, 3);
        assert_eq!(config.settings.ttl_seconds_after_finished, 300);
        assert!(config.settings.reattach_orphaned_jobs && config.settings.retry_fresh_session);
        assert_eq!(config.settings.when_busy, WhenBusy::Wait);
        assert_eq!(config.placement.image_pull_policy, "IfNotPresent");
        assert_eq!(config.settings.inherit_env, InheritEnv::Filtered);
        assert_eq!(config.warnings, Vec::<String>::new());
    }

    #[test]
    fn every_mistake_names_its_field_value_and_mend() {
        for (config, field, message) in [
            (json!({"namespace": "Agents"}), "namespace", "`Agents` must be at most 63 lower-case"),
            (json!({"image": "acme/Agent"}), "image", "`acme/Agent` must be an image reference"),
            (json!({"imagePullPolicy": "always"}), "imagePullPolicy", "`always` must be one of `Always`"),
            (json!({"serviceAccountName": "agent_sa"}), "serviceAccountName", "`agent_sa` must be"),
            (json!({"cwd": "work"}), "cwd", "`work` must be an absolute path"),
            (
                json!({"kubeconfig": "/root/.kube/config"}),
                "kubeconfig",
                "`/root/.kube/config` must be the name",
            ),
            (json!({"timeoutSec": 1.5}), "timeoutSec", "1.5 must be a whole number"),
            (json!({"ttlSecondsAfterFinished": -1}), "ttlSecondsAfterFinished", "-1 must be a whole number"),
            (
                json!({"nodeSelector": "a=b\nzone=e u"}),
                "nodeSelector",
                "line 2: the value `e u` of `zone` must be",
            ),
            (json!({"nodeSelector": {"a b": "c"}}), "nodeSelector", "the key `a b` must be a name"),
            (json!({"labels": "team: -x"}), "labels", "line 1: the value `-x` of `team` must be"),
            (json!({"labels": "job-name=x"}), "labels", "line 1: `job-name` is set by Kubernetes itself"),
            (json!({"concurrencyScope": "company"}), "concurrencyScope", "`company` must be one of `agent`"),
            (json!({"inheritEnv": "some"}), "inheritEnv", "`some` must be one of `filtered`"),
        ] {
            let refusal = read(&request(&config)).unwrap_err();
            assert_eq!(refusal.field, field, "{config}");
            assert!(refusal.message.starts_with(message), "{config}: {refusal}");
        }
    }

    #[test]
    fn clusters_are_named_by_the_host() {
        let placement = read(&request(&json!({"kubeconfig": " west "}))).unwrap().placement;
        assert_eq!(placement.cluster.as_deref(), Some("west"));
        let refusal = read(&request(&json!({"kubeconfig": "north"}))).unwrap_err();
        assert!(refusal.message.ends_with("this host has east, west"), "{refusal}");
    }

    #[test]
    fn reserved_labels_are_skipped_unseen() {
        let labels = json!({"labels": {"paperclip.io/": "??", "team": "x", "app.kubernetes.io/name": "2"}});
        let config = read(&request(&labels)).unwrap();
        assert_eq!(config.placement.extra_labels, [("team".to_owned(), "x".to_owned())]);
        assert_eq!(config.placement.skipped_labels, ["paperclip.io/", "app.kubernetes.io/name"]);
        assert_eq!(config.warnings.len(), 2);
    }
}
