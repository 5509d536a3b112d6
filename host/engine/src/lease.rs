//! The mechanism of the guard: at most one run per key, by a Lease that every host of the cluster respects.
//!
//! The Lease of a guard is written when it is acquired, handed over, taken over or released, and at no other time. Whether its holder lives
//! is shown by the Lease of the holder's host instance ([`HostLease`](crate::api::HostLease)), which the
//! [ownership protocol](crate::ownership) keeps. An instance without a Lease never lives again, so that its guards may be taken, always at
//! their resourceVersion: of two contenders one succeeds. A guard without an instance was written by an older version, which renews it; it
//! has expired if it was not changed for its duration, as observed here.
//!
//! The guard determines who decides, not what runs: the plugin of a new holder lists the Jobs of the key next, and adopts or waits for
//! those of a crashed holder.

use std::time::Duration;

use paperclip_contract::types::{AcquireGuard, ApiError, GuardBusy};

use crate::api::{ApiCall, ApiReply, Lease};
use crate::ownership::HostState;
use crate::time::Timestamp;

/// `leaseDurationSeconds` of a guard: ten years. Older versions take a guard that was not renewed for its duration; this one never is.
pub const GUARD_S: u32 = 315_360_000;
/// How often a Lease of another holder is read, if no watch reports its change.
pub const BUSY_RETRY: Duration = Duration::from_secs(5);
/// How long the guard of another run must not have changed before a waiting run takes it although no host lives for it: until then a host
/// may adopt that run, whose result would be lost otherwise.
pub const UNADOPTED_PERIOD: Duration = Duration::from_secs(60);

/// The contender.
#[derive(Debug, Clone)]
pub struct Identity {
    pub run_id: String,
    pub host: String,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Idle,
    /// The instance of this host is not known yet.
    AwaitingHost(Intent),
    /// A request to acquire it is outstanding.
    Acquiring(Attempt),
    /// Another run or host holds it; it is read again at this time.
    Busy {
        again_at: Timestamp,
    },
    /// Held. If it names an earlier instance of this host, it is moved at this time.
    Held {
        lease: Lease,
        move_at: Timestamp,
    },
    /// Held by an earlier instance of this host; the request to move it to the current one is outstanding.
    Moving(Lease),
    Releasing(Disposal),
    /// It is no longer needed here, but an outstanding request may still acquire it.
    Abandoned {
        disposal: Disposal,
        /// The outstanding request reads the Lease. After any other request without an answer, a read follows.
        is_read: bool,
    },
    Lost,
    /// It could not be acquired; a request without an answer may have acquired it nevertheless.
    Unreachable,
}

/// What starts once the instance of this host is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intent {
    Acquire,
    /// An earlier host of this run requested it: its request may have acquired it.
    AcquireAgain,
    /// An earlier host of this run held it.
    Resume,
}

/// What is done with a Lease that is no longer needed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disposal {
    /// It is deleted.
    Release,
    /// It is left to the next host of the run.
    HandOver,
}

#[derive(Debug, Clone, PartialEq)]
enum Attempt {
    Create,
    Read,
    /// Read the Lease of the instance that holds this guard.
    ReadHost(Box<Lease>),
    /// Replace the holder.
    Replace,
}

/// What follows from a step of the [`RunLease`].
#[derive(Debug, PartialEq)]
pub enum Outcome {
    Call(ApiCall),
    Acquired,
    /// Another host had the run before: its Jobs get this epoch, so that late requests of that host fail.
    EpochRaised(u64),
    Busy(GuardBusy),
    Unreachable(ApiError),
    Lost,
    /// Another host drives this run, or drove it and has left it (then `host` is empty).
    Moved {
        host: String,
    },
    Released,
}

/// When a Lease was first observed at the resourceVersion that it has.
#[derive(Debug)]
struct Observed {
    resource_version: String,
    since: Timestamp,
}

/// The Lease of one run's guard, as a state machine.
#[derive(Debug)]
pub struct RunLease {
    identity: Identity,
    host: HostState,
    request: Option<AcquireGuard>,
    give_up_at: Timestamp,
    /// The holder that was reported last.
    reported_holder: Option<String>,
    /// An earlier host of this run held it: finding it unchanged is not an event, finding another holder is a loss.
    was_held: bool,
    observed: Option<Observed>,
    /// The epoch of the Lease when it was last held here.
    epoch: Option<u64>,
    /// The Lease was requested of another host, or of one that has left it.
    raises_epoch: bool,
    /// It has changed since the outstanding request about it was sent.
    has_changed: bool,
    state: State,
}

