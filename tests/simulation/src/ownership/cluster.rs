//! The API server of the ownership simulation: Leases and Jobs with versions, and the log that watches read.

use std::collections::BTreeMap;

use paperclip_contract::types::{ApiError, ObjectRef};
use paperclip_engine::api::{ApiCall, ApiReply, EPOCH_ANNOTATION, HostLease, Lease, SUPERSEDED};
use paperclip_engine::ownership::{JobView, LeaseView};
use serde_json::{Value, json};

use super::mutant::Mutant;

pub(super) const NAMESPACE: &str = "agents";

/// One entry of the log of versions.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Lease(LeaseView),
    LeaseDeleted(String),
    Job(JobView),
    JobDeleted(String),
}

impl Change {
    pub(super) fn is_of_lease(&self) -> bool {
        matches!(self, Change::Lease(_) | Change::LeaseDeleted(_))
    }
}

/// A Job, also after it was removed.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) view: JobView,
    pub(super) run: usize,
    pub(super) is_removed: bool,
}

/// A change of a Job that the server accepted.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) job_uid: String,
    /// That of its sender.
    pub(super) epoch: u64,
    /// The Job was not being deleted already.
    pub(super) has_effect: bool,
}

#[derive(Debug)]
pub(super) struct Cluster {
    next: u64,
    pub(super) guards: BTreeMap<String, Lease>,
    pub(super) hosts: BTreeMap<String, HostLease>,
    pub(super) jobs: BTreeMap<String, Job>,
    pub(super) log: Vec<Change>,
    pub(super) reads: u64,
    pub(super) writes: u64,
    mutant: Option<Mutant>,
}

impl Cluster {
    pub(super) fn new(mutant: Option<Mutant>) -> Cluster {
        Cluster {
            next: 1,
            guards: BTreeMap::new(),
            hosts: BTreeMap::new(),
            jobs: BTreeMap::new(),
            log: Vec::new(),
            reads: 0,
            writes: 0,
            mutant,
        }
    }

    fn version(&mut self) -> String {
        self.next += 1;
        self.next.to_string()
    }

    /// Everything that exists, as a list of a watch returns it.
    pub(super) fn leases(&self) -> Vec<LeaseView> {
        let guards = self.guards.values().cloned().map(LeaseView::Guard);
        guards.chain(self.hosts.values().cloned().map(LeaseView::Host)).collect()
    }

    pub(super) fn job_views(&self) -> Vec<JobView> {
        self.jobs.values().filter(|job| !job.is_removed).map(|job| job.view.clone()).collect()
    }

    /// Carries a request out. A changed Job is reported with the epoch of the sender.
    pub(super) fn apply(&mut self, request: &ApiCall) -> (Result<ApiReply, ApiError>, Option<Accepted>) {
        let mut accepted = None;
        let reply = self.answer(request, &mut accepted);
        match request {
            ApiCall::GetLease { .. } | ApiCall::GetHostLease { .. } => self.reads += 1,
            _ => self.writes += 1,
        }
        (reply, accepted)
    }

    fn answer(&mut self, request: &ApiCall, accepted: &mut Option<Accepted>) -> Result<ApiReply, ApiError> {
        match request {
            ApiCall::GetLease { name, .. } => Ok(ApiReply::Lease(self.guards.get(name).cloned())),
            ApiCall::CreateLease(lease) if self.guards.contains_key(&lease.name) => Err(exists()),
            ApiCall::CreateLease(lease) => {
                let uid = format!("uid-{}", self.version());
                Ok(self.store_guard(Lease { uid, ..lease.clone() }))
            }
            ApiCall::UpdateLease(lease) => {
                let known = self.guards.get(&lease.name).ok_or_else(not_found)?;
                let is_same = known.resource_version == lease.resource_version && known.uid == lease.uid;
                if !is_same && self.mutant != Some(Mutant::TakeoverUnchecked) {
                    return Err(conflict("Conflict"));
                }
                Ok(self.store_guard(lease.clone()))
            }
            ApiCall::DeleteLease(lease) => {
                let known = self.guards.get(&lease.name).ok_or_else(not_found)?;
                if known.resource_version != lease.resource_version {
                    return Err(conflict("Conflict"));
                }
                self.guards.remove(&lease.name);
                self.log.push(Change::LeaseDeleted(lease.name.clone()));
                Ok(ApiReply::Done)
            }
            ApiCall::GetHostLease { name, .. } => Ok(ApiReply::HostLease(self.hosts.get(name).cloned())),
            ApiCall::CreateHostLease(lease) if self.hosts.contains_key(&lease.name) => Err(exists()),
            ApiCall::CreateHostLease(lease) => {
                let uid = format!("uid-{}", self.version());
                Ok(self.store_host(HostLease { uid, ..lease.clone() }))
            }
            ApiCall::RenewHostLease(lease) => {
                let known = self.hosts.get(&lease.name).ok_or_else(not_found)?;
                if known.resource_version != lease.resource_version || known.uid != lease.uid {
                    return Err(conflict("Conflict"));
                }
                Ok(self.store_host(lease.clone()))
            }
            ApiCall::DeleteHostLease(lease) => {
                let known = self.hosts.get(&lease.name).ok_or_else(not_found)?;
                let is_same = known.resource_version == lease.resource_version && known.uid == lease.uid;
                if !is_same && self.mutant != Some(Mutant::RevocationUnchecked) {
                    return Err(conflict("Conflict"));
                }
                self.hosts.remove(&lease.name);
                self.log.push(Change::LeaseDeleted(lease.name.clone()));
                Ok(ApiReply::Done)
            }
            ApiCall::CreateJob { manifest_json } => self.create_job(manifest_json, accepted),
            ApiCall::PatchJob { job, patch_json, epoch } => {
                self.check_epoch(job, *epoch, accepted)?;
                let patch: Value = serde_json::from_str(patch_json).unwrap_or_default();
                let epoch = patch["metadata"]["annotations"][EPOCH_ANNOTATION].as_str();
                let changed = self.jobs.get_mut(&job.uid).ok_or_else(not_found)?;
                changed.view.epoch = epoch.and_then(|epoch| epoch.parse().ok()).or(changed.view.epoch);
                changed.view.is_suspended &= patch["spec"]["suspend"] != false;
                self.publish_job(&job.uid);
                Ok(ApiReply::Done)
            }
            ApiCall::DeleteJob { job, epoch } => {
                self.check_epoch(job, *epoch, accepted)?;
                let deleted = self.jobs.get_mut(&job.uid).ok_or_else(not_found)?;
                deleted.view.is_deleting = true;
                self.publish_job(&job.uid);
                Ok(ApiReply::Done)
            }
            other => unreachable!("no host of this simulation sends {other:?}"),
        }
    }

