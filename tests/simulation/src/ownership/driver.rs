//! A run as a process of the ownership simulation drives it: the product's guard, and a plugin that creates a Job, waits for its end and
//! deletes it.

use std::time::Duration;

use paperclip_contract::types::{AcquireGuard, ApiError, ObjectRef};
use paperclip_engine::api::{ApiCall, ApiReply, EPOCH_ANNOTATION, SUPERSEDED};
use paperclip_engine::lease::{Identity, Outcome, RunLease, lease_name};
use paperclip_engine::ownership::HostState;
use paperclip_engine::time::Timestamp;
use serde_json::json;

use super::cluster::{NAMESPACE, manifest};

/// How long a request without a good answer is repeated.
const RETRY_PERIOD: Duration = Duration::from_secs(120);
/// How long after a failure the next request follows.
const RETRY: Duration = Duration::from_secs(1);
/// How long a stopping process waits for the answer to its release.
const DETACH_TIMEOUT: Duration = Duration::from_secs(3);

/// How a run leaves a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// It has a result.
    Ended { is_cancelled: bool },
    /// It continues without this process.
    Detached,
    /// Another host has it.
    Moved,
    /// Another run has its guard, or it waited for too long.
    Lost,
}

/// What a driver asks of its process.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most steps are calls")]
pub(super) enum Step {
    Call {
        call: u64,
        request: ApiCall,
    },
    /// The result is out.
    Result {
        is_cancelled: bool,
    },
    Left(Left),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Acquiring,
    /// The guard is held, the Job is to be created or adopted.
    Starting,
    /// The Job's end is awaited.
    Running,
    /// The result is out; the Job is to be deleted.
    CleaningUp,
    Releasing,
    /// The guard was lost while the Job was created, which never ran: it is deleted.
    Abandoning {
        until: Timestamp,
    },
    Detaching {
        until: Timestamp,
    },
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Lease,
    Job,
}

#[derive(Debug)]
struct Pending {
    call: u64,
    purpose: Purpose,
    request: ApiCall,
    /// When it is sent again; none while an answer is outstanding.
    retry_at: Option<Timestamp>,
    until: Timestamp,
}

#[derive(Debug)]
pub(super) struct Driver {
    run_id: String,
    index: usize,
    pub(super) key: String,
    /// The name of its guard's Lease.
    pub(super) guard: String,
    lease: RunLease,
    phase: Phase,
    pub(super) job: Option<ObjectRef>,
    /// This process has requested the creation of the Job.
    has_created: bool,
    /// The Job is to get the run's epoch and to be unsuspended: it was just created, or is of an earlier process.
    adopts: bool,
    is_cancelled: bool,
    /// The server has accepted the deletion of the Job.
    is_deletion_accepted: bool,
    /// The agent has ended.
    has_ended: bool,
    /// It has a result.
    is_over: bool,
    pending: Vec<Pending>,
    last_call: u64,
    steps: Vec<Step>,
    left: Option<Left>,
}

/// How a driver starts.
#[derive(Debug)]
pub(super) enum Origin {
    /// A person or Paperclip starts the run.
    New,
    /// The journal of an earlier process is here.
    Journal(Option<ObjectRef>),
    /// This process has taken the guard of an orphan.
    Adopted(ObjectRef),
}

