//! Answers to API calls: their effect on the plugin's commands, the Lease and the cleanup.

use std::time::Duration;

use paperclip_contract::types::{Answer, AnswerOk, ApiError, Deletion, Event, NewConfigMap, ObjectRef};

use super::Run;
use crate::api::{self, ApiCall, ApiReply, Owned};
use crate::calls::{self, Finished, Purpose};
use crate::guest::Guest;
use crate::ids::{CallId, CommandId};
use crate::manifest;
use crate::port::Effect;
use crate::record::Level;
use crate::time::Timestamp;

/// How often an object that the garbage collector is about to delete is read.
const COLLECTION_RECHECK: Duration = Duration::from_secs(1);

impl<G: Guest> Run<G> {
    pub(super) fn on_called(&mut self, call: CallId, outcome: Result<ApiReply, ApiError>) {
        if let Some(finished) = self.calls.answer(self.now, call, outcome) {
            self.on_finished(finished);
        }
    }

    pub(super) fn on_finished(&mut self, finished: Finished) {
        match finished.purpose {
            Purpose::Lease => {
                let outcomes = self.lease.on_answer(self.now, finished.outcome);
                self.apply_lease(outcomes);
            }
            // This host has raised the epoch itself, or another one that has the same run to clean up after.
            Purpose::VerifiedCleanup(job) if finished.outcome.as_ref().is_err_and(is_superseded) => {
                self.verify_and_delete(job);
            }
            Purpose::Cleanup | Purpose::VerifiedCleanup(_) => {
                if let Err(error) = finished.outcome
                    && error.status != Some(404)
                {
                    let what = finished.request.describe();
                    self.note(Level::Warning, format!("not deleted: {what}: {}", error.message));
                }
            }
            // A later host has raised it further, or the Job was deleted.
            Purpose::Epoch => {
                if let Err(error) = finished.outcome
                    && !matches!(error.status, Some(404 | 409))
                {
                    let what = finished.request.describe();
                    self.note(Level::Warning, format!("the epoch is not raised: {what}: {}", error.message));
                }
            }
            Purpose::VerifiedDeletion(job) => self.clean_up_verified(&job, finished.outcome),
            Purpose::Record => self.on_record_answered(finished.outcome),
            Purpose::RecordCheck => self.on_record_checked(finished.outcome),
            Purpose::Command(command) => {
                self.on_command_answered(command, &finished.request, finished.outcome);
            }
            Purpose::ExistingJob { command, manifest_json } => {
                self.on_existing_job(command, manifest_json, finished.outcome);
            }
            Purpose::UnobservedJob(job) => self.on_unobserved_job(job, finished.outcome),
            Purpose::AdoptedJob { command } => self.on_adopted_job(command, finished.outcome),
            Purpose::ExistingOwned { command, create, until } => {
                self.on_existing_owned(command, create, until, finished.outcome);
            }
            Purpose::ExistingShared { command, create } => {
                self.on_existing_shared(command, create, finished.outcome);
            }
        }
    }

    fn on_command_answered(
        &mut self,
        command: CommandId,
        request: &ApiCall,
        outcome: Result<ApiReply, ApiError>,
    ) {
        match (request, outcome) {
            // Rule 25: a create without an answer may have been applied, and it is sent again after a crash.
            (ApiCall::CreateJob { manifest_json }, Err(error)) if is_existing(&error) => {
                match manifest::job_name(manifest_json) {
                    Some((namespace, name)) => {
                        let get = ApiCall::GetJob { namespace, name };
                        let purpose = Purpose::ExistingJob { command, manifest_json: manifest_json.clone() };
                        self.call_for(purpose, get, calls::COMMAND_RETRY);
                    }
                    None => self.answer(command, Err(error)),
                }
            }
            // It is another run's as well, or an answer was lost.
            (ApiCall::CreateConfigMap(map), Err(error)) if map.is_shared && is_existing(&error) => {
                let get =
                    ApiCall::GetContentName { namespace: map.namespace.clone(), name: map.name.clone() };
                let purpose = Purpose::ExistingShared { command, create: map.clone() };
                self.call_for(purpose, get, calls::COMMAND_RETRY);
            }
            // The existing object is the run's own if an answer was lost or the host crashed before it.
            (create, Err(error))
                if is_existing(&error)
                    && let Some(owned) = create.owned() =>
            {
                let until = self.now + calls::COMMAND_RETRY;
                let purpose = Purpose::ExistingOwned { command, create: Box::new(create.clone()), until };
                self.call_for(purpose, owned.get_owners(), calls::COMMAND_RETRY);
            }
            // The values were in the memory of the host that crashed, and no caller supplied them again: the agent never started.
            (ApiCall::CreateSecret(_), Err(error)) if self.replay.is_started && is_valueless(&error) => {
                self.end_for_lost_secrets(&error.message);
            }
            // Another host has raised the epoch of this run's Job: it drives the run.
            (ApiCall::PatchJob { job, .. } | ApiCall::DeleteJob { job, .. }, Err(error))
                if is_superseded(&error) && self.ledger.jobs.contains_key(&job.uid) =>
            {
                self.leave_to("that has raised the epoch of its Job");
            }
            // Deleted already is the intended state.
            (ApiCall::DeleteJob { .. }, Err(error)) if error.status == Some(404) => {
                self.answer(command, Ok(AnswerOk::Done));
            }
            (_, Err(error)) => self.answer(command, Err(error)),
            (_, Ok(reply)) => self.on_command_done(command, reply),
        }
    }

