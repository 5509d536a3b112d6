//! A process of a host that drives one run: the engine with its guest, and the effects that it carries out.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use paperclip_contract::types::{Action, ObjectRef};
use paperclip_engine::ids::CallId;
use paperclip_engine::journal::Entry;
use paperclip_engine::policy::{Grant, Policy};
use paperclip_engine::port::{Closing, Effect, Input};
use paperclip_engine::record::{Record, Stream};
use paperclip_engine::time::Timestamp;
use paperclip_engine::{PluginIdentity, Run, RunSpec, SegmentLimits};
use paperclip_guest::Instance;

use super::{Happening, LogStream, World};
use crate::fault::Fault;
use crate::guest::{Notes, Observed, Sabotage};
use crate::invariants::Shown;
use crate::marks::Mark;
use crate::mutant::{EffectSaboteur, Mutant, on_input};

/// How often a run asks Paperclip whether it is cancelled.
const POLL_INTERVAL: Duration = Duration::from_secs(15);

/// By how much hosts' clocks are off, in ms: with [`CLOCK_JUMP_MS`] no two differ by more than 30 s.
const CLOCKS_OFF_MS: [i64; 4] = [1_500, 10_000, -1_500, -10_000];

/// By how much a host's clock is set forward, in ms.
const CLOCK_JUMP_MS: i64 = 10_000;

/// One process for one run. It is never used again after its end.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) run: usize,
    pub(crate) engine: Run<Observed<Instance>>,
    pub(crate) notes: Rc<RefCell<Notes>>,
    pub(crate) is_alive: bool,
    /// When it began, in the world's time.
    pub(crate) since_ms: u64,
    /// It waits for the disk or the sink until it is unblocked.
    is_blocked: bool,
    inputs: VecDeque<Input>,
    pub(super) saboteur: EffectSaboteur,
    pub(super) follows: Vec<Follow>,
    pub(crate) streams: Vec<LogStream>,
    pub(crate) shown: Shown,
    tick_at_ms: Option<u64>,
    /// By how much its clock is ahead of the world's, in ms.
    pub(crate) clock_ahead_ms: i64,
    /// By how much it was set forward under it, in ms.
    pub(crate) clock_jumped_ms: i64,
    /// Calls that had no good answer yet, each with the time of the first bad one.
    pub(crate) unheard_since_ms: BTreeMap<CallId, u64>,
    /// Somebody waits to be told that its end is on disk.
    is_cancelling: bool,
    inputs_taken: u32,
    /// Calls that were sent, by id: the same one is sent again when it is retried.
    pub(super) last_call: Option<CallId>,
}

/// A Job that is watched, with a watch for each kind.
#[derive(Debug)]
pub(crate) struct Follow {
    pub(crate) job: ObjectRef,
    pub(crate) jobs: Cursor,
    pub(crate) pods: Cursor,
}

/// Where a watch stands in the server's log of versions.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    pub(crate) next: usize,
    pub(crate) is_down: bool,
    pub(crate) is_under_way: bool,
    /// It was told of the object before.
    pub(crate) has_seen: bool,
}

impl World {
    pub(super) fn start_run(&mut self, run: usize) {
        let process = self.spawn(run);
        self.give(process, Input::Start);
    }

    /// The next host of a run that was let go: through its journal, and on.
    pub(super) fn take_up(&mut self, run: usize) {
        if self.runs[run].process.is_some() || self.runs[run].is_closed {
            return;
        }
        self.mark(Mark::TakenUp);
        if self.runs[run].disk.is_torn() {
            self.mark(Mark::TailCut);
            if self.mutant != Some(Mutant::TornTailKept) {
                self.runs[run].disk.cut_torn_tail();
            }
        }
        let process = self.spawn(run);
        let lines = self.runs[run].disk.lines().len();
        self.tell(run, "host", format_args!("takes up {lines} lines"));
        if let Err(error) = self.replay(process) {
            // A plugin that was broken on purpose breaks in no replay: its run cannot be taken up.
            if self.swarm.has_broken_plugin() {
                self.end_process(process);
                self.runs[run].is_closed = true;
                return;
            }
            return self.violate("S7", format!("the journal is not taken: {error:#}"));
        }
        self.give(process, Input::Resume);
    }

