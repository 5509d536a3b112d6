//! A process of a host that drives one run: the product's driver with its engine and plugin, and an executor whose disk, sink, network
//! and clock are the world's.

mod operations;
mod sources;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use paperclip_contract::types::{Action, ObjectRef};
use paperclip_engine::driver::{Driver, DriverEvent, DriverLimits, Failure, Outcome, ReplayDepth};
use paperclip_engine::ids::CallId;
use paperclip_engine::journal::Entry;
use paperclip_engine::policy::{Grant, Policy};
use paperclip_engine::port::Closing;
use paperclip_engine::time::Timestamp;
use paperclip_engine::{PluginIdentity, ReplayError, Run, RunSpec, SegmentLimits};
use paperclip_guest::Instance;

use super::hosts::Host;
use super::{LogStream, World, WorldEvent};
use crate::coverage_points::CoveragePoint;
use crate::fault::Fault;
use crate::guest::{Notes, Observed, Sabotage};
use crate::invariants::Shown;
use crate::mutant::{Mutant, OperationSaboteur, Saboteur, on_event};
pub(crate) use sources::{Event, Failed, Sources};

/// How often a run asks Paperclip whether it is cancelled.
const POLL_INTERVAL: Duration = Duration::from_secs(15);

/// By how much hosts' clocks are off, in ms: no two differ by more than 20 s.
const CLOCKS_OFF_MS: [i64; 4] = [1_500, 10_000, -1_500, -10_000];

/// By how much a host's clock is set forward, in ms.
const CLOCK_JUMP_MS: i64 = 15 * 60_000;

/// Bytes that wait for the sink before no more logs are read: few, so that cases reach it.
pub(crate) const SINK_BYTES: usize = 4 << 10;

/// One process for one run. It is never used again after its end.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) run: usize,
    driver: Option<Box<Driver<Observed<Instance>, Failed>>>,
    pub(crate) notes: Rc<RefCell<Notes>>,
    pub(crate) is_alive: bool,
    /// When it started, in the world's time.
    pub(crate) since_ms: u64,
    /// It waits for the completion of an operation.
    blocked: Option<Blocked>,
    pub(crate) sources: Sources,
    pub(super) saboteur: OperationSaboteur,
    pub(super) follows: Vec<Follow>,
    pub(crate) streams: Vec<LogStream>,
    pub(crate) shown: Shown,
    /// Pods whose logs the last entry of the history starts to read.
    followed: Vec<String>,
    /// Its host in the namespace of the run's guard, once the run has joined it.
    pub(in crate::world) host: Option<Host>,
    is_sink_stalled: bool,
    /// Bytes of records that were shown and that the sink has not taken.
    pub(crate) untaken_bytes: usize,
    tick_at_ms: Option<u64>,
    /// By how much its clock is ahead of the world's, in ms.
    pub(crate) clock_ahead_ms: i64,
    /// By how much it was ahead when the process started, in ms.
    pub(crate) clock_off_ms: i64,
    /// By how much the wall clock was set forward while it ran, in ms.
    pub(crate) clock_jumped_ms: i64,
    /// Calls that had no good answer yet, each with the time of the first bad one.
    pub(crate) unanswered_since_ms: BTreeMap<CallId, u64>,
    /// Events that its driver has taken since the replay.
    events_taken: u32,
    /// Calls that were sent, by id: the same one is sent again when it is retried.
    pub(super) last_call: Option<CallId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocked {
    ByDisk,
    BySink,
}

impl Process {
    fn complete(&mut self, outcome: Result<(), Failed>) {
        if let Some(driver) = &mut self.driver {
            driver.handle_completion(outcome);
        }
    }
}

/// A Job that is watched, with a watch for each kind.
#[derive(Debug)]
pub(crate) struct Follow {
    pub(crate) job: ObjectRef,
    pub(crate) jobs: Cursor,
    pub(crate) pods: Cursor,
}

/// The position of a watch in the server's log of versions.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    pub(crate) next: usize,
    pub(crate) is_down: bool,
    pub(crate) is_under_way: bool,
    /// It has reported the object before.
    pub(crate) has_seen: bool,
}

impl World {
    pub(super) fn start_run(&mut self, run: usize) {
        let process = self.spawn(run);
        self.give(process, DriverEvent::HistoryEnded);
    }

