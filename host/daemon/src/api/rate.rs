//! The rate limit of requests that change something: a token bucket that holds the tokens of one second.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::refusal::{Kind, Refusal};

#[derive(Debug)]
pub(super) struct Rate {
    per_second: f64,
    since: Instant,
    bucket: Mutex<Bucket>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Bucket {
    tokens: f64,
    at_s: f64,
}

impl Rate {
    pub(super) fn new(per_second: u32) -> Rate {
        let per_second = f64::from(per_second);
        let bucket = Bucket { tokens: per_second, at_s: 0.0 };
        Rate { per_second, since: Instant::now(), bucket: Mutex::new(bucket) }
    }

    pub(super) fn take(&self) -> Result<(), Refusal> {
        let now_s = self.since.elapsed().as_secs_f64();
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        if bucket.take(self.per_second, now_s) {
            return Ok(());
        }
        Err(Refusal::new(
            Kind::RateLimited,
            format!("more than {} requests a second", self.per_second),
            "send them more slowly, or raise limits.requests_per_second",
        ))
    }
}

impl Bucket {
    fn take(&mut self, per_second: f64, now_s: f64) -> bool {
        self.tokens = (self.tokens + (now_s - self.at_s) * per_second).min(per_second);
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
    fn takes_a_burst_of_one_second_and_then_the_rate() {
        let mut bucket = Bucket { tokens: 10.0, at_s: 0.0 };
        let taken = (0..20).filter(|_| bucket.take(10.0, 0.0)).count();
        assert_eq!(taken, 10);
        assert!(bucket.take(10.0, 0.11));
        assert!(!bucket.take(10.0, 0.11));
        let later = (0..20).filter(|_| bucket.take(10.0, 100.0)).count();
        assert_eq!(later, 10);
    }
}
