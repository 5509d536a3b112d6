//! The world: a cluster, Paperclip, hosts and their disks, and the order in which things happen there.

mod controllers;
mod hosts;
mod kubelet;
mod logs;
mod people;
mod process;
mod requests;
mod watches;

use paperclip_contract::types::{ApiError, ContextFile, HostFacts, Request};
use paperclip_engine::api::{ApiCall, ApiReply};
use paperclip_engine::driver::{DriverEvent, WatchEvent};
use paperclip_engine::ids::{CallId, LogId, PollId};
use paperclip_engine::intake::{self, IntakeFacts};
use paperclip_engine::log::LogRequest;
use paperclip_engine::redact::Redactor;
use serde_json::{Map, Value};

use crate::agenda::Agenda;
use crate::case::Journal;
use crate::cluster::{Cluster, Stage};
use crate::coverage::Moves;
use crate::coverage_points::{CoveragePoint, CoveragePoints};
use crate::disk::Disk;
use crate::entropy::Entropy;
use crate::fault::{Fault, Phase, Swarm};
use crate::invariants::{self, Violation};
use crate::mutant::Mutant;
use crate::plugin::Plugin;
use crate::scenario::{NAMESPACE, RunPlan, Scenario};
use crate::trace::Trace;
use process::Process;
pub(crate) use process::SINK_BYTES;

/// When the world starts, in ms since 1970.
pub(crate) const EPOCH_MS: u64 = 1_800_000_000_000;
/// From this time on no fault strikes.
pub(crate) const HEALING_MS: u64 = 15 * 60_000;
/// Most events of one case; more is a livelock (L5).
const MAX_WORLD_EVENTS: u32 = 8_000;

/// Something that happens at a time in the world.
#[derive(Debug)]
pub(crate) enum WorldEvent {
    StartRun(usize),
    /// A host starts (again) and resumes the run.
    Resume(usize),
    /// Another daemon starts on the folder of a run.
    SecondHost(usize),
    Cancel {
        run: usize,
    },
    CancelAgain {
        run: usize,
        process: usize,
    },
    CancelInPaperclip {
        run: usize,
    },
    Stop {
        run: usize,
    },
    /// A request reaches the server.
    Request {
        process: usize,
        call: CallId,
        request: Box<ApiCall>,
        is_answer_lost: bool,
    },
    Answer {
        process: usize,
        call: CallId,
        outcome: Box<Result<ApiReply, ApiError>>,
    },
    Tick {
        process: usize,
        at_ms: u64,
    },
    /// The disk has completed what a process waits for.
    Unblock {
        process: usize,
    },
    /// A sink that stalled takes records again.
    SinkResumes {
        process: usize,
    },
    /// A process does not wait any longer for its sink.
    SinkTimesOut {
        process: usize,
    },
    /// The Lease of a process's host is renewed, or not.
    RenewHost {
        process: usize,
    },
    /// The Lease of a host instance whose process has ended has expired.
    RevokeHost {
        instance: String,
    },
    /// A watch reports that the guard of a process's run has changed.
    GuardChanged {
        process: usize,
    },
    Watch {
        process: usize,
        follow: usize,
        is_of_jobs: bool,
    },
    WatchBack {
        process: usize,
        follow: usize,
        is_of_jobs: bool,
        start: WatchStart,
    },
    LogOpen {
        process: usize,
        log: LogId,
    },
    LogPiece {
        process: usize,
        log: LogId,
    },
    LogClose {
        process: usize,
        log: LogId,
    },
    Poll {
        process: usize,
        poll: PollId,
    },
    ReconcileJob(String),
    JobCondition(String),
    JobDeadline(String),
    JobTtl(String),
    RemoveJob(String),
    CollectGarbage(String),
    ResumeJob(String),
    Schedule(String),
    StartContainer(String),
    Agent(String),
    Term(String),
    Kill(String),
    RemovePod(String),
    Disturb(String),
}

/// How a watch starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchStart {
    /// With the change after the last one that it delivered.
    AtCursor,
    /// With a list of all objects.
    WithList,
    /// With what an older watch knows: a namespace is watched once for all runs.
    Shared,
}

