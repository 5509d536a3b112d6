//! Kubernetes objects converted into the contract's snapshots. Pure; times in ms since 1970.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::{self as core, Event, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use paperclip_contract::types::{
    ClusterEvent, Condition, ContainerRole, ContainerState, ContainerStatus, ContainerTerminated,
    ContainerWaiting, JobSnapshot, Label, ObjectRef, PodPhase, PodSnapshot,
};

/// Returns the contract's snapshot of a Job.
pub fn job(job: &Job) -> JobSnapshot {
    let spec = job.spec.as_ref();
    let status = job.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    JobSnapshot {
        job: object_ref(&job.metadata),
        labels: labels(job.metadata.labels.as_ref()),
        annotations: labels(job.metadata.annotations.as_ref()),
        is_suspended: spec.and_then(|spec| spec.suspend).unwrap_or(false),
        is_deleting: job.metadata.deletion_timestamp.is_some(),
        created_at_ms: time_ms(job.metadata.creation_timestamp.as_ref()),
        started_at_ms: time_ms(status.and_then(|status| status.start_time.as_ref())),
        active_pods: count(status.and_then(|status| status.active)),
        succeeded_pods: count(status.and_then(|status| status.succeeded)),
        failed_pods: count(status.and_then(|status| status.failed)),
        conditions: conditions.iter().map(job_condition).collect(),
    }
}

/// Returns the contract's snapshot of a Pod, if a Job controls it.
pub fn pod(pod: &Pod) -> Option<PodSnapshot> {
    let controller = controlling_job(&pod.metadata)?;
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    Some(PodSnapshot {
        pod: object_ref(&pod.metadata),
        job_uid: controller.uid.clone(),
        phase: phase(status.and_then(|status| status.phase.as_deref())),
        reason: status.and_then(|status| status.reason.clone()),
        message: status.and_then(|status| status.message.clone()),
        is_deleting: pod.metadata.deletion_timestamp.is_some(),
        node: spec.and_then(|spec| spec.node_name.clone()),
        created_at_ms: time_ms(pod.metadata.creation_timestamp.as_ref()),
        started_at_ms: time_ms(status.and_then(|status| status.start_time.as_ref())),
        conditions: conditions.iter().map(pod_condition).collect(),
        is_gated: spec.and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty()),
        containers: containers(spec, status),
    })
}

/// Returns the contract's record of an Event (core/v1).
pub fn event(event: &Event) -> ClusterEvent {
    let about = &event.involved_object;
    let series = event.series.as_ref();
    let last_seen = [
        micro_time_ms(series.and_then(|series| series.last_observed_time.as_ref())),
        time_ms(event.last_timestamp.as_ref()),
        micro_time_ms(event.event_time.as_ref()),
        time_ms(event.metadata.creation_timestamp.as_ref()),
    ];
    ClusterEvent {
        about: format!(
            "{}/{}",
            about.kind.as_deref().unwrap_or_default(),
            about.name.as_deref().unwrap_or_default()
        ),
        is_warning: event.type_.as_deref() == Some("Warning"),
        reason: event.reason.clone().unwrap_or_default(),
        message: event.message.clone().unwrap_or_default(),
        count: count(series.and_then(|series| series.count).or(event.count)).max(1),
        last_seen_at_ms: last_seen.into_iter().flatten().next(),
    }
}

/// Names an object and pins it by its UID.
pub fn object_ref(metadata: &ObjectMeta) -> ObjectRef {
    ObjectRef {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
    }
}

/// Rule 17: a Pod is a Job's by its controller reference; labels can be copied.
fn controlling_job(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true) && owner.kind == "Job")
}

/// The containers of the spec in the order in which they start, each with its status, if there is one yet.
fn containers(spec: Option<&core::PodSpec>, status: Option<&core::PodStatus>) -> Vec<ContainerStatus> {
    let Some(spec) = spec else { return Vec::new() };
    let init_statuses =
        status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    let main_statuses = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let init = spec.init_containers.iter().flatten().map(|container| {
        // Rule 16: a native sidecar is an init container that is restarted for as long as the Pod lives.
        let is_sidecar = container.restart_policy.as_deref() == Some("Always");
        let role = if is_sidecar { ContainerRole::Sidecar } else { ContainerRole::Init };
        container_status(container, role, init_statuses)
    });
    let main = spec
        .containers
        .iter()
        .map(|container| container_status(container, ContainerRole::Main, main_statuses));
    init.chain(main).collect()
}

