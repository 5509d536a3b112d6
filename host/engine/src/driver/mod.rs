//! The driver of a run, without I/O: which operation is next, what may be awaited, and what a failure means.
//!
//! A [`Driver`] owns the [`Run`] and decides everything between it and the world: how a journal's history is replayed, in which order
//! inputs are taken and how many of them together, that records are in the journal before they are shown, when a cancel is
//! acknowledged, when logs are read although the sink is slow, and how a run is released after a failure. An executor, such as the
//! tokio loop of `paperclip-shell` or the simulation, does the I/O and decides none of this:
//!
//! 1. It carries out what [`Driver::poll_operation`] returns, one operation after the other, until there is none. The outcome of an
//!    operation that [has one](Operation::has_completion) goes into [`Driver::handle_completion`] before the next poll.
//! 2. It asks [`Driver::poll_wait`] which sources may be read, takes the first event of the first source that has one, and hands it to
//!    [`Driver::handle_event`] with the time.
//! 3. Once [`Driver::poll_wait`] returns `None`, [`Driver::into_outcome`] says how the run left this process.

mod event;
mod operation;
#[cfg(test)]
mod tests;
mod wait;

use std::time::Duration;

use serde_json::{Map, Value};

pub use event::{DriverEvent, LogPiece, ReplayDepth, WatchEvent};
pub use operation::Operation;
pub use wait::{Source, Wait};

use crate::api::ApiCall;
use crate::guest::Guest;
use crate::journal::Entry;
use crate::port::{Closing, Effect, Input};
use crate::record::{Level, Record, SequencedRecord};
use crate::run::{ReplayError, Run};
use crate::time::Timestamp;

/// Limits of a driver's queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverLimits {
    /// Most inputs that are taken before their effects are carried out: one flush for the effects of all of them.
    pub batch: usize,
    /// No further input is taken into a batch that has this many bytes of logs.
    pub batch_bytes: usize,
    /// Bytes of records that wait for the sink before no more logs are read.
    pub sink_bytes: usize,
}

impl Default for DriverLimits {
    fn default() -> Self {
        DriverLimits { batch: 16, batch_bytes: 256 << 10, sink_bytes: 64 << 10 }
    }
}

/// How long the sink may take for the remaining records when the run is detached.
pub const DETACH_DEADLINE: Duration = Duration::from_secs(5);
/// What a record counts in the sink's queue besides its text, in bytes.
const RECORD_BYTES: usize = 64;

/// Returns what a record counts against [`DriverLimits::sink_bytes`]. The executor reports the same number once the sink has taken it.
pub fn queued_bytes(record: &Record) -> usize {
    let text = match record {
        Record::Log { text, .. } | Record::Status { text, .. } => text.len(),
        Record::Gap { .. } | Record::Meta(_) | Record::Result(_) => 0,
    };
    RECORD_BYTES + text
}

/// Why a run cannot be driven any further by this process. `E` is the executor's error.
#[derive(Debug)]
pub enum Failure<E> {
    /// The run cannot be resumed from its journal.
    Replay(ReplayError),
    /// The journal or the sink failed.
    External(E),
}

/// How a run left this process.
#[derive(Debug)]
pub struct Outcome<E> {
    pub closing: Closing,
    /// Paperclip's AdapterExecutionResult, if the run has one. It was shown too.
    pub result: Option<Map<String, Value>>,
    /// What forced this process to release the run; `closing` is [`Closing::Detached`] then unless there is a result.
    pub failure: Option<Failure<E>>,
}

/// Drives one run. `E` is the error of the executor's journal and sink.
#[derive(Debug)]
pub struct Driver<G, E> {
    run: Run<G>,
    limits: DriverLimits,
    phase: Phase,
    notes: Vec<(Level, String)>,
    /// An operation was returned and its completion is outstanding.
    is_pending: bool,
    /// What comes before the run's next effect.
    follow_up: Option<FollowUp>,
    /// Records that are shown together, once the journal contains them.
    unshown: Vec<SequencedRecord>,
    /// The effect that is carried out after these records are shown.
    held_effect: Option<Effect>,
    /// Lines were appended that a crash of this process would lose.
    is_unflushed: bool,
    /// The sender of a cancel waits until the cancel is durable.
    awaits_acknowledgement: bool,
    /// Lines of a log were shown since the lag was last reported.
    has_shown_lines: bool,
    is_control_open: bool,
    /// Bytes of records that were shown and that the sink has not taken.
    sink_bytes: usize,
    has_sink_failed: bool,
    /// The number after that of the last record that was shown.
    next_seq: u64,
    result: Option<Map<String, Value>>,
    failure: Option<Failure<E>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The run is taken through its history.
    Replaying,
    /// Effects are carried out.
    Acting,
    /// Inputs that are ready are taken, this many more at most, and these bytes of logs, before their effects are carried out.
    Gathering {
        left: usize,
        left_bytes: usize,
    },
    /// Nothing is to be done until the next event.
    Waiting,
    /// The run has left this process; the sink takes the remaining records.
    Closing(Closing),
    Closed(Closing),
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "all but the last one are operations")]
enum FollowUp {
    Perform(Operation),
    Close(Closing),
}

