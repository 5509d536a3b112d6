//! The run state machine: regions take in what happened, then one [`decide`](Machine::step) looks at the facts and makes the commands.
//!
//! It is level-triggered: missed or compressed states of the cluster are harmless, since every decision is made from what is known now.
//! The machine has no clock, does no I/O and holds no secret value; its whole state serialises, so that a run can be taken up again.

mod create;
mod decide;
mod evidence;
mod observe;
mod outbox;
mod region;
mod regions;
mod settle;
mod stall;
mod verification;
mod wait;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::rc::Rc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bindings::exports::paperclip::agent::types::{
    Command, Event, JobSnapshot, ObjectRef, PodSnapshot,
};
use crate::config::Settings;
use crate::manifest::{self, AgentType, Plan};
use crate::outcome::{AdapterResult, ErrorCode, Evidence, RunFacts};
use crate::refusal::Refusal;
use crate::request::{Attempt, Request};
use outbox::Outbox;
use regions::{GuardState, JobState, LogState, PodState, StopState};
use stall::Stall;
use verification::Verification;

/// A region's states, each with those that may follow it.
pub type Table = Vec<(String, Vec<String>)>;

/// Which moves a run may make: a table a region, by the name under which [`Machine`]'s serialised form has the region.
///
/// A region's state stands there as `{"<region>": {"state": "<state>"}}`; to stay is always legal. A second attempt begins anew.
pub fn regions() -> [(&'static str, Table); 5] {
    regions::tables()
}

/// What the machine needs of an agent type, beyond its manifest: its stream and its judgement.
pub trait Agent: AgentType + Default + std::fmt::Debug {
    /// What is kept of the agent's output: bounded, whatever it prints.
    type Stream: Default + Clone + std::fmt::Debug + Serialize + DeserializeOwned;

    /// Reads a whole line.
    fn read_line(&self, stream: &mut Self::Stream, line: &str);

    /// Reads what is left of a line that was too long to be handed over whole.
    fn read_cut_line(&self, stream: &mut Self::Stream, head: &str, tail: &str, line_bytes: u64);

    /// Reads a line of stderr.
    fn read_stderr_line(&self, stream: &mut Self::Stream, line: &str);

    /// What a request says about the result of an attempt.
    fn run_facts(&self, request: &Request, settings: &Settings, attempt: Attempt) -> RunFacts;

    /// Judges a finished attempt.
    fn judge(&self, evidence: &Evidence, stream: &Self::Stream) -> Judgement;
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    pub result: AdapterResult,
    /// The session could not be resumed: the line that says that the same run starts once more without one.
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
    stream: A::Stream,
    /// When the attempt was seen to be over.
    settling_since_ms: Option<u64>,
    /// When the settle timer is due.
    settle_timer_ms: Option<u64>,
    /// What the first attempt came to, while a second one is being begun.
    retry_result: Option<AdapterResult>,
    is_finished: bool,
    /// Dropped where the run waits for long and once its Job lives: it has the prompt's size, and can be made again.
    #[serde(skip)]
    plan: Option<Rc<Plan>>,
}

/// What the plan of a run says, kept for its whole life. The plan itself is made again where its texts are needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Facts {
    namespace: String,
    /// Runs with the same key exclude one another; none excludes nobody.
    guard_key: Option<String>,
    settings: Settings,
    /// Whether cancellation can be polled: somebody to ask, and a token to ask with.
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
    /// As it was last seen.
    last: Option<JobSnapshot>,
    /// How often it was seen.
    observations: u32,
    /// Commands whose answers are awaited before the next move.
    awaited: BTreeSet<u64>,
    /// Jobs of other runs that are in the way.
    blockers: Vec<ObjectRef>,
    /// Why it failed.
    cause: Option<(ErrorCode, String)>,
    /// How its disappearance was noticed, unless this run brought it about.
    gone_via: Option<String>,
    is_deletion_asked: bool,
    /// The API has taken the deletion.
    is_deletion_accepted: bool,
    /// A look at the Job or its Pods that verifies what was told: the command, and whether it was answered.
    verification: Verification,
    /// It was another run's before.
    is_adopted: bool,
    /// Since when it may run.
    live_since_ms: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Pod {
    state: PodState,
    last: Option<PodSnapshot>,
    agent_started_ms: Option<u64>,
    /// A look-up found none.
    is_missing: bool,
    /// What keeps it from starting, and since when.
    stall: Option<(Stall, u64)>,
    /// The look whether it is so still, before the run is given up for it: watches may be silent for longer than a grace.
    stall_check: Verification,
    /// The query for Kubernetes' own words about the stall; made once a stall.
    events_query: Option<u64>,
    /// The first warning that the query found.
    event_words: Option<String>,
    /// The run clock is set.
    is_clock_set: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Log {
    state: LogState,
    command: Option<u64>,
    /// When the last sign of it came.
    heard_at_ms: u64,
    is_stderr_emitted: bool,
    /// It ended before all was read.
    is_cut_short: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stop {
    state: StopState,
    reason: Option<String>,
    /// When it was asked for.
    since_ms: u64,
}

impl Default for Job {
    fn default() -> Self {
        Job {
            state: JobState::Absent,
            object: None,
            last: None,
            observations: 0,
            awaited: BTreeSet::new(),
            blockers: Vec::new(),
            cause: None,
            gone_via: None,
            is_deletion_asked: false,
            is_deletion_accepted: false,
            verification: Verification::Open,
            is_adopted: false,
            live_since_ms: None,
        }
    }
}

impl Default for Pod {
    fn default() -> Self {
        Pod {
            state: PodState::Absent,
            last: None,
            agent_started_ms: None,
            is_missing: false,
            stall: None,
            stall_check: Verification::Open,
            events_query: None,
            event_words: None,
            is_clock_set: false,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log {
            state: LogState::Closed,
            command: None,
            heard_at_ms: 0,
            is_stderr_emitted: false,
            is_cut_short: false,
        }
    }
}

impl<A: Agent> Machine<A> {
    /// Begins a run: what a plan can refuse is refused now.
    ///
    /// # Errors
    /// The request asks for something that Kubernetes or the agent would not take.
    pub fn start(at_ms: u64, request: Request) -> Result<(Self, Vec<Command>), Refusal> {
        let agent = A::default();
        let plan = manifest::plan(&request, Attempt::FIRST, &agent)?;
        let may_poll = request.has_auth_token && request.host.api_url.is_some();
        let facts = Facts {
            namespace: plan.namespace.clone(),
            guard_key: plan.guard_key.clone(),
            settings: plan.settings.clone(),
            may_poll,
        };
        let warnings = plan.warnings.clone();
        let mut machine = Machine {
            agent,
            request,
            attempt: Attempt::FIRST,
            facts,
            outbox: Outbox::default(),
            guard: Guard { state: GuardState::Free, cause: None },
            job: Job::default(),
            pod: Pod::default(),
            log: Log::default(),
            stop: Stop { state: StopState::Unasked, reason: None, since_ms: 0 },
            poll: None,
            stream: A::Stream::default(),
            settling_since_ms: None,
            settle_timer_ms: None,
            retry_result: None,
            is_finished: false,
            plan: Some(Rc::new(plan)),
        };
        for warning in warnings {
            machine.outbox.warn(warning);
        }
        machine.decide(at_ms);
        let commands = machine.outbox.take();
        Ok((machine, commands))
    }

    /// Takes in what happened and decides what to do.
    pub fn step(&mut self, at_ms: u64, events: Vec<Event>) -> Vec<Command> {
        if self.is_finished {
            return Vec::new();
        }
        for event in events {
            self.observe(at_ms, event);
        }
        self.decide(at_ms);
        self.outbox.take()
    }

    /// Where the run stands, in a few words.
    pub fn phase(&self) -> String {
        if self.is_finished {
            return "finished".to_owned();
        }
        match self.stop.state {
            StopState::Cancelled => return "cancelling".to_owned(),
            StopState::TimedOut => return "timed out, stopping".to_owned(),
            StopState::Unasked => {}
        }
        match self.job.state {
            JobState::Absent => match self.guard.state {
                GuardState::Asked => "waiting for the agent's turn".to_owned(),
                GuardState::Free | GuardState::Held | GuardState::Refused | GuardState::Lost => {
                    "preparing".to_owned()
                }
            },
            JobState::Listing => "looking for other runs of the agent".to_owned(),
            JobState::Blocked => "waiting for another run of the agent".to_owned(),
            JobState::Trying | JobState::Creating | JobState::Furnishing | JobState::Releasing => {
                "creating the Job".to_owned()
            }
            JobState::Adopting => "adopting the Job".to_owned(),
            JobState::Live => self.pod_phase(),
            JobState::Leaving => "starting once more without the session".to_owned(),
            JobState::Failed | JobState::Gone => "settling".to_owned(),
        }
    }

    fn pod_phase(&self) -> String {
        match (self.pod.state, &self.pod.stall) {
            (PodState::Started, _) => "the agent runs".to_owned(),
            (PodState::Ended | PodState::Gone, _) => "settling".to_owned(),
            (PodState::Absent | PodState::Waiting, Some((stall, _))) => {
                format!("waiting for the pod: {}", stall.detail)
            }
            (PodState::Absent | PodState::Waiting, None) => "waiting for the pod".to_owned(),
        }
    }
}
