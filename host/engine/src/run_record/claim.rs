//! Decides which host has a run, by its record.

use std::time::Duration;

use paperclip_contract::types::ApiError;

use super::{Ended, RecordState, RunRecord};
use crate::api::{ApiCall, ApiReply, HostLease};
use crate::calls::is_transient;

/// How long after a request without a good answer the next one is sent.
const RETRY: Duration = Duration::from_millis(500);
/// Requests without a good answer after which the claim is given up. Whoever asked for the run asks again.
const MAX_FAILURES: u32 = 2;
/// Collisions with other hosts after which the claim is given up: each of them means that another host made progress.
const MAX_COLLISIONS: u32 = 8;

/// Who claims a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    pub host: String,
    /// The current instance of the host.
    pub instance: String,
    pub tenure: Tenure,
}

/// What the claimant has of the run already, which decides before the record does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenure {
    /// Nothing: it was asked to start the run.
    None,
    /// The run's folder, which no other process has locked: what an earlier process of this host had is its.
    Folder,
    /// The guard of the run, taken from a host that does not live.
    Guard,
}

/// What follows.
#[derive(Debug, PartialEq)]
pub enum Step {
    Call(ApiCall),
    /// The same after a while.
    CallLater(Duration, ApiCall),
    Done(Box<Claimed>),
}

/// Who has the run.
#[derive(Debug, PartialEq)]
pub enum Claimed {
    /// The claimant. `earlier` is what the record said before, if it existed.
    Held { record: RunRecord, earlier: Option<Box<RunRecord>> },
    /// Another instance, which lives.
    Elsewhere { record: RunRecord, owner: HostLease },
    /// Nobody: it has ended.
    Ended { record: RunRecord, end: Ended },
    /// Whoever has the run of this id, which it continues.
    Continues { run_id: String },
}

#[derive(Debug)]
enum State {
    Creating,
    Reading,
    /// Reads whether the owner lives.
    ReadingOwner(Box<RunRecord>),
    /// Changes the record.
    Taking,
}

/// The claim of a run, as a state machine: each answer leads to the next request or to an end.
#[derive(Debug)]
pub struct Claim {
    claimant: Claimant,
    /// What the record will say.
    record: RunRecord,
    state: State,
    /// What the record said before this claim changed it, or tried to.
    earlier: Option<Box<RunRecord>>,
    failures: u32,
    collisions: u32,
}

impl Claim {
    /// Starts a claim that creates the record.
    pub fn start(record: RunRecord, claimant: Claimant) -> (Claim, ApiCall) {
        let Claimant { host, instance, .. } = claimant.clone();
        let record = RunRecord { host, instance, ..record };
        let create = ApiCall::CreateRunRecord(Box::new(record.clone()));
        let (state, earlier) = (State::Creating, None);
        (Claim { claimant, record, state, earlier, failures: 0, collisions: 0 }, create)
    }

    /// Starts a claim of a run whose record is expected to exist: it is read first.
    pub fn resume(record: RunRecord, claimant: Claimant) -> (Claim, ApiCall) {
        let (mut claim, _) = Claim::start(record, claimant);
        claim.state = State::Reading;
        let read = claim.request();
        (claim, read)
    }

    /// Starts a claim that takes the run from the host that its record names, as it was read.
    pub fn take_over(found: RunRecord, claimant: Claimant) -> (Claim, ApiCall) {
        let (mut claim, _) = Claim::start(found.clone(), claimant);
        claim.earlier = Some(Box::new(found));
        claim.state = State::Taking;
        let take = claim.request();
        (claim, take)
    }

