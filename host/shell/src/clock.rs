//! The time of a run.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use paperclip_engine::time::{Timestamp, millis};
use tokio::time::Instant;

/// Points in time that never go back.
///
/// The wall clock leads, because leases are compared between hosts. If it is set back, time continues at its own pace until the wall clock
/// has caught up, so that no timer waits for the hour that the clock lost.
#[derive(Debug)]
pub(crate) struct Clock {
    last: Timestamp,
    read_at: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { last: wall(), read_at: Instant::now() }
    }

    pub(crate) fn now(&mut self) -> Timestamp {
        // The part of a millisecond that is left over is counted the next time.
        let elapsed = Duration::from_millis(millis(self.read_at.elapsed()));
        self.read_at += elapsed;
        self.last = (self.last + elapsed).max(wall());
        self.last
    }

    /// Returns how long it is until this time; zero if it has passed.
    pub(crate) fn until(&mut self, at: Timestamp) -> Duration {
        at.since(self.now())
    }
}

fn wall() -> Timestamp {
    Timestamp::EPOCH + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_continues_while_the_wall_clock_lags() {
        let mut clock = Clock::start();
        let start = clock.now();
        tokio::time::advance(Duration::from_secs(3_600)).await;
        let later = clock.now();
        let elapsed = later.since(start);
        assert!(elapsed >= Duration::from_secs(3_600) && elapsed < Duration::from_secs(3_660), "{elapsed:?}");
        assert_eq!(clock.until(later + Duration::from_secs(5)).as_secs(), 5);
        assert_eq!(clock.until(start), Duration::ZERO);
    }
}
