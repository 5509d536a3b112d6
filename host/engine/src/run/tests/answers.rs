//! A run whose plugin says what it is told to, and whose API answers as it is told to.

use paperclip_contract::types::{
    Action, Answer, AnswerOk, ApiError, Command, Event, HostFacts, JobSnapshot, Label, NewObject, NewSecret,
    ObjectRef, Refusal, Request, SecretEntry, SecretSource,
};
use serde_json::{Value, json};

use super::super::{PluginIdentity, Run, RunSpec};
use crate::api::{ApiCall, ApiReply, CallId};
use crate::guest::{Guest, GuestFault};
use crate::intake::{self, Surroundings};
use crate::policy::{Grant, Policy};
use crate::port::{Effect, Input};
use crate::redact::Redactor;
use crate::{SegmentLimits, limits};

/// Creates a Job and its Secret, one after the other, and keeps what it is answered.
#[derive(Default)]
struct Furnisher {
    commands: u64,
    answers: Vec<Answer>,
}

impl Furnisher {
    fn command(&mut self, action: Action) -> Vec<Command> {
        self.commands += 1;
        vec![Command { id: self.commands, action }]
    }
}

impl Guest for Furnisher {
    fn start(&mut self, _: u64, _: &Request) -> Result<Result<Vec<Command>, Refusal>, GuestFault> {
        let manifest_json = manifest().to_string();
        Ok(Ok(self.command(Action::CreateJob(NewObject { manifest_json }))))
    }

    fn step(&mut self, _: u64, events: &[Event]) -> Result<Vec<Command>, GuestFault> {
        let mut commands = Vec::new();
        for event in events {
            let Event::Answered(answer) = event else { continue };
            self.answers.push(answer.clone());
            if let (1, Ok(AnswerOk::Created(job))) = (answer.command, &answer.outcome) {
                commands.extend(self.command(Action::CreateSecret(NewSecret {
                    namespace: "n".to_owned(),
                    name: "j-run".to_owned(),
                    labels: Vec::new(),
                    owner: job.clone(),
                    entries: vec![SecretEntry {
                        key: "prompt.txt".to_owned(),
                        source: SecretSource::Prompt("do it".to_owned()),
                    }],
                })));
            }
        }
        Ok(commands)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, GuestFault> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _: &[u8]) -> Result<Result<(), Refusal>, GuestFault> {
        Ok(Ok(()))
    }

    fn phase(&mut self) -> Result<String, GuestFault> {
        Ok("scripted".to_owned())
    }
}

fn manifest() -> Value {
    let pod = json!({
        "automountServiceAccountToken": false,
        "containers": [{"name": "c", "image": "i", "securityContext": {"allowPrivilegeEscalation": false}}],
    });
    json!({
        "kind": "Job",
        "metadata": {
            "namespace": "n", "name": "j",
            "labels": {"paperclip.io/run-id": "r"}, "annotations": {"paperclip.io/spec-hash": "h1"},
        },
        "spec": {"suspend": true, "template": {"spec": pod}},
    })
}

/// A Job of this name as it stands in the cluster.
fn standing(run: &str, hash: &str) -> JobSnapshot {
    let pair = |key: &str, value: &str| Label { key: key.to_owned(), value: value.to_owned() };
    JobSnapshot {
        job: object("j", "ju"),
        labels: vec![pair("paperclip.io/run-id", run)],
        annotations: vec![pair("paperclip.io/spec-hash", hash)],
        is_suspended: true,
        is_deleting: false,
        created_at_ms: None,
        started_at_ms: None,
        active_pods: 0,
        succeeded_pods: 0,
        failed_pods: 0,
        conditions: Vec::new(),
    }
}

fn object(name: &str, uid: &str) -> ObjectRef {
    ObjectRef { namespace: "n".to_owned(), name: name.to_owned(), uid: uid.to_owned() }
}

fn status(code: u16, reason: &str) -> ApiError {
    ApiError {
        status: Some(code),
        reason: Some(reason.to_owned()),
        message: reason.to_owned(),
        retry_after_ms: None,
    }
}

/// The run and a clock.
struct Driven {
    run: Run<Furnisher>,
    now_ms: u64,
}

impl Driven {
    fn start() -> Driven {
        let surroundings = Surroundings {
            self_pod: None,
            revealed_env: &[],
            files: Vec::new(),
            host: HostFacts {
                default_namespace: Some("n".to_owned()),
                paperclip_api_url: None,
                denied_env: Vec::new(),
                clusters: Vec::new(),
                limits: limits(),
            },
        };
        let context = json!({"runId": "r", "agent": {"id": "a"}});
        let (request, secrets) = intake::take(&context, "scripted", surroundings).unwrap();
        let spec = RunSpec {
            policy: Policy::new(Grant::default(), &request),
            request,
            host_id: "host".to_owned(),
            redactor: Redactor::new(secrets.named()).unwrap(),
            seed: 1,
            plugin: PluginIdentity::default(),
            poll_interval_ms: 1_000,
            segments: SegmentLimits::default(),
        };
        let mut driven = Driven { run: Run::new(spec, Furnisher::default()), now_ms: 1_000 };
        driven.run.handle(driven.now_ms, Input::Start);
        driven
    }

