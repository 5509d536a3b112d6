//! What a Job in the cluster says about the run that another host started with it. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use paperclip_contract::types::ObjectRef;
use paperclip_engine::adoption::{RECOVERY_KEY, RecoveryData, RecoveryRecord};
use paperclip_engine::intake::Secrets;
use paperclip_engine::policy;
use paperclip_shell::snapshot;
use serde_json::{Value, json};

/// A Job that might be adopted.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) job: ObjectRef,
    pub(super) is_suspended: bool,
    /// Secrets that its Pod uses and that are named after it.
    pub(super) secrets: BTreeSet<String>,
    image: Value,
    /// The name of the agent's container.
    pub(super) container: String,
}

/// Why a Job is not adopted, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SkipReason {
    pub(super) why: String,
    pub(super) hint: String,
}

impl SkipReason {
    pub(super) fn new(why: impl Into<String>, hint: impl Into<String>) -> SkipReason {
        SkipReason { why: why.into(), hint: hint.into() }
    }
}

impl Candidate {
    /// Reads a Job; none if it is being deleted.
    pub(super) fn of(job: &Job) -> Option<Candidate> {
        let seen = snapshot::job(job);
        if seen.is_deleting {
            return None;
        }
        let template = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let pod = serde_json::to_value(template).unwrap_or_default();
        let named = policy::secrets_of(&pod);
        Some(Candidate {
            secrets: named.into_iter().filter(|name| name.starts_with(&seen.job.name)).collect(),
            is_suspended: seen.is_suspended,
            job: seen.job,
            image: pod["containers"][0]["image"].clone(),
            container: pod["containers"][0]["name"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Returns the recovery record in a Secret, if the Job owns the Secret and it has one.
    pub(super) fn recovery_record(&self, secret: &Secret) -> Option<Result<RecoveryRecord, SkipReason>> {
        let owners = secret.metadata.owner_references.as_deref().unwrap_or_default();
        if !owners.iter().any(|owner| owner.uid == self.job.uid) {
            return None;
        }
        let text = secret.data.as_ref()?.get(RECOVERY_KEY)?;
        let record = std::str::from_utf8(&text.0).map_err(|error| error.to_string());
        let record = record.and_then(|text| RecoveryRecord::parse(text).map_err(|error| error.to_string()));
        Some(record.map_err(|error| {
            let name = secret.metadata.name.as_deref().unwrap_or_default();
            SkipReason::new(format!("{RECOVERY_KEY} of Secret {name} cannot be read: {error}"), START_AGAIN)
        }))
    }

    /// Returns the context that starts the run again, in the namespace and with the image of its Job.
    pub(super) fn context(
        &self,
        mut data: RecoveryData,
        run_id: &str,
        secrets: &Secrets,
        cluster: Option<&str>,
    ) -> Value {
        let own = [
            ("namespace", json!(self.job.namespace)),
            ("image", self.image.clone()),
            ("kubeconfig", json!(cluster)),
        ];
        data.config.extend(own.map(|(field, value)| (field.to_owned(), value)));
        data.into_context(run_id, secrets)
    }

    /// Returns the reason if no Secret has a recovery record.
    pub(super) fn without_record(&self) -> SkipReason {
        SkipReason::new("no Secret of its own says what its run was asked to do", START_AGAIN)
    }

    /// Returns the reason if neither the record of the run nor its Secret has the recovery data.
    pub(super) fn without_data(&self) -> SkipReason {
        SkipReason::new(
            "neither the record of its run nor its Secret says what it was asked to do",
            START_AGAIN,
        )
    }
}

/// The hint that always applies.
pub(super) const START_AGAIN: &str = "start its run again, which adopts it, or delete the Job";

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Value {
        json!({
            "metadata": {
                "namespace": "n", "name": "ac-1", "uid": "u", "labels": {"paperclip.io/run-id": "r"},
            },
            "spec": {"template": {"spec": {
                "containers": [{"name": "c", "image": "i:1", "env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "ac-1-run", "key": "A"}}},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "shared", "key": "B"}}},
                ]}],
                "volumes": [{"name": "prompt", "secret": {"secretName": "ac-1-prompt"}}],
            }}},
        })
    }

    fn candidate(job: Value) -> Option<Candidate> {
        Candidate::of(&serde_json::from_value(job).expect("a Job"))
    }

    #[test]
    fn reads_the_secrets_and_the_progress_of_a_job() {
        let found = candidate(job()).expect("it exists");
        assert_eq!(found.secrets, BTreeSet::from(["ac-1-prompt".to_owned(), "ac-1-run".to_owned()]));
        assert!(!found.is_suspended);
        let mut suspended = job();
        suspended["spec"]["suspend"] = json!(true);
        assert!(candidate(suspended).expect("it exists").is_suspended);
        let mut deleting = job();
        deleting["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(candidate(deleting).is_none());
    }

    fn secret(owner_uid: &str, brief: &str) -> Secret {
        let data = k8s_openapi::ByteString(brief.as_bytes().to_vec());
        serde_json::from_value(json!({
            "metadata": {"name": "ac-1-run", "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": "ac-1", "uid": owner_uid},
            ]},
            "data": {RECOVERY_KEY: data},
        }))
        .expect("a Secret")
    }

    #[test]
    fn only_a_secret_of_the_job_has_its_recovery_record() {
        let found = candidate(job()).expect("of a run");
        let brief = json!({
            "agent": {"id": "a"}, "runtime": {}, "context": {"taskId": "T"},
            "config": {"timeoutSec": 5, "image": "other", "namespace": "m"},
            "lease": "l",
            "secret": {
                "namespace": "n", "name": "ac-1-run", "labels": [], "entries": [],
                "owner": {"namespace": "n", "name": "ac-1", "uid": "u"},
            },
        })
        .to_string();
        assert!(found.recovery_record(&secret("another", &brief)).is_none());
        let broken = found.recovery_record(&secret("u", "{")).expect("it exists").expect_err("it is broken");
        assert!(broken.why.starts_with("paperclip-run.json of Secret ac-1-run cannot be read"), "{broken:?}");
        let record = found.recovery_record(&secret("u", &brief)).expect("it exists").expect("it is good");
        assert_eq!(
            found.context(record.data.expect("it is short"), "r", &Secrets::default(), Some("eu")),
            json!({
                "runId": "r", "authToken": null, "agent": {"id": "a"}, "runtime": {}, "context": {"taskId": "T"},
                "config": {"timeoutSec": 5, "image": "i:1", "namespace": "n", "kubeconfig": "eu"},
            })
        );
    }
}