/// One run and what has become of it.
#[derive(Debug)]
pub(crate) struct RunTruth {
    pub(crate) plan: RunPlan,
    pub(crate) request: Request,
    pub(crate) redactor: Redactor,
    pub(crate) disk: Disk,
    /// The process that drives it now.
    pub(crate) process: Option<usize>,
    pub(crate) results: Vec<Map<String, Value>>,
    pub(crate) result_at_ms: Option<u64>,
    pub(crate) is_refused: bool,
    pub(crate) is_closed: bool,
    pub(crate) is_cancelled_in_paperclip: bool,
    /// When a cancel first reached an engine.
    pub(crate) cancelled_at_ms: Option<u64>,
    /// The sender of a cancel knows that the run will end.
    pub(crate) is_cancel_acknowledged: bool,
    pub(crate) next_host: u32,
    /// Longest log that was shown for it by any process.
    pub(crate) shown: usize,
    pub(crate) has_gap: bool,
    /// One of its calls had no good answer for as long as a host cleans up.
    pub(crate) is_api_away: bool,
    pub(crate) requests: u32,
}

/// The whole state of a case.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now_ms: u64,
    pub(crate) cluster: Cluster,
    pub(crate) runs: Vec<RunTruth>,
    pub(crate) processes: Vec<Process>,
    pub(crate) swarm: Swarm,
    pub(crate) trace: Trace,
    pub(crate) coverage_points: CoveragePoints,
    pub(crate) violation: Option<Violation>,
    pub(crate) healed_at_ms: Option<u64>,
    /// When this world's faults last struck.
    pub(crate) last_fault_ms: u64,
    entropy: Entropy,
    agenda: Agenda<WorldEvent>,
    plugin: Plugin,
    mutant: Option<Mutant>,
    /// The plugin's calls are replayed at the end (S7) and its regions are read: that takes longer than the case itself.
    is_sampled: bool,
}

/// One case in this many is sampled.
const SAMPLED: u8 = 8;

impl World {
    pub(crate) fn new(
        mut entropy: Entropy,
        scenario: Scenario,
        swarm: Swarm,
        plugin: &Plugin,
        mutant: Option<Mutant>,
        trace: Trace,
    ) -> Self {
        let stamps_chunks = entropy.chance(64);
        // Drawn apart, so that recorded seeds keep their meaning.
        let mut counting = entropy.branch("control-lines");
        let (is_counted, has_init) = (counting.chance(128), counting.chance(224));
        let is_sampled = entropy.below(u64::from(SAMPLED)) == 0;
        let mut world = World {
            now_ms: EPOCH_MS,
            cluster: Cluster::new(EPOCH_MS, stamps_chunks, has_init),
            runs: scenario.runs.into_iter().map(|plan| RunTruth::new(plan, plugin, is_counted)).collect(),
            processes: Vec::new(),
            swarm,
            trace,
            coverage_points: CoveragePoints::default(),
            violation: None,
            healed_at_ms: None,
            last_fault_ms: EPOCH_MS,
            entropy,
            agenda: Agenda::default(),
            plugin: plugin.clone(),
            mutant,
            is_sampled,
        };
        for index in 0..world.runs.len() {
            let plan = world.runs[index].plan.clone();
            if let Some(orphan_ms) = plan.orphan_ms {
                world.leave_orphan(&plan, orphan_ms);
            }
            world.at(EPOCH_MS + plan.starts_at_ms, WorldEvent::StartRun(index));
            for cancel in plan.cancels {
                world.plan_cancel(index, cancel);
            }
            // An agent may hang forever; then a person cancels it.
            world.at(EPOCH_MS + HEALING_MS, WorldEvent::Cancel { run: index });
            if let Some(at_ms) = plan.stop_at_ms {
                world.at(EPOCH_MS + at_ms, WorldEvent::Stop { run: index });
            }
        }
        world
    }