    /// Follows a Job, and reads it later if no watch reports it.
    pub(super) fn follow_job(&mut self, job: ObjectRef) {
        self.unobserved.follow(self.now, &job);
        self.effects.push_back(Effect::Follow(job));
    }

    pub(super) fn get_unobserved_jobs(&mut self) {
        for job in self.unobserved.due(self.now) {
            let get = ApiCall::GetJob { namespace: job.namespace.clone(), name: job.name.clone() };
            self.call_for(Purpose::UnobservedJob(job), get, calls::COMMAND_RETRY);
        }
    }

    fn on_unobserved_job(&mut self, job: ObjectRef, outcome: Result<ApiReply, ApiError>) {
        match outcome {
            Ok(ApiReply::Job(Some(seen))) if seen.job.uid == job.uid => self.observe_job(seen),
            Ok(_) => {
                let detected_via = "read-404".to_owned();
                self.observe_job_deleted(Deletion { object: job, detected_via, is_ours: false });
            }
            // Try again later, unless this host must not read Jobs.
            Err(error) if calls::is_transient(&error) => self.unobserved.follow(self.now, &job),
            Err(error) => {
                let text =
                    format!("no watch reports Job {}, and it cannot be read: {}", job.name, error.message);
                self.note(Level::Warning, text);
            }
        }
    }

    fn on_command_done(&mut self, command: CommandId, reply: ApiReply) {
        let ok = match reply {
            ApiReply::Done
            | ApiReply::Lease(_)
            | ApiReply::HostLease(_)
            | ApiReply::RunRecord(_)
            | ApiReply::RunRecords(_)
            | ApiReply::Owners(_)
            | ApiReply::ContentName(_) => AnswerOk::Done,
            ApiReply::Created(object) => AnswerOk::Created(object),
            ApiReply::Jobs(jobs) => AnswerOk::Jobs(jobs),
            ApiReply::Job(job) => AnswerOk::Job(job),
            ApiReply::Pods(mut pods) => {
                pods.iter_mut().for_each(|pod| self.mask_pod(pod));
                self.on_pods(&pods);
                AnswerOk::Pods(pods)
            }
            ApiReply::Events(mut events) => {
                for event in &mut events {
                    event.message = self.spec.redactor.mask(std::mem::take(&mut event.message));
                }
                AnswerOk::Events(events)
            }
            ApiReply::LogText(text) => AnswerOk::LogText(self.spec.redactor.mask(text)),
            ApiReply::Warnings(warnings) => AnswerOk::Warnings(warnings),
        };
        self.answer(command, Ok(ok));
    }

    /// Handles an existing Job of the name: it is this run's own if run and spec hash agree.
    fn on_existing_job(
        &mut self,
        command: CommandId,
        manifest_json: String,
        outcome: Result<ApiReply, ApiError>,
    ) {
        let outcome = match outcome {
            Ok(ApiReply::Job(Some(job))) if manifest::is_same_run(&manifest_json, &job) => {
                Ok(AnswerOk::Created(job.job))
            }
            Ok(ApiReply::Job(Some(job))) => Err(ApiError {
                status: Some(409),
                reason: Some("AlreadyExists".to_owned()),
                message: format!(
                    "a Job named {} exists in {} and is not this run's: delete it or wait until its TTL removes it",
                    job.job.name, job.job.namespace
                ),
                retry_after_ms: None,
            }),
            // It was deleted between the two calls.
            Ok(_) => {
                let create = ApiCall::CreateJob { manifest_json };
                self.call_for(Purpose::Command(command), create, calls::COMMAND_RETRY);
                return;
            }
            Err(error) => Err(error),
        };
        self.answer(command, outcome);
    }

