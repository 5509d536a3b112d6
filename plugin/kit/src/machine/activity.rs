//! When the agent last printed something, as far as its log was read.

use serde::{Deserialize, Serialize};

/// The times of an agent's last output, in ms since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Activity {
    /// The last line, or the start of the log.
    line_ms: u64,
    /// The last event of the agent's stream, or the start of the log.
    event_ms: u64,
    /// Since when the log is interrupted: what the agent prints meanwhile is unknown.
    interrupted_since_ms: Option<u64>,
}

impl Activity {
    /// Records that the log is read from now on, by the first host or by the next one.
    pub(super) fn start(&mut self, now_ms: u64) {
        *self = Activity { line_ms: now_ms, event_ms: now_ms, interrupted_since_ms: None };
    }

    /// Records lines.
    pub(super) fn read(&mut self, now_ms: u64, has_event: bool) {
        self.resume(now_ms);
        self.line_ms = now_ms;
        if has_event {
            self.event_ms = now_ms;
        }
    }

    pub(super) fn interrupt(&mut self, now_ms: u64) {
        self.interrupted_since_ms.get_or_insert(now_ms);
    }

    /// The time of the interruption does not count as silence.
    pub(super) fn resume(&mut self, now_ms: u64) {
        if let Some(since_ms) = self.interrupted_since_ms.take() {
            let unknown_ms = now_ms.saturating_sub(since_ms);
            self.line_ms += unknown_ms;
            self.event_ms += unknown_ms;
        }
    }

    /// Returns the time of the last line, unless it is unknown.
    pub(super) fn last_line_ms(&self) -> Option<u64> {
        self.interrupted_since_ms.is_none().then_some(self.line_ms)
    }

    /// Returns the time of the last event, unless it is unknown.
    pub(super) fn last_event_ms(&self) -> Option<u64> {
        self.interrupted_since_ms.is_none().then_some(self.event_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_not_events_count_as_output_only() {
        let mut activity = Activity::default();
        activity.start(10);
        activity.read(20, true);
        activity.read(30, false);
        assert_eq!((activity.last_line_ms(), activity.last_event_ms()), (Some(30), Some(20)));
    }

    #[test]
    fn an_interruption_is_not_silence() {
        let mut activity = Activity::default();
        activity.start(10);
        activity.interrupt(20);
        activity.interrupt(30);
        assert_eq!((activity.last_line_ms(), activity.last_event_ms()), (None, None));
        activity.resume(50);
        activity.resume(60);
        assert_eq!((activity.last_line_ms(), activity.last_event_ms()), (Some(40), Some(40)));
        activity.interrupt(70);
        activity.read(90, false);
        assert_eq!((activity.last_line_ms(), activity.last_event_ms()), (Some(90), Some(60)));
    }
}
