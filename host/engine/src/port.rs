//! What passes between the engine and whoever drives it: inputs and effects.

use paperclip_contract::types::{
    ApiError, CancelRequest, Deletion, Ending, JobSnapshot, ObjectRef, PodSnapshot,
};

use crate::api::{ApiCall, ApiReply};
use crate::ids::{CallId, LogId, PollId};
use crate::log::{LogEnd, LogRequest};
use crate::ownership::HostState;
use crate::record::{Level, SequencedRecord};

/// Something that happened outside the engine.
#[derive(Debug)]
pub enum Input {
    /// Start the run.
    Start,
    /// Resume the run after its journal was replayed; start it if the journal was empty.
    Resume,
    /// The host reports something about the run.
    Note { level: Level, text: String },
    /// The answer to [`Effect::Call`].
    Called { call: CallId, outcome: Result<ApiReply, ApiError> },
    /// A followed Job was observed or changed.
    JobSeen(JobSnapshot),
    /// A followed Job was deleted.
    JobDeleted(Deletion),
    /// A Pod of a followed Job was observed or changed.
    PodSeen(PodSnapshot),
    /// A Pod of a followed Job was deleted.
    PodDeleted(Deletion),
    /// The state of this host in the namespace of the run's guard; answers [`Effect::Join`], and is repeated at each change. Times are by
    /// the clock of the run.
    Host(HostState),
    /// The Lease of the run's guard has changed.
    GuardChanged,
    /// The server accepted [`Effect::OpenLog`]. `keeps_unread` means that it removes nothing that the stream has still to send.
    LogOpened { log: LogId, keeps_unread: bool },
    /// Bytes of a log, as they arrived.
    LogBytes { log: LogId, bytes: Vec<u8> },
    /// Bytes of this log wait to be read, because the sink does not keep up or another input comes first.
    LogHeld { log: LogId },
    /// A log that was or should have been opened was closed by the server.
    LogClosed { log: LogId, end: LogEnd },
    /// The answer to [`Effect::Poll`]: status and body, the latter cut to 64 KiB.
    Polled { poll: PollId, outcome: Result<(u16, String), ApiError> },
    /// A person or Paperclip requests the end of the run.
    Cancel(CancelRequest),
    /// This process is about to exit.
    Stop,
    /// [`crate::Run::deadline`] has passed.
    Tick,
}

/// Something to carry out, in this order. An effect is not carried out before the previous ones were started, and none after
/// [`Effect::Sync`] before that is complete.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Append this line, which ends in a line feed, to the run's journal.
    Append(String),
    /// Make everything that was appended durable.
    Sync,
    /// Start a new segment of the journal with this line, once everything that was appended before is durable. A run can be resumed from it
    /// without the segments before, which are needed for their output only.
    Segment(String),
    /// Call the Kubernetes API; answer with [`Input::Called`].
    Call { call: CallId, request: ApiCall },
    /// Keep the Lease of this host in this namespace, and report its state and changes of the guard of this name from now on.
    Join { namespace: String, guard: String },
    /// Report this Job and its Pods from now on, starting with their current state.
    Follow(ObjectRef),
    /// Read a container's log; answer with [`Input::LogOpened`], [`Input::LogBytes`] and [`Input::LogClosed`] of this id.
    OpenLog { log: LogId, pod: ObjectRef, container: String, request: LogRequest },
    /// Drop the stream.
    CloseLog(LogId),
    /// GET this path below Paperclip's API URL with the run's token; answer with [`Input::Polled`].
    Poll { poll: PollId, path: String },
    /// Pass a record to the sink. A sink that does not keep up causes back-pressure.
    Emit(SequencedRecord),
    /// The run has left this process: nothing follows.
    Close(Closing),
}

/// How a run leaves this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// It ended.
    Ended(Ending),
    /// The request was refused before anything was created: an error of the request, not a failure of the run.
    Refused,
    /// It continues in the cluster without this host.
    Detached,
    /// Another host drives it. Its journal here is not to be resumed.
    Moved,
}