fn container_status(
    container: &core::Container,
    role: ContainerRole,
    statuses: &[core::ContainerStatus],
) -> ContainerStatus {
    let status = statuses.iter().find(|status| status.name == container.name);
    ContainerStatus {
        name: container.name.clone(),
        role,
        state: status
            .and_then(|status| status.state.as_ref())
            .map_or(ContainerState::Unknown, container_state),
        restart_count: count(status.map(|status| status.restart_count)),
    }
}

fn container_state(state: &core::ContainerState) -> ContainerState {
    if let Some(terminated) = &state.terminated {
        ContainerState::Terminated(ContainerTerminated {
            exit_code: terminated.exit_code,
            signal: terminated.signal,
            reason: terminated.reason.clone(),
            message: terminated.message.clone(),
            started_at_ms: time_ms(terminated.started_at.as_ref()),
            finished_at_ms: time_ms(terminated.finished_at.as_ref()),
        })
    } else if let Some(running) = &state.running {
        ContainerState::Running(time_ms(running.started_at.as_ref()))
    } else if let Some(waiting) = &state.waiting {
        ContainerState::Waiting(ContainerWaiting {
            reason: waiting.reason.clone(),
            message: waiting.message.clone(),
        })
    } else {
        ContainerState::Unknown
    }
}

fn phase(phase: Option<&str>) -> PodPhase {
    match phase {
        // A Pod that the API server has just accepted has no phase yet.
        Some("Pending") | None | Some("") => PodPhase::Pending,
        Some("Running") => PodPhase::Running,
        Some("Succeeded") => PodPhase::Succeeded,
        Some("Failed") => PodPhase::Failed,
        Some(_) => PodPhase::Unknown,
    }
}

fn job_condition(condition: &JobCondition) -> Condition {
    Condition {
        kind: condition.type_.clone(),
        is_true: condition.status == "True",
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        at_ms: time_ms(condition.last_transition_time.as_ref()),
    }
}

fn pod_condition(condition: &PodCondition) -> Condition {
    Condition {
        kind: condition.type_.clone(),
        is_true: condition.status == "True",
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        at_ms: time_ms(condition.last_transition_time.as_ref()),
    }
}

fn labels(labels: Option<&BTreeMap<String, String>>) -> Vec<Label> {
    let labels = labels.into_iter().flatten();
    labels.map(|(key, value)| Label { key: key.clone(), value: value.clone() }).collect()
}

fn count(count: Option<i32>) -> u32 {
    u32::try_from(count.unwrap_or(0)).unwrap_or(0)
}

fn time_ms(time: Option<&Time>) -> Option<u64> {
    u64::try_from(time?.0.as_millisecond()).ok()
}

