//! The world of the ownership simulation: what happens, in which order, and what must hold.

mod calm;
mod handover;
mod invariants;
mod watches;

use std::collections::BTreeMap;

use paperclip_contract::types::{ApiError, ObjectRef};
use paperclip_engine::api::{ApiCall, ApiReply, SUPERSEDED};
use paperclip_engine::ids::CallId;
use paperclip_engine::ownership::{Effect, Input, Obstacle, Prepared};

use super::cluster::Cluster;
use super::driver::{Driver, Left, Origin, Step};
use super::mutant::{Mutant, on_answer, on_request, on_state};
use super::process::{NO_ANSWER_MS, Process, Slot};
use super::{Figures, Outcome};
use crate::agenda::Agenda;
use crate::entropy::Entropy;
use handover::Released;

/// From this time on no fault strikes, in ms.
const HEALING_MS: u64 = 15 * 60_000;
/// When everything must be over.
const END_MS: u64 = 45 * 60_000;
/// How long a process may take to stop before it is killed.
const STOP_GRACE_MS: u64 = 15_000;
/// How long everything must have been over until the case is: whatever is under way arrives within this time.
const QUIET_MS: u64 = 60_000;
/// Most events of a case.
const MAX_EVENTS: u64 = 400_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Host(CallId),
    Run(usize, u64),
}

#[derive(Debug)]
enum Event {
    Start(usize),
    Kill(usize),
    Pause { slot: usize, ms: u64 },
    Cut { slot: usize, ms: u64 },
    Stop(usize),
    KillProcess(usize),
    Post { run: usize, slot: usize },
    Cancel(usize),
    Send { process: usize, sender: Sender, request: Box<ApiCall>, is_answer_lost: bool },
    Answer { process: usize, sender: Sender, outcome: Box<Result<ApiReply, ApiError>> },
    Watch { process: usize, is_of_leases: bool, upto: usize },
    List { process: usize, is_of_leases: bool },
    Tick(usize),
    RunTick { process: usize, run: usize },
    Prepared { process: usize, job_uid: String, outcome: Result<Prepared, Obstacle> },
    AgentEnds(String),
    Remove(String),
    Check,
}

#[derive(Debug)]
struct Run {
    id: String,
    key: String,
    is_posted: bool,
    results: Vec<(usize, bool)>,
    /// When its agent ends after its start, in ms.
    takes_ms: u64,
    jobs: Vec<String>,
}

/// Since when a Job has had no host that drives it, and what it lost its host by.
#[derive(Debug, Clone, Copy)]
struct Undriven {
    since: u64,
    is_released: bool,
    /// [`World::unhosted_ms`] at that time.
    unhosted_ms: u64,
}

#[derive(Debug)]
pub(super) struct World {
    now: u64,
    entropy: Entropy,
    agenda: Agenda<Event>,
    cluster: Cluster,
    slots: Vec<Slot>,
    processes: Vec<Process>,
    runs: Vec<Run>,
    mutant: Option<Mutant>,
    is_shown: bool,
    /// Watches are slow, requests are lost, preparations fail.
    has_lags: bool,
    /// When a process was last disturbed.
    disturbed_ms: u64,
    /// Since when every run has ended and nothing is left.
    over_since: Option<u64>,
    undriven: BTreeMap<String, Undriven>,
    /// For how long no healthy host was there in all, in ms: no figure counts that.
    unhosted_ms: u64,
    checked_ms: u64,
    /// Guards that were released while runs wait for them, by their keys.
    released: BTreeMap<String, Released>,
    /// Who changed a Job first in which epoch.
    actors: BTreeMap<(String, u64), usize>,
    lines: Vec<String>,
    violation: Option<(&'static str, String)>,
    figures: Figures,
}

impl World {
    pub(super) fn new(mut entropy: Entropy, mutant: Option<Mutant>, is_shown: bool) -> World {
        let slot_count = 2 + entropy.below(2) as usize;
        let slots = (0..slot_count).map(|_| Slot {
            process: None,
            has_volume: entropy.chance(96),
            folders: Default::default(),
            generation: 0,
        });
        let slots = slots.collect();
        let run_count = 1 + entropy.below(8) as usize;
        let runs = (0..run_count).map(|index| Run {
            id: format!("run-{index}"),
            // Some runs are of one agent.
            key: format!("agent-{}", if entropy.chance(64) { 0 } else { index }),
            is_posted: false,
            results: Vec::new(),
            takes_ms: 5_000 + entropy.skewed(0, 600_000),
            jobs: Vec::new(),
        });
        let runs = runs.collect();
        let has_lags = entropy.chance(128);
        let mut world = World::of(entropy, slots, runs, has_lags, mutant, is_shown);
        world.plan();
        world
    }

