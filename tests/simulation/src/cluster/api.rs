//! Requests to the API server, one at a time.

use paperclip_contract::types::{ApiError, ObjectRef};
use paperclip_engine::api::{ApiCall, ApiReply, HostLease, Lease, SUPERSEDED};
use paperclip_engine::time::Timestamp;
use serde_json::Value;

use super::job::{Actor, Job, RUN_LABEL, pairs};
use super::{Cluster, Owned, error};

impl Cluster {
    /// Carries a request out.
    pub(crate) fn apply(&mut self, actor: Actor, request: &ApiCall) -> Result<ApiReply, ApiError> {
        match request {
            ApiCall::ListJobs { labels, .. } => {
                let has_all = |job: &&Job| labels.iter().all(|label| job.labels.contains(label));
                let found = self.jobs.values().filter(|job| !job.is_removed).filter(has_all);
                Ok(ApiReply::Jobs(found.map(Job::snapshot).collect()))
            }
            ApiCall::DryRunPod { .. } => Ok(ApiReply::Warnings(Vec::new())),
            ApiCall::CreateJob { manifest_json } => self.create_job(manifest_json),
            ApiCall::CreateSecret(secret) => {
                self.create_owned(&secret.namespace, &secret.name, &secret.owner)
            }
            ApiCall::CreateConfigMap(map) => self.create_owned(&map.namespace, &map.name, &map.owner),
            ApiCall::GetOwners { name, .. } => {
                let found = self.owned.iter().filter(|owned| owned.name == *name);
                let owners: Vec<String> = found.map(|owned| owned.owner_uid.clone()).collect();
                Ok(ApiReply::Owners((!owners.is_empty()).then_some(owners)))
            }
            // What is created under such a name is what it says: the grant checks it.
            ApiCall::GetContentName { name, .. } => {
                let found = self.owned.iter().any(|owned| owned.name == *name);
                Ok(ApiReply::ContentName(found.then(|| name.clone())))
            }
            ApiCall::AddOwner { namespace, name, owner } => self.add_owner(namespace, name, owner),
            ApiCall::PatchJob { job, patch_json, epoch } => {
                self.check_epoch(job, *epoch)?;
                self.patch_job(job, patch_json)
            }
            ApiCall::DeleteJob { job, epoch } => {
                self.check_epoch(job, *epoch)?;
                self.delete_job(actor, job).map(|()| ApiReply::Done)
            }
            ApiCall::GetJob { name, .. } => Ok(ApiReply::Job(self.job_named(name).map(Job::snapshot))),
            ApiCall::ListPods { job } => {
                Ok(ApiReply::Pods(self.pods_of(&job.uid).map(super::Pod::snapshot).collect()))
            }
            ApiCall::ListEvents { job } => {
                let about = self.events.iter().filter(|(uid, _)| *uid == job.uid);
                Ok(ApiReply::Events(about.map(|(_, event)| event.clone()).collect()))
            }
            ApiCall::ReadLog(read) => match self.pods.get(&read.pod.uid) {
                Some(pod) => Ok(ApiReply::LogText(pod.log.lines.join("\n"))),
                None => Err(not_found("pods", &read.pod.name)),
            },
            ApiCall::GetLease { name, .. } => Ok(ApiReply::Lease(self.leases.get(name).cloned())),
            ApiCall::CreateLease(lease) => {
                if self.leases.contains_key(&lease.name) {
                    return Err(exists("leases", &lease.name));
                }
                let uid = self.uid("lease");
                self.store_lease(Lease { uid, ..lease.clone() })
            }
            ApiCall::GetHostLease { namespace, name } => {
                let lives = self.hosts.contains(name);
                Ok(ApiReply::HostLease(lives.then(|| host_lease(namespace, name))))
            }
            ApiCall::CreateHostLease(_) | ApiCall::RenewHostLease(_) | ApiCall::DeleteHostLease(_) => {
                Err(error(400, "BadRequest", "a run writes no Lease of a host"))
            }
            ApiCall::GetRunRecord { .. }
            | ApiCall::CreateRunRecord(_)
            | ApiCall::UpdateRunRecord(_)
            | ApiCall::NoteCancel { .. }
            | ApiCall::DeleteRunRecord { .. }
            | ApiCall::ListRunRecords { .. } => {
                Err(error(400, "BadRequest", "no run of this world has a record"))
            }
            ApiCall::UpdateLease(lease) => {
                self.check_lease(lease)?;
                self.store_lease(lease.clone())
            }
            ApiCall::DeleteLease(lease) => {
                self.check_lease(lease)?;
                self.leases.remove(&lease.name);
                Ok(ApiReply::Done)
            }
        }
    }

