//! What an executor reports to a driver.

use paperclip_contract::types::{ApiError, CancelRequest, Deletion, JobSnapshot, PodSnapshot};

use crate::api::ApiReply;
use crate::ids::{CallId, LogId, PollId};
use crate::journal::Entry;
use crate::log::LogEnd;
use crate::ownership::HostState;
use crate::port::Input;
use crate::record::Level;

/// Something that happened outside a run, as one of the driver's [sources](super::Source) has it. `E` is the executor's error.
#[derive(Debug)]
pub enum DriverEvent<E> {
    /// The next entry of the run's journal, oldest first.
    HistoryEntry(ReplayDepth, Box<Entry<'static>>),
    /// The journal cannot be read.
    HistoryFailed(E),
    /// The journal has no further entry.
    HistoryEnded,
    /// A person or Paperclip requests the end of the run.
    Cancel {
        request: CancelRequest,
        /// The sender waits for [`Operation::AcknowledgeCancels`](super::Operation::AcknowledgeCancels).
        awaits_acknowledgement: bool,
    },
    /// This process is about to exit.
    Stop,
    /// The run can no longer be controlled. It continues.
    ControlClosed,
    /// The answer to [`Operation::Call`](super::Operation::Call).
    Called { call: CallId, outcome: Result<ApiReply, ApiError> },
    /// The answer to [`Operation::Poll`](super::Operation::Poll): status and body.
    Polled { poll: PollId, outcome: Result<(u16, String), ApiError> },
    /// A watch has something about a followed Job.
    Watch(WatchEvent),
    /// The deadline of the [`Wait`](super::Wait) has passed.
    DeadlineReached {
        /// The logs of which pieces wait to be taken.
        held_logs: Vec<LogId>,
    },
    /// The next piece of a log.
    Log { log: LogId, piece: LogPiece },
    /// The sink has taken records of this many bytes, by [`queued_bytes`](super::queued_bytes).
    SinkProgress { bytes: usize },
    /// The sink takes no further record.
    SinkFailed(E),
    /// No source of a [`Wait`](super::Wait) that must not block has an event.
    NothingReady,
}

/// How much of a run an entry of its journal brings back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayDepth {
    /// The entry precedes the last snapshot: only the records that it showed are brought back.
    Records,
    /// The run is taken through the entry.
    Full,
}

/// What a watch reports about a followed Job and its Pods.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent {
    JobSeen(JobSnapshot),
    /// `is_ours` is always false: a watch does not know who requested the deletion.
    JobDeleted(Deletion),
    PodSeen(PodSnapshot),
    PodDeleted(Deletion),
    /// The state of this host in the namespace of the run's guard, by the clock of [`Driver::handle_event`](super::Driver::handle_event).
    Host(HostState),
    /// The Lease of the run's guard has changed.
    GuardChanged,
    /// The server refuses the watch, with a text for a person. Nothing is observed until it allows the watch.
    Refused(String),
}

impl WatchEvent {
    pub(super) fn into_input(self) -> Input {
        match self {
            WatchEvent::JobSeen(job) => Input::JobSeen(job),
            WatchEvent::JobDeleted(deletion) => Input::JobDeleted(deletion),
            WatchEvent::PodSeen(pod) => Input::PodSeen(pod),
            WatchEvent::PodDeleted(deletion) => Input::PodDeleted(deletion),
            WatchEvent::Host(state) => Input::Host(state),
            WatchEvent::GuardChanged => Input::GuardChanged,
            WatchEvent::Refused(text) => Input::Note { level: Level::Warning, text },
        }
    }
}

/// What a stream of a log brings, in this order: opened, bytes, the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPiece {
    /// `keeps_unread` means that the server removes nothing that the stream has still to send.
    Opened {
        keeps_unread: bool,
    },
    Bytes(Vec<u8>),
    Closed(LogEnd),
}

impl LogPiece {
    /// Returns how many bytes of the log it has.
    pub(super) fn size(&self) -> usize {
        match self {
            LogPiece::Bytes(bytes) => bytes.len(),
            LogPiece::Opened { .. } | LogPiece::Closed(_) => 0,
        }
    }

    pub(super) fn into_input(self, log: LogId) -> Input {
        match self {
            LogPiece::Opened { keeps_unread } => Input::LogOpened { log, keeps_unread },
            LogPiece::Bytes(bytes) => Input::LogBytes { log, bytes },
            LogPiece::Closed(end) => Input::LogClosed { log, end },
        }
    }
}