    /// Applies events until there are none left or an invariant is violated.
    pub(crate) fn run(&mut self) {
        let mut events = 0;
        while self.violation.is_none() {
            let Some((at_ms, event)) = self.agenda.pop() else { break };
            self.now_ms = self.now_ms.max(at_ms);
            self.cluster.now_ms = self.now_ms;
            events += 1;
            if events > MAX_WORLD_EVENTS {
                self.violate("L5", format!("{events} events, and the case is not over: {event:?}"));
                break;
            }
            self.heal_in_time();
            let known = self.cluster.log.len();
            self.trace.note(self.now_ms, &self.entropy.used().to_le_bytes());
            self.apply(event);
            self.plan_watches(known);
            invariants::after_step(self);
        }
        if self.violation.is_none() {
            invariants::at_the_end(self);
        }
    }

    fn apply(&mut self, event: WorldEvent) {
        match event {
            WorldEvent::StartRun(run) => self.start_run(run),
            WorldEvent::Resume(run) | WorldEvent::SecondHost(run) => self.resume_run(run),
            WorldEvent::Cancel { run } => self.cancel(run),
            WorldEvent::CancelAgain { run, process } => self.cancel_again(run, process),
            WorldEvent::CancelInPaperclip { run } => self.runs[run].is_cancelled_in_paperclip = true,
            WorldEvent::Stop { run } => self.stop_host(run),
            WorldEvent::Request { process, call, request, is_answer_lost } => {
                self.serve(process, call, &request, is_answer_lost);
            }
            WorldEvent::Answer { process, call, outcome } => {
                self.note_answer(process, call, outcome.as_ref());
                self.give(process, DriverEvent::Called { call, outcome: *outcome });
            }
            WorldEvent::Tick { process, at_ms } => self.tick(process, at_ms),
            WorldEvent::Unblock { process } => self.complete_sync(process),
            WorldEvent::SinkResumes { process } => self.resume_sink(process),
            WorldEvent::SinkTimesOut { process } => self.time_sink_out(process),
            WorldEvent::RenewHost { process } => self.renew_host(process),
            WorldEvent::RevokeHost { instance } => drop(self.cluster.hosts.remove(&instance)),
            WorldEvent::GuardChanged { process } => {
                self.give(process, DriverEvent::Watch(WatchEvent::GuardChanged));
            }
            WorldEvent::Watch { process, follow, is_of_jobs } => {
                self.deliver_change(process, follow, is_of_jobs);
            }
            WorldEvent::WatchBack { process, follow, is_of_jobs, start } => {
                self.reopen_watch(process, follow, is_of_jobs, start);
            }
            WorldEvent::LogOpen { process, log } => self.open_log(process, log),
            WorldEvent::LogPiece { process, log } => self.send_log(process, log),
            WorldEvent::LogClose { process, log } => self.close_log(process, log),
            WorldEvent::Poll { process, poll } => self.answer_poll(process, poll),
            WorldEvent::ReconcileJob(job) => self.reconcile_job(&job),
            WorldEvent::JobCondition(job) => self.conclude_job(&job),
            WorldEvent::JobDeadline(job) => self.end_job_by_deadline(&job),
            WorldEvent::JobTtl(job) => self.end_job_by_ttl(&job),
            WorldEvent::RemoveJob(job) => self.remove_job(&job),
            WorldEvent::CollectGarbage(owner) => self.collect_garbage(&owner),
            WorldEvent::ResumeJob(job) => self.resume_job(&job),
            WorldEvent::Schedule(pod) => self.schedule_pod(&pod),
            WorldEvent::StartContainer(pod) => self.start_container(&pod),
            WorldEvent::Agent(pod) => self.act_agent(&pod),
            WorldEvent::Term(pod) => self.term_pod(&pod),
            WorldEvent::Kill(pod) => self.kill_pod(&pod),
            WorldEvent::RemovePod(pod) => self.remove_pod(&pod),
            WorldEvent::Disturb(job) => self.disturb_job(&job),
        }
    }

    /// Plans an event after a delay in ms.
    fn after(&mut self, delay_ms: u64, event: WorldEvent) {
        self.at(self.now_ms + delay_ms, event);
    }

