//! Whole runs: a scripted guest, the real engine, and a server that does what a cluster does for one Job.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt;
use http::{Method, Response};
use paperclip_contract::types::{
    Action, AnswerOk, CancelRequest, CancelSource, Command, ContainerState, Ending, Event, Finish, FollowLog,
    LogLine, NewObject, NewSecret, ObjectRef, PollHttp, Refusal, Request, SecretEntry, SecretSource,
};
use paperclip_diagnostic::Diagnose as _;
use paperclip_engine::intake::{self, IntakeFacts, Secrets};
use paperclip_engine::policy::{Grant, Policy};
use paperclip_engine::record::{Record, SequencedRecord};
use paperclip_engine::redact::Redactor;
use paperclip_engine::time::Timestamp;
use paperclip_engine::{Closing, Guest, GuestFault, PluginIdentity, Run, RunSpec, SegmentLimits};
use paperclip_shell::driver::DriveError;
use paperclip_shell::journal::{History, RunFolder, run_folder};
use paperclip_shell::{Control, Journal, Outcome, PaperclipApi, RunPorts, Sink, drive};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::server::{Listening, Seen, Server, json, open, text};

const TOKEN: &str = "canary-91c3-token";
const PATIENCE: Duration = Duration::from_secs(30);

/// Creates a Job, follows it and its agent's log, and finishes with the number of lines once Paperclip has answered too.
#[derive(Default, Serialize, Deserialize)]
struct Script {
    command: u64,
    job: Option<ObjectRef>,
    is_following: bool,
    lines: usize,
    is_log_ended: bool,
    is_answered: bool,
}

impl Script {
    fn command(&mut self, action: Action) -> Command {
        self.command += 1;
        Command { id: self.command, action }
    }

    fn finish(&mut self, ending: Ending) -> Vec<Command> {
        let result_json = json!({"exitCode": 0, "lines": self.lines}).to_string();
        let delete_jobs = self.job.clone().into_iter().collect();
        vec![self.command(Action::Finish(Finish { result_json, ending, delete_jobs }))]
    }

    fn finish_when_done(&mut self) -> Vec<Command> {
        if self.is_log_ended && self.is_answered { self.finish(Ending::Succeeded) } else { Vec::new() }
    }

    fn on_created(&mut self, job: ObjectRef) -> Vec<Command> {
        self.job = Some(job.clone());
        let secret = NewSecret {
            namespace: "n".into(),
            name: "s".into(),
            labels: Vec::new(),
            owner: job.clone(),
            entries: vec![SecretEntry { key: "TOKEN".into(), source: SecretSource::AuthToken }],
        };
        [Action::CreateSecret(secret), Action::UnsuspendJob(job.clone()), Action::FollowJob(job)]
            .map(|action| self.command(action))
            .into()
    }

    fn on_event(&mut self, event: &Event) -> Vec<Command> {
        match event {
            Event::Answered(answer) => match &answer.outcome {
                Ok(AnswerOk::Created(job)) if self.job.is_none() => self.on_created(job.clone()),
                Ok(_) => Vec::new(),
                Err(error) => panic!("command {}: {error:?}", answer.command),
            },
            Event::PodObserved(pod) if !self.is_following => {
                let Some(ContainerState::Running(_)) = pod.containers.first().map(|one| &one.state) else {
                    return Vec::new();
                };
                self.is_following = true;
                let follow = FollowLog {
                    pod: pod.pod.clone(),
                    container: "agent".into(),
                    restart_count: 0,
                    control_tag: None,
                };
                vec![self.command(Action::FollowLog(follow))]
            }
            Event::LogLines(batch) => {
                assert!(batch.lines.iter().all(|line| matches!(line, LogLine::Whole(_))));
                self.lines += batch.lines.len();
                Vec::new()
            }
            Event::LogEnded(_) => {
                self.is_log_ended = true;
                self.finish_when_done()
            }
            Event::HttpAnswered(_) => {
                self.is_answered = true;
                self.finish_when_done()
            }
            Event::CancelRequested(_) => self.finish(Ending::Cancelled),
            _ => Vec::new(),
        }
    }
}

impl Guest for Script {
    fn start(
        &mut self,
        _at: Timestamp,
        _request: &Request,
    ) -> Result<Result<Vec<Command>, Refusal>, GuestFault> {
        let pod = json!({
            "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "i", "securityContext": {"allowPrivilegeEscalation": false}}],
        });
        let manifest = json!({
            "kind": "Job", "metadata": {"namespace": "n", "name": "j"},
            "spec": {"suspend": true, "template": {"spec": pod}},
        });
        let create = self.command(Action::CreateJob(NewObject { manifest_json: manifest.to_string() }));
        let poll = self.command(Action::PollHttp(PollHttp { path: "/api/heartbeat-runs/r".into() }));
        Ok(Ok(vec![create, poll]))
    }

