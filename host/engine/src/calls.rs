//! Outstanding calls to the Kubernetes API and their retries.

use std::collections::BTreeMap;
use std::time::Duration;

use paperclip_contract::types::{ApiError, NewConfigMap, ObjectRef};

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

/// What a call is for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Purpose {
    /// A command of the plugin.
    Command(CommandId),
    /// Reads the Job whose creation was answered with AlreadyExists, for this command.
    ExistingJob { command: CommandId, manifest_json: String },
    /// Reads the Secret or ConfigMap whose creation was answered with AlreadyExists. The creation is retried once the name is free; the
    /// deletion of an object that an earlier Job owned is awaited until then.
    ExistingOwned { command: CommandId, create: Box<ApiCall>, until: Timestamp },
    /// Joins the owners of the shared ConfigMap whose creation was answered with AlreadyExists.
    ExistingShared { command: CommandId, create: Box<NewConfigMap> },
    /// Reads the Job that the run adopts instead of creating one, for this command.
    AdoptedJob { command: CommandId },
    /// Reads a followed Job that no watch reports.
    UnobservedJob(ObjectRef),
    /// A request of the [lease](crate::lease).
    Lease,
    /// Raises the epoch of a Job.
    Epoch,
    /// A deletion of the cleanup.
    Cleanup,
    /// Reads a Job before the cleanup deletes it, because another run may have adopted it.
    VerifiedDeletion(ObjectRef),
    /// Deletes the Job that was read. It is read again if its epoch has risen since.
    VerifiedCleanup(ObjectRef),
    /// Writes the result into the record of the run, or reads the record because it has changed.
    Record,
    /// Reads the record of the run again, because this host has its guard now.
    RecordCheck,
}

#[derive(Debug)]
struct Pending {
    purpose: Purpose,
    request: ApiCall,
    /// Attempts so far.
    attempts: u32,
    /// No retry starts after this time.
    until: Timestamp,
    /// When to retry; none while an answer is outstanding.
    retry_at: Option<Timestamp>,
}

/// A call with its final answer.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) purpose: Purpose,
    pub(crate) request: ApiCall,
    pub(crate) outcome: Result<ApiReply, ApiError>,
}

/// The calls of a run that have no final answer yet.
#[derive(Debug)]
pub(crate) struct Calls {
    last: u64,
    seed: u64,
    /// Boxed: a node of the map allocates space for eleven values, and a run has few.
    pending: BTreeMap<CallId, Box<Pending>>,
}

impl Calls {
    pub(crate) fn new(seed: u64) -> Self {
        Calls { last: 0, seed, pending: BTreeMap::new() }
    }

    /// Registers a call, which the caller sends.
    pub(crate) fn start(&mut self, purpose: Purpose, request: &ApiCall, until: Timestamp) -> CallId {
        self.last += 1;
        let call = CallId::new(self.last);
        let request = request.clone();
        let pending = Pending { purpose, request, attempts: 1, until, retry_at: None };
        self.pending.insert(call, Box::new(pending));
        call
    }

    /// Registers a call that is sent at this time, when [`Calls::due`] returns it.
    pub(crate) fn start_at(&mut self, at: Timestamp, purpose: Purpose, request: &ApiCall, until: Timestamp) {
        let call = self.start(purpose, request, until);
        if let Some(pending) = self.pending.get_mut(&call) {
            pending.retry_at = Some(at);
        }
    }