impl RunLease {
    /// Returns the Lease of a guard that was not requested.
    pub fn new(identity: Identity) -> Self {
        RunLease {
            identity,
            host: HostState::default(),
            request: None,
            give_up_at: Timestamp::EPOCH,
            reported_holder: None,
            was_held: false,
            observed: None,
            epoch: None,
            raises_epoch: false,
            has_changed: false,
            state: State::Idle,
        }
    }

    /// Acquires the guard, as soon as the instance of this host is known.
    pub fn acquire(&mut self, now: Timestamp, request: AcquireGuard) -> Vec<Outcome> {
        self.start_acquiring(now, request, Intent::Acquire)
    }

    /// Acquires the guard that an earlier host of this run requested. Whether that request acquired it is not known.
    pub fn acquire_again(&mut self, now: Timestamp, request: AcquireGuard) -> Vec<Outcome> {
        self.start_acquiring(now, request, Intent::AcquireAgain)
    }

    fn start_acquiring(&mut self, now: Timestamp, request: AcquireGuard, intent: Intent) -> Vec<Outcome> {
        self.give_up_at = now + Duration::from_millis(request.wait_ms);
        self.request = Some(request);
        self.start(now, intent)
    }

    /// Resumes the Lease that an earlier host of this run held.
    pub fn resume(&mut self, now: Timestamp, request: AcquireGuard) -> Vec<Outcome> {
        self.was_held = true;
        self.give_up_at = Timestamp::MAX;
        self.request = Some(request);
        self.start(now, Intent::Resume)
    }

    fn start(&mut self, now: Timestamp, intent: Intent) -> Vec<Outcome> {
        if self.host.instance.is_empty() {
            self.state = State::AwaitingHost(intent);
            return Vec::new();
        }
        match intent {
            Intent::Acquire | Intent::AcquireAgain => self.attempt_create(now),
            Intent::Resume => self.attempt(Attempt::Read, self.read()),
        }
    }

    /// Resumes without the Lease: an earlier host of this run lost it.
    pub fn set_lost(&mut self) {
        self.state = State::Lost;
    }

    /// Resumes without the Lease: an earlier host of this run had no answer to its request.
    pub fn set_unreachable(&mut self, request: AcquireGuard) {
        self.request = Some(request);
        self.state = State::Unreachable;
    }

    /// Releases the Lease if an earlier host of this run still holds it.
    pub fn release_inherited(&mut self, request: AcquireGuard) -> Vec<Outcome> {
        self.request = Some(request);
        self.abandon(Disposal::Release)
    }

    /// Takes the state of this host: which instance lives, and until when that is certain.
    pub fn set_host(&mut self, now: Timestamp, host: HostState) -> Vec<Outcome> {
        self.host = host;
        match self.state {
            State::AwaitingHost(intent) => self.start(now, intent),
            State::Held { .. } => self.move_when_due(now),
            _ => Vec::new(),
        }
    }

    /// Reads the Lease of another holder again: a watch reports a change. While a request is outstanding, whose answer may be older than
    /// the change, the read follows the answer.
    pub fn on_changed(&mut self) -> Vec<Outcome> {
        match self.state {
            State::Busy { .. } => self.attempt(Attempt::Read, self.read()),
            State::Acquiring(_) => {
                self.has_changed = true;
                Vec::new()
            }
            State::Idle
            | State::AwaitingHost(_)
            | State::Held { .. }
            | State::Moving(_)
            | State::Releasing(_)
            | State::Abandoned { .. }
            | State::Lost
            | State::Unreachable => Vec::new(),
        }
    }

    /// Returns whether the Lease is certainly held or was never requested, so that what it guards is allowed.
    pub fn is_certain(&self, now: Timestamp) -> bool {
        match &self.state {
            State::Held { lease, .. } => {
                lease.instance == self.host.instance && now < self.host.certain_until
            }
            State::Idle => self.request.is_none(),
            State::AwaitingHost(_)
            | State::Acquiring(_)
            | State::Busy { .. }
            | State::Moving(_)
            | State::Releasing(_)
            | State::Abandoned { .. }
            | State::Lost
            | State::Unreachable => false,
        }
    }

