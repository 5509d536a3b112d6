//! A run driven by hand, with a small agent type of its own.

mod defects;
mod rules;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::outbox::TimerName;
use super::*;
use crate::bindings::exports::paperclip::agent::types::{
    Action, Answer, AnswerOk, ApiError, CancelRequest, CancelSource, ContainerRole, ContainerState,
    ContainerTerminated, ContainerWaiting, Ending, Finish, Gone, HttpAnswer, JobSnapshot, Label, LogEnded,
    LogInterrupted, LogLine, LogLines, PodPhase,
};
use crate::config::fields::Fields;
use crate::machine::testing::object;
use crate::manifest::Call;

#[derive(Debug, Default)]
struct Echo;

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Lines(Vec<String>);

impl AgentType for Echo {
    fn adapter_type(&self) -> &'static str {
        "echo_k8s"
    }
    fn job_name_prefix(&self) -> &'static str {
        "ae"
    }
    fn container_name(&self) -> &'static str {
        "echo"
    }
    fn program(&self) -> &'static str {
        "echo"
    }
    fn forced_env(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
    fn arguments(&self, _call: &Call<'_>, _config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
        Ok(vec!["hello".to_owned()])
    }
}

impl Agent for Echo {
    type Stream = Lines;

    fn read_line(&self, stream: &mut Lines, line: &str) {
        stream.0.push(line.to_owned());
    }

    fn read_cut_line(&self, stream: &mut Lines, head: &str, tail: &str, _line_bytes: u64) {
        stream.0.push(format!("{head}…{tail}"));
    }

    fn read_stderr_line(&self, stream: &mut Lines, line: &str) {
        stream.0.push(line.to_owned());
    }

    fn run_facts(&self, _request: &Request, _settings: &Settings, _attempt: Attempt) -> RunFacts {
        RunFacts::default()
    }

    fn judge(&self, evidence: &Evidence, stream: &Lines) -> Judgement {
        let mut result = AdapterResult { exit_code: evidence.exit_code(), ..AdapterResult::default() };
        result.summary = Some(stream.0.join("\n"));
        if evidence.is_cancelled {
            result.error_code = Some(ErrorCode::Cancelled);
            result.error_message = Some("Run cancelled".to_owned());
        } else if evidence.is_timed_out {
            result.error_code = Some(ErrorCode::Timeout);
            result.error_message = Some("Timed out".to_owned());
        } else if evidence.exit_code() != Some(0) {
            result.error_code = Some(ErrorCode::ClaudeExited);
            result.error_message = Some(evidence.describe_truncation());
        }
        let retry = stream.0.iter().any(|line| line == "no session").then(|| "once more".to_owned());
        Judgement { result, retry }
    }
}

/// A run under test: a clock, and the commands of the last step.
struct Driver {
    machine: Machine<Echo>,
    now_ms: u64,
    commands: Vec<Command>,
}

impl Driver {
    fn start(config: &Value) -> Driver {
        let request = Request {
            run_id: "run-1".to_owned(),
            agent: crate::request::Agent { id: "agent-1".to_owned(), ..Default::default() },
            config: config.as_object().cloned().unwrap(),
            context: json!({"taskId": "T-1"}).as_object().cloned().unwrap(),
            has_auth_token: true,
            host: crate::request::HostFacts {
                default_namespace: Some("agents".to_owned()),
                api_url: Some("http://paperclip".to_owned()),
                ..Default::default()
            },
            ..Request::default()
        };
        let (machine, commands) = Machine::start(1_000, request).unwrap();
        Driver { machine, now_ms: 1_000, commands }
    }

    fn with_image() -> Driver {
        Driver::start(&json!({"image": "echo:1", "timeoutSec": 60}))
    }

