//! Sorted latencies and their format.

use std::fmt;

/// Latencies of one kind, in µs.
#[derive(Debug, Default, Clone)]
pub(crate) struct Latencies {
    sorted_us: Vec<u64>,
}

impl Latencies {
    pub(crate) fn of(mut latencies_us: Vec<u64>) -> Latencies {
        latencies_us.sort_unstable();
        Latencies { sorted_us: latencies_us }
    }

    pub(crate) fn count(&self) -> usize {
        self.sorted_us.len()
    }

    /// Returns the latency in ms that this share of all latencies does not exceed.
    pub(crate) fn at_ms(&self, share: f64) -> f64 {
        let at = (self.sorted_us.len() as f64 * share).ceil() as usize;
        let us = self.sorted_us.get(at.saturating_sub(1)).or(self.sorted_us.last());
        us.copied().unwrap_or_default() as f64 / 1e3
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms ({} measured)",
            self.at_ms(0.50),
            self.at_ms(0.99),
            self.at_ms(1.0),
            self.count()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_the_latency_that_it_does_not_exceed() {
        let latencies = Latencies::of((1..=200).rev().map(|ms| ms * 1_000).collect());
        assert_eq!(latencies.to_string(), "p50 100.0 ms, p99 198.0 ms, max 200.0 ms (200 measured)");
        assert_eq!(Latencies::default().at_ms(0.99), 0.0);
    }
}
