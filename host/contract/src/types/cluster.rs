//! The state of the cluster, as far as policy needs it.

#[cfg(feature = "component")]
use paperclip_contract_macros::wit;
use serde::{Deserialize, Serialize};

/// A name and a value: a label or an annotation.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    pub key: String,
    pub value: String,
}

/// A reference to an object of the cluster. The UID distinguishes it from a later object of the same name.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// A condition of a Job or Pod.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Such as `Complete`, `Failed`, `PodScheduled`, `DisruptionTarget`.
    pub kind: String,
    /// Whether the status is `True`.
    pub is_true: bool,
    pub reason: Option<String>,
    pub message: Option<String>,
    /// The time of its last transition.
    pub at_ms: Option<u64>,
}

/// The state of a Job when the host last observed it.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSnapshot {
    pub job: ObjectRef,
    pub labels: Vec<Label>,
    pub annotations: Vec<Label>,
    pub is_suspended: bool,
    /// It has a deletionTimestamp. It can exist for long: until all of its finalizers are removed.
    pub is_deleting: bool,
    pub created_at_ms: Option<u64>,
    pub started_at_ms: Option<u64>,
    pub active_pods: u32,
    pub succeeded_pods: u32,
    pub failed_pods: u32,
    pub conditions: Vec<Condition>,
}

/// The state of a Pod of a Job when the host last observed it.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSnapshot {
    pub pod: ObjectRef,
    /// The UID of the Job that controls it.
    pub job_uid: String,
    pub phase: PodPhase,
    /// `status.reason`, such as `Evicted` or `NodeShutdown`.
    pub reason: Option<String>,
    pub message: Option<String>,
    pub is_deleting: bool,
    pub node: Option<String>,
    pub created_at_ms: Option<u64>,
    pub started_at_ms: Option<u64>,
    pub conditions: Vec<Condition>,
    /// `spec.schedulingGates` is not empty: a queue holds it back on purpose.
    pub is_gated: bool,
    pub containers: Vec<ContainerStatus>,
}

/// `status.phase` of a Pod.
#[cfg_attr(feature = "component", wit(enum))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodPhase {
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

/// The status of a container of a Pod.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    pub name: String,
    pub role: ContainerRole,
    pub state: ContainerState,
    pub restart_count: u32,
}

/// How a container's end affects its Pod.
#[cfg_attr(feature = "component", wit(enum))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerRole {
    /// An init container that has to complete before the main ones start.
    Init,
    /// An init container with restartPolicy Always: no run waits for it and its exit is not a failure.
    Sidecar,
    Main,
}

/// The state of a container.
#[cfg_attr(feature = "component", wit(variant))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// The kubelet has not reported a status.
    Unknown,
    Waiting(ContainerWaiting),
    /// It runs; the value is its start time, if known.
    Running(Option<u64>),
    Terminated(ContainerTerminated),
}

/// Why a container does not run yet.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerWaiting {
    pub reason: Option<String>,
    pub message: Option<String>,
}

/// How a container ended.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerTerminated {
    pub exit_code: i32,
    pub signal: Option<i32>,
    pub reason: Option<String>,
    /// The termination message, at most 4,096 bytes.
    pub message: Option<String>,
    pub started_at_ms: Option<u64>,
    pub finished_at_ms: Option<u64>,
}

/// An Event object about a Job or a Pod.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterEvent {
    /// The involved object, as `Kind/name`.
    pub about: String,
    pub is_warning: bool,
    pub reason: String,
    pub message: String,
    pub count: u32,
    pub last_seen_at_ms: Option<u64>,
}

/// Why a call of the Kubernetes API or of Paperclip's API failed, after the retries that the host makes.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// The HTTP status; none if no response arrived.
    pub status: Option<u16>,
    /// Kubernetes' machine-readable reason, such as `AlreadyExists`, `NotFound`, `Forbidden`, `Invalid`.
    pub reason: Option<String>,
    pub message: String,
    /// How long the server asks to wait.
    pub retry_after_ms: Option<u64>,
}
