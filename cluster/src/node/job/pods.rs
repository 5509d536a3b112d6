//! A Job's Pods: how far each is, what they add up to, and how a new one is made.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::resource::Resource;
use crate::store::{Object, meta};

/// Held until the Job's status counts the Pod.
pub(super) const TRACKING_FINALIZER: &str = "batch.kubernetes.io/job-tracking";

/// The state of a Pod from the view of its Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Active,
    /// Under deletion, and its containers may still run.
    Terminating,
    Succeeded,
    Failed,
}

/// The Pods of a Job, counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) active: Vec<Pod>,
    pub(super) terminating: i32,
    pub(super) ready: i32,
    pub(super) newly_succeeded: i32,
    pub(super) newly_failed: i32,
    newly_ended: Vec<Pod>,
    /// How many Pods failed after the last that succeeded, and when the last of them did.
    pub(super) failures_in_a_row: Option<(u32, Timestamp)>,
}

impl Tally {
    pub(super) fn of(pods: &[Pod]) -> Tally {
        let mut tally = Tally::default();
        let mut ends = Vec::new();
        for pod in pods {
            let stage = stage(pod);
            match stage {
                Stage::Active => {
                    tally.ready += i32::from(is_ready(pod));
                    tally.active.push(pod.clone());
                }
                Stage::Terminating => tally.terminating += 1,
                Stage::Succeeded | Stage::Failed => {
                    ends.extend(end_time(pod).map(|time| (time, stage)));
                    if is_tracked(pod) {
                        tally.newly_succeeded += i32::from(stage == Stage::Succeeded);
                        tally.newly_failed += i32::from(stage == Stage::Failed);
                        tally.newly_ended.push(pod.clone());
                    }
                }
            }
        }
        ends.sort_by_key(|(time, _)| *time);
        let failures = ends.iter().rev().take_while(|(_, stage)| *stage == Stage::Failed).count();
        tally.failures_in_a_row = match (u32::try_from(failures), ends.last()) {
            (Ok(1..), Some((last, _))) => Some((failures as u32, *last)),
            (_, _) => None,
        };
        tally
    }

    /// The Pods that have ended and are counted from now on.
    pub(super) fn uncounted(&self) -> Vec<Pod> {
        self.newly_ended.clone()
    }
}

pub(super) fn stage(pod: &Pod) -> Stage {
    let is_deleting = pod.metadata.deletion_timestamp.is_some();
    let is_bound = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Succeeded") => Stage::Succeeded,
        Some("Failed") => Stage::Failed,
        // No node will ever end it.
        _ if is_deleting && !is_bound => Stage::Failed,
        _ if is_deleting => Stage::Terminating,
        _ => Stage::Active,
    }
}

pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.as_deref().unwrap_or_default().iter().any(|name| name == TRACKING_FINALIZER)
}

/// How often the containers of a Pod were started again.
pub(super) fn restarts(pod: &Pod) -> i32 {
    let Some(status) = &pod.status else { return 0 };
    let all = [&status.init_container_statuses, &status.container_statuses];
    all.into_iter().flatten().flatten().map(|status| status.restart_count).sum()
}

/// The uid of the Job that controls an object, if one does.
pub(super) fn controller_uid(object: &Object) -> Option<(&str, &str)> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    let owner = owners.iter().find(|owner| owner["controller"] == true && owner["kind"] == "Job")?;
    Some((owner["name"].as_str()?, owner["uid"].as_str()?))
}

/// A new Pod from the Job's template.
pub(super) fn new_pod(job: &Object) -> Object {
    let template = &job["spec"]["template"];
    let (name, uid) = (meta(job, "name"), meta(job, "uid"));
    let mut metadata = json!({
        "generateName": format!("{name}-"),
        "namespace": meta(job, "namespace"),
        "labels": template["metadata"]["labels"],
        "finalizers": [TRACKING_FINALIZER],
        "ownerReferences": [{
            "apiVersion": Resource::Jobs.api_version(),
            "kind": Resource::Jobs.kind(),
            "name": name,
            "uid": uid,
            "controller": true,
            "blockOwnerDeletion": true,
        }],
    });
    if let annotations @ Value::Object(_) = &template["metadata"]["annotations"] {
        metadata["annotations"] = annotations.clone();
    }
    if let Some(finalizers) = template["metadata"]["finalizers"].as_array()
        && let Some(all) = metadata["finalizers"].as_array_mut()
    {
        all.extend(finalizers.iter().cloned());
    }
    json!({"metadata": metadata, "spec": template["spec"]})
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn end_time(pod: &Pod) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let statuses = [&status.init_container_statuses, &status.container_statuses];
    let ended = statuses.into_iter().flatten().flatten().filter_map(|status| {
        status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref().map(|time| time.0)
    });
    ended.max().or_else(|| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
}