    fn step(&mut self, events: Vec<Event>) {
        self.now_ms += 10;
        let snapshot = serde_json::to_vec(&self.machine).unwrap();
        let mut twin: Machine<Echo> = serde_json::from_slice(&snapshot).unwrap();
        self.commands = self.machine.step(self.now_ms, events.clone());
        assert_eq!(self.commands, twin.step(self.now_ms, events), "a restored run decides the same");
    }

    fn names(&self) -> Vec<String> {
        self.commands.iter().map(|command| name(&command.action)).collect()
    }

    fn id_of(&self, wanted: &str) -> u64 {
        let found = self.commands.iter().find(|command| name(&command.action) == wanted);
        found.unwrap_or_else(|| panic!("no {wanted} in {:?}", self.names())).id
    }

    fn answer(&mut self, wanted: &str, outcome: Result<AnswerOk, ApiError>) {
        let command = self.id_of(wanted);
        self.step(vec![Event::Answered(Answer { command, outcome })]);
    }

    fn result(&self) -> (Value, Finish) {
        let finish = self.commands.iter().find_map(|command| match &command.action {
            Action::Finish(finish) => Some(finish.clone()),
            _ => None,
        });
        let finish = finish.unwrap_or_else(|| panic!("not finished: {:?}", self.names()));
        (serde_json::from_str(&finish.result_json).unwrap(), finish)
    }

    /// Up to a Job that may run.
    fn live(mut self) -> Driver {
        assert_eq!(self.names(), ["AcquireGuard"]);
        self.step(vec![Event::GuardAcquired]);
        self.answer("ListJobs", Ok(AnswerOk::Jobs(Vec::new())));
        self.answer("TryPod", Ok(AnswerOk::Warnings(Vec::new())));
        self.create()
    }

    fn create(mut self) -> Driver {
        self.answer("CreateJob", Ok(AnswerOk::Created(object("job"))));
        assert_eq!(self.names(), ["FollowJob", "CreateSecret"]);
        self.answer("CreateSecret", Ok(AnswerOk::Created(object("secret"))));
        self.answer("UnsuspendJob", Ok(AnswerOk::Done));
        self
    }

    fn running(self) -> (Driver, u64) {
        self.live().into_running()
    }

    fn into_running(mut self) -> (Driver, u64) {
        self.see(PodPhase::Running, ContainerState::Running(Some(self.now_ms)));
        let log = self.id_of("FollowLog");
        (self, log)
    }

