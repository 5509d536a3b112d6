//! A Job as the server stores it.

use paperclip_contract::types::{Condition, JobSnapshot, Label, ObjectRef};
use paperclip_engine::api::EPOCH_ANNOTATION;
use serde_json::Value;

/// The label that names the run.
pub(crate) const RUN_LABEL: &str = "paperclip.io/run-id";
/// The kind of the condition that says whether a Job is suspended.
pub(crate) const SUSPENDED: &str = "Suspended";

/// The annotation with the format and the tag of control lines.
const CONTROL_LINES: &str = "paperclip.io/control-lines";

/// Who did something to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Actor {
    /// A host, for this run (by its place in the scenario).
    Run(usize),
    Somebody,
    /// The TTL controller.
    Ttl,
}

/// A Job.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) object: ObjectRef,
    pub(crate) labels: Vec<Label>,
    pub(crate) annotations: Vec<Label>,
    pub(crate) is_suspended: bool,
    pub(crate) created_ms: u64,
    pub(crate) started_ms: Option<u64>,
    pub(crate) deleting_since_ms: Option<u64>,
    pub(crate) is_removed: bool,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) succeeded: u32,
    pub(crate) failed: u32,
    pub(crate) active: u32,
    pub(crate) active_deadline_s: Option<u64>,
    pub(crate) ttl_s: u64,
    pub(crate) grace_s: u64,
    /// Names of Secrets that the pod cannot start without.
    pub(crate) secrets: Vec<String>,
    pub(crate) attempt: usize,
    /// Runs that it was of before another one adopted it.
    pub(crate) past_runs: Vec<String>,
    /// Who asked for its deletion first.
    pub(crate) deleted_by: Option<Actor>,
    /// A pod is made once in its life: it has no retries (backoffLimit 0).
    pub(crate) has_had_pod: bool,
}

impl Job {
    /// Reads a manifest. The error is what the server would answer with 422.
    pub(crate) fn read(manifest: &Value, uid: String, now_ms: u64) -> Result<Job, String> {
        let (metadata, spec) = (&manifest["metadata"], &manifest["spec"]);
        let text = |value: &Value, field: &str| {
            value[field].as_str().map(str::to_owned).ok_or(format!("metadata.{field}: Required value"))
        };
        let pod = &spec["template"]["spec"];
        if pod["restartPolicy"] != "Never" {
            return Err("spec.template.spec.restartPolicy: Unsupported value".to_owned());
        }
        if pod["containers"].as_array().is_none_or(Vec::is_empty) {
            return Err("spec.template.spec.containers: Required value".to_owned());
        }
        let labels = pairs(&metadata["labels"]);
        let attempt = labels.iter().any(|label| label.key == "paperclip.io/attempt" && label.value == "2");
        Ok(Job {
            object: ObjectRef { namespace: text(metadata, "namespace")?, name: text(metadata, "name")?, uid },
            labels,
            annotations: pairs(&metadata["annotations"]),
            is_suspended: spec["suspend"] == true,
            created_ms: now_ms,
            started_ms: None,
            deleting_since_ms: None,
            is_removed: false,
            conditions: Vec::new(),
            succeeded: 0,
            failed: 0,
            active: 0,
            active_deadline_s: spec["activeDeadlineSeconds"].as_u64(),
            ttl_s: spec["ttlSecondsAfterFinished"].as_u64().unwrap_or(u64::from(u32::MAX)),
            grace_s: pod["terminationGracePeriodSeconds"].as_u64().unwrap_or(30),
            secrets: secrets(pod),
            attempt: usize::from(attempt),
            past_runs: Vec::new(),
            deleted_by: None,
            has_had_pod: false,
        })
    }

    pub(crate) fn snapshot(&self) -> JobSnapshot {
        JobSnapshot {
            job: self.object.clone(),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            is_suspended: self.is_suspended,
            is_deleting: self.deleting_since_ms.is_some(),
            created_at_ms: Some(self.created_ms / 1_000 * 1_000),
            started_at_ms: self.started_ms.map(|at| at / 1_000 * 1_000),
            active_pods: self.active,
            succeeded_pods: self.succeeded,
            failed_pods: self.failed,
            conditions: self.conditions.clone(),
        }
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|label| label.key == key).map(|label| label.value.as_str())
    }

    /// The epoch of the host that acts for its run.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.annotations.iter().find(|annotation| annotation.key == EPOCH_ANNOTATION)?.value.parse().ok()
    }

    /// The tag of the control lines in the output of its agent.
    pub(crate) fn control_tag(&self) -> Option<&str> {
        let annotation = self.annotations.iter().find(|annotation| annotation.key == CONTROL_LINES)?;
        annotation.value.split_once(':').map(|(_, tag)| tag)
    }

    pub(crate) fn run_id(&self) -> Option<&str> {
        self.label(RUN_LABEL)
    }

    /// Whether it is or was of a run.
    pub(crate) fn has_been_of(&self, run_id: &str) -> bool {
        self.run_id() == Some(run_id) || self.past_runs.iter().any(|past| past == run_id)
    }

    pub(crate) fn has_condition(&self, kind: &str) -> bool {
        self.conditions.iter().any(|condition| condition.kind == kind)
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.has_condition("Complete") || self.has_condition("Failed")
    }

    /// The controller writes down whether the Job is suspended, if it ever was. Whether that is news.
    pub(crate) fn note_suspension(&mut self, now_ms: u64) -> bool {
        match self.conditions.iter_mut().find(|condition| condition.kind == SUSPENDED) {
            Some(known) => std::mem::replace(&mut known.is_true, self.is_suspended) != self.is_suspended,
            None if self.is_suspended => {
                self.add_condition(SUSPENDED, Some("JobSuspended"), now_ms);
                true
            }
            None => false,
        }
    }

    pub(crate) fn add_condition(&mut self, kind: &str, reason: Option<&str>, now_ms: u64) {
        if !self.has_condition(kind) {
            self.conditions.push(Condition {
                kind: kind.to_owned(),
                is_true: true,
                reason: reason.map(str::to_owned),
                message: None,
                at_ms: Some(now_ms),
            });
        }
    }
}

/// A map of texts as pairs.
pub(crate) fn pairs(map: &Value) -> Vec<Label> {
    let entries = map.as_object().into_iter().flatten();
    entries
        .map(|(key, value)| Label { key: key.clone(), value: value.as_str().unwrap_or_default().to_owned() })
        .collect()
}

/// Secrets that a pod mounts or takes environment variables from.
fn secrets(pod: &Value) -> Vec<String> {
    let mounted =
        pod["volumes"].as_array().into_iter().flatten().map(|volume| &volume["secret"]["secretName"]);
    let containers = pod["containers"].as_array().into_iter().flatten();
    let read = containers
        .flat_map(|container| container["env"].as_array().into_iter().flatten())
        .map(|entry| &entry["valueFrom"]["secretKeyRef"]["name"]);
    let mut names: Vec<String> =
        mounted.chain(read).filter_map(|name| name.as_str().map(str::to_owned)).collect();
    names.sort();
    names.dedup();
    names
}
