//! The world: a cluster, Paperclip, hosts and their disks, and the order in which things happen there.

mod controllers;
mod kubelet;
mod logs;
mod people;
mod process;
mod requests;
mod watches;

use paperclip_contract::types::Request;
use paperclip_contract::types::{ApiError, HostFacts};
use paperclip_engine::api::{ApiCall, ApiReply};
use paperclip_engine::driver::DriverEvent;
use paperclip_engine::ids::{CallId, LogId, PollId};
use paperclip_engine::intake::{self, Surroundings};
use paperclip_engine::log::LogRequest;
use paperclip_engine::redact::Redactor;
use serde_json::{Map, Value};

use crate::agenda::Agenda;
use crate::case::Journal;
use crate::cluster::{Cluster, Stage};
use crate::coverage::Moves;
use crate::disk::Disk;
use crate::entropy::Entropy;
use crate::fault::{Fault, Phase, Swarm};
use crate::invariants::{self, Violation};
use crate::marks::{Mark, Marks};
use crate::mutant::Mutant;
use crate::plugin::Plugin;
use crate::scenario::{NAMESPACE, RunPlan, Scenario};
use crate::trace::Trace;
use process::Process;
pub(crate) use process::SINK_BYTES;

/// When the world begins, in ms since 1970.
pub(crate) const EPOCH_MS: u64 = 1_800_000_000_000;
/// From then on nothing goes wrong any more.
pub(crate) const HEALING_MS: u64 = 15 * 60_000;
/// Things that may happen in one case; more is a livelock (L5).
const MAX_HAPPENINGS: u32 = 8_000;

/// Something that happens at a time.
#[derive(Debug)]
pub(crate) enum Happening {
    StartRun(usize),
    /// A host starts (again) and resumes the run.
    Resume(usize),
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
    Watch {
        process: usize,
        follow: usize,
        is_of_jobs: bool,
    },
    WatchBack {
        process: usize,
        follow: usize,
        is_of_jobs: bool,
        begins: Begins,
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
    Trouble(String),
}

/// With what a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begins {
    /// With what follows what it told last.
    WhereItWas,
    /// With a list of all that is.
    WithAList,
    /// With what others know who have watched for longer: a namespace is watched once for all runs.
    AmongOthers,
}

/// One run and what became of it.
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

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now_ms: u64,
    pub(crate) cluster: Cluster,
    pub(crate) runs: Vec<RunTruth>,
    pub(crate) processes: Vec<Process>,
    pub(crate) swarm: Swarm,
    pub(crate) trace: Trace,
    pub(crate) marks: Marks,
    pub(crate) violation: Option<Violation>,
    pub(crate) healed_at_ms: Option<u64>,
    /// When this world's faults last struck.
    pub(crate) last_fault_ms: u64,
    entropy: Entropy,
    agenda: Agenda<Happening>,
    plugin: Plugin,
    mutant: Option<Mutant>,
    /// The plugin's calls are made again at the end (S7), and its regions are looked at: that takes longer than the case itself.
    is_sampled: bool,
}

