//! The time of a run.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Milliseconds since 1970 that never go back.
///
/// The wall clock leads, because leases are compared between hosts; where it is set back, time goes on at its own pace meanwhile, so that
/// no timer stands still for the hour that the clock lost.
#[derive(Debug)]
pub(crate) struct Clock {
    last_ms: u64,
    read_at: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { last_ms: wall_ms(), read_at: Instant::now() }
    }

    pub(crate) fn now_ms(&mut self) -> u64 {
        let elapsed = self.read_at.elapsed();
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        // The part of a millisecond that is left over is counted the next time.
        self.read_at += Duration::from_millis(elapsed_ms);
        self.last_ms = self.last_ms.saturating_add(elapsed_ms).max(wall_ms());
        self.last_ms
    }

    /// How long until this time comes; nothing if it has come.
    pub(crate) fn until(&mut self, at_ms: u64) -> Duration {
        Duration::from_millis(at_ms.saturating_sub(self.now_ms()))
    }
}

fn wall_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_goes_on_where_the_wall_clock_lags() {
        let mut clock = Clock::start();
        let start_ms = clock.now_ms();
        tokio::time::advance(Duration::from_secs(3_600)).await;
        let later_ms = clock.now_ms();
        assert!(later_ms >= start_ms + 3_600_000 && later_ms < start_ms + 3_660_000, "{start_ms} {later_ms}");
        assert_eq!(clock.until(later_ms + 5_000).as_secs(), 5);
        assert_eq!(clock.until(start_ms), Duration::ZERO);
    }
}