    fn store_guard(&mut self, mut lease: Lease) -> ApiReply {
        lease.resource_version = self.version();
        self.guards.insert(lease.name.clone(), lease.clone());
        self.log.push(Change::Lease(LeaseView::Guard(lease.clone())));
        ApiReply::Lease(Some(lease))
    }

    fn store_host(&mut self, mut lease: HostLease) -> ApiReply {
        lease.resource_version = self.version();
        self.hosts.insert(lease.name.clone(), lease.clone());
        self.log.push(Change::Lease(LeaseView::Host(lease.clone())));
        ApiReply::HostLease(Some(lease))
    }

    /// What the shell does with the Job's resourceVersion.
    fn check_epoch(
        &self,
        job: &ObjectRef,
        epoch: Option<u64>,
        accepted: &mut Option<Accepted>,
    ) -> Result<(), ApiError> {
        let found = self.jobs.get(&job.uid).filter(|found| !found.is_removed).ok_or_else(not_found)?;
        let (job_epoch, epoch) = (found.view.epoch.unwrap_or(0), epoch.unwrap_or(u64::MAX));
        if epoch < job_epoch && self.mutant != Some(Mutant::EpochIgnored) {
            return Err(conflict(SUPERSEDED));
        }
        let has_effect = !found.view.is_deleting;
        *accepted = Some(Accepted { job_uid: job.uid.clone(), epoch, has_effect });
        Ok(())
    }

    /// A manifest has run, name and epoch.
    fn create_job(
        &mut self,
        manifest_json: &str,
        accepted: &mut Option<Accepted>,
    ) -> Result<ApiReply, ApiError> {
        let manifest: Value = serde_json::from_str(manifest_json).unwrap_or_default();
        let name = manifest["name"].as_str().unwrap_or_default().to_owned();
        let index = manifest["index"].as_u64().unwrap_or_default() as usize;
        let is_of_run = |job: &Job| job.view.job.name == name || job.run == index;
        if self.jobs.values().any(|job| !job.is_removed && is_of_run(job)) {
            return Err(exists());
        }
        let uid = format!("job-{}", self.version());
        let view = JobView {
            job: ObjectRef { namespace: NAMESPACE.into(), name, uid: uid.clone() },
            run: manifest["run"].as_str().unwrap_or_default().to_owned(),
            epoch: manifest["epoch"].as_u64(),
            has_ended: false,
            is_deleting: false,
            is_suspended: true,
        };
        let object = view.job.clone();
        let epoch = view.epoch.unwrap_or(0);
        *accepted = Some(Accepted { job_uid: uid.clone(), epoch, has_effect: true });
        self.jobs.insert(uid.clone(), Job { view, run: index, is_removed: false });
        self.publish_job(&uid);
        Ok(ApiReply::Created(object))
    }

    /// Another run adopts a Job, as a plugin does with an orphan of its agent.
    pub(super) fn relabel(&mut self, uid: &str, run: usize, run_id: &str) {
        if let Some(job) = self.jobs.get_mut(uid) {
            job.run = run;
            job.view.run = run_id.to_owned();
            self.publish_job(uid);
        }
    }

    pub(super) fn end_agent(&mut self, uid: &str) {
        if let Some(job) = self.jobs.get_mut(uid).filter(|job| !job.view.is_deleting) {
            job.view.has_ended = true;
            self.publish_job(uid);
        }
    }

    pub(super) fn remove_job(&mut self, uid: &str) {
        if let Some(job) = self.jobs.get_mut(uid) {
            job.is_removed = true;
            self.log.push(Change::JobDeleted(uid.to_owned()));
        }
    }

    fn publish_job(&mut self, uid: &str) {
        if let Some(job) = self.jobs.get(uid) {
            self.log.push(Change::Job(job.view.clone()));
        }
    }
}

/// The manifest of a run's Job.
pub(super) fn manifest(run_id: &str, index: usize, epoch: Option<u64>) -> String {
    json!({ "name": format!("job-of-{run_id}"), "run": run_id, "index": index, "epoch": epoch }).to_string()
}

fn refused(status: u16, reason: &str) -> ApiError {
    ApiError {
        status: Some(status),
        reason: Some(reason.to_owned()),
        message: reason.to_owned(),
        retry_after_ms: None,
    }
}

fn conflict(reason: &str) -> ApiError {
    refused(409, reason)
}

fn exists() -> ApiError {
    refused(409, "AlreadyExists")
}

fn not_found() -> ApiError {
    refused(404, "NotFound")
}
