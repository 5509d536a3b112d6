//! What happens, in which order, and what must hold.

use std::collections::BTreeMap;

use paperclip_contract::types::ApiError;
use paperclip_engine::api::{ApiCall, ApiReply};
use paperclip_engine::run_record::{
    Claim, Claimant, Claimed, RecordState, RunFacts, RunRecord, Step, Tenure, record_name,
};
use paperclip_engine::time::Timestamp;
use serde_json::json;

use super::Outcome;
use super::mutant::Mutant;
use super::server::{Server, no_answer};
use crate::agenda::Agenda;
use crate::entropy::Entropy;

/// From this time on no fault strikes, in ms.
const HEALING_MS: u64 = 6 * 60_000;
/// When every client must have its result.
const END_MS: u64 = 30 * 60_000;
/// How long the Lease of a lost host remains.
const EXPIRY_MS: u64 = 41_000;
/// How often a client asks, and a host looks for what is left behind.
const POLL_MS: u64 = 1_500;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Start,
    Get,
    Cancel,
}

/// What a host does with a run.
#[derive(Debug)]
enum Stage {
    Claiming {
        claim: Box<Claim>,
        asks: Vec<(Ask, bool)>,
    },
    /// The Job is to be created; whether the record was taken from a host that does not live.
    Starting(Box<RunRecord>, bool),
    Driving(Box<RunRecord>),
    /// The result is being recorded.
    Ending(Box<RunRecord>),
}

#[derive(Debug, Default)]
struct Process {
    instance: String,
    is_alive: bool,
    paused_until: u64,
    runs: BTreeMap<usize, Stage>,
    /// The request about a run whose answer is awaited: an answer to an earlier one is dropped, as a shell drops it after its deadline.
    awaited: BTreeMap<usize, ApiCall>,
    /// Results that this host has seen.
    results: BTreeMap<usize, String>,
}

#[derive(Debug)]
enum Event {
    Start(usize),
    Kill(usize),
    Pause(usize, u64),
    Stop(usize),
    Expire(String),
    Client {
        run: usize,
        ask: Ask,
    },
    /// A request of a client arrives at a host; whether another host has passed it on.
    Arrive {
        process: usize,
        run: usize,
        ask: Ask,
        is_forwarded: bool,
    },
    Send {
        process: usize,
        run: usize,
        request: Box<ApiCall>,
        is_answer_lost: bool,
    },
    Answer {
        process: usize,
        run: usize,
        request: Box<ApiCall>,
        outcome: Box<Result<ApiReply, ApiError>>,
    },
    CreateJob {
        process: usize,
        run: usize,
    },
    Observe {
        process: usize,
        run: usize,
    },
    DeleteJob {
        process: usize,
        run: usize,
    },
    Look(usize),
    AgentEnds(usize),
}

#[derive(Debug, Default)]
struct Run {
    id: String,
    takes_ms: u64,
    starts: u32,
    agent_ended: bool,
    /// A cancel was acknowledged before the run had a result.
    cancel_acknowledged: bool,
    /// A host has stopped its agent because of a cancel.
    is_stopped: bool,
    /// What a client has received of its end.
    result: Option<String>,
}

