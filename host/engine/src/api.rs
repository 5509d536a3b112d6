//! Calls to the Kubernetes API as the engine requests them, and their answers.

use paperclip_contract::types::{
    ClusterEvent, JobSnapshot, Label, NewConfigMap, NewSecret, ObjectRef, PodSnapshot, ReadLog,
};
use serde::{Deserialize, Serialize};

use crate::run_record::{RecordSummary, RunRecord};
use crate::time::Timestamp;

/// Reason of the error of an [`ApiCall::CreateSecret`] that was not sent, because the host lacks a value of the Secret.
pub const NO_VALUE: &str = "NoValue";
/// Reason of the error of a change to a Job that was not made, because the Job has a greater epoch: another host has the run.
pub const SUPERSEDED: &str = "Superseded";
/// The annotation of a Job with the epoch of the host that acts for its run. It rises with each host.
pub const EPOCH_ANNOTATION: &str = "paperclip.io/epoch";

/// One request to the Kubernetes API. The shell carries it out once and answers; retries are the engine's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ApiCall {
    /// List Jobs with all of these labels → [`ApiReply::Jobs`].
    ListJobs { namespace: String, labels: Vec<Label> },
    /// Dry-run create of a Pod → [`ApiReply::Warnings`].
    DryRunPod { manifest_json: String },
    /// Create a Job → [`ApiReply::Created`].
    CreateJob { manifest_json: String },
    /// Create a Secret; the shell adds the values of its sources → [`ApiReply::Created`].
    CreateSecret(NewSecret),
    /// Create a ConfigMap → [`ApiReply::Created`].
    CreateConfigMap(Box<NewConfigMap>),
    /// Read which objects own a Secret or ConfigMap → [`ApiReply::Owners`]. Its content is not read.
    GetOwners { kind: OwnedKind, namespace: String, name: String },
    /// Read what a ConfigMap contains → [`ApiReply::ContentName`].
    GetContentName { namespace: String, name: String },
    /// Add a Job to the owners of a ConfigMap, unless it is one already; the others remain → [`ApiReply::Created`].
    AddOwner { namespace: String, name: String, owner: ObjectRef },
    /// Merge-patch a Job, only if it still has the UID and no greater [epoch](EPOCH_ANNOTATION) than this → [`ApiReply::Job`].
    PatchJob { job: ObjectRef, patch_json: String, epoch: Option<u64> },
    /// Delete a Job with background propagation, only if it still has the UID and no greater [epoch](EPOCH_ANNOTATION) than this →
    /// [`ApiReply::Done`].
    DeleteJob { job: ObjectRef, epoch: Option<u64> },
    /// Read a Job by name → [`ApiReply::Job`].
    GetJob { namespace: String, name: String },
    /// Read the Pods that a Job controls, newest first → [`ApiReply::Pods`].
    ListPods { job: ObjectRef },
    /// Read the Events about a Job and its Pods → [`ApiReply::Events`].
    ListEvents { job: ObjectRef },
    /// Read the end of a log → [`ApiReply::LogText`].
    ReadLog(ReadLog),
    /// Read a Lease → [`ApiReply::Lease`], none when it does not exist.
    GetLease { namespace: String, name: String },
    /// Create a Lease that does not exist → [`ApiReply::Lease`].
    CreateLease(Lease),
    /// Replace a Lease, only at its resourceVersion → [`ApiReply::Lease`].
    UpdateLease(Lease),
    /// Delete a Lease, only at its resourceVersion → [`ApiReply::Done`].
    DeleteLease(Lease),
    /// Read the Lease of a host instance → [`ApiReply::HostLease`], none when it does not exist.
    GetHostLease { namespace: String, name: String },
    /// Create the Lease of a host instance → [`ApiReply::HostLease`].
    CreateHostLease(HostLease),
    /// Renew the Lease of a host instance, only at its resourceVersion → [`ApiReply::HostLease`].
    RenewHostLease(HostLease),
    /// Delete the Lease of a host instance, only at its resourceVersion → [`ApiReply::Done`].
    DeleteHostLease(HostLease),
    /// Read the record of a run → [`ApiReply::RunRecord`], none when it does not exist.
    GetRunRecord { namespace: String, name: String },
    /// Create the record of a run → [`ApiReply::RunRecord`].
    CreateRunRecord(Box<RunRecord>),
    /// Replace what the record of a run says, only at its resourceVersion → [`ApiReply::RunRecord`].
    UpdateRunRecord(Box<RunRecord>),
    /// Note in the record of a run that its end is requested, only if the record still has the UID → [`ApiReply::Done`].
    NoteCancel { namespace: String, name: String, uid: String, reason: String },
    /// Delete the record of a run, only if it still has the UID → [`ApiReply::Done`].
    DeleteRunRecord { namespace: String, name: String, uid: String },
    /// List the records of runs, without their content → [`ApiReply::RunRecords`].
    ListRunRecords { namespace: String },
}

