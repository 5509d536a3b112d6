//! Kubernetes objects for tests of agent types.

use crate::bindings::exports::paperclip::agent::types::{
    Condition, ContainerRole, ContainerState, ContainerStatus, ObjectRef, PodPhase, PodSnapshot,
};

/// Returns an object in the namespace `agents`, whose UID is `uid-` and its name.
pub fn object(name: &str) -> ObjectRef {
    ObjectRef { namespace: "agents".to_owned(), name: name.to_owned(), uid: format!("uid-{name}") }
}

/// Returns a condition without a time.
pub fn condition(kind: &str, is_true: bool, reason: Option<&str>, message: Option<&str>) -> Condition {
    Condition {
        kind: kind.to_owned(),
        is_true,
        reason: reason.map(str::to_owned),
        message: message.map(str::to_owned),
        at_ms: None,
    }
}

/// Returns a container that was never restarted.
pub fn container(name: &str, role: ContainerRole, state: ContainerState) -> ContainerStatus {
    ContainerStatus { name: name.to_owned(), role, state, restart_count: 0 }
}

/// Returns the pod of the Job `job`.
pub fn pod(phase: PodPhase, containers: Vec<ContainerStatus>) -> PodSnapshot {
    PodSnapshot {
        pod: object("pod"),
        job_uid: "uid-job".to_owned(),
        phase,
        reason: None,
        message: None,
        is_deleting: false,
        node: None,
        created_at_ms: None,
        started_at_ms: None,
        conditions: Vec::new(),
        is_gated: false,
        containers,
    }
}