    fn step(&mut self, _at: Timestamp, events: &[Event]) -> Result<Vec<Command>, GuestFault> {
        Ok(events.iter().flat_map(|event| self.on_event(event)).collect())
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, GuestFault> {
        Ok(serde_json::to_vec(self).unwrap())
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<Result<(), Refusal>, GuestFault> {
        *self = serde_json::from_slice(snapshot).unwrap();
        Ok(Ok(()))
    }

    fn phase(&mut self) -> Result<String, GuestFault> {
        Ok("scripted".to_owned())
    }
}

fn run() -> (Run<Script>, Secrets) {
    let context = json!({"runId": "r", "agent": {"id": "a"}, "authToken": TOKEN});
    let facts = IntakeFacts::bare(Some("n"));
    let (request, secrets) = intake::split(&context, "scripted", facts).unwrap();
    let policy = Policy::new(Grant::default(), &request);
    let spec = RunSpec {
        policy,
        request,
        host_id: "host".into(),
        redactor: Redactor::new(secrets.named()).unwrap(),
        seed: 1,
        plugin: PluginIdentity::default(),
        poll_interval: Some(Duration::from_millis(1)),
        segments: SegmentLimits::default(),
        adopts: None,
        record: None,
        verifies_record: false,
    };
    (Run::new(spec, Script::default()), secrets)
}

fn job() -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": "n", "name": "j", "uid": "ju", "resourceVersion": "1"}})
}

fn pod(state: &Value) -> Value {
    let owner =
        json!({"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "ju", "controller": true});
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "n", "name": "p", "uid": "pu", "resourceVersion": "2", "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "agent"}]},
        "status": {"phase": "Running", "containerStatuses": [
            {"name": "agent", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state}]}})
}

/// The Pods' watch: the agent runs, and has ended once its log was followed.
fn pods_watch(followed: Arc<Notify>, does_end: bool) -> Response<Body> {
    let event =
        |object: Value| Ok::<_, io::Error>(format!("{}\n", json!({"type": "MODIFIED", "object": object})));
    let runs =
        futures::stream::iter([event(pod(&json!({"running": {"startedAt": "2026-01-02T03:04:05Z"}})))]);
    let ends = futures::stream::once(async move {
        if !does_end {
            std::future::pending::<()>().await;
        }
        followed.notified().await;
        event(pod(&json!({"terminated": {"exitCode": 0}})))
    });
    Response::new(Body::from_stream(runs.chain(ends).chain(futures::stream::pending())))
}

/// A cluster in which one Job's agent prints this, and ends or continues.
async fn cluster(log: &'static str, does_end: bool) -> Listening {
    let followed = Arc::new(Notify::new());
    Server::new(move |seen| match (&seen.method, seen.path.rsplit('/').next().unwrap_or_default()) {
        (&Method::POST | &Method::PATCH, "jobs" | "j") => json(200, &job()),
        (&Method::POST, "secrets") => {
            json(201, &json!({"metadata": {"namespace": "n", "name": "s", "uid": "su"}}))
        }
        (&Method::DELETE, _) => json(200, &json!({"kind": "Status", "status": "Success"})),
        (_, "log") => {
            followed.notify_one();
            if does_end || !seen.asks("follow=true") { text(200, log) } else { open(log) }
        }
        (_, "jobs") if seen.is_watch() => open(""),
        (_, "pods") if seen.is_watch() => pods_watch(Arc::clone(&followed), does_end),
        (_, "jobs" | "pods") => json(200, &json!({"metadata": {"resourceVersion": "1"}, "items": []})),
        _ => text(200, "{\"status\":\"running\"}"),
    })
    .listen()
    .await
}

const LOG: &str = "2026-01-02T03:04:05.000000001Z one\n2026-01-02T03:04:05.000000002Z two\n";

/// Sends each record to the test, then does this.
struct Kept {
    records: mpsc::UnboundedSender<Record>,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    Continue,
    Stick,
    Fail,
}

impl Sink for Kept {
    async fn take(&mut self, record: SequencedRecord) -> io::Result<()> {
        self.records.send(record.record).unwrap();
        match self.then {
            Then::Continue => Ok(()),
            Then::Stick => std::future::pending().await,
            Then::Fail => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Started {
    drive: tokio::task::JoinHandle<Outcome>,
    control: mpsc::Sender<Control>,
    records: mpsc::UnboundedReceiver<Record>,
}

fn required(state: &Path) -> Journal {
    Journal::new(RunFolder::open(state, "r").unwrap(), true)
}

async fn start(server: &Listening, journal: Journal, then: Then) -> Started {
    resume(server, journal, History::default(), then).await
}

async fn resume(server: &Listening, journal: Journal, history: History, then: Then) -> Started {
    resume_with(run().1, server, journal, history, then).await
}

async fn resume_with(
    secrets: Secrets,
    server: &Listening,
    journal: Journal,
    history: History,
    then: Then,
) -> Started {
    let (run, _) = run();
    let (sender, records) = mpsc::unbounded_channel();
    let (control, requests) = mpsc::channel(1);
    let ports = RunPorts {
        run_id: "r".into(),
        cluster: server.cluster().await,
        secrets,
        paperclip: Some(PaperclipApi::new(&server.url).unwrap()),
        journal,
        history,
        notes: Vec::new(),
        sink: Kept { records: sender, then },
        observer: std::sync::Arc::new(()),
    };
    Started { drive: tokio::spawn(drive(run, ports, requests)), control, records }
}

impl Started {
    async fn ended(self) -> (Outcome, Vec<Record>) {
        let outcome = timeout(PATIENCE, self.drive).await.expect("the run ends").unwrap();
        let mut records = self.records;
        let mut kept = Vec::new();
        while let Ok(record) = records.try_recv() {
            kept.push(record);
        }
        (outcome, kept)
    }
}

fn deletes(server: &Listening) -> Vec<Seen> {
    server.server.seen().into_iter().filter(|seen| seen.method == Method::DELETE).collect()
}

#[tokio::test]
async fn runs_a_job_to_its_result_and_deletes_what_it_created() {
    let server = cluster(LOG, true).await;
    let state = tempfile::tempdir().unwrap();
    let started = start(&server, required(state.path()), Then::Continue).await;
    let (outcome, records) = started.ended().await;
    assert_eq!(outcome.closing, Closing::Ended(Ending::Succeeded));
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    assert_eq!(outcome.result.as_ref().map(|result| result["lines"].clone()), Some(json!(2)));
    let lines: Vec<(u64, &str)> = records
        .iter()
        .filter_map(|record| match record {
            Record::Log { index, text, .. } => Some((*index, text.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(lines, [(0, "one"), (1, "two")]);
    assert!(matches!(records.last(), Some(Record::Result(_))), "{records:?}");

    let seen = server.server.seen();
    let secret = seen.iter().find(|seen| seen.path.ends_with("/secrets")).expect("a Secret");
    assert!(secret.json()["data"]["TOKEN"].is_string());
    let poll = seen.iter().find(|seen| seen.path == "/api/heartbeat-runs/r").expect("a poll");
    assert_eq!(poll.headers["authorization"], format!("Bearer {TOKEN}"));
    let deletes = deletes(&server);
    assert_eq!(deletes.len(), 1);
    assert_eq!(deletes[0].json()["preconditions"]["uid"], "ju");

    let journal = std::fs::read_to_string(segment(state.path())).unwrap();
    let (first, last) = (journal.lines().next().unwrap(), journal.lines().last().unwrap());
    assert!(first[9..].starts_with("{\"start\":") && &last[9..] == "\"closed\"", "{first:.60} … {last:.60}");
    assert!(!journal.contains(TOKEN));
}

#[tokio::test]
async fn a_stop_detaches_from_the_run_and_deletes_nothing() {
    let server = cluster(LOG, false).await;
    let mut started = start(&server, Journal::none(), Then::Continue).await;
    while !matches!(started.records.recv().await, Some(Record::Log { index: 1, .. })) {}
    started.control.send(Control::Stop).await.unwrap();
    let (outcome, records) = started.ended().await;
    assert_eq!((outcome.closing, outcome.result), (Closing::Detached, None));
    assert!(outcome.failure.is_none(), "{:?}", outcome.failure);
    assert!(matches!(records.last(), Some(Record::Status { .. })), "{records:?}");
    assert!(deletes(&server).is_empty());
}

#[tokio::test]
async fn resumes_a_released_run_and_replays_its_records_from_the_start() {
    let server = cluster(LOG, false).await;
    let state = tempfile::tempdir().unwrap();
    let mut started = start(&server, required(state.path()), Then::Continue).await;
    while !matches!(started.records.recv().await, Some(Record::Log { index: 1, .. })) {}
    started.drive.abort();
    assert!(started.drive.await.expect_err("as if it was killed").is_cancelled());
    drop(server);

    let server = cluster(LOG, true).await;
    let folder = RunFolder::open(state.path(), "r").unwrap();
    let history = folder.history();
    let started = resume(&server, Journal::new(folder, true), history, Then::Continue).await;
    let (outcome, records) = started.ended().await;
    assert_eq!(outcome.closing, Closing::Ended(Ending::Succeeded), "{:?}", outcome.failure);
    assert_eq!(outcome.result.as_ref().map(|result| result["lines"].clone()), Some(json!(2)));
    let lines: Vec<u64> = records
        .iter()
        .filter_map(|record| match record {
            Record::Log { index, .. } => Some(*index),
            _ => None,
        })
        .collect();
    assert_eq!(lines, [0, 1]);
    assert_eq!(server.server.count(|seen| seen.path.ends_with("/jobs") && seen.method == Method::POST), 0);
    let follow = server.server.seen().into_iter().find(|seen| seen.path.ends_with("/log")).expect("a log");
    assert!(follow.query.contains("sinceTime=2026-01-02T03%3A04%3A05Z"), "{}", follow.query);

    // Resumed again, all records are replayed, and no request is sent to the cluster.
    let requests = server.server.seen().len();
    let folder = RunFolder::open(state.path(), "r").unwrap();
    let history = folder.history();
    let started = resume(&server, Journal::new(folder, true), history, Then::Continue).await;
    let (outcome, again) = started.ended().await;
    assert_eq!((outcome.closing, again), (Closing::Ended(Ending::Succeeded), records));
    assert_eq!(server.server.seen().len(), requests);
}

#[tokio::test]
async fn a_run_that_lost_its_values_before_its_secret_was_created_fails_and_deletes_its_job() {
    let server = cluster(LOG, true).await;
    let state = tempfile::tempdir().unwrap();
    start(&server, required(state.path()), Then::Continue).await.ended().await;
    // As it was when the Secret was asked for, and the host died.
    let journal = std::fs::read_to_string(segment(state.path())).unwrap();
    let asked =
        journal.lines().position(|line| line.contains("CreateSecret")).expect("it asks for its Secret");
    let kept: Vec<&str> = journal.lines().take(asked + 1).collect();
    std::fs::write(segment(state.path()), kept.join("\n") + "\n").unwrap();

    let server = cluster(LOG, true).await;
    let folder = RunFolder::open(state.path(), "r").unwrap();
    let history = folder.history();
    let journal = Journal::new(folder, true);
    let started = resume_with(Secrets::default(), &server, journal, history, Then::Continue).await;
    let (outcome, _) = started.ended().await;
    let result = outcome.result.expect("a result");
    assert_eq!(outcome.closing, Closing::Ended(Ending::Failed));
    assert_eq!(result["errorCode"], "host_restarted");
    assert_eq!(
        result["executionRecovery"],
        json!({"kind": "bootstrap", "providerWorkStarted": false}),
        "the server may start it again by itself"
    );
    assert_eq!(deletes(&server).len(), 1);
}

#[tokio::test]
async fn a_stalled_sink_does_not_delay_a_cancel() {
    let server = cluster(LOG, false).await;
    let mut started = start(&server, Journal::none(), Then::Stick).await;
    assert!(started.records.recv().await.is_some());
    let cancel = CancelRequest { source: CancelSource::Operator, reason: None };
    started.control.send(Control::Cancel(cancel, None)).await.unwrap();
    let deleted = async {
        while deletes(&server).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, deleted).await.expect("the Job is deleted");
    assert!(!started.drive.is_finished(), "the result waits for the sink");
    started.drive.abort();
}

#[tokio::test]
async fn a_failed_sink_releases_the_run() {
    let server = cluster(LOG, false).await;
    let started = start(&server, Journal::none(), Then::Fail).await;
    let (outcome, _) = started.ended().await;
    assert_eq!(outcome.closing, Closing::Detached);
    assert!(matches!(outcome.failure, Some(DriveError::Sink(_))), "{:?}", outcome.failure);
    assert!(deletes(&server).is_empty());
}

fn segment(state: &Path) -> PathBuf {
    run_folder(state, "r").join("journal-000001.ndjson")
}

/// A journal on a full disk.
#[cfg(target_os = "linux")]
fn full(state: &Path, is_required: bool) -> Journal {
    let folder = RunFolder::open(state, "r").unwrap();
    std::os::unix::fs::symlink("/dev/full", segment(state)).unwrap();
    Journal::new(folder, is_required)
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn without_a_required_journal_nothing_is_created() {
    let server = cluster(LOG, true).await;
    let state = tempfile::tempdir().unwrap();
    let started = start(&server, full(state.path(), true), Then::Continue).await;
    let (outcome, _) = started.ended().await;
    assert_eq!((outcome.closing, outcome.result), (Closing::Detached, None));
    let Some(DriveError::Journal(error)) = outcome.failure else { panic!("{:?}", outcome.failure) };
    let text = error.diagnostic().to_string();
    assert!(text.contains("runs/r") && text.contains("--state"), "{text}");
    assert_eq!(server.server.count(|seen| seen.method != Method::GET), 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_run_whose_best_effort_journal_fails_continues() {
    let server = cluster(LOG, true).await;
    let state = tempfile::tempdir().unwrap();
    let started = start(&server, full(state.path(), false), Then::Continue).await;
    let (outcome, _) = started.ended().await;
    assert_eq!(outcome.closing, Closing::Ended(Ending::Succeeded));
}
