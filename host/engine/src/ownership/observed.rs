//! The Leases of a namespace as a watch reports them, with the time at which each was observed to change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use paperclip_contract::types::ApiError;

use super::{HOST_LEASE_S, LeaseView, shuffle};
use crate::api::{HostLease, Lease};
use crate::time::Timestamp;

/// Hosts revoke an expired instance spread over this time.
const REVOCATION_SPREAD_MS: u64 = 1_000;
/// How long after a failed request the next one is sent.
const RETRY: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Seen<T> {
    value: T,
    /// When it was first observed at the resourceVersion that it has.
    since: Timestamp,
    /// No request about it is sent before this time.
    not_before: Timestamp,
}

/// A guard and for how long it has not changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guard<'a> {
    pub(super) lease: &'a Lease,
    pub(super) since: Timestamp,
    pub(super) not_before: Timestamp,
}

/// Whether the host that a guard names drives its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Lives,
    /// It lives as far as known, and is judged again at this time.
    LivesUntil(Timestamp),
    /// No host has the run.
    None,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Observations {
    guards: BTreeMap<String, Seen<Lease>>,
    hosts: BTreeMap<String, Seen<HostLease>>,
    /// Names of guards by the letters and digits of their runs' ids, which is what a label keeps of them.
    by_run: BTreeMap<String, String>,
}

impl Observations {
    /// Replaces everything by a list.
    pub(super) fn list(&mut self, now: Timestamp, leases: Vec<LeaseView>) {
        let listed: BTreeSet<&str> = leases.iter().map(LeaseView::name).collect();
        let known = self.guards.keys().chain(self.hosts.keys());
        let lost: Vec<String> = known.filter(|name| !listed.contains(name.as_str())).cloned().collect();
        for name in lost {
            self.remove(&name);
        }
        for lease in leases {
            self.see(now, lease);
        }
    }

    pub(super) fn see(&mut self, now: Timestamp, lease: LeaseView) {
        match lease {
            LeaseView::Guard(lease) => {
                if let Some(known) = self.guards.get(&lease.name) {
                    if known.value.resource_version == lease.resource_version {
                        return;
                    }
                    self.by_run.remove(&plain(&known.value.holder));
                }
                self.by_run.insert(plain(&lease.holder), lease.name.clone());
                let name = lease.name.clone();
                self.guards.insert(name, Seen { value: lease, since: now, not_before: now });
            }
            LeaseView::Host(lease) => {
                let known = self.hosts.get(&lease.name);
                if known.is_none_or(|known| known.value.resource_version != lease.resource_version) {
                    let name = lease.name.clone();
                    self.hosts.insert(name, Seen { value: lease, since: now, not_before: now });
                }
            }
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.hosts.remove(name);
        if let Some(guard) = self.guards.remove(name) {
            self.by_run.remove(&plain(&guard.value.holder));
        }
    }

    /// Returns the Leases of all hosts.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &HostLease> {
        self.hosts.values().map(|seen| &seen.value)
    }

    /// Returns all guards.
    pub(super) fn all(&self) -> impl Iterator<Item = Guard<'_>> {
        self.guards.values().map(Guard::of)
    }

    /// Returns the guard that the run with this label holds.
    pub(super) fn guard_of_label(&self, label: &str) -> Option<Guard<'_>> {
        let name = find(&self.by_run, label)?;
        self.guards.get(name).map(Guard::of)
    }

    /// Judges whether a host drives the run of a guard.
    pub(super) fn judge(&self, now: Timestamp, guard: Guard<'_>) -> Holder {
        let lease = guard.lease;
        if lease.is_released() {
            return Holder::None;
        }
        if lease.instance.is_empty() {
            // An older version holds and renews it.
            let expires_at = guard.since + Duration::from_secs(lease.duration_s.into());
            return if expires_at <= now { Holder::None } else { Holder::LivesUntil(expires_at) };
        }
        if self.hosts.contains_key(&lease.instance) { Holder::Lives } else { Holder::None }
    }

    /// Returns the instances whose Leases have expired. None of them is returned again before [`Observations::on_revocation_failed`].
    pub(super) fn expired_hosts(&mut self, now: Timestamp, nonce: &str, current: &str) -> Vec<HostLease> {
        let mut expired = Vec::new();
        for (name, seen) in &mut self.hosts {
            if name != current && seen.due_at(nonce) <= now {
                seen.not_before = Timestamp::MAX;
                expired.push(seen.value.clone());
            }
        }
        expired
    }

    pub(super) fn on_revocation_failed(&mut self, now: Timestamp, name: &str, error: &ApiError) {
        match error.status {
            Some(404) => self.remove(name),
            // It was renewed, and the watch will report it.
            Some(409) => {
                if let Some(seen) = self.hosts.get_mut(name) {
                    (seen.since, seen.not_before) = (now, now);
                }
            }
            Some(_) | None => {
                if let Some(seen) = self.hosts.get_mut(name) {
                    seen.not_before = now + RETRY;
                }
            }
        }
    }

    /// Notes that a request about a guard is under way.
    pub(super) fn on_disposal(&mut self, name: &str) {
        if let Some(seen) = self.guards.get_mut(name) {
            seen.not_before = Timestamp::MAX;
        }
    }

    pub(super) fn on_disposal_failed(&mut self, now: Timestamp, name: &str) {
        if let Some(seen) = self.guards.get_mut(name) {
            seen.not_before = now + RETRY;
        }
    }

    /// Returns when the next instance expires.
    pub(super) fn deadline(&self, nonce: &str, current: &str) -> Option<Timestamp> {
        let others = self.hosts.iter().filter(|(name, _)| *name != current);
        others.map(|(_, seen)| seen.due_at(nonce)).filter(|at| *at < Timestamp::MAX).min()
    }
}

impl Seen<HostLease> {
    /// When this instance is to be revoked unless it is renewed.
    fn due_at(&self, nonce: &str) -> Timestamp {
        let spread = shuffle(nonce, &self.value.name) % REVOCATION_SPREAD_MS;
        let expires_at =
            self.since + Duration::from_secs(HOST_LEASE_S.into()) + Duration::from_millis(spread);
        expires_at.max(self.not_before)
    }
}

impl<'a> Guard<'a> {
    fn of(seen: &'a Seen<Lease>) -> Guard<'a> {
        Guard { lease: &seen.value, since: seen.since, not_before: seen.not_before }
    }
}

/// Returns the letters and digits of an id: what a label that was made of it certainly keeps.
pub(super) fn plain(id: &str) -> String {
    id.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// Finds what belongs to the id from which a label was made.
pub(super) fn find<'a, V>(by_plain_id: &'a BTreeMap<String, V>, label: &str) -> Option<&'a V> {
    let label = plain(label);
    let (id, value) = by_plain_id.range(label.clone()..).next()?;
    crate::policy::is_label_of(&label, id).then_some(value)
}
