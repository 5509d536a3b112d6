//! The time of a run.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use paperclip_engine::time::Timestamp;

/// Points in time of one run in one process.
///
/// The wall clock says when it starts, so that the times in a journal continue in a later process. From then on a clock counts that is never set and
/// runs through suspend: whatever happens to the wall clock meanwhile, a duration is what has really passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started_at: Timestamp,
    /// The time of [`elapsed`] then.
    elapsed_at_start: Timestamp,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { started_at: wall(), elapsed_at_start: elapsed() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.at(elapsed())
    }

    /// Returns how long it is until this time; zero if it has passed.
    pub(crate) fn until(&self, at: Timestamp) -> Duration {
        at.since(self.now())
    }

    fn at(&self, elapsed: Timestamp) -> Timestamp {
        self.started_at + elapsed.since(self.elapsed_at_start)
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

    #[test]
    fn only_the_time_that_has_passed_counts_whatever_the_wall_clock_says() {
        // The wall clock is not read again: it may be set by an hour in either direction.
        let clock = Clock {
            started_at: Timestamp::from_millis(1_000_000),
            elapsed_at_start: Timestamp::from_millis(70),
        };
        assert_eq!(clock.at(Timestamp::from_millis(70)), Timestamp::from_millis(1_000_000));
        assert_eq!(clock.at(Timestamp::from_millis(5_070)), Timestamp::from_millis(1_005_000));
        let clock = Clock::start();
        let now = clock.now();
        assert!(clock.now() >= now && now.since(wall()) < Duration::from_secs(60));
        assert!(clock.until(now + Duration::from_secs(5)) <= Duration::from_secs(5));
        assert_eq!(clock.until(Timestamp::EPOCH), Duration::ZERO);
    }
}
