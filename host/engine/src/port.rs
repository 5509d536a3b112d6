//! What passes between the engine and the shell: inputs and effects.

use paperclip_contract::types::{
    ApiError, CancelRequest, Deletion, Ending, JobSnapshot, ObjectRef, PodSnapshot,
};

use crate::api::{ApiCall, ApiReply};
use crate::ids::{CallId, LogId, PollId};
use crate::log::{LogEnd, LogRequest};
use crate::record::{Level, SequencedRecord};

/// What happened in the world.
#[derive(Debug)]
pub enum Input {
    /// Begin.
    Start,
    /// Go on after the run's journal was replayed; begin if it was empty.
    Resume,
    /// The host has something to tell about the run.
    Note { level: Level, text: String },
    /// The answer to [`Effect::Call`].
    Called { call: CallId, outcome: Result<ApiReply, ApiError> },
    /// A followed Job was seen, or changed.
    JobSeen(JobSnapshot),
    /// A followed Job is gone.
    JobDeleted(Deletion),
    /// A Pod of a followed Job was seen, or changed.
    PodSeen(PodSnapshot),
    /// A Pod of a followed Job is gone.
    PodDeleted(Deletion),
    /// The server accepted [`Effect::OpenLog`].
    LogOpened { log: LogId },
    /// Bytes of a log, as they came.
    LogBytes { log: LogId, bytes: Vec<u8> },
    /// Bytes of this log wait to be handed over, because the sink does not keep up or something else comes first.
    LogHeld { log: LogId },
    /// A log that was opened, or should have been, is closed by the other side.
    LogClosed { log: LogId, end: LogEnd },
    /// The answer to [`Effect::Poll`]: status and body, the latter cut to 64 KiB.
    Polled { poll: PollId, outcome: Result<(u16, String), ApiError> },
    /// Somebody wants the run to end.
    Cancel(CancelRequest),
    /// This process is about to exit.
    Stop,
    /// [`crate::Run::deadline`] has come.
    Tick,
}

/// What the shell has to do, in this order. An effect is not carried out before those that came before it were begun, and nothing after
/// [`Effect::Sync`] before that is done.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Append this line, which ends in a line feed, to the run's journal.
    Append(String),
    /// Make all that was appended durable.
    Sync,
    /// Begin a new segment of the journal with this line, once all that was appended before is durable. A run can be taken up from it
    /// without the segments before, which hold output only.
    Segment(String),
    /// Call the Kubernetes API; answer with [`Input::Called`].
    Call { call: CallId, request: ApiCall },
    /// Tell of this Job and its Pods from now on, beginning with what is known.
    Follow(ObjectRef),
    /// Read a container's log; answer with [`Input::LogOpened`], [`Input::LogBytes`] and [`Input::LogClosed`] of this id.
    OpenLog { log: LogId, pod: ObjectRef, container: String, request: LogRequest },
    /// Drop the stream.
    CloseLog(LogId),
    /// GET this path below Paperclip's API URL with the run's token; answer with [`Input::Polled`].
    Poll { poll: PollId, path: String },
    /// Show a record. The shell waits until the sink has taken it: that is the back-pressure.
    Emit(SequencedRecord),
    /// All is done, or, when detached, left to a later host: nothing follows.
    Close(Closing),
}

/// How a run leaves this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// It came to its end.
    Ended(Ending),
    /// The request was refused before anything was created: the user's mistake, not the run's failure.
    Refused,
    /// It goes on in the cluster without this host.
    Detached,
}
