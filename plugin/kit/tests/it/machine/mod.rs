//! Runs of a small agent type, driven by hand. The tests of the host drive its component through them, too.

mod defects;
mod ended;
mod life;
mod quiet;
mod rules;

use echo_k8s::Echo;
use paperclip_kit::bindings::exports::paperclip::agent::types::{
    Action, Answer, AnswerOk, ApiError, CancelRequest, CancelSource, ClusterEvent, Command, ContainerRole,
    ContainerState, ContainerTerminated, ContainerWaiting, DeleteCause, Deletion, Ending, Event, Finish,
    GuardBusy, HttpAnswer, JobSnapshot, Label, LogEnded, LogInterrupted, LogLine, LogLines, PodPhase,
    PodSnapshot,
};
use paperclip_kit::machine::testing::{self, condition, container, object};
use paperclip_kit::machine::{IllegalTransition, Machine, TimerName};
use paperclip_kit::outcome::InfraCause;
use paperclip_kit::request::{self, Request};
use serde_json::{Value, json};

use crate::twin::Twin;

fn request(config: &Value) -> Request {
    Request {
        run_id: "run-1".to_owned(),
        agent: request::Agent { id: "agent-1".to_owned(), ..Default::default() },
        config: config.as_object().cloned().unwrap(),
        context: json!({"taskId": "T-1"}).as_object().cloned().unwrap(),
        has_auth_token: true,
        host: request::HostFacts {
            default_namespace: Some("agents".to_owned()),
            api_url: Some("http://paperclip".to_owned()),
            ..Default::default()
        },
        ..Request::default()
    }
}

/// A run under test with its twin, which decides the same: a clock, and the commands of the last step.
struct Driver {
    machine: Machine<Echo>,
    twin: Twin,
    now_ms: u64,
    commands: Vec<Command>,
}

impl Driver {
    fn start(config: &Value) -> Driver {
        Driver::of(&request(config))
    }

    fn of(request: &Request) -> Driver {
        let mut machine = Machine::new(request.clone()).unwrap();
        let commands = machine.step(1_000, Vec::new()).unwrap();
        let twin = Twin::start(request, 1_000, &commands);
        Driver { machine, twin, now_ms: 1_000, commands }
    }

    fn with_image() -> Driver {
        Driver::start(&json!({"image": "echo:1", "timeoutSec": 60}))
    }

    fn step(&mut self, events: &[Event]) {
        self.try_step(events).unwrap();
    }

    fn try_step(&mut self, events: &[Event]) -> Result<(), IllegalTransition> {
        self.now_ms += 10;
        let snapshot = serde_json::to_vec(&self.machine).unwrap();
        let stepped = self.machine.step(self.now_ms, events.to_vec());
        self.twin.step(&snapshot, self.now_ms, events, &stepped);
        self.commands = stepped?;
        Ok(())
    }

    fn names(&self) -> Vec<String> {
        self.commands.iter().map(|command| name(&command.action)).collect()
    }

    fn id_of(&self, action: &str) -> u64 {
        let found = self.commands.iter().find(|command| name(&command.action) == action);
        found.unwrap_or_else(|| panic!("no {action} in {:?}", self.names())).id
    }

    fn answer(&mut self, action: &str, outcome: Result<AnswerOk, ApiError>) {
        let command = self.id_of(action);
        self.step(&[Event::Answered(Answer { command, outcome })]);
    }

    fn result(&self) -> (Value, Finish) {
        let finish = self.commands.iter().find_map(|command| match &command.action {
            Action::Finish(finish) => Some(finish.clone()),
            _ => None,
        });
        let finish = finish.unwrap_or_else(|| panic!("not finished: {:?}", self.names()));
        (serde_json::from_str(&finish.result_json).unwrap(), finish)
    }

    /// Up to an unsuspended Job.
    fn live(self) -> Driver {
        self.preflight().create()
    }

    /// Up to the command that creates the Job.
    fn preflight(mut self) -> Driver {
        assert_eq!(self.names().last().map(String::as_str), Some("AcquireGuard"));
        self.step(&[Event::GuardAcquired]);
        self.answer("ListJobs", Ok(AnswerOk::Jobs(Vec::new())));
        self.answer("DryRunPod", Ok(AnswerOk::Warnings(Vec::new())));
        self
    }

    fn create(self) -> Driver {
        let mut driver = self.create_dependents();
        driver.answer("UnsuspendJob", Ok(AnswerOk::Done));
        driver
    }