impl Driver {
    pub(super) fn start(
        now: Timestamp,
        (run_id, index, key): (&str, usize, &str),
        host: &str,
        state: &HostState,
        origin: Origin,
    ) -> Driver {
        let identity = Identity { run_id: run_id.to_owned(), host: host.to_owned() };
        let mut driver = Driver {
            run_id: run_id.to_owned(),
            index,
            key: key.to_owned(),
            guard: lease_name(key),
            lease: RunLease::new(identity),
            phase: Phase::Acquiring,
            job: None,
            has_created: false,
            adopts: false,
            is_cancelled: false,
            is_deletion_accepted: false,
            has_ended: false,
            is_over: false,
            pending: Vec::new(),
            last_call: 0,
            steps: Vec::new(),
            left: None,
        };
        let outcomes = driver.lease.set_host(now, state.clone());
        driver.apply(now, outcomes);
        let guard = AcquireGuard { key: key.to_owned(), namespace: NAMESPACE.into(), wait_ms: 600_000 };
        let outcomes = match origin {
            Origin::New => driver.lease.acquire(now, guard),
            Origin::Adopted(job) => {
                (driver.job, driver.adopts) = (Some(job), true);
                driver.lease.acquire(now, guard)
            }
            Origin::Journal(Some(job)) => {
                driver.job = Some(job);
                driver.phase = Phase::Running;
                driver.lease.resume(now, guard)
            }
            Origin::Journal(None) => driver.lease.acquire(now, guard),
        };
        driver.apply(now, outcomes);
        driver.act(now);
        driver
    }

    /// The run has a result already: only its Job is left to be deleted.
    pub(super) fn set_ended(&mut self) {
        self.is_over = true;
        if self.phase == Phase::Running {
            self.phase = Phase::CleaningUp;
        }
    }

