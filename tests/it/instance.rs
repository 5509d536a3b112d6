//! A run of the component, driven by hand: the cluster of these runs grants everything.

use std::sync::Arc;

use paperclip_contract::types::{
    Action, Answer, AnswerOk, Command, ContainerRole, ContainerState, ContainerStatus, ContainerTerminated,
    Event, Finish, LogEnded, LogLine, LogLines, ObjectRef, PodPhase, PodSnapshot, Request,
};
use paperclip_engine::Guest as _;
use paperclip_engine::intake::{self, IntakeFacts};
use paperclip_engine::time::Timestamp;
use paperclip_guest::{Instance, Plugin};
use serde_json::{Value, json};

/// A run whose agent works.
pub(crate) struct Started {
    pub(crate) instance: Instance,
    now_ms: u64,
    log: u64,
    lines: u64,
    finish: Option<Finish>,
}

impl Started {
    /// Starts a run and its agent.
    pub(crate) fn new(plugin: &Arc<Plugin>) -> Started {
        let context = json!({"runId": "r", "agent": {"id": "a"}, "config": {"image": "acme/agent:1"}});
        let (request, _) =
            intake::split(&context, "claude_k8s", IntakeFacts::bare(Some("agents"))).expect("a good context");
        Started::of(plugin, &request)
    }

    /// Starts the run of a request that the plugin accepts.
    pub(crate) fn of(plugin: &Arc<Plugin>, request: &Request) -> Started {
        let mut instance = plugin.instantiate().unwrap();
        let commands = instance.start(Timestamp::from_millis(1_000), request).unwrap().unwrap();
        let mut run = Started { instance, now_ms: 1_000, log: 0, lines: 0, finish: None };
        run.answer_all(commands);
        run.observe(PodPhase::Running, ContainerState::Running(Some(1_000)));
        assert_ne!(run.log, 0, "the log is followed");
        run
    }

    /// The agent prints a line.
    pub(crate) fn print(&mut self, line: String) {
        let lines =
            LogLines { command: self.log, first_index: self.lines, lines: vec![LogLine::Whole(line)] };
        self.lines += 1;
        self.step(&[Event::LogLines(lines)]);
    }

    /// The agent ends, and its log with it. Returns the run's result.
    pub(crate) fn exit(&mut self) -> Value {
        let ended = ContainerTerminated {
            exit_code: 0,
            signal: None,
            reason: Some("Completed".to_owned()),
            message: None,
            started_at_ms: None,
            finished_at_ms: None,
        };
        self.observe(PodPhase::Succeeded, ContainerState::Terminated(ended));
        let log = LogEnded {
            command: self.log,
            line_count: self.lines,
            bytes: 1,
            is_complete: true,
            forbidden: None,
        };
        self.step(&[Event::LogEnded(log)]);
        let finish = self.finish.take().expect("the run has ended");
        serde_json::from_str(&finish.result_json).unwrap()
    }

    fn observe(&mut self, phase: PodPhase, state: ContainerState) {
        let container =
            ContainerStatus { name: "claude".to_owned(), role: ContainerRole::Main, restart_count: 0, state };
        self.step(&[Event::PodObserved(PodSnapshot {
            pod: object("pod"),
            job_uid: "job".to_owned(),
            phase,
            reason: None,
            message: None,
            is_deleting: false,
            is_gated: false,
            created_at_ms: None,
            started_at_ms: None,
            node: None,
            conditions: Vec::new(),
            containers: vec![container],
        })]);
    }

    fn step(&mut self, events: &[Event]) {
        self.now_ms += 10;
        let commands = self.instance.step(Timestamp::from_millis(self.now_ms), events).unwrap();
        self.answer_all(commands);
    }

    fn answer_all(&mut self, commands: Vec<Command>) {
        for Command { id, action } in commands {
            let answer = match action {
                Action::AcquireGuard(_) => Event::GuardAcquired,
                Action::ListJobs(_) => answered(id, AnswerOk::Jobs(Vec::new())),
                Action::DryRunPod(_) => answered(id, AnswerOk::Warnings(Vec::new())),
                Action::CreateJob(_) => answered(id, AnswerOk::Created(object("job"))),
                Action::CreateSecret(_) | Action::CreateConfigMap(_) => {
                    answered(id, AnswerOk::Created(object("dependent")))
                }
                Action::UnsuspendJob(_) => answered(id, AnswerOk::Done),
                Action::FollowLog(_) => {
                    self.log = id;
                    continue;
                }
                Action::Finish(finish) => {
                    self.finish = Some(finish);
                    continue;
                }
                _ => continue,
            };
            self.step(&[answer]);
        }
    }
}

fn answered(command: u64, outcome: AnswerOk) -> Event {
    Event::Answered(Answer { command, outcome: Ok(outcome) })
}

fn object(name: &str) -> ObjectRef {
    ObjectRef { namespace: "agents".to_owned(), name: name.to_owned(), uid: name.to_owned() }
}