    fn at(&mut self, at_ms: u64, event: WorldEvent) {
        let tie = self.entropy.byte() & 7;
        self.agenda.put(at_ms.max(self.now_ms), tie, event);
    }

    /// Whether a fault strikes a run now.
    fn strikes(&mut self, fault: Fault, run: usize) -> bool {
        let phase = if self.swarm.has(fault) { self.phase(run) } else { Phase::Start };
        self.strikes_in(phase, fault, run)
    }

    /// Whether a fault strikes a Job or its pod now, and with them a run that may have another Job by now.
    fn strikes_job(&mut self, fault: Fault, run: usize, job_uid: &str) -> bool {
        let phase = if self.swarm.has(fault) { self.phase_with(run, Some(job_uid)) } else { Phase::Start };
        self.strikes_in(phase, fault, run)
    }

    fn strikes_in(&mut self, phase: Phase, fault: Fault, run: usize) -> bool {
        let strikes = self.swarm.strikes(fault, phase, &mut self.entropy);
        if strikes {
            self.last_fault_ms = self.now_ms;
            self.trace_line(run, "!fault", format_args!("{} ({})", fault.name(), phase.name()));
        }
        strikes
    }

    /// The phase of a run, seen from outside.
    pub(crate) fn phase(&self, run: usize) -> Phase {
        let run_id = &self.runs[run].plan.run_id;
        let own = self.cluster.jobs.values().rev().find(|job| job.has_been_of(run_id));
        self.phase_with(run, own.map(|job| &*job.object.uid))
    }

    /// The same, as far as it has to do with this Job.
    fn phase_with(&self, run: usize, job_uid: Option<&str>) -> Phase {
        if !self.runs[run].results.is_empty() {
            return Phase::Cleanup;
        }
        let Some(job) = job_uid.and_then(|uid| self.cluster.jobs.get(uid)) else { return Phase::Start };
        let pod = self.cluster.pods.values().rev().find(|pod| pod.job_uid == job.object.uid);
        match pod.map(|pod| pod.stage) {
            Some(Stage::Running) => Phase::Run,
            Some(Stage::Ended | Stage::Removed) => Phase::Settle,
            Some(Stage::Unscheduled | Stage::Starting) => Phase::Wait,
            None if job.is_removed => Phase::Settle,
            None if job.started_ms.is_some() || !job.is_suspended => Phase::Wait,
            None => Phase::Create,
        }
    }

    /// Adds a line about a run to the trace.
    fn trace_line(&mut self, run: usize, source: &str, text: std::fmt::Arguments<'_>) {
        if self.trace.is_kept() {
            let state = self.columns(run);
            self.trace.line(self.now_ms, source, &state, text);
        }
    }

    /// The state of a run in columns: its index, Job, pod, open streams of its log, whether it was cancelled, lines shown.
    fn columns(&self, run: usize) -> String {
        let truth = &self.runs[run];
        let own = self.cluster.jobs.values().rev().find(|job| job.run_id() == Some(&truth.plan.run_id));
        let job = own.map_or(".", |job| match job {
            job if job.is_removed => "rm",
            job if job.deleting_since_ms.is_some() => "del",
            job if job.is_finished() => "done",
            job if job.is_suspended => "susp",
            _ => "live",
        });
        let pod = own.and_then(|job| self.cluster.pods.values().find(|pod| pod.job_uid == job.object.uid));
        let pod = pod.map_or(".", |pod| match pod.stage {
            _ if pod.is_lost => "lost",
            Stage::Unscheduled => "pend",
            Stage::Starting => "init",
            Stage::Running if pod.deleting_since_ms.is_some() => "term",
            Stage::Running => "run",
            Stage::Ended => "end",
            Stage::Removed => "rm",
        });
        let process = truth.process.map(|process| &self.processes[process]);
        let streams = process.map_or(0, |process| process.streams.len());
        let stop = if truth.cancelled_at_ms.is_some() { "cancel" } else { "." };
        format!("{run:>3} {job:<4} {pod:<4} {streams:>3} {stop:<6} {:>3}", truth.shown)
    }

