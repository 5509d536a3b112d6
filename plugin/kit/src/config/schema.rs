//! The form in which operators configure an agent, as Paperclip's server reads it (`AdapterConfigSchema`). Paperclip itself has the
//! fields for model, effort, instructions, timeout, environment, extra arguments and prompt template.

use serde::Serialize;
use serde_json::{Value, json};

/// One field of the form.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConfigField {
    pub key: &'static str,
    pub label: &'static str,
    #[serde(rename = "type")]
    pub kind: FieldKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<FieldOption>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub hint: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub group: &'static str,
    #[serde(skip_serializing_if = "is_false")]
    pub required: bool,
}

/// The types of the server's controls that these forms use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldKind {
    Text,
    Select,
    Toggle,
    Number,
    Textarea,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FieldOption {
    pub label: &'static str,
    pub value: &'static str,
}

impl ConfigField {
    /// Creates a field without default, options and group.
    pub fn new(kind: FieldKind, key: &'static str, label: &'static str, hint: &'static str) -> ConfigField {
        ConfigField { key, label, kind, default: None, options: Vec::new(), hint, group: "", required: false }
    }

    /// Sets the default.
    pub fn default(self, default: impl Into<Value>) -> ConfigField {
        ConfigField { default: Some(default.into()), ..self }
    }

    /// Sets the options, each a value and its label.
    #[must_use]
    pub fn options(self, options: &[(&'static str, &'static str)]) -> ConfigField {
        let options = options.iter().map(|(value, label)| FieldOption { label, value }).collect();
        ConfigField { options, ..self }
    }
}

/// Returns the fields that all agent types share, in the order of the form.
pub fn schema() -> Vec<ConfigField> {
    let groups = [
        ("Kubernetes", kubernetes()),
        ("Resources", resources()),
        ("Scheduling", scheduling()),
        ("Runs", runs()),
        ("Graces", graces()),
    ];
    groups
        .into_iter()
        .flat_map(|(group, fields)| fields.into_iter().map(move |field| ConfigField { group, ..field }))
        .collect()
}

/// Returns `{"fields": [...]}`, the document that the server expects.
pub fn document(fields: &[ConfigField]) -> Value {
    json!({ "fields": fields })
}

fn kubernetes() -> Vec<ConfigField> {
    use FieldKind::{Select, Text};
    vec![
        ConfigField::new(Text, "namespace", "Namespace", "The namespace of the agent's Jobs. Empty: Paperclip's namespace."),
        ConfigField::new(Text, "image", "Image", "The container image of the agent. Empty: Paperclip's image."),
        ConfigField::new(Select, "imagePullPolicy", "Image pull policy", "When the node pulls the image.")
            .options(&[
                ("IfNotPresent", "If not present"),
                ("Always", "Always"),
                ("Never", "Never"),
            ])
            .default("IfNotPresent"),
        ConfigField::new(
            Text,
            "serviceAccountName",
            "Service account",
            "The agent gets this account's token. Empty: no token for the cluster.",
        ),
        ConfigField::new(
            Text,
            "kubeconfig",
            "Cluster",
            "The name of a cluster in the host's configuration. Empty: the host's default.",
        ),
        ConfigField::new(
            Select,
            "inheritEnv",
            "Inherited environment",
            "Which variables of Paperclip's pod the agent inherits. Filtered excludes the server's own secrets.",
        )
        .options(&[("filtered", "Filtered"), ("all", "All"), ("none", "None")])
        .default("filtered"),
        ConfigField::new(
            Select,
            "dataMount",
            "Data volume",
            "Isolated: the agent's own home and its workspace. Shared: all of it, which the operator has to allow.",
        )
        .options(&[("isolated", "Isolated"), ("shared", "Shared")])
        .default("isolated"),
    ]
}

fn resources() -> Vec<ConfigField> {
    let amount = |key, label, hint, default: &str| {
        ConfigField::new(FieldKind::Text, key, label, hint).default(default)
    };
    vec![
        amount(
            "resources.requests.cpu",
            "CPU request",
            "The CPU that the scheduler reserves, such as 500m or 2.",
            "1000m",
        ),
        amount(
            "resources.requests.memory",
            "Memory request",
            "The memory that the scheduler reserves, such as 512Mi.",
            "2Gi",
        ),
        amount("resources.limits.cpu", "CPU limit", "Above this the agent is throttled.", "4000m"),
        amount("resources.limits.memory", "Memory limit", "Above this the agent is killed.", "8Gi"),
    ]
}