impl<G: Guest, E> Driver<G, E> {
    /// Returns the driver of a run that has not started. `notes` become part of the run's record once its history was replayed.
    pub fn new(run: Run<G>, notes: Vec<(Level, String)>) -> Self {
        Driver {
            run,
            limits: DriverLimits::default(),
            phase: Phase::Replaying,
            notes,
            is_pending: false,
            follow_up: None,
            unshown: Vec::new(),
            held_effect: None,
            is_unflushed: false,
            awaits_acknowledgement: false,
            has_shown_lines: false,
            is_control_open: true,
            sink_bytes: 0,
            has_sink_failed: false,
            next_seq: 0,
            result: None,
            failure: None,
        }
    }

    /// Replaces the default limits.
    #[must_use]
    pub fn with_limits(self, limits: DriverLimits) -> Self {
        Driver { limits, ..self }
    }

    // ------------------------------------------------------------------ events

    /// Takes an event at a time.
    pub fn handle_event(&mut self, now: Timestamp, event: DriverEvent<E>) {
        if matches!(self.phase, Phase::Closing(_) | Phase::Closed(_)) {
            return;
        }
        match event {
            DriverEvent::HistoryEntry(depth, entry) => self.replay(depth, *entry),
            DriverEvent::HistoryFailed(error) => self.fail(Failure::External(error)),
            DriverEvent::HistoryEnded => self.resume(now),
            DriverEvent::Cancel { request, awaits_acknowledgement } => {
                self.awaits_acknowledgement |= awaits_acknowledgement;
                self.handle_input(now, Input::Cancel(request));
            }
            DriverEvent::Stop => self.handle_input(now, Input::Stop),
            DriverEvent::ControlClosed => self.is_control_open = false,
            DriverEvent::Called { call, outcome } => {
                self.handle_input(now, Input::Called { call, outcome });
            }
            DriverEvent::Polled { poll, outcome } => {
                self.handle_input(now, Input::Polled { poll, outcome });
            }
            DriverEvent::Watch(event) => self.handle_input(now, event.into_input()),
            DriverEvent::DeadlineReached { held_logs } => {
                for log in held_logs {
                    self.run.handle(now, Input::LogHeld { log });
                }
                self.handle_input(now, Input::Tick);
            }
            DriverEvent::Log { log, piece } => {
                let bytes = piece.size();
                self.run.handle(now, piece.into_input(log));
                self.gather(bytes);
            }
            DriverEvent::SinkProgress { bytes } => self.sink_bytes = self.sink_bytes.saturating_sub(bytes),
            DriverEvent::SinkFailed(error) => self.on_sink_failed(now, error),
            DriverEvent::NothingReady => {
                if let Phase::Gathering { .. } = self.phase {
                    self.phase = Phase::Acting;
                }
            }
        }
    }

    fn handle_input(&mut self, now: Timestamp, input: Input) {
        self.run.handle(now, input);
        self.gather(0);
    }

    /// Counts an input with this many bytes of a log into the batch.
    fn gather(&mut self, bytes: usize) {
        let (left, left_bytes) = match self.phase {
            Phase::Waiting => (self.limits.batch, self.limits.batch_bytes),
            Phase::Gathering { left, left_bytes } => (left, left_bytes),
            Phase::Replaying | Phase::Acting | Phase::Closing(_) | Phase::Closed(_) => return,
        };
        self.phase = match (left.saturating_sub(1), left_bytes.saturating_sub(bytes)) {
            (0, _) | (_, 0) => Phase::Acting,
            (left, left_bytes) => Phase::Gathering { left, left_bytes },
        };
    }

    fn replay(&mut self, depth: ReplayDepth, entry: Entry<'static>) {
        match depth {
            ReplayDepth::Records => self.run.replay_records(entry),
            ReplayDepth::Full => {
                if let Err(cause) = self.run.replay(entry) {
                    self.fail(Failure::Replay(cause));
                }
            }
        }
    }

