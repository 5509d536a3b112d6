//! One run: the plugin's commands become effects, what happens becomes the plugin's events.

mod adopting;
mod answers;
mod commands;
mod ending;
mod replay;
mod resume;
#[cfg(test)]
mod tests;

use paperclip_contract::types::{
    AcquireGuard, Action, ApiError, CancelRequest, Command, ContainerState, Deletion, Ending, Event,
    HttpAnswer, HttpFailure, JobSnapshot, ObjectRef, PodSnapshot, Refusal, Request,
};
use std::collections::VecDeque;
use std::time::Duration;

pub use replay::ReplayError;
pub(crate) use resume::decode as decode_snapshot;

use crate::calls::Calls;
use crate::guard::{Guard as Lock, Identity};
use crate::guest::Guest;
use crate::ids::{CommandId, PollId};
use crate::journal::{Entry, FORMAT};
use crate::ledger::Ledger;
use crate::logs::Logs;
use crate::policy::Policy;
use crate::polls::Polls;
use crate::port::{Closing, Effect, Input};
use crate::record::{Level, Record, SequencedRecord};
use crate::redact::Redactor;
use crate::result;
use crate::time::Timestamp;
use crate::unheard::Unheard;
use replay::Replay;

/// How long a host that stops waits until it has handed over what it holds.
pub const DETACH_TIMEOUT: Duration = Duration::from_secs(3);

/// What distinguishes this run from others, besides its request.
#[derive(Debug)]
pub struct RunSpec {
    pub request: Request,
    /// The host that drives it: two hosts never hold one run.
    pub host_id: String,
    /// Masks the run's own secrets in whatever leaves the engine.
    pub redactor: Redactor,
    /// Seed of all jitter of this run.
    pub seed: u64,
    pub plugin: PluginIdentity,
    /// What the plugin may ask for.
    pub policy: Policy,
    /// Interval of polls of Paperclip's API.
    pub poll_interval: Duration,
    pub segments: SegmentLimits,
    /// The Job that another host created for it, if it was taken up without its journal: no other is created.
    pub adopts: Option<ObjectRef>,
}

/// The plugin that decides for the run, for messages.
#[derive(Debug, Clone, Default)]
pub struct PluginIdentity {
    pub adapter_type: String,
    pub version: String,
    pub digest: String,
}

/// When a new segment of the journal begins, with a snapshot: at whichever comes first. They bound how long it takes to take a run up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentLimits {
    pub bytes: u64,
    pub age: Duration,
}