    fn see(&mut self, phase: PodPhase, state: ContainerState) {
        self.step(vec![Event::PodObserved(agent_pod(phase, state))]);
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
    Event::LogEnded(LogEnded { command, line_count: 0, bytes: 0, is_complete: true })
}

/// A Job with a pod that works.
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

fn gone(name: &str, is_ours: bool) -> Gone {
    Gone { object: object(name), detected_via: "watch-deleted".to_owned(), is_ours }
}

fn refused(status: u16, message: &str) -> ApiError {
    ApiError { status: Some(status), reason: None, message: message.to_owned(), retry_after_ms: None }
}

#[test]
fn a_run_from_guard_to_result() {
    let (mut driver, log) = Driver::with_image().running();
    assert!(driver.names().contains(&"PollHttp".to_owned()) || driver.machine.poll.is_some());
    driver.step(vec![lines(log, &["hello"])]);
    assert_eq!(driver.names(), Vec::<String>::new());
    driver.see(PodPhase::Succeeded, ended(0, None));
    assert!(!driver.names().contains(&"Finish".to_owned()), "the rest of the output is missing");
    driver.step(vec![lines(log, &["world"]), log_ended(log)]);
    let (result, finish) = driver.result();
    assert_eq!(result["summary"], "hello\nworld");
    assert_eq!(finish.ending, Ending::Succeeded);
    assert_eq!(finish.delete_jobs, [object("job")]);
    driver.step(vec![Event::JobGone(gone("job", true))]);
    assert_eq!(driver.names(), Vec::<String>::new(), "nothing follows a result");
}

#[test]
fn the_tail_of_stderr_stands_behind_the_output() {
    let (mut driver, log) = Driver::with_image().running();
    let message = format!("{}\nboom\n", crate::manifest::termination::MARKER);
    driver.step(vec![log_ended(log)]);
    driver.see(PodPhase::Failed, ended(3, Some(&message)));
    assert_eq!(driver.names(), ["EmitLog", "Finish"]);
    let (result, finish) = driver.result();
    assert_eq!((result["exitCode"].as_i64(), finish.ending), (Some(3), Ending::Failed));
    assert_eq!(result["summary"], "boom");
}

#[test]
fn seed_18_silence_ends_nothing_while_the_container_runs() {
    let (mut driver, _) = Driver::with_image().running();
    for _ in 0..100 {
        driver.now_ms += 200;
        driver.step(vec![Event::LogInterrupted(LogInterrupted { command: 0, reason: "EOF".to_owned() })]);
        assert_eq!(driver.names(), Vec::<String>::new());
    }
}

#[test]
fn seed_2_only_cancelled_and_cancelling_cancel() {
    for (status, cancels) in [
        ("running", false),
        ("queued", false),
        ("succeeded", false),
        ("failed", false),
        ("completed", false),
        ("", false),
        ("unknown", false),
        ("cancelled", true),
        ("cancelling", true),
    ] {
        let (mut driver, _) = Driver::with_image().running();
        let body = json!({"status": status}).to_string();
        driver.step(vec![Event::HttpAnswered(HttpAnswer { command: 0, status: 200, body })]);
        assert_eq!(driver.names().contains(&"DeleteJob".to_owned()), cancels, "{status}");
    }
}

#[test]
fn a_cancel_drains_the_output_first() {
    let (mut driver, log) = Driver::with_image().running();
    let cancel = CancelRequest { source: CancelSource::Operator, reason: None };
    driver.step(vec![Event::CancelRequested(cancel)]);
    driver.id_of("DeleteJob");
    driver.step(vec![Event::JobGone(gone("job", true))]);
    assert_eq!(
        driver.names(),
        ["SetTimer"],
        "the pod has its grace, and the rest of the output is on its way"
    );
    driver.step(vec![lines(log, &["last words"])]);
    driver.see(PodPhase::Failed, ended(143, None));
    driver.step(vec![log_ended(log)]);
    let (result, finish) = driver.result();
    assert_eq!((result["errorCode"].as_str(), finish.ending), (Some("cancelled"), Ending::Cancelled));
    assert_eq!(result["summary"], "last words");
}

#[test]
fn a_cancel_before_anything_was_created_creates_nothing() {
    let mut driver = Driver::with_image();
    let cancel = CancelRequest { source: CancelSource::Operator, reason: None };
    driver.step(vec![Event::CancelRequested(cancel)]);
    assert_eq!(driver.names(), ["Finish"]);
    assert_eq!(driver.result().1.ending, Ending::Cancelled);
}

#[test]
fn d35_the_clock_starts_with_the_container() {
    let mut driver = Driver::with_image().live();
    driver.now_ms += 50_000;
    driver.see(PodPhase::Running, ContainerState::Running(Some(driver.now_ms)));
    let timer = driver.commands.iter().find_map(|command| match &command.action {
        Action::SetTimer(timer) if timer.timer == TimerName::Run as u64 => Some(timer.after_ms),
        _ => None,
    });
    assert_eq!(timer, Some(59_990));
    driver.now_ms += 60_000;
    driver.step(vec![Event::TimerFired(TimerName::Run as u64)]);
    driver.id_of("DeleteJob");
    driver.step(vec![Event::JobGone(gone("job", true)), Event::PodGone(gone("pod", false))]);
    assert!(!driver.names().contains(&"Finish".to_owned()), "the output is still read");
}

#[test]
fn rule_23_a_stalled_pod_has_its_grace_and_its_cause_is_told() {
    let mut driver = Driver::with_image().live();
    let waiting = || {
        ContainerState::Waiting(ContainerWaiting {
            reason: Some("ImagePullBackOff".to_owned()),
            message: Some("Back-off pulling image".to_owned()),
        })
    };
    driver.see(PodPhase::Pending, waiting());
    assert!(driver.names().contains(&"EmitStatus".to_owned()));
    driver.now_ms += 179_000;
    driver.see(PodPhase::Pending, waiting());
    assert_eq!(driver.names(), Vec::<String>::new());
    driver.now_ms += 1_000;
    driver.step(vec![Event::TimerFired(TimerName::Stall as u64)]);
    let (result, _) = driver.result();
    assert_eq!(result["errorCode"], "k8s_pod_schedule_failed");
    assert_eq!(
        result["errorMessage"],
        "Pod scheduling failed: Image pull failed for \"echo\": Back-off pulling image (waited 180 s)"
    );
}

#[test]
fn seed_4_a_deletion_is_verified_before_it_is_claimed() {
    let (mut driver, log) = Driver::with_image().running();
    driver.step(vec![Event::PodGone(gone("pod", false)), log_ended(log)]);
    assert!(driver.names().contains(&"LookUpJob".to_owned()), "{:?}", driver.names());
    let pods = driver.id_of("LookUpPods");
    driver.answer("LookUpJob", Ok(AnswerOk::Job(None)));
    driver.step(vec![Event::Answered(Answer { command: pods, outcome: Ok(AnswerOk::Pods(Vec::new())) })]);
    let (result, _) = driver.result();
    assert!(result["errorMessage"].as_str().unwrap().starts_with("pod is gone"), "{result}");
}

#[test]
fn an_api_that_refuses_is_told_with_its_words() {
    let mut driver = Driver::with_image();
    driver.step(vec![Event::GuardAcquired]);
    driver.answer("ListJobs", Ok(AnswerOk::Jobs(Vec::new())));
    driver.answer("TryPod", Err(refused(403, "violates PodSecurity \"restricted:latest\"")));
    let (result, finish) = driver.result();
    assert_eq!(result["errorCode"], "k8s_job_create_failed");
    assert_eq!(
        result["errorMessage"],
        "Failed to create Kubernetes Job: violates PodSecurity \"restricted:latest\" (HTTP 403)"
    );
    assert!(finish.delete_jobs.is_empty());
}

#[test]
fn rule_24_a_quota_that_is_used_up_is_waited_for() {
    let mut driver = Driver::with_image();
    driver.step(vec![Event::GuardAcquired]);
    driver.answer("ListJobs", Ok(AnswerOk::Jobs(Vec::new())));
    let text = "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5";
    driver.answer("TryPod", Err(refused(403, text)));
    driver.id_of("CreateJob");
}

#[test]
fn a_session_that_is_gone_is_tried_without_once() {
    let (mut driver, log) = Driver::with_image().running();
    driver.step(vec![lines(log, &["no session"]), log_ended(log)]);
    driver.see(PodPhase::Failed, ended(1, None));
    driver.id_of("DeleteJob");
    driver.step(vec![Event::JobGone(gone("job", true))]);
    assert_eq!(driver.names(), Vec::<String>::new(), "the pod still stands");
    driver.step(vec![Event::PodGone(gone("pod", false))]);
    assert_eq!(driver.names(), ["TryPod"]);
    driver.answer("TryPod", Ok(AnswerOk::Warnings(Vec::new())));
    let Some(Action::CreateJob(job)) = driver.commands.last().map(|command| command.action.clone()) else {
        panic!("{:?}", driver.names())
    };
    assert!(job.manifest_json.contains("-2\""));
}

/// Up to the second attempt's agent at work; its log is followed by this command.
fn retried() -> (Driver, u64) {
    let (mut driver, log) = Driver::with_image().running();
    driver.step(vec![lines(log, &["no session"]), log_ended(log)]);
    driver.see(PodPhase::Failed, ended(1, None));
    driver.step(vec![Event::PodGone(gone("pod", true)), Event::JobGone(gone("job", true))]);
    driver.answer("TryPod", Ok(AnswerOk::Warnings(Vec::new())));
    driver.create().into_running()
}

#[test]
fn there_is_no_third_attempt_whatever_becomes_of_the_second() {
    let (mut driver, log) = retried();
    driver.step(vec![lines(log, &["working"]), log_ended(log)]);
    driver.step(vec![Event::PodGone(gone("pod", false)), Event::JobGone(gone("job", false))]);
    driver.step(vec![
        Event::Answered(Answer { command: driver.id_of("LookUpJob"), outcome: Ok(AnswerOk::Job(None)) }),
        Event::Answered(Answer {
            command: driver.id_of("LookUpPods"),
            outcome: Ok(AnswerOk::Pods(Vec::new())),
        }),
    ]);
    assert_eq!(driver.result().0["errorCode"], "claude_exited");
}

#[test]
fn an_agent_that_has_ended_does_not_time_out() {
    let (mut driver, log) = Driver::with_image().running();
    driver.see(PodPhase::Succeeded, ended(0, None));
    driver.now_ms += 59_975;
    driver.step(vec![Event::TimerFired(TimerName::Run as u64)]);
    driver.step(vec![lines(log, &["done"]), log_ended(log)]);
    assert_eq!(driver.result().0["exitCode"], 0);
}

#[test]
fn the_time_without_a_host_is_no_part_of_a_grace() {
    let (mut driver, log) = Driver::with_image().running();
    driver.see(PodPhase::Succeeded, ended(0, None));
    driver.now_ms += 600_000;
    driver.step(vec![Event::HostResumed(600_000)]);
    assert!(!driver.names().contains(&"Finish".to_owned()), "the output can still be had");
    driver.step(vec![lines(log, &["done"]), log_ended(log)]);
    assert_eq!(driver.result().0["summary"], "done");

    let mut driver = Driver::with_image().live();
    let waiting = ContainerWaiting { reason: Some("ImagePullBackOff".to_owned()), message: None };
    driver.see(PodPhase::Pending, ContainerState::Waiting(waiting));
    driver.now_ms += 600_000;
    driver.step(vec![Event::HostResumed(600_000)]);
    assert_eq!(driver.names(), Vec::<String>::new(), "the image may be there by now");
}

#[test]
fn an_orphan_of_the_same_task_is_adopted_and_one_of_another_waited_for() {
    let mut driver = Driver::with_image();
    driver.step(vec![Event::GuardAcquired]);
    driver.answer("ListJobs", Ok(AnswerOk::Jobs(vec![orphan("T-1")])));
    driver.answer("AdoptJob", Ok(AnswerOk::Job(Some(orphan("T-1")))));
    assert!(driver.names().contains(&"FollowJob".to_owned()));

    let mut driver = Driver::with_image();
    driver.step(vec![Event::GuardAcquired]);
    driver.answer("ListJobs", Ok(AnswerOk::Jobs(vec![orphan("T-2")])));
    assert_eq!(driver.names(), ["EmitStatus", "FollowJob", "SetTimer"]);
    driver.step(vec![Event::JobGone(gone("orphan", false))]);
    assert_eq!(driver.names(), ["CancelTimer", "ListJobs"]);
    driver.answer("ListJobs", Ok(AnswerOk::Jobs(Vec::new())));
    assert_eq!(driver.names(), ["TryPod"]);
}

#[test]
fn seed_13_a_job_that_is_being_deleted_is_invisible() {
    let mut driver = Driver::with_image();
    driver.step(vec![Event::GuardAcquired]);
    let leaving = JobSnapshot { is_deleting: true, ..job("old") };
    driver.answer("ListJobs", Ok(AnswerOk::Jobs(vec![leaving])));
    assert_eq!(driver.names(), ["TryPod"]);
}
