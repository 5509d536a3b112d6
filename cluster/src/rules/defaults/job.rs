//! Defaults of a Job, and the labels by which it knows its Pods.

use serde_json::json;

use super::{fill, pod};
use crate::store::{Object, meta};

const BACKOFF_LIMIT: i32 = 6;

pub(super) fn apply(job: &mut Object) {
    if job["metadata"]["labels"].is_null() {
        let labels = job["spec"]["template"]["metadata"]["labels"].clone();
        if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
            job["metadata"]["labels"] = labels;
        }
    }
    let spec = &mut job["spec"];
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        fill(spec, "completions", json!(1));
    }
    fill(spec, "parallelism", json!(1));
    let is_per_index = !spec["backoffLimitPerIndex"].is_null();
    fill(spec, "backoffLimit", json!(if is_per_index { i32::MAX } else { BACKOFF_LIMIT }));
    fill(spec, "completionMode", json!("NonIndexed"));
    fill(spec, "suspend", json!(false));
    fill(spec, "manualSelector", json!(false));
    let has_policy = !spec["podFailurePolicy"].is_null();
    fill(spec, "podReplacementPolicy", json!(if has_policy { "Failed" } else { "TerminatingOrFailed" }));
    pod::apply_spec(&mut spec["template"]["spec"]);
}

/// Labels the template with the Job's uid and name and selects by the uid, unless the author selects on their own.
pub(super) fn start(job: &mut Object) {
    job["status"] = json!({});
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (json!(meta(job, "uid")), json!(meta(job, "name")));
    let spec = &mut job["spec"];
    let labels = &mut spec["template"]["metadata"]["labels"];
    for (label, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        fill(labels, label, value.clone());
    }
    fill(&mut spec["selector"], "matchLabels", json!({}));
    fill(&mut spec["selector"]["matchLabels"], "batch.kubernetes.io/controller-uid", uid);
}
