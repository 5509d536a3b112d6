//! Events: what the host reports to a plugin.

#[cfg(feature = "component")]
use paperclip_contract_macros::wit;
use serde::{Deserialize, Serialize};

use super::{ApiError, ClusterEvent, JobSnapshot, ObjectRef, PodSnapshot};

/// Something that happened. Each call of `step` receives a batch, oldest first.
#[cfg_attr(feature = "component", wit(variant))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The requested guard is held: no other run has this key.
    GuardAcquired,
    /// Another run holds the guard. The host keeps waiting unless this is final.
    GuardBusy(GuardBusy),
    /// It is unknown whether the guard is free, because the API does not answer. Nothing must be created.
    GuardUnreachable(ApiError),
    /// Another host took the guard. Nothing new must be created; a Job that runs keeps running.
    GuardLost,
    /// The answer to a command that calls the API.
    Answered(Answer),
    /// The Job changed, or this host observed it for the first time. Intermediate states can be missing.
    JobObserved(JobSnapshot),
    /// The Job no longer exists in the cluster, according to a watch or a read.
    #[serde(rename = "JobGone")]
    JobDeleted(Deletion),
    /// A Pod of a followed Job changed, or this host observed it for the first time. Intermediate states can
    /// be missing.
    PodObserved(PodSnapshot),
    /// A Pod of a followed Job no longer exists in the cluster, according to a watch or a read.
    #[serde(rename = "PodGone")]
    PodDeleted(Deletion),
    /// Complete lines that the agent printed.
    LogLines(LogLines),
    /// The log stream broke or ended although the container runs. The host reconnects by itself.
    LogInterrupted(LogInterrupted),
    /// The log stream of this [`FollowLog`](super::Action::FollowLog) command continues at the line where it
    /// was interrupted.
    LogResumed(u64),
    /// Output is lost and cannot be recovered.
    LogGap(LogGap),
    /// Everything that the container printed has been delivered, or cannot be read any more.
    LogEnded(LogEnded),
    /// The timer with this number is due.
    TimerFired(u64),
    /// A poll received a response that differs from the one before.
    HttpAnswered(HttpAnswer),
    /// A poll received no response.
    HttpFailed(HttpFailure),
    /// The run is to stop.
    CancelRequested(CancelRequest),
    /// This host is about to exit. The run continues in the cluster and is resumed later; nothing must be
    /// deleted because of it.
    HostStopping,
    /// A host resumed the run after this many milliseconds without one. Watches and log streams are open
    /// again.
    HostResumed(u64),
    /// An extension of a newer host. A plugin ignores the kinds that it does not know.
    Other(Other),
}

/// Another run holds the guard.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardBusy {
    /// The run that holds it, if known.
    pub holder: Option<String>,
    /// Position in the queue; 1 is next.
    pub position: u32,
    /// The wait is over and the guard was not acquired.
    pub is_final: bool,
}

/// The answer to a command.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The id of the command.
    pub command: u64,
    pub outcome: Result<AnswerOk, ApiError>,
}

/// The value of a successful answer.
#[cfg_attr(feature = "component", wit(variant))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnswerOk {
    /// The command was carried out and has no value.
    Done,
    /// The object that was created, or that exists already from an earlier attempt of this run.
    Created(ObjectRef),
    /// The Jobs that match.
    Jobs(Vec<JobSnapshot>),
    /// The Job; none if it does not exist.
    Job(Option<JobSnapshot>),
    /// The Pods of a Job, newest first.
    Pods(Vec<PodSnapshot>),
    /// The Event objects about a Job and its Pods.
    Events(Vec<ClusterEvent>),
    /// The text of a log that was read once.
    LogText(String),
    /// The warnings that the API server returned with a dry run.
    Warnings(Vec<String>),
}

/// The deletion of an object.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    pub object: ObjectRef,
    /// How the host learned of it, such as `watch-deleted`, `read-404`, `relist-missing`.
    pub detected_via: String,
    /// Whether this host requested the deletion.
    pub is_ours: bool,
}

/// Complete lines of one log, without their line feeds.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLines {
    /// The [`FollowLog`](super::Action::FollowLog) command that they belong to.
    pub command: u64,
    /// The index of the first line, counted from 0 over the whole run.
    pub first_index: u64,
    pub lines: Vec<LogLine>,
}

/// A line that the agent printed. Bytes that are not UTF-8 are replaced by U+FFFD.
#[cfg_attr(feature = "component", wit(variant))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogLine {
    /// The line.
    Whole(String),
    /// A line longer than [`Limits::max_line_bytes`](super::Limits::max_line_bytes).
    Cut(CutLine),
}

/// The start and the end of a line that is too long to be passed whole.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutLine {
    pub head: String,
    pub tail: String,
    /// The size of the whole line.
    pub line_bytes: u64,
}

/// An interruption of a log stream.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogInterrupted {
    /// The [`FollowLog`](super::Action::FollowLog) command.
    pub command: u64,
    pub reason: String,
}

/// Output of a log that is lost.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogGap {
    /// The [`FollowLog`](super::Action::FollowLog) command.
    pub command: u64,
    /// The index of the first line after the gap. In output that control lines count it may be up to 1,000 lines later.
    pub next_index: u64,
    /// How many lines are lost, if known.
    pub lost_lines: Option<u64>,
    /// How many bytes are lost, if known.
    pub lost_bytes: Option<u64>,
    pub reason: String,
}

/// The end of a log.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnded {
    /// The [`FollowLog`](super::Action::FollowLog) command.
    pub command: u64,
    /// How many lines were delivered.
    pub line_count: u64,
    /// How many bytes were delivered, line feeds included.
    pub bytes: u64,
    /// False if the rest cannot be read any more, for example because the Pod was deleted.
    pub is_complete: bool,
    /// The API's message, if the rest could not be read because this host lacks the right to `get` `pods/log`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forbidden: Option<String>,
}

/// A response to a poll. Responses that equal the one before are not reported.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpAnswer {
    /// The [`PollHttp`](super::Action::PollHttp) command.
    pub command: u64,
    pub status: u16,
    /// At most 64 KiB.
    pub body: String,
}

/// A failed attempt of a poll.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpFailure {
    /// The [`PollHttp`](super::Action::PollHttp) command.
    pub command: u64,
    /// How many attempts have failed in succession, this one included.
    pub count: u32,
    pub error: ApiError,
}

/// A request to cancel the run.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequest {
    pub source: CancelSource,
    /// The reason that the caller gave.
    pub reason: Option<String>,
}

/// Where a cancellation comes from.
#[cfg_attr(feature = "component", wit(enum))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CancelSource {
    /// The API of the host, or Ctrl-C in the terminal of the run.
    Operator,
    /// Paperclip, which pushed it to the host.
    Paperclip,
}

/// An extension that is not part of this version of the contract.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    pub kind: String,
    /// A JSON document.
    pub json: String,
}
