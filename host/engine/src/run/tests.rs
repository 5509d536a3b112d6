//! Resumed runs, with a plugin that answers from a list.

mod answers;
mod plugins;

use std::collections::VecDeque;

use paperclip_contract::types::{
    AcquireGuard, ApiError, CancelSource, Command, Deletion, Ending, Finish, FollowLog, JobSnapshot, Label,
    LabelJob, ListJobs, NewObject, ObjectRef, Refusal, Request, Timer,
};
use serde_json::json;

use super::*;
use crate::GuestFault;
use crate::api::{ApiCall, ApiReply, HostLease, Lease};
use crate::ids::CallId;
use crate::intake::{self, IntakeFacts};
use crate::journal::Entry;
use crate::ownership::HostState;
use crate::policy::{Grant, Policy};
use crate::record::{Record, SequencedRecord};
use crate::redact::Redactor;
use crate::run_record::{RecordState, RunFacts, RunRecord};

const JOB: &str = r#"{"kind": "Job", "metadata": {"namespace": "n", "name": "j"}, "spec": {"suspend": true, "template": {"spec":
    {"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i", "securityContext": {"allowPrivilegeEscalation": false}}]}}}}"#;

const fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

/// Answers its calls one after another with these actions.
#[derive(Debug, Default)]
struct Script {
    answers: VecDeque<Vec<Action>>,
    last_id: u64,
    seen: Vec<Event>,
    /// What its start answers instead of commands.
    start: Option<Result<Refusal, GuestFault>>,
}

impl Script {
    fn next(&mut self) -> Vec<Command> {
        let actions = self.answers.pop_front().unwrap_or_default();
        let ids = self.last_id + 1..;
        self.last_id += actions.len() as u64;
        ids.zip(actions).map(|(id, action)| Command { id, action }).collect()
    }
}

impl Guest for Script {
    fn start(
        &mut self,
        _at: Timestamp,
        _request: &Request,
    ) -> Result<Result<Vec<Command>, Refusal>, GuestFault> {
        match self.start.take() {
            Some(start) => start.map(Err),
            None => Ok(Ok(self.next())),
        }
    }

    fn step(&mut self, _at: Timestamp, events: &[Event]) -> Result<Vec<Command>, GuestFault> {
        self.seen.extend(events.iter().cloned());
        Ok(self.next())
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, GuestFault> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _snapshot: &[u8]) -> Result<Result<(), Refusal>, GuestFault> {
        Ok(Ok(()))
    }

    fn phase(&mut self) -> Result<String, GuestFault> {
        Ok(String::new())
    }
}

fn run(answers: &[&[Action]]) -> Run<Script> {
    let facts = IntakeFacts::bare(Some("n"));
    let context = json!({"runId": "r", "agent": {"id": "a"}});
    let (request, secrets) = intake::split(&context, "x", facts).expect("a good context");
    let spec = RunSpec {
        policy: Policy::new(Grant::default(), &request),
        request,
        host_id: "host".into(),
        redactor: Redactor::new(secrets.named()).expect("no secrets"),
        seed: 1,
        plugin: PluginIdentity::default(),
        poll_interval: Some(Duration::from_millis(1)),
        segments: SegmentLimits::default(),
        adopts: None,
        record: None,
        verifies_record: false,
    };
    let answers = answers.iter().map(|actions| actions.to_vec()).collect();
    Run::new(spec, Script { answers, ..Script::default() })
}

/// Moves new lines into the journal and returns the other effects.
fn effects(run: &mut Run<Script>, journal: &mut Vec<String>) -> Vec<Effect> {
    let mut others = Vec::new();
    while let Some(effect) = run.poll_effect() {
        match effect {
            Effect::Append(line) | Effect::Segment(line) => journal.push(line),
            other => others.push(other),
        }
    }
    others
}

