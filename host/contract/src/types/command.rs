//! Commands: what a plugin asks the host to do.

#[cfg(feature = "component")]
use paperclip_contract_macros::wit;
use serde::{Deserialize, Serialize};

use super::{Label, ObjectRef, Other};

/// Something that the host is to do.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Its answer carries the same id.
    pub id: u64,
    pub action: Action,
}

/// What a command asks for.
#[cfg_attr(feature = "component", wit(variant))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Acquire the guard. The outcome arrives as an event: [`GuardAcquired`](super::Event::GuardAcquired),
    /// [`GuardBusy`](super::Event::GuardBusy) or [`GuardUnreachable`](super::Event::GuardUnreachable).
    AcquireGuard(AcquireGuard),
    /// Release the guard.
    ReleaseGuard,
    /// List the Jobs that have all of these labels. Answer: [`Jobs`](super::AnswerOk::Jobs).
    ListJobs(ListJobs),
    /// Create this Pod as a dry run: the API server validates it and stores nothing. Answer:
    /// [`Warnings`](super::AnswerOk::Warnings).
    #[serde(rename = "TryPod")]
    DryRunPod(NewObject),
    /// Create the Job of this run, which has to be suspended. Answer: [`Created`](super::AnswerOk::Created).
    CreateJob(NewObject),
    /// Create a Secret that a Job of this run owns. Answer: [`Created`](super::AnswerOk::Created).
    CreateSecret(NewSecret),
    /// Create a ConfigMap that a Job of this run owns. Answer: [`Created`](super::AnswerOk::Created).
    CreateConfigMap(NewConfigMap),
    /// Start a suspended Job. Answer: [`Job`](super::AnswerOk::Job).
    UnsuspendJob(ObjectRef),
    /// Make the Job of another run this run's: set these labels, follow the Job and own it from now on.
    /// Answer: [`Job`](super::AnswerOk::Job).
    AdoptJob(LabelJob),
    /// Set labels of a Job of this run. Answer: [`Job`](super::AnswerOk::Job).
    LabelJob(LabelJob),
    /// Delete a Job of this run with background propagation, so that its Pods and Secrets are deleted too.
    /// Answer: [`Done`](super::AnswerOk::Done).
    DeleteJob(DeleteJob),
    /// Report every change of a Job and of its Pods from now on.
    FollowJob(ObjectRef),
    /// Read a Job. Answer: [`Job`](super::AnswerOk::Job).
    #[serde(rename = "LookUpJob")]
    GetJob(ObjectRef),
    /// Read the Pods of a Job. Answer: [`Pods`](super::AnswerOk::Pods).
    #[serde(rename = "LookUpPods")]
    ListPods(ObjectRef),
    /// Read the Event objects about a Job and its Pods. Answer: [`Events`](super::AnswerOk::Events).
    ListEvents(ObjectRef),
    /// Read the output of a container to its end, each line once.
    FollowLog(FollowLog),
    /// Stop the [`FollowLog`](Action::FollowLog) command with this id. It causes no further events.
    StopLog(u64),
    /// Read the end of a log once. Answer: [`LogText`](super::AnswerOk::LogText).
    ReadLog(ReadLog),
    /// Add lines to the output of the run, after those that were read so far.
    EmitLog(EmittedLog),
    /// Set a timer. One that is already set restarts.
    SetTimer(Timer),
    /// Cancel the timer with this number. Does nothing if it is not set.
    CancelTimer(u64),
    /// Poll Paperclip's API until the poll is stopped. The host owns interval and token.
    PollHttp(PollHttp),
    /// Stop the [`PollHttp`](Action::PollHttp) command with this id.
    StopPoll(u64),
    /// Show a status line about the run to whoever follows it.
    EmitStatus(Status),
    /// Report to Paperclip how the agent is invoked: a JSON object that names secrets without their values.
    ReportMeta(String),
    /// Count something that the plugin noticed about its agent in the host's metrics.
    CountObservation(Observation),
    /// End the run.
    Finish(Finish),
    /// An extension of a newer plugin. The host refuses the kinds that it does not know.
    Other(Other),
}

/// A request for the guard.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcquireGuard {
    /// At most one run holds the guard of a key.
    pub key: String,
    pub namespace: String,
    /// How long to wait while another run holds it; 0 does not wait.
    pub wait_ms: u64,
}

/// A selection of Jobs.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListJobs {
    pub namespace: String,
    pub labels: Vec<Label>,
}

