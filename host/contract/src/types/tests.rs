//! Pins the serialised form of every type, because journals contain it.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::actions::{Objects, Visibility};

/// One value of each case. It does not compile when a case is missing.
macro_rules! every {
    ($ty:ident { $($case:ident $(($value:expr))?),* $(,)? }) => {{
        let _ = |value: &$ty| match value { $($ty::$case { .. } => ()),* };
        vec![$($ty::$case $(($value))?),*]
    }};
}

fn text() -> String {
    "t".to_owned()
}

fn label() -> Label {
    Label { key: text(), value: text() }
}

fn object() -> ObjectRef {
    ObjectRef { namespace: text(), name: text(), uid: text() }
}

fn condition() -> Condition {
    Condition { kind: text(), is_true: true, reason: Some(text()), message: None, at_ms: Some(1) }
}

fn error() -> ApiError {
    ApiError { status: Some(404), reason: Some(text()), message: text(), retry_after_ms: Some(1) }
}

fn job() -> JobSnapshot {
    JobSnapshot {
        job: object(),
        labels: vec![label()],
        annotations: vec![label()],
        is_suspended: true,
        is_deleting: false,
        created_at_ms: Some(1),
        started_at_ms: None,
        active_pods: 1,
        succeeded_pods: 2,
        failed_pods: 3,
        conditions: vec![condition()],
    }
}

fn container_states() -> Vec<ContainerState> {
    every!(ContainerState {
        Unknown,
        Waiting(ContainerWaiting { reason: Some(text()), message: None }),
        Running(Some(1)),
        Terminated(ContainerTerminated {
            exit_code: -1,
            signal: Some(9),
            reason: Some(text()),
            message: Some(text()),
            started_at_ms: Some(1),
            finished_at_ms: Some(2),
        }),
    })
}

fn pod() -> PodSnapshot {
    let roles = every!(ContainerRole { Init, Sidecar, Main });
    let container = |(role, state)| ContainerStatus { name: text(), role, state, restart_count: 1 };
    PodSnapshot {
        pod: object(),
        job_uid: text(),
        phase: PodPhase::Pending,
        reason: Some(text()),
        message: None,
        is_deleting: false,
        node: Some(text()),
        created_at_ms: Some(1),
        started_at_ms: None,
        conditions: vec![condition()],
        is_gated: true,
        containers: roles.into_iter().cycle().zip(container_states()).map(container).collect(),
    }
}

fn pods() -> Vec<PodSnapshot> {
    let phases = every!(PodPhase { Pending, Running, Succeeded, Failed, Unknown });
    phases
        .into_iter()
        .map(|phase| PodSnapshot { phase, conditions: vec![], containers: vec![], ..pod() })
        .collect()
}

fn answers() -> Vec<AnswerOk> {
    let event = ClusterEvent {
        about: text(),
        is_warning: true,
        reason: text(),
        message: text(),
        count: 1,
        last_seen_at_ms: Some(1),
    };
    every!(AnswerOk {
        Done,
        Created(object()),
        Jobs(vec![job()]),
        Job(None),
        Pods(pods()),
        Events(vec![event]),
        LogText(text()),
        Warnings(vec![text()]),
    })
}

fn events() -> Vec<Event> {
    let deletion = || Deletion { object: object(), detected_via: text(), is_ours: true };
    let cut = CutLine { head: text(), tail: text(), line_bytes: 9 };
    let lines = every!(LogLine { Whole(text()), Cut(cut) });
    let mut events = every!(Event {
        GuardAcquired,
        GuardBusy(GuardBusy { holder: Some(text()), position: 1, is_final: true }),
        GuardUnreachable(error()),
        GuardLost,
        Answered(Answer { command: 1, outcome: Err(error()) }),
        JobObserved(job()),
        JobDeleted(deletion()),
        PodObserved(pod()),
        PodDeleted(deletion()),
        LogLines(LogLines { command: 1, first_index: 2, lines }),
        LogInterrupted(LogInterrupted { command: 1, reason: text() }),
        LogResumed(1),
        LogGap(LogGap {
            command: 1,
            next_index: 2,
            lost_lines: Some(3),
            lost_bytes: Some(4),
            reason: text()
        }),
        LogEnded(LogEnded { command: 1, line_count: 2, bytes: 3, is_complete: true, forbidden: None }),
        TimerFired(1),
        HttpAnswered(HttpAnswer { command: 1, status: 200, body: text() }),
        HttpFailed(HttpFailure { command: 1, count: 2, error: error() }),
        CancelRequested(CancelRequest { source: CancelSource::Operator, reason: Some(text()) }),
        HostStopping,
        HostResumed(1),
        Other(Other { kind: text(), json: text() }),
    });
    let ok = |ok| Event::Answered(Answer { command: 1, outcome: Ok(ok) });
    events.extend(answers().into_iter().map(ok));
    let sources = every!(CancelSource { Operator, Paperclip });
    events.extend(
        sources.into_iter().map(|source| Event::CancelRequested(CancelRequest { source, reason: None })),
    );
    events
}

