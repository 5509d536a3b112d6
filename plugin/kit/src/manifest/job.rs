//! Builds the Job as batch/v1 JSON.

use paperclip_kubernetes::data_volume::sub_path;
use serde_json::{Map, Value, json};

use super::agent_type::ClaimMount;
use super::bundle::{BUNDLE_DIR, Bundle};
use super::command::{INIT_DIR, RUN_DIR};
use super::environment::{Environment, SCRATCH_DIR};
use super::labels::RunLabels;
use super::paperclip_pod::{DATA_DIR, PaperclipPod};
use super::secrets::{PROMPT_DIR, Secrets};
use crate::config::{Config, Settings};

/// The user and group that agents run as.
const AGENT_USER: u32 = 1000;
/// What the Job's deadline adds to the run's timeout: time to be scheduled, to pull the image, to wait for a scheduling gate. The run's
/// timeout, which counts from the start of the container, ends it long before.
const DEADLINE_SLACK_SEC: u32 = 3600;

/// The input of [`job`].
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
    pub paperclip_pod: &'a PaperclipPod,
    pub environment: &'a Environment,
    pub secrets: &'a Secrets,
    pub bundle: Option<&'a Bundle>,
    pub claims: &'a [ClaimMount],
    pub data_folders: &'a [String],
    pub init_config_map: Option<&'a str>,
}

/// Builds the Job, suspended, without the hash of its specification.
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
    // The parts are moved: `json!` would copy them at every level.
    object([
        ("apiVersion", Some(json!("batch/v1"))),
        ("kind", Some(json!("Job"))),
        ("metadata", Some(metadata)),
        ("spec", Some(spec)),
    ])
}

/// Returns the deadline that ends a Job whose run has no host any more.
fn active_deadline_sec(settings: &Settings) -> Option<u32> {
    settings
        .timeout_sec
        .map(|timeout_sec| timeout_sec.saturating_add(settings.grace_sec).saturating_add(DEADLINE_SLACK_SEC))
}

fn pod_spec(parts: &Parts<'_>) -> Value {
    let placement = &parts.config.placement;
    let (volumes, mounts) = volumes(parts);
    let node_selector: Map<String, Value> =
        placement.node_selector.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let pull_secrets = &parts.paperclip_pod.image_pull_secrets;
    object([
        ("restartPolicy", Some(json!("Never"))),
        ("terminationGracePeriodSeconds", Some(json!(parts.config.settings.cancel_grace_sec))),
        ("serviceAccountName", placement.service_account.as_deref().map(Value::from)),
        // An agent without a configured service account does not use the cluster's API.
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
        ("dnsConfig", parts.paperclip_pod.dns_config.clone()),
        ("nodeSelector", (!node_selector.is_empty()).then_some(Value::Object(node_selector))),
        ("tolerations", (!placement.tolerations.is_empty()).then(|| json!(placement.tolerations))),
        ("containers", Some(Value::Array(vec![container(parts, mounts)]))),
        ("volumes", Some(Value::Array(volumes))),
    ])
}

fn container(parts: &Parts<'_>, mounts: Vec<Value>) -> Value {
    let resources = &parts.config.placement.resources;
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
        ("resources", Some(json!({"requests": resources.requests, "limits": resources.limits}))),
    ])
}

/// Returns the Pod's volumes and the container's mounts. Names and paths are unique; the run's own precede inherited ones.
fn volumes(parts: &Parts<'_>) -> (Vec<Value>, Vec<Value>) {
    let mut volumes = vec![named("prompt", &parts.secrets.prompt_volume)];
    let mut mounts = vec![json!({"name": "prompt", "mountPath": PROMPT_DIR, "readOnly": true})];
    volumes.push(json!({"name": "run", "emptyDir": {}}));
    mounts.push(json!({"name": "run", "mountPath": RUN_DIR}));
    volumes.push(json!({"name": "scratch", "emptyDir": {}}));
    mounts.push(json!({"name": "scratch", "mountPath": SCRATCH_DIR}));
    if let Some(name) = parts.init_config_map {
        // The script does without it.
        let source = json!({"name": name, "defaultMode": 0o555, "optional": true});
        volumes.push(json!({"name": "init", "configMap": source}));
        mounts.push(json!({"name": "init", "mountPath": INIT_DIR, "readOnly": true}));
    }
    if let Some(bundle) = parts.bundle {
        volumes.push(named("bundle", &bundle.volume));
        mounts.push(json!({"name": "bundle", "mountPath": BUNDLE_DIR, "readOnly": true}));
    }
    if let Some(claim) = &parts.paperclip_pod.data_claim {
        volumes.push(json!({"name": "data", "persistentVolumeClaim": {"claimName": claim.claim_name}}));
        mounts.extend(parts.data_folders.iter().enumerate().map(|(index, folder)| {
            let path = if index == 0 { DATA_DIR.to_owned() } else { [DATA_DIR, folder].join("/") };
            object([
                ("name", Some(json!("data"))),
                ("mountPath", Some(path.into())),
                ("subPath", sub_path(claim.sub_path.as_deref(), folder).map(Value::from)),
            ])
        }));
    }
    for (index, claim) in parts.claims.iter().enumerate() {
        let name = format!("agent-{index}");
        volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": claim.claim_name}}));
        mounts.push(json!({"name": name, "mountPath": claim.path}));
    }
    for (index, volume) in parts.paperclip_pod.secret_volumes.iter().enumerate() {
        let is_taken = |name: &str| volumes.iter().any(|volume| volume["name"] == name);
        let name = if is_taken(&volume.name) { format!("inherited-{index}") } else { volume.name.clone() };
        let new_mounts: Vec<_> = volume
            .mounts
            .iter()
            .filter(|inherited| !mounts.iter().any(|mount| mount["mountPath"] == inherited.path.as_str()))
            .map(|inherited| {
                object([
                    ("name", Some(json!(name))),
                    ("mountPath", Some(json!(inherited.path))),
                    ("subPath", inherited.sub_path.as_deref().map(Value::from)),
                    ("readOnly", Some(json!(true))),
                ])
            })
            .collect();
        if new_mounts.is_empty() {
            continue;
        }
        let mut source = volume.source.clone();
        source.insert("optional".into(), json!(true));
        volumes.push(json!({"name": name, "secret": source}));
        mounts.extend(new_mounts);
    }
    (volumes, mounts)
}

fn named(name: &str, volume: &Value) -> Value {
    let mut named = Map::from_iter([("name".to_owned(), json!(name))]);
    named.extend(volume.as_object().cloned().unwrap_or_default());
    Value::Object(named)
}

/// Builds an object of the fields that have a value.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    Value::Object(fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect())
}