/// A Kubernetes object to create, as JSON, complete with apiVersion, kind and metadata.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewObject {
    pub manifest_json: String,
}

/// A Secret to create.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSecret {
    pub namespace: String,
    pub name: String,
    pub labels: Vec<Label>,
    pub owner: ObjectRef,
    pub entries: Vec<SecretEntry>,
}

/// An entry of a Secret.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretEntry {
    pub key: String,
    pub source: SecretSource,
}

/// Where the host takes the value of a Secret's entry from. The plugin sees none of these values except the
/// prompt, which it renders.
#[cfg_attr(feature = "component", wit(variant))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecretSource {
    /// The prompt, or a part of it.
    Prompt(String),
    /// The token of the run.
    AuthToken,
    /// The value of this name in `config.env`.
    ConfigEnv(String),
    /// The literal value of this name in the environment of Paperclip's pod.
    #[serde(rename = "SelfPodEnv")]
    PaperclipPodEnv(String),
    /// A JSON document whose parts are joined.
    Json(Vec<JsonPart>),
}

/// A part of a JSON document that contains secrets.
#[cfg_attr(feature = "component", wit(variant))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JsonPart {
    /// Text of the document.
    Text(String),
    /// The value of this name in `config.env`, as the content of a JSON string.
    ConfigEnv(String),
}

/// A ConfigMap to create.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewConfigMap {
    pub namespace: String,
    pub name: String,
    pub labels: Vec<Label>,
    pub owner: ObjectRef,
    pub entries: Vec<Label>,
    /// Entries that are not text, in base64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binary_entries: Vec<Label>,
    /// Whether runs share it. Its name is `paperclip-files-` and the digest of its entries, the host refuses another one. If it exists,
    /// the owner becomes one of its owners. It is deleted with the last of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_shared: bool,
}

/// Labels to set on a Job.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelJob {
    pub job: ObjectRef,
    pub labels: Vec<Label>,
}

/// The deletion of a Job.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteJob {
    pub job: ObjectRef,
    /// The cause, which the host logs.
    pub cause: DeleteCause,
}

/// Why a Job is deleted.
#[cfg_attr(feature = "component", wit(enum))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeleteCause {
    AttemptEnded,
    TimedOut,
    Cancelled,
}

/// The log to follow.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowLog {
    pub pod: ObjectRef,
    pub container: String,
    /// The instance of the container to read.
    pub restart_count: u32,
    /// The tag of the control lines that count the agent's output, if the Job's annotation says that there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_tag: Option<String>,
}

/// Lines of the agent from a source other than its log, such as the end of its stderr in the termination
/// message.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmittedLog {
    pub stream: LogStream,
    pub lines: Vec<String>,
}

/// The stream that a line belongs to.
#[cfg_attr(feature = "component", wit(enum))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogStream {
    Stdout,
    Stderr,
}

/// The end of a log to read once.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadLog {
    pub pod: ObjectRef,
    pub container: String,
    /// The most lines to read.
    pub tail_lines: u32,
    /// The most bytes to read.
    pub limit_bytes: u32,
    /// Read the container's instance before the last restart.
    pub is_previous: bool,
}

/// A timer to set.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// A number of the plugin's choice.
    pub timer: u64,
    pub after_ms: u64,
}

/// A poll of Paperclip's API.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollHttp {
    /// The path, which starts with `/api/`, and the query below Paperclip's API URL.
    pub path: String,
}

/// A status line.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub level: StatusLevel,
    pub text: String,
}

/// The severity of a status line.
#[cfg_attr(feature = "component", wit(enum))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StatusLevel {
    Info,
    Warning,
    Error,
}

/// Something that a plugin noticed about its agent, for operators: a new version, or output that it does not understand.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// What was noticed, such as `cli-version` or `unknown-event`.
    pub kind: String,
    /// Which one, such as `2.1.332`. The host counts a limited number of values for each agent type.
    pub value: String,
    /// How often.
    pub count: u64,
}

/// The end of a run. Only cleanup follows it.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// Paperclip's AdapterExecutionResult.
    pub result_json: String,
    pub ending: Ending,
    /// The Jobs to delete. The others exist until their TTL expires.
    pub delete_jobs: Vec<ObjectRef>,
}

/// How a run ended, for exit codes and metrics.
#[cfg_attr(feature = "component", wit(enum))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    Succeeded,
    Failed,
    Cancelled,
}
