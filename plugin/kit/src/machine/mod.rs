//! The run state machine: regions record the events, then one [`decide`](Machine::step) reads the facts and makes the commands.
//!
//! It is level-triggered: missed or compressed states of the cluster are harmless, since every decision is made from what is known now.
//! The machine has no clock, does no I/O and holds no secret value. Its whole state serialises, so that a run can be resumed.

mod activity;
mod create;
mod decide;
mod ended;
mod evidence;
mod observe;
mod outbox;
mod quiet;
mod region;
mod regions;
mod settle;
mod stall;
pub mod testing;
mod verification;
mod wait;

use std::collections::BTreeSet;
use std::rc::Rc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bindings::exports::paperclip::agent::types::{
    Command, Event, JobSnapshot, ObjectRef, Observation, PodSnapshot,
};
use crate::config::Settings;
use crate::manifest::{self, AgentType, Plan};
use crate::outcome::{AdapterResult, ErrorCode, Evidence, RunFacts, StreamEnd};
use crate::refusal::Refusal;
use crate::request::{Attempt, Request};
use activity::Activity;
use outbox::Outbox;
pub use outbox::TimerName;
pub use region::IllegalTransition;
use regions::{GuardState, JobState, LogState, PodState, StopState};
use stall::Stall;
use verification::Verification;

/// A region's states, each with those that may follow it.
pub type Table = Vec<(String, Vec<String>)>;

/// Returns the legal transitions of a run: a table for each region, by the region's name in [`Machine`]'s serialised form.
///
/// There a region's state is `{"<region>": {"state": "<state>"}}`. To keep a state is always legal. A second attempt restarts the
/// regions `job`, `pod` and `log`.
///
/// ```
/// let regions = paperclip_kit::machine::regions();
/// let (name, guard) = &regions[0];
/// assert_eq!(*name, "guard");
/// assert_eq!(guard[0], ("NotRequested".to_owned(), vec!["Requested".to_owned()]));
/// ```
pub fn regions() -> [(&'static str, Table); 5] {
    regions::tables()
}

/// What the machine needs of an agent type, beyond its manifest: how to read its stream and how to judge an attempt.
pub trait Agent: AgentType + Default + std::fmt::Debug {
    /// What is kept of the agent's output; bounded, however much the agent prints.
    type Stream: Default + Clone + std::fmt::Debug + Serialize + DeserializeOwned;

    /// Reads a whole line.
    fn read_line(&self, stream: &mut Self::Stream, line: &str);

    /// Reads the head and tail of a line that was too long to be passed whole.
    fn read_cut_line(&self, stream: &mut Self::Stream, head: &str, tail: &str, line_bytes: u64);

    /// Reads a line of stderr.
    fn read_stderr_line(&self, stream: &mut Self::Stream, line: &str);

    /// Returns how many events were read: lines that belong to the agent's stream, not mere text.
    fn event_count(&self, stream: &Self::Stream) -> u64;

    /// Returns whether the agent has reported its end. An agent that runs after that is stopped when its grace has passed since its last
    /// event; one that works again may return [`StreamEnd::Open`] again.
    fn ended(&self, stream: &Self::Stream) -> StreamEnd;

    /// Returns the last event in words, such as `a message`; empty if there was none.
    fn last_activity<'a>(&self, stream: &'a Self::Stream) -> &'a str;

    /// Returns what operators are to see in metrics about an agent that has ended, such as its version and events that it alone prints.
    fn observations(&self, _stream: &Self::Stream) -> Vec<Observation> {
        Vec::new()
    }

    /// Watches an agent that runs. It is asked after each batch of lines.
    fn watch(&self, _stream: &Self::Stream) -> Watch {
        Watch::Fine
    }

    /// Returns what the request says about the result of an attempt.
    fn run_facts(&self, request: &Request, settings: &Settings, attempt: Attempt) -> RunFacts;

    /// Judges a finished attempt.
    fn judge(&self, evidence: &Evidence, stream: &Self::Stream) -> Judgement;
}

/// What an agent type says about an agent that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watch {
    /// Nothing.
    Fine,
    /// A status line, without the prefix `[paperclip]`. It is shown once, until another answer follows.
    Status(String),
    /// The agent will not end by itself: its Job is stopped. The reason reaches the judgement as [`Evidence::stopped_for`].
    Stop(String),
}

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    pub result: AdapterResult,
    /// The session could not be resumed: the status line that announces a second attempt without it.
    pub retry: Option<String>,
}

