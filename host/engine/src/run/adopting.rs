//! A run that was taken up without its journal has the Job that it was taken up with, and creates nothing: only the host that began it
//! knew all of what its agent is to be told.

use paperclip_contract::types::{Action, AnswerOk, ApiError, Event, ObjectRef};

use super::Run;
use crate::api::{ApiCall, ApiReply};
use crate::calls::{COMMAND_RETRY, Purpose};
use crate::guest::Guest;
use crate::ids::CommandId;

impl<G: Guest> Run<G> {
    /// Answers what would create something for such a run by what stands already. Returns what is to be carried out all the same.
    pub(super) fn unless_adopted(&mut self, command: CommandId, action: Action) -> Option<Action> {
        let Some(job) = &self.spec.adopts else { return Some(action) };
        let owned = |namespace, name| AnswerOk::Created(ObjectRef { namespace, name, uid: String::new() });
        let answer = match action {
            Action::CreateJob(_) => {
                let look = ApiCall::GetJob { namespace: job.namespace.clone(), name: job.name.clone() };
                self.call_until(Purpose::AdoptedJob { command }, look, COMMAND_RETRY);
                return None;
            }
            Action::DryRunPod(_) => AnswerOk::Warnings(Vec::new()),
            // A Job that may run has what it needs.
            Action::CreateSecret(secret) => owned(secret.namespace, secret.name),
            Action::CreateConfigMap(map) => owned(map.namespace, map.name),
            other => return Some(other),
        };
        self.answer(command, Ok(answer));
        None
    }

    /// Tells the plugin of a wish to end the run, once it has the Job that the run was taken up with.
    pub(super) fn tell_cancel(&mut self) {
        if self.spec.adopts.as_ref().is_some_and(|job| !self.ledger.jobs.contains_key(&job.uid)) {
            return;
        }
        if let Some(request) = self.held_cancel.take() {
            self.events.push(Event::CancelRequested(request));
        }
    }

    /// Whether a wish to end it is in no entry of the journal yet: it waits, or came when this host was letting go of the run.
    pub fn holds_cancel(&self) -> bool {
        self.held_cancel.is_some()
    }

    pub(super) fn on_adopted_job(&mut self, command: CommandId, outcome: Result<ApiReply, ApiError>) {
        let outcome = match outcome {
            Ok(ApiReply::Job(Some(found))) if !found.is_deleting && self.is_adopted(&found.job) => {
                Ok(AnswerOk::Created(found.job))
            }
            Ok(_) => return self.end_for_lost_job(),
            Err(error) => Err(error),
        };
        self.answer(command, outcome);
    }

    /// Whether it is the Job that the run was taken up with, and was not deleted for its sake.
    fn is_adopted(&self, job: &ObjectRef) -> bool {
        let is_same = self.spec.adopts.as_ref().is_some_and(|adopted| adopted.uid == job.uid);
        is_same && !self.ledger.deleted_jobs.contains_key(&job.uid)
    }
}
