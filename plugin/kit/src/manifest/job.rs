//! The Job itself, as batch/v1 JSON.

use serde_json::{Map, Value, json};

use super::bundle::{BUNDLE_DIR, Bundle};
use super::command::RUN_DIR;
use super::environment::Environment;
use super::labels::RunLabels;
use super::own_pod::{DATA_DIR, OwnPod};
use super::secrets::{PROMPT_DIR, Secrets};
use crate::config::{Config, Settings};

/// The user and group that agents run as.
const AGENT_USER: u32 = 1000;
/// What the Job's own deadline allows for beyond the run's: time to be scheduled, to pull the image, to be queued by a
/// scheduling gate. The run's own clock, which starts with the container, ends it long before.
const DEADLINE_ROOM_SEC: u32 = 3600;

/// What a Job is made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    pub name: &'a str,
    pub namespace: &'a str,
    pub labels: &'a RunLabels,
    pub agent_name: &'a str,
    pub container_name: &'a str,
    pub image: &'a str,
    pub working_dir: &'a str,
    pub script: &'a str,
    pub config: &'a Config,
    pub own_pod: &'a OwnPod,
    pub environment: &'a Environment,
    pub secrets: &'a Secrets,
    pub bundle: Option<&'a Bundle>,
}

/// The Job, suspended, with no hash of its specification yet.
pub fn job(parts: &Parts<'_>) -> Value {
    let mut labels: Map<String, Value> =
        parts.labels.entries().into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    labels.extend(parts.config.placement.extra_labels.iter().map(|(key, value)| (key.clone(), json!(value))));
    let settings = &parts.config.settings;
    let spec = object([
        ("suspend", Some(json!(true))),
        ("backoffLimit", Some(json!(0))),
        ("activeDeadlineSeconds", active_deadline_sec(settings).map(Value::from)),
        ("ttlSecondsAfterFinished", Some(json!(settings.ttl_seconds_after_finished))),
        (
            "template",
            Some(object([("metadata", Some(json!({"labels": labels}))), ("spec", Some(pod_spec(parts)))])),
        ),
    ]);
    let metadata = json!({
        "name": parts.name,
        "namespace": parts.namespace,
        "labels": labels,
        "annotations": {
            "paperclip.io/adapter-type": parts.labels.adapter_type,
            "paperclip.io/agent-name": parts.agent_name,
        },
    });
    // Parts are moved into place: `json!` would copy them at every level.
    object([
        ("apiVersion", Some(json!("batch/v1"))),
        ("kind", Some(json!("Job"))),
        ("metadata", Some(metadata)),
        ("spec", Some(spec)),
    ])
}

/// The backstop for a run whose host is gone for good.
fn active_deadline_sec(settings: &Settings) -> Option<u32> {
    settings
        .timeout_sec
        .map(|timeout_sec| timeout_sec.saturating_add(settings.grace_sec).saturating_add(DEADLINE_ROOM_SEC))
}

fn pod_spec(parts: &Parts<'_>) -> Value {
    let placement = &parts.config.placement;
    let (volumes, mounts) = volumes(parts);
    let node_selector: Map<String, Value> =
        placement.node_selector.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let pull_secrets = &parts.own_pod.image_pull_secrets;
    object([
        ("restartPolicy", Some(json!("Never"))),
        ("terminationGracePeriodSeconds", Some(json!(parts.config.settings.cancel_grace_sec))),
        ("serviceAccountName", placement.service_account.as_deref().map(Value::from)),
        // Without an account of its own the agent has no business with the cluster's API.
        ("automountServiceAccountToken", placement.service_account.is_none().then(|| json!(false))),
        (
            "securityContext",
            Some(json!({
                "runAsNonRoot": true,
                "runAsUser": AGENT_USER,
                "runAsGroup": AGENT_USER,
                "fsGroup": AGENT_USER,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            })),
        ),
        ("imagePullSecrets", (!pull_secrets.is_empty()).then(|| json!(pull_secrets))),
        ("dnsConfig", parts.own_pod.dns_config.clone()),
        ("nodeSelector", (!node_selector.is_empty()).then_some(Value::Object(node_selector))),
        ("tolerations", (!placement.tolerations.is_empty()).then(|| json!(placement.tolerations))),
        ("containers", Some(Value::Array(vec![container(parts, mounts)]))),
        ("volumes", Some(Value::Array(volumes))),
    ])
}

