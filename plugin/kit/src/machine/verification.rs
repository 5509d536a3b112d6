//! Gets the Job and lists its Pods: what watches reported may be minutes old.

use serde::{Deserialize, Serialize};

use super::outbox::Outbox;
use crate::bindings::exports::paperclip::agent::types::{Action, ObjectRef};

/// The progress of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Verification {
    NotRequested,
    /// Both reads were requested; the ids of the commands that have no answer yet.
    Pending {
        job: Option<u64>,
        pods: Option<u64>,
    },
    Done,
}

/// Which read of a verification an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Job,
    Pods,
}

impl Verification {
    /// Requests both reads.
    pub(super) fn request(outbox: &mut Outbox, job: ObjectRef) -> Verification {
        let pods = Action::ListPods(job.clone());
        Verification::Pending { job: Some(outbox.push(Action::GetJob(job))), pods: Some(outbox.push(pods)) }
    }

    /// Records the answer to a command; `None` if the command is not one of this verification.
    pub(super) fn on_answer(&mut self, command: u64) -> Option<Read> {
        let Verification::Pending { job, pods } = self else { return None };
        let read = if *job == Some(command) {
            *job = None;
            Read::Job
        } else if *pods == Some(command) {
            *pods = None;
            Read::Pods
        } else {
            return None;
        };
        if job.is_none() && pods.is_none() {
            *self = Verification::Done;
        }
        Some(read)
    }
}