    /// Processes an answer. Returns the finished call, or `None` if it will be retried or is not outstanding.
    pub(crate) fn answer(
        &mut self,
        now: Timestamp,
        call: CallId,
        outcome: Result<ApiReply, ApiError>,
    ) -> Option<Finished> {
        let pending = self.pending.get_mut(&call)?;
        if let Err(error) = &outcome
            && (is_transient(error) || is_lost_race(&pending.request, error))
        {
            let delay = backoff::delay(
                &mut self.seed,
                pending.attempts,
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

    /// Finishes a call with this outcome, without a retry.
    pub(crate) fn end(&mut self, call: CallId, outcome: Result<ApiReply, ApiError>) -> Option<Finished> {
        let Pending { purpose, request, .. } = *self.pending.remove(&call)?;
        Some(Finished { purpose, request, outcome })
    }

    /// Returns the calls whose retry is due. Each needs [`Calls::retry`], [`Calls::postpone`] or [`Calls::end`].
    pub(crate) fn due(&self, now: Timestamp) -> Vec<CallId> {
        let is_due = |pending: &Pending| pending.retry_at.is_some_and(|at| at <= now);
        self.pending.iter().filter(|(_, pending)| is_due(pending)).map(|(call, _)| *call).collect()
    }

    /// Starts a retry and returns the request to send.
    pub(crate) fn retry(&mut self, call: CallId) -> Option<ApiCall> {
        let pending = self.pending.get_mut(&call)?;
        pending.retry_at = None;
        pending.attempts += 1;
        Some(pending.request.clone())
    }

    /// Postpones a retry to this time.
    pub(crate) fn postpone(&mut self, call: CallId, until: Timestamp) {
        if let Some(pending) = self.pending.get_mut(&call) {
            pending.retry_at = Some(until);
        }
    }

    /// Returns the command of the plugin that the call carries out, if it is one.
    pub(crate) fn command(&self, call: CallId) -> Option<CommandId> {
        match self.pending.get(&call)?.purpose {
            Purpose::Command(command) => Some(command),
            _ => None,
        }
    }

    /// Retries calls for this purpose until then at least.
    pub(crate) fn extend(&mut self, purpose: &Purpose, until: Timestamp) {
        for pending in self.pending.values_mut().filter(|pending| pending.purpose == *purpose) {
            pending.until = pending.until.max(until);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.pending.values().filter_map(|pending| pending.retry_at).min()
    }

    /// Drops the calls for commands of the plugin, because the run has ended.
    pub(crate) fn drop_commands(&mut self) {
        self.pending.retain(|_, pending| match pending.purpose {
            Purpose::Command(_)
            | Purpose::ExistingJob { .. }
            | Purpose::ExistingOwned { .. }
            | Purpose::ExistingShared { .. }
            | Purpose::AdoptedJob { .. }
            | Purpose::UnobservedJob(_)
            | Purpose::RecordCheck
            | Purpose::Epoch => false,
            Purpose::Lease
            | Purpose::Cleanup
            | Purpose::VerifiedDeletion(_)
            | Purpose::VerifiedCleanup(_)
            | Purpose::Record => true,
        });
    }

    /// Returns whether the cleanup is still in progress.
    pub(crate) fn is_cleaning(&self) -> bool {
        let is_of_cleanup = |purpose: &Purpose| {
            matches!(
                purpose,
                Purpose::Cleanup
                    | Purpose::VerifiedDeletion(_)
                    | Purpose::VerifiedCleanup(_)
                    | Purpose::Record
            )
        };
        self.pending.values().any(|pending| is_of_cleanup(&pending.purpose))
    }

    pub(crate) fn is_waiting_for(&self, purpose: &Purpose) -> bool {
        self.pending.values().any(|pending| pending.purpose == *purpose)
    }
}

/// Returns whether an error is transient: no answer, overload, a failure of the server, or a token that is no longer accepted, which the
/// shell then reads again.
pub(crate) fn is_transient(error: &ApiError) -> bool {
    match error.status {
        None => true,
        Some(status) => matches!(status, 401 | 408 | 429 | 500 | 502 | 503 | 504),
    }
}

/// Returns whether a change of a Job collided with another one. It names no version of its own, so it can be retried.
fn is_lost_race(request: &ApiCall, error: &ApiError) -> bool {
    let is_precondition = error.message.contains("UID in precondition")
        || error.reason.as_deref() == Some(crate::api::SUPERSEDED);
    let changes_job = matches!(request, ApiCall::PatchJob { .. } | ApiCall::DeleteJob { .. });
    changes_job && error.status == Some(409) && !is_precondition
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
    fn rule_26_honours_retry_after_of_too_many_requests() {
        let mut calls = Calls::new(1);
        let call = calls.start(Purpose::Command(CommandId::new(4)), &get(), at(60_000));
        assert!(calls.answer(at(1_000), call, Err(error(Some(429), Some(7_000)))).is_none());
        assert_eq!(calls.deadline(), Some(at(8_000)));
        assert!(calls.due(at(7_999)).is_empty());
        assert_eq!(calls.due(at(8_000)), [call]);
        assert_eq!(calls.retry(call), Some(get()));
        assert!(calls.due(at(8_000)).is_empty());
        let finished = calls.answer(at(8_010), call, Ok(ApiReply::Done)).expect("answered");
        assert_eq!(finished.purpose, Purpose::Command(CommandId::new(4)));
    }

    #[test]
    fn retries_a_patch_that_collided_but_not_on_another_job() {
        let job = ObjectRef { namespace: "n".into(), name: "j".into(), uid: "u".into() };
        let patch = ApiCall::PatchJob { job, patch_json: "{}".to_owned(), epoch: None };
        let conflict = |message: &str| ApiError { message: message.to_owned(), ..error(Some(409), None) };
        let mut calls = Calls::new(1);
        let call = calls.start(Purpose::Command(CommandId::new(1)), &patch, at(60_000));
        assert!(calls.answer(at(0), call, Err(conflict("the object has been modified"))).is_none());
        assert!(
            calls.answer(at(9), call, Err(conflict("Precondition failed: UID in precondition: u"))).is_some()
        );
        let call = calls.start(Purpose::Command(CommandId::new(2)), &patch, at(60_000));
        let superseded = ApiError { reason: Some(crate::api::SUPERSEDED.into()), ..conflict("epoch 7") };
        assert!(calls.answer(at(9), call, Err(superseded)).is_some());
    }

    #[test]
    fn a_call_is_repeated_while_a_token_rotates() {
        let mut calls = Calls::new(1);
        let call = calls.start(Purpose::Cleanup, &get(), at(60_000));
        assert!(calls.answer(at(0), call, Err(error(Some(401), None))).is_none());
        assert!(calls.answer(at(59_999), call, Err(error(Some(401), None))).is_some(), "within its budget");
    }

    #[test]
    fn returns_a_final_error_at_once_and_a_transient_one_after_its_retries() {
        let mut calls = Calls::new(1);
        let call = calls.start(Purpose::Cleanup, &get(), at(60_000));
        assert!(calls.answer(at(0), call, Err(error(Some(403), None))).is_some());
        let call = calls.start(Purpose::Cleanup, &get(), at(60_000));
        assert!(calls.answer(at(59_999), call, Err(error(None, None))).is_some());
    }
}
