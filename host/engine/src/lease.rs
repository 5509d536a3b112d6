//! The mechanism of the guard: at most one run per key, by a Lease that every host of the cluster respects.
//!
//! A Lease is acquired only if it is this run's own or has expired, and always at its resourceVersion, so that only one of two
//! contenders succeeds. It determines who decides, not what runs: the plugin of a new holder lists the Jobs of the key next, and adopts
//! or waits for those of a crashed holder.

use std::time::Duration;

use paperclip_contract::types::{AcquireGuard, ApiError, GuardBusy};

use crate::api::{ApiCall, ApiReply, Lease};
use crate::time::Timestamp;

/// How long a Lease is valid without renewal, in seconds.
pub const LEASE_S: u32 = 60;
/// How often a Lease is renewed.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(20);
/// How long after its renewal a Lease certainly has no other holder: another host may acquire it after [`LEASE_S`], its clock may be 30 s
/// ahead of this host's, and a request needs some seconds to arrive at the API server.
pub const CERTAIN_PERIOD: Duration = Duration::from_secs(25);
/// How often a Lease of another holder is read.
pub const BUSY_RETRY: Duration = Duration::from_secs(5);

/// The contender.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) run_id: String,
    pub(crate) host: String,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Idle,
    /// A request to acquire it is outstanding.
    Acquiring(Attempt),
    /// Another run or host holds it; it is read again at this time.
    Busy {
        again_at: Timestamp,
    },
    /// Held; the renewal is due at this time.
    Held {
        lease: Lease,
        renew_at: Timestamp,
    },
    /// Held; the renewal is outstanding.
    Renewing(Lease),
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
    /// Replace the holder.
    Replace,
}

/// What follows from a step of the [`RunLease`].
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    Call(ApiCall),
    Acquired,
    Busy(GuardBusy),
    Unreachable(ApiError),
    Lost,
    Released,
}

/// The Lease of one run's guard, as a state machine.
#[derive(Debug)]
pub(crate) struct RunLease {
    identity: Identity,
    request: Option<AcquireGuard>,
    give_up_at: Timestamp,
    /// The holder that was reported last.
    reported_holder: Option<String>,
    /// An earlier host of this run held it: finding it unchanged is not an event, finding another holder is a loss.
    was_held: bool,
    state: State,
}

impl RunLease {
    pub(crate) fn new(identity: Identity) -> Self {
        RunLease {
            identity,
            request: None,
            give_up_at: Timestamp::EPOCH,
            reported_holder: None,
            was_held: false,
            state: State::Idle,
        }
    }

    pub(crate) fn acquire(&mut self, now: Timestamp, request: AcquireGuard) -> Vec<Outcome> {
        self.give_up_at = now + Duration::from_millis(request.wait_ms);
        let call = self.create(now, &request);
        self.request = Some(request);
        self.state = State::Acquiring(Attempt::Create);
        vec![Outcome::Call(call)]
    }

    /// Resumes the Lease that an earlier host of this run held.
    pub(crate) fn resume(&mut self, request: AcquireGuard) -> Vec<Outcome> {
        self.was_held = true;
        self.give_up_at = Timestamp::MAX;
        self.request = Some(request);
        self.attempt(Attempt::Read, self.read())
    }

    /// Resumes without the Lease: an earlier host of this run lost it.
    pub(crate) fn set_lost(&mut self) {
        self.state = State::Lost;
    }

    /// Resumes without the Lease: an earlier host of this run had no answer to its request.
    pub(crate) fn set_unreachable(&mut self, request: AcquireGuard) {
        self.request = Some(request);
        self.state = State::Unreachable;
    }

    /// Releases the Lease if an earlier host of this run still holds it.
    pub(crate) fn release_inherited(&mut self, request: AcquireGuard) -> Vec<Outcome> {
        self.request = Some(request);
        self.abandon(Disposal::Release)
    }

    /// Returns whether the Lease is certainly held or was never requested, so that what it guards is allowed.
    pub(crate) fn is_certain(&self, now: Timestamp) -> bool {
        match &self.state {
            State::Held { lease, .. } | State::Renewing(lease) => now < lease.renewed_at + CERTAIN_PERIOD,
            State::Idle => self.request.is_none(),
            State::Acquiring(_)
            | State::Busy { .. }
            | State::Releasing(_)
            | State::Abandoned { .. }
            | State::Lost
            | State::Unreachable => false,
        }
    }

