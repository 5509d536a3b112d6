//! One run: the plugin's commands become effects, inputs become the plugin's events.

mod adopting;
mod answers;
mod commands;
mod ending;
mod inputs;
mod outputs;
mod recording;
mod replay;
mod resume;
mod spec;
mod state;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use paperclip_contract::types::{Action, CancelRequest, Event};

pub use replay::ReplayError;
pub use spec::{PluginIdentity, RunSpec, SegmentLimits};

use crate::calls::Calls;
use crate::guest::Guest;
use crate::ids::CommandId;
use crate::lease::{Identity, RunLease};
use crate::ledger::Ledger;
use crate::logs::Logs;
use crate::polls::Polls;
use crate::port::{Effect, Input};
use crate::time::Timestamp;
use crate::unobserved::UnobservedJobs;
use state::{Phase, Release, Remains, Replay, Segment};

/// How long a stopping host waits until it has handed over its Lease.
pub const DETACH_TIMEOUT: Duration = Duration::from_secs(3);

/// The engine of one run.
///
/// Call [`Run::handle`] with an input, carry out what [`Run::poll_effect`] returns until it returns `None`, and call [`Run::handle`] again
/// at [`Run::deadline`] at the latest. A run that has a journal is first taken through it by [`Run::replay`].
#[derive(Debug)]
pub struct Run<G> {
    guest: G,
    spec: RunSpec,
    phase: Phase,
    now: Timestamp,
    /// How far the run's time is ahead of this host's clock, because the clock of an earlier host was.
    clock_lead: Duration,
    effects: VecDeque<Effect>,
    events: Vec<Event>,
    /// Step of the guest, for the journal and for messages.
    step: u64,
    ledger: Ledger,
    calls: Calls,
    lease: RunLease,
    /// How the guard is released, once everything that it guards is deleted.
    release: Option<Release>,
    /// What is deleted once the run's record has the result.
    unrecorded: Option<Remains>,
    /// Commands that wait until it is certain that the Lease is held.
    deferred: Vec<(CommandId, Action)>,
    logs: Logs,
    polls: Polls,
    unobserved: UnobservedJobs,
    segment: Segment,
    replay: Replay,
    /// A cancel request waits until the run owns the Job that it adopts; otherwise that Job would be left running.
    pending_cancel: Option<CancelRequest>,
}

impl<G: Guest> Run<G> {
    /// Returns a run that has not started. [`Input::Start`] starts it, or [`Input::Resume`] after its journal was replayed.
    pub fn new(spec: RunSpec, guest: G) -> Self {
        let identity = Identity { run_id: spec.request.run_id.clone(), host: spec.host_id.clone() };
        Run {
            guest,
            phase: Phase::New,
            now: Timestamp::EPOCH,
            clock_lead: Duration::ZERO,
            effects: VecDeque::new(),
            events: Vec::new(),
            step: 0,
            ledger: Ledger::default(),
            calls: Calls::new(spec.seed),
            lease: RunLease::new(identity),
            release: None,
            unrecorded: None,
            deferred: Vec::new(),
            logs: Logs::new(spec.seed),
            polls: Polls::new(spec.poll_interval),
            unobserved: UnobservedJobs::default(),
            segment: Segment::default(),
            replay: Replay::default(),
            pending_cancel: None,
            spec,
        }
    }

    /// Processes an input that happens at this time. A time before that of the last input counts as that of the last input.
    ///
    /// A run's time does not go back when a host whose clock is behind resumes it either: it continues from the last time in the journal.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        if let (Phase::New, Input::Resume) = (&self.phase, &input) {
            self.clock_lead = self.now.since(now);
        }
        self.now = self.now.max(now + self.clock_lead);
        match self.phase {
            Phase::New => match input {
                Input::Start => self.start(),
                Input::Resume => self.resume(),
                Input::Note { level, text } => self.note(level, text),
                Input::Called { .. }
                | Input::JobSeen(_)
                | Input::JobDeleted(_)
                | Input::PodSeen(_)
                | Input::PodDeleted(_)
                | Input::LogOpened { .. }
                | Input::LogBytes { .. }
                | Input::LogHeld { .. }
                | Input::LogClosed { .. }
                | Input::Polled { .. }
                | Input::Host(_)
                | Input::GuardChanged
                | Input::Cancel(_)
                | Input::Stop
                | Input::Tick => {}
            },
            Phase::Live => {
                self.handle_live(input);
                self.on_deadlines();
                self.step_guest();
                self.deliver_cancel();
                self.step_guest();
                self.start_segment_if_due();
            }
            Phase::CleaningUp(_) | Phase::Detaching { .. } => {
                self.handle_closing(input);
                self.on_deadlines();
            }
            Phase::Closed => {}
        }
        self.close_when_done();
    }

    /// Returns the next effect to carry out.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Returns when [`Input::Tick`] is due at the latest.
    pub fn deadline(&self) -> Option<Timestamp> {
        if self.phase == Phase::Closed {
            return None;
        }
        let due_at = self.due_at()?;
        Some(due_at - self.clock_lead)
    }

    fn due_at(&self) -> Option<Timestamp> {
        let timer = self.ledger.timers.values().min().copied();
        let detached = match self.phase {
            Phase::Detaching { until } => Some(until),
            Phase::New | Phase::Live | Phase::CleaningUp(_) | Phase::Closed => None,
        };
        [
            timer,
            detached,
            self.unobserved.deadline(),
            self.calls.deadline(),
            self.lease.deadline(),
            self.logs.deadline(),
            self.polls.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Returns when the newest line of the logs that are read was written, by the node's clock.
    pub fn newest_line_at(&self) -> Option<Timestamp> {
        self.ledger.logs.values().filter_map(|log| log.position.newest_at()).max()
    }

    /// Returns the phase of the run in a few words.
    pub fn phase_text(&mut self) -> String {
        match self.phase {
            Phase::New => "new".to_owned(),
            Phase::Live => self.guest.phase().unwrap_or_else(|fault| fault.to_string()),
            Phase::CleaningUp(_) => "cleaning up".to_owned(),
            Phase::Detaching { .. } => "detaching".to_owned(),
            Phase::Closed => "closed".to_owned(),
        }
    }
}