    fn replay(&mut self, process: usize) -> anyhow::Result<()> {
        let run = self.processes[process].run;
        let lines = self.runs[run].disk.lines();
        let entries = lines.iter().map(|line| Entry::parse(line)).collect::<Result<Vec<_>, _>>()?;
        let snapshot = entries.iter().rposition(|entry| matches!(entry, Entry::Snapshot { .. })).unwrap_or(0);
        for (at, entry) in entries.into_iter().enumerate() {
            let followed = followed_pods(&entry);
            let engine = &mut self.processes[process].engine;
            if at < snapshot {
                engine.replay_records(entry);
            } else {
                engine.replay(entry)?;
            }
            while let Some(effect) = self.processes[process].engine.poll_effect() {
                match effect {
                    Effect::Emit(told) => self.show(process, told.record),
                    other => self.violate("S6", format!("a replay wants something done: {other:?}")),
                }
            }
            for pod in followed {
                self.processes[process].shown.reads(&pod);
            }
            self.mark(Mark::Resumed);
        }
        Ok(())
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
            poll_interval: POLL_INTERVAL,
            segments: SegmentLimits::default(),
            adopts: None,
            policy: Policy::new(Grant::default(), &truth.request),
        };
        let next_host = truth.next_host;
        let instance = self.plugin.instantiate();
        let notes = Notes::new(self.is_sampled);
        let (guest, notes) = Observed::new(instance, notes, self.mutant, u64::from(next_host));
        let index = self.processes.len();
        self.runs[run].process = Some(index);
        self.processes.push(Process {
            run,
            engine: Run::new(spec, guest),
            notes,
            is_alive: true,
            since_ms: self.now_ms,
            is_blocked: false,
            inputs: VecDeque::new(),
            saboteur: EffectSaboteur::new(self.mutant),
            follows: Vec::new(),
            streams: Vec::new(),
            shown: Shown::default(),
            tick_at_ms: None,
            clock_ahead_ms,
            clock_jumped_ms: 0,
            unheard_since_ms: BTreeMap::new(),
            is_cancelling: false,
            inputs_taken: 0,
            last_call: None,
        });
        index
    }

    /// Hands an input to a process, which takes it when it has done what it has to do.
    pub(super) fn give(&mut self, process: usize, input: Input) {
        if !self.processes[process].is_alive {
            return;
        }
        let input = match self.mutant {
            Some(mutant) => on_input(mutant, input),
            None => input,
        };
        self.processes[process].inputs.push_back(input);
        self.pump(process);
    }

    pub(super) fn unblock(&mut self, process: usize) {
        self.processes[process].is_blocked = false;
        self.pump(process);
    }

    pub(super) fn tick(&mut self, process: usize, at_ms: u64) {
        let this = &mut self.processes[process];
        if this.tick_at_ms == Some(at_ms) {
            this.tick_at_ms = None;
            self.give(process, Input::Tick);
        }
    }

    /// Inputs in, effects out, until nothing is left or the process has to wait.
    fn pump(&mut self, process: usize) {
        loop {
            let now_ms = self.now_ms;
            let this = &mut self.processes[process];
            if !this.is_alive || this.is_blocked {
                return;
            }
            if let Some(effect) = this.engine.poll_effect() {
                for effect in this.saboteur.on_effect(effect) {
                    if self.processes[process].is_alive {
                        self.carry_out(process, effect);
                    }
                }
                continue;
            }
            if this.is_cancelling && !this.engine.holds_cancel() {
                this.is_cancelling = false;
                self.note_cancel(process);
                continue;
            }
            let Some(input) = this.inputs.pop_front() else { break };
            let run = this.run;
            let fault =
                if let Input::Called { .. } = input { Fault::HostCrashAnswer } else { Fault::HostCrash };
            if self.strikes(fault, run) {
                return self.crash(process);
            }
            if self.strikes(Fault::HostStopped, run) {
                self.processes[process].inputs.push_front(input);
                self.processes[process].inputs.push_front(Input::Stop);
                continue;
            }
            let this = &mut self.processes[process];
            if let Input::Cancel(_) = input {
                this.is_cancelling = true;
                self.runs[this.run].cancelled_at_ms.get_or_insert(now_ms);
            }
            if self.trace.is_kept() {
                let text = crate::trace::input(&input);
                if !text.is_empty() {
                    self.tell(run, "in", format_args!("{text}"));
                }
            }
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
            if self.processes[process].clock_jumped_ms == 0 && self.strikes(Fault::ClockJumps, run) {
                self.processes[process].clock_jumped_ms = CLOCK_JUMP_MS;
                self.processes[process].clock_ahead_ms += CLOCK_JUMP_MS;
            }
            self.processes[process].inputs_taken += 1;
            let host_ms = self.host_ms(process, now_ms);
            self.processes[process].engine.handle(Timestamp::from_millis(host_ms), input);
        }
        self.plan_tick(process);
    }

    /// Who asked for the run's end is told once that is on disk.
    fn note_cancel(&mut self, process: usize) {
        self.sync(process);
        let Process { run, is_alive, .. } = self.processes[process];
        self.runs[run].is_cancel_noted |= is_alive;
    }

    /// A time as this process's clock shows it.
    pub(crate) fn host_ms(&self, process: usize, at_ms: u64) -> u64 {
        at_ms.saturating_add_signed(self.processes[process].clock_ahead_ms)
    }

    fn plan_tick(&mut self, process: usize) {
        let run = self.processes[process].run;
        let Some(due_at) = self.processes[process].engine.deadline() else {
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
        self.at(at_ms, Happening::Tick { process, at_ms });
    }

    fn carry_out(&mut self, process: usize, effect: Effect) {
        let run = self.processes[process].run;
        if self.mutant == Some(Mutant::AnswerLost) && self.is_of_lost_answer(process, &effect) {
            return;
        }
        match effect {
            Effect::Append(line) => self.append(process, line),
            Effect::Sync => self.sync(process),
            Effect::Segment(line) => {
                self.sync(process);
                if self.processes[process].is_alive {
                    self.append(process, line);
                }
            }
            Effect::Call { .. } if self.strikes(Fault::HostCrashEffect, run) => self.crash(process),
            Effect::Call { call, request } => self.send(process, call, request),
            Effect::Follow(job) => self.follow(process, job),
            Effect::OpenLog { log, pod, container: _, request } => {
                self.ask_for_log(process, log, &pod, request);
            }
            Effect::CloseLog(log) => self.processes[process].streams.retain(|stream| stream.log != log),
            Effect::Poll { poll, path: _ } => self.send_poll(process, poll),
            Effect::Emit(told) => self.show(process, told.record),
            Effect::Close(closing) => self.close(process, run, closing),
        }
    }

    /// What a replayed answer brings about is taken for done already: calls up to the first input after the journal.
    fn is_of_lost_answer(&self, process: usize, effect: &Effect) -> bool {
        let is_resuming =
            self.processes[process].inputs_taken == 1 && self.runs[self.processes[process].run].next_host > 1;
        is_resuming && matches!(effect, Effect::Call { .. })
    }

    fn append(&mut self, process: usize, line: String) {
        let run = self.processes[process].run;
        if self.strikes(Fault::HostCrashAppend, run) {
            return self.crash(process);
        }
        if self.strikes(Fault::DiskFull, run) {
            return self.let_go(process);
        }
        crate::invariants::no_secret(self, "the journal", &line);
        self.runs[run].disk.append(line);
    }

    fn sync(&mut self, process: usize) {
        let run = self.processes[process].run;
        if self.strikes(Fault::HostCrashSync, run) {
            return self.crash(process);
        }
        if self.strikes(Fault::SyncFails, run) {
            self.lose_unsynced(run);
            if self.mutant != Some(Mutant::SyncRetried) {
                return self.let_go(process);
            }
        }
        self.runs[run].disk.sync();
        if self.strikes(Fault::DiskSlow, run) {
            self.processes[process].is_blocked = true;
            let delay_ms = self.entropy.skewed(5, 5_000);
            self.after(delay_ms, Happening::Unblock { process });
        }
    }

    /// Without its journal a process must not drive a run: the run is left to the next host.
    fn let_go(&mut self, process: usize) {
        let run = self.processes[process].run;
        self.mark(Mark::LetGoForTheDisk);
        self.end_process(process);
        let delay_ms = 1_000 + self.entropy.skewed(0, 60_000);
        self.after(delay_ms, Happening::TakeUp(run));
    }

    /// Power is lost.
    fn crash(&mut self, process: usize) {
        let run = self.processes[process].run;
        self.mark(Mark::Crashed);
        self.end_process(process);
        self.lose_unsynced(run);
        let delay_ms = 500 + self.entropy.skewed(0, 120_000);
        self.after(delay_ms, Happening::TakeUp(run));
    }

    /// Of what was not synced some lines survive: after a crash, and after a sync that failed, which the kernel reports once.
    fn lose_unsynced(&mut self, run: usize) {
        let unsynced = self.runs[run].disk.unsynced() as u64;
        let surviving = self.entropy.below((unsynced + 1).min(256)) as usize;
        let is_torn = (surviving as u64) < unsynced && self.strikes(Fault::JournalTorn, run);
        let piece_bytes = if is_torn { 1 + self.entropy.below(256) as usize } else { 0 };
        self.runs[run].disk.crash(surviving, piece_bytes);
    }

    fn end_process(&mut self, process: usize) {
        let run = self.processes[process].run;
        self.processes[process].is_alive = false;
        self.processes[process].streams.clear();
        self.processes[process].follows.clear();
        self.runs[run].process = None;
    }

    fn show(&mut self, process: usize, record: Record) {
        let run = self.processes[process].run;
        if self.trace.is_kept() {
            let text = crate::trace::record(&record);
            self.tell(run, "out", format_args!("{text}"));
        }
        match record {
            Record::Log { stream: Stream::Stdout, index, text } => {
                crate::invariants::emitted_line(self, process, index, &text);
            }
            Record::Log { stream: Stream::Stderr, index, text } => {
                crate::invariants::emitted_stderr(self, process, index, &text);
            }
            Record::Gap { index, .. } => crate::invariants::emitted_gap(self, process, index),
            Record::Status { text, .. } => {
                self.mark_status(&text);
                crate::invariants::no_secret(self, "a status line", &text);
            }
            Record::Meta(meta) => {
                let text = serde_json::Value::Object(meta).to_string();
                crate::invariants::no_secret(self, "the meta record", &text);
            }
            Record::Result(result) => crate::invariants::result(self, process, run, &result),
        }
    }

    /// What a status line says to people tells what state was reached.
    fn mark_status(&mut self, text: &str) {
        for (words, mark) in [
            ("Waiting for run", Mark::Waited),
            ("with a fresh session", Mark::Retried),
            ("Reattached to Job", Mark::Adopted),
        ] {
            if text.contains(words) {
                self.mark(mark);
            }
        }
    }

    fn close(&mut self, process: usize, run: usize, closing: Closing) {
        self.tell(run, "host", format_args!("closed: {closing:?}"));
        self.end_process(process);
        match closing {
            Closing::Ended(_) => self.runs[run].is_closed = true,
            Closing::Refused => {
                self.runs[run].is_closed = true;
                self.runs[run].is_refused = true;
            }
            Closing::Detached => {
                self.mark(Mark::Detached);
                let delay_ms = self.entropy.skewed(500, 90_000);
                self.after(delay_ms, Happening::TakeUp(run));
            }
        }
    }
}

/// Pods whose logs the commands of an entry begin to read.
fn followed_pods(entry: &Entry<'_>) -> Vec<String> {
    let Entry::Commands { commands, .. } = entry else { return Vec::new() };
    let followed = commands.iter().filter_map(|command| match &command.action {
        Action::FollowLog(follow) => Some(follow.pod.uid.clone()),
        _ => None,
    });
    followed.collect()
}
