//! Version 0.1 of the contract: the types that differ from the engine's, and their conversions.
//!
//! What the host passes in is borrowed from the engine's value, so a line of output is copied once, into the
//! plugin's memory, as in the newest version.

use paperclip_contract::types as newest;

pub(super) use bindings::{AgentPlugin, AgentPluginPre};

/// The path of the instructions in a request.
const INSTRUCTIONS_FILE: &str = "agent-instructions.md";
/// Where a newer request has its skills.
const SKILLS: &str = "skills/";

#[allow(dead_code, missing_debug_implementations, unreachable_pub, clippy::all)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/0.1",
        world: "agent-plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
        require_store_data_send: true,
        with: { "paperclip:agent/types": super::types },
    });
}

/// The types of `wit/0.1/types.wit` that functions name, and those within them that differ from the newest
/// version.
#[allow(missing_debug_implementations, unreachable_pub, reason = "the generated bindings name these types")]
pub mod types {
    use paperclip_contract::types::{
        AcquireGuard, AgentIdentity, Answer, ApiError, CancelRequest, DeleteJob, Deletion, EmittedLog,
        EnvEntry, Finish, GuardBusy, HttpAnswer, HttpFailure, JobSnapshot, Label, LabelJob, Limits, ListJobs,
        LogGap, LogInterrupted, LogLines, NewObject, ObjectRef, Other, PodSnapshot, PollHttp, ReadLog,
        Status, Timer,
    };
    pub use paperclip_contract::types::{Descriptor, Refusal};
    use paperclip_contract::wit;