    /// Up to the command that unsuspends the Job.
    fn create_dependents(mut self) -> Driver {
        self.answer("CreateJob", Ok(AnswerOk::Created(object("job"))));
        assert_eq!(self.names(), ["FollowJob", "CreateSecret"]);
        self.answer("CreateSecret", Ok(AnswerOk::Created(object("secret"))));
        self
    }

    fn running(self) -> (Driver, u64) {
        self.live().into_running()
    }

    fn into_running(mut self) -> (Driver, u64) {
        self.observe(PodPhase::Running, ContainerState::Running(Some(self.now_ms)));
        let log = self.id_of("FollowLog");
        (self, log)
    }

    /// Answers both reads of a verification.
    fn verify(&mut self, pods: Result<AnswerOk, ApiError>) {
        let (get_job, list_pods) = (self.id_of("GetJob"), self.id_of("ListPods"));
        let found = JobSnapshot { active_pods: 0, ..job("job") };
        let answers = [(get_job, Ok(AnswerOk::Job(Some(found)))), (list_pods, pods)];
        let answered = |(command, outcome)| Event::Answered(Answer { command, outcome });
        self.step(&answers.map(answered));
    }

    fn observe(&mut self, phase: PodPhase, state: ContainerState) {
        self.step(&[Event::PodObserved(agent_pod(phase, state))]);
    }

    fn stop_cause(&self) -> Option<DeleteCause> {
        self.commands.iter().find_map(|command| match &command.action {
            Action::DeleteJob(delete) => Some(delete.cause),
            _ => None,
        })
    }

    /// The labels by which the run makes a Job its own.
    fn adopts(&self) -> Vec<Label> {
        let adopted = self.commands.iter().find_map(|command| match &command.action {
            Action::AdoptJob(adopted) => Some(adopted.labels.clone()),
            _ => None,
        });
        adopted.expect("a Job is adopted")
    }

    fn statuses(&self) -> Vec<&str> {
        let statuses = self.commands.iter().filter_map(|command| match &command.action {
            Action::EmitStatus(status) => Some(status.text.as_str()),
            _ => None,
        });
        statuses.collect()
    }

    /// The container ends by this code, and its log with it.
    fn end(&mut self, log: u64, exit_code: i32) -> (Value, Ending) {
        self.observe(PodPhase::Failed, ended(exit_code, None));
        self.step(&[log_ended(log)]);
        let (result, finish) = self.result();
        (result, finish.ending)
    }
}

fn agent_pod(phase: PodPhase, state: ContainerState) -> PodSnapshot {
    testing::pod(phase, vec![testing::container("echo", ContainerRole::Main, state)])
}

fn name(action: &Action) -> String {
    let text = format!("{action:?}");
    let text = text.trim_start_matches("Action::");
    text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_owned()
}

fn ended(exit_code: i32, message: Option<&str>) -> ContainerState {
    ContainerState::Terminated(ContainerTerminated {
        exit_code,
        signal: None,
        reason: Some(if exit_code == 0 { "Completed" } else { "Error" }.to_owned()),
        message: message.map(str::to_owned),
        started_at_ms: None,
        finished_at_ms: None,
    })
}

fn lines(command: u64, texts: &[&str]) -> Event {
    let lines = texts.iter().map(|text| LogLine::Whole((*text).to_owned())).collect();
    Event::LogLines(LogLines { command, first_index: 0, lines })
}

fn log_ended(command: u64) -> Event {
    Event::LogEnded(LogEnded { command, line_count: 0, bytes: 0, is_complete: true, forbidden: None })
}

/// A Job with a running pod.
fn job(name: &str) -> JobSnapshot {
    JobSnapshot {
        job: object(name),
        labels: Vec::new(),
        annotations: Vec::new(),
        is_suspended: false,
        is_deleting: false,
        created_at_ms: None,
        started_at_ms: None,
        active_pods: 1,
        succeeded_pods: 0,
        failed_pods: 0,
        conditions: Vec::new(),
    }
}

/// A Job that another run of the agent left.
fn orphan(task: &str) -> JobSnapshot {
    JobSnapshot {
        labels: vec![
            Label { key: "paperclip.io/run-id".to_owned(), value: "run-0".to_owned() },
            Label { key: "paperclip.io/task-id".to_owned(), value: task.to_owned() },
        ],
        ..job("orphan")
    }
}

fn deletion(name: &str, is_ours: bool) -> Deletion {
    Deletion { object: object(name), detected_via: "watch-deleted".to_owned(), is_ours }
}

fn refused(status: u16, message: &str) -> ApiError {
    ApiError { status: Some(status), reason: None, message: message.to_owned(), retry_after_ms: None }
}
