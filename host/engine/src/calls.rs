//! Calls to the Kubernetes API that are under way, and their repetition.

use std::collections::BTreeMap;
use std::time::Duration;

use paperclip_contract::types::{ApiError, ObjectRef};

use crate::api::{ApiCall, ApiReply};
use crate::backoff;
use crate::ids::{CallId, CommandId};
use crate::time::Timestamp;

/// For how long a call of the plugin is retried before its error is reported. Longer than a restart of the API server takes.
pub const COMMAND_RETRY: Duration = Duration::from_secs(120);
/// For how long a deletion of the cleanup is retried. What is left then is removed by the Job's TTL.
pub const CLEANUP_RETRY: Duration = Duration::from_secs(300);
/// Delay before the first retry.
const RETRY_BASE: Duration = Duration::from_millis(200);
/// Longest delay before a retry.
const RETRY_CAP: Duration = Duration::from_secs(5);

/// Whose call it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Purpose {
    /// The plugin's, by the id of its command.
    Command(CommandId),
    /// The look at a Job whose creation was answered with AlreadyExists, for this command.
    ExistingJob { command: CommandId, manifest_json: String },
    /// The look at a Secret or ConfigMap whose creation, which is repeated once the name is free, was answered with AlreadyExists. What an
    /// earlier Job left is waited for until then.
    ExistingOwned { command: CommandId, create: Box<ApiCall>, until: Timestamp },
    /// The look at the Job that the run was taken up with, instead of creating one, for this command.
    AdoptedJob { command: CommandId },
    /// The look at a Job that is followed, and of which no watch tells.
    Unheard(ObjectRef),
    /// The guard's.
    Guard,
    /// The cleanup's.
    Cleanup,
    /// The look at a Job before the cleanup deletes it: another run may have taken it.
    LastLook(ObjectRef),
}

#[derive(Debug)]
struct Pending {
    purpose: Purpose,
    request: ApiCall,
    /// Tries so far.
    tries: u32,
    /// No more tries begin after this time.
    until: Timestamp,
    /// When to try again, while no answer is awaited.
    retry_at: Option<Timestamp>,
}

/// A call that came to its end.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) purpose: Purpose,
    pub(crate) request: ApiCall,
    pub(crate) outcome: Result<ApiReply, ApiError>,
}

/// All calls of a run that have no final answer yet.
#[derive(Debug)]
pub(crate) struct Calls {
    last: u64,
    seed: u64,
    /// Boxed: a node of the map has room for eleven values, and a run has few.
    pending: BTreeMap<CallId, Box<Pending>>,
}

impl Calls {
    pub(crate) fn new(seed: u64) -> Self {
        Calls { last: 0, seed, pending: BTreeMap::new() }
    }

    /// Registers a call; the caller sends it.
    pub(crate) fn begin(&mut self, purpose: Purpose, request: &ApiCall, until: Timestamp) -> CallId {
        self.last += 1;
        let call = CallId::new(self.last);
        let request = request.clone();
        let pending = Pending { purpose, request, tries: 1, until, retry_at: None };
        self.pending.insert(call, Box::new(pending));
        call
    }

    /// Registers a call that is sent at this time: [`Calls::due`] tells it then.
    pub(crate) fn begin_at(&mut self, at: Timestamp, purpose: Purpose, request: &ApiCall, until: Timestamp) {
        let call = self.begin(purpose, request, until);
        if let Some(pending) = self.pending.get_mut(&call) {
            pending.retry_at = Some(at);
        }
    }

    /// Takes an answer: the end of the call, or none if it will be tried again or is not awaited.
    pub(crate) fn answer(
        &mut self,
        now: Timestamp,
        call: CallId,
        outcome: Result<ApiReply, ApiError>,
    ) -> Option<Finished> {
        let pending = self.pending.get_mut(&call)?;
        if let Err(error) = &outcome
            && (is_passing(error) || is_lost_race(&pending.request, error))
        {
            let delay = backoff::delay(
                &mut self.seed,
                pending.tries,
                RETRY_BASE,
                RETRY_CAP,
                error.retry_after_ms.map(Duration::from_millis),
            );
            if now + delay <= pending.until {
                pending.retry_at = Some(now + delay);
                return None;
            }
        }
        self.end(call, outcome)
    }

    /// The call is not sent again, and ends with this.
    pub(crate) fn end(&mut self, call: CallId, outcome: Result<ApiReply, ApiError>) -> Option<Finished> {
        let Pending { purpose, request, .. } = *self.pending.remove(&call)?;
        Some(Finished { purpose, request, outcome })
    }

    /// Calls that are to be sent again now: each wants [`Calls::again`], [`Calls::put_off`] or [`Calls::end`].
    pub(crate) fn due(&self, now: Timestamp) -> Vec<CallId> {
        let is_due = |pending: &Pending| pending.retry_at.is_some_and(|at| at <= now);
        self.pending.iter().filter(|(_, pending)| is_due(pending)).map(|(call, _)| *call).collect()
    }