/// One case of so many is looked at more closely.
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
        let is_sampled = entropy.below(u64::from(SAMPLED)) == 0;
        let mut world = World {
            now_ms: EPOCH_MS,
            cluster: Cluster::new(EPOCH_MS, stamps_chunks),
            runs: scenario.runs.into_iter().map(|plan| RunTruth::new(plan, plugin)).collect(),
            processes: Vec::new(),
            swarm,
            trace,
            marks: Marks::default(),
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
            world.at(EPOCH_MS + plan.starts_at_ms, Happening::StartRun(index));
            for cancel in plan.cancels {
                world.plan_cancel(index, cancel);
            }
            // An agent may hang for ever, and then a person is to end it.
            world.at(EPOCH_MS + HEALING_MS, Happening::Cancel { run: index });
            if let Some(at_ms) = plan.stop_at_ms {
                world.at(EPOCH_MS + at_ms, Happening::Stop { run: index });
            }
        }
        world
    }

    /// Lets things happen until nothing is left to happen, or a promise is broken.
    pub(crate) fn run(&mut self) {
        let mut happenings = 0;
        while self.violation.is_none() {
            let Some((at_ms, happening)) = self.agenda.pop() else { break };
            self.now_ms = self.now_ms.max(at_ms);
            self.cluster.now_ms = self.now_ms;
            happenings += 1;
            if happenings > MAX_HAPPENINGS {
                self.violate(
                    "L5",
                    format!("{happenings} things happened, and the case is not over: {happening:?}"),
                );
                break;
            }
            self.heal_in_time();
            let told = self.cluster.log.len();
            self.trace.note(self.now_ms, &self.entropy.used().to_le_bytes());
            self.happen(happening);
            self.plan_watches(told);
            invariants::after_step(self);
        }
        if self.violation.is_none() {
            invariants::at_the_end(self);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::StartRun(run) => self.start_run(run),
            Happening::Resume(run) => self.resume_run(run),
            Happening::Cancel { run } => self.cancel(run),
            Happening::CancelAgain { run, process } => self.cancel_again(run, process),
            Happening::CancelInPaperclip { run } => self.runs[run].is_cancelled_in_paperclip = true,
            Happening::Stop { run } => self.stop_host(run),
            Happening::Request { process, call, request, is_answer_lost } => {
                self.serve(process, call, &request, is_answer_lost);
            }
            Happening::Answer { process, call, outcome } => {
                self.note_silence(process, call, outcome.as_ref());
                self.give(process, DriverEvent::Called { call, outcome: *outcome });
            }
            Happening::Tick { process, at_ms } => self.tick(process, at_ms),
            Happening::Unblock { process } => self.complete_sync(process),
            Happening::SinkResumes { process } => self.resume_sink(process),
            Happening::SinkTimesOut { process } => self.time_sink_out(process),
            Happening::Watch { process, follow, is_of_jobs } => self.tell_watch(process, follow, is_of_jobs),
            Happening::WatchBack { process, follow, is_of_jobs, begins } => {
                self.reopen_watch(process, follow, is_of_jobs, begins);
            }
            Happening::LogOpen { process, log } => self.open_log(process, log),
            Happening::LogPiece { process, log } => self.send_log(process, log),
            Happening::LogClose { process, log } => self.close_log(process, log),
            Happening::Poll { process, poll } => self.answer_poll(process, poll),
            Happening::ReconcileJob(job) => self.reconcile_job(&job),
            Happening::JobCondition(job) => self.conclude_job(&job),
            Happening::JobDeadline(job) => self.end_job_by_deadline(&job),
            Happening::JobTtl(job) => self.end_job_by_ttl(&job),
            Happening::RemoveJob(job) => self.remove_job(&job),
            Happening::CollectGarbage(owner) => self.collect_garbage(&owner),
            Happening::ResumeJob(job) => self.resume_job(&job),
            Happening::Schedule(pod) => self.schedule_pod(&pod),
            Happening::StartContainer(pod) => self.start_container(&pod),
            Happening::Agent(pod) => self.act_agent(&pod),
            Happening::Term(pod) => self.term_pod(&pod),
            Happening::Kill(pod) => self.kill_pod(&pod),
            Happening::RemovePod(pod) => self.remove_pod(&pod),
            Happening::Trouble(job) => self.make_trouble(&job),
        }
    }

    /// Lets something happen after a delay in ms.
    fn after(&mut self, delay_ms: u64, happening: Happening) {
        self.at(self.now_ms + delay_ms, happening);
    }

    fn at(&mut self, at_ms: u64, happening: Happening) {
        let tie = self.entropy.byte() & 7;
        self.agenda.put(at_ms.max(self.now_ms), tie, happening);
    }

    /// Whether a fault strikes a run now.
    fn strikes(&mut self, fault: Fault, run: usize) -> bool {
        let phase = if self.swarm.has(fault) { self.phase(run) } else { Phase::Begin };
        self.strikes_in(phase, fault, run)
    }

    /// Whether a fault strikes a Job or its pod now, and with them a run that may have another Job by now.
    fn strikes_job(&mut self, fault: Fault, run: usize, job_uid: &str) -> bool {
        let phase = if self.swarm.has(fault) { self.phase_with(run, Some(job_uid)) } else { Phase::Begin };
        self.strikes_in(phase, fault, run)
    }

    fn strikes_in(&mut self, phase: Phase, fault: Fault, run: usize) -> bool {
        let strikes = self.swarm.strikes(fault, phase, &mut self.entropy);
        if strikes {
            self.last_fault_ms = self.now_ms;
            self.tell(run, "!fault", format_args!("{} ({})", fault.name(), phase.name()));
        }
        strikes
    }

    /// Where a run stands, seen from outside.
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
        let Some(job) = job_uid.and_then(|uid| self.cluster.jobs.get(uid)) else { return Phase::Begin };
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

    /// Writes down what happened to a run, for people.
    fn tell(&mut self, run: usize, source: &str, text: std::fmt::Arguments<'_>) {
        if self.trace.is_kept() {
            let state = self.columns(run);
            self.trace.line(self.now_ms, source, &state, text);
        }
    }

    /// Where a run stands, in columns: itself, its Job, its pod, open streams of its log, whether it was cancelled, lines shown.
    fn columns(&self, run: usize) -> String {
        let truth = &self.runs[run];
        let own = self.cluster.jobs.values().rev().find(|job| job.run_id() == Some(&truth.plan.run_id));
        let job = own.map_or(".", |job| match job {
            job if job.is_removed => "gone",
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
            Stage::Removed => "gone",
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

    pub(crate) fn mark(&mut self, mark: Mark) {
        self.marks.hit(mark);
    }

    /// Replays a run's guest calls on a fresh instance (S7).
    pub(crate) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    pub(crate) fn mutant(&self) -> Option<Mutant> {
        self.mutant
    }

    /// Moves of the plugin's regions that were seen.
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

    /// Which run a Job belongs to.
    pub(crate) fn run_of_job(&self, job_uid: &str) -> Option<usize> {
        let run_id = self.cluster.jobs.get(job_uid)?.run_id()?;
        self.runs.iter().position(|run| run.plan.run_id == run_id)
    }
}

impl RunTruth {
    fn new(plan: RunPlan, plugin: &Plugin) -> Self {
        let surroundings = Surroundings {
            self_pod: None,
            revealed_env: plugin.revealed_env(),
            files: Vec::new(),
            host: HostFacts {
                paperclip_api_url: Some("http://paperclip.example:3100".to_owned()),
                ..Surroundings::bare(Some(NAMESPACE)).host
            },
        };
        let (request, secrets) = intake::take(&plan.context(), "claude_k8s", surroundings)
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

/// What a stream of a log is to bring.
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