    /// Returns whether the Lease is held or may still be acquired.
    pub fn is_undecided(&self) -> bool {
        match &self.state {
            State::Held { .. }
            | State::Moving(_)
            | State::AwaitingHost(_)
            | State::Acquiring(_)
            | State::Busy { .. } => true,
            State::Idle
            | State::Releasing(_)
            | State::Abandoned { .. }
            | State::Lost
            | State::Unreachable => false,
        }
    }

    /// Returns the epoch in which this host acts for the run; none if it never held the Lease.
    pub fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// Releases the Lease, or stops acquiring it.
    pub fn release(&mut self) -> Vec<Outcome> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Held { lease, .. } => self.delete(lease),
            State::Acquiring(_) | State::Moving(_) | State::Abandoned { .. } => {
                self.state = State::Abandoned { disposal: Disposal::Release, is_read: false };
                Vec::new()
            }
            other @ State::Releasing(_) => {
                self.state = other;
                Vec::new()
            }
            State::Unreachable => self.abandon(Disposal::Release),
            // It was or may be this run's, and no answer has said otherwise yet.
            State::Busy { .. } if self.was_held => self.abandon(Disposal::Release),
            State::AwaitingHost(Intent::AcquireAgain | Intent::Resume) => self.abandon(Disposal::Release),
            State::Idle | State::AwaitingHost(Intent::Acquire) | State::Busy { .. } | State::Lost => {
                vec![Outcome::Released]
            }
        }
    }

    /// Leaves the Lease to the next host of the same run, which then takes it at once. It still excludes other runs.
    pub fn hand_over(&mut self, now: Timestamp) -> Vec<Outcome> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Held { lease, .. } => self.hand_over_lease(now, lease),
            State::Acquiring(_) | State::Moving(_) => {
                self.state = State::Abandoned { disposal: Disposal::HandOver, is_read: false };
                Vec::new()
            }
            State::Busy { .. } if self.was_held => self.abandon(Disposal::HandOver),
            State::AwaitingHost(Intent::AcquireAgain | Intent::Resume) => self.abandon(Disposal::HandOver),
            State::Idle
            | State::AwaitingHost(Intent::Acquire)
            | State::Busy { .. }
            | State::Releasing(_)
            | State::Abandoned { .. }
            | State::Lost
            | State::Unreachable => {
                vec![Outcome::Released]
            }
        }
    }

    /// Reads the Lease again, and disposes of it if it is held.
    fn abandon(&mut self, disposal: Disposal) -> Vec<Outcome> {
        self.state = State::Abandoned { disposal, is_read: true };
        self.read().map(Outcome::Call).into_iter().collect()
    }

    fn delete(&mut self, lease: Lease) -> Vec<Outcome> {
        self.state = State::Releasing(Disposal::Release);
        vec![Outcome::Call(ApiCall::DeleteLease(lease))]
    }

    fn hand_over_lease(&mut self, now: Timestamp, lease: Lease) -> Vec<Outcome> {
        self.state = State::Releasing(Disposal::HandOver);
        vec![Outcome::Call(ApiCall::UpdateLease(lease.released(now)))]
    }

    /// Returns when [`RunLease::on_deadline`] is due.
    pub fn deadline(&self) -> Option<Timestamp> {
        match &self.state {
            State::Busy { again_at } => Some(*again_at),
            State::Held { lease, move_at } => self.is_elsewhere(lease).then_some(*move_at),
            State::Idle
            | State::AwaitingHost(_)
            | State::Acquiring(_)
            | State::Moving(_)
            | State::Releasing(_)
            | State::Abandoned { .. }
            | State::Lost
            | State::Unreachable => None,
        }
    }

    /// Continues if the deadline has passed.
    pub fn on_deadline(&mut self, now: Timestamp) -> Vec<Outcome> {
        match self.state {
            State::Busy { again_at } if again_at <= now => self.attempt(Attempt::Read, self.read()),
            State::Held { .. } => self.move_when_due(now),
            _ => Vec::new(),
        }
    }

    /// Whether a Lease that is held names another instance than the current one of this host.
    fn is_elsewhere(&self, lease: &Lease) -> bool {
        !self.host.instance.is_empty() && lease.instance != self.host.instance
    }

    /// Moves the Lease to the current instance, at the resourceVersion that it was acquired with: the answer shows whether another host
    /// has taken it since.
    fn move_when_due(&mut self, now: Timestamp) -> Vec<Outcome> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Held { lease, move_at } if self.is_elsewhere(&lease) && move_at <= now => {
                let moved = Lease { instance: self.host.instance.clone(), renewed_at: now, ..lease.clone() };
                self.state = State::Moving(lease);
                vec![Outcome::Call(ApiCall::UpdateLease(moved))]
            }
            other => {
                self.state = other;
                Vec::new()
            }
        }
    }

    /// Processes the answer to the last request.
    pub fn on_answer(&mut self, now: Timestamp, outcome: Result<ApiReply, ApiError>) -> Vec<Outcome> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Acquiring(attempt) => {
                let mut outcomes = self.on_attempt(now, attempt, outcome);
                if std::mem::take(&mut self.has_changed) {
                    outcomes.extend(self.on_changed());
                }
                outcomes
            }
            State::Moving(lease) => self.on_moved(now, lease, outcome),
            // A request whose answer was lost has changed it meanwhile, or another host has.
            State::Releasing(disposal) if outcome.as_ref().is_err_and(is_conflict) => self.abandon(disposal),
            State::Releasing(_) => vec![Outcome::Released],
            State::Abandoned { disposal, is_read } => self.on_late(now, disposal, is_read, outcome),
            other @ (State::Idle
            | State::AwaitingHost(_)
            | State::Busy { .. }
            | State::Held { .. }
            | State::Lost
            | State::Unreachable) => {
                self.state = other;
                Vec::new()
            }
        }
    }

    /// Processes an answer that arrives after the Lease was abandoned.
    fn on_late(
        &mut self,
        now: Timestamp,
        disposal: Disposal,
        is_read: bool,
        outcome: Result<ApiReply, ApiError>,
    ) -> Vec<Outcome> {
        match outcome {
            Ok(ApiReply::Lease(Some(lease))) if self.is_own(&lease) => match disposal {
                Disposal::Release => self.delete(lease),
                Disposal::HandOver => self.hand_over_lease(now, lease),
            },
            // The outstanding request read the host of the holder, and acquired nothing.
            Ok(ApiReply::HostLease(_)) => vec![Outcome::Released],
            // It was already created or changed, possibly by this request, whose first answer was lost.
            Err(error) if is_conflict(&error) || (!is_read && crate::calls::is_transient(&error)) => {
                self.abandon(disposal)
            }
            Ok(_) | Err(_) => vec![Outcome::Released],
        }
    }

    fn on_attempt(
        &mut self,
        now: Timestamp,
        attempt: Attempt,
        outcome: Result<ApiReply, ApiError>,
    ) -> Vec<Outcome> {
        match (attempt, outcome) {
            (Attempt::Create | Attempt::Replace, Ok(ApiReply::Lease(Some(lease)))) => self.hold(now, lease),
            (Attempt::Create | Attempt::Replace, Err(error)) if is_conflict(&error) => {
                self.attempt(Attempt::Read, self.read())
            }
            // Another run held it meanwhile and released it.
            (Attempt::Read, Ok(ApiReply::Lease(None))) if self.was_held => self.lose(),
            // The Lease was deleted between two reads, or by its holder before it could be replaced.
            (Attempt::Read, Ok(ApiReply::Lease(None))) | (Attempt::Replace, Ok(ApiReply::Lease(None))) => {
                self.attempt_create(now)
            }
            (Attempt::Replace, Err(error)) if error.status == Some(404) => self.attempt_create(now),
            (Attempt::Read, Ok(ApiReply::Lease(Some(lease)))) => self.on_read(now, lease),
            (Attempt::ReadHost(lease), Ok(ApiReply::HostLease(None))) => self.replace(now, *lease),
            (Attempt::ReadHost(lease), Ok(ApiReply::HostLease(Some(_)))) => {
                if self.is_of_run(&lease) {
                    self.moved(lease.host)
                } else {
                    self.busy(now, lease.holder)
                }
            }
            // A Lease that was held counts as held while the API is unavailable.
            (_, Err(error)) if self.was_held && crate::calls::is_transient(&error) => {
                self.state = State::Busy { again_at: now + BUSY_RETRY };
                Vec::new()
            }
            (_, Err(_)) if self.was_held => self.lose(),
            (_, Err(error)) => {
                self.state = State::Unreachable;
                vec![Outcome::Unreachable(error)]
            }
            (_, Ok(reply)) => vec![Outcome::Unreachable(ApiError {
                status: None,
                reason: None,
                message: format!("the answer does not fit the request: {reply:?}"),
                retry_after_ms: None,
            })],
        }
    }

    fn hold(&mut self, now: Timestamp, lease: Lease) -> Vec<Outcome> {
        self.epoch = Some(lease.epoch);
        let mut outcomes = Vec::new();
        if std::mem::take(&mut self.raises_epoch) {
            outcomes.push(Outcome::EpochRaised(lease.epoch));
        }
        self.state = State::Held { lease, move_at: now };
        if !std::mem::take(&mut self.was_held) {
            outcomes.push(Outcome::Acquired);
        }
        outcomes.extend(self.move_when_due(now));
        outcomes
    }

    fn is_of_run(&self, lease: &Lease) -> bool {
        lease.holder == self.identity.run_id
    }

    /// Returns whether a Lease belongs to this run and to no other host. Of the instances of one host that which has the run's folder
    /// locked drives it.
    fn is_own(&self, lease: &Lease) -> bool {
        self.is_of_run(lease) && (lease.is_released() || lease.host == self.identity.host)
    }

    fn on_read(&mut self, now: Timestamp, lease: Lease) -> Vec<Outcome> {
        // A holder in between may have left a Job.
        if self.was_held && !self.is_of_run(&lease) {
            return self.lose();
        }
        // Another host had the run meanwhile, and may have ended it: it is left, and adopted as any other that has no host.
        if self.was_held && self.epoch.is_some_and(|own| own < lease.epoch) && lease.is_released() {
            return self.moved(lease.host);
        }
        if self.is_own(&lease) {
            return self.replace(now, lease);
        }
        let was_observed = self.observed.is_some();
        let unchanged = self.observe(now, &lease);
        let is_of_run = self.is_of_run(&lease);
        if lease.is_released() {
            if unchanged >= UNADOPTED_PERIOD {
                self.replace(now, lease)
            } else {
                self.busy(now, lease.holder)
            }
        } else if lease.instance.is_empty() {
            let is_renewed = was_observed && unchanged == Duration::ZERO;
            if unchanged >= Duration::from_secs(lease.duration_s.into()) {
                self.replace(now, lease)
            } else if is_of_run && is_renewed {
                self.moved(lease.host)
            } else {
                self.busy(now, lease.holder)
            }
        } else if is_of_run || unchanged >= UNADOPTED_PERIOD {
            let read =
                ApiCall::GetHostLease { namespace: lease.namespace.clone(), name: lease.instance.clone() };
            self.attempt(Attempt::ReadHost(Box::new(lease)), Some(read))
        } else {
            self.busy(now, lease.holder)
        }
    }

    /// Returns for how long this host has observed the Lease unchanged.
    fn observe(&mut self, now: Timestamp, lease: &Lease) -> Duration {
        match &self.observed {
            Some(observed) if observed.resource_version == lease.resource_version => {
                now.since(observed.since)
            }
            Some(_) | None => {
                let resource_version = lease.resource_version.clone();
                self.observed = Some(Observed { resource_version, since: now });
                Duration::ZERO
            }
        }
    }

    fn on_moved(
        &mut self,
        now: Timestamp,
        lease: Lease,
        outcome: Result<ApiReply, ApiError>,
    ) -> Vec<Outcome> {
        match outcome {
            Ok(ApiReply::Lease(Some(lease))) => {
                self.state = State::Held { lease, move_at: now };
                self.move_when_due(now)
            }
            Err(error) if crate::calls::is_transient(&error) => {
                self.state = State::Held { lease, move_at: now + BUSY_RETRY };
                Vec::new()
            }
            // It was changed: by this request, whose answer was lost, or by another host.
            Err(error) if is_conflict(&error) => {
                self.was_held = true;
                self.attempt(Attempt::Read, self.read())
            }
            Ok(_) | Err(_) => self.lose(),
        }
    }

    fn lose(&mut self) -> Vec<Outcome> {
        self.was_held = false;
        self.state = State::Lost;
        vec![Outcome::Lost]
    }

    fn moved(&mut self, host: String) -> Vec<Outcome> {
        self.was_held = false;
        self.state = State::Lost;
        vec![Outcome::Moved { host }]
    }

    fn busy(&mut self, now: Timestamp, holder: String) -> Vec<Outcome> {
        // A run does not wait for itself: it is not known yet whether its other host lives.
        let is_of_run = holder == self.identity.run_id;
        let holder = Some(holder).filter(|_| !is_of_run);
        let is_final = now >= self.give_up_at && !self.was_held;
        if !is_final {
            let again_at = (now + BUSY_RETRY).min(self.give_up_at.max(now + Duration::from_millis(1)));
            self.state = State::Busy { again_at };
        }
        if self.was_held || (!is_final && (is_of_run || self.reported_holder == holder)) {
            return Vec::new();
        }
        self.reported_holder.clone_from(&holder);
        vec![Outcome::Busy(GuardBusy { holder, position: 1, is_final })]
    }

    /// Takes the Lease. The epoch rises if another host had it.
    fn replace(&mut self, now: Timestamp, lease: Lease) -> Vec<Outcome> {
        let is_same_host = lease.host == self.identity.host && self.is_of_run(&lease);
        let is_kept = is_same_host && lease.epoch > 0;
        let epoch = if is_kept { lease.epoch } else { next_epoch(lease.epoch, now) };
        self.raises_epoch |= !is_kept;
        let replaced = Lease {
            holder: self.identity.run_id.clone(),
            host: self.identity.host.clone(),
            instance: self.host.instance.clone(),
            epoch,
            duration_s: GUARD_S,
            renewed_at: now,
            ..lease
        };
        self.attempt(Attempt::Replace, Some(ApiCall::UpdateLease(replaced)))
    }

    fn attempt(&mut self, attempt: Attempt, call: Option<ApiCall>) -> Vec<Outcome> {
        if attempt == Attempt::Read {
            self.has_changed = false;
        }
        self.state = State::Acquiring(attempt);
        call.map(Outcome::Call).into_iter().collect()
    }

    fn attempt_create(&mut self, now: Timestamp) -> Vec<Outcome> {
        let create = self.request.as_ref().map(|request| self.create(now, request));
        self.attempt(Attempt::Create, create)
    }

    fn create(&self, now: Timestamp, request: &AcquireGuard) -> ApiCall {
        ApiCall::CreateLease(Lease {
            namespace: request.namespace.clone(),
            name: lease_name(&request.key),
            uid: String::new(),
            resource_version: String::new(),
            key: request.key.clone(),
            holder: self.identity.run_id.clone(),
            host: self.identity.host.clone(),
            instance: self.host.instance.clone(),
            epoch: next_epoch(0, now),
            duration_s: GUARD_S,
            renewed_at: now,
        })
    }

    fn read(&self) -> Option<ApiCall> {
        let request = self.request.as_ref()?;
        Some(ApiCall::GetLease { namespace: request.namespace.clone(), name: lease_name(&request.key) })
    }
}

/// Returns the name of the Lease of a key: valid and deterministic.
pub fn lease_name(key: &str) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(key.as_bytes());
    let hex: String = digest.iter().take(10).map(|byte| format!("{byte:02x}")).collect();
    format!("paperclip-guard-{hex}")
}

/// Returns the epoch after one. The seconds since 1970 make it rise also if the Lease was deleted, or rewritten without its epoch by an older
/// version.
pub(crate) fn next_epoch(previous: u64, now: Timestamp) -> u64 {
    (previous + 1).max(now.as_millis() / 1_000)
}

/// Returns whether the Lease was created or changed by another host, or by a request of this run whose answer was lost.
fn is_conflict(error: &ApiError) -> bool {
    error.status == Some(409)
}

#[cfg(test)]
mod tests;