    /// What is to be sent again.
    pub(crate) fn again(&mut self, call: CallId) -> Option<ApiCall> {
        let pending = self.pending.get_mut(&call)?;
        pending.retry_at = None;
        pending.tries += 1;
        Some(pending.request.clone())
    }

    /// It is due again at this time.
    pub(crate) fn put_off(&mut self, call: CallId, until: Timestamp) {
        if let Some(pending) = self.pending.get_mut(&call) {
            pending.retry_at = Some(until);
        }
    }

    /// The plugin's command that it carries out, if it is one's.
    pub(crate) fn command(&self, call: CallId) -> Option<CommandId> {
        match self.pending.get(&call)?.purpose {
            Purpose::Command(command) => Some(command),
            _ => None,
        }
    }

    /// Calls for this purpose are tried until then at least.
    pub(crate) fn prolong(&mut self, purpose: &Purpose, until: Timestamp) {
        for pending in self.pending.values_mut().filter(|pending| pending.purpose == *purpose) {
            pending.until = pending.until.max(until);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.pending.values().filter_map(|pending| pending.retry_at).min()
    }

    /// What the plugin asked for is of no interest any more: no answer to it is awaited, and nothing is tried again.
    pub(crate) fn forget_commands(&mut self) {
        self.pending.retain(|_, pending| match pending.purpose {
            Purpose::Command(_)
            | Purpose::ExistingJob { .. }
            | Purpose::ExistingOwned { .. }
            | Purpose::AdoptedJob { .. }
            | Purpose::Unheard(_) => false,
            Purpose::Guard | Purpose::Cleanup | Purpose::LastLook(_) => true,
        });
    }

    /// Whether the cleanup goes on.
    pub(crate) fn is_cleaning(&self) -> bool {
        self.pending
            .values()
            .any(|pending| matches!(pending.purpose, Purpose::Cleanup | Purpose::LastLook(_)))
    }

    pub(crate) fn is_waiting_for(&self, purpose: &Purpose) -> bool {
        self.pending.values().any(|pending| pending.purpose == *purpose)
    }
}

/// Whether the same call may have a better answer soon: no answer at all, overload, or a server in trouble.
pub(crate) fn is_passing(error: &ApiError) -> bool {
    match error.status {
        None => true,
        Some(status) => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
    }
}

/// Whether a change of a Job collided with another one: it names no version, so that the same one will do.
fn is_lost_race(request: &ApiCall, error: &ApiError) -> bool {
    let is_precondition = error.message.contains("Precondition failed");
    matches!(request, ApiCall::PatchJob { .. }) && error.status == Some(409) && !is_precondition
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn error(status: Option<u16>, retry_after_ms: Option<u64>) -> ApiError {
        ApiError { status, reason: None, message: "no".to_owned(), retry_after_ms }
    }

    fn get() -> ApiCall {
        ApiCall::GetJob { namespace: "n".to_owned(), name: "j".to_owned() }
    }

    #[test]
    fn rule_26_too_many_requests_waits_as_long_as_the_server_asks() {
        let mut calls = Calls::new(1);
        let call = calls.begin(Purpose::Command(CommandId::new(4)), &get(), at(60_000));
        assert!(calls.answer(at(1_000), call, Err(error(Some(429), Some(7_000)))).is_none());
        assert_eq!(calls.deadline(), Some(at(8_000)));
        assert!(calls.due(at(7_999)).is_empty());
        assert_eq!(calls.due(at(8_000)), [call]);
        assert_eq!(calls.again(call), Some(get()));
        assert!(calls.due(at(8_000)).is_empty());
        let finished = calls.answer(at(8_010), call, Ok(ApiReply::Done)).expect("answered");
        assert_eq!(finished.purpose, Purpose::Command(CommandId::new(4)));
    }

    #[test]
    fn a_change_that_collided_is_made_again_but_not_on_another_job() {
        let job = ObjectRef { namespace: "n".into(), name: "j".into(), uid: "u".into() };
        let patch = ApiCall::PatchJob { job, patch_json: "{}".to_owned() };
        let conflict = |message: &str| ApiError { message: message.to_owned(), ..error(Some(409), None) };
        let mut calls = Calls::new(1);
        let call = calls.begin(Purpose::Command(CommandId::new(1)), &patch, at(60_000));
        assert!(calls.answer(at(0), call, Err(conflict("the object has been modified"))).is_none());
        assert!(
            calls.answer(at(9), call, Err(conflict("Precondition failed: UID in precondition: u"))).is_some()
        );
    }

    #[test]
    fn a_final_no_is_told_at_once_and_a_passing_one_when_time_is_up() {
        let mut calls = Calls::new(1);
        let call = calls.begin(Purpose::Cleanup, &get(), at(60_000));
        assert!(calls.answer(at(0), call, Err(error(Some(403), None))).is_some());
        let call = calls.begin(Purpose::Cleanup, &get(), at(60_000));
        assert!(calls.answer(at(59_999), call, Err(error(None, None))).is_some());
    }
}