    fn resume(&mut self, now: Timestamp) {
        self.follow_up = Some(FollowUp::Perform(Operation::ReportCaughtUp { next_seq: self.next_seq }));
        for (level, text) in std::mem::take(&mut self.notes) {
            self.run.handle(now, Input::Note { level, text });
        }
        self.run.handle(now, Input::Resume);
        self.phase = Phase::Acting;
    }

    fn on_sink_failed(&mut self, now: Timestamp, error: E) {
        self.has_sink_failed = true;
        if self.phase == Phase::Replaying {
            return self.fail(Failure::External(error));
        }
        self.failure.get_or_insert(Failure::External(error));
        // With the result out, only the cleanup is left: that needs no sink.
        if self.result.is_none() {
            self.handle_input(now, Input::Stop);
        }
    }

    /// Takes the outcome of the operation that [`Driver::poll_operation`] returned last, if it [has one](Operation::has_completion).
    pub fn handle_completion(&mut self, outcome: Result<(), E>) {
        debug_assert!(self.is_pending, "no operation is outstanding");
        self.is_pending = false;
        if let Phase::Closing(closing) = self.phase {
            if let Err(error) = outcome {
                self.failure.get_or_insert(Failure::External(error));
            }
            self.phase = Phase::Closed(closing);
        } else if let Err(error) = outcome {
            self.fail(Failure::External(error));
        }
    }

    /// Releases the run. Without its journal it must not be driven here: what it does next would be unknown after a crash.
    fn fail(&mut self, failure: Failure<E>) {
        self.failure.get_or_insert(failure);
        self.close(Closing::Detached);
    }

    fn close(&mut self, closing: Closing) {
        self.follow_up = None;
        self.unshown.clear();
        self.held_effect = None;
        self.phase = if self.has_sink_failed { Phase::Closed(closing) } else { Phase::Closing(closing) };
    }

    // ------------------------------------------------------------------ operations

    /// Returns the next operation. There is none while the completion of the one before is outstanding.
    pub fn poll_operation(&mut self) -> Option<Operation> {
        if self.is_pending {
            return None;
        }
        let operation = match self.follow_up.take() {
            Some(FollowUp::Perform(operation)) => Some(operation),
            Some(FollowUp::Close(closing)) => {
                self.close(closing);
                self.next_operation()
            }
            None => self.next_operation(),
        }?;
        self.note_operation(&operation);
        Some(operation)
    }

    fn next_operation(&mut self) -> Option<Operation> {
        match self.phase {
            Phase::Replaying => self.replayed_operation(),
            Phase::Acting => self.acting_operation(),
            Phase::Gathering { .. } | Phase::Waiting | Phase::Closed(_) => None,
            Phase::Closing(closing) => {
                let is_leaving = matches!(closing, Closing::Detached | Closing::Moved);
                let within = is_leaving.then_some(DETACH_DEADLINE);
                Some(Operation::CloseSink { within })
            }
        }
    }

    /// Returns the operation of the effects of a replay, which show records and are no other.
    fn replayed_operation(&mut self) -> Option<Operation> {
        while let Some(effect) = self.run.poll_effect() {
            match effect {
                Effect::Emit(record) => self.unshown.push(record),
                other => {
                    self.fail(Failure::Replay(ReplayError::Effect(format!("{other:?}"))));
                    return self.next_operation();
                }
            }
        }
        (!self.unshown.is_empty()).then(|| self.show())
    }

    /// Returns the operation of the next effect. Records are collected until an effect other than an append follows, so that one flush
    /// and one handover to the sink suffice for all of them.
    fn acting_operation(&mut self) -> Option<Operation> {
        loop {
            let effect = self.held_effect.take().or_else(|| self.run.poll_effect());
            if !self.unshown.is_empty() && !matches!(effect, Some(Effect::Append(_) | Effect::Emit(_))) {
                self.held_effect = effect;
                return Some(self.show());
            }
            let Some(effect) = effect else { return self.operation_after_effects() };
            if let Some(operation) = self.operation(effect) {
                return Some(operation);
            }
        }
    }

    /// Returns the operation that shows the collected records. A record that was shown is in the journal even if this process is killed.
    fn show(&mut self) -> Operation {
        if self.is_unflushed { Operation::Flush } else { Operation::Show(std::mem::take(&mut self.unshown)) }
    }

