//! The commands of a step, and their ids.

use serde::{Deserialize, Serialize};

use crate::bindings::exports::paperclip::agent::types::{
    Action, Command, ObjectRef, Status, StatusLevel, Timer,
};

/// Commands of the current step. Ids increase over the whole run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outbox {
    last_id: u64,
    #[serde(skip)]
    commands: Vec<Command>,
}

impl Outbox {
    /// Adds a command and returns its id.
    pub(crate) fn push(&mut self, action: Action) -> u64 {
        self.last_id += 1;
        self.commands.push(Command { id: self.last_id, action });
        self.last_id
    }

    pub(crate) fn info(&mut self, text: impl Into<String>) {
        self.status(StatusLevel::Info, text.into());
    }

    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        self.status(StatusLevel::Warning, text.into());
    }

    fn status(&mut self, level: StatusLevel, text: String) {
        self.push(Action::EmitStatus(Status { level, text }));
    }

    pub(crate) fn set_timer(&mut self, timer: TimerName, after_ms: u64) {
        self.push(Action::SetTimer(Timer { timer: timer as u64, after_ms }));
    }

    /// Causes a step at this time. `pending_ms` is when the timer is due so far; one that is due earlier is kept, since the step that it causes
    /// can set it again.
    pub(crate) fn wake(&mut self, timer: TimerName, pending_ms: &mut Option<u64>, due_ms: u64, now_ms: u64) {
        if pending_ms.is_none_or(|pending_ms| pending_ms <= now_ms || pending_ms > due_ms) {
            *pending_ms = Some(due_ms);
            self.set_timer(timer, due_ms.saturating_sub(now_ms));
        }
    }

    pub(crate) fn cancel_timer(&mut self, timer: TimerName) {
        self.push(Action::CancelTimer(timer as u64));
    }

    pub(crate) fn take(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }
}

/// The timers of a run; the host gets the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum TimerName {
    /// Another run's Job has blocked this one for too long.
    Queue = 1,
    /// The pod does not start.
    Stall = 2,
    /// The run's own timeout.
    Run = 3,
    /// The agent has ended, and the rest of the attempt's data does not arrive.
    Settle = 4,
    /// A stop was requested, and the agent does not end.
    Stop = 5,
    /// The agent has reported its end, and its container keeps running.
    Ended = 6,
    /// The agent runs and prints nothing.
    Quiet = 7,
}

impl TimerName {
    pub(crate) fn from_number(number: u64) -> Option<TimerName> {
        let all = [
            TimerName::Queue,
            TimerName::Stall,
            TimerName::Run,
            TimerName::Settle,
            TimerName::Stop,
            TimerName::Ended,
            TimerName::Quiet,
        ];
        all.into_iter().find(|timer| *timer as u64 == number)
    }
}

/// Whether two references name the same object.
pub(crate) fn is_same(a: &ObjectRef, b: &ObjectRef) -> bool {
    a.uid == b.uid && a.name == b.name && a.namespace == b.namespace
}