impl Default for SegmentLimits {
    fn default() -> Self {
        SegmentLimits { bytes: 64 << 20, age: Duration::from_secs(10 * 60) }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    /// Nothing was begun, or only replayed.
    New,
    /// The plugin decides.
    Live,
    /// The result is out; what is left is being removed.
    CleaningUp(Ending),
    /// The run goes on without this host, which hands over what it holds.
    Detaching {
        until: Timestamp,
    },
    Closed,
}

/// A guard that is given back at the end.
#[derive(Debug)]
enum Release {
    /// This process has it, or was asking for it.
    Held,
    /// An earlier host of the run may still hold it.
    Left(AcquireGuard),
}

/// The segment of the journal that is being written.
#[derive(Debug, Default)]
struct Segment {
    bytes: u64,
    since: Timestamp,
    has_steps: bool,
}

/// The engine of one run.
///
/// Feed it with [`Run::handle`], then carry out what [`Run::poll_effect`] returns until it returns none, and call again at
/// [`Run::deadline`] at the latest. A run that has a journal is first taken through it by [`Run::replay`].
#[derive(Debug)]
pub struct Run<G> {
    guest: G,
    spec: RunSpec,
    phase: Phase,
    now: Timestamp,
    /// By how much the run's time is ahead of this host's clock: an earlier host's was ahead of it.
    clock_lead: Duration,
    effects: VecDeque<Effect>,
    events: Vec<Event>,
    /// Step of the guest, for the journal and for messages.
    step: u64,
    ledger: Ledger,
    calls: Calls,
    lock: Lock,
    /// How the guard is given back, once what it guards is gone.
    release: Option<Release>,
    /// Commands that wait until it is certain that the guard is held.
    unguarded: Vec<(CommandId, Action)>,
    logs: Logs,
    polls: Polls,
    unheard: Unheard,
    segment: Segment,
    replay: Replay,
    /// Wishes to end it wait until it has the Job that it was taken up with: else that would be left to itself.
    held_cancel: Option<CancelRequest>,
}

impl<G: Guest> Run<G> {
    /// A run that has not begun: [`Input::Start`] begins it, or [`Input::Resume`] after its journal was replayed.
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
            lock: Lock::new(identity),
            release: None,
            unguarded: Vec::new(),
            logs: Logs::new(spec.seed),
            polls: Polls::new(spec.poll_interval),
            unheard: Unheard::default(),
            segment: Segment::default(),
            replay: Replay::default(),
            held_cancel: None,
            spec,
        }
    }

    /// Takes an input at a time. A time before that of the last input counts as the last input's.
    ///
    /// A run's time does not go back either when it is taken up by a host whose clock is behind: it goes on from there.
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
                | Input::Cancel(_)
                | Input::Stop
                | Input::Tick => {}
            },
            Phase::Live => {
                self.take_live(input);
                self.on_deadlines();
                self.step_guest();
                self.tell_cancel();
                self.step_guest();
                self.begin_segment_if_due();
            }
            Phase::CleaningUp(_) | Phase::Detaching { .. } => {
                self.take_closing(input);
                self.on_deadlines();
            }
            Phase::Closed => {}
        }
        self.close_when_done();
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Input::Tick`] is due at the latest.
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
            self.unheard.deadline(),
            self.calls.deadline(),
            self.lock.deadline(),
            self.logs.deadline(),
            self.polls.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// When the newest line of the logs that are read was written, by the node's clock.
    pub fn newest_line_at(&self) -> Option<Timestamp> {
        self.ledger.logs.values().filter_map(|log| log.position.newest_at()).max()
    }

    /// Where the run stands, in a few words.
    pub fn phase_text(&mut self) -> String {
        match self.phase {
            Phase::New => "new".to_owned(),
            Phase::Live => self.guest.phase().unwrap_or_else(|fault| fault.to_string()),
            Phase::CleaningUp(_) => "cleaning up".to_owned(),
            Phase::Detaching { .. } => "detaching".to_owned(),
            Phase::Closed => "closed".to_owned(),
        }
    }

    // ------------------------------------------------------------------ inputs

    fn start(&mut self) {
        self.segment.since = self.now;
        match self.guest.start(self.now, &self.spec.request) {
            Ok(Ok(commands)) => self.begin(commands),
            Ok(Err(refusal)) => self.refuse(&refusal),
            Err(fault) => {
                self.append_start();
                self.break_off(&fault);
            }
        }
    }

    fn begin(&mut self, commands: Vec<Command>) {
        self.phase = Phase::Live;
        self.append_start();
        self.take_commands(commands);
        self.step_guest();
    }

    fn append_start(&mut self) {
        let request = std::borrow::Cow::Borrowed(&self.spec.request);
        let line = Entry::Start { format: FORMAT, at: self.now, request }.to_line();
        self.append(line);
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.emit(Record::Result(result::of_refusal(refusal)));
        self.phase = Phase::Closed;
        self.effects.push_back(Effect::Close(Closing::Refused));
    }

    fn take_live(&mut self, input: Input) {
        match input {
            Input::Start | Input::Resume | Input::Tick => {}
            Input::Called { call, outcome } => self.on_called(call, outcome),
            Input::JobSeen(job) => self.see_job(job),
            Input::JobDeleted(gone) => self.see_job_gone(gone),
            Input::PodSeen(mut pod) => {
                self.mask_pod(&mut pod);
                self.on_pods(std::slice::from_ref(&pod));
                self.events.push(Event::PodObserved(pod));
            }
            Input::PodDeleted(gone) => {
                self.logs.on_pod_gone(self.now, &gone.object.uid);
                self.events.push(Event::PodDeleted(gone));
            }
            Input::LogOpened { log } => self.logs.on_opened(self.now, log),
            Input::LogBytes { log, bytes } => self.logs.on_bytes(self.now, log, &bytes),
            Input::LogHeld { log } => self.logs.on_held(self.now, log),
            Input::LogClosed { log, end } => self.logs.on_closed(self.now, log, end),
            Input::Polled { poll, outcome } => self.on_polled(poll, outcome),
            Input::Cancel(request) => {
                self.held_cancel = Some(request);
                self.tell_cancel();
            }
            Input::Note { level, text } => self.note(level, text),
            Input::Stop => self.detach(),
        }
        self.drain_logs();
    }

    /// On the way out nothing but answers to the engine's own calls, and the wish to exit, is of interest.
    fn take_closing(&mut self, input: Input) {
        match input {
            Input::Called { call, outcome } => self.on_called(call, outcome),
            Input::Stop => {
                self.phase = Phase::Closed;
                self.effects.push_back(Effect::Close(Closing::Detached));
            }
            Input::Start
            | Input::Resume
            | Input::Tick
            | Input::JobSeen(_)
            | Input::JobDeleted(_)
            | Input::PodSeen(_)
            | Input::PodDeleted(_)
            | Input::LogOpened { .. }
            | Input::LogBytes { .. }
            | Input::LogHeld { .. }
            | Input::LogClosed { .. }
            | Input::Polled { .. }
            | Input::Note { .. } => {}
            // It comes too late for this host, and has no effect on the run.
            Input::Cancel(request) => {
                if let Phase::Detaching { .. } = self.phase {
                    self.held_cancel = Some(request);
                }
            }
        }
    }

    pub(super) fn see_job(&mut self, job: JobSnapshot) {
        self.unheard.heard(&job.job.uid);
        self.events.push(Event::JobObserved(job));
    }

    pub(super) fn see_job_gone(&mut self, mut gone: Deletion) {
        self.unheard.heard(&gone.object.uid);
        gone.is_ours = self.ledger.deleted_jobs.contains_key(&gone.object.uid);
        self.events.push(Event::JobDeleted(gone));
    }

    /// A container's messages are text of the agent, too: the tail of its stderr comes by them.
    fn mask_pod(&self, pod: &mut PodSnapshot) {
        let mut messages: Vec<&mut Option<String>> = vec![&mut pod.message];
        for container in &mut pod.containers {
            match &mut container.state {
                ContainerState::Waiting(waiting) => messages.push(&mut waiting.message),
                ContainerState::Terminated(ended) => messages.push(&mut ended.message),
                ContainerState::Running(_) | ContainerState::Unknown => {}
            }
        }
        for message in messages.into_iter().flatten() {
            *message = self.spec.redactor.mask(std::mem::take(message));
        }
    }

    fn on_pods(&mut self, pods: &[PodSnapshot]) {
        for pod in pods {
            self.logs.on_pod(self.now, pod);
        }
    }

    fn on_polled(&mut self, poll: PollId, outcome: Result<(u16, String), ApiError>) {
        match outcome {
            Ok((status, body)) => {
                if self.polls.answered(self.now, poll, status, &body) {
                    self.events.push(Event::HttpAnswered(HttpAnswer { command: poll.get(), status, body }));
                }
            }
            Err(error) => {
                if let Some(count) = self.polls.failed(self.now, poll) {
                    self.events.push(Event::HttpFailed(HttpFailure { command: poll.get(), count, error }));
                }
            }
        }
    }

    fn on_deadlines(&mut self) {
        for call in self.calls.due(self.now) {
            self.call_again(call);
        }
        if self.lock.deadline().is_some_and(|at| at <= self.now) {
            let outcomes = self.lock.on_deadline(self.now);
            self.take_lock(outcomes);
        }
        if self.phase != Phase::Live {
            return;
        }
        self.call_guarded();
        self.look_at_unheard();
        for (poll, path) in self.polls.due(self.now) {
            self.effects.push_back(Effect::Poll { poll, path });
        }
        self.logs.on_deadline(self.now);
        self.drain_logs();
        let due = self.ledger.timers.iter().filter(|(_, at)| **at <= self.now);
        self.events.extend(due.map(|(timer, _)| Event::TimerFired(timer.get())));
    }

    /// SIGTERM: the run goes on without this host, which deletes nothing.
    fn detach(&mut self) {
        self.events.push(Event::HostStopping);
        self.step_guest();
        if self.phase != Phase::Live {
            return;
        }
        self.note(Level::Info, "this host stops; the run goes on in the cluster".to_owned());
        self.effects.push_back(Effect::Sync);
        self.ledger.close();
        self.polls.clear();
        self.unheard.clear();
        self.logs.stop_all();
        self.drain_logs();
        self.events.clear();
        self.phase = Phase::Detaching { until: self.now + DETACH_TIMEOUT };
        let outcomes = self.lock.hand_over(self.now);
        self.take_lock(outcomes);
    }

    // ------------------------------------------------------------------ outputs

    /// Tells something that the plugin does not know of; it is told again whenever the run is.
    fn note(&mut self, level: Level, text: String) {
        let text = self.spec.redactor.mask(text);
        let line = Entry::Note { level, text: text.as_str().into() }.to_line();
        self.append(line);
        self.emit(Record::Status { level, text });
    }

    fn append(&mut self, line: String) {
        self.segment.bytes += line.len() as u64;
        self.effects.push_back(Effect::Append(line));
    }

    fn emit(&mut self, record: Record) {
        let told = self.ledger.sequencer.tell(record);
        self.show(told);
    }

    /// Shows a record, with the run's own secrets masked where a plugin or a server wrote text.
    fn show(&mut self, told: SequencedRecord) {
        let record = match told.record {
            Record::Status { level, text } => Record::Status { level, text: self.spec.redactor.mask(text) },
            Record::Meta(meta) => Record::Meta(result::mask(meta, &self.spec.redactor)),
            record @ (Record::Log { .. } | Record::Gap { .. } | Record::Result(_)) => record,
        };
        self.effects.push_back(Effect::Emit(SequencedRecord { seq: told.seq, record }));
    }

    fn begin_segment_if_due(&mut self) {
        let limits = self.spec.segments;
        let is_old = self.now.since(self.segment.since) >= limits.age;
        let is_due = self.segment.bytes >= limits.bytes || (is_old && self.segment.has_steps);
        if self.phase != Phase::Live || !is_due {
            return;
        }
        let guest = match self.guest.snapshot() {
            Ok(guest) => guest,
            Err(fault) => return self.break_off(&fault),
        };
        let entry = Entry::Snapshot {
            format: FORMAT,
            seq: self.step,
            at: self.now,
            guest: resume::encode(&guest).into(),
            ledger: std::borrow::Cow::Borrowed(&self.ledger),
            request: Some(Box::new(std::borrow::Cow::Borrowed(&self.spec.request))),
        };
        let line = entry.to_line();
        self.segment = Segment { bytes: line.len() as u64, since: self.now, has_steps: false };
        self.effects.push_back(Effect::Segment(line));
    }
}
