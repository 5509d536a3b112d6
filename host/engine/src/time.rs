//! Points in time. The engine reads no clock: time is an argument of whatever depends on it.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time: whole milliseconds since 1970-01-01T00:00:00Z.
///
/// Arithmetic saturates at [`Timestamp::EPOCH`] and [`Timestamp::MAX`], so that no value that a plugin, a server or a journal supplies can
/// make it overflow. It serialises as the number of milliseconds.
///
/// ```
/// use std::time::Duration;
///
/// use paperclip_engine::time::Timestamp;
///
/// let started_at = Timestamp::from_millis(10_000);
/// let deadline = started_at + Duration::from_secs(5);
/// assert_eq!(deadline.as_millis(), 15_000);
/// assert_eq!(deadline.since(started_at), Duration::from_secs(5));
/// assert_eq!(started_at.since(deadline), Duration::ZERO);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Timestamp = Timestamp(0);
    /// A time that never comes.
    pub const MAX: Timestamp = Timestamp(u64::MAX);

    /// Returns the point in time this many milliseconds after the epoch.
    pub const fn from_millis(ms: u64) -> Timestamp {
        Timestamp(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns the time from `earlier` to this; zero if that is not earlier.
    pub const fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(millis(duration)))
    }
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;

    fn sub(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(millis(duration)))
    }
}

/// Returns a duration in whole milliseconds, the contract's unit.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::MAX + Duration::MAX, Timestamp::MAX);
        assert_eq!(Timestamp::from_millis(5) - Duration::from_secs(1), Timestamp::EPOCH);
        assert_eq!(Timestamp::EPOCH.since(Timestamp::MAX), Duration::ZERO);
    }

    #[test]
    fn serialises_as_number_of_milliseconds() {
        let text = serde_json::to_string(&Timestamp::from_millis(7)).expect("plain data");
        assert_eq!(text, "7");
        assert_eq!(
            serde_json::from_str::<Timestamp>(&text).expect("its own text"),
            Timestamp::from_millis(7)
        );
    }
}
