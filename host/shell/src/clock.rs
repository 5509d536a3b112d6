//! The time of a run.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use paperclip_engine::time::{Timestamp, millis};
use tokio::time::Instant;

/// Points in time that never go back.
///
/// The wall clock leads, so that the times in a journal continue in a later process. If it is set back, time continues at its own pace until the wall clock
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

/// Returns the wall clock's time.
pub(crate) fn wall() -> Timestamp {
    Timestamp::EPOCH + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the time of a clock of this machine that runs through suspend and is never set. Only differences count.
#[cfg(target_os = "linux")]
pub(crate) fn elapsed() -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Timestamp::EPOCH + Duration::try_from(now).unwrap_or_default()
}

/// Returns the time of a clock of this machine that is never set. Only differences count.
#[cfg(not(target_os = "linux"))]
pub(crate) fn elapsed() -> Timestamp {
    static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
    Timestamp::EPOCH + START.elapsed()
}

/// Returns how long it is until a time of [`elapsed`]; zero if it has passed.
pub(crate) fn remaining(until: Timestamp) -> Duration {
    until.since(elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uptime_is_read_and_does_not_go_back() {
        let before = elapsed();
        assert!(before > Timestamp::EPOCH && elapsed() >= before);
        assert!(remaining(before + Duration::from_secs(60)) <= Duration::from_secs(60));
    }

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
