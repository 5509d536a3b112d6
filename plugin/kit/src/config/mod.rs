//! Reads an agent's config: the values of Paperclip's form, checked before anything is created.

use paperclip_kubernetes::image;
use serde::{Deserialize, Serialize};

use crate::kubernetes::{label, name, path, toleration::Toleration};
use crate::refusal::Refusal;
use crate::request::Request;

pub mod document;
pub mod fields;
pub mod resources;
pub mod schema;
pub mod text_area;
pub mod tolerations;
pub mod unused;

use fields::Fields;
use resources::Resources;
use text_area::Entry;

/// The longest time in a config: a year.
pub const SECONDS_MAX: u32 = 365 * 24 * 3600;

/// How long a finished Job is kept at least.
const TTL_MIN_SEC: u32 = 60;
/// After how long the host reopens a log without output, since the connection may be dead.
const SILENT_LOG_SEC: u32 = 300;
/// The longest time from SIGTERM to SIGKILL.
const CANCEL_GRACE_MAX_SEC: u32 = 30;

/// Label keys that Kubernetes itself sets on the Pods of a Job; it refuses other values.
const KUBERNETES_OWN_LABELS: [&str; 2] = ["job-name", "controller-uid"];
const KUBERNETES_OWN_PREFIX: &str = "batch.kubernetes.io/";
/// Prefixes of labels that the run sets; a config's labels under them are skipped.
const RESERVED_PREFIXES: [&str; 2] = ["paperclip.io/", "app.kubernetes.io/"];

/// A config, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub settings: Settings,
    pub placement: Placement,
    /// What was configured and is not used, and why.
    pub warnings: Vec<String>,
    /// The keys that were read.
    pub read: Vec<String>,
}

/// Timeouts, graces and policies of a run. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// How long the agent may run; `None` has no limit.
    pub timeout_sec: Option<u32>,
    /// What the Job's deadline adds to the timeout.
    pub grace_sec: u32,
    /// How long a run waits for another run with its key.
    pub queue_timeout_sec: u32,
    /// From SIGTERM to SIGKILL.
    pub cancel_grace_sec: u32,
    /// How long an agent may run after it has reported its end.
    pub result_grace_sec: u32,
    /// How long an agent that has reported its end may print no event while a background task of it is open.
    pub background_grace_sec: u32,
    /// How long an agent may print nothing; `None` has no limit.
    pub quiet_timeout_sec: Option<u32>,
    /// How long pulling an image may fail.
    pub image_grace_sec: u32,
    /// How long mounting volumes and creating the container may fail.
    pub mount_grace_sec: u32,
    /// How long the pod may be unschedulable.
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

/// Which variables of Paperclip's pod agents inherit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InheritEnv {
    /// All but the server's own secrets.
    Filtered,
    All,
    None,
}

/// What an agent gets of Paperclip's data volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataMount {
    /// Its own home and its workspace.
    Isolated,
    /// All of it.
    Shared,
}

/// Where the agent's Pod runs, and with which image, account and resources.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// The name of one of the host's clusters; `None` is its default.
    pub cluster: Option<String>,
    pub namespace: Option<String>,
    pub image: Option<String>,
    pub image_pull_policy: &'static str,
    pub service_account: Option<String>,
    pub resources: Resources,
    pub node_selector: Vec<(String, String)>,
    pub tolerations: Vec<Toleration>,
    pub extra_labels: Vec<(String, String)>,
    /// Keys of labels in the config that the run does not set.
    pub skipped_labels: Vec<String>,
    pub working_dir: Option<String>,
    pub data_mount: DataMount,
}

/// Reads a request's config. `default_timeout_sec` is the agent type's.
///
/// # Errors
/// A field holds what Kubernetes or the agent would not accept. A value of the wrong type is a warning.
///
/// ```
/// use paperclip_kit::config;
/// use paperclip_kit::request::Request;
///
/// let mut request = Request::default();
/// request.config.insert("timeoutSec".to_owned(), 900.into());
/// assert_eq!(config::read(&request, None).unwrap().settings.timeout_sec, Some(900));
/// request.config.insert("namespace".to_owned(), "Agents".into());
/// assert_eq!(config::read(&request, None).unwrap_err().field, "namespace");
/// ```
pub fn read(request: &Request, default_timeout_sec: Option<u32>) -> Result<Config, Refusal> {
    let mut fields = Fields::new(&request.config);
    let settings = settings(&mut fields, default_timeout_sec.unwrap_or(0))?;
    let placement = placement(&mut fields, &request.host.clusters)?;
    if fields.flag("enableRtk", false) {
        fields.warn("config field enableRtk: tool output is no longer shortened; it has no effect".into());
    }
    let (warnings, read) = fields.into_notes();
    Ok(Config { settings, placement, warnings, read })
}