    /// The next request, waiting for it as long as the run does.
    fn request(&mut self) -> (CallId, ApiCall) {
        for _ in 0..100 {
            while let Some(effect) = self.run.poll_effect() {
                if let Effect::Call { call, request } = effect {
                    return (call, request);
                }
            }
            self.now_ms = self.run.deadline_ms().expect("something is waited for").max(self.now_ms);
            self.run.handle(self.now_ms, Input::Tick);
        }
        panic!("no request comes")
    }

    /// Takes the next request, of this kind, and answers it.
    fn expect(&mut self, wanted: &str, outcome: Result<ApiReply, ApiError>) {
        let (call, request) = self.request();
        assert_eq!(request.describe(), wanted);
        self.run.handle(self.now_ms, Input::Called { call, outcome });
    }

    fn outcome(&self, command: u64) -> Option<&Result<AnswerOk, ApiError>> {
        let answers = &self.run.guest.answers;
        answers.iter().find(|answer| answer.command == command).map(|answer| &answer.outcome)
    }
}

#[test]
fn rule_25_a_create_whose_answer_was_lost_is_known_by_run_and_spec_hash() {
    let mut driven = Driven::start();
    driven.expect("create Job", Err(status(504, "Timeout")));
    driven.expect("create Job", Err(status(409, "AlreadyExists")));
    driven.expect("get Job j", Ok(ApiReply::Job(Some(standing("r", "h1")))));
    assert_eq!(driven.outcome(1), Some(&Ok(AnswerOk::Created(object("j", "ju")))));
}

#[test]
fn rule_25_a_job_of_another_run_or_spec_is_a_conflict_that_names_it() {
    for (run, hash) in [("r-2", "h1"), ("r", "h2")] {
        let mut driven = Driven::start();
        driven.expect("create Job", Err(status(409, "AlreadyExists")));
        driven.expect("get Job j", Ok(ApiReply::Job(Some(standing(run, hash)))));
        let Some(Err(error)) = driven.outcome(1) else { panic!("{:?}", driven.outcome(1)) };
        assert_eq!(
            error.message,
            "a Job named j exists in n and is not this run's: delete it or wait until its TTL removes it"
        );
    }
}

#[test]
fn rule_25_a_job_that_went_between_the_two_calls_is_created_again() {
    let mut driven = Driven::start();
    driven.expect("create Job", Err(status(409, "AlreadyExists")));
    driven.expect("get Job j", Ok(ApiReply::Job(None)));
    driven.expect("create Job", Ok(ApiReply::Created(object("j", "ju"))));
    assert_eq!(driven.outcome(1), Some(&Ok(AnswerOk::Created(object("j", "ju")))));
}

/// A run whose Job stands.
fn with_job() -> Driven {
    let mut driven = Driven::start();
    driven.expect("create Job", Ok(ApiReply::Created(object("j", "ju"))));
    driven
}

fn owned_by(uid: &str) -> Result<ApiReply, ApiError> {
    Ok(ApiReply::Owners(Some(vec![uid.to_owned()])))
}

#[test]
fn rule_25_a_secret_whose_creation_had_no_answer_is_known_by_its_owner() {
    let mut driven = with_job();
    driven.expect("create Secret j-run", Err(status(504, "Timeout")));
    driven.expect("create Secret j-run", Err(status(409, "AlreadyExists")));
    driven.expect("get Secret j-run", owned_by("ju"));
    assert_eq!(driven.outcome(2), Some(&Ok(AnswerOk::Created(object("j-run", "")))));
}

#[test]
fn what_an_earlier_job_of_the_name_left_is_waited_out_until_it_is_collected() {
    let mut driven = with_job();
    driven.expect("create Secret j-run", Err(status(409, "AlreadyExists")));
    for _ in 0..3 {
        driven.expect("get Secret j-run", owned_by("uid-of-an-earlier-job"));
        assert_eq!(driven.outcome(2), None);
    }
    driven.expect("get Secret j-run", Ok(ApiReply::Owners(None)));
    driven.expect("create Secret j-run", Ok(ApiReply::Created(object("j-run", "su"))));
    assert_eq!(driven.outcome(2), Some(&Ok(AnswerOk::Created(object("j-run", "su")))));
    assert_eq!(driven.now_ms, 4_000, "a look a second");
}

#[test]
fn somebody_elses_secret_of_the_name_is_a_conflict_that_names_it() {
    let mut driven = with_job();
    driven.expect("create Secret j-run", Err(status(409, "AlreadyExists")));
    while driven.outcome(2).is_none() {
        driven.expect("get Secret j-run", Ok(ApiReply::Owners(Some(Vec::new()))));
    }
    let Some(Err(error)) = driven.outcome(2) else { panic!("{:?}", driven.outcome(2)) };
    assert_eq!(
        error.message,
        "a Secret named j-run exists in n and is not owned by Job j of this run: delete it"
    );
}