    fn of(
        entropy: Entropy,
        slots: Vec<Slot>,
        runs: Vec<Run>,
        has_lags: bool,
        mutant: Option<Mutant>,
        is_shown: bool,
    ) -> World {
        World {
            now: 0,
            entropy,
            agenda: Agenda::default(),
            cluster: Cluster::new(mutant),
            slots,
            processes: Vec::new(),
            runs,
            mutant,
            is_shown,
            has_lags,
            disturbed_ms: 0,
            over_since: None,
            undriven: BTreeMap::new(),
            unhosted_ms: 0,
            checked_ms: 0,
            released: BTreeMap::new(),
            actors: BTreeMap::new(),
            lines: Vec::new(),
            violation: None,
            figures: Figures::default(),
        }
    }

    fn plan(&mut self) {
        for slot in 0..self.slots.len() {
            let at = self.entropy.below(3_000);
            self.at(at, Event::Start(slot));
        }
        for run in 0..self.runs.len() {
            let at = 1_000 + self.entropy.below(256) * 700;
            let slot = self.entropy.below(self.slots.len() as u64) as usize;
            self.at(at, Event::Post { run, slot });
            // A client that has no answer asks another replica at once.
            if self.entropy.chance(80) {
                let delay = self.entropy.below(256) * 20;
                let slot = self.entropy.below(self.slots.len() as u64) as usize;
                self.at(at + delay, Event::Post { run, slot });
            }
            if self.entropy.chance(48) {
                let delay = self.entropy.below(256) * 2_000;
                self.at(at + delay, Event::Cancel(run));
            }
            self.at(HEALING_MS + 10 * 60_000, Event::Cancel(run));
        }
        for _ in 0..self.entropy.below(10) {
            let at = 5_000 + self.entropy.below(256) * (HEALING_MS / 260);
            let slot = self.entropy.below(self.slots.len() as u64) as usize;
            let event = match self.entropy.below(5) {
                0 => Event::Stop(slot),
                1 => Event::Kill(slot),
                2 => Event::Pause {
                    slot,
                    ms: *self.entropy.choose(&[65_000, 12_000, 30_000, 41_000, 180_000]),
                },
                3 => Event::Cut { slot, ms: *self.entropy.choose(&[65_000, 8_000, 28_000, 45_000, 300_000]) },
                // A roll-out: one after another.
                _ => {
                    for slot in 0..self.slots.len() {
                        self.at(at + slot as u64 * 4_000, Event::Stop(slot));
                    }
                    continue;
                }
            };
            self.at(at, event);
        }
        self.at(1_000, Event::Check);
    }

    pub(super) fn run(&mut self) {
        let mut events = 0;
        while self.violation.is_none() {
            let Some((at, event)) = self.agenda.pop() else { break };
            self.now = self.now.max(at);
            events += 1;
            if self.now > END_MS || self.over_since.is_some_and(|since| self.now > since + QUIET_MS) {
                break;
            }
            if events > MAX_EVENTS {
                self.violate("O6", format!("{events} events, and the case is not over: {event:?}"));
                break;
            }
            self.advance(event);
        }
        if self.violation.is_none() {
            self.check_end();
        }
    }

    fn advance(&mut self, event: Event) {
        let known = self.cluster.log.len();
        self.take(event);
        self.plan_watches(known);
    }

    pub(super) fn into_outcome(mut self) -> Outcome {
        self.figures.runs = self.runs.iter().filter(|run| run.is_posted).count() as u64;
        Outcome { violation: self.violation, lines: self.lines, figures: self.figures }
    }