/// Reads how long an agent may print nothing.
fn quiet_timeout_sec(fields: &mut Fields<'_>) -> Result<Option<u32>, Refusal> {
    let seconds = Some(fields.whole("quietTimeoutSec", 0, SECONDS_MAX)?).filter(|seconds| *seconds > 0);
    if seconds.is_some_and(|seconds| seconds <= SILENT_LOG_SEC) {
        fields.warn(format!(
            "config field quietTimeoutSec: a log connection that dies without notice is detected after {SILENT_LOG_SEC} s; \
             with a time below that such a run ends as quiet although its agent works"
        ));
    }
    Ok(seconds)
}

/// Reads how long Kubernetes keeps a finished Job.
fn ttl_sec(fields: &mut Fields<'_>) -> Result<u32, Refusal> {
    let seconds = fields.whole("ttlSecondsAfterFinished", 300, SECONDS_MAX)?;
    if seconds < TTL_MIN_SEC {
        fields.warn(format!(
            "config field ttlSecondsAfterFinished: {seconds} is raised to {TTL_MIN_SEC}, since the agent's log must be read before \
             Kubernetes deletes the Job"
        ));
    }
    Ok(seconds.max(TTL_MIN_SEC))
}

fn settings(fields: &mut Fields<'_>, default_timeout_sec: u32) -> Result<Settings, Refusal> {
    let scopes = [
        ("agent", ConcurrencyScope::Agent),
        ("task", ConcurrencyScope::Task),
        ("none", ConcurrencyScope::None),
    ];
    let inherit = [("filtered", InheritEnv::Filtered), ("all", InheritEnv::All), ("none", InheritEnv::None)];
    Ok(Settings {
        timeout_sec: Some(fields.whole("timeoutSec", default_timeout_sec, SECONDS_MAX)?)
            .filter(|timeout_sec| *timeout_sec > 0),
        grace_sec: fields.whole("graceSec", 60, SECONDS_MAX)?,
        queue_timeout_sec: fields.whole("queueTimeoutSec", 600, SECONDS_MAX)?,
        cancel_grace_sec: cancel_grace_sec(fields)?,
        result_grace_sec: fields.whole("resultGraceSec", 60, SECONDS_MAX)?,
        background_grace_sec: fields.whole("backgroundGraceSec", 900, SECONDS_MAX)?,
        quiet_timeout_sec: quiet_timeout_sec(fields)?,
        image_grace_sec: fields.whole("imageGraceSec", 180, SECONDS_MAX)?,
        mount_grace_sec: fields.whole("mountGraceSec", 120, SECONDS_MAX)?,
        schedule_grace_sec: fields.whole("scheduleGraceSec", 300, SECONDS_MAX)?,
        quota_grace_sec: fields.whole("quotaGraceSec", 300, SECONDS_MAX)?,
        ttl_seconds_after_finished: ttl_sec(fields)?,
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

/// Reads the time from SIGTERM to SIGKILL. A longer one is shortened: Paperclip gives up on a cancellation after a minute.
fn cancel_grace_sec(fields: &mut Fields<'_>) -> Result<u32, Refusal> {
    let grace_sec = fields.whole("cancelGraceSec", 3, SECONDS_MAX)?;
    if grace_sec > CANCEL_GRACE_MAX_SEC {
        fields.warn(format!(
            "config field cancelGraceSec: {grace_sec} is shortened to {CANCEL_GRACE_MAX_SEC}, because a cancellation must be over within 45 s"
        ));
    }
    Ok(grace_sec.min(CANCEL_GRACE_MAX_SEC))
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
        data_mount: data_mount(fields)?,
    })
}

fn data_mount(fields: &mut Fields<'_>) -> Result<DataMount, Refusal> {
    let choices = [("isolated", DataMount::Isolated), ("shared", DataMount::Shared)];
    let data_mount = fields.choice("dataMount", &choices, DataMount::Isolated)?;
    if data_mount == DataMount::Shared {
        fields.warn(
            "config field dataMount: shared gives the agent the files of all companies and of Paperclip's server".into(),
        );
    }
    Ok(data_mount)
}

/// Reads the name of a cluster. A path is refused: it would give a run's config access to any file of the host.
fn cluster(fields: &mut Fields<'_>, clusters: &[String]) -> Result<Option<String>, Refusal> {
    let Some(name) = fields.trimmed("kubeconfig")? else { return Ok(None) };
    if clusters.iter().any(|known| known == name) {
        return Ok(Some(name.to_owned()));
    }
    let known = match clusters {
        [] => "this host has none; leave the field empty, or let the operator add one under `clusters`"
            .to_owned(),
        names => format!("this host has {}", names.join(", ")),
    };
    let message =
        format!("`{name}` must be the name of a cluster in the host's `clusters`, not a file: {known}");
    Err(Refusal::new("kubeconfig", message))
}

fn entries(fields: &mut Fields<'_>, key: &str) -> Result<Vec<Entry>, Refusal> {
    let mut warnings = Vec::new();
    let entries =
        fields.value(key).map_or(Ok(Vec::new()), |value| text_area::entries(key, value, &mut warnings))?;
    warnings.into_iter().for_each(|warning| fields.warn(warning));
    Ok(entries)
}

/// Checks that keys and values are legal in labels.
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
        let config = read(&request(&json!({})), None).unwrap();
        assert_eq!(config.settings.timeout_sec, None);
        assert_eq!(config.settings.cancel_grace_sec, 3);
        assert_eq!(config.settings.ttl_seconds_after_finished, 300);
        assert!(config.settings.reattach_orphaned_jobs && config.settings.retry_fresh_session);
        assert_eq!(config.settings.when_busy, WhenBusy::Wait);
        assert_eq!(config.placement.image_pull_policy, "IfNotPresent");
        assert_eq!(config.settings.inherit_env, InheritEnv::Filtered);
        assert_eq!(config.placement.data_mount, DataMount::Isolated);
        assert_eq!(config.warnings, Vec::<String>::new());
    }

    #[test]
    fn a_cancellation_is_over_before_paperclip_gives_up_on_it() {
        let config = read(&request(&json!({"cancelGraceSec": 300})), None).unwrap();
        assert_eq!(config.settings.cancel_grace_sec, 30);
        assert!(
            config.warnings[0].contains("cancelGraceSec: 300 is shortened to 30"),
            "{:?}",
            config.warnings
        );
        assert_eq!(
            read(&request(&json!({"cancelGraceSec": 30})), None).unwrap().warnings,
            Vec::<String>::new()
        );
    }

    #[test]
    fn refusals_name_field_value_and_correction() {
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
            (json!({"timeoutSec": -1}), "timeoutSec", "-1 must be a whole number"),
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
            (json!({"dataMount": "all"}), "dataMount", "`all` must be one of `isolated`"),
        ] {
            let refusal = read(&request(&config), None).unwrap_err();
            assert_eq!(refusal.field, field, "{config}");
            assert!(refusal.message.starts_with(message), "{config}: {refusal}");
        }
    }

    #[test]
    fn a_finished_job_is_kept_until_its_log_is_read() {
        for (configured, used, warnings) in [(0, 60, 1), (59, 60, 1), (60, 60, 0), (300, 300, 0)] {
            let config = read(&request(&json!({"ttlSecondsAfterFinished": configured})), None).unwrap();
            let seen = (config.settings.ttl_seconds_after_finished, config.warnings.len());
            assert_eq!(seen, (used, warnings), "{configured}");
        }
    }

    #[test]
    fn a_limit_of_silence_below_that_of_a_dead_connection_is_a_warning() {
        for (configured, used, warnings) in [(0, None, 0), (300, Some(300), 1), (301, Some(301), 0)] {
            let config = read(&request(&json!({"quietTimeoutSec": configured})), None).unwrap();
            assert_eq!((config.settings.quiet_timeout_sec, config.warnings.len()), (used, warnings));
        }
    }

    #[test]
    fn a_cluster_is_one_of_the_hosts_names() {
        let placement = read(&request(&json!({"kubeconfig": " west "})), None).unwrap().placement;
        assert_eq!(placement.cluster.as_deref(), Some("west"));
        let refusal = read(&request(&json!({"kubeconfig": "north"})), None).unwrap_err();
        assert!(refusal.message.ends_with("this host has east, west"), "{refusal}");
    }

    #[test]
    fn skips_reserved_labels_without_checking_them() {
        let labels = json!({"labels": {"paperclip.io/": "??", "team": "x", "app.kubernetes.io/name": "2"}});
        let config = read(&request(&labels), None).unwrap();
        assert_eq!(config.placement.extra_labels, [("team".to_owned(), "x".to_owned())]);
        assert_eq!(config.placement.skipped_labels, ["paperclip.io/", "app.kubernetes.io/name"]);
        assert_eq!(config.warnings.len(), 2);
    }
}