fn micro_time_ms(time: Option<&MicroTime>) -> Option<u64> {
    u64::try_from(time?.0.as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("a Kubernetes object")
    }

    fn owned_by(kind: &str, is_controller: bool) -> Value {
        json!([{"apiVersion": "batch/v1", "kind": kind, "name": "j", "uid": "job-1", "controller": is_controller}])
    }

    #[test]
    fn a_job_keeps_its_labels_counts_conditions_and_times() {
        let snapshot = job(&read(json!({
            "metadata": {"namespace": "n", "name": "j", "uid": "u", "labels": {"a": "1"}, "annotations": {"b": "2"},
                "creationTimestamp": "2026-01-02T03:04:05Z", "deletionTimestamp": "2026-01-02T03:05:05Z"},
            "spec": {"suspend": true, "template": {"spec": {"containers": []}}},
            "status": {"active": 1, "failed": 2, "startTime": "2026-01-02T03:04:06Z", "conditions": [
                {"type": "FailureTarget", "status": "True", "reason": "DeadlineExceeded", "message": "m",
                 "lastTransitionTime": "2026-01-02T03:04:07Z"},
                {"type": "Failed", "status": "False"}]},
        })));
        assert_eq!(snapshot.job, ObjectRef { namespace: "n".into(), name: "j".into(), uid: "u".into() });
        assert_eq!(snapshot.labels, [Label { key: "a".into(), value: "1".into() }]);
        assert_eq!(snapshot.annotations, [Label { key: "b".into(), value: "2".into() }]);
        assert!(snapshot.is_suspended && snapshot.is_deleting);
        assert_eq!((snapshot.active_pods, snapshot.succeeded_pods, snapshot.failed_pods), (1, 0, 2));
        assert_eq!(snapshot.created_at_ms, Some(1_767_323_045_000));
        assert_eq!(snapshot.started_at_ms, Some(1_767_323_046_000));
        assert_eq!(snapshot.conditions[0].reason.as_deref(), Some("DeadlineExceeded"));
        assert_eq!(snapshot.conditions[0].at_ms, Some(1_767_323_047_000));
        assert!(snapshot.conditions[0].is_true && !snapshot.conditions[1].is_true);
    }

    #[test]
    fn an_empty_job_is_neither_suspended_nor_deleting() {
        let snapshot = job(&Job::default());
        assert!(!snapshot.is_suspended && !snapshot.is_deleting && snapshot.conditions.is_empty());
    }

    #[test]
    fn rule_17_only_a_controlling_job_makes_a_pod_a_jobs() {
        let pod_of =
            |owners: Value| pod(&read(json!({"metadata": {"name": "p", "ownerReferences": owners}})));
        assert_eq!(pod_of(owned_by("Job", true)).map(|pod| pod.job_uid).as_deref(), Some("job-1"));
        assert_eq!(pod_of(owned_by("Job", false)), None);
        assert_eq!(pod_of(owned_by("ReplicaSet", true)), None);
        assert_eq!(pod_of(json!([])), None);
    }

    #[test]
    fn rule_16_containers_have_their_role_and_state_in_starting_order() {
        let snapshot = pod(&read(json!({
            "metadata": {"name": "p", "ownerReferences": owned_by("Job", true)},
            "spec": {"nodeName": "node", "schedulingGates": [{"name": "g"}],
                "initContainers": [{"name": "setup"}, {"name": "mesh", "restartPolicy": "Always"}],
                "containers": [{"name": "agent"}, {"name": "late"}, {"name": "odd"}]},
            "status": {"phase": "Running", "reason": "Evicted", "message": "low on memory",
                "initContainerStatuses": [
                    {"name": "setup", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                     "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
                    {"name": "mesh", "image": "", "imageID": "", "ready": true, "restartCount": 3,
                     "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}}}],
                "containerStatuses": [
                    {"name": "late", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                     "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no"}}},
                    {"name": "agent", "image": "", "imageID": "", "ready": false, "restartCount": 1,
                     "state": {"terminated": {"exitCode": 137, "signal": 9, "reason": "OOMKilled", "message": "tail",
                        "startedAt": "2026-01-02T03:04:05Z", "finishedAt": "2026-01-02T03:04:06Z"}}}]},
        })))
        .expect("a Job's Pod");
        assert!(snapshot.is_gated);
        assert_eq!((snapshot.phase, snapshot.reason.as_deref()), (PodPhase::Running, Some("Evicted")));
        let shown: Vec<_> = snapshot
            .containers
            .iter()
            .map(|container| (container.name.as_str(), container.role, container.restart_count))
            .collect();
        assert_eq!(
            shown,
            [
                ("setup", ContainerRole::Init, 0),
                ("mesh", ContainerRole::Sidecar, 3),
                ("agent", ContainerRole::Main, 1),
                ("late", ContainerRole::Main, 0),
                ("odd", ContainerRole::Main, 0),
            ]
        );
        let ContainerState::Terminated(end) = &snapshot.containers[2].state else { panic!("terminated") };
        assert_eq!((end.exit_code, end.signal, end.reason.as_deref()), (137, Some(9), Some("OOMKilled")));
        assert_eq!(end.finished_at_ms, Some(1_767_323_046_000));
        assert!(matches!(&snapshot.containers[1].state, ContainerState::Running(Some(1_767_323_045_000))));
        assert!(matches!(&snapshot.containers[3].state, ContainerState::Waiting(waiting)
            if waiting.reason.as_deref() == Some("ImagePullBackOff")));
        assert!(matches!(snapshot.containers[4].state, ContainerState::Unknown));
    }

    #[test]
    fn a_pod_without_a_status_is_pending_and_a_lost_one_unknown() {
        assert_eq!(phase(None), PodPhase::Pending);
        assert_eq!(phase(Some("Unknown")), PodPhase::Unknown);
        assert_eq!(phase(Some("Failed")), PodPhase::Failed);
    }

    #[test]
    fn an_event_has_its_newest_time_and_count() {
        let old = event(&read(
            json!({"metadata": {}, "involvedObject": {"kind": "Job", "name": "j"}, "type": "Warning",
            "reason": "FailedCreate", "message": "quota", "count": 7, "lastTimestamp": "2026-01-02T03:04:05Z"}),
        ));
        assert_eq!((old.about.as_str(), old.is_warning, old.count), ("Job/j", true, 7));
        assert_eq!(old.last_seen_at_ms, Some(1_767_323_045_000));
        let new = event(&read(
            json!({"metadata": {}, "involvedObject": {"kind": "Pod", "name": "p"}, "type": "Normal",
            "eventTime": "2026-01-02T03:04:05.000000Z",
            "series": {"count": 3, "lastObservedTime": "2026-01-02T03:04:06.500000Z"}}),
        ));
        assert_eq!((new.is_warning, new.count, new.last_seen_at_ms), (false, 3, Some(1_767_323_046_500)));
    }
}
