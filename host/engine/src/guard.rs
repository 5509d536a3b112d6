//! The guard: at most one run a key, by a Lease that every host of the cluster respects.
//!
//! A lease is taken over only if it is this run's own or has expired; always at its resourceVersion, so that of two takers one loses. It
//! says who decides, not what runs: whoever takes it looks for Jobs of the key next, and adopts or waits for what a dead holder left.

use std::time::Duration;

use paperclip_contract::types::{AcquireGuard, ApiError, GuardBusy};

use crate::api::{ApiCall, ApiReply, Lease};
use crate::time::Timestamp;

/// For how long a lease holds without being renewed, in seconds.
pub const LEASE_S: u32 = 60;
/// How often it is renewed.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(20);
/// For how long after its renewal a lease is certainly nobody else's: it is taken over after [`LEASE_S`], by a host whose clock may be
/// 30 s ahead of this one's, and what is asked of the API has some seconds to arrive.
pub const CERTAIN_PERIOD: Duration = Duration::from_secs(25);
/// How often a busy guard is looked at.
pub const BUSY_RETRY: Duration = Duration::from_secs(5);

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) run_id: String,
    pub(crate) host: String,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Idle,
    /// A call is under way.
    Asking(Asking),
    /// Somebody else holds it; look again at this time.
    Busy {
        again_at: Timestamp,
    },
    /// Held, and due to be renewed at this time.
    Held {
        lease: Lease,
        renew_at: Timestamp,
    },
    /// Held, and the renewal is under way.
    Renewing(Lease),
    Releasing(Afterwards),
    /// Nobody wants it here any more, but a call is under way that may still bring it.
    Abandoned {
        afterwards: Afterwards,
        /// It is a look at the lease; else one follows if the call has no answer.
        is_look: bool,
    },
    Lost,
    /// It was not to be had; a call without an answer may have brought it all the same.
    Unreachable,
}

/// What becomes of a lease that comes too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    /// It goes.
    Release,
    /// It is left to the next host of the run.
    HandOver,
}

#[derive(Debug, Clone, PartialEq)]
enum Asking {
    Create,
    Read,
    /// Taking over.
    Replace,
}

/// What the guard has to say or do.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    Call(ApiCall),
    Acquired,
    Busy(GuardBusy),
    Unreachable(ApiError),
    Lost,
    Released,
}

/// The guard of one run.
#[derive(Debug)]
pub(crate) struct Guard {
    identity: Identity,
    wanted: Option<AcquireGuard>,
    give_up_at: Timestamp,
    told_holder: Option<String>,
    /// It was held when an earlier host of this run went away: to find it so is no news, to find it taken is a loss.
    was_held: bool,
    state: State,
}

impl Guard {
    pub(crate) fn new(identity: Identity) -> Self {
        Guard {
            identity,
            wanted: None,
            give_up_at: Timestamp::EPOCH,
            told_holder: None,
            was_held: false,
            state: State::Idle,
        }
    }

    pub(crate) fn acquire(&mut self, now: Timestamp, wanted: AcquireGuard) -> Vec<Outcome> {
        self.give_up_at = now + Duration::from_millis(wanted.wait_ms);
        let call = self.create(now, &wanted);
        self.wanted = Some(wanted);
        self.state = State::Asking(Asking::Create);
        vec![Outcome::Call(call)]
    }

    /// Takes up again what an earlier host of this run held.
    pub(crate) fn retake(&mut self, wanted: AcquireGuard) -> Vec<Outcome> {
        self.was_held = true;
        self.give_up_at = Timestamp::MAX;
        self.wanted = Some(wanted);
        self.ask(Asking::Read, self.read())
    }

    /// An earlier host of this run lost it.
    pub(crate) fn lose(&mut self) {
        self.state = State::Lost;
    }

    /// An earlier host of this run had no answer that it could have it.
    pub(crate) fn give_up(&mut self, wanted: AcquireGuard) {
        self.wanted = Some(wanted);
        self.state = State::Unreachable;
    }

    /// Gives back what an earlier host of this run may still hold.
    pub(crate) fn release_left(&mut self, wanted: AcquireGuard) -> Vec<Outcome> {
        self.wanted = Some(wanted);
        self.abandon(Afterwards::Release)
    }

    /// Whether it is certainly held, or nobody wanted it: what it guards may be done.
    pub(crate) fn is_sure(&self, now: Timestamp) -> bool {
        match &self.state {
            State::Held { lease, .. } | State::Renewing(lease) => now < lease.renewed_at + CERTAIN_PERIOD,
            State::Idle => self.wanted.is_none(),
            State::Asking(_)
            | State::Busy { .. }
            | State::Releasing(_)
            | State::Abandoned { .. }
            | State::Lost
            | State::Unreachable => false,
        }
    }

    /// Whether it is still being found out who holds it.
    pub(crate) fn is_open(&self) -> bool {
        match &self.state {
            State::Held { .. } | State::Renewing(_) | State::Asking(_) | State::Busy { .. } => true,
            State::Idle
            | State::Releasing(_)
            | State::Abandoned { .. }
            | State::Lost
            | State::Unreachable => false,
        }
    }