#[derive(Debug)]
pub(super) struct World {
    now: u64,
    entropy: Entropy,
    agenda: Agenda<Event>,
    server: Server,
    /// The process of each slot.
    slots: Vec<usize>,
    processes: Vec<Process>,
    runs: Vec<Run>,
    mutant: Option<Mutant>,
    is_shown: bool,
    lines: Vec<String>,
    violation: Option<(&'static str, String)>,
    figures: [u64; 3],
}

impl World {
    pub(super) fn new(mut entropy: Entropy, mutant: Option<Mutant>, is_shown: bool) -> World {
        let slots = 2 + entropy.below(2) as usize;
        let runs = (0..1 + entropy.below(5)).map(|index| Run {
            id: format!("run-{index}"),
            takes_ms: 2_000 + entropy.skewed(0, 90_000),
            ..Run::default()
        });
        let runs: Vec<Run> = runs.collect();
        let mut world = World {
            now: 0,
            agenda: Agenda::default(),
            server: Server::new(mutant),
            slots: vec![usize::MAX; slots],
            processes: Vec::new(),
            runs,
            mutant,
            is_shown,
            lines: Vec::new(),
            violation: None,
            figures: [0; 3],
            entropy,
        };
        for slot in 0..slots {
            world.at(0, Event::Start(slot));
        }
        for run in 0..world.runs.len() {
            let at = 500 + world.entropy.below(200) * 100;
            world.at(at, Event::Client { run, ask: Ask::Start });
            if world.entropy.chance(96) {
                let later = world.entropy.skewed(0, 60_000);
                world.at(at + later, Event::Client { run, ask: Ask::Cancel });
            }
        }
        for _ in 0..world.entropy.below(9) {
            let at = 1_000 + world.entropy.below(250) * (HEALING_MS / 260);
            let slot = world.entropy.below(slots as u64) as usize;
            let event = match world.entropy.below(3) {
                0 => Event::Stop(slot),
                1 => Event::Kill(slot),
                _ => Event::Pause(slot, *world.entropy.choose(&[5_000, 65_000, 30_000])),
            };
            world.at(at, event);
        }
        world
    }

    pub(super) fn run(&mut self) {
        while let Some((at, event)) = self.agenda.pop() {
            self.now = self.now.max(at);
            if self.violation.is_some()
                || self.now > END_MS
                || self.runs.iter().all(|run| run.result.is_some())
            {
                break;
            }
            self.take(event);
        }
        let unanswered = self.runs.iter().position(|run| run.result.is_none());
        if let (None, Some(run)) = (&self.violation, unanswered) {
            self.violate("R6", format!("the client of run {run} has no result"));
        }
    }