fn actions() -> Vec<Action> {
    let manifest = || NewObject { manifest_json: text() };
    let labels = || LabelJob { job: object(), labels: vec![label()] };
    let sources = every!(SecretSource {
        Prompt(text()),
        AuthToken,
        ConfigEnv(text()),
        PaperclipPodEnv(text()),
        Json(every!(JsonPart { Text(text()), ConfigEnv(text()) })),
    });
    let secret = NewSecret {
        namespace: text(),
        name: text(),
        labels: vec![label()],
        owner: object(),
        entries: sources.into_iter().map(|source| SecretEntry { key: text(), source }).collect(),
    };
    let config_map = NewConfigMap {
        namespace: text(),
        name: text(),
        labels: vec![label()],
        owner: object(),
        entries: vec![label()],
        binary_entries: vec![label()],
        is_shared: true,
    };
    let read = ReadLog { pod: object(), container: text(), tail_lines: 1, limit_bytes: 2, is_previous: true };
    let status = |level| Status { level, text: text() };
    let emitted = |stream| EmittedLog { stream, lines: vec![text()] };
    let finish = |ending| Finish { result_json: text(), ending, delete_jobs: vec![object()] };
    let delete = |cause| DeleteJob { job: object(), cause };
    let mut actions = every!(Action {
        AcquireGuard(AcquireGuard { key: text(), namespace: text(), wait_ms: 1 }),
        ReleaseGuard,
        ListJobs(ListJobs { namespace: text(), labels: vec![label()] }),
        DryRunPod(manifest()),
        CreateJob(manifest()),
        CreateSecret(secret),
        CreateConfigMap(config_map),
        UnsuspendJob(object()),
        AdoptJob(labels()),
        LabelJob(labels()),
        DeleteJob(delete(DeleteCause::AttemptEnded)),
        FollowJob(object()),
        GetJob(object()),
        ListPods(object()),
        ListEvents(object()),
        FollowLog(FollowLog { pod: object(), container: text(), restart_count: 1, control_tag: None }),
        StopLog(1),
        ReadLog(read),
        EmitLog(emitted(LogStream::Stdout)),
        SetTimer(Timer { timer: 1, after_ms: 2 }),
        CancelTimer(1),
        PollHttp(PollHttp { path: text() }),
        StopPoll(1),
        EmitStatus(status(StatusLevel::Info)),
        ReportMeta(text()),
        CountObservation(Observation { kind: text(), value: text(), count: 1 }),
        Finish(finish(Ending::Succeeded)),
        Other(Other { kind: text(), json: text() }),
    });
    let causes = every!(DeleteCause { AttemptEnded, TimedOut, Cancelled });
    actions.extend(causes.into_iter().map(|cause| Action::DeleteJob(delete(cause))));
    let streams = every!(LogStream { Stdout, Stderr });
    actions.extend(streams.into_iter().map(|stream| Action::EmitLog(emitted(stream))));
    let levels = every!(StatusLevel { Info, Warning, Error });
    actions.extend(levels.into_iter().map(|level| Action::EmitStatus(status(level))));
    let endings = every!(Ending { Succeeded, Failed, Cancelled });
    actions.extend(endings.into_iter().map(|ending| Action::Finish(finish(ending))));
    actions
}

fn request() -> Request {
    Request {
        run_id: text(),
        agent: AgentIdentity { id: text(), company_id: text(), name: text(), adapter_type: text() },
        runtime_json: text(),
        config_json: text(),
        config_env: vec![EnvEntry { name: text(), value: Some(text()) }],
        context_json: text(),
        has_auth_token: true,
        masked_env: vec![text()],
        paperclip_pod_json: Some(text()),
        files: vec![
            ContextFile::text("t", "t"),
            ContextFile { is_base64: true, mode: Some(0o755), ..ContextFile::text("t", "t") },
        ],
        instructions_path: Some(text()),
        host: HostFacts {
            default_namespace: Some(text()),
            paperclip_api_url: None,
            denied_env: vec![text()],
            clusters: vec![text()],
            limits: Limits { max_commands: 1, max_timers: 2, max_output_bytes: 3, max_line_bytes: 4 },
            init_config_map: None,
        },
    }
}

fn line<T>(value: &T) -> String
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let json = serde_json::to_string(value).expect("plain data serialises");
    assert_eq!(&serde_json::from_str::<T>(&json).expect("a value deserialises"), value);
    json + "\n"
}

#[test]
fn serialised_names_are_those_of_journals() {
    let commands = actions().into_iter().map(|action| Command { id: 1, action });
    let refusal = Refusal { code: text(), field: Some(text()), message: text() };
    let model = Model { id: text(), label: text(), provider: text() };
    let descriptor = Descriptor {
        adapter_type: text(),
        label: text(),
        version: text(),
        container_name: text(),
        revealed_env: vec![text()],
        models: vec![model],
        config_schema_json: text(),
        capabilities_json: text(),
        doc: text(),
    };
    let lines: String = std::iter::once(line(&request()))
        .chain(events().iter().map(line))
        .chain(commands.map(|command| line(&command)))
        .chain([line(&refusal), line(&descriptor)])
        .collect();
    insta::assert_snapshot!(lines);
}

#[test]
fn every_action_has_its_row_in_the_table() {
    let mut table =
        format!("{:<18} {:<6} {:<8} {:<6} {:<9} objects\n", "action", "API", "durable", "lease", "visible");
    for action in actions() {
        let row = action.properties();
        let yes = |is_so: bool| if is_so { "yes" } else { "-" };
        let visible = match row.visibility {
            Visibility::None => "-",
            Visibility::Output => "output",
            Visibility::Cosmetic => "cosmetic",
        };
        let objects = match row.objects {
            Objects::None => "-",
            Objects::OwnJobs(_) => "own Jobs",
            Objects::Job(_) => "a Job",
            Objects::Pod(_) => "a Pod",
        };
        let (api, durable, lease) = (yes(row.calls_api), yes(row.is_durable_first), yes(row.needs_lease));
        if !table.contains(&format!("\n{:<18} ", row.name)) {
            table += &format!("{:<18} {api:<6} {durable:<8} {lease:<6} {visible:<9} {objects}\n", row.name);
        }
    }
    insta::assert_snapshot!(table);
}