    /// Handles an existing dependent of the name. One that an earlier Job of the name owned is about to be garbage-collected, even if this
    /// run used it; so its deletion is awaited.
    fn on_existing_owned(
        &mut self,
        command: CommandId,
        create: Box<ApiCall>,
        until: Timestamp,
        outcome: Result<ApiReply, ApiError>,
    ) {
        let Some(owned) = create.owned() else { return };
        let Owned { kind, namespace, name, owner } = owned;
        let retry_at = self.now + COLLECTION_RECHECK;
        let outcome = match outcome {
            Ok(ApiReply::Owners(Some(owners))) if owners.contains(&owner.uid) => {
                // Its UID is not used.
                let (namespace, name) = (namespace.to_owned(), name.to_owned());
                Ok(AnswerOk::Created(ObjectRef { namespace, name, uid: String::new() }))
            }
            Ok(ApiReply::Owners(Some(_))) if retry_at <= until => {
                let get_owners = owned.get_owners();
                let purpose = Purpose::ExistingOwned { command, create, until };
                return self.calls.start_at(retry_at, purpose, &get_owners, until);
            }
            Ok(ApiReply::Owners(Some(_))) => Err(ApiError {
                status: Some(409),
                reason: Some("AlreadyExists".to_owned()),
                message: format!(
                    "a {} named {name} exists in {namespace} and is not owned by Job {} of this run: delete it",
                    kind.as_str(),
                    owner.name
                ),
                retry_after_ms: None,
            }),
            Ok(_) => return self.call_for(Purpose::Command(command), *create, calls::COMMAND_RETRY),
            Err(error) => Err(error),
        };
        self.answer(command, outcome);
    }

    /// Handles an existing shared ConfigMap: the Job becomes one of its owners if it contains what its name says.
    fn on_existing_shared(
        &mut self,
        command: CommandId,
        create: Box<NewConfigMap>,
        outcome: Result<ApiReply, ApiError>,
    ) {
        let outcome = match outcome {
            Ok(ApiReply::ContentName(Some(content))) if content == create.name => {
                let NewConfigMap { namespace, name, owner, .. } = &*create;
                let (namespace, name, owner) = (namespace.clone(), name.clone(), owner.clone());
                let purpose = Purpose::ExistingShared { command, create };
                let add = ApiCall::AddOwner { namespace, name, owner };
                return self.call_for(purpose, add, calls::COMMAND_RETRY);
            }
            Ok(ApiReply::ContentName(Some(_))) => Err(ApiError {
                status: Some(409),
                reason: Some("AlreadyExists".to_owned()),
                message: format!(
                    "ConfigMap {} in {} does not contain what its name says: delete it",
                    create.name, create.namespace
                ),
                retry_after_ms: None,
            }),
            Ok(ApiReply::Created(object)) => Ok(AnswerOk::Created(object)),
            Err(error) if error.status != Some(404) => Err(error),
            // It was deleted with its last owner between the calls.
            Ok(_) | Err(_) => {
                let create = ApiCall::CreateConfigMap(create);
                return self.call_for(Purpose::Command(command), create, calls::COMMAND_RETRY);
            }
        };
        self.answer(command, outcome);
    }

    pub(super) fn answer(&mut self, command: CommandId, outcome: Result<AnswerOk, ApiError>) {
        self.events.push(Event::Answered(Answer { command: command.get(), outcome }));
    }

    pub(super) fn call_for(&mut self, purpose: Purpose, request: ApiCall, limit: Duration) {
        let call = self.calls.start(purpose, &request, self.now + limit);
        self.effects.push_back(Effect::Call { call, request });
    }
}

fn is_valueless(error: &ApiError) -> bool {
    error.reason.as_deref() == Some(api::NO_VALUE)
}

fn is_superseded(error: &ApiError) -> bool {
    error.reason.as_deref() == Some(api::SUPERSEDED)
}

fn is_existing(error: &ApiError) -> bool {
    error.status == Some(409) && error.reason.as_deref() == Some("AlreadyExists")
}
