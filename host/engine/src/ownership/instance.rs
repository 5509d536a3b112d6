//! The Lease of this process: created when it is needed, renewed, replaced by one of a new name when it was revoked, deleted at the end.

use std::time::Duration;

use paperclip_contract::types::ApiError;

use super::{CERTAIN_PERIOD, HostIdentity, HostState, RENEW_INTERVAL};
use crate::api::{ApiCall, ApiReply, HostLease};
use crate::calls::is_transient;
use crate::time::Timestamp;

/// How long after a failed request the next one is sent.
const RETRY: Duration = Duration::from_secs(2);

#[derive(Debug)]
enum State {
    /// No run needs this host.
    Idle,
    /// The Lease is to be created, at this time.
    Creating {
        at: Timestamp,
    },
    /// Its creation was requested at this time.
    Created {
        sent_at: Timestamp,
    },
    Held {
        lease: HostLease,
        renew_at: Timestamp,
    },
    /// Its renewal was requested at this time.
    Renewing {
        lease: HostLease,
        sent_at: Timestamp,
    },
    /// It is to be read, at this time: a request without an answer has changed it.
    Unread {
        lease: HostLease,
        at: Timestamp,
    },
    Reading(HostLease),
    Deleting,
    Stopped,
}

/// What follows.
#[derive(Debug)]
pub(super) enum Step {
    Call(ApiCall),
    Announce(HostState),
    Stopped,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Instance {
    template: HostLease,
    /// Names of instances start with this.
    prefix: String,
    /// Instances so far.
    count: u32,
    state: State,
    certain_until: Timestamp,
    announced: HostState,
    is_stopping: bool,
}

impl Instance {
    pub(super) fn new(identity: &HostIdentity) -> Instance {
        let template = HostLease {
            namespace: identity.namespace.clone(),
            name: String::new(),
            uid: String::new(),
            resource_version: String::new(),
            host: identity.host.clone(),
            address: identity.address.clone(),
            version: identity.version.clone(),
            renewed_at: Timestamp::EPOCH,
        };
        Instance {
            template,
            prefix: super::instance_prefix(&identity.nonce),
            count: 0,
            state: State::Idle,
            certain_until: Timestamp::EPOCH,
            announced: HostState::default(),
            is_stopping: false,
        }
    }

    /// The name of the current instance.
    pub(super) fn name(&self) -> String {
        if self.count <= 1 { self.prefix.clone() } else { format!("{}-{}", self.prefix, self.count) }
    }

    /// Returns whether it is the name of an instance of this process, current or not.
    pub(super) fn is_own(&self, name: &str) -> bool {
        name.strip_prefix(&self.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// Returns whether this host lives for certain.
    pub(super) fn is_certain(&self, now: Timestamp) -> bool {
        !self.is_stopping && !self.announced.instance.is_empty() && now < self.certain_until
    }

    pub(super) fn need(&mut self) {
        if let State::Idle = self.state {
            self.state = State::Creating { at: Timestamp::EPOCH };
        }
    }

    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match &self.state {
            State::Creating { at } => Some(*at),
            State::Held { renew_at, .. } => Some(*renew_at),
            State::Unread { at, .. } => Some(*at),
            State::Idle
            | State::Created { .. }
            | State::Renewing { .. }
            | State::Reading(_)
            | State::Deleting
            | State::Stopped => None,
        }
    }

    /// Returns what is to be done now.
    pub(super) fn poll(&mut self, now: Timestamp, wall: Timestamp) -> Vec<Step> {
        let mut steps = Vec::new();
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Idle | State::Creating { .. } if self.is_stopping => steps.push(Step::Stopped),
            State::Held { lease, .. } | State::Unread { lease, .. } if self.is_stopping => {
                self.state = State::Deleting;
                steps.push(Step::Call(ApiCall::DeleteHostLease(lease)));
            }
            State::Creating { at } if at <= now => {
                if self.count == 0 {
                    self.count = 1;
                }
                self.state = State::Created { sent_at: now };
                let lease = HostLease { name: self.name(), renewed_at: wall, ..self.template.clone() };
                steps.push(Step::Call(ApiCall::CreateHostLease(lease)));
            }
            State::Held { lease, renew_at } if renew_at <= now => {
                let renewed = HostLease { renewed_at: wall, ..lease.clone() };
                self.state = State::Renewing { lease, sent_at: now };
                steps.push(Step::Call(ApiCall::RenewHostLease(renewed)));
            }
            State::Unread { lease, at } if at <= now => {
                let (namespace, name) = (lease.namespace.clone(), lease.name.clone());
                self.state = State::Reading(lease);
                steps.push(Step::Call(ApiCall::GetHostLease { namespace, name }));
            }
            other => self.state = other,
        }
        let is_live = match self.state {
            State::Held { .. } | State::Renewing { .. } | State::Unread { .. } | State::Reading(_) => true,
            State::Idle
            | State::Creating { .. }
            | State::Created { .. }
            | State::Deleting
            | State::Stopped => false,
        };
        let state = if is_live && self.certain_until > Timestamp::EPOCH {
            HostState { instance: self.name(), certain_until: self.certain_until }
        } else {
            HostState::default()
        };
        if state != self.announced {
            self.announced = state.clone();
            steps.push(Step::Announce(state));
        }
        steps
    }

    pub(super) fn on_answer(&mut self, now: Timestamp, outcome: Result<ApiReply, ApiError>) {
        self.state = match std::mem::replace(&mut self.state, State::Stopped) {
            State::Created { sent_at } => match outcome {
                Ok(ApiReply::HostLease(Some(lease))) => self.hold(lease, sent_at, now),
                // The name is this process's: a creation whose answer was lost was applied, and may have been revoked since.
                Err(error) if error.status == Some(409) => self.replace(now),
                Ok(_) | Err(_) => State::Creating { at: now + RETRY },
            },
            State::Renewing { lease, sent_at } => match outcome {
                Ok(ApiReply::HostLease(Some(lease))) => self.hold(lease, sent_at, now),
                Err(error) if is_transient(&error) => State::Held { lease, renew_at: now + RETRY },
                // Only a renewal whose answer was lost changes it; a revocation deletes it.
                Err(error) if error.status == Some(409) => State::Unread { lease, at: now },
                Err(error) if error.status == Some(404) => self.replace(now),
                // A right is missing, or the answer is strange: it is tried again, and certainty ends meanwhile.
                Ok(_) | Err(_) => State::Held { lease, renew_at: now + RETRY },
            },
            State::Reading(lease) => match outcome {
                Ok(ApiReply::HostLease(Some(lease))) => State::Held { lease, renew_at: now },
                Ok(ApiReply::HostLease(None)) => self.replace(now),
                Ok(_) | Err(_) => State::Unread { lease, at: now + RETRY },
            },
            // If it had no effect, whoever observes the expiry of the Lease deletes it.
            State::Deleting => State::Idle,
            other @ (State::Idle
            | State::Creating { .. }
            | State::Held { .. }
            | State::Unread { .. }
            | State::Stopped) => other,
        };
    }

    fn hold(&mut self, lease: HostLease, sent_at: Timestamp, now: Timestamp) -> State {
        self.certain_until = sent_at + CERTAIN_PERIOD;
        State::Held { lease, renew_at: (sent_at + RENEW_INTERVAL).max(now) }
    }

    /// It was revoked: this process gets a new instance.
    fn replace(&mut self, now: Timestamp) -> State {
        self.count += 1;
        self.certain_until = Timestamp::EPOCH;
        State::Creating { at: now }
    }
}
