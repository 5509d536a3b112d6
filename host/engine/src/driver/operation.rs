//! What a driver requests of its executor.

use std::time::Duration;

use paperclip_contract::types::ObjectRef;

use crate::api::ApiCall;
use crate::ids::{CallId, LogId, PollId};
use crate::log::LogRequest;
use crate::record::SequencedRecord;
use crate::time::Timestamp;

/// One operation. An executor carries operations out in the order in which it gets them.
#[derive(Debug, PartialEq)]
pub enum Operation {
    /// Append this line, which ends in a line feed, to the run's journal. It may stay in memory.
    Append(String),
    /// Hand all appended lines to the operating system, so that they survive this process.
    Flush,
    /// Make all appended lines durable, so that they survive the machine.
    Sync,
    /// Make all appended lines durable, then start a new segment of the journal with this line.
    StartSegment(String),
    /// Remove the journal: nothing was started, and there is nothing to resume.
    DiscardJournal,
    /// Watch a namespace.
    WatchNamespace(String),
    /// Call the Kubernetes API; answer with [`DriverEvent::Called`](super::DriverEvent::Called).
    Call { call: CallId, request: ApiCall },
    /// Keep the Lease of this host in this namespace, and report its state and changes of the guard of this name.
    Join { namespace: String, guard: String },
    /// Report this Job and its Pods, current states first.
    Follow(ObjectRef),
    /// Read a container's log.
    OpenLog { log: LogId, pod: ObjectRef, container: String, request: LogRequest },
    /// Drop the stream.
    CloseLog(LogId),
    /// GET this path below Paperclip's API URL with the run's token.
    Poll { poll: PollId, path: String },
    /// Put these records into the sink's queue.
    Show(Vec<SequencedRecord>),
    /// Acknowledge all cancels so far: they are durable.
    AcknowledgeCancels,
    /// The history was replayed: the record with this number is the first new one.
    ReportCaughtUp { next_seq: u64 },
    /// Lines were shown; the newest was written at this time by the node's clock.
    ReportLag { newest_at: Timestamp },
    /// Wait until the sink has taken all records, but not longer than this, if it is limited.
    CloseSink { within: Option<Duration> },
}

impl Operation {
    /// Returns whether the driver waits for the operation's outcome, which goes into
    /// [`Driver::handle_completion`](super::Driver::handle_completion).
    pub fn has_completion(&self) -> bool {
        match self {
            Operation::Append(_)
            | Operation::Flush
            | Operation::Sync
            | Operation::StartSegment(_)
            | Operation::CloseSink { .. } => true,
            Operation::DiscardJournal
            | Operation::WatchNamespace(_)
            | Operation::Call { .. }
            | Operation::Join { .. }
            | Operation::Follow(_)
            | Operation::OpenLog { .. }
            | Operation::CloseLog(_)
            | Operation::Poll { .. }
            | Operation::Show(_)
            | Operation::AcknowledgeCancels
            | Operation::ReportCaughtUp { .. }
            | Operation::ReportLag { .. } => false,
        }
    }
}
