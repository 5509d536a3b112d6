//! A run that was resumed without its journal adopts its Job and creates nothing: only the host that started it knew everything that
//! its agent needs.

use paperclip_contract::types::{Action, AnswerOk, ApiError, Event, ObjectRef};

use super::Run;
use crate::api::{ApiCall, ApiReply};
use crate::calls::{COMMAND_RETRY, Purpose};
use crate::guest::Guest;
use crate::ids::CommandId;
use crate::manifest;

impl<G: Guest> Run<G> {
    /// Answers an action that creates an object with the existing one. Returns the action if it is to be carried out.
    pub(super) fn answer_from_adopted_job(&mut self, command: CommandId, action: Action) -> Option<Action> {
        let Some(job) = &self.spec.adopts else { return Some(action) };
        let owned = |namespace, name| AnswerOk::Created(ObjectRef { namespace, name, uid: String::new() });
        let answer = match action {
            Action::CreateJob(_) => {
                // Raising the epoch reads the Job, too.
                let adopt = match self.lease.epoch() {
                    Some(epoch) => ApiCall::PatchJob {
                        job: job.clone(),
                        patch_json: manifest::epoch_patch(epoch),
                        epoch: Some(epoch),
                    },
                    None => ApiCall::GetJob { namespace: job.namespace.clone(), name: job.name.clone() },
                };
                self.call_for(Purpose::AdoptedJob { command }, adopt, COMMAND_RETRY);
                return None;
            }
            Action::DryRunPod(_) => AnswerOk::Warnings(Vec::new()),
            // A Job that is not suspended has its dependents.
            Action::CreateSecret(secret) => owned(secret.namespace, secret.name),
            Action::CreateConfigMap(map) => owned(map.namespace, map.name),
            other => return Some(other),
        };
        self.answer(command, Ok(answer));
        None
    }

    /// Delivers a cancel request to the plugin, once the run owns the Job that it adopts.
    pub(super) fn deliver_cancel(&mut self) {
        if self.spec.adopts.as_ref().is_some_and(|job| !self.ledger.jobs.contains_key(&job.uid)) {
            return;
        }
        if let Some(request) = self.pending_cancel.take() {
            self.events.push(Event::CancelRequested(request));
        }
    }

    /// Returns whether a cancel request is not in the journal yet: it waits, or arrived while this host was detaching.
    pub fn has_pending_cancel(&self) -> bool {
        self.pending_cancel.is_some()
    }

    pub(super) fn on_adopted_job(&mut self, command: CommandId, outcome: Result<ApiReply, ApiError>) {
        let outcome = match outcome {
            Ok(ApiReply::Job(Some(found))) if !found.is_deleting && self.is_adopted(&found.job) => {
                Ok(AnswerOk::Created(found.job))
            }
            Ok(_) => return self.end_for_lost_job(),
            Err(error) if error.status == Some(404) => return self.end_for_lost_job(),
            Err(error) => Err(error),
        };
        self.answer(command, outcome);
    }

    /// Returns whether it is the Job that the run adopts, and the run did not request its deletion.
    fn is_adopted(&self, job: &ObjectRef) -> bool {
        let is_same = self.spec.adopts.as_ref().is_some_and(|adopted| adopted.uid == job.uid);
        is_same && !self.ledger.deleted_jobs.contains_key(&job.uid)
    }
}