    /// Another host resumes a run from its journal, unless a process holds the lock of the run's folder. The system releases it when
    /// that process ends, whatever ends it.
    pub(super) fn resume_run(&mut self, run: usize) {
        if self.runs[run].is_closed {
            return;
        }
        if self.runs[run].process.is_some() {
            self.cover(CoveragePoint::FolderLocked);
            self.trace_line(run, "host", format_args!("another host finds the folder locked"));
            if self.mutant != Some(Mutant::FolderLockIgnored) {
                return;
            }
        }
        self.cover(CoveragePoint::ResumedByNextHost);
        if self.runs[run].disk.is_torn() {
            self.cover(CoveragePoint::TailCut);
            if self.mutant != Some(Mutant::TornTailKept) {
                self.runs[run].disk.cut_torn_tail();
            }
        }
        let process = self.spawn(run);
        let lines = self.runs[run].disk.lines();
        let count = lines.len();
        let entries = lines.iter().map(|line| Entry::parse(line)).collect::<Result<Vec<_>, _>>();
        self.trace_line(run, "host", format_args!("resumes with {count} lines"));
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.fail_replay(process, "S7", &error.to_string()),
        };
        let snapshot = entries.iter().rposition(|entry| matches!(entry, Entry::Snapshot { .. })).unwrap_or(0);
        for (at, entry) in entries.into_iter().enumerate() {
            let depth = if at < snapshot { ReplayDepth::Records } else { ReplayDepth::Full };
            self.processes[process].sources.put(DriverEvent::HistoryEntry(depth, Box::new(entry)));
        }
        self.give(process, DriverEvent::HistoryEnded);
    }

    /// A plugin that was broken on purpose behaves well in a replay, so that its run cannot be resumed.
    fn fail_replay(&mut self, process: usize, rule: &'static str, error: &str) {
        if !self.swarm.has_broken_plugin() {
            return self.violate(rule, format!("the journal cannot be replayed: {error}"));
        }
        let run = self.processes[process].run;
        self.end_process(process);
        self.runs[run].is_closed = true;
    }

    fn spawn(&mut self, run: usize) -> usize {
        let is_clock_off = self.strikes(Fault::ClockOff, run);
        let clock_ahead_ms = if is_clock_off { *self.entropy.choose(&CLOCKS_OFF_MS) } else { 0 };
        let truth = &mut self.runs[run];
        truth.next_host += 1;
        let spec = RunSpec {
            request: truth.request.clone(),
            host_id: format!("host-{}", truth.plan.host),
            redactor: truth.redactor.clone(),
            seed: u64::from(truth.next_host) + run as u64 * 1_000,
            plugin: PluginIdentity::default(),
            poll_interval: Some(POLL_INTERVAL),
            segments: SegmentLimits::default(),
            adopts: None,
            record: None,
            verifies_record: false,
            policy: Policy::new(Grant::default(), &truth.request),
        };
        let next_host = truth.next_host;
        let instance = self.plugin.instantiate();
        let notes = Notes::new(self.is_sampled);
        let saboteur = Saboteur::new(self.mutant, Arc::clone(self.plugin.grammar()), u64::from(next_host));
        let (guest, notes) = Observed::new(instance, notes, saboteur);
        let limits = DriverLimits { sink_bytes: SINK_BYTES, ..DriverLimits::default() };
        let driver = Driver::new(Run::new(spec, guest), Vec::new()).with_limits(limits);
        let index = self.processes.len();
        self.runs[run].process = Some(index);
        self.processes.push(Process {
            run,
            driver: Some(Box::new(driver)),
            notes,
            is_alive: true,
            since_ms: self.now_ms,
            blocked: None,
            sources: Sources::default(),
            saboteur: OperationSaboteur::new(self.mutant),
            follows: Vec::new(),
            streams: Vec::new(),
            shown: Shown::default(),
            followed: Vec::new(),
            is_sink_stalled: false,
            untaken_bytes: 0,
            tick_at_ms: None,
            host: None,
            clock_ahead_ms,
            clock_off_ms: clock_ahead_ms,
            clock_jumped_ms: 0,
            unanswered_since_ms: BTreeMap::new(),
            events_taken: 0,
            last_call: None,
        });
        index
    }

    /// Hands an event to a process, whose driver takes it when it waits for its source.
    pub(super) fn give(&mut self, process: usize, event: Event) {
        if !self.processes[process].is_alive {
            return;
        }
        let event = match self.mutant {
            Some(mutant) => on_event(mutant, event),
            None => event,
        };
        self.processes[process].sources.put(event);
        self.pump(process);
    }

    /// The disk has made durable what a process waits for.
    pub(super) fn complete_sync(&mut self, process: usize) {
        self.unblock(process, Blocked::ByDisk, Ok(()));
    }

    /// The sink of a process that leaves did not take all records in time.
    pub(super) fn time_sink_out(&mut self, process: usize) {
        self.unblock(process, Blocked::BySink, Err(Failed::SinkTimedOut));
    }

    fn unblock(&mut self, process: usize, blocked: Blocked, outcome: Result<(), Failed>) {
        let this = &mut self.processes[process];
        if this.is_alive && this.blocked == Some(blocked) {
            this.blocked = None;
            this.complete(outcome);
            self.pump(process);
        }
    }

    pub(super) fn tick(&mut self, process: usize, at_ms: u64) {
        let this = &mut self.processes[process];
        if this.tick_at_ms == Some(at_ms) {
            this.tick_at_ms = None;
            self.give(process, DriverEvent::DeadlineReached { held_logs: Vec::new() });
        }
    }

    /// Runs the driver until it waits for an event that has not happened, or for an operation.
    fn pump(&mut self, process: usize) {
        loop {
            let this = &mut self.processes[process];
            if !this.is_alive || this.blocked.is_some() || self.violation.is_some() {
                return;
            }
            let Some(driver) = &mut this.driver else { return };
            if let Some(operation) = driver.poll_operation() {
                self.perform(process, operation);
                continue;
            }
            let bytes = std::mem::take(&mut this.sources.sink_progress_bytes);
            if bytes > 0 {
                driver.handle_event(Timestamp::EPOCH, DriverEvent::SinkProgress { bytes });
            }
            let Some(wait) = driver.poll_wait() else { return self.close(process) };
            match wait.sources().find_map(|source| this.sources.take(source)) {
                Some(event) => self.take(process, event, wait.may_block()),
                None if wait.may_block() => return self.plan_tick(process, wait.deadline()),
                None => driver.handle_event(Timestamp::EPOCH, DriverEvent::NothingReady),
            }
        }
    }

    /// The driver takes an event, unless a fault strikes before.
    fn take(&mut self, process: usize, event: Event, may_stop: bool) {
        let run = self.processes[process].run;
        let now_ms = self.now_ms;
        for pod in std::mem::take(&mut self.processes[process].followed) {
            self.processes[process].shown.reads(&pod);
        }
        match &event {
            DriverEvent::HistoryEntry(_, entry) => {
                self.processes[process].followed = followed_pods(entry);
                self.cover(CoveragePoint::Resumed);
                return self.handle(process, event);
            }
            DriverEvent::SinkProgress { .. } => return self.handle(process, event),
            _ => {}
        }
        let fault =
            if let DriverEvent::Called { .. } = event { Fault::HostCrashAnswer } else { Fault::HostCrash };
        if self.strikes(fault, run) {
            return self.crash(process);
        }
        if self.strikes(Fault::HostStopped, run) {
            let sources = &mut self.processes[process].sources;
            sources.put_back(DriverEvent::Stop);
            if may_stop {
                return sources.put_back(event);
            }
        }
        if self.strikes(Fault::SecondHost, run) {
            let delay_ms = self.entropy.skewed(0, 5_000);
            self.after(delay_ms, WorldEvent::SecondHost(run));
        }
        if let DriverEvent::Cancel { .. } = event {
            self.runs[run].cancelled_at_ms.get_or_insert(now_ms);
        }
        if self.trace.is_kept() {
            let text = crate::trace::event(&event);
            if !text.is_empty() {
                self.trace_line(run, "in", format_args!("{text}"));
            }
        }
        self.break_guest(process);
        if self.processes[process].clock_jumped_ms == 0 && self.strikes(Fault::ClockJumps, run) {
            self.processes[process].clock_jumped_ms = CLOCK_JUMP_MS;
            // A run counts what really passes: only where it starts does it read the wall clock.
            if self.mutant == Some(Mutant::WallClockFollowed) {
                self.processes[process].clock_ahead_ms += CLOCK_JUMP_MS;
            }
        }
        self.processes[process].events_taken += 1;
        match &event {
            DriverEvent::Log { log, .. } => {
                crate::invariants::logs_wait_for_the_sink(self, process);
                self.resume_reading(process, *log);
            }
            DriverEvent::DeadlineReached { held_logs } if !held_logs.is_empty() => {
                self.cover(CoveragePoint::LogHeld);
            }
            DriverEvent::Cancel { .. } if self.mutant == Some(Mutant::AcknowledgedEarly) => {
                self.acknowledge_cancels(process);
            }
            _ => {}
        }
        self.handle(process, event);
    }

    fn handle(&mut self, process: usize, event: Event) {
        let host_ms = self.host_ms(process, self.now_ms);
        if let Some(driver) = &mut self.processes[process].driver {
            driver.handle_event(Timestamp::from_millis(host_ms), event);
        }
    }

    fn break_guest(&mut self, process: usize) {
        let run = self.processes[process].run;
        for (fault, sabotage) in [
            (Fault::GuestTraps, Sabotage::Trap),
            (Fault::GuestOutOfFuel, Sabotage::OutOfFuel),
            (Fault::GuestOutOfMemory, Sabotage::OutOfMemory),
            (Fault::GuestAbsurd, Sabotage::Absurd),
        ] {
            if self.strikes(fault, run) {
                self.processes[process].notes.borrow_mut().sabotage = Some(sabotage);
            }
        }
    }

    /// A time as this process's clock shows it.
    pub(crate) fn host_ms(&self, process: usize, at_ms: u64) -> u64 {
        at_ms.saturating_add_signed(self.processes[process].clock_ahead_ms)
    }

    fn plan_tick(&mut self, process: usize, deadline: Option<Timestamp>) {
        let run = self.processes[process].run;
        let Some(due_at) = deadline else {
            self.processes[process].tick_at_ms = None;
            return;
        };
        let ahead_ms = self.processes[process].clock_ahead_ms;
        let due_ms = due_at.as_millis().saturating_add_signed(-ahead_ms).max(self.now_ms);
        if self.processes[process].tick_at_ms.is_some_and(|at_ms| at_ms == due_ms) {
            return;
        }
        let mut at_ms = due_ms;
        if self.strikes(Fault::TimerLate, run) {
            at_ms += self.entropy.skewed(10, 8_000);
        } else if self.strikes(Fault::TimerEarly, run) {
            at_ms = self.now_ms + (due_ms - self.now_ms) / 2;
        }
        self.processes[process].tick_at_ms = Some(at_ms);
        self.at(at_ms, WorldEvent::Tick { process, at_ms });
    }

    // ------------------------------------------------------------------ the end

    /// Power is lost.
    fn crash(&mut self, process: usize) {
        let run = self.processes[process].run;
        self.cover(CoveragePoint::Crashed);
        self.end_host(process, false);
        self.end_process(process);
        self.lose_unsynced(run);
        let delay_ms = 500 + self.entropy.skewed(0, 120_000);
        self.after(delay_ms, WorldEvent::Resume(run));
    }

    /// Of the lines that were not synced some survive: after a crash, and after a failed sync, which the kernel reports once.
    fn lose_unsynced(&mut self, run: usize) {
        let unsynced = self.runs[run].disk.unsynced() as u64;
        let surviving = self.entropy.below((unsynced + 1).min(256)) as usize;
        let is_torn = (surviving as u64) < unsynced && self.strikes(Fault::JournalTorn, run);
        let piece_bytes = if is_torn { 1 + self.entropy.below(256) as usize } else { 0 };
        self.runs[run].disk.crash(surviving, piece_bytes);
    }

    fn end_process(&mut self, process: usize) {
        self.end_host(process, true);
        let this = &mut self.processes[process];
        this.is_alive = false;
        this.driver = None;
        this.streams.clear();
        this.follows.clear();
        self.runs[this.run].process = None;
    }

    /// The driver has released its run.
    fn close(&mut self, process: usize) {
        let run = self.processes[process].run;
        let driver = self.processes[process].driver.take();
        let Some(Outcome { closing, failure, .. }) = driver.and_then(|driver| driver.into_outcome()) else {
            return;
        };
        self.trace_line(run, "host", format_args!("closed: {closing:?}"));
        match failure {
            Some(Failure::Replay(error @ ReplayError::Effect(_))) => {
                return self.violate("S6", error.to_string());
            }
            Some(Failure::Replay(error)) => return self.fail_replay(process, "S7", &error.to_string()),
            Some(Failure::External(Failed::Journal)) => return self.release_without_journal(process),
            Some(Failure::External(Failed::SinkTimedOut)) | None => {}
        }
        self.end_process(process);
        match closing {
            Closing::Ended(_) => {
                self.runs[run].is_closed = true;
                crate::invariants::ended_run_has_no_live_job(self, run);
            }
            Closing::Refused => {
                self.runs[run].is_closed = true;
                self.runs[run].is_refused = true;
            }
            // The scenarios have one host per run: no other drives it.
            Closing::Moved => self.violate("S2", "a run left its only host to another one".to_owned()),
            Closing::Detached => {
                self.cover(CoveragePoint::Detached);
                let delay_ms = self.entropy.skewed(500, 90_000);
                self.after(delay_ms, WorldEvent::Resume(run));
            }
        }
    }

    /// Without its journal a process must not drive a run: the run is left to the next host.
    fn release_without_journal(&mut self, process: usize) {
        let run = self.processes[process].run;
        self.cover(CoveragePoint::ReleasedForDisk);
        self.end_process(process);
        self.runs[run].disk.lose_unflushed();
        let delay_ms = 1_000 + self.entropy.skewed(0, 60_000);
        self.after(delay_ms, WorldEvent::Resume(run));
    }
}

/// Pods whose logs the commands of an entry start to read.
fn followed_pods(entry: &Entry<'_>) -> Vec<String> {
    let Entry::Commands { commands, .. } = entry else { return Vec::new() };
    let followed = commands.iter().filter_map(|command| match &command.action {
        Action::FollowLog(follow) => Some(follow.pod.uid.clone()),
        _ => None,
    });
    followed.collect()
}
