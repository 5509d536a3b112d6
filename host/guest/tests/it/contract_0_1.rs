//! A plugin of contract 0.1 and journals of its runs, as the last host that knew only 0.1 left them: `tests/fixtures/contract-0.1`.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use paperclip_contract::types::{
    ApiError, ContainerState, ContainerTerminated, Ending, Event, JobSnapshot, PodPhase, PodSnapshot, Request,
};
use paperclip_engine::api::{ApiCall, ApiReply, Lease};
use paperclip_engine::comparison::Comparison;
use paperclip_engine::journal::Entry;
use paperclip_engine::log::LogEnd;
use paperclip_engine::ownership::HostState;
use paperclip_engine::policy::{Grant, Policy};
use paperclip_engine::record::SequencedRecord;
use paperclip_engine::redact::Redactor;
use paperclip_engine::time::Timestamp;
use paperclip_engine::{Closing, Effect, Guest, Input, PluginIdentity, Run, RunSpec, SegmentLimits};
use paperclip_guest::{Instance, Plugin, Source, Tools};
use serde_json::{Value, json};

use crate::forge::Forge;
use crate::{load, runtime};

/// The recorded runs: one that succeeded, one that failed with status 401, one that its host detached from.
const FINISHED: [&str; 2] = ["ok", "401"];
const DETACHED: &str = "detached";

fn fixture(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(fixture(path)).unwrap()
}

fn component() -> Vec<u8> {
    fs::read(fixture("contract-0.1/claude_k8s.wasm")).unwrap()
}

/// Compiling it takes seconds without optimisation.
static PLUGIN: LazyLock<Arc<Plugin>> =
    LazyLock::new(|| Plugin::load(&runtime(), Source::Builtin("claude_k8s".into()), &component()).unwrap());

/// The entries of a journal, each after its checksum.
fn journal(run: &str) -> Vec<Entry<'static>> {
    let text = read(&format!("contract-0.1/runs/{run}/journal-000001.ndjson"));
    text.lines().map(|line| Entry::parse(line.split_once(' ').unwrap().1).unwrap()).collect()
}