    /// Returns the operation of an effect; none of a record, which is collected.
    fn operation(&mut self, effect: Effect) -> Option<Operation> {
        Some(match effect {
            Effect::Append(line) => Operation::Append(line),
            Effect::Sync => Operation::Sync,
            Effect::Segment(line) => Operation::StartSegment(line),
            // The Jobs that a run lists are watched from then on: the watch may prove that there are none.
            Effect::Call { call, request: ApiCall::ListJobs { namespace, labels } } => {
                let watch = Operation::WatchNamespace(namespace.clone());
                let request = ApiCall::ListJobs { namespace, labels };
                self.follow_up = Some(FollowUp::Perform(Operation::Call { call, request }));
                watch
            }
            Effect::Call { call, request } => Operation::Call { call, request },
            Effect::Join { namespace, guard } => Operation::Join { namespace, guard },
            Effect::Follow(job) => Operation::Follow(job),
            Effect::OpenLog { log, pod, container, request } => {
                Operation::OpenLog { log, pod, container, request }
            }
            Effect::CloseLog(log) => Operation::CloseLog(log),
            Effect::Poll { poll, path } => Operation::Poll { poll, path },
            Effect::Emit(record) => {
                self.unshown.push(record);
                return None;
            }
            Effect::Close(closing @ (Closing::Refused | Closing::Moved)) => {
                self.follow_up = Some(FollowUp::Close(closing));
                Operation::DiscardJournal
            }
            Effect::Close(closing @ (Closing::Ended(_) | Closing::Detached)) => {
                self.follow_up = Some(FollowUp::Close(closing));
                Operation::Sync
            }
        })
    }

    fn operation_after_effects(&mut self) -> Option<Operation> {
        if std::mem::take(&mut self.has_shown_lines)
            && let Some(newest_at) = self.run.newest_line_at()
        {
            return Some(Operation::ReportLag { newest_at });
        }
        if self.awaits_acknowledgement && !self.run.has_pending_cancel() {
            self.awaits_acknowledgement = false;
            self.follow_up = Some(FollowUp::Perform(Operation::AcknowledgeCancels));
            return Some(Operation::Sync);
        }
        self.phase = Phase::Waiting;
        None
    }

    fn note_operation(&mut self, operation: &Operation) {
        self.is_pending = operation.has_completion();
        match operation {
            Operation::Append(_) => self.is_unflushed = true,
            Operation::Flush | Operation::Sync | Operation::StartSegment(_) => self.is_unflushed = false,
            Operation::Show(records) => records.iter().for_each(|record| self.note_shown(record)),
            Operation::DiscardJournal
            | Operation::WatchNamespace(_)
            | Operation::Call { .. }
            | Operation::Join { .. }
            | Operation::Follow(_)
            | Operation::OpenLog { .. }
            | Operation::CloseLog(_)
            | Operation::Poll { .. }
            | Operation::AcknowledgeCancels
            | Operation::ReportCaughtUp { .. }
            | Operation::ReportLag { .. }
            | Operation::CloseSink { .. } => {}
        }
    }

    fn note_shown(&mut self, record: &SequencedRecord) {
        self.next_seq = record.seq + 1;
        self.sink_bytes += queued_bytes(&record.record);
        match &record.record {
            Record::Result(result) => self.result = Some(result.clone()),
            Record::Log { .. } => self.has_shown_lines |= self.phase != Phase::Replaying,
            Record::Gap { .. } | Record::Status { .. } | Record::Meta(_) => {}
        }
    }

    // ------------------------------------------------------------------ waiting

    /// Returns what may be awaited once no operation is left, or `None` when the run has left this process.
    pub fn poll_wait(&self) -> Option<Wait> {
        let has_capacity = self.has_sink_failed || self.sink_bytes < self.limits.sink_bytes;
        let wait = match self.phase {
            Phase::Closed(_) => return None,
            _ if self.is_pending => Wait::blocking(),
            Phase::Replaying if has_capacity => Wait::blocking().with(Source::History),
            Phase::Replaying => Wait::blocking().with(Source::SinkFailure).with(Source::SinkProgress),
            Phase::Gathering { .. } => Wait::ready_only()
                .with(Source::Answers)
                .with(Source::Watches)
                .with_if(has_capacity, Source::Logs),
            // Logs are read only while the sink keeps up: that is the back-pressure, down to the agent's socket.
            Phase::Acting | Phase::Waiting | Phase::Closing(_) => Wait::blocking()
                .with_if(self.is_control_open, Source::Control)
                .with(Source::Answers)
                .with(Source::Watches)
                .with_deadline(self.run.deadline())
                .with_if(has_capacity, Source::Logs)
                .with_if(!self.has_sink_failed, Source::SinkFailure)
                .with_if(!has_capacity, Source::SinkProgress),
        };
        Some(wait)
    }

    /// Returns how the run left this process, or `None` while it has not.
    pub fn into_outcome(self) -> Option<Outcome<E>> {
        let Phase::Closed(closing) = self.phase else { return None };
        Some(Outcome { closing, result: self.result, failure: self.failure })
    }
}