    fn heal_in_time(&mut self) {
        if self.now_ms >= EPOCH_MS + HEALING_MS || self.entropy.is_exhausted() {
            self.swarm.heal();
        }
        if self.swarm.is_healed() && self.healed_at_ms.is_none() {
            self.healed_at_ms = Some(self.now_ms);
        }
    }

    pub(crate) fn violate(&mut self, rule: &'static str, text: String) {
        if self.violation.is_none() {
            self.trace.line(self.now_ms, "!!", "", format_args!("{rule}: {text}"));
            self.violation = Some(Violation { rule, text });
        }
    }

    pub(crate) fn cover(&mut self, point: CoveragePoint) {
        self.coverage_points.hit(point);
    }

    /// Replays a run's guest calls on a fresh instance (S7).
    pub(crate) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    pub(crate) fn mutant(&self) -> Option<Mutant> {
        self.mutant
    }

    /// Returns the transitions of the plugin's regions that were seen.
    pub(crate) fn moves(&self) -> Moves {
        let mut moves = Moves::default();
        for process in &self.processes {
            if let Some(watched) = &process.notes.borrow().watched {
                moves.add(&watched.moves);
            }
        }
        moves
    }

    /// The runs' journals, as they are on disk.
    pub(crate) fn journals(&self) -> Vec<Journal> {
        let journal = |run: &RunTruth| Journal {
            run_id: run.plan.run_id.clone(),
            header: self.plugin.journal_header(&run.plan.run_id),
            files: run.disk.files(),
        };
        self.runs.iter().map(journal).collect()
    }

    pub(crate) fn entropy_used(&self) -> u32 {
        self.entropy.used()
    }

    /// Returns the run that a Job belongs to.
    pub(crate) fn run_of_job(&self, job_uid: &str) -> Option<usize> {
        let run_id = self.cluster.jobs.get(job_uid)?.run_id()?;
        self.runs.iter().position(|run| run.plan.run_id == run_id)
    }
}

impl RunTruth {
    fn new(plan: RunPlan, plugin: &Plugin, is_counted: bool) -> Self {
        let skill = ContextFile::text("skills/review/SKILL.md", "Review.");
        let facts = IntakeFacts {
            paperclip_pod: None,
            revealed_env: plugin.revealed_env(),
            files: if plan.has_skill { vec![skill] } else { Vec::new() },
            instructions_path: None,
            host: HostFacts {
                paperclip_api_url: Some("http://paperclip.example:3100".to_owned()),
                init_config_map: is_counted.then(|| "paperclip-init-1".to_owned()),
                ..IntakeFacts::bare(Some(NAMESPACE)).host
            },
        };
        let (request, secrets) = intake::split(&plan.context(), &plugin.grammar().adapter_type, facts)
            .expect("the scenario's contexts are well formed");
        RunTruth {
            plan,
            request,
            redactor: Redactor::new(secrets.named()).expect("two short values"),
            disk: Disk::default(),
            process: None,
            results: Vec::new(),
            result_at_ms: None,
            is_refused: false,
            is_closed: false,
            is_cancelled_in_paperclip: false,
            cancelled_at_ms: None,
            is_cancel_acknowledged: false,
            next_host: 0,
            shown: 0,
            has_gap: false,
            is_api_away: false,
            requests: 0,
        }
    }
}

/// A stream of a log, from the server to a process.
#[derive(Debug)]
pub(crate) struct LogStream {
    pub(crate) log: LogId,
    pub(crate) pod_uid: String,
    pub(crate) request: LogRequest,
    pub(crate) reading: Option<crate::cluster::Reading>,
    /// Read from the file, not sent yet.
    pub(crate) bytes: Vec<u8>,
    /// A piece, or the end, is on its way.
    pub(crate) is_under_way: bool,
    pub(crate) is_silent: bool,
    /// The process does not take its pieces: reading pauses until it does.
    pub(crate) is_paused: bool,
}