/// The records that the host of the journal emitted.
fn recorded(run: &str) -> Vec<Value> {
    read(&format!("contract-0.1/runs/{run}/records.ndjson"))
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A record as the host emitted it: without its sequence number.
fn emitted(record: &SequencedRecord) -> Value {
    let mut value = serde_json::to_value(record).unwrap();
    value.as_object_mut().unwrap().remove("seq");
    value
}

/// An engine in front of a fresh instance of the plugin, not started.
fn run(request: Request) -> Run<Instance> {
    let spec = RunSpec {
        policy: Policy::new(Grant::default(), &request),
        request,
        host_id: "host".into(),
        redactor: Redactor::new(Vec::<(String, String)>::new()).unwrap(),
        seed: 1,
        plugin: PluginIdentity::default(),
        poll_interval: Some(Duration::from_secs(1)),
        segments: SegmentLimits::default(),
        adopts: None,
        record: None,
        verifies_record: false,
    };
    Run::new(spec, PLUGIN.instantiate().unwrap())
}

/// Replays a journal in an engine; returns it with the records that the replay emitted.
fn replayed(entries: &[Entry<'static>]) -> (Run<Instance>, Vec<Value>) {
    let request = entries.iter().find_map(|entry| match entry {
        Entry::Start { request, .. } => Some(request.clone().into_owned()),
        _ => None,
    });
    let mut run = run(request.unwrap());
    for entry in entries {
        run.replay(entry.clone()).unwrap();
    }
    let mut records = Vec::new();
    while let Some(effect) = run.poll_effect() {
        match effect {
            Effect::Emit(record) => records.push(emitted(&record)),
            other => panic!("a replay has the effect {other:?}"),
        }
    }
    (run, records)
}

#[test]
fn loads_a_plugin_of_0_1() {
    let inspection = PLUGIN.inspection();
    assert_eq!(inspection.contract.as_deref(), Some("0.1.0"));
    assert_eq!(inspection.adapter_type.as_deref(), Some("claude_k8s"));
    for run in [&FINISHED[..], &[DETACHED]].concat() {
        let header: Value =
            serde_json::from_str(&read(&format!("contract-0.1/runs/{run}/header.json"))).unwrap();
        assert_eq!(header["pluginDigest"], inspection.digest);
        assert_eq!(header["contract"], "0.1.0");
    }
}

#[test]
fn a_plugin_of_0_1_judges_evidence_and_renders_transcripts() {
    let tools = Tools::new(Arc::clone(&PLUGIN));
    let stdout = read("claude-cli-2.1.330/401.ndjson");
    let evidence = json!({
        "config": {},
        "stdout": stdout,
        "job": {"outcome": "failed"},
        "container": {"exitCode": 1, "reason": "Error", "message": null, "signal": null},
        "pod": {"phase": "Failed", "missing": false},
    });
    let result: Value =
        serde_json::from_str(&tools.classify(1, &evidence.to_string()).unwrap().unwrap()).unwrap();
    assert_eq!(result["errorCode"], "claude_auth_required");

    let lines: Vec<String> = stdout.lines().map(str::to_owned).collect();
    assert_eq!(tools.transcript(&lines, "2026-01-01T00:00:00Z").unwrap().len(), lines.len());
    assert!(tools.manifest(&crate::request()).unwrap().is_err(), "it has no image");
}

#[test]
fn journals_of_0_1_replay_without_a_difference() {
    for run in [&FINISHED[..], &[DETACHED]].concat() {
        let mut comparison = Comparison::new(PLUGIN.instantiate().unwrap());
        for entry in journal(run) {
            assert!(comparison.entry(entry), "{run}");
        }
        let (steps, lines, differences) = comparison.finish();
        assert_eq!(differences, [], "{run}");
        assert!(steps > 10 && lines > 2, "{run}: {steps} steps, {lines} lines");
    }
}

#[test]
fn journals_of_0_1_replay_to_the_records_that_were_emitted() {
    for run in [&FINISHED[..], &[DETACHED]].concat() {
        let (_, records) = replayed(&journal(run));
        assert_eq!(records, recorded(run), "{run}");
    }
}

#[test]
fn runs_of_both_versions_live_side_by_side() {
    let mut old = PLUGIN.instantiate().unwrap();
    let mut new = load(&Forge::new("test_k8s")).instantiate().unwrap();
    let (mut commands, mut is_compared) = (Vec::new(), false);
    for entry in journal("ok") {
        match entry {
            Entry::Start { at, request, .. } => {
                commands = old.start(at, &request).unwrap().unwrap();
                new.start(at, &request).unwrap().unwrap();
            }
            Entry::Step { at, events, .. } => {
                commands = old.step(at, &events).unwrap();
                assert_eq!(new.step(at, &events), Ok(vec![]));
            }
            Entry::Commands { commands: recorded, .. } => {
                assert_eq!(commands, *recorded);
                is_compared = true;
            }
            _ => {}
        }
    }
    assert!(is_compared);
    // Each restores its own snapshot, in an instance beside the other's.
    let snapshot = old.snapshot().unwrap();
    assert_eq!(old.plugin().instantiate().unwrap().restore(&snapshot), Ok(Ok(())));
    let snapshot = new.snapshot().unwrap();
    assert_eq!(new.plugin().instantiate().unwrap().restore(&snapshot), Ok(Ok(())));
}

/// The cluster that the detached run left: its agent printed two more lines and exited with code 0.
struct Cluster {
    job: JobSnapshot,
    pod: PodSnapshot,
    lease: Option<Lease>,
}

impl Cluster {
    /// Continues from the last state that the journal's host observed.
    fn after(entries: &[Entry<'static>]) -> Self {
        let (mut job, mut pod) = (None, None);
        for entry in entries {
            let Entry::Step { events, .. } = entry else { continue };
            for event in events.iter() {
                match event {
                    Event::JobObserved(seen) => job = Some(seen.clone()),
                    Event::PodObserved(seen) => pod = Some(seen.clone()),
                    _ => {}
                }
            }
        }
        let (mut job, mut pod): (JobSnapshot, PodSnapshot) = (job.unwrap(), pod.unwrap());
        (job.active_pods, job.succeeded_pods) = (0, 1);
        job.conditions = vec![serde_json::from_value(json!({"kind": "Complete", "is_true": true})).unwrap()];
        pod.phase = PodPhase::Succeeded;
        pod.containers[0].state = ContainerState::Terminated(ContainerTerminated {
            exit_code: 0,
            signal: None,
            reason: Some("Completed".into()),
            message: None,
            started_at_ms: None,
            finished_at_ms: None,
        });
        Self { job, pod, lease: None }
    }

    fn answer(&mut self, request: ApiCall) -> Result<ApiReply, ApiError> {
        match request {
            ApiCall::GetLease { .. } => Ok(ApiReply::Lease(self.lease.clone())),
            ApiCall::CreateLease(lease) | ApiCall::UpdateLease(lease) => {
                let lease = Lease { uid: "lease".into(), resource_version: "1".into(), ..lease };
                Ok(ApiReply::Lease(Some(self.lease.insert(lease).clone())))
            }
            ApiCall::DeleteLease(_) | ApiCall::DeleteJob { .. } => Ok(ApiReply::Done),
            ApiCall::GetJob { .. } => Ok(ApiReply::Job(Some(self.job.clone()))),
            ApiCall::ListPods { .. } => Ok(ApiReply::Pods(vec![self.pod.clone()])),
            ApiCall::ListEvents { .. } => Ok(ApiReply::Events(Vec::new())),
            other => panic!("a resumed run calls {other:?}"),
        }
    }

    /// The log since this second, with the stamps of the first four lines as the journal has them.
    fn log(since_s: i64) -> Vec<u8> {
        let stamps = [
            (1_795_989_034, "2026-11-29T21:50:34.009978888Z"),
            (1_795_989_035, "2026-11-29T21:50:35.012063804Z"),
            (1_795_989_036, "2026-11-29T21:50:36.014614072Z"),
            (1_795_989_037, "2026-11-29T21:50:37.031415004Z"),
            (1_795_989_038, "2026-11-29T21:50:38.04Z"),
            (1_795_989_039, "2026-11-29T21:50:39.05Z"),
        ];
        let text = read("claude-cli-2.1.330/tool.ndjson");
        let lines = stamps.into_iter().zip(text.lines()).filter(|((second, _), _)| *second >= since_s);
        lines.map(|((_, stamp), line)| format!("{stamp} {line}\n")).collect::<String>().into_bytes()
    }
}

#[test]
fn resumes_a_detached_run_of_0_1_to_its_result() {
    let entries = journal(DETACHED);
    let mut cluster = Cluster::after(&entries);
    let (mut run, before) = replayed(&entries);
    let mut now = Timestamp::from_millis(1_795_989_060_000);
    let mut records = Vec::new();
    run.handle(now, Input::Resume);
    let closing = loop {
        let Some(effect) = run.poll_effect() else {
            now = run.deadline().unwrap().max(now);
            run.handle(now, Input::Tick);
            continue;
        };
        match effect {
            Effect::Append(_) | Effect::Segment(_) | Effect::Sync | Effect::CloseLog(_) => {}
            Effect::Emit(record) => records.push(record),
            Effect::Call { call, request } => {
                let outcome = cluster.answer(request);
                run.handle(now, Input::Called { call, outcome });
            }
            Effect::Join { .. } => {
                let host = HostState { instance: "i".into(), certain_until: Timestamp::MAX };
                run.handle(now, Input::Host(host));
            }
            Effect::Follow(job) => {
                assert_eq!(job, cluster.job.job);
                run.handle(now, Input::JobSeen(cluster.job.clone()));
                run.handle(now, Input::PodSeen(cluster.pod.clone()));
            }
            Effect::OpenLog { log, request, .. } => {
                let bytes = Cluster::log(request.since_s.unwrap_or(0));
                run.handle(now, Input::LogOpened { log, keeps_unread: false });
                run.handle(now, Input::LogBytes { log, bytes });
                run.handle(now, Input::LogClosed { log, end: LogEnd::Clean });
            }
            Effect::Poll { path, .. } => panic!("a run without a token polls {path}"),
            Effect::Close(closing) => break closing,
        }
    };
    assert_eq!(closing, Closing::Ended(Ending::Succeeded));

    // Each line of the agent is emitted once, by the host that detached or by the one that resumed.
    let records: Vec<Value> = records.iter().map(emitted).collect();
    let lines: Vec<&Value> = before
        .iter()
        .chain(&records)
        .filter(|record| record["type"] == "log")
        .map(|log| &log["text"])
        .collect();
    let printed = read("claude-cli-2.1.330/tool.ndjson");
    assert_eq!(lines, printed.lines().collect::<Vec<_>>());
    let result = records.last().unwrap();
    assert_eq!((&result["type"], &result["exitCode"]), (&json!("result"), &json!(0)));
    assert_eq!(result["errorMessage"], Value::Null);
}