fn scheduling() -> Vec<ConfigField> {
    let area = |key, label, hint| ConfigField::new(FieldKind::Textarea, key, label, hint);
    vec![
        area(
            "nodeSelector",
            "Node selector",
            "Labels that a node must have: key=value lines, or a map in YAML or JSON.",
        ),
        area(
            "tolerations",
            "Tolerations",
            "Taints that the agent's Pod tolerates: a list in YAML or JSON, or key=value:Effect lines.",
        ),
        area(
            "labels",
            "Extra labels",
            "Labels of Jobs and Pods: key=value lines, or a map in YAML or JSON. Keys under paperclip.io/ and app.kubernetes.io/ are skipped.",
        ),
    ]
}

fn runs() -> Vec<ConfigField> {
    use FieldKind::{Number, Select, Toggle};
    vec![
        ConfigField::new(Select, "concurrencyScope", "One run at a time", "Which runs exclude one another.")
            .options(&[("agent", "Of this agent"), ("task", "Of this agent and task"), ("none", "No limit")])
            .default("agent"),
        ConfigField::new(Select, "whenBusy", "When another run is active", "Wait for it, or fail at once.")
            .options(&[("wait", "Wait"), ("fail", "Fail")])
            .default("wait"),
        ConfigField::new(Number, "queueTimeoutSec", "Longest wait (s)", "After this a waiting run fails.")
            .default(600),
        ConfigField::new(
            Toggle,
            "reattachOrphanedJobs",
            "Adopt orphaned Jobs",
            "Continue a Job of the same task and session whose run was lost, instead of refusing to start.",
        )
        .default(true),
        ConfigField::new(
            Toggle,
            "retryFreshSession",
            "Retry with a fresh session",
            "Start again without the session if it cannot be resumed.",
        )
        .default(true),
        ConfigField::new(
            Toggle,
            "retainJobs",
            "Keep finished Jobs",
            "Keep a Job until its time to live has passed.",
        )
        .default(false),
        ConfigField::new(
            Number,
            "ttlSecondsAfterFinished",
            "Time to live (s)",
            "How long Kubernetes keeps a finished Job that was not deleted. At least 60.",
        )
        .default(300),
        ConfigField::new(
            Number,
            "quietTimeoutSec",
            "Longest silence (s)",
            "End a run whose agent prints nothing for so long. 0: no limit.",
        )
        .default(0),
        ConfigField::new(Number, "cancelGraceSec", "Cancel grace (s)", "The time from SIGTERM to SIGKILL.")
            .default(3),
    ]
}

fn graces() -> Vec<ConfigField> {
    let grace = |key, label, hint, default: u32| {
        ConfigField::new(FieldKind::Number, key, label, hint).default(default)
    };
    vec![
        grace(
            "scheduleGraceSec",
            "Unschedulable (s)",
            "How long the Pod may be unschedulable before the run fails.",
            300,
        ),
        grace("quotaGraceSec", "Quota (s)", "How long a quota may prevent the Pod.", 300),
        grace("imageGraceSec", "Image (s)", "How long pulling the image may fail.", 180),
        grace(
            "mountGraceSec",
            "Volumes and Secrets (s)",
            "How long mounting or creating the container may fail.",
            120,
        ),
        grace(
            "resultGraceSec",
            "After the result (s)",
            "How long the agent may keep running after it has reported its end.",
            60,
        ),
        grace(
            "backgroundGraceSec",
            "Background tasks (s)",
            "How long such an agent may print nothing while a background task of it runs.",
            900,
        ),
    ]
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Request;

    #[test]
    fn the_form_shows_the_defaults_that_are_used() {
        let shown: serde_json::Map<String, Value> =
            schema().into_iter().filter_map(|field| Some((field.key.to_owned(), field.default?))).collect();
        let with_shown = Request { config: shown, ..Request::default() };
        assert_eq!(super::super::read(&with_shown, None), super::super::read(&Request::default(), None));
    }

    #[test]
    fn keys_are_unique_and_defaults_are_options() {
        let fields = schema();
        for (index, field) in fields.iter().enumerate() {
            assert!(fields[..index].iter().all(|other| other.key != field.key), "{}", field.key);
            let is_option = |default: &Value| field.options.iter().any(|option| *default == option.value);
            assert!(
                field.options.is_empty() || field.default.as_ref().is_some_and(is_option),
                "{}",
                field.key
            );
        }
    }

    #[test]
    fn the_form_is_the_schema_of_the_server() {
        insta::assert_json_snapshot!(document(&schema()));
    }
}
