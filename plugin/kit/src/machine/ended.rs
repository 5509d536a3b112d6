//! An agent that has reported its end, and whose container keeps running: waits for its background tasks and for its container, then
//! stops it. It also asks the agent type to watch an agent that runs.

use super::outbox::TimerName;
use super::region::IllegalTransition;
use super::regions::{LogState, StopState};
use super::{Agent, Machine, Watch};
use crate::outcome::StreamEnd;

/// How long an agent may run after its report before a status line says so, in ms: most end within a second.
const SHOWN_AFTER_MS: u64 = 5_000;

impl<A: Agent> Machine<A> {
    /// Decides about an agent whose container runs.
    pub(super) fn decide_running(&mut self, now_ms: u64) -> Result<(), IllegalTransition> {
        if !self.is_agent_running() || self.log.state != LogState::Following {
            return Ok(());
        }
        self.watch_agent(now_ms)?;
        if self.stop.state == StopState::NotRequested {
            self.decide_quiet(now_ms)?;
        }
        match self.agent.ended(&self.stream) {
            _ if self.stop.state != StopState::NotRequested => Ok(()),
            StreamEnd::Ended { open_tasks, .. } => self.decide_ended(now_ms, open_tasks),
            StreamEnd::Open => {
                self.shown_wait = None;
                Ok(())
            }
        }
    }

    fn watch_agent(&mut self, now_ms: u64) -> Result<(), IllegalTransition> {
        match self.agent.watch(&self.stream) {
            Watch::Fine => self.watch_status = None,
            Watch::Status(text) => {
                if self.watch_status.as_ref() != Some(&text) {
                    self.outbox.warn(format!("[paperclip] {text}"));
                    self.watch_status = Some(text);
                }
            }
            Watch::Stop(reason) => {
                self.stop.reason = Some(reason);
                self.stop(now_ms, StopState::Stuck)?;
            }
        }
        Ok(())
    }

    /// Each event of the agent starts its grace again.
    fn decide_ended(&mut self, now_ms: u64, open_tasks: u64) -> Result<(), IllegalTransition> {
        let Some(since_ms) = self.activity.last_event_ms() else { return Ok(()) };
        let grace_ms = self.ended_grace_ms(open_tasks);
        let due_ms = since_ms + grace_ms;
        if due_ms <= now_ms {
            return self.stop(now_ms, StopState::Reported);
        }
        let shown_ms = (since_ms + SHOWN_AFTER_MS).min(due_ms);
        if self.shown_wait == Some(open_tasks) {
            self.outbox.wake(TimerName::Ended, &mut self.ended_timer_ms, due_ms, now_ms);
        } else if shown_ms > now_ms {
            self.outbox.wake(TimerName::Ended, &mut self.ended_timer_ms, shown_ms, now_ms);
        } else {
            self.shown_wait = Some(open_tasks);
            let wait = describe_wait(open_tasks, grace_ms, due_ms - now_ms);
            self.outbox
                .info(format!("[paperclip] The agent has reported its end, and its process runs: {wait}"));
            self.outbox.wake(TimerName::Ended, &mut self.ended_timer_ms, due_ms, now_ms);
        }
        Ok(())
    }

    fn ended_grace_ms(&self, open_tasks: u64) -> u64 {
        let settings = &self.facts.settings;
        let seconds = if open_tasks > 0 { settings.background_grace_sec } else { settings.result_grace_sec };
        u64::from(seconds) * 1_000
    }
}

fn describe_wait(open_tasks: u64, grace_ms: u64, left_ms: u64) -> String {
    let tasks = match open_tasks {
        0 => return format!("it is stopped in {} s", left_ms.div_ceil(1_000)),
        1 => "its background task".to_owned(),
        count => format!("its {count} background tasks"),
    };
    format!("waiting for {tasks}, for at most {} s without an event", grace_ms / 1_000)
}