/// One run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Machine<A: Agent> {
    #[serde(skip)]
    agent: A,
    request: Request,
    attempt: Attempt,
    facts: Facts,
    outbox: Outbox,
    guard: Guard,
    job: Job,
    pod: Pod,
    log: Log,
    stop: Stop,
    poll: Option<u64>,
    /// The status with which Paperclip's API refuses the poll, while it does.
    poll_refusal: Option<u16>,
    stream: A::Stream,
    activity: Activity,
    /// When the timer of an agent that has reported its end is due.
    ended_timer_ms: Option<u64>,
    /// When the timer of an agent that prints nothing is due.
    quiet_timer_ms: Option<u64>,
    /// After how much silence the next status line about it is shown.
    next_quiet_ms: u64,
    /// For how many open tasks a status line said that the run waits.
    shown_wait: Option<u64>,
    /// The last status of the agent type.
    watch_status: Option<String>,
    /// Since when the attempt is known to have ended.
    settling_since_ms: Option<u64>,
    /// When the settle timer is due.
    settle_timer_ms: Option<u64>,
    /// The result of the first attempt, until the second one has started.
    retry_result: Option<AdapterResult>,
    is_finished: bool,
    /// Dropped while the run waits and once its Job is live: it is as large as the prompt, and can be computed again.
    #[serde(skip)]
    plan: Option<Rc<Plan>>,
}

/// The parts of the plan that the whole run needs. The plan itself is computed again where its texts are needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Facts {
    namespace: String,
    /// Runs with the same key exclude one another.
    guard_key: String,
    settings: Settings,
    /// Whether cancellation can be polled: the URL of Paperclip's API and a token are known.
    may_poll: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Guard {
    state: GuardState,
    /// Why it was refused.
    cause: Option<(ErrorCode, String)>,
}