    fn at(&mut self, at: u64, event: Event) {
        let tie = self.entropy.byte() & 7;
        self.agenda.put(at.max(self.now), tie, event);
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    fn violate(&mut self, rule: &'static str, text: String) {
        self.violation.get_or_insert((rule, text));
    }

    fn line(&mut self, text: impl FnOnce() -> String) {
        if self.is_shown {
            self.lines.push(format!("{:>8} {}", self.now, text()));
        }
    }

    fn is_healed(&self) -> bool {
        self.now >= HEALING_MS
    }

    // ---------------------------------------------------------------------- events

    fn take(&mut self, event: Event) {
        if let Some(process) = process_of(&event) {
            let this = &self.processes[process];
            let is_sending = matches!(event, Event::Send { .. });
            // The network delivers what a process has sent before it ended.
            if !this.is_alive && !is_sending {
                return;
            }
            if this.paused_until > self.now && this.is_alive {
                // Half of its requests it has not sent yet.
                if !is_sending || self.entropy.chance(128) {
                    let at = self.processes[process].paused_until;
                    return self.at(at, event);
                }
            }
        }
        match event {
            Event::Start(slot) => self.start(slot),
            Event::Kill(slot) => self.kill(slot),
            Event::KillProcess(process) => self.end_process(process, "killed: it does not stop in time"),
            Event::Pause { slot, ms } => {
                self.cancel_at_pause(slot);
                self.disturb(slot, |process, now| process.paused_until = process.paused_until.max(now + ms));
            }
            Event::Cut { slot, ms } => {
                self.disturb(slot, |process, now| process.cut_until = process.cut_until.max(now + ms));
            }
            Event::Stop(slot) => self.stop(slot),
            Event::Post { run, slot } => self.post(run, slot),
            Event::Cancel(run) => self.cancel(run),
            Event::Send { process, sender, request, is_answer_lost } => {
                self.serve(process, sender, &request, is_answer_lost);
            }
            Event::Answer { process, sender, outcome } => self.answer(process, sender, *outcome),
            Event::Watch { process, is_of_leases, upto } => self.deliver(process, is_of_leases, upto),
            Event::List { process, is_of_leases } => self.list(process, is_of_leases),
            Event::Tick(process) => {
                self.processes[process].tick_at = None;
                self.hand(process, Input::Tick);
            }
            Event::RunTick { process, run } => {
                self.processes[process].run_ticks.remove(&run);
                self.with_driver(process, run, Driver::on_tick);
            }
            Event::Prepared { process, job_uid, outcome } => {
                self.hand(process, Input::Prepared { job_uid, outcome });
            }
            Event::AgentEnds(uid) => self.cluster.end_agent(&uid),
            Event::Remove(uid) => self.cluster.remove_job(&uid),
            Event::Check => self.check(),
        }
    }

    fn disturb(&mut self, slot: usize, change: impl FnOnce(&mut Process, u64)) {
        let Some(process) = self.slots[slot].process.filter(|_| !self.is_healed()) else { return };
        let now = self.now;
        change(&mut self.processes[process], now);
        self.disturbed_ms = now;
        self.line(|| format!("slot {slot} is paused or cut off"));
    }

    /// Sometimes a process has just decided to delete a Job when it is paused: that request is late.
    fn cancel_at_pause(&mut self, slot: usize) {
        let Some(process) = self.slots[slot].process.filter(|_| !self.is_healed()) else { return };
        let this = &self.processes[process];
        let run = this.drivers.iter().find(|(_, driver)| driver.is_driving()).map(|(run, _)| *run);
        if let Some(run) = run.filter(|_| this.is_healthy(self.now))
            && self.entropy.chance(128)
        {
            self.with_driver(process, run, Driver::on_cancel);
        }
    }

    fn start(&mut self, slot: usize) {
        if self.slots[slot].process.is_some() {
            return;
        }
        let clocks = (self.entropy.below(60_000), *self.entropy.choose(&[0i64, 0, 20_000, -20_000]));
        let this = &mut self.slots[slot];
        this.generation += 1;
        if !this.has_volume {
            this.folders.clear();
        }
        let generation = this.generation;
        let host = if this.has_volume { format!("host-{slot}") } else { format!("host-{slot}-{generation}") };
        let folders: Vec<usize> = this.folders.iter().copied().collect();
        let process = self.processes.len();
        this.process = Some(process);
        self.processes.push(Process::new(slot, host, generation, self.now, clocks));
        self.line(|| format!("process {process} starts in slot {slot}"));
        for is_of_leases in [true, false] {
            let delay = 20 + self.entropy.skewed(0, 500);
            self.after(delay, Event::List { process, is_of_leases });
        }
        self.hand(process, Input::Adopts);
        for run in folders {
            let job = self.job_of(run);
            // That it has ended or is another host's the run record says.
            let was_removed = job.is_none() && !self.runs[run].jobs.is_empty();
            let is_others = !self.runs[run].results.is_empty() || was_removed || self.is_known(run);
            if is_others {
                self.slots[slot].folders.remove(&run);
            } else {
                self.drive(process, run, Origin::Journal(job));
            }
        }
    }

    fn job_of(&self, run: usize) -> Option<ObjectRef> {
        let found = self.cluster.jobs.values().find(|job| job.run == run && !job.is_removed);
        found.map(|job| job.view.job.clone())
    }

    fn kill(&mut self, slot: usize) {
        if let Some(process) = self.slots[slot].process.filter(|_| !self.is_healed()) {
            self.disturbed_ms = self.now;
            self.end_process(process, "is killed");
        }
    }

    fn end_process(&mut self, process: usize, why: &str) {
        if !self.processes[process].is_alive {
            return;
        }
        let slot = self.processes[process].slot;
        self.processes[process].is_alive = false;
        self.processes[process].drivers.clear();
        self.slots[slot].process = None;
        self.line(|| format!("process {process} {why}"));
        // Some slots stay empty for long: a scale-down.
        let delay = if self.entropy.chance(64) && !self.is_healed() {
            60_000 + self.entropy.below(256) * 1_000
        } else {
            200 + self.entropy.skewed(0, 20_000)
        };
        let at = (self.now + delay).min(HEALING_MS.max(self.now + 200));
        self.at(at, Event::Start(slot));
    }

    fn stop(&mut self, slot: usize) {
        let Some(process) = self.slots[slot].process.filter(|_| !self.is_healed()) else { return };
        if self.processes[process].is_stopping || self.processes[process].paused_until > self.now {
            return;
        }
        self.line(|| format!("process {process} is asked to stop"));
        self.processes[process].is_stopping = true;
        self.after(STOP_GRACE_MS, Event::KillProcess(process));
        let runs: Vec<usize> = self.processes[process].drivers.keys().copied().collect();
        for run in runs {
            self.with_driver(process, run, Driver::on_stop);
        }
        self.stop_ownership(process);
    }

    /// The protocol stops once all runs have left.
    fn stop_ownership(&mut self, process: usize) {
        let this = &self.processes[process];
        if this.is_stopping && this.is_alive && this.drivers.is_empty() {
            self.hand(process, Input::Stop);
        }
    }

    fn post(&mut self, run: usize, slot: usize) {
        let Some(process) =
            self.slots[slot].process.filter(|process| self.processes[*process].is_healthy(self.now))
        else {
            let other = (slot + 1) % self.slots.len();
            return self.after(1_000, Event::Post { run, slot: other });
        };
        // That a run has ended is the run record's to know.
        let is_over = !self.runs[run].results.is_empty();
        let is_started = !self.runs[run].jobs.is_empty();
        if is_over || is_started || self.is_known(run) {
            return;
        }
        self.runs[run].is_posted = true;
        self.line(|| format!("run {run} is posted to process {process}"));
        self.drive(process, run, Origin::New);
    }

    /// Whether a process has a run: whoever is asked for it passes the request on.
    fn is_known(&self, run: usize) -> bool {
        self.processes.iter().any(|process| process.is_alive && process.drivers.contains_key(&run))
    }

    fn drive(&mut self, process: usize, run: usize, origin: Origin) {
        let now = self.now;
        let this = &mut self.processes[process];
        let state = this.state_for_runs(now, this.state.clone());
        let truth = &self.runs[run];
        let names = (truth.id.as_str(), run, truth.key.as_str());
        let mut driver =
            Driver::start(this.wall(now), names, &this.host, &on_state(self.mutant, state), origin);
        if !truth.results.is_empty() {
            driver.set_ended();
        }
        this.drivers.insert(run, driver);
        let (run_id, slot) = (truth.id.clone(), this.slot);
        self.slots[slot].folders.insert(run);
        self.hand(process, Input::RunEntered { run_id });
        self.hand(process, Input::Needed);
        self.carry_out_steps(process, run);
    }

    fn cancel(&mut self, run: usize) {
        let drives = |process: &Process| {
            process.is_healthy(self.now) && process.drivers.get(&run).is_some_and(Driver::is_driving)
        };
        match self.processes.iter().position(drives) {
            Some(process) => self.with_driver(process, run, Driver::on_cancel),
            None if self.runs[run].results.is_empty() => self.after(5_000, Event::Cancel(run)),
            None => {}
        }
    }

    // ---------------------------------------------------------------------- protocol and runs

    fn hand(&mut self, process: usize, input: Input) {
        let now = self.now;
        let this = &mut self.processes[process];
        let clocks = this.clocks(now);
        this.ownership.handle(clocks, input);
        while let Some(effect) = self.processes[process].ownership.poll_effect() {
            self.carry_out(process, effect);
        }
        let this = &mut self.processes[process];
        if let Some(deadline) = this.ownership.deadline() {
            let at = this.world_of_elapsed(deadline).max(now);
            if this.is_alive && this.tick_at.is_none_or(|known| known > at) {
                this.tick_at = Some(at);
                self.at(at, Event::Tick(process));
            }
        }
    }

    fn carry_out(&mut self, process: usize, effect: Effect) {
        match effect {
            Effect::Call { call, request } => self.send(process, Sender::Host(call), request),
            Effect::Announce(state) => {
                self.processes[process].state = state;
                let runs: Vec<usize> = self.processes[process].drivers.keys().copied().collect();
                for run in runs {
                    let now = self.now;
                    let this = &self.processes[process];
                    let state = on_state(self.mutant, this.state_for_runs(now, this.state.clone()));
                    self.with_driver(process, run, |driver, now| driver.on_host(now, state.clone()));
                }
            }
            Effect::Prepare { job, .. } => {
                let job_uid = job.job.uid.clone();
                let delay = 10 + self.entropy.skewed(0, 150);
                let outcome = self.prepare(process, &job_uid);
                self.after(delay, Event::Prepared { process, job_uid, outcome });
            }
            Effect::Drive { job_uid } => {
                let prepared = self.processes[process].prepared.remove(&job_uid);
                let job = self.cluster.jobs.get(&job_uid).map(|job| job.view.job.clone());
                if let (Some((run, is_journal)), Some(job), false) =
                    (prepared, job, self.processes[process].is_stopping)
                {
                    self.figures.takeovers += 1;
                    self.line(|| format!("process {process} adopts run {run}"));
                    let origin = if is_journal { Origin::Journal(Some(job)) } else { Origin::Adopted(job) };
                    self.drive(process, run, origin);
                }
            }
            Effect::Discard { job_uid } => drop(self.processes[process].prepared.remove(&job_uid)),
            Effect::Stopped => self.end_process(process, "has stopped"),
            Effect::Report { .. } | Effect::Settled => {}
        }
    }

    fn prepare(&mut self, process: usize, job_uid: &str) -> Result<Prepared, Obstacle> {
        let obstacle = |why: &str, is_short| Obstacle { why: why.into(), hint: String::new(), is_short };
        let Some(run) = self.cluster.jobs.get(job_uid).map(|job| job.run) else {
            return Err(obstacle("no Job", false));
        };
        if self.processes[process].drivers.contains_key(&run) {
            return Err(obstacle("it is here", true));
        }
        if self.has_lags && !self.is_healed() && self.entropy.chance(24) {
            return Err(obstacle("the Secret cannot be read", false));
        }
        let is_journal = self.slots[self.processes[process].slot].folders.contains(&run);
        self.processes[process].prepared.insert(job_uid.to_owned(), (run, is_journal));
        Ok(if is_journal { Prepared::FromJournal } else { Prepared::FromCluster })
    }

    fn with_driver(
        &mut self,
        process: usize,
        run: usize,
        act: impl FnOnce(&mut Driver, paperclip_engine::time::Timestamp),
    ) {
        let wall = self.processes[process].wall(self.now);
        if let Some(driver) = self.processes[process].drivers.get_mut(&run) {
            act(driver, wall);
            self.carry_out_steps(process, run);
        }
    }

    fn carry_out_steps(&mut self, process: usize, run: usize) {
        let Some(driver) = self.processes[process].drivers.get_mut(&run) else { return };
        for step in driver.take_steps() {
            match step {
                Step::Call { call, request } => self.send(process, Sender::Run(run, call), request),
                Step::Result { is_cancelled } => self.take_result(process, run, is_cancelled),
                Step::Left(left) => return self.leave(process, run, left),
            }
        }
        let this = &mut self.processes[process];
        let Some(deadline) = this.drivers.get(&run).and_then(Driver::deadline) else { return };
        let at = this.world_of_wall(deadline).max(self.now + 1);
        if this.run_ticks.get(&run).is_none_or(|known| *known > at) {
            this.run_ticks.insert(run, at);
            self.at(at, Event::RunTick { process, run });
        }
    }

    fn take_result(&mut self, process: usize, run: usize, is_cancelled: bool) {
        self.line(|| format!("process {process} has the result of run {run}, cancelled: {is_cancelled}"));
        self.runs[run].results.push((process, is_cancelled));
        if let [(first, _), (second, _), ..] = self.runs[run].results[..] {
            let text = format!("run {run} has a result of process {first} and one of process {second}");
            self.violate("O2", text);
        }
    }

    fn leave(&mut self, process: usize, run: usize, left: Left) {
        self.line(|| format!("run {run} leaves process {process}: {left:?}"));
        self.processes[process].drivers.remove(&run);
        let slot = self.processes[process].slot;
        if left != Left::Detached {
            self.slots[slot].folders.remove(&run);
        }
        match left {
            Left::Moved => self.figures.moved += 1,
            // It waited for another run of its agent for too long, or another run has its guard: a result of its own.
            Left::Lost if self.runs[run].jobs.is_empty() && self.runs[run].results.is_empty() => {
                self.runs[run].results.push((process, false));
            }
            Left::Lost | Left::Ended { .. } | Left::Detached => {}
        }
        let run_id = self.runs[run].id.clone();
        self.hand(process, Input::RunLeft { run_id });
        self.stop_ownership(process);
    }

    // ---------------------------------------------------------------------- the network

    fn send(&mut self, process: usize, sender: Sender, request: ApiCall) {
        let nonce = self.processes[process].nonce.clone();
        let Some(request) = on_request(self.mutant, &nonce, request) else { return };
        let is_faulty = self.has_lags && !self.is_healed();
        let mut delay = 1 + self.entropy.skewed(0, if is_faulty { 3_000 } else { 40 });
        if let (Some(Mutant::ReleasedEarly), ApiCall::DeleteJob { .. }) = (self.mutant, &request) {
            self.release_early(process, sender);
            delay += 2_000;
        }
        if is_faulty && self.entropy.chance(6) {
            let outcome = Box::new(Err(no_answer()));
            return self.after(NO_ANSWER_MS, Event::Answer { process, sender, outcome });
        }
        let is_answer_lost = is_faulty && self.entropy.chance(6);
        let request = Box::new(request);
        self.after(delay, Event::Send { process, sender, request, is_answer_lost });
    }

    fn serve(&mut self, process: usize, sender: Sender, request: &ApiCall, is_answer_lost: bool) {
        if self.processes[process].cut_until > self.now {
            let outcome = Box::new(Err(no_answer()));
            return self.after(NO_ANSWER_MS, Event::Answer { process, sender, outcome });
        }
        let holder_before = match request {
            ApiCall::UpdateLease(lease) => {
                self.cluster.guards.get(&lease.name).map(|guard| guard.holder.clone())
            }
            _ => None,
        };
        let was_suspended = |world: &World| match request {
            ApiCall::PatchJob { job, .. } => {
                world.cluster.jobs.get(&job.uid).is_some_and(|job| job.view.is_suspended)
            }
            _ => false,
        };
        let may_start = was_suspended(self);
        let (outcome, accepted) = self.cluster.apply(request);
        if let (Some(before), ApiCall::UpdateLease(lease), true) = (holder_before, request, outcome.is_ok()) {
            self.adopt_for_another_run(process, &before, &lease.holder);
        }
        if let Some(accepted) = accepted {
            self.note_change(process, &accepted);
        }
        match (request, &outcome) {
            (ApiCall::CreateJob { .. }, Ok(ApiReply::Created(job))) => self.note_created(job),
            (ApiCall::PatchJob { job, .. }, Ok(_)) if may_start && !was_suspended(self) => {
                self.note_started(job);
            }
            (ApiCall::DeleteJob { job, .. }, Ok(_)) => {
                let delay = 500 + self.entropy.skewed(0, 5_000);
                self.after(delay, Event::Remove(job.uid.clone()));
                if self.mutant == Some(Mutant::AgentNotAwaited) {
                    self.release_early(process, sender);
                }
            }
            (ApiCall::DeleteLease(lease), Ok(_)) => self.note_released(&lease.key),
            (ApiCall::CreateLease(lease), Ok(_)) => self.note_acquired(&lease.key),
            (ApiCall::DeleteHostLease(_), Ok(_)) => self.figures.revocations += 1,
            (_, Err(error)) if error.reason.as_deref() == Some(SUPERSEDED) => self.figures.superseded += 1,
            _ => {}
        }
        self.line(|| {
            let answer =
                outcome.as_ref().map_or_else(|error| format!("{:?}", error.status), |_| "ok".to_owned());
            format!("process {process} {sender:?}: {}: {answer}", request.describe())
        });
        let (outcome, delay) = if is_answer_lost {
            (Err(no_answer()), NO_ANSWER_MS)
        } else {
            (outcome, 1 + self.entropy.skewed(0, 40))
        };
        self.after(delay, Event::Answer { process, sender, outcome: Box::new(outcome) });
    }

    /// A run that takes the guard of another one adopts its Job. No host can give that run a result any more.
    fn adopt_for_another_run(&mut self, process: usize, before: &str, after: &str) {
        let index = |id: &str| self.runs.iter().position(|run| run.id == id);
        let (Some(before), Some(after)) = (index(before), index(after)) else { return };
        if before == after {
            return;
        }
        let Some(job) = self.job_of(before) else { return };
        self.line(|| format!("run {after} adopts {} of run {before}", job.uid));
        if self.runs[before].results.is_empty() {
            self.runs[before].results.push((process, false));
        }
        let run_id = self.runs[after].id.clone();
        self.runs[after].jobs.push(job.uid.clone());
        self.cluster.relabel(&job.uid, after, &run_id);
        // A plugin lists the Jobs of its agent before it creates one.
        self.with_driver(process, after, |driver, now| driver.on_own_job(now, &job));
    }

    fn note_created(&mut self, job: &ObjectRef) {
        let Some(run) = self.cluster.jobs.get(&job.uid).map(|job| job.run) else { return };
        self.runs[run].jobs.push(job.uid.clone());
        if self.runs[run].jobs.len() > 1 {
            self.violate("O3", format!("run {run} was started twice: {:?}", self.runs[run].jobs));
        }
    }

    /// A Job was unsuspended: its agent runs.
    fn note_started(&mut self, job: &ObjectRef) {
        let Some(run) = self.cluster.jobs.get(&job.uid).map(|job| job.run) else { return };
        let key = &self.runs[run].key;
        // The agent of a Job that is being deleted runs until that is removed.
        let is_live =
            |job: &&super::cluster::Job| !job.is_removed && !job.view.has_ended && !job.view.is_suspended;
        let live = self.cluster.jobs.values().filter(is_live).filter(|job| self.runs[job.run].key == *key);
        if live.count() > 1 {
            self.violate("O3", format!("agent {key} runs twice"));
        }
        let takes = self.runs[run].takes_ms;
        self.after(takes, Event::AgentEnds(job.uid.clone()));
    }

    fn answer(&mut self, process: usize, sender: Sender, outcome: Result<ApiReply, ApiError>) {
        let outcome = on_answer(self.mutant, outcome);
        match sender {
            Sender::Host(call) => self.hand(process, Input::Called { call, outcome }),
            Sender::Run(run, call) => {
                self.with_driver(process, run, |driver, now| driver.on_answer(now, call, outcome));
            }
        }
    }
}

fn process_of(event: &Event) -> Option<usize> {
    match event {
        Event::Send { process, .. }
        | Event::Answer { process, .. }
        | Event::Watch { process, .. }
        | Event::List { process, .. }
        | Event::Tick(process)
        | Event::RunTick { process, .. }
        | Event::Prepared { process, .. } => Some(*process),
        Event::Start(_)
        | Event::Kill(_)
        | Event::KillProcess(_)
        | Event::Pause { .. }
        | Event::Cut { .. }
        | Event::Stop(_)
        | Event::Post { .. }
        | Event::Cancel(_)
        | Event::AgentEnds(_)
        | Event::Remove(_)
        | Event::Check => None,
    }
}

fn no_answer() -> ApiError {
    ApiError { status: None, reason: None, message: "no answer".to_owned(), retry_after_ms: None }
}
