//! Limits of rates: of an identity's requests that change something, and of a peer's requests that are not authorised.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::connections::Origin;
use crate::refusal::{Kind, Refusal};

/// Requests without a valid token that a peer may send per second, and at once.
const STRANGER_PER_SECOND: f64 = 10.0;
const STRANGER_BURST: f64 = 60.0;
/// How many peers or identities are known at a time; a full bucket need not be remembered.
const MAX_BUCKETS: usize = 4_096;

/// Who an authorised request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// Whoever has the token.
    Token,
    /// A user of this machine.
    User(u32),
}

#[derive(Debug)]
pub(super) struct Rates {
    since: Instant,
    identities: Buckets<Identity>,
    strangers: Buckets<Origin>,
}

/// Token buckets by who takes from them.
#[derive(Debug)]
struct Buckets<K> {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Bucket {
    tokens: f64,
    at_s: f64,
}

impl Rates {
    pub(super) fn new(per_second: u32) -> Rates {
        let per_second = f64::from(per_second);
        Rates {
            since: Instant::now(),
            identities: Buckets::new(per_second, per_second),
            strangers: Buckets::new(STRANGER_PER_SECOND, STRANGER_BURST),
        }
    }

    /// Takes a request of an identity that changes something.
    pub(super) fn take(&self, identity: Identity) -> Result<(), Refusal> {
        if self.identities.take(identity, self.now_s()) {
            return Ok(());
        }
        Err(Refusal::new(
            Kind::RateLimited,
            format!("more than {} requests a second", self.identities.per_second),
            "send them more slowly, or raise limits.requests_per_second",
        ))
    }

    /// Takes a request that is not authorised.
    pub(super) fn take_unauthorised(&self, peer: Origin) -> Result<(), Refusal> {
        if self.strangers.take(peer, self.now_s()) {
            return Ok(());
        }
        Err(Refusal::new(
            Kind::RateLimited,
            format!("more than {STRANGER_PER_SECOND} requests a second without a valid token"),
            "send the token of this host's token file as Authorization: Bearer",
        ))
    }

    fn now_s(&self) -> f64 {
        self.since.elapsed().as_secs_f64()
    }
}

impl<K: Eq + Hash> Buckets<K> {
    fn new(per_second: f64, burst: f64) -> Buckets<K> {
        Buckets { per_second, burst, buckets: Mutex::default() }
    }

    fn take(&self, key: K, now_s: f64) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS {
            buckets.retain(|_, bucket| bucket.refilled(self.per_second, self.burst, now_s) < self.burst);
            if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&key) {
                return false;
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket { tokens: self.burst, at_s: now_s });
        bucket.take(self.per_second, self.burst, now_s)
    }
}

impl Bucket {
    fn refilled(&self, per_second: f64, burst: f64, now_s: f64) -> f64 {
        (self.tokens + (now_s - self.at_s) * per_second).min(burst)
    }

    fn take(&mut self, per_second: f64, burst: f64, now_s: f64) -> bool {
        self.tokens = self.refilled(per_second, burst, now_s);
        self.at_s = now_s;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_burst_and_then_the_rate() {
        let buckets = Buckets::new(10.0, 10.0);
        let taken = (0..20).filter(|_| buckets.take(Identity::Token, 0.0)).count();
        assert_eq!(taken, 10);
        assert!(buckets.take(Identity::Token, 0.11));
        assert!(!buckets.take(Identity::Token, 0.11));
        let later = (0..20).filter(|_| buckets.take(Identity::Token, 100.0)).count();
        assert_eq!(later, 10);
    }

    #[test]
    fn a_flood_without_a_token_takes_nothing_from_whoever_has_it_nor_from_other_peers() {
        let rates = Rates::new(5);
        let flood = (0..1_000).filter(|_| rates.take_unauthorised(Origin::V4(1)).is_ok()).count();
        assert!(flood < 100, "{flood}");
        assert!(rates.take_unauthorised(Origin::V4(2)).is_ok());
        assert!((0..5).all(|_| rates.take(Identity::Token).is_ok()));
        assert!((0..5).all(|_| rates.take(Identity::User(1)).is_ok()), "each identity has a rate of its own");
    }

    #[test]
    fn only_so_many_peers_are_remembered() {
        let buckets = Buckets::new(1.0, 2.0);
        assert_eq!((0..MAX_BUCKETS * 2).filter(|peer| buckets.take(*peer, 0.0)).count(), MAX_BUCKETS);
        assert!(buckets.take(MAX_BUCKETS * 3, 10.0), "the others are forgotten when their buckets are full");
    }
}