/// The Job of the current attempt.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    state: JobState,
    object: Option<ObjectRef>,
    /// The last snapshot.
    last: Option<JobSnapshot>,
    /// How many snapshots there were.
    observations: u32,
    /// Commands whose answers are awaited before the next transition.
    awaited: BTreeSet<u64>,
    /// A quota refuses a Secret or ConfigMap for now; all are created again when the timer fires.
    is_over_quota: bool,
    /// Since when a quota has refused one.
    over_quota_since_ms: Option<u64>,
    /// Jobs of other runs that block this one.
    blockers: Vec<ObjectRef>,
    /// Since when this run is blocked.
    blocked_since_ms: Option<u64>,
    /// Why it failed.
    cause: Option<(ErrorCode, String)>,
    /// How its deletion was detected, unless this run requested it.
    deleted_via: Option<String>,
    is_deletion_requested: bool,
    /// The API has accepted the deletion.
    is_deletion_accepted: bool,
    /// Verifies the end of the attempt with the API.
    verification: Verification,
    /// It was created by another run.
    is_adopted: bool,
    /// Since when it is unsuspended.
    live_since_ms: Option<u64>,
    /// A snapshot showed it unsuspended.
    has_been_active: bool,
    /// Somebody suspended it while its agent ran.
    is_suspended_in_run: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Pod {
    state: PodState,
    last: Option<PodSnapshot>,
    /// When the agent's container was first seen to have started, by the host's clock.
    agent_started_ms: Option<u64>,
    /// The API lists none.
    is_missing: bool,
    /// What keeps it from starting, and since when.
    stall: Option<(Stall, u64)>,
    /// Verifies the stall with the API before the run fails for it: watches may be silent for longer than a grace.
    stall_verification: Verification,
    /// The command that lists the Kubernetes events of the stall; one for each stall.
    events_query: Option<u64>,
    /// The message of the first warning among them.
    event_message: Option<String>,
    /// The timer of the run's timeout is set.
    is_run_timer_set: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Log {
    state: LogState,
    command: Option<u64>,
    /// When the stream last reported anything.
    last_activity_ms: u64,
    is_stderr_emitted: bool,
    /// It ended before everything was read.
    is_cut_short: bool,
    /// The API's message, if the host lacks the right to read it and nothing was read.
    forbidden: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stop {
    state: StopState,
    /// Why it was cancelled, or why its agent type stopped it.
    reason: Option<String>,
    /// For how long its agent had printed nothing, if it was stopped for that.
    quiet_ms: Option<u64>,
    /// When it was requested.
    since_ms: u64,
}

impl Default for Job {
    fn default() -> Self {
        Job {
            state: JobState::NotCreated,
            object: None,
            last: None,
            observations: 0,
            awaited: BTreeSet::new(),
            is_over_quota: false,
            over_quota_since_ms: None,
            blockers: Vec::new(),
            blocked_since_ms: None,
            cause: None,
            deleted_via: None,
            is_deletion_requested: false,
            is_deletion_accepted: false,
            verification: Verification::NotRequested,
            is_adopted: false,
            live_since_ms: None,
            has_been_active: false,
            is_suspended_in_run: false,
        }
    }
}

impl Default for Pod {
    fn default() -> Self {
        Pod {
            state: PodState::NotObserved,
            last: None,
            agent_started_ms: None,
            is_missing: false,
            stall: None,
            stall_verification: Verification::NotRequested,
            events_query: None,
            event_message: None,
            is_run_timer_set: false,
        }
    }
}

impl Default for Stop {
    fn default() -> Self {
        Stop { state: StopState::NotRequested, reason: None, quiet_ms: None, since_ms: 0 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log {
            state: LogState::NotFollowed,
            command: None,
            last_activity_ms: 0,
            is_stderr_emitted: false,
            is_cut_short: false,
            forbidden: None,
        }
    }
}

impl<A: Agent> Machine<A> {
    /// Prepares a run. Its first step has no events.
    ///
    /// # Errors
    /// The request asks for something that Kubernetes or the agent would not accept.
    pub fn new(request: Request) -> Result<Self, Refusal> {
        let agent = A::default();
        let plan = manifest::plan(&request, Attempt::FIRST, &agent)?;
        let may_poll = request.has_auth_token && request.host.api_url.is_some();
        let mut outbox = Outbox::default();
        if plan.settings.timeout_sec.is_none() {
            outbox.info("[paperclip] This run has no time limit: timeoutSec is 0");
        }
        for warning in &plan.warnings {
            outbox.warn(warning.clone());
        }
        Ok(Machine {
            agent,
            request,
            attempt: Attempt::FIRST,
            facts: Facts {
                namespace: plan.namespace.clone(),
                guard_key: plan.guard_key.clone(),
                settings: plan.settings.clone(),
                may_poll,
            },
            outbox,
            guard: Guard { state: GuardState::NotRequested, cause: None },
            job: Job::default(),
            pod: Pod::default(),
            log: Log::default(),
            stop: Stop::default(),
            poll: None,
            poll_refusal: None,
            stream: A::Stream::default(),
            activity: Activity::default(),
            ended_timer_ms: None,
            quiet_timer_ms: None,
            next_quiet_ms: quiet::FIRST_SHOWN_MS,
            shown_wait: None,
            watch_status: None,
            settling_since_ms: None,
            settle_timer_ms: None,
            retry_result: None,
            is_finished: false,
            plan: Some(Rc::new(plan)),
        })
    }

    /// Records the events and returns the commands that follow from what is known now.
    ///
    /// # Errors
    /// An event led to a transition that no table has. The run is lost: a machine that returned an error must not be used again.
    pub fn step(&mut self, at_ms: u64, events: Vec<Event>) -> Result<Vec<Command>, IllegalTransition> {
        if self.is_finished {
            return Ok(Vec::new());
        }
        for event in events {
            self.observe(at_ms, event)?;
        }
        self.decide(at_ms)?;
        Ok(self.outbox.take())
    }

    /// Returns the run's phase in a few words, for display.
    pub fn phase(&self) -> String {
        if self.is_finished {
            return "finished".to_owned();
        }
        match self.stop.state {
            StopState::Cancelled => return "cancelling".to_owned(),
            StopState::TimedOut => return "timed out, stopping".to_owned(),
            StopState::Reported => return "the agent has reported its end, stopping".to_owned(),
            StopState::Stuck => return "the agent does not come to an end, stopping".to_owned(),
            StopState::NotRequested => {}
        }
        match self.job.state {
            JobState::NotCreated => match self.guard.state {
                GuardState::Requested => "waiting for the agent's turn".to_owned(),
                GuardState::NotRequested | GuardState::Held | GuardState::Refused | GuardState::Lost => {
                    "preparing".to_owned()
                }
            },
            JobState::Listing => "listing Jobs of the agent".to_owned(),
            JobState::Blocked => "waiting for another run of the agent".to_owned(),
            JobState::Preflight
            | JobState::Creating
            | JobState::CreatingDependents
            | JobState::Unsuspending => "creating the Job".to_owned(),
            JobState::Adopting => "adopting the Job".to_owned(),
            JobState::Live => self.pod_phase(),
            JobState::Deleting => "restarting without the session".to_owned(),
            JobState::Failed | JobState::Deleted => "settling".to_owned(),
        }
    }

    fn pod_phase(&self) -> String {
        match (self.pod.state, &self.pod.stall) {
            (PodState::Started, _) => match self.agent.ended(&self.stream) {
                StreamEnd::Open => "the agent runs".to_owned(),
                StreamEnd::Ended { .. } => "the agent has reported its end".to_owned(),
            },
            (PodState::Ended | PodState::Deleted, _) => "settling".to_owned(),
            (PodState::NotObserved | PodState::Waiting, Some((stall, _))) => {
                format!("waiting for the pod: {}", stall.detail)
            }
            (PodState::NotObserved | PodState::Waiting, None) => "waiting for the pod".to_owned(),
        }
    }
}