impl ApiCall {
    /// Returns verb and object for messages and metrics.
    pub fn describe(&self) -> String {
        match self {
            ApiCall::ListJobs { namespace, .. } => format!("list Jobs in {namespace}"),
            ApiCall::DryRunPod { .. } => "dry-run create Pod".to_owned(),
            ApiCall::CreateJob { .. } => "create Job".to_owned(),
            ApiCall::CreateSecret(secret) => format!("create Secret {}", secret.name),
            ApiCall::CreateConfigMap(map) => format!("create ConfigMap {}", map.name),
            ApiCall::GetOwners { kind, name, .. } => format!("get {} {name}", kind.as_str()),
            ApiCall::GetContentName { name, .. } => format!("get content of ConfigMap {name}"),
            ApiCall::AddOwner { name, .. } => format!("add owner to ConfigMap {name}"),
            ApiCall::PatchJob { job, .. } => format!("patch Job {}", job.name),
            ApiCall::DeleteJob { job, .. } => format!("delete Job {}", job.name),
            ApiCall::GetJob { name, .. } => format!("get Job {name}"),
            ApiCall::ListPods { job } => format!("list Pods of Job {}", job.name),
            ApiCall::ListEvents { job } => format!("list Events of Job {}", job.name),
            ApiCall::ReadLog(read) => format!("read log of Pod {}", read.pod.name),
            ApiCall::GetLease { name, .. } => format!("get Lease {name}"),
            ApiCall::CreateLease(lease) => format!("create Lease {}", lease.name),
            ApiCall::UpdateLease(lease) => format!("update Lease {}", lease.name),
            ApiCall::DeleteLease(lease) => format!("delete Lease {}", lease.name),
            ApiCall::GetHostLease { name, .. } => format!("get Lease {name}"),
            ApiCall::CreateHostLease(lease) => format!("create Lease {}", lease.name),
            ApiCall::RenewHostLease(lease) => format!("update Lease {}", lease.name),
            ApiCall::DeleteHostLease(lease) => format!("delete Lease {}", lease.name),
            ApiCall::GetRunRecord { name, .. } => format!("get ConfigMap {name}"),
            ApiCall::CreateRunRecord(record) => format!("create ConfigMap {}", record.name),
            ApiCall::UpdateRunRecord(record) => format!("patch ConfigMap {}", record.name),
            ApiCall::NoteCancel { name, .. } => format!("patch ConfigMap {name}"),
            ApiCall::DeleteRunRecord { name, .. } => format!("delete ConfigMap {name}"),
            ApiCall::ListRunRecords { namespace } => format!("list ConfigMaps in {namespace}"),
        }
    }
}