    /// Gives it back, or stops wanting it.
    pub(crate) fn release(&mut self) -> Vec<Outcome> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Held { lease, .. } => self.give_back(lease),
            State::Asking(_) | State::Renewing(_) | State::Abandoned { .. } => {
                self.state = State::Abandoned { afterwards: Afterwards::Release, is_look: false };
                Vec::new()
            }
            other @ State::Releasing(_) => {
                self.state = other;
                Vec::new()
            }
            State::Unreachable => self.abandon(Afterwards::Release),
            // It was this run's, and no answer has said yet that it is not any more.
            State::Busy { .. } if self.was_held => self.abandon(Afterwards::Release),
            State::Idle | State::Busy { .. } | State::Lost => vec![Outcome::Released],
        }
    }

    /// Leaves it to the next host of the same run, which need not wait until it expires. It still keeps other runs out.
    pub(crate) fn hand_over(&mut self, now: Timestamp) -> Vec<Outcome> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Held { lease, .. } => self.leave(now, lease),
            State::Asking(_) | State::Renewing(_) => {
                self.state = State::Abandoned { afterwards: Afterwards::HandOver, is_look: false };
                Vec::new()
            }
            State::Busy { .. } if self.was_held => self.abandon(Afterwards::HandOver),
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

    /// Looks once more whether it is held, and gives it up if it is.
    fn abandon(&mut self, afterwards: Afterwards) -> Vec<Outcome> {
        self.state = State::Abandoned { afterwards, is_look: true };
        self.read().map(Outcome::Call).into_iter().collect()
    }

    fn give_back(&mut self, lease: Lease) -> Vec<Outcome> {
        self.state = State::Releasing(Afterwards::Release);
        vec![Outcome::Call(ApiCall::DeleteLease(lease))]
    }

    fn leave(&mut self, now: Timestamp, lease: Lease) -> Vec<Outcome> {
        self.state = State::Releasing(Afterwards::HandOver);
        let ownerless = Lease { host: String::new(), renewed_at: now, ..lease };
        vec![Outcome::Call(ApiCall::UpdateLease(ownerless))]
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        match &self.state {
            State::Busy { again_at } => Some(*again_at),
            State::Held { renew_at, .. } => Some(*renew_at),
            State::Idle
            | State::Asking(_)
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
                self.state = State::Asking(Asking::Read);
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

    /// Takes the answer to the call that it asked for last.
    pub(crate) fn on_answer(&mut self, now: Timestamp, outcome: Result<ApiReply, ApiError>) -> Vec<Outcome> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Asking(asking) => self.on_asked(now, asking, outcome),
            State::Renewing(lease) => self.on_renewed(now, lease, outcome),
            // A renewal whose answer was lost changed it meanwhile, or somebody else did.
            State::Releasing(afterwards) if outcome.as_ref().is_err_and(is_conflict) => {
                self.abandon(afterwards)
            }
            State::Releasing(_) => vec![Outcome::Released],
            State::Abandoned { afterwards, is_look } => self.on_late(now, afterwards, is_look, outcome),
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

    /// Takes the answer to a call that nobody waits for any more.
    fn on_late(
        &mut self,
        now: Timestamp,
        afterwards: Afterwards,
        is_look: bool,
        outcome: Result<ApiReply, ApiError>,
    ) -> Vec<Outcome> {
        match outcome {
            Ok(ApiReply::Lease(Some(lease))) if self.is_own(now, &lease) => match afterwards {
                Afterwards::Release => self.give_back(lease),
                Afterwards::HandOver => self.leave(now, lease),
            },
            // It was created or changed already, maybe by this very call, whose first answer was lost.
            Err(error) if is_conflict(&error) || (!is_look && crate::calls::is_passing(&error)) => {
                self.abandon(afterwards)
            }
            Ok(_) | Err(_) => vec![Outcome::Released],
        }
    }

    fn on_asked(
        &mut self,
        now: Timestamp,
        asking: Asking,
        outcome: Result<ApiReply, ApiError>,
    ) -> Vec<Outcome> {
        match (asking, outcome) {
            (Asking::Create | Asking::Replace, Ok(ApiReply::Lease(Some(lease)))) => {
                self.state = State::Held { lease, renew_at: now + RENEW_INTERVAL };
                if std::mem::take(&mut self.was_held) { Vec::new() } else { vec![Outcome::Acquired] }
            }
            (Asking::Create | Asking::Replace, Err(error)) if is_conflict(&error) => {
                self.ask(Asking::Read, self.read())
            }
            // Somebody had it meanwhile, and gave it back.
            (Asking::Read, Ok(ApiReply::Lease(None))) if self.was_held => self.lost(),
            // The lease went away between two looks, or is taken over when its holder let go.
            (Asking::Read, Ok(ApiReply::Lease(None))) | (Asking::Replace, Ok(ApiReply::Lease(None))) => {
                let create = self.wanted.as_ref().map(|wanted| self.create(now, wanted));
                self.ask(Asking::Create, create)
            }
            (Asking::Replace, Err(error)) if error.status == Some(404) => {
                let create = self.wanted.as_ref().map(|wanted| self.create(now, wanted));
                self.ask(Asking::Create, create)
            }
            (Asking::Read, Ok(ApiReply::Lease(Some(lease)))) => self.on_read(now, lease),
            // What is held stays held while the API is away.
            (_, Err(error)) if self.was_held && crate::calls::is_passing(&error) => {
                self.state = State::Busy { again_at: now + BUSY_RETRY };
                Vec::new()
            }
            (_, Err(_)) if self.was_held => self.lost(),
            (_, Err(error)) => {
                self.state = State::Unreachable;
                vec![Outcome::Unreachable(error)]
            }
            (_, Ok(reply)) => vec![Outcome::Unreachable(ApiError {
                status: None,
                reason: None,
                message: format!("the answer makes no sense here: {reply:?}"),
                retry_after_ms: None,
            })],
        }
    }

    /// Whether a lease is this run's, and no other living host's.
    fn is_own(&self, now: Timestamp, lease: &Lease) -> bool {
        let is_host_free =
            lease.host.is_empty() || lease.host == self.identity.host || is_expired(now, lease);
        lease.holder == self.identity.run_id && is_host_free
    }

    fn on_read(&mut self, now: Timestamp, lease: Lease) -> Vec<Outcome> {
        // Whoever had it meanwhile may have left a Job, even if it has expired since.
        if self.was_held && lease.holder != self.identity.run_id {
            return self.lost();
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
            Err(error) if crate::calls::is_passing(&error) => {
                self.state = State::Held { lease, renew_at: now + BUSY_RETRY };
                Vec::new()
            }
            // It was changed: by this renewal, whose answer was lost, or by somebody else.
            Err(error) if is_conflict(&error) => {
                self.was_held = true;
                self.ask(Asking::Read, self.read())
            }
            Ok(_) | Err(_) => {
                self.state = State::Lost;
                vec![Outcome::Lost]
            }
        }
    }

    fn lost(&mut self) -> Vec<Outcome> {
        self.was_held = false;
        self.state = State::Lost;
        vec![Outcome::Lost]
    }

    fn busy(&mut self, now: Timestamp, holder: Option<String>) -> Vec<Outcome> {
        if self.was_held {
            return self.lost();
        }
        let is_final = now >= self.give_up_at;
        if !is_final {
            let again_at = (now + BUSY_RETRY).min(self.give_up_at);
            self.state = State::Busy { again_at };
        }
        if !is_final && self.told_holder == holder {
            return Vec::new();
        }
        self.told_holder.clone_from(&holder);
        vec![Outcome::Busy(GuardBusy { holder, position: 1, is_final })]
    }

    fn replace(&mut self, now: Timestamp, lease: Lease) -> Vec<Outcome> {
        let taken = Lease {
            holder: self.identity.run_id.clone(),
            host: self.identity.host.clone(),
            duration_s: LEASE_S,
            renewed_at: now,
            ..lease
        };
        self.ask(Asking::Replace, Some(ApiCall::UpdateLease(taken)))
    }

    fn ask(&mut self, asking: Asking, call: Option<ApiCall>) -> Vec<Outcome> {
        self.state = State::Asking(asking);
        call.map(Outcome::Call).into_iter().collect()
    }

    fn create(&self, now: Timestamp, wanted: &AcquireGuard) -> ApiCall {
        ApiCall::CreateLease(Lease {
            namespace: wanted.namespace.clone(),
            name: lease_name(&wanted.key),
            uid: String::new(),
            resource_version: String::new(),
            key: wanted.key.clone(),
            holder: self.identity.run_id.clone(),
            host: self.identity.host.clone(),
            duration_s: LEASE_S,
            renewed_at: now,
        })
    }

    fn read(&self) -> Option<ApiCall> {
        let wanted = self.wanted.as_ref()?;
        Some(ApiCall::GetLease { namespace: wanted.namespace.clone(), name: lease_name(&wanted.key) })
    }
}

/// A legal, deterministic name for the Lease of a key.
pub(crate) fn lease_name(key: &str) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(key.as_bytes());
    let hex: String = digest.iter().take(10).map(|byte| format!("{byte:02x}")).collect();
    format!("paperclip-guard-{hex}")
}

/// It was created or changed by somebody else, or by a call of this run whose answer was lost.
fn is_conflict(error: &ApiError) -> bool {
    error.status == Some(409)
}

fn is_expired(now: Timestamp, lease: &Lease) -> bool {
    expires_at(lease) <= now
}

/// When it expires unless it is renewed.
pub(crate) fn expires_at(lease: &Lease) -> Timestamp {
    lease.renewed_at + Duration::from_secs(lease.duration_s.into())
}

#[cfg(test)]
mod tests;