    /// Returns whether the Lease is held or may still be acquired.
    pub(crate) fn is_undecided(&self) -> bool {
        match &self.state {
            State::Held { .. } | State::Renewing(_) | State::Acquiring(_) | State::Busy { .. } => true,
            State::Idle
            | State::Releasing(_)
            | State::Abandoned { .. }
            | State::Lost
            | State::Unreachable => false,
        }
    }

    /// Releases the Lease, or stops acquiring it.
    pub(crate) fn release(&mut self) -> Vec<Outcome> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Held { lease, .. } => self.delete(lease),
            State::Acquiring(_) | State::Renewing(_) | State::Abandoned { .. } => {
                self.state = State::Abandoned { disposal: Disposal::Release, is_read: false };
                Vec::new()
            }
            other @ State::Releasing(_) => {
                self.state = other;
                Vec::new()
            }
            State::Unreachable => self.abandon(Disposal::Release),
            // It was this run's, and no answer has said otherwise yet.
            State::Busy { .. } if self.was_held => self.abandon(Disposal::Release),
            State::Idle | State::Busy { .. } | State::Lost => vec![Outcome::Released],
        }
    }

    /// Leaves the Lease to the next host of the same run, which then need not wait for its expiry. It still excludes other runs.
    pub(crate) fn hand_over(&mut self, now: Timestamp) -> Vec<Outcome> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Held { lease, .. } => self.hand_over_lease(now, lease),
            State::Acquiring(_) | State::Renewing(_) => {
                self.state = State::Abandoned { disposal: Disposal::HandOver, is_read: false };
                Vec::new()
            }
            State::Busy { .. } if self.was_held => self.abandon(Disposal::HandOver),
            State::Idle
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
        let hostless = Lease { host: String::new(), renewed_at: now, ..lease };
        vec![Outcome::Call(ApiCall::UpdateLease(hostless))]
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        match &self.state {
            State::Busy { again_at } => Some(*again_at),
            State::Held { renew_at, .. } => Some(*renew_at),
            State::Idle
            | State::Acquiring(_)
            | State::Renewing(_)
            | State::Releasing(_)
            | State::Abandoned { .. }
            | State::Lost
            | State::Unreachable => None,
        }
    }

    pub(crate) fn on_deadline(&mut self, now: Timestamp) -> Vec<Outcome> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Busy { again_at } if again_at <= now => {
                self.state = State::Acquiring(Attempt::Read);
                self.read().map(Outcome::Call).into_iter().collect()
            }
            State::Held { lease, renew_at } if renew_at <= now => {
                let renewed = Lease { renewed_at: now, ..lease.clone() };
                self.state = State::Renewing(lease);
                vec![Outcome::Call(ApiCall::UpdateLease(renewed))]
            }
            other => {
                self.state = other;
                Vec::new()
            }
        }
    }

    /// Processes the answer to the last request.
    pub(crate) fn on_answer(&mut self, now: Timestamp, outcome: Result<ApiReply, ApiError>) -> Vec<Outcome> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Acquiring(attempt) => self.on_attempt(now, attempt, outcome),
            State::Renewing(lease) => self.on_renewed(now, lease, outcome),
            // A renewal whose answer was lost has changed it meanwhile, or another host has.
            State::Releasing(disposal) if outcome.as_ref().is_err_and(is_conflict) => self.abandon(disposal),
            State::Releasing(_) => vec![Outcome::Released],
            State::Abandoned { disposal, is_read } => self.on_late(now, disposal, is_read, outcome),
            other @ (State::Idle
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
            Ok(ApiReply::Lease(Some(lease))) if self.is_own(now, &lease) => match disposal {
                Disposal::Release => self.delete(lease),
                Disposal::HandOver => self.hand_over_lease(now, lease),
            },
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
            (Attempt::Create | Attempt::Replace, Ok(ApiReply::Lease(Some(lease)))) => {
                self.state = State::Held { lease, renew_at: now + RENEW_INTERVAL };
                if std::mem::take(&mut self.was_held) { Vec::new() } else { vec![Outcome::Acquired] }
            }
            (Attempt::Create | Attempt::Replace, Err(error)) if is_conflict(&error) => {
                self.attempt(Attempt::Read, self.read())
            }
            // Another run held it meanwhile and released it.
            (Attempt::Read, Ok(ApiReply::Lease(None))) if self.was_held => self.lose(),
            // The Lease was deleted between two reads, or by its holder before it could be replaced.
            (Attempt::Read, Ok(ApiReply::Lease(None))) | (Attempt::Replace, Ok(ApiReply::Lease(None))) => {
                let create = self.request.as_ref().map(|request| self.create(now, request));
                self.attempt(Attempt::Create, create)
            }
            (Attempt::Replace, Err(error)) if error.status == Some(404) => {
                let create = self.request.as_ref().map(|request| self.create(now, request));
                self.attempt(Attempt::Create, create)
            }
            (Attempt::Read, Ok(ApiReply::Lease(Some(lease)))) => self.on_read(now, lease),
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

    /// Returns whether a Lease belongs to this run and to no other host that is alive.
    fn is_own(&self, now: Timestamp, lease: &Lease) -> bool {
        let is_host_free =
            lease.host.is_empty() || lease.host == self.identity.host || is_expired(now, lease);
        lease.holder == self.identity.run_id && is_host_free
    }

    fn on_read(&mut self, now: Timestamp, lease: Lease) -> Vec<Outcome> {
        // A holder in between may have left a Job, even if its Lease has expired since.
        if self.was_held && lease.holder != self.identity.run_id {
            return self.lose();
        }
        if self.is_own(now, &lease) || is_expired(now, &lease) {
            self.replace(now, lease)
        } else {
            self.busy(now, Some(lease.holder))
        }
    }

    fn on_renewed(
        &mut self,
        now: Timestamp,
        lease: Lease,
        outcome: Result<ApiReply, ApiError>,
    ) -> Vec<Outcome> {
        match outcome {
            Ok(ApiReply::Lease(Some(lease))) => {
                self.state = State::Held { lease, renew_at: now + RENEW_INTERVAL };
                Vec::new()
            }
            Err(error) if crate::calls::is_transient(&error) => {
                self.state = State::Held { lease, renew_at: now + BUSY_RETRY };
                Vec::new()
            }
            // It was changed: by this renewal, whose answer was lost, or by another host.
            Err(error) if is_conflict(&error) => {
                self.was_held = true;
                self.attempt(Attempt::Read, self.read())
            }
            Ok(_) | Err(_) => {
                self.state = State::Lost;
                vec![Outcome::Lost]
            }
        }
    }

    fn lose(&mut self) -> Vec<Outcome> {
        self.was_held = false;
        self.state = State::Lost;
        vec![Outcome::Lost]
    }

    fn busy(&mut self, now: Timestamp, holder: Option<String>) -> Vec<Outcome> {
        if self.was_held {
            return self.lose();
        }
        let is_final = now >= self.give_up_at;
        if !is_final {
            let again_at = (now + BUSY_RETRY).min(self.give_up_at);
            self.state = State::Busy { again_at };
        }
        if !is_final && self.reported_holder == holder {
            return Vec::new();
        }
        self.reported_holder.clone_from(&holder);
        vec![Outcome::Busy(GuardBusy { holder, position: 1, is_final })]
    }

    fn replace(&mut self, now: Timestamp, lease: Lease) -> Vec<Outcome> {
        let replaced = Lease {
            holder: self.identity.run_id.clone(),
            host: self.identity.host.clone(),
            duration_s: LEASE_S,
            renewed_at: now,
            ..lease
        };
        self.attempt(Attempt::Replace, Some(ApiCall::UpdateLease(replaced)))
    }

    fn attempt(&mut self, attempt: Attempt, call: Option<ApiCall>) -> Vec<Outcome> {
        self.state = State::Acquiring(attempt);
        call.map(Outcome::Call).into_iter().collect()
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
            duration_s: LEASE_S,
            renewed_at: now,
        })
    }

    fn read(&self) -> Option<ApiCall> {
        let request = self.request.as_ref()?;
        Some(ApiCall::GetLease { namespace: request.namespace.clone(), name: lease_name(&request.key) })
    }
}

/// Returns the name of the Lease of a key: valid and deterministic.
pub(crate) fn lease_name(key: &str) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(key.as_bytes());
    let hex: String = digest.iter().take(10).map(|byte| format!("{byte:02x}")).collect();
    format!("paperclip-guard-{hex}")
}

/// Returns whether the Lease was created or changed by another host, or by a request of this run whose answer was lost.
fn is_conflict(error: &ApiError) -> bool {
    error.status == Some(409)
}

fn is_expired(now: Timestamp, lease: &Lease) -> bool {
    expires_at(lease) <= now
}

/// Returns when a Lease expires unless it is renewed.
pub(crate) fn expires_at(lease: &Lease) -> Timestamp {
    lease.renewed_at + Duration::from_secs(lease.duration_s.into())
}

#[cfg(test)]
mod tests;