impl ApiCall {
    /// Returns the object to create, if it is one that a Job owns.
    pub(crate) fn owned(&self) -> Option<Owned<'_>> {
        let (kind, namespace, name, owner) = match self {
            ApiCall::CreateSecret(new) => (OwnedKind::Secret, &new.namespace, &new.name, &new.owner),
            ApiCall::CreateConfigMap(new) => (OwnedKind::ConfigMap, &new.namespace, &new.name, &new.owner),
            _ => return None,
        };
        Some(Owned { kind, namespace, name, owner })
    }
}

/// An object that a Job will own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owned<'a> {
    pub(crate) kind: OwnedKind,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) owner: &'a ObjectRef,
}

impl Owned<'_> {
    /// Returns the call that reads who owns an existing object of this name.
    pub(crate) fn get_owners(&self) -> ApiCall {
        ApiCall::GetOwners {
            kind: self.kind,
            namespace: self.namespace.to_owned(),
            name: self.name.to_owned(),
        }
    }
}

/// The kind of an object that a Job's Pod needs. It is deleted with the Job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnedKind {
    Secret,
    ConfigMap,
}

impl OwnedKind {
    /// Returns the kind as Kubernetes names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            OwnedKind::Secret => "Secret",
            OwnedKind::ConfigMap => "ConfigMap",
        }
    }
}

/// The answer to a successful [`ApiCall`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ApiReply {
    Done,
    Created(ObjectRef),
    Jobs(Vec<JobSnapshot>),
    Job(Option<JobSnapshot>),
    /// The UIDs of the owners; none when the object does not exist.
    Owners(Option<Vec<String>>),
    /// The name that a shared ConfigMap of this content has; none when it does not exist.
    ContentName(Option<String>),
    Pods(Vec<PodSnapshot>),
    Events(Vec<ClusterEvent>),
    LogText(String),
    Warnings(Vec<String>),
    Lease(Option<Lease>),
    HostLease(Option<HostLease>),
    RunRecord(Option<Box<RunRecord>>),
    RunRecords(Vec<RecordSummary>),
}

/// The `coordination.k8s.io/v1` Lease of a guard, as far as the engine uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub namespace: String,
    pub name: String,
    /// Empty until it is created.
    pub uid: String,
    /// Empty until it is created.
    pub resource_version: String,
    /// The key of the guard. It is an annotation because it need not be a valid label value.
    pub key: String,
    /// `spec.holderIdentity`: the run that holds it.
    pub holder: String,
    /// The host that drives the run, an annotation. Empty if the Lease was left to the next host of the run.
    pub host: String,
    /// The name of the [`HostLease`] that shows whether the host lives, an annotation. Empty if an older version holds it.
    #[serde(default)]
    pub instance: String,
    /// Rises each time that another host gets the Lease; `spec.leaseTransitions` is a count of 32 bits, so it is an annotation.
    #[serde(default)]
    pub epoch: u64,
    /// `spec.leaseDurationSeconds`.
    pub duration_s: u32,
    #[serde(rename = "renewed_at_ms")]
    pub renewed_at: Timestamp,
}

impl Lease {
    /// Returns whether its host has left it to the next host of the run.
    pub fn is_released(&self) -> bool {
        self.host.is_empty()
    }

    /// Returns the Lease as its host leaves it to the next one.
    #[must_use]
    pub fn released(self, now: Timestamp) -> Lease {
        Lease { host: String::new(), instance: String::new(), renewed_at: now, ..self }
    }
}

/// The Lease of a host instance: of one process that drives runs in a namespace. Its name is never used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLease {
    pub namespace: String,
    pub name: String,
    /// Empty until it is created.
    pub uid: String,
    /// Empty until it is created.
    pub resource_version: String,
    /// `spec.holderIdentity`: the host.
    pub host: String,
    /// Where other replicas reach the host, an annotation.
    pub address: Option<String>,
    /// The host's version, an annotation.
    pub version: String,
    /// `spec.renewTime`, for people: no host compares it with its clock.
    pub renewed_at: Timestamp,
}
