//! How long agents print nothing, in the steps of the metric `quiet_runs`.

use std::time::Duration;

/// The steps: a name, and from how many seconds on it counts.
pub(super) const QUIET_AGES: [(&str, u64); 4] = [("5m", 300), ("15m", 900), ("1h", 3_600), ("4h", 14_400)];

/// Returns the step of an agent that has printed nothing for so long, if it is quiet at all.
pub(super) fn quiet_age(quiet_for: Duration) -> Option<&'static str> {
    let reached = QUIET_AGES.iter().rev().find(|(_, seconds)| quiet_for.as_secs() >= *seconds);
    reached.map(|(age, _)| *age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_step_that_was_reached_counts() {
        for (seconds, age) in [
            (0, None),
            (299, None),
            (300, Some("5m")),
            (900, Some("15m")),
            (14_399, Some("1h")),
            (99_999, Some("4h")),
        ] {
            assert_eq!(quiet_age(Duration::from_secs(seconds)), age);
        }
    }
}