fn container(parts: &Parts<'_>, mounts: Vec<Value>) -> Value {
    let resources = &parts.config.placement.resources;
    let amounts =
        |amounts: &crate::config::resources::Amounts| json!({"cpu": amounts.cpu, "memory": amounts.memory});
    let env_from = &parts.environment.env_from;
    object([
        ("name", Some(json!(parts.container_name))),
        ("image", Some(json!(parts.image))),
        ("imagePullPolicy", Some(json!(parts.config.placement.image_pull_policy))),
        ("workingDir", Some(json!(parts.working_dir))),
        ("command", Some(json!(["sh", "-c", parts.script]))),
        ("env", Some(json!(parts.secrets.env))),
        ("envFrom", (!env_from.is_empty()).then(|| json!(env_from))),
        ("volumeMounts", Some(Value::Array(mounts))),
        (
            "securityContext",
            Some(json!({
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": false,
                "runAsNonRoot": true,
                "runAsUser": AGENT_USER,
                "allowPrivilegeEscalation": false,
            })),
        ),
        (
            "resources",
            Some(json!({"requests": amounts(&resources.requests), "limits": amounts(&resources.limits)})),
        ),
    ])
}

/// The Pod's volumes and where the container mounts them. A name or path is never given twice: the run's own go first.
fn volumes(parts: &Parts<'_>) -> (Vec<Value>, Vec<Value>) {
    let mut volumes = vec![named("prompt", &parts.secrets.prompt_volume)];
    let mut mounts = vec![json!({"name": "prompt", "mountPath": PROMPT_DIR, "readOnly": true})];
    volumes.push(json!({"name": "run", "emptyDir": {}}));
    mounts.push(json!({"name": "run", "mountPath": RUN_DIR}));
    if let Some(bundle) = parts.bundle {
        volumes.push(named("bundle", &bundle.volume));
        mounts.push(json!({"name": "bundle", "mountPath": BUNDLE_DIR, "readOnly": true}));
    }
    if let Some(claim) = &parts.own_pod.data_claim {
        volumes.push(json!({"name": "data", "persistentVolumeClaim": {"claimName": claim.claim_name}}));
        mounts.push(object([
            ("name", Some(json!("data"))),
            ("mountPath", Some(json!(DATA_DIR))),
            ("subPath", claim.sub_path.as_deref().map(Value::from)),
        ]));
    }
    for (index, volume) in parts.own_pod.secret_volumes.iter().enumerate() {
        let is_taken = |name: &str| volumes.iter().any(|volume| volume["name"] == name);
        let name = if is_taken(&volume.name) { format!("inherited-{index}") } else { volume.name.clone() };
        let free: Vec<_> = volume
            .mounts
            .iter()
            .filter(|own| !mounts.iter().any(|mount| mount["mountPath"] == own.path.as_str()))
            .map(|own| {
                object([
                    ("name", Some(json!(name))),
                    ("mountPath", Some(json!(own.path))),
                    ("subPath", own.sub_path.as_deref().map(Value::from)),
                    ("readOnly", Some(json!(true))),
                ])
            })
            .collect();
        if free.is_empty() {
            continue;
        }
        let mut source = volume.source.clone();
        source.insert("optional".into(), json!(true));
        volumes.push(json!({"name": name, "secret": source}));
        mounts.extend(free);
    }
    (volumes, mounts)
}

fn named(name: &str, volume: &Value) -> Value {
    let mut named = Map::from_iter([("name".to_owned(), json!(name))]);
    named.extend(volume.as_object().cloned().unwrap_or_default());
    Value::Object(named)
}

/// An object of the fields that are there.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    Value::Object(fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
}
