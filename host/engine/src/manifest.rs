//! What the engine reads from a Job's manifest: its name, and whether a Job in the cluster was created from it.

use paperclip_contract::types::{JobSnapshot, Label};
use serde_json::{Value, json};

use crate::api::EPOCH_ANNOTATION;

/// The label that names the run.
pub(crate) const RUN_LABEL: &str = "paperclip.io/run-id";
/// The annotation with the hash of what the manifest was made from.
const SPEC_HASH: &str = "paperclip.io/spec-hash";

/// Returns namespace and name of the object in a manifest.
pub(crate) fn job_name(manifest_json: &str) -> Option<(String, String)> {
    let manifest: Value = serde_json::from_str(manifest_json).ok()?;
    let text = |key: &str| manifest["metadata"][key].as_str().map(str::to_owned);
    Some((text("namespace")?, text("name")?))
}

/// Returns a Job's manifest with its epoch, if the run has one.
pub(crate) fn with_epoch(manifest_json: String, epoch: Option<u64>) -> String {
    let Some(epoch) = epoch else { return manifest_json };
    let Ok(mut manifest) = serde_json::from_str::<Value>(&manifest_json) else { return manifest_json };
    if !manifest["metadata"].is_object() {
        return manifest_json;
    }
    let annotations = &mut manifest["metadata"]["annotations"];
    if !annotations.is_object() {
        *annotations = json!({});
    }
    annotations[EPOCH_ANNOTATION] = epoch.to_string().into();
    manifest.to_string()
}

/// Returns the merge patch that gives a Job an epoch.
pub(crate) fn epoch_patch(epoch: u64) -> String {
    json!({ "metadata": { "annotations": { EPOCH_ANNOTATION: epoch.to_string() } } }).to_string()
}

/// Returns the epoch of a Job; none if no host with epochs has acted for it.
pub(crate) fn epoch(job: &JobSnapshot) -> Option<u64> {
    let annotation = job.annotations.iter().find(|annotation| annotation.key == EPOCH_ANNOTATION)?;
    annotation.value.parse().ok()
}

/// Returns whether a Job has the label of this run. A Job that another run adopted has the label of that run.
pub(crate) fn is_of_run(job: &JobSnapshot, run_id: &str) -> bool {
    let label = job.labels.iter().find(|label| label.key == RUN_LABEL);
    label.is_none_or(|label| crate::policy::is_label_of(&label.value, run_id))
}

/// Returns whether this Job was created from this manifest: the same run and the same spec hash.
pub(crate) fn is_same_run(manifest_json: &str, job: &JobSnapshot) -> bool {
    let Ok(manifest) = serde_json::from_str::<Value>(manifest_json) else { return false };
    let metadata = &manifest["metadata"];
    let agrees = |expected: &Value, found: &[Label], key: &str| {
        let found = found.iter().find(|label| label.key == key).map(|label| label.value.as_str());
        found.is_some() && expected[key].as_str() == found
    };
    !job.is_deleting
        && agrees(&metadata["labels"], &job.labels, RUN_LABEL)
        && agrees(&metadata["annotations"], &job.annotations, SPEC_HASH)
}
