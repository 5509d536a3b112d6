//! Answers of the API to a run with a scripted plugin.

use std::collections::BTreeMap;

use paperclip_contract::types::{
    Answer, AnswerOk, CancelRequest, CancelSource, Label, NewConfigMap, NewSecret, SecretEntry, SecretSource,
};
use paperclip_kubernetes::shared;
use serde_json::Value;

use super::*;

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

fn create_job() -> Action {
    Action::CreateJob(NewObject { manifest_json: manifest().to_string() })
}

fn create_secret() -> Action {
    Action::CreateSecret(NewSecret {
        namespace: "n".to_owned(),
        name: "j-run".to_owned(),
        labels: Vec::new(),
        owner: object("j", "ju"),
        entries: vec![SecretEntry {
            key: "prompt.txt".to_owned(),
            source: SecretSource::Prompt("do it".to_owned()),
        }],
    })
}

/// The Job in the cluster, with the label of this run and this spec hash.
fn existing(run: &str, hash: &str) -> JobSnapshot {
    let annotations = vec![Label { key: "paperclip.io/spec-hash".to_owned(), value: hash.to_owned() }];
    JobSnapshot { annotations, ..job_of(object("j", "ju"), run) }
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

/// A run and its clock.
struct Driven {
    run: Run<Script>,
    now: Timestamp,
}

impl Driven {
    fn start(answers: &[&[Action]]) -> Driven {
        let mut driven = Driven { run: run(answers), now: at(1_000) };
        driven.run.handle(driven.now, Input::Start);
        driven
    }

    /// Returns the next request, and waits for it as long as the run does.
    fn request(&mut self) -> (CallId, ApiCall) {
        for _ in 0..100 {
            while let Some(effect) = self.run.poll_effect() {
                if let Effect::Call { call, request } = effect {
                    return (call, request);
                }
            }
            self.now = self.run.deadline().expect("something is waited for").max(self.now);
            self.run.handle(self.now, Input::Tick);
        }
        panic!("no request comes")
    }

    /// Expects that the next request is this one, and answers it.
    fn expect(&mut self, expected: &str, outcome: Result<ApiReply, ApiError>) {
        let (call, request) = self.request();
        assert_eq!(request.describe(), expected);
        self.run.handle(self.now, Input::Called { call, outcome });
    }

    fn outcome(&self, id: u64) -> Option<&Result<AnswerOk, ApiError>> {
        self.run.guest.seen.iter().find_map(|event| match event {
            Event::Answered(Answer { command, outcome }) if *command == id => Some(outcome),
            _ => None,
        })
    }
}

#[test]
fn rule_25_recognises_its_job_by_run_and_spec_hash_after_a_lost_answer() {
    let mut driven = Driven::start(&[&[create_job()]]);
    driven.expect("create Job", Err(status(504, "Timeout")));
    driven.expect("create Job", Err(status(409, "AlreadyExists")));
    driven.expect("get Job j", Ok(ApiReply::Job(Some(existing("r", "h1")))));
    assert_eq!(driven.outcome(1), Some(&Ok(AnswerOk::Created(object("j", "ju")))));
}

#[test]
fn rule_25_a_job_of_another_run_or_spec_is_a_conflict_that_names_it() {
    for (run, hash) in [("r-2", "h1"), ("r", "h2")] {
        let mut driven = Driven::start(&[&[create_job()]]);
        driven.expect("create Job", Err(status(409, "AlreadyExists")));
        driven.expect("get Job j", Ok(ApiReply::Job(Some(existing(run, hash)))));
        let Some(Err(error)) = driven.outcome(1) else { panic!("{:?}", driven.outcome(1)) };
        assert_eq!(
            error.message,
            "a Job named j exists in n and is not this run's: delete it or wait until its TTL removes it"
        );
    }
}

#[test]
fn rule_25_creates_a_job_again_that_was_deleted_between_the_two_calls() {
    let mut driven = Driven::start(&[&[create_job()]]);
    driven.expect("create Job", Err(status(409, "AlreadyExists")));
    driven.expect("get Job j", Ok(ApiReply::Job(None)));
    driven.expect("create Job", Ok(ApiReply::Created(object("j", "ju"))));
    assert_eq!(driven.outcome(1), Some(&Ok(AnswerOk::Created(object("j", "ju")))));
}

/// A run whose Job is created.
fn with_job() -> Driven {
    let mut driven = Driven::start(&[&[create_job()], &[create_secret()]]);
    driven.expect("create Job", Ok(ApiReply::Created(object("j", "ju"))));
    driven
}

fn owned_by(uid: &str) -> Result<ApiReply, ApiError> {
    Ok(ApiReply::Owners(Some(vec![uid.to_owned()])))
}

#[test]
fn rule_25_recognises_its_secret_by_its_owner_after_a_lost_answer() {
    let mut driven = with_job();
    driven.expect("create Secret j-run", Err(status(504, "Timeout")));
    driven.expect("create Secret j-run", Err(status(409, "AlreadyExists")));
    driven.expect("get Secret j-run", owned_by("ju"));
    assert_eq!(driven.outcome(2), Some(&Ok(AnswerOk::Created(object("j-run", "")))));
}

#[test]
fn waits_until_the_secret_of_an_earlier_job_is_garbage_collected() {
    let mut driven = with_job();
    driven.expect("create Secret j-run", Err(status(409, "AlreadyExists")));
    for _ in 0..3 {
        driven.expect("get Secret j-run", owned_by("uid-of-an-earlier-job"));
        assert_eq!(driven.outcome(2), None);
    }
    driven.expect("get Secret j-run", Ok(ApiReply::Owners(None)));
    driven.expect("create Secret j-run", Ok(ApiReply::Created(object("j-run", "su"))));
    assert_eq!(driven.outcome(2), Some(&Ok(AnswerOk::Created(object("j-run", "su")))));
    assert_eq!(driven.now, at(4_000), "one read per second");
}

#[test]
fn a_secret_of_that_name_with_another_owner_is_a_conflict_that_names_it() {
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

/// A run that waits for the answer to the creation of a shared ConfigMap, which exists.
fn with_existing_shared_map() -> (Driven, String) {
    let name = shared::name(&BTreeMap::from([("a", "text")]), &BTreeMap::new());
    let create = Action::CreateConfigMap(NewConfigMap {
        namespace: "n".to_owned(),
        name: name.clone(),
        labels: Vec::new(),
        owner: object("j", "ju"),
        entries: vec![Label { key: "a".to_owned(), value: "text".to_owned() }],
        binary_entries: Vec::new(),
        is_shared: true,
    });
    let mut driven = Driven::start(&[&[create_job()], &[create]]);
    driven.expect("create Job", Ok(ApiReply::Created(object("j", "ju"))));
    driven.expect(&format!("create ConfigMap {name}"), Err(status(409, "AlreadyExists")));
    (driven, name)
}

#[test]
fn a_shared_config_map_of_another_run_gets_a_further_owner() {
    let (mut driven, name) = with_existing_shared_map();
    driven.expect(&format!("get content of ConfigMap {name}"), Ok(ApiReply::ContentName(Some(name.clone()))));
    let added = Ok(ApiReply::Created(object(&name, "mu")));
    driven.expect(&format!("add owner to ConfigMap {name}"), added);
    assert_eq!(driven.outcome(2), Some(&Ok(AnswerOk::Created(object(&name, "mu")))));
}

#[test]
fn a_shared_config_map_that_is_deleted_meanwhile_is_created_again() {
    let (mut driven, name) = with_existing_shared_map();
    driven.expect(&format!("get content of ConfigMap {name}"), Ok(ApiReply::ContentName(None)));
    driven.expect(&format!("create ConfigMap {name}"), Err(status(409, "AlreadyExists")));
    driven.expect(&format!("get content of ConfigMap {name}"), Ok(ApiReply::ContentName(Some(name.clone()))));
    driven.expect(&format!("add owner to ConfigMap {name}"), Err(status(404, "NotFound")));
    driven.expect(&format!("create ConfigMap {name}"), Ok(ApiReply::Created(object(&name, "mu"))));
    assert_eq!(driven.outcome(2), Some(&Ok(AnswerOk::Created(object(&name, "mu")))));
}

#[test]
fn a_shared_config_map_with_another_content_is_not_given_to_the_agent() {
    let (mut driven, name) = with_existing_shared_map();
    let other = Ok(ApiReply::ContentName(Some("paperclip-files-0".to_owned())));
    driven.expect(&format!("get content of ConfigMap {name}"), other);
    let Some(Err(error)) = driven.outcome(2) else { panic!("{:?}", driven.outcome(2)) };
    assert_eq!(
        error.message,
        format!("ConfigMap {name} in n does not contain what its name says: delete it")
    );
}

/// A run that adopts its Job and has no journal.
fn adopting(answers: &[&[Action]]) -> Driven {
    let mut driven = Driven { run: run(answers), now: at(1_000) };
    driven.run.spec.adopts = Some(object("j", "ju"));
    driven.run.handle(driven.now, Input::Start);
    driven
}

#[test]
fn a_run_that_adopts_its_job_creates_nothing() {
    let try_pod = Action::DryRunPod(NewObject {
        manifest_json: json!({"kind": "Pod", "metadata": {"namespace": "n"}, "spec": manifest()["spec"]["template"]["spec"]})
            .to_string(),
    });
    let mut driven = adopting(&[&[try_pod, create_job()], &[], &[create_secret()]]);
    driven.expect("get Job j", Ok(ApiReply::Job(Some(existing("another", "h0")))));
    assert_eq!(driven.outcome(1), Some(&Ok(AnswerOk::Warnings(Vec::new()))));
    assert_eq!(driven.outcome(2), Some(&Ok(AnswerOk::Created(object("j", "ju")))));
    assert_eq!(driven.outcome(3), Some(&Ok(AnswerOk::Created(object("j-run", "")))));
}

#[test]
fn a_run_that_adopts_its_job_ends_if_the_job_was_deleted() {
    let other = JobSnapshot { job: object("j", "another"), ..existing("r", "h1") };
    let deleting = JobSnapshot { is_deleting: true, ..existing("r", "h1") };
    for found in [None, Some(other), Some(deleting)] {
        let mut driven = adopting(&[&[create_job()]]);
        let (call, _) = driven.request();
        driven.run.handle(driven.now, Input::Called { call, outcome: Ok(ApiReply::Job(found)) });
        let result = std::iter::from_fn(|| driven.run.poll_effect()).find_map(|effect| match effect {
            Effect::Emit(SequencedRecord { record: Record::Result(result), .. }) => Some(result),
            _ => None,
        });
        let result = result.expect("it ends");
        assert_eq!(result["errorCode"], "host_restarted");
        assert_eq!(result.get("executionRecovery"), None, "its agent had started");
    }
}

#[test]
fn a_cancel_of_an_adopting_run_waits_until_the_run_has_its_job() {
    let mut driven = adopting(&[&[create_job()]]);
    let (call, _) = driven.request();
    let request = CancelRequest { source: CancelSource::Operator, reason: None };
    driven.run.handle(driven.now, Input::Cancel(request.clone()));
    assert!(driven.run.guest.seen.is_empty(), "{:?}", driven.run.guest.seen);
    let outcome = Ok(ApiReply::Job(Some(existing("r", "h1"))));
    driven.run.handle(driven.now, Input::Called { call, outcome });
    assert_eq!(driven.run.guest.seen.last(), Some(&Event::CancelRequested(request)));
}
