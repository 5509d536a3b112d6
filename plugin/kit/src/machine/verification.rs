//! A look at the Job and its pods: what watches told may be minutes old.

use serde::{Deserialize, Serialize};

use super::outbox::Outbox;
use crate::bindings::exports::paperclip::agent::types::{Action, ObjectRef};

/// How far a look has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Verification {
    Open,
    /// Both were asked for; the ids of the commands that have no answer yet.
    Asked {
        job: Option<u64>,
        pods: Option<u64>,
    },
    Done,
}

/// What an answer tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    AtJob,
    AtPods,
}

impl Verification {
    /// Asks for both.
    pub(super) fn ask(outbox: &mut Outbox, job: ObjectRef) -> Verification {
        let pods = Action::ListPods(job.clone());
        Verification::Asked { job: Some(outbox.push(Action::GetJob(job))), pods: Some(outbox.push(pods)) }
    }

    /// Whether an answer is one to this look, and to which half of it.
    pub(super) fn answered(&mut self, command: u64) -> Option<Looked> {
        let Verification::Asked { job, pods } = self else { return None };
        let looked = if *job == Some(command) {
            *job = None;
            Looked::AtJob
        } else if *pods == Some(command) {
            *pods = None;
            Looked::AtPods
        } else {
            return None;
        };
        if job.is_none() && pods.is_none() {
            *self = Verification::Done;
        }
        Some(looked)
    }
}