    /// Returns what is to be done, in order.
    pub(super) fn take_steps(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.steps)
    }

    /// Whether this process acts for the run: it holds the guard as far as it knows.
    pub(super) fn is_driving(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running | Phase::CleaningUp | Phase::Releasing)
            && self.lease.epoch().is_some()
    }

    /// Whether it waits for a guard that another run has.
    pub(super) fn is_waiting(&self) -> bool {
        self.phase == Phase::Acquiring && !self.is_over && self.lease.is_undecided()
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let detached = match self.phase {
            Phase::Detaching { until } | Phase::Abandoning { until } => Some(until),
            _ => None,
        };
        let retries = self.pending.iter().filter_map(|pending| pending.retry_at);
        retries.chain(self.lease.deadline()).chain(detached).min()
    }

    pub(super) fn on_host(&mut self, now: Timestamp, state: HostState) {
        let outcomes = self.lease.set_host(now, state);
        self.apply(now, outcomes);
        self.act(now);
    }

    pub(super) fn on_guard_changed(&mut self, now: Timestamp) {
        let outcomes = self.lease.on_changed();
        self.apply(now, outcomes);
    }

    pub(super) fn on_cancel(&mut self, now: Timestamp) {
        self.is_cancelled = true;
        self.act(now);
    }

    /// The watch reports that the agent of the Job has ended, or that the Job was removed.
    pub(super) fn on_job_over(&mut self, now: Timestamp) {
        self.has_ended = true;
        self.act(now);
    }

    pub(super) fn on_stop(&mut self, now: Timestamp) {
        if matches!(self.phase, Phase::Over | Phase::Detaching { .. }) {
            return;
        }
        self.pending.retain(|pending| pending.purpose == Purpose::Lease);
        self.phase = Phase::Detaching { until: now + DETACH_TIMEOUT };
        let outcomes = self.lease.hand_over(now);
        self.apply(now, outcomes);
        self.close_when_detached(now);
    }

    pub(super) fn on_tick(&mut self, now: Timestamp) {
        let outcomes = self.lease.on_deadline(now);
        self.apply(now, outcomes);
        for at in 0..self.pending.len() {
            let pending = &mut self.pending[at];
            if pending.retry_at.is_none_or(|retry_at| retry_at > now) {
                continue;
            }
            let is_abandoned = matches!(self.phase, Phase::Abandoning { .. });
            if pending.purpose == Purpose::Job && !is_abandoned && !self.lease.is_certain(now) {
                pending.retry_at = Some(now + RETRY);
                continue;
            }
            pending.retry_at = None;
            let (call, request) = (pending.call, pending.request.clone());
            self.steps.push(Step::Call { call, request });
        }
        self.act(now);
        self.close_when_detached(now);
    }

    pub(super) fn on_answer(&mut self, now: Timestamp, call: u64, outcome: Result<ApiReply, ApiError>) {
        let Some(at) = self.pending.iter().position(|pending| pending.call == call) else { return };
        let is_transient =
            outcome.as_ref().is_err_and(|error| error.status.is_none_or(|status| status >= 500));
        if is_transient && now + RETRY <= self.pending[at].until {
            self.pending[at].retry_at = Some(now + RETRY);
            return;
        }
        let pending = self.pending.remove(at);
        match pending.purpose {
            Purpose::Lease => {
                let outcomes = self.lease.on_answer(now, outcome);
                self.apply(now, outcomes);
            }
            Purpose::Job => self.on_job_answer(now, &pending.request, outcome),
        }
        self.act(now);
        self.close_when_detached(now);
    }

    fn on_job_answer(&mut self, now: Timestamp, request: &ApiCall, outcome: Result<ApiReply, ApiError>) {
        if let Phase::Abandoning { .. } = self.phase {
            return self.on_abandoned(now, request, outcome);
        }
        match (request, outcome) {
            (_, Err(error)) if error.reason.as_deref() == Some(SUPERSEDED) => match self.phase {
                Phase::CleaningUp => self.release(now),
                _ => self.leave(Left::Moved),
            },
            (ApiCall::CreateJob { .. }, Ok(ApiReply::Created(job))) => {
                (self.job, self.adopts) = (Some(job), true);
            }
            // A create without an answer was applied: the watch shows the Job.
            (ApiCall::CreateJob { .. }, Err(_)) => {}
            // The Job was deleted before it was adopted: whether the run has ended the run record says.
            (ApiCall::PatchJob { .. }, Err(error)) if error.status == Some(404) => {
                self.is_over = true;
                self.release(now);
            }
            (ApiCall::PatchJob { .. }, _) => {
                self.adopts = false;
                self.phase = Phase::Running;
            }
            // Without certainty another host may have ended the run: the deletion is requested again once the guard is decided.
            (ApiCall::DeleteJob { .. }, _) if !self.is_over && !self.lease.is_certain(now) => {}
            // The result of a cancel follows the agent's end, which the deletion causes.
            (ApiCall::DeleteJob { .. }, _) if !self.is_over => self.is_deletion_accepted = true,
            (ApiCall::DeleteJob { .. }, _) => self.release(now),
            _ => {}
        }
    }

    /// The watch shows a Job of this run.
    pub(super) fn on_own_job(&mut self, now: Timestamp, job: &ObjectRef) {
        if self.job.is_none() {
            self.job = Some(job.clone());
            self.pending.retain(|pending| pending.purpose != Purpose::Job);
            match self.phase {
                // It may be of an earlier epoch.
                Phase::Acquiring | Phase::Starting => self.adopts = true,
                Phase::Abandoning { .. } => {
                    self.call(now, Purpose::Job, ApiCall::DeleteJob { job: job.clone(), epoch: None });
                }
                _ => {}
            }
        }
        self.act(now);
    }

    /// Leaves the run to whoever has its guard. A Job that was created for it, and must not run, is deleted first.
    fn lose(&mut self, now: Timestamp) {
        if self.phase != Phase::Starting || !self.has_created {
            return self.leave(Left::Lost);
        }
        self.phase = Phase::Abandoning { until: now + RETRY_PERIOD };
        if let (Some(job), true) = (self.job.clone(), self.pending.is_empty()) {
            self.call(now, Purpose::Job, ApiCall::DeleteJob { job, epoch: None });
        }
    }

    fn on_abandoned(&mut self, now: Timestamp, request: &ApiCall, outcome: Result<ApiReply, ApiError>) {
        match (request, outcome) {
            (ApiCall::DeleteJob { .. }, _) => self.leave(Left::Lost),
            (_, Ok(ApiReply::Created(job))) => {
                self.job = Some(job.clone());
                self.call(now, Purpose::Job, ApiCall::DeleteJob { job, epoch: None });
            }
            (_, _) => {
                // Without a Job, the watch shows whether it was created.
                if let Some(job) = self.job.clone() {
                    self.call(now, Purpose::Job, ApiCall::DeleteJob { job, epoch: None });
                }
            }
        }
    }

    fn apply(&mut self, now: Timestamp, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            match outcome {
                Outcome::Call(request) => self.call(now, Purpose::Lease, request),
                Outcome::Acquired => {
                    if self.phase == Phase::Acquiring {
                        self.phase = if self.is_over { Phase::CleaningUp } else { Phase::Starting };
                    }
                }
                Outcome::EpochRaised(_) => self.adopts = self.job.is_some(),
                Outcome::Busy(busy) if busy.is_final => self.lose(now),
                Outcome::Busy(_) | Outcome::Released => {}
                Outcome::Unreachable(_) | Outcome::Lost => self.lose(now),
                Outcome::Moved { .. } => self.leave(Left::Moved),
            }
        }
    }

    /// Does what is due, if the guard is certainly held.
    fn act(&mut self, now: Timestamp) {
        let is_waiting = self.pending.iter().any(|pending| pending.purpose == Purpose::Job);
        if is_waiting || !self.lease.is_certain(now) {
            return;
        }
        let epoch = self.lease.epoch();
        match (self.phase, self.job.clone()) {
            (Phase::Starting, None) => {
                self.has_created = true;
                let manifest_json = manifest(&self.run_id, self.index, epoch);
                self.call(now, Purpose::Job, ApiCall::CreateJob { manifest_json });
            }
            (Phase::Starting | Phase::Running, Some(job)) if self.adopts => {
                let value = epoch.unwrap_or(0).to_string();
                let patch = json!({
                    "metadata": { "annotations": { EPOCH_ANNOTATION: value } },
                    "spec": { "suspend": false },
                });
                let patch_json = patch.to_string();
                self.call(now, Purpose::Job, ApiCall::PatchJob { job, patch_json, epoch });
            }
            (Phase::Running | Phase::Starting, Some(_)) if self.has_ended && self.is_deletion_accepted => {
                self.take_result(true);
                self.release(now);
            }
            (Phase::Running | Phase::Starting, Some(job)) if self.has_ended => {
                self.take_result(false);
                self.call(now, Purpose::Job, ApiCall::DeleteJob { job, epoch });
            }
            (Phase::Running | Phase::Starting, Some(job))
                if self.is_cancelled && !self.is_deletion_accepted =>
            {
                self.call(now, Purpose::Job, ApiCall::DeleteJob { job, epoch });
            }
            (Phase::CleaningUp, None) => self.release(now),
            (Phase::CleaningUp, Some(job)) => self.call(now, Purpose::Job, ApiCall::DeleteJob { job, epoch }),
            _ => {}
        }
    }

    fn take_result(&mut self, is_cancelled: bool) {
        self.left = Some(Left::Ended { is_cancelled });
        (self.is_over, self.phase) = (true, Phase::CleaningUp);
        self.steps.push(Step::Result { is_cancelled });
    }

    fn release(&mut self, now: Timestamp) {
        self.phase = Phase::Releasing;
        let outcomes = self.lease.release();
        self.apply(now, outcomes);
        self.close_when_detached(now);
    }

    fn close_when_detached(&mut self, now: Timestamp) {
        let is_answered = self.pending.is_empty();
        match self.phase {
            Phase::Releasing if is_answered => self.leave(Left::Ended { is_cancelled: false }),
            Phase::Detaching { until } if is_answered || until <= now => self.leave(Left::Detached),
            Phase::Abandoning { until } if until <= now => self.leave(Left::Lost),
            _ => {}
        }
    }

    fn call(&mut self, now: Timestamp, purpose: Purpose, request: ApiCall) {
        self.last_call += 1;
        let call = self.last_call;
        let until = now + RETRY_PERIOD;
        self.pending.push(Pending { call, purpose, request: request.clone(), retry_at: None, until });
        self.steps.push(Step::Call { call, request });
    }

    fn leave(&mut self, left: Left) {
        if self.phase != Phase::Over {
            self.phase = Phase::Over;
            self.pending.clear();
            let left = self.left.unwrap_or(left);
            self.steps.push(Step::Left(left));
        }
    }
}
