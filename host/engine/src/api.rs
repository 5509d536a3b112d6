//! Calls to the Kubernetes API as the engine requests them, and their answers.

use paperclip_contract::types::{
    ClusterEvent, JobSnapshot, Label, NewConfigMap, NewSecret, ObjectRef, PodSnapshot, ReadLog,
};
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Reason of the error of an [`ApiCall::CreateSecret`] that was not sent, because the host lacks a value of the Secret.
pub const NO_VALUE: &str = "NoValue";

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
    /// Merge-patch a Job, only if it still has the UID → [`ApiReply::Job`].
    PatchJob { job: ObjectRef, patch_json: String },
    /// Delete a Job with background propagation, only if it still has the UID → [`ApiReply::Done`].
    DeleteJob { job: ObjectRef },
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
            ApiCall::DeleteJob { job } => format!("delete Job {}", job.name),
            ApiCall::GetJob { name, .. } => format!("get Job {name}"),
            ApiCall::ListPods { job } => format!("list Pods of Job {}", job.name),
            ApiCall::ListEvents { job } => format!("list Events of Job {}", job.name),
            ApiCall::ReadLog(read) => format!("read log of Pod {}", read.pod.name),
            ApiCall::GetLease { name, .. } => format!("get Lease {name}"),
            ApiCall::CreateLease(lease) => format!("create Lease {}", lease.name),
            ApiCall::UpdateLease(lease) => format!("update Lease {}", lease.name),
            ApiCall::DeleteLease(lease) => format!("delete Lease {}", lease.name),
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
}

/// A `coordination.k8s.io/v1` Lease, as far as the engine uses it.
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
    /// The host that drives the run, an annotation.
    pub host: String,
    /// `spec.leaseDurationSeconds`.
    pub duration_s: u32,
    #[serde(rename = "renewed_at_ms")]
    pub renewed_at: Timestamp,
}