    /// What the shell does by reading the Job and naming its resourceVersion.
    fn check_epoch(&self, requested: &ObjectRef, epoch: Option<u64>) -> Result<(), ApiError> {
        let found = self.job_named(&requested.name);
        let of_job = found.and_then(super::job::Job::epoch).unwrap_or(0);
        match epoch {
            Some(epoch) if epoch < of_job => {
                Err(error(409, SUPERSEDED, format!("epoch {of_job} of the Job, {epoch} of the host")))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn create_job(&mut self, manifest_json: &str) -> Result<ApiReply, ApiError> {
        let manifest: Value =
            serde_json::from_str(manifest_json).map_err(|e| error(400, "BadRequest", e.to_string()))?;
        let uid = self.uid("job");
        let job =
            Job::read(&manifest, uid.clone(), self.now_ms).map_err(|text| error(422, "Invalid", text))?;
        if self.job_named(&job.object.name).is_some() {
            return Err(exists("jobs.batch", &job.object.name));
        }
        let object = job.object.clone();
        self.jobs.insert(uid.clone(), job);
        self.publish_job(&uid);
        Ok(ApiReply::Created(object))
    }

    fn create_owned(&mut self, namespace: &str, name: &str, owner: &ObjectRef) -> Result<ApiReply, ApiError> {
        if self.owned.iter().any(|owned| owned.name == name) {
            return Err(exists("secrets", name));
        }
        self.owned.push(Owned { name: name.to_owned(), owner_uid: owner.uid.clone() });
        let uid = self.uid("secret");
        Ok(ApiReply::Created(ObjectRef { namespace: namespace.to_owned(), name: name.to_owned(), uid }))
    }

    fn add_owner(&mut self, namespace: &str, name: &str, owner: &ObjectRef) -> Result<ApiReply, ApiError> {
        if !self.owned.iter().any(|owned| owned.name == name) {
            return Err(error(404, "NotFound", format!("configmaps \"{name}\" not found")));
        }
        let added = Owned { name: name.to_owned(), owner_uid: owner.uid.clone() };
        if !self.owned.contains(&added) {
            self.owned.push(added);
        }
        let uid = self.uid("config-map");
        Ok(ApiReply::Created(ObjectRef { namespace: namespace.to_owned(), name: name.to_owned(), uid }))
    }

    fn patch_job(&mut self, requested: &ObjectRef, patch_json: &str) -> Result<ApiReply, ApiError> {
        let patch: Value =
            serde_json::from_str(patch_json).map_err(|e| error(400, "BadRequest", e.to_string()))?;
        let uid = self.pinned(requested)?;
        let job = self.jobs.get_mut(&uid).expect("it was just found");
        for label in pairs(&patch["metadata"]["labels"]) {
            if label.key == RUN_LABEL {
                job.past_runs.extend(job.run_id().map(str::to_owned));
            }
            job.labels.retain(|known| known.key != label.key);
            job.labels.push(label);
        }
        for annotation in pairs(&patch["metadata"]["annotations"]) {
            job.annotations.retain(|known| known.key != annotation.key);
            job.annotations.push(annotation);
        }
        if let Some(is_suspended) = patch["spec"]["suspend"].as_bool() {
            job.is_suspended = is_suspended;
        }
        let snapshot = job.snapshot();
        self.publish_job(&uid);
        Ok(ApiReply::Job(Some(snapshot)))
    }

    /// Background deletion: without a finalizer the Job is removed at once, its pods follow.
    pub(crate) fn delete_job(&mut self, actor: Actor, requested: &ObjectRef) -> Result<(), ApiError> {
        let uid = self.pinned(requested)?;
        let now_ms = self.now_ms;
        let job = self.jobs.get_mut(&uid).expect("it was just found");
        job.deleted_by.get_or_insert(actor);
        job.deleting_since_ms.get_or_insert(now_ms);
        Ok(())
    }

    /// The UID of a Job, which is a precondition (rule 18).
    fn pinned(&self, requested: &ObjectRef) -> Result<String, ApiError> {
        let found =
            self.job_named(&requested.name).ok_or_else(|| not_found("jobs.batch", &requested.name))?;
        if found.object.uid == requested.uid {
            return Ok(requested.uid.clone());
        }
        let text = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            requested.uid, found.object.uid
        );
        Err(error(409, "Conflict", text))
    }

    fn check_lease(&self, lease: &Lease) -> Result<(), ApiError> {
        match self.leases.get(&lease.name) {
            None => Err(not_found("leases", &lease.name)),
            Some(known) if known.resource_version != lease.resource_version || known.uid != lease.uid => {
                Err(error(409, "Conflict", "the object has been modified"))
            }
            Some(_) => Ok(()),
        }
    }

    fn store_lease(&mut self, mut lease: Lease) -> Result<ApiReply, ApiError> {
        self.next_version += 1;
        lease.resource_version = self.next_version.to_string();
        self.leases.insert(lease.name.clone(), lease.clone());
        Ok(ApiReply::Lease(Some(lease)))
    }
}

fn host_lease(namespace: &str, name: &str) -> HostLease {
    HostLease {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: format!("uid-of-{name}"),
        resource_version: "1".to_owned(),
        host: String::new(),
        address: None,
        version: String::new(),
        renewed_at: Timestamp::EPOCH,
    }
}

fn exists(kind: &str, name: &str) -> ApiError {
    error(409, "AlreadyExists", format!("{kind} \"{name}\" already exists"))
}

fn not_found(kind: &str, name: &str) -> ApiError {
    error(404, "NotFound", format!("{kind} \"{name}\" not found"))
}