    /// Processes the answer to the last request.
    ///
    /// # Errors
    /// The API refuses a request or does not answer: who has the run is not known.
    pub fn on_answer(&mut self, outcome: Result<ApiReply, ApiError>) -> Result<Step, ApiError> {
        match (&self.state, outcome) {
            (_, Err(error)) if is_transient(&error) => {
                self.failures += 1;
                if self.failures > MAX_FAILURES {
                    return Err(error);
                }
                let wait = error.retry_after_ms.map_or(RETRY, Duration::from_millis).min(4 * RETRY);
                Ok(Step::CallLater(wait, self.request()))
            }
            (State::Creating | State::Taking, Ok(ApiReply::RunRecord(Some(record)))) => {
                Ok(done(Claimed::Held { record: *record, earlier: self.earlier.take() }))
            }
            // It exists, or was changed: perhaps by a request of this claim whose answer was lost.
            (State::Creating | State::Taking, Err(error)) if error.status == Some(409) => {
                self.collide(State::Reading, error)
            }
            // It was deleted meanwhile.
            (State::Taking, Err(error)) if error.status == Some(404) => self.collide(State::Creating, error),
            (State::Reading, Ok(ApiReply::RunRecord(None))) => Ok(self.go(State::Creating)),
            (State::Reading, Ok(ApiReply::RunRecord(Some(record)))) => Ok(self.on_read(record)),
            (State::ReadingOwner(record), Ok(ApiReply::HostLease(owner))) => {
                let record = record.clone();
                Ok(match owner {
                    Some(owner) => done(Claimed::Elsewhere { record: *record, owner }),
                    None => self.take(record),
                })
            }
            (_, Err(error)) => Err(error),
            (_, Ok(reply)) => Err(ApiError {
                status: None,
                reason: None,
                message: format!("the answer does not fit the request: {reply:?}"),
                retry_after_ms: None,
            }),
        }
    }

    fn on_read(&mut self, found: Box<RunRecord>) -> Step {
        if let Some(end) = found.end().cloned() {
            return done(Claimed::Ended { record: *found, end });
        }
        if let RecordState::Continues(earlier) = found.state {
            return done(Claimed::Continues { run_id: earlier.run_id });
        }
        let Claimant { host, instance, tenure } = &self.claimant;
        // A request of this process whose answer was lost, or an earlier run of it that left without an end: another host may have it by now.
        if found.instance == *instance {
            let earlier = self.earlier.take().or_else(|| Some(found.clone()));
            return done(Claimed::Held { record: *found, earlier });
        }
        let is_taken = match tenure {
            Tenure::None => false,
            Tenure::Folder => found.host == *host,
            Tenure::Guard => true,
        };
        if is_taken { self.take(found) } else { self.go(State::ReadingOwner(found)) }
    }

    /// Changes the record at the resourceVersion that was read.
    fn take(&mut self, found: Box<RunRecord>) -> Step {
        let RunRecord { uid, resource_version, accepted_at, cancel_requested, .. } = (*found).clone();
        self.record =
            RunRecord { uid, resource_version, accepted_at, cancel_requested, ..self.record.clone() };
        self.earlier = Some(found);
        self.go(State::Taking)
    }

    fn collide(&mut self, next: State, error: ApiError) -> Result<Step, ApiError> {
        self.collisions += 1;
        if self.collisions > MAX_COLLISIONS { Err(error) } else { Ok(self.go(next)) }
    }

    fn go(&mut self, next: State) -> Step {
        self.state = next;
        Step::Call(self.request())
    }

    /// Returns the request of the current state.
    fn request(&self) -> ApiCall {
        let RunRecord { namespace, name, .. } = &self.record;
        match &self.state {
            State::Creating => {
                let (uid, resource_version) = (String::new(), String::new());
                ApiCall::CreateRunRecord(Box::new(RunRecord { uid, resource_version, ..self.record.clone() }))
            }
            State::Reading => ApiCall::GetRunRecord { namespace: namespace.clone(), name: name.clone() },
            State::ReadingOwner(record) => {
                ApiCall::GetHostLease { namespace: namespace.clone(), name: record.instance.clone() }
            }
            State::Taking => ApiCall::UpdateRunRecord(Box::new(self.record.clone())),
        }
    }
}

fn done(claimed: Claimed) -> Step {
    Step::Done(Box::new(claimed))
}
