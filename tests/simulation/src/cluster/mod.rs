//! The simulated cluster: objects, their versions, and what happened to them. Written from how Kubernetes behaves
//! (the rules are numbered as in the tests of the engine's log reader and in `docs/simulation.md`).

mod api;
mod container_log;
mod job;
mod pod;

use std::collections::{BTreeMap, BTreeSet};

use paperclip_contract::types::{ApiError, ClusterEvent, JobSnapshot, ObjectRef, PodSnapshot};
use paperclip_engine::api::Lease;

pub(crate) use container_log::{ControlFate, Reading};
pub(crate) use job::{Actor, Job, SUSPENDED};
pub(crate) use pod::{Pod, Stage};

/// What a watch can deliver.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Job(JobSnapshot),
    JobDeleted(ObjectRef),
    Pod(PodSnapshot),
    PodDeleted(ObjectRef),
}

/// One entry of the server's log of versions.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) job_uid: String,
    pub(crate) change: Change,
}

impl Change {
    pub(crate) fn is_of_job(&self) -> bool {
        matches!(self, Change::Job(_) | Change::JobDeleted(_))
    }

    pub(crate) fn is_of_end(&self) -> bool {
        matches!(self, Change::JobDeleted(_) | Change::PodDeleted(_))
    }
}

/// A Secret or a ConfigMap: the garbage collector removes it after its owner.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) name: String,
    pub(crate) owner_uid: String,
}

#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) now_ms: u64,
    next_uid: u64,
    next_version: u64,
    /// Removed objects stay here, marked as removed: the invariants read the whole past.
    pub(crate) jobs: BTreeMap<String, Job>,
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) owned: Vec<Owned>,
    pub(crate) leases: BTreeMap<String, Lease>,
    /// Host instances that have a Lease.
    pub(crate) hosts: BTreeSet<String>,
    /// The log of versions; a version is a position in it.
    pub(crate) log: Vec<Logged>,
    /// Events by the Job that they are about.
    pub(crate) events: Vec<(String, ClusterEvent)>,
    /// Kubelets before 1.26 stamp each chunk of a long line (rule 4).
    pub(crate) stamps_chunks: bool,
    /// Containers have the init program, if their Jobs mount it.
    pub(crate) has_init: bool,
}

impl Cluster {
    pub(crate) fn new(now_ms: u64, stamps_chunks: bool, has_init: bool) -> Self {
        Cluster { now_ms, stamps_chunks, has_init, ..Cluster::default() }
    }

    fn uid(&mut self, kind: &str) -> String {
        self.next_uid += 1;
        format!("{kind}-{}", self.next_uid)
    }

    /// Sends the current state of a Job to the watches.
    pub(crate) fn publish_job(&mut self, uid: &str) {
        let Some(job) = self.jobs.get(uid) else { return };
        let change =
            if job.is_removed { Change::JobDeleted(job.object.clone()) } else { Change::Job(job.snapshot()) };
        self.log.push(Logged { job_uid: uid.to_owned(), change });
    }

    /// Sends the current state of a pod to the watches.
    pub(crate) fn publish_pod(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid) else { return };
        let change = if pod.stage == Stage::Removed {
            Change::PodDeleted(pod.object.clone())
        } else {
            Change::Pod(pod.snapshot())
        };
        self.log.push(Logged { job_uid: pod.job_uid.clone(), change });
    }

    /// The pods of a Job that exist, newest first.
    pub(crate) fn pods_of<'a>(&'a self, job_uid: &'a str) -> impl Iterator<Item = &'a Pod> {
        self.pods.values().rev().filter(move |pod| pod.job_uid == job_uid && pod.stage != Stage::Removed)
    }

    pub(crate) fn is_live(&self, job: &Job) -> bool {
        !job.is_removed && job.deleting_since_ms.is_none() && !job.is_finished()
    }

    pub(crate) fn job_named(&self, name: &str) -> Option<&Job> {
        self.jobs.values().find(|job| job.object.name == name && !job.is_removed)
    }

    pub(crate) fn note_event(&mut self, job_uid: &str, about: String, reason: &str, message: &str) {
        let event = ClusterEvent {
            about,
            is_warning: true,
            reason: reason.to_owned(),
            message: message.to_owned(),
            count: 1,
            last_seen_at_ms: Some(self.now_ms),
        };
        self.events.push((job_uid.to_owned(), event));
    }

    /// What is left of a run's objects: names, for a message.
    pub(crate) fn left_behind(&self) -> Vec<String> {
        let jobs =
            self.jobs.values().filter(|job| !job.is_removed).map(|job| format!("Job {}", job.object.name));
        let pods = self.pods.values().filter(|pod| pod.stage != Stage::Removed);
        let pods = pods.map(|pod| format!("Pod {}", pod.object.name));
        let owned = self.owned.iter().map(|owned| format!("Secret {}", owned.name));
        let leases = self.leases.keys().map(|name| format!("Lease {name}"));
        jobs.chain(pods).chain(owned).chain(leases).collect()
    }
}

pub(crate) fn error(status: u16, reason: &str, message: impl Into<String>) -> ApiError {
    ApiError {
        status: Some(status),
        reason: Some(reason.to_owned()),
        message: message.into(),
        retry_after_ms: None,
    }
}
