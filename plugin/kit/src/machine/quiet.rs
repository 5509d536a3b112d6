//! An agent that runs and prints nothing: status lines at growing intervals, and an end if the config has a limit.

use super::outbox::TimerName;
use super::region::IllegalTransition;
use super::regions::StopState;
use super::{Agent, Machine};
use crate::outcome::StreamEnd;

/// After how much silence the first status line is shown, in ms. Each further one is shown after twice the silence.
pub(super) const FIRST_SHOWN_MS: u64 = 5 * 60_000;

impl<A: Agent> Machine<A> {
    /// Decides about an agent whose container runs and whose log is read. While its log is interrupted, nothing is known about its silence.
    pub(super) fn decide_quiet(&mut self, now_ms: u64) -> Result<(), IllegalTransition> {
        let Some(since_ms) = self.activity.last_line_ms() else { return Ok(()) };
        let quiet_ms = now_ms.saturating_sub(since_ms);
        let is_open = self.agent.ended(&self.stream) == StreamEnd::Open;
        // An agent that has reported its end has other graces.
        let limit_ms = self.facts.settings.quiet_timeout_sec.filter(|_| is_open);
        let limit_ms = limit_ms.map(|seconds| u64::from(seconds) * 1_000);
        if limit_ms.is_some_and(|limit_ms| limit_ms <= quiet_ms) {
            self.stop.reason = Some(format!("it has printed nothing for {} s", quiet_ms / 1_000));
            self.stop.quiet_ms = Some(quiet_ms);
            return self.stop(now_ms, StopState::Stuck);
        }
        if quiet_ms < FIRST_SHOWN_MS {
            self.next_quiet_ms = FIRST_SHOWN_MS;
        } else if quiet_ms >= self.next_quiet_ms {
            let text = self.describe_silence(quiet_ms);
            self.outbox.warn(text);
            while self.next_quiet_ms <= quiet_ms {
                self.next_quiet_ms *= 2;
            }
        }
        let next_ms = limit_ms.map_or(self.next_quiet_ms, |limit_ms| limit_ms.min(self.next_quiet_ms));
        self.outbox.wake(TimerName::Quiet, &mut self.quiet_timer_ms, since_ms + next_ms, now_ms);
        Ok(())
    }

    fn describe_silence(&self, quiet_ms: u64) -> String {
        let minutes = quiet_ms / 60_000;
        let time = match (minutes / 60, minutes % 60) {
            (0, minutes) => format!("{minutes} min"),
            (hours, 0) => format!("{hours} h"),
            (hours, minutes) => format!("{hours} h {minutes} min"),
        };
        let last = self.agent.last_activity(&self.stream);
        let last = if last.is_empty() {
            "it has printed no event so far".to_owned()
        } else {
            format!("its last event was {last}")
        };
        format!("[paperclip] The agent has printed nothing for {time}: {last}")
    }
}