    pub(super) fn into_outcome(self) -> Outcome {
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

    fn is_faulty(&self) -> bool {
        self.now < HEALING_MS
    }

    fn take(&mut self, event: Event) {
        let process = match &event {
            Event::Arrive { process, .. }
            | Event::Send { process, .. }
            | Event::Answer { process, .. }
            | Event::CreateJob { process, .. }
            | Event::Observe { process, .. }
            | Event::DeleteJob { process, .. }
            | Event::Look(process) => Some(*process),
            _ => None,
        };
        if let Some(process) = process {
            let is_sent = matches!(event, Event::Send { .. });
            let this = &self.processes[process];
            if !this.is_alive && !is_sent {
                return;
            }
            // What a paused host was about to do it does late.
            if this.is_alive && this.paused_until > self.now {
                let at = this.paused_until;
                return self.at(at, event);
            }
        }
        match event {
            Event::Start(slot) => self.start(slot),
            Event::Kill(_) | Event::Stop(_) if !self.is_faulty() => {}
            Event::Kill(slot) => self.end_process(slot, EXPIRY_MS),
            Event::Stop(slot) => self.end_process(slot, 0),
            Event::Pause(slot, ms) => self.pause(slot, ms),
            Event::Expire(instance) => drop(self.server.live.remove(&instance)),
            Event::Client { run, ask } => self.ask(run, ask),
            Event::Arrive { process, run, ask, is_forwarded } => self.arrive(process, run, ask, is_forwarded),
            Event::Send { process, run, request, is_answer_lost } => {
                let outcome = self.serve(process, run, &request);
                let (outcome, delay) = if is_answer_lost {
                    (Err(no_answer()), 5_000)
                } else {
                    (outcome, 1 + self.entropy.skewed(0, 30))
                };
                self.after(delay, Event::Answer { process, run, request, outcome: Box::new(outcome) });
            }
            Event::Answer { process, run, request, outcome } => self.answer(process, run, &request, *outcome),
            Event::CreateJob { process, run } => self.create_job(process, run),
            Event::Observe { process, run } => self.observe(process, run),
            Event::DeleteJob { process, run } => {
                if self.lives(process) {
                    self.server.jobs.remove(&self.runs[run].id);
                }
            }
            Event::Look(process) => self.look(process),
            Event::AgentEnds(run) => {
                if let Some(job) = self.server.jobs.get_mut(&self.runs[run].id) {
                    job.has_ended = true;
                    self.runs[run].agent_ended = true;
                }
            }
        }
    }

    // ---------------------------------------------------------------------- hosts

    fn start(&mut self, slot: usize) {
        let process = self.processes.len();
        let instance = format!("host-{process}");
        self.line(|| format!("{instance} starts in slot {slot}"));
        self.server.live.insert(instance.clone());
        self.processes.push(Process { instance, is_alive: true, ..Process::default() });
        self.slots[slot] = process;
        self.after(POLL_MS, Event::Look(process));
    }

    fn end_process(&mut self, slot: usize, lease_ms: u64) {
        let process = self.slots[slot];
        let Some(this) = self.processes.get_mut(process).filter(|this| this.is_alive) else { return };
        (this.is_alive, this.runs) = (false, BTreeMap::new());
        let instance = this.instance.clone();
        self.line(|| format!("{instance} ends, its Lease in {lease_ms} ms"));
        self.after(lease_ms, Event::Expire(instance));
        let again = 200 + self.entropy.skewed(0, 60_000);
        self.after(again, Event::Start(slot));
    }

    fn pause(&mut self, slot: usize, ms: u64) {
        let process = self.slots[slot];
        if !self.is_faulty() || !self.processes.get(process).is_some_and(|this| this.is_alive) {
            return;
        }
        let instance = self.processes[process].instance.clone();
        self.line(|| format!("{instance} is paused for {ms} ms"));
        self.processes[process].paused_until = self.now + ms;
        if ms > EXPIRY_MS {
            // It finds its runs moved when it continues: it is another instance by then.
            self.after(EXPIRY_MS, Event::Expire(instance));
        }
    }

    fn lives(&self, process: usize) -> bool {
        let this = &self.processes[process];
        this.is_alive && self.server.live.contains(&this.instance)
    }

    /// A host whose instance was revoked starts again as another one; else it adopts what no living host has.
    fn look(&mut self, process: usize) {
        if !self.lives(process) {
            if let Some(slot) = self.slots.iter().position(|one| *one == process) {
                self.end_process(slot, 0);
            }
            return;
        }
        self.after(POLL_MS, Event::Look(process));
        for run in 0..self.runs.len() {
            let instance = self.processes[process].instance.clone();
            let Some(job) = self.server.jobs.get(&self.runs[run].id) else { continue };
            if self.server.live.contains(&job.guard) || self.processes[process].runs.contains_key(&run) {
                continue;
            }
            let record = self.server.records.get(&record_name(&self.runs[run].id));
            if record.is_some_and(|record| record.end().is_some()) {
                self.server.jobs.remove(&self.runs[run].id);
                continue;
            }
            if let Some(job) = self.server.jobs.get_mut(&self.runs[run].id) {
                job.guard = instance;
            }
            self.figures[1] += 1;
            self.claim(process, run, Tenure::Guard, Vec::new());
        }
    }

    /// Returns the record of a run as a host would create it.
    fn record(&self, process: usize, run: usize) -> RunRecord {
        let id = self.runs[run].id.clone();
        let instance = self.processes[process].instance.clone();
        RunRecord {
            namespace: "n".into(),
            name: record_name(&id),
            uid: String::new(),
            resource_version: String::new(),
            run_id: id,
            facts: RunFacts::default(),
            host: instance.clone(),
            instance,
            accepted_at: Timestamp::from_millis(self.now),
            cancel_requested: None,
            state: RecordState::Claimed { recovery: None },
        }
    }

    fn claim(&mut self, process: usize, run: usize, tenure: Tenure, asks: Vec<(Ask, bool)>) {
        let record = self.record(process, run);
        let instance = self.processes[process].instance.clone();
        let claimant = Claimant { host: instance.clone(), instance, tenure };
        let (claim, request) = if tenure == Tenure::None {
            Claim::start(record, claimant)
        } else {
            Claim::resume(record, claimant)
        };
        self.processes[process].runs.insert(run, Stage::Claiming { claim: Box::new(claim), asks });
        self.send(process, run, request);
    }

    // ---------------------------------------------------------------------- clients

    fn ask(&mut self, run: usize, ask: Ask) {
        if self.runs[run].result.is_some() {
            return;
        }
        if ask != Ask::Cancel {
            let wait = POLL_MS / 3 + self.entropy.skewed(0, 8_000);
            let next = if self.entropy.chance(128) { Ask::Start } else { Ask::Get };
            self.after(wait, Event::Client { run, ask: next });
        }
        let slot = self.entropy.below(self.slots.len() as u64) as usize;
        let process = self.slots[slot];
        if self.processes.get(process).is_some_and(|this| this.is_alive) {
            self.after(5, Event::Arrive { process, run, ask, is_forwarded: false });
        }
    }

    fn arrive(&mut self, process: usize, run: usize, ask: Ask, is_forwarded: bool) {
        if let Some(result) = self.processes[process].results.get(&run).cloned() {
            return self.deliver(run, &result);
        }
        match self.processes[process].runs.get_mut(&run) {
            Some(Stage::Claiming { asks, .. }) => asks.push((ask, is_forwarded)),
            Some(Stage::Driving(_)) if ask == Ask::Cancel => self.cancel(process, run),
            Some(_) => {}
            // One that was passed on for a run that is not here is answered so: the client asks again.
            None if is_forwarded && self.mutant != Some(Mutant::ForwardedTwice) => {}
            None if ask == Ask::Start => self.claim(process, run, Tenure::None, vec![(ask, is_forwarded)]),
            None => {
                let name = record_name(&self.runs[run].id);
                let Some(record) = self.server.records.get(&name).cloned() else { return };
                match record.end() {
                    Some(end) => self.deliver(run, &end.state.clone()),
                    None => self.forward(process, run, ask, &record.instance, is_forwarded),
                }
            }
        }
    }

    fn forward(&mut self, from: usize, run: usize, ask: Ask, instance: &str, was_forwarded: bool) {
        let found = self.processes.iter().position(|this| this.is_alive && this.instance == instance);
        let Some(process) = found.filter(|process| *process != from) else { return };
        self.figures[0] += 1;
        if was_forwarded {
            self.violate("R4", format!("a request for run {run} was passed on twice"));
        }
        let delay = 10 + self.entropy.skewed(0, if self.is_faulty() { 4_000 } else { 20 });
        self.after(delay, Event::Arrive { process, run, ask, is_forwarded: true });
    }

    fn deliver(&mut self, run: usize, result: &str) {
        match &self.runs[run].result {
            Some(known) if known != result => {
                let text = format!("run {run} ended as {known}, and as {result}");
                self.violate("R2", text);
            }
            Some(_) => {}
            None => {
                self.line(|| format!("the client of run {run} has its result: {result}"));
                self.runs[run].result = Some(result.to_owned());
            }
        }
    }

    fn cancel(&mut self, process: usize, run: usize) {
        let name = record_name(&self.runs[run].id);
        if self.mutant == Some(Mutant::CancelUnnoted) {
            return self.acknowledge_cancel(process, run);
        }
        let request =
            ApiCall::NoteCancel { namespace: "n".into(), name, uid: "u".into(), reason: String::new() };
        self.send(process, run, request);
    }

    /// The cancel is recorded: it is acknowledged, and then the agent is stopped.
    fn acknowledge_cancel(&mut self, process: usize, run: usize) {
        self.line(|| format!("the cancel of run {run} is acknowledged"));
        self.runs[run].cancel_acknowledged = true;
        if self.lives(process) && matches!(self.processes[process].runs.get(&run), Some(Stage::Driving(_))) {
            self.server.jobs.remove(&self.runs[run].id);
            self.runs[run].is_stopped = true;
        }
    }

    // ---------------------------------------------------------------------- runs

    fn create_job(&mut self, process: usize, run: usize) {
        let id = self.runs[run].id.clone();
        let Some(Stage::Starting(record, takes_over)) = self.processes[process].runs.remove(&run) else {
            return;
        };
        if !self.lives(process) {
            return;
        }
        let instance = self.processes[process].instance.clone();
        let job = self.server.jobs.get(&id);
        // The guard of the run is another host's that lives: the run has moved there.
        if job.is_some_and(|job| job.guard != instance && self.server.live.contains(&job.guard)) {
            return;
        }
        // With the guard of a run that it has taken over a host reads the record again: another one may have adopted and ended the run.
        let found = self.server.records.get(&record.name);
        let is_own = found.is_some_and(|found| found.end().is_none() && found.instance == instance);
        if takes_over && !is_own && self.mutant != Some(Mutant::TakeoverUnchecked) {
            return;
        }
        let exists = job.is_some();
        if !exists && self.runs[run].cancel_acknowledged {
            self.violate("R5", format!("run {run} was started after its cancel was acknowledged"));
        }
        if !exists {
            self.runs[run].starts += 1;
            if self.runs[run].starts > 1 {
                self.violate("R1", format!("run {run} was started twice"));
            }
            self.line(|| format!("{instance} starts the agent of run {run}"));
            let takes = self.runs[run].takes_ms;
            self.after(takes, Event::AgentEnds(run));
        }
        let job = self.server.jobs.entry(id).or_default();
        job.guard = instance;
        self.drive(process, run, record);
    }

    fn drive(&mut self, process: usize, run: usize, record: Box<RunRecord>) {
        let other = (0..self.processes.len()).find(|other| {
            let drives = matches!(self.processes[*other].runs.get(&run), Some(Stage::Driving(_)));
            *other != process
                && drives
                && self.lives(*other)
                && self.processes[*other].paused_until <= self.now
        });
        if let Some(other) = other {
            self.violate("R7", format!("processes {other} and {process} drive run {run}"));
        }
        self.processes[process].runs.insert(run, Stage::Driving(record));
        if self.mutant == Some(Mutant::EndedEarly) {
            self.end(process, run, "succeeded");
        }
        self.after(500, Event::Observe { process, run });
    }

    fn observe(&mut self, process: usize, run: usize) {
        let Some(Stage::Driving(record)) = self.processes[process].runs.get(&run) else { return };
        let is_cancelled = record.cancel_requested.is_some();
        let job = self.server.jobs.get(&self.runs[run].id);
        match job {
            Some(job) if job.has_ended => {
                if self.mutant == Some(Mutant::DeletedFirst) {
                    self.server.jobs.remove(&self.runs[run].id);
                }
                self.end(process, run, "succeeded");
            }
            // What was cancelled under an earlier host is ended by this one.
            Some(_) if is_cancelled => {
                self.server.jobs.remove(&self.runs[run].id);
                self.runs[run].is_stopped = true;
                self.after(500, Event::Observe { process, run });
            }
            Some(_) => self.after(500, Event::Observe { process, run }),
            // Its agent needs a while to end; its output is read to the end.
            None => self.end(process, run, "cancelled"),
        }
    }

    fn end(&mut self, process: usize, run: usize, state: &str) {
        let Some(Stage::Driving(record) | Stage::Starting(record, _)) =
            self.processes[process].runs.remove(&run)
        else {
            return;
        };
        let result = json!({}).as_object().cloned().unwrap_or_default();
        let ended = Box::new(record.ended(Timestamp::from_millis(self.now), state, result));
        self.processes[process].runs.insert(run, Stage::Ending(ended.clone()));
        // A host may die at any point between what it observes and what it writes.
        if self.mutant == Some(Mutant::DeletedFirst) {
            self.after(
                2_000,
                Event::Send {
                    process,
                    run,
                    request: Box::new(ApiCall::UpdateRunRecord(ended)),
                    is_answer_lost: false,
                },
            );
        } else {
            self.send(process, run, ApiCall::UpdateRunRecord(ended));
        }
    }

    // ---------------------------------------------------------------------- the network

    fn send(&mut self, process: usize, run: usize, request: ApiCall) {
        let is_faulty = self.is_faulty();
        if !matches!(request, ApiCall::NoteCancel { .. }) {
            self.processes[process].awaited.insert(run, request.clone());
        }
        let request = Box::new(request);
        if is_faulty && self.entropy.chance(8) {
            let outcome = Box::new(Err(no_answer()));
            return self.after(5_000, Event::Answer { process, run, request, outcome });
        }
        let is_answer_lost = is_faulty && self.entropy.chance(8);
        let delay = 1 + self.entropy.skewed(0, if is_faulty { 1_500 } else { 30 });
        self.after(delay, Event::Send { process, run, request, is_answer_lost });
    }

    fn serve(&mut self, process: usize, run: usize, request: &ApiCall) -> Result<ApiReply, ApiError> {
        let name = record_name(&self.runs[run].id);
        if let (Some(known), ApiCall::UpdateRunRecord(new)) = (self.server.records.get(&name), request) {
            let is_taken = known.instance != new.instance && known.end().is_none() && new.end().is_none();
            let guard = self.server.jobs.get(&self.runs[run].id).map(|job| &job.guard);
            let is_same = known.resource_version == new.resource_version;
            if is_taken
                && is_same
                && self.server.live.contains(&known.instance)
                && guard != Some(&new.instance)
            {
                let text = format!("run {run} was taken from {}, which lives", known.instance);
                self.violate("R8", text);
            }
        }
        let before = self.server.records.get(&name).and_then(|record| record.end().cloned());
        let outcome = self.server.answer(request);
        let after = self.server.records.get(&name).and_then(|record| record.end().cloned());
        let truth = &self.runs[run];
        match (before, after) {
            (Some(before), after) if after.as_ref().is_none_or(|after| after.state != before.state) => {
                self.violate("R2", format!("the record of run {run} said {}, now {after:?}", before.state));
            }
            (None, Some(end)) => {
                let is_true = if end.state == "succeeded" {
                    truth.agent_ended
                } else {
                    truth.starts == 0 || truth.is_stopped
                };
                if !is_true {
                    self.violate("R3", format!("the record of run {run} says {} before its end", end.state));
                }
            }
            _ => {}
        }
        let text = outcome.as_ref().map_or_else(|error| format!("{:?}", error.status), |_| "ok".into());
        self.line(|| format!("{process} run {run}: {}: {text}", request.describe()));
        outcome
    }

    fn answer(&mut self, process: usize, run: usize, request: &ApiCall, outcome: Result<ApiReply, ApiError>) {
        if let ApiCall::NoteCancel { .. } = request {
            if outcome.is_ok() {
                self.acknowledge_cancel(process, run);
            }
            return;
        }
        let awaited = &mut self.processes[process].awaited;
        if awaited.get(&run).is_some_and(|awaited| awaited != request) {
            return;
        }
        awaited.remove(&run);
        match self.processes[process].runs.remove(&run) {
            Some(Stage::Claiming { claim, asks }) => self.on_claim(process, run, claim, asks, outcome),
            Some(Stage::Ending(record)) => self.on_record(process, run, record, outcome),
            Some(other) => drop(self.processes[process].runs.insert(run, other)),
            None => {}
        }
    }

    fn on_claim(
        &mut self,
        process: usize,
        run: usize,
        mut claim: Box<Claim>,
        asks: Vec<(Ask, bool)>,
        outcome: Result<ApiReply, ApiError>,
    ) {
        let claimed = match claim.on_answer(outcome) {
            // Whoever asked asks again. A host that has the guard drives the run, and writes the result whatever the record says.
            Err(_) => {
                let instance = &self.processes[process].instance;
                let job = self.server.jobs.get(&self.runs[run].id);
                if job.is_some_and(|job| job.guard == *instance) {
                    let record = self.record(process, run);
                    self.drive(process, run, Box::new(record));
                }
                return;
            }
            Ok(Step::Call(request)) => {
                self.processes[process].runs.insert(run, Stage::Claiming { claim, asks });
                return self.send(process, run, request);
            }
            Ok(Step::CallLater(wait, request)) => {
                self.processes[process].runs.insert(run, Stage::Claiming { claim, asks });
                self.processes[process].awaited.insert(run, request.clone());
                let (request, is_answer_lost) = (Box::new(request), false);
                let delay = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                return self.after(delay, Event::Send { process, run, request, is_answer_lost });
            }
            Ok(Step::Done(claimed)) => *claimed,
        };
        match claimed {
            Claimed::Held { record, earlier } => {
                let exists = self.server.jobs.contains_key(&self.runs[run].id);
                let is_cancelled = record.cancel_requested.is_some();
                self.processes[process]
                    .runs
                    .insert(run, Stage::Starting(Box::new(record), earlier.is_some()));
                if is_cancelled && !exists {
                    self.end(process, run, "cancelled");
                } else {
                    let delay = 5 + self.entropy.skewed(0, 2_000);
                    self.after(delay, Event::CreateJob { process, run });
                }
                for (ask, is_forwarded) in asks.into_iter().filter(|(ask, _)| *ask == Ask::Cancel) {
                    self.after(3_000, Event::Arrive { process, run, ask, is_forwarded });
                }
            }
            Claimed::Elsewhere { owner, .. } => {
                for (ask, is_forwarded) in asks {
                    if !is_forwarded || self.mutant == Some(Mutant::ForwardedTwice) {
                        self.forward(process, run, ask, &owner.name, is_forwarded);
                    }
                }
            }
            Claimed::Continues { run_id } => unreachable!("no run of this world continues {run_id}"),
            Claimed::Ended { end, .. } => {
                self.figures[2] += 1;
                self.processes[process].results.insert(run, end.state.clone());
                self.deliver(run, &end.state);
            }
        }
    }

    /// What a run does with the answers about its record.
    fn on_record(
        &mut self,
        process: usize,
        run: usize,
        record: Box<RunRecord>,
        outcome: Result<ApiReply, ApiError>,
    ) {
        let again = match outcome {
            Err(error) if error.status == Some(409) => {
                let (namespace, name) = (record.namespace.clone(), record.name.clone());
                self.processes[process].runs.insert(run, Stage::Ending(record));
                return self.send(process, run, ApiCall::GetRunRecord { namespace, name });
            }
            Err(error) if error.status.is_none() => Some(record),
            Ok(ApiReply::RunRecord(Some(found))) if found.end().is_none() => {
                let RunRecord { uid, resource_version, .. } = *found;
                Some(Box::new(RunRecord { uid, resource_version, ..*record }))
            }
            Ok(ApiReply::RunRecord(Some(found))) => {
                let state = found.end().map(|end| end.state.clone()).unwrap_or_default();
                self.processes[process].results.insert(run, state);
                None
            }
            Ok(_) | Err(_) => None,
        };
        match again {
            Some(record) => {
                self.processes[process].runs.insert(run, Stage::Ending(record.clone()));
                self.send(process, run, ApiCall::UpdateRunRecord(record));
            }
            None => self.after(5, Event::DeleteJob { process, run }),
        }
    }
}