fn resumed(answers: &[&[Action]], journal: &[String], now: Timestamp) -> Run<Script> {
    let mut run = run(answers);
    for line in journal {
        run.replay(Entry::parse(line).expect("an entry")).expect("the same plugin");
        while run.poll_effect().is_some() {}
    }
    run.handle(now, Input::Resume);
    run
}

/// A suspended Job in the cluster.
fn job_of(job: ObjectRef, run: &str) -> JobSnapshot {
    JobSnapshot {
        job,
        labels: vec![Label { key: "paperclip.io/run-id".into(), value: run.into() }],
        annotations: Vec::new(),
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

fn guard() -> Action {
    Action::AcquireGuard(AcquireGuard { key: "k".into(), namespace: "n".into(), wait_ms: 0 })
}

fn finish() -> Action {
    Action::Finish(Finish { result_json: "{}".into(), ending: Ending::Failed, delete_jobs: Vec::new() })
}

/// This host lives for certain, for this long.
fn host(run: &mut Run<Script>, now: Timestamp, certain_until: Timestamp) {
    run.handle(now, Input::Host(HostState { instance: "paperclip-host-a".into(), certain_until }));
}

fn lease(calls: &[Effect]) -> (CallId, Lease) {
    let found = calls.iter().find_map(|effect| match effect {
        Effect::Call { call, request: ApiCall::CreateLease(lease) | ApiCall::UpdateLease(lease) } => {
            Some((*call, lease.clone()))
        }
        _ => None,
    });
    found.expect("a lease is requested")
}

fn names(effects: &[Effect]) -> Vec<String> {
    let calls = effects.iter().filter_map(|effect| match effect {
        Effect::Call { request, .. } => Some(request.describe()),
        Effect::Close(closing) => Some(format!("{closing:?}")),
        _ => None,
    });
    calls.collect()
}

#[test]
fn a_run_whose_end_was_not_journaled_ends_when_it_is_resumed() {
    let answers: &[&[Action]] = &[&[finish()]];
    let (mut first, mut journal) = (run(answers), Vec::new());
    first.handle(at(1_000), Input::Start);
    effects(&mut first, &mut journal);
    assert!(journal.iter().any(|line| line.starts_with("{\"end\"")), "{journal:?}");
    journal.retain(|line| line.starts_with("{\"start\"") || line.starts_with("{\"commands\""));
    let mut second = resumed(answers, &journal, at(5_000));
    let done = effects(&mut second, &mut journal);
    assert_eq!(names(&done), ["Ended(Failed)"]);
}

#[test]
fn a_run_that_ends_while_its_log_is_read_reports_a_gap_before_its_result() {
    let pod = ObjectRef { namespace: "n".into(), name: "p".into(), uid: "u".into() };
    let follow =
        Action::FollowLog(FollowLog { pod, container: "c".into(), restart_count: 0, control_tag: None });
    let answers: &[&[Action]] = &[&[follow, finish()]];
    let types = |effects: &[Effect]| {
        let records = effects.iter().filter_map(|effect| match effect {
            Effect::Emit(sequenced) => {
                Some(serde_json::to_value(&sequenced.record).expect("JSON")["type"].clone())
            }
            _ => None,
        });
        records.collect::<Vec<_>>()
    };
    let (mut first, mut journal) = (run(answers), Vec::new());
    first.handle(at(1_000), Input::Start);
    assert_eq!(types(&effects(&mut first, &mut journal)), ["gap", "result"]);

    let mut second = run(answers);
    for line in &journal {
        second.replay(Entry::parse(line).expect("an entry")).expect("the same plugin");
    }
    assert_eq!(
        types(&effects(&mut second, &mut Vec::new())),
        ["gap", "result"],
        "the replay returns them, too"
    );
}

#[test]
fn a_resumed_run_changes_nothing_before_it_holds_its_lease_for_certain() {
    let job = ObjectRef { namespace: "n".into(), name: "j".into(), uid: "u".into() };
    let adopt = Action::AdoptJob(LabelJob { job, labels: Vec::new() });
    let own = Label { key: "paperclip.io/agent-id".into(), value: "a".into() };
    let list = Action::ListJobs(ListJobs { namespace: "n".into(), labels: vec![own] });
    let answers: &[&[Action]] = &[&[guard()], &[list, adopt]];
    let (mut first, mut journal) = (run(answers), Vec::new());
    first.handle(at(1_000), Input::Start);
    host(&mut first, at(1_000), at(26_000));
    let (call, requested) = lease(&effects(&mut first, &mut journal));
    first.handle(at(1_001), Input::Called { call, outcome: Ok(ApiReply::Lease(Some(requested.clone()))) });
    assert_eq!(names(&effects(&mut first, &mut journal)).len(), 2);

    let mut second = resumed(answers, &journal, at(90_000));
    host(&mut second, at(90_000), Timestamp::MAX);
    let calls = names(&effects(&mut second, &mut journal));
    assert!(calls.iter().any(|call| call.starts_with("list Jobs")), "{calls:?}");
    assert!(!calls.iter().any(|call| call.starts_with("patch Job")), "{calls:?}");
    let other = Lease { holder: "another".into(), host: "there".into(), renewed_at: at(89_000), ..requested };
    second.handle(
        at(90_001),
        Input::Called { call: CallId::new(2), outcome: Ok(ApiReply::Lease(Some(other))) },
    );
    let calls = names(&effects(&mut second, &mut journal));
    assert_eq!(calls, Vec::<String>::new());
    let refused = |event: &Event| matches!(event, Event::Answered(answer) if answer.outcome.is_err());
    assert!(second.guest.seen.contains(&Event::GuardLost) && second.guest.seen.iter().any(refused));
}

#[test]
fn retries_nothing_that_needs_the_lease_before_it_is_certainly_held() {
    let no_answer = || ApiError { status: None, reason: None, message: String::new(), retry_after_ms: None };
    let unanswered = || {
        let create = Action::CreateJob(NewObject { manifest_json: JOB.into() });
        let (mut run, mut journal) = (run(&[&[guard()], &[create]]), Vec::new());
        run.handle(at(0), Input::Start);
        host(&mut run, at(0), at(25_000));
        let (call, requested) = lease(&effects(&mut run, &mut journal));
        run.handle(at(1), Input::Called { call, outcome: Ok(ApiReply::Lease(Some(requested))) });
        run.handle(at(30_000), Input::Called { call: CallId::new(2), outcome: Err(no_answer()) });
        effects(&mut run, &mut journal);
        run.handle(at(40_000), Input::Tick);
        assert_eq!(
            names(&effects(&mut run, &mut journal)),
            Vec::<String>::new(),
            "the host may have been revoked"
        );
        (run, journal)
    };
    let (mut held, mut journal) = unanswered();
    host(&mut held, at(40_100), at(65_000));
    held.handle(at(41_000), Input::Tick);
    assert_eq!(names(&effects(&mut held, &mut journal)), ["create Job"]);

    let (mut lost, mut journal) = unanswered();
    let certain_until = at(65_000);
    lost.handle(at(40_100), Input::Host(HostState { instance: "paperclip-host-a-2".into(), certain_until }));
    assert!(names(&effects(&mut lost, &mut journal))[0].starts_with("update Lease"));
    let not_found = ApiError { status: Some(404), ..no_answer() };
    lost.handle(at(40_100), Input::Called { call: CallId::new(3), outcome: Err(not_found) });
    lost.handle(at(41_000), Input::Tick);
    assert_eq!(names(&effects(&mut lost, &mut journal)), Vec::<String>::new());
    let refused = |event: &Event| matches!(event, Event::Answered(answer) if answer.outcome.is_err());
    assert!(lost.guest.seen.iter().any(refused), "{:?}", lost.guest.seen);
}

#[test]
fn a_run_leaves_what_another_living_host_drives_without_a_result() {
    let (mut run, mut journal) = (run(&[&[guard()]]), Vec::new());
    run.handle(at(0), Input::Start);
    host(&mut run, at(0), Timestamp::MAX);
    let (call, requested) = lease(&effects(&mut run, &mut journal));
    let exists = ApiError {
        status: Some(409),
        reason: Some("AlreadyExists".into()),
        message: String::new(),
        retry_after_ms: None,
    };
    run.handle(at(1), Input::Called { call, outcome: Err(exists) });
    let there = Lease { host: "there".into(), instance: "paperclip-host-b".into(), ..requested };
    run.handle(at(2), Input::Called { call: CallId::new(2), outcome: Ok(ApiReply::Lease(Some(there))) });
    let living = HostLease {
        namespace: "n".into(),
        name: "paperclip-host-b".into(),
        uid: "h".into(),
        resource_version: "1".into(),
        host: "there".into(),
        address: None,
        version: String::new(),
        renewed_at: at(0),
    };
    run.handle(at(3), Input::Called { call: CallId::new(3), outcome: Ok(ApiReply::HostLease(Some(living))) });
    let last = effects(&mut run, &mut journal);
    assert_eq!(names(&last).last().map(String::as_str), Some("Moved"));
    assert!(
        !last.iter().any(
            |effect| matches!(effect, Effect::Emit(record) if matches!(record.record, Record::Result(_)))
        )
    );
}

#[test]
fn raises_the_epoch_of_its_job_when_it_takes_the_run_over() {
    let job = ObjectRef { namespace: "n".into(), name: "j".into(), uid: "u".into() };
    let create = Action::CreateJob(NewObject { manifest_json: JOB.into() });
    let answers: &[&[Action]] = &[&[guard()], &[create]];
    let (mut first, mut journal) = (run(answers), Vec::new());
    first.handle(at(5_000), Input::Start);
    host(&mut first, at(5_000), Timestamp::MAX);
    let (call, requested) = lease(&effects(&mut first, &mut journal));
    assert_eq!(requested.epoch, 5);
    first.handle(at(5_001), Input::Called { call, outcome: Ok(ApiReply::Lease(Some(requested.clone()))) });
    let created = effects(&mut first, &mut journal);
    let is_marked = |effect: &Effect| {
        matches!(effect, Effect::Call { request: ApiCall::CreateJob { manifest_json }, .. }
            if manifest_json.contains(r#""paperclip.io/epoch":"5""#))
    };
    assert!(created.iter().any(is_marked), "{created:?}");
    first.handle(at(5_002), Input::Called { call: CallId::new(2), outcome: Ok(ApiReply::Created(job)) });
    effects(&mut first, &mut journal);

    let mut second = resumed(answers, &journal, at(90_000));
    host(&mut second, at(90_000), Timestamp::MAX);
    effects(&mut second, &mut journal);
    let left = requested.released(at(60_000));
    second
        .handle(at(90_001), Input::Called { call: CallId::new(1), outcome: Ok(ApiReply::Lease(Some(left))) });
    let (call, taken) = lease(&effects(&mut second, &mut journal));
    second.handle(at(90_002), Input::Called { call, outcome: Ok(ApiReply::Lease(Some(taken))) });
    let raised = effects(&mut second, &mut journal);
    let is_raised = |effect: &Effect| {
        matches!(effect, Effect::Call { request: ApiCall::PatchJob { patch_json, epoch: Some(90), .. }, .. }
            if patch_json.contains(r#""paperclip.io/epoch":"90""#))
    };
    assert!(raised.iter().any(is_raised), "{raised:?}");
}

#[test]
fn a_resumed_run_that_ends_at_once_reads_the_lease_that_its_earlier_host_requested() {
    let answers: &[&[Action]] = &[&[guard()], &[finish()]];
    let (mut first, mut journal) = (run(answers), Vec::new());
    first.handle(at(0), Input::Start);
    host(&mut first, at(0), Timestamp::MAX);
    let (_, requested) = lease(&effects(&mut first, &mut journal));

    let mut second = resumed(answers, &journal, at(9_000));
    let calls = names(&effects(&mut second, &mut journal));
    assert!(calls.last().is_some_and(|call| call.starts_with("get Lease")), "{calls:?}");
    let found = Ok(ApiReply::Lease(Some(requested)));
    second.handle(at(9_001), Input::Called { call: CallId::new(1), outcome: found });
    let calls = names(&effects(&mut second, &mut journal));
    assert!(calls.iter().any(|call| call.starts_with("delete Lease")), "{calls:?}");
}

#[test]
fn releases_the_lease_after_the_job_is_deleted() {
    let job = ObjectRef { namespace: "n".into(), name: "j".into(), uid: "u".into() };
    let create = Action::CreateJob(NewObject { manifest_json: JOB.into() });
    let delete_jobs = vec![job.clone()];
    let finish = Action::Finish(Finish { result_json: "{}".into(), ending: Ending::Failed, delete_jobs });
    let (mut run, mut journal) = (run(&[&[guard()], &[create], &[finish]]), Vec::new());
    run.handle(at(0), Input::Start);
    host(&mut run, at(0), Timestamp::MAX);
    let (call, requested) = lease(&effects(&mut run, &mut journal));
    run.handle(at(1), Input::Called { call, outcome: Ok(ApiReply::Lease(Some(requested))) });
    run.handle(at(2), Input::Called { call: CallId::new(2), outcome: Ok(ApiReply::Created(job)) });
    effects(&mut run, &mut journal);
    let no_answer = ApiError { status: None, reason: None, message: String::new(), retry_after_ms: None };
    run.handle(at(3), Input::Called { call: CallId::new(3), outcome: Err(no_answer) });
    assert_eq!(names(&effects(&mut run, &mut journal)), Vec::<String>::new());
    run.handle(at(9_000), Input::Tick);
    assert_eq!(names(&effects(&mut run, &mut journal)), ["delete Job j"]);
    run.handle(at(9_001), Input::Called { call: CallId::new(3), outcome: Ok(ApiReply::Done) });
    assert!(
        matches!(&names(&effects(&mut run, &mut journal))[..], [only] if only.starts_with("delete Lease"))
    );
}

#[test]
fn time_continues_if_the_clock_of_the_next_host_is_behind() {
    let timer = Action::SetTimer(Timer { timer: 7, after_ms: 20_000 });
    let answers: &[&[Action]] = &[&[timer]];
    let (mut first, mut journal) = (run(answers), Vec::new());
    first.handle(at(100_000), Input::Start);
    effects(&mut first, &mut journal);
    let mut second = resumed(answers, &journal, at(40_000));
    assert_eq!(second.deadline(), Some(at(60_000)));
    second.handle(at(60_000), Input::Tick);
    assert!(second.guest.seen.contains(&Event::TimerFired(7)));
}

#[test]
fn a_timer_that_expired_while_no_host_ran_waits_for_the_state_of_the_cluster() {
    let timer = Action::SetTimer(Timer { timer: 7, after_ms: 20_000 });
    let answers: &[&[Action]] = &[&[timer]];
    let (mut first, mut journal) = (run(answers), Vec::new());
    first.handle(at(0), Input::Start);
    effects(&mut first, &mut journal);
    let mut second = resumed(answers, &journal, at(500_000));
    second.handle(at(500_010), Input::Tick);
    assert!(!second.guest.seen.contains(&Event::TimerFired(7)));
    second.handle(at(505_000), Input::Tick);
    assert!(second.guest.seen.contains(&Event::TimerFired(7)));
}

#[test]
fn does_not_delete_a_job_that_another_run_adopted() {
    let job = ObjectRef { namespace: "n".into(), name: "j".into(), uid: "u".into() };
    let create = Action::CreateJob(NewObject { manifest_json: JOB.into() });
    let finish = Action::Finish(Finish {
        result_json: "{}".into(),
        ending: Ending::Failed,
        delete_jobs: vec![job.clone()],
    });
    let answers: &[&[Action]] = &[&[create], &[finish]];
    let (mut first, mut journal) = (run(answers), Vec::new());
    first.handle(at(0), Input::Start);
    first.handle(at(1), Input::Called { call: CallId::new(1), outcome: Ok(ApiReply::Created(job.clone())) });
    effects(&mut first, &mut journal);
    for (holder, expected) in [("r", vec!["delete Job j"]), ("another", vec!["Ended(Failed)"])] {
        let mut second = resumed(answers, &journal, at(90_000));
        assert_eq!(names(&effects(&mut second, &mut Vec::new())), ["get Job j"]);
        let snapshot = job_of(job.clone(), holder);
        second.handle(
            at(90_001),
            Input::Called { call: CallId::new(1), outcome: Ok(ApiReply::Job(Some(snapshot))) },
        );
        assert_eq!(names(&effects(&mut second, &mut Vec::new())), expected);
    }
}

#[test]
fn reads_a_job_again_whose_epoch_rose_before_it_was_deleted() {
    let job = ObjectRef { namespace: "n".into(), name: "j".into(), uid: "u".into() };
    let create = Action::CreateJob(NewObject { manifest_json: JOB.into() });
    let delete_jobs = vec![job.clone()];
    let finish = Action::Finish(Finish { result_json: "{}".into(), ending: Ending::Failed, delete_jobs });
    let answers: &[&[Action]] = &[&[create], &[finish]];
    let (mut first, mut journal) = (run(answers), Vec::new());
    first.handle(at(0), Input::Start);
    first.handle(at(1), Input::Called { call: CallId::new(1), outcome: Ok(ApiReply::Created(job.clone())) });
    effects(&mut first, &mut journal);
    let mut second = resumed(answers, &journal, at(90_000));
    effects(&mut second, &mut Vec::new());
    let mut answer = |call, outcome| {
        second.handle(at(90_001), Input::Called { call: CallId::new(call), outcome });
        names(&effects(&mut second, &mut Vec::new()))
    };
    let seen = || Ok(ApiReply::Job(Some(job_of(job.clone(), "r"))));
    let reason = Some(crate::api::SUPERSEDED.to_owned());
    let superseded = ApiError { status: Some(409), reason, message: String::new(), retry_after_ms: None };
    assert_eq!(answer(1, seen()), ["delete Job j"]);
    assert_eq!(answer(2, Err(superseded)), ["get Job j"]);
    assert_eq!(answer(3, seen()), ["delete Job j"]);
    assert_eq!(answer(4, Ok(ApiReply::Done)), ["Ended(Failed)"]);
}

#[test]
fn gets_a_job_at_the_end_that_may_have_been_created() {
    let create = Action::CreateJob(NewObject { manifest_json: JOB.into() });
    let (mut run, mut journal) = (run(&[&[create, finish()]]), Vec::new());
    run.handle(at(0), Input::Start);
    assert_eq!(names(&effects(&mut run, &mut journal)), ["create Job", "get Job j"]);
}

#[test]
fn downtime_accumulates_until_the_plugin_receives_it() {
    let (mut first, mut journal) = (run(&[]), Vec::new());
    first.handle(at(1_000), Input::Start);
    effects(&mut first, &mut journal);
    journal.push(Entry::Resumed { at: at(50_000) }.to_line());
    let second = resumed(&[], &journal, at(60_000));
    assert_eq!(second.guest.seen, [Event::HostResumed(59_000)]);
}

#[test]
fn a_cancel_during_a_detach_stays_pending() {
    let cancel = || Input::Cancel(CancelRequest { source: CancelSource::Operator, reason: None });
    let (mut live, mut journal) = (run(&[&[guard()]]), Vec::new());
    live.handle(at(0), Input::Start);
    live.handle(at(1), cancel());
    assert!(!live.has_pending_cancel());

    let mut late = run(&[&[guard()]]);
    late.handle(at(0), Input::Start);
    host(&mut late, at(0), Timestamp::MAX);
    effects(&mut late, &mut journal);
    late.handle(at(1), Input::Stop);
    late.handle(at(2), cancel());
    assert!(late.has_pending_cancel());
    assert!(!late.guest.seen.iter().any(|event| matches!(event, Event::CancelRequested(_))));
}

#[test]
fn gets_a_followed_job_that_no_watch_reports() {
    let job = ObjectRef { namespace: "n".into(), name: "j".into(), uid: "u".into() };
    let answers: &[&[Action]] = &[&[Action::FollowJob(job.clone())]];
    let (mut first, mut journal) = (run(answers), Vec::new());
    first.handle(at(0), Input::Start);
    effects(&mut first, &mut journal);

    let mut second = resumed(answers, &journal, at(50_000));
    effects(&mut second, &mut journal);
    assert_eq!(second.deadline(), Some(at(60_000)));
    second.handle(at(60_000), Input::Tick);
    assert_eq!(names(&effects(&mut second, &mut journal)), ["get Job j"]);
    second.handle(at(60_001), Input::Called { call: CallId::new(1), outcome: Ok(ApiReply::Job(None)) });
    let deletion = Deletion { object: job.clone(), detected_via: "read-404".into(), is_ours: false };
    assert!(second.guest.seen.contains(&Event::JobDeleted(deletion.clone())));
    assert_eq!(second.deadline(), None);

    let mut reported = resumed(answers, &journal, at(70_000));
    reported.handle(
        at(70_001),
        Input::JobDeleted(Deletion { detected_via: "relist-missing".into(), ..deletion }),
    );
    effects(&mut reported, &mut journal);
    assert_eq!(reported.deadline(), None, "nothing needs to be read");
}

// ---------------------------------------------------------------------- the record of the run

fn claimed(version: &str) -> RunRecord {
    RunRecord {
        namespace: "n".into(),
        name: "paperclip-run-1".into(),
        uid: "u".into(),
        resource_version: version.into(),
        run_id: "r".into(),
        facts: RunFacts::default(),
        host: "host".into(),
        instance: "paperclip-host-a".into(),
        accepted_at: at(0),
        cancel_requested: None,
        state: RecordState::Claimed { recovery: None },
    }
}

/// The request about the record among effects, and whether a Job is deleted.
fn of_record(effects: &[Effect]) -> (Option<(CallId, ApiCall)>, bool) {
    let mut record = None;
    let mut deletes = false;
    for effect in effects {
        let Effect::Call { call, request } = effect else { continue };
        match request {
            ApiCall::UpdateRunRecord(_) | ApiCall::GetRunRecord { .. } => {
                record = Some((*call, request.clone()));
            }
            ApiCall::DeleteJob { .. } => deletes = true,
            _ => {}
        }
    }
    (record, deletes)
}

/// A run that has created a Job and ends.
fn ending(record: RunRecord) -> (Run<Script>, Vec<String>) {
    let job = ObjectRef { namespace: "n".into(), name: "j".into(), uid: "u".into() };
    let create = Action::CreateJob(NewObject { manifest_json: JOB.into() });
    let end = Action::Finish(Finish {
        result_json: r#"{"summary":"done"}"#.into(),
        ending: Ending::Succeeded,
        delete_jobs: vec![job.clone()],
    });
    let mut run = run(&[&[create], &[end]]);
    run.spec.record = Some(Box::new(record));
    let mut journal = Vec::new();
    run.handle(at(1), Input::Start);
    effects(&mut run, &mut journal);
    run.handle(at(2), Input::Called { call: CallId::new(1), outcome: Ok(ApiReply::Created(job)) });
    (run, journal)
}

#[test]
fn a_job_is_deleted_once_the_record_of_its_run_has_the_result() {
    let (mut run, mut journal) = ending(claimed("7"));
    let (record, deletes) = of_record(&effects(&mut run, &mut journal));
    let Some((call, ApiCall::UpdateRunRecord(written))) = record else { panic!("it ended: {record:?}") };
    let end = written.end().expect("it says how");
    assert_eq!((end.state.as_str(), &end.result["summary"]), ("succeeded", &json!("done")));
    assert!(!deletes, "a host that dies now leaves a Job, and a record that says that its run has ended");
    run.handle(at(3), Input::Called { call, outcome: Ok(ApiReply::RunRecord(Some(written))) });
    let (record, deletes) = of_record(&effects(&mut run, &mut journal));
    assert!(record.is_none() && deletes);
}

#[test]
fn a_record_that_has_changed_is_read_and_written_again_unless_it_says_the_end() {
    let refused =
        |status| ApiError { status: Some(status), reason: None, message: "no".into(), retry_after_ms: None };
    for (found, is_written_again) in
        [(claimed("8"), true), (claimed("8").ended(at(1), "failed", serde_json::Map::new()), false)]
    {
        let (mut run, mut journal) = ending(claimed("7"));
        let (Some((call, _)), _) = of_record(&effects(&mut run, &mut journal)) else { panic!("it ended") };
        run.handle(at(3), Input::Called { call, outcome: Err(refused(409)) });
        let (record, deletes) = of_record(&effects(&mut run, &mut journal));
        let Some((call, ApiCall::GetRunRecord { .. })) = record else { panic!("it is read: {record:?}") };
        assert!(!deletes);
        run.handle(at(4), Input::Called { call, outcome: Ok(ApiReply::RunRecord(Some(Box::new(found)))) });
        let (record, deletes) = of_record(&effects(&mut run, &mut journal));
        match record {
            Some((_, ApiCall::UpdateRunRecord(again))) => {
                assert!(is_written_again && !deletes);
                assert_eq!((again.resource_version.as_str(), again.end().is_some()), ("8", true));
            }
            other => assert!(!is_written_again && deletes, "{other:?}"),
        }
    }
    // What cannot be kept is said, and does not keep the Job.
    let (mut run, mut journal) = ending(claimed("7"));
    let (Some((call, _)), _) = of_record(&effects(&mut run, &mut journal)) else { panic!("it ended") };
    run.handle(at(3), Input::Called { call, outcome: Err(refused(403)) });
    let (_, deletes) = of_record(&effects(&mut run, &mut journal));
    assert!(deletes && journal.iter().any(|line| line.contains("is not kept in ConfigMap")));
}

#[test]
fn a_run_that_was_taken_over_starts_nothing_if_another_host_had_adopted_it_meanwhile() {
    let other = || RunRecord { instance: "paperclip-host-b".into(), ..claimed("9") };
    for (found, leaves) in [
        (claimed("8"), false),
        (other(), true),
        (claimed("8").ended(at(1), "succeeded", serde_json::Map::new()), true),
    ] {
        let create = Action::CreateJob(NewObject { manifest_json: JOB.into() });
        let (mut run, mut journal) = (run(&[&[guard()], &[create]]), Vec::new());
        run.spec.record = Some(Box::new(claimed("7")));
        run.spec.verifies_record = true;
        run.handle(at(1), Input::Start);
        host(&mut run, at(1), Timestamp::MAX);
        let (call, requested) = lease(&effects(&mut run, &mut journal));
        run.handle(at(2), Input::Called { call, outcome: Ok(ApiReply::Lease(Some(requested))) });
        let (read, _) = of_record(&effects(&mut run, &mut journal));
        let Some((call, ApiCall::GetRunRecord { .. })) = read else { panic!("it is read: {read:?}") };
        run.handle(at(3), Input::Called { call, outcome: Ok(ApiReply::RunRecord(Some(Box::new(found)))) });
        let last = effects(&mut run, &mut journal);
        let names = names(&last);
        assert_eq!(names.iter().any(|name| name == "Moved"), leaves, "{names:?}");
        let starts =
            |effect: &Effect| matches!(effect, Effect::Call { request: ApiCall::CreateJob { .. }, .. });
        assert_eq!(last.iter().any(starts), !leaves, "{names:?}");
    }
}