    #[wit(record, Lower)]
    pub struct Request<'a> {
        pub run_id: &'a str,
        pub agent: &'a AgentIdentity,
        pub runtime_json: &'a str,
        pub config_json: &'a str,
        pub config_env: &'a [EnvEntry],
        pub context_json: &'a str,
        pub has_auth_token: bool,
        pub self_pod_json: Option<&'a str>,
        pub files: Vec<ContextFile<'a>>,
        pub host: HostFacts<'a>,
    }

    #[wit(record, Lower)]
    pub struct HostFacts<'a> {
        pub default_namespace: Option<&'a str>,
        pub paperclip_api_url: Option<&'a str>,
        pub denied_env: &'a [String],
        pub clusters: &'a [String],
        pub limits: Limits,
    }

    #[wit(record, Lower)]
    pub struct ContextFile<'a> {
        pub path: String,
        pub content: &'a str,
    }

    #[wit(variant, Lower)]
    pub enum Event<'a> {
        GuardAcquired,
        GuardBusy(&'a GuardBusy),
        GuardUnreachable(&'a ApiError),
        GuardLost,
        Answered(&'a Answer),
        JobObserved(&'a JobSnapshot),
        JobGone(&'a Deletion),
        PodObserved(&'a PodSnapshot),
        PodGone(&'a Deletion),
        LogLines(&'a LogLines),
        LogInterrupted(&'a LogInterrupted),
        LogResumed(u64),
        LogGap(&'a LogGap),
        LogEnded(LogEnded),
        TimerFired(u64),
        HttpAnswered(&'a HttpAnswer),
        HttpFailed(&'a HttpFailure),
        CancelRequested(&'a CancelRequest),
        HostStopping,
        HostResumed(u64),
        Other(&'a Other),
    }

    #[wit(record, Lower)]
    pub struct LogEnded {
        pub command: u64,
        pub line_count: u64,
        pub bytes: u64,
        pub is_complete: bool,
    }

    #[wit(record, Lift)]
    pub struct Command {
        pub id: u64,
        pub action: Action,
    }

    #[wit(variant, Lift)]
    pub enum Action {
        AcquireGuard(AcquireGuard),
        ReleaseGuard,
        ListJobs(ListJobs),
        TryPod(NewObject),
        CreateJob(NewObject),
        CreateSecret(NewSecret),
        CreateConfigMap(NewConfigMap),
        UnsuspendJob(ObjectRef),
        AdoptJob(LabelJob),
        LabelJob(LabelJob),
        DeleteJob(DeleteJob),
        FollowJob(ObjectRef),
        LookUpJob(ObjectRef),
        LookUpPods(ObjectRef),
        ListEvents(ObjectRef),
        FollowLog(FollowLog),
        StopLog(u64),
        ReadLog(ReadLog),
        EmitLog(EmittedLog),
        SetTimer(Timer),
        CancelTimer(u64),
        PollHttp(PollHttp),
        StopPoll(u64),
        EmitStatus(Status),
        ReportMeta(String),
        Finish(Finish),
        Other(Other),
    }

    #[wit(record, Lift)]
    pub struct FollowLog {
        pub pod: ObjectRef,
        pub container: String,
        pub restart_count: u32,
    }

    #[wit(record, Lift)]
    pub struct NewSecret {
        pub namespace: String,
        pub name: String,
        pub labels: Vec<Label>,
        pub owner: ObjectRef,
        pub entries: Vec<SecretEntry>,
    }

    #[wit(record, Lift)]
    pub struct NewConfigMap {
        pub namespace: String,
        pub name: String,
        pub labels: Vec<Label>,
        pub owner: ObjectRef,
        pub entries: Vec<Label>,
    }

    #[wit(record, Lift)]
    pub struct SecretEntry {
        pub key: String,
        pub source: SecretSource,
    }

    #[wit(variant, Lift)]
    pub enum SecretSource {
        Prompt(String),
        AuthToken,
        ConfigEnv(String),
        SelfPodEnv(String),
    }
}

impl<'a> From<&'a newest::Request> for types::Request<'a> {
    fn from(request: &'a newest::Request) -> Self {
        Self {
            run_id: &request.run_id,
            agent: &request.agent,
            runtime_json: &request.runtime_json,
            config_json: &request.config_json,
            config_env: &request.config_env,
            context_json: &request.context_json,
            has_auth_token: request.has_auth_token,
            self_pod_json: request.paperclip_pod_json.as_deref(),
            files: request.files.iter().filter_map(|file| context_file(request, file)).collect(),
            host: types::HostFacts {
                default_namespace: request.host.default_namespace.as_deref(),
                paperclip_api_url: request.host.paperclip_api_url.as_deref(),
                denied_env: &request.host.denied_env,
                clusters: &request.host.clusters,
                limits: request.host.limits,
            },
        }
    }
}

/// Returns a file where plugins of version 0.1 expect it. They know text only.
fn context_file<'a>(
    request: &'a newest::Request,
    file: &'a newest::ContextFile,
) -> Option<types::ContextFile<'a>> {
    let path = if request.instructions_path.as_ref() == Some(&file.path) {
        INSTRUCTIONS_FILE.to_owned()
    } else if file.path.starts_with(SKILLS) {
        format!(".claude/{}", file.path)
    } else {
        file.path.clone()
    };
    (!file.is_base64).then_some(types::ContextFile { path, content: &file.content })
}

impl<'a> From<&'a newest::Event> for types::Event<'a> {
    fn from(event: &'a newest::Event) -> Self {
        use newest::Event;
        match event {
            Event::GuardAcquired => Self::GuardAcquired,
            Event::GuardBusy(busy) => Self::GuardBusy(busy),
            Event::GuardUnreachable(error) => Self::GuardUnreachable(error),
            Event::GuardLost => Self::GuardLost,
            Event::Answered(answer) => Self::Answered(answer),
            Event::JobObserved(job) => Self::JobObserved(job),
            Event::JobDeleted(deletion) => Self::JobGone(deletion),
            Event::PodObserved(pod) => Self::PodObserved(pod),
            Event::PodDeleted(deletion) => Self::PodGone(deletion),
            Event::LogLines(lines) => Self::LogLines(lines),
            Event::LogInterrupted(interrupted) => Self::LogInterrupted(interrupted),
            Event::LogResumed(command) => Self::LogResumed(*command),
            Event::LogGap(gap) => Self::LogGap(gap),
            Event::LogEnded(ended) => Self::LogEnded(types::LogEnded {
                command: ended.command,
                line_count: ended.line_count,
                bytes: ended.bytes,
                is_complete: ended.is_complete,
            }),
            Event::TimerFired(timer) => Self::TimerFired(*timer),
            Event::HttpAnswered(answer) => Self::HttpAnswered(answer),
            Event::HttpFailed(failure) => Self::HttpFailed(failure),
            Event::CancelRequested(request) => Self::CancelRequested(request),
            Event::HostStopping => Self::HostStopping,
            Event::HostResumed(away_ms) => Self::HostResumed(*away_ms),
            Event::Other(other) => Self::Other(other),
        }
    }
}

impl From<types::Command> for newest::Command {
    fn from(command: types::Command) -> Self {
        Self { id: command.id, action: command.action.into() }
    }
}

impl From<types::Action> for newest::Action {
    fn from(action: types::Action) -> Self {
        use types::Action;
        match action {
            Action::AcquireGuard(guard) => Self::AcquireGuard(guard),
            Action::ReleaseGuard => Self::ReleaseGuard,
            Action::ListJobs(selection) => Self::ListJobs(selection),
            Action::TryPod(pod) => Self::DryRunPod(pod),
            Action::CreateJob(job) => Self::CreateJob(job),
            Action::CreateSecret(secret) => Self::CreateSecret(secret.into()),
            Action::CreateConfigMap(map) => Self::CreateConfigMap(map.into()),
            Action::UnsuspendJob(job) => Self::UnsuspendJob(job),
            Action::AdoptJob(job) => Self::AdoptJob(job),
            Action::LabelJob(job) => Self::LabelJob(job),
            Action::DeleteJob(job) => Self::DeleteJob(job),
            Action::FollowJob(job) => Self::FollowJob(job),
            Action::LookUpJob(job) => Self::GetJob(job),
            Action::LookUpPods(job) => Self::ListPods(job),
            Action::ListEvents(job) => Self::ListEvents(job),
            Action::FollowLog(log) => Self::FollowLog(log.into()),
            Action::StopLog(command) => Self::StopLog(command),
            Action::ReadLog(log) => Self::ReadLog(log),
            Action::EmitLog(log) => Self::EmitLog(log),
            Action::SetTimer(timer) => Self::SetTimer(timer),
            Action::CancelTimer(timer) => Self::CancelTimer(timer),
            Action::PollHttp(poll) => Self::PollHttp(poll),
            Action::StopPoll(command) => Self::StopPoll(command),
            Action::EmitStatus(status) => Self::EmitStatus(status),
            Action::ReportMeta(meta) => Self::ReportMeta(meta),
            Action::Finish(finish) => Self::Finish(finish),
            Action::Other(other) => Self::Other(other),
        }
    }
}

impl From<types::FollowLog> for newest::FollowLog {
    fn from(log: types::FollowLog) -> Self {
        Self { pod: log.pod, container: log.container, restart_count: log.restart_count, control_tag: None }
    }
}

impl From<types::NewSecret> for newest::NewSecret {
    fn from(secret: types::NewSecret) -> Self {
        Self {
            namespace: secret.namespace,
            name: secret.name,
            labels: secret.labels,
            owner: secret.owner,
            entries: secret.entries.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<types::NewConfigMap> for newest::NewConfigMap {
    fn from(map: types::NewConfigMap) -> Self {
        Self {
            namespace: map.namespace,
            name: map.name,
            labels: map.labels,
            owner: map.owner,
            entries: map.entries,
            binary_entries: Vec::new(),
            is_shared: false,
        }
    }
}

impl From<types::SecretEntry> for newest::SecretEntry {
    fn from(entry: types::SecretEntry) -> Self {
        Self { key: entry.key, source: entry.source.into() }
    }
}

impl From<types::SecretSource> for newest::SecretSource {
    fn from(source: types::SecretSource) -> Self {
        use types::SecretSource;
        match source {
            SecretSource::Prompt(text) => Self::Prompt(text),
            SecretSource::AuthToken => Self::AuthToken,
            SecretSource::ConfigEnv(name) => Self::ConfigEnv(name),
            SecretSource::SelfPodEnv(name) => Self::PaperclipPodEnv(name),
        }
    }
}
