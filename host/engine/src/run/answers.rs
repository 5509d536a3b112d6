//! Answers to API calls: what they mean for the plugin's commands, the guard and the cleanup.

use paperclip_contract::types::{Answer, AnswerOk, ApiError, Event, ObjectRef};

use super::Run;
use crate::api::{self, ApiCall, ApiReply, CallId, OwnedKind};
use crate::calls::{self, ExistingOwned, Purpose};
use crate::guest::Guest;
use crate::manifest;
use crate::port::Effect;
use crate::record::Level;

/// Time between two looks at what Kubernetes is about to collect, in ms.
const COLLECTION_LOOK_MS: u64 = 1_000;

impl<G: Guest> Run<G> {
    pub(super) fn on_called(&mut self, call: CallId, outcome: Result<ApiReply, ApiError>) {
        let Some(finished) = self.calls.answer(self.now_ms, call, outcome) else { return };
        match finished.purpose {
            Purpose::Guard => {
                let outcomes = self.lock.on_answer(self.now_ms, finished.outcome);
                self.take_lock(outcomes);
            }
            Purpose::Cleanup => {
                if let Err(error) = finished.outcome
                    && error.status != Some(404)
                {
                    let what = finished.request.describe();
                    self.note(Level::Warning, format!("left behind: {what}: {}", error.message));
                }
            }
            Purpose::LastLook(job) => self.clean_up_looked_at(&job, finished.outcome),
            Purpose::Command(command) => {
                self.on_command_answered(command, &finished.request, finished.outcome);
            }
            Purpose::ExistingJob { command, manifest_json } => {
                self.on_existing_job(command, manifest_json, finished.outcome);
            }
            Purpose::ExistingOwned(existing) => self.on_existing_owned(existing, finished.outcome),
        }
    }

    fn on_command_answered(&mut self, command: u64, request: &ApiCall, outcome: Result<ApiReply, ApiError>) {
        match (request, outcome) {
            // Rule 25: a create that had no answer may have been applied; and after a crash it is asked for again.
            (ApiCall::CreateJob { manifest_json }, Err(error)) if is_existing(&error) => {
                match manifest::job_name(manifest_json) {
                    Some((namespace, name)) => {
                        let look = ApiCall::GetJob { namespace, name };
                        let purpose = Purpose::ExistingJob { command, manifest_json: manifest_json.clone() };
                        self.call_until(purpose, look, calls::COMMAND_RETRY_MS);
                    }
                    None => self.answer(command, Err(error)),
                }
            }
            (ApiCall::CreateSecret(secret), Err(error)) if is_existing(&error) => {
                let wanted = named(&secret.namespace, &secret.name);
                self.look_up_owner(command, OwnedKind::Secret, wanted, secret.owner.clone(), request);
            }
            (ApiCall::CreateConfigMap(map), Err(error)) if is_existing(&error) => {
                let wanted = named(&map.namespace, &map.name);
                self.look_up_owner(command, OwnedKind::ConfigMap, wanted, map.owner.clone(), request);
            }
            // Their values were in the memory of a host that is gone, and nobody brought them again: the agent never began.
            (ApiCall::CreateSecret(_), Err(error)) if self.replay.is_begun && is_valueless(&error) => {
                self.end_for_lost_secrets(&error.message);
            }
            // Gone already is what a deletion wants.
            (ApiCall::DeleteJob { .. }, Err(error)) if error.status == Some(404) => {
                self.answer(command, Ok(AnswerOk::Done));
            }
            (_, Err(error)) => self.answer(command, Err(error)),
            (_, Ok(reply)) => self.on_command_done(command, reply),
        }
    }

    fn on_command_done(&mut self, command: u64, reply: ApiReply) {
        let ok = match reply {
            ApiReply::Done | ApiReply::Lease(_) | ApiReply::Owners(_) => AnswerOk::Done,
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

    /// A Job of that name stands already: it is this run's own if run and spec hash agree.
    fn on_existing_job(&mut self, command: u64, manifest_json: String, outcome: Result<ApiReply, ApiError>) {
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
            // It went away between the two calls.
            Ok(_) => {
                let again = ApiCall::CreateJob { manifest_json };
                self.call_until(Purpose::Command(command), again, calls::COMMAND_RETRY_MS);
                return;
            }
            Err(error) => Err(error),
        };
        self.answer(command, outcome);
    }

    /// Whose is what stands in the way? The run's own, where its answer was lost or the host died before it.
    fn look_up_owner(
        &mut self,
        command: u64,
        kind: OwnedKind,
        wanted: ObjectRef,
        owner: ObjectRef,
        create: &ApiCall,
    ) {
        let until_ms = self.now_ms.saturating_add(calls::COMMAND_RETRY_MS);
        let look = look_up(kind, &wanted);
        let existing = ExistingOwned { command, kind, wanted, owner, create: create.clone(), until_ms };
        self.call_until(Purpose::ExistingOwned(Box::new(existing)), look, calls::COMMAND_RETRY_MS);
    }

    /// What another Job of the name left goes with it: Kubernetes collects it soon, and would collect it also from under this run.
    fn on_existing_owned(&mut self, existing: Box<ExistingOwned>, outcome: Result<ApiReply, ApiError>) {
        let ExistingOwned { command, kind, ref wanted, ref owner, .. } = *existing;
        let look_at_ms = self.now_ms + COLLECTION_LOOK_MS;
        match outcome {
            Ok(ApiReply::Owners(Some(owners))) if owners.contains(&owner.uid) => {
                self.answer(command, Ok(AnswerOk::Created(existing.wanted)));
            }
            Ok(ApiReply::Owners(Some(_))) if look_at_ms <= existing.until_ms => {
                let (look, until_ms) = (look_up(kind, wanted), existing.until_ms);
                self.calls.begin_at(look_at_ms, Purpose::ExistingOwned(existing), &look, until_ms);
            }
            Ok(ApiReply::Owners(Some(_))) => {
                let error = ApiError {
                    status: Some(409),
                    reason: Some("AlreadyExists".to_owned()),
                    message: format!(
                        "a {} named {} exists in {} and is not owned by Job {} of this run: delete it",
                        kind.as_str(),
                        wanted.name,
                        wanted.namespace,
                        owner.name
                    ),
                    retry_after_ms: None,
                };
                self.answer(command, Err(error));
            }
            Ok(_) => self.call_until(Purpose::Command(command), existing.create, calls::COMMAND_RETRY_MS),
            Err(error) => self.answer(command, Err(error)),
        }
    }

    pub(super) fn answer(&mut self, command: u64, outcome: Result<AnswerOk, ApiError>) {
        self.events.push(Event::Answered(Answer { command, outcome }));
    }

    pub(super) fn call_until(&mut self, purpose: Purpose, request: ApiCall, for_ms: u64) {
        let call = self.calls.begin(purpose, &request, self.now_ms.saturating_add(for_ms));
        self.effects.push_back(Effect::Call { call, request });
    }
}

/// An object by its name; its UID is of no use to anybody.
fn named(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef { namespace: namespace.to_owned(), name: name.to_owned(), uid: String::new() }
}

fn look_up(kind: OwnedKind, wanted: &ObjectRef) -> ApiCall {
    ApiCall::GetOwners { kind, namespace: wanted.namespace.clone(), name: wanted.name.clone() }
}

fn is_valueless(error: &ApiError) -> bool {
    error.reason.as_deref() == Some(api::NO_VALUE)
}

fn is_existing(error: &ApiError) -> bool {
    error.status == Some(409) && error.reason.as_deref() == Some("AlreadyExists")
}
