//! What passes between a log reader and whoever opens its streams.

use serde::{Deserialize, Serialize};

/// Longest line that is forwarded whole, in bytes.
pub const MAX_LINE_BYTES: usize = 16 << 20;
/// How much is kept of the start of a longer line, in bytes.
pub const CUT_HEAD_BYTES: usize = 1 << 20;
/// How much is kept of the end of a longer line, in bytes.
pub const CUT_TAIL_BYTES: usize = 64 << 10;
/// Most bytes of lines in one [`LogOutput::Lines`]; a longer line is alone in its batch.
pub const BATCH_BYTES: usize = 64 << 10;
/// Most lines in one [`LogOutput::Lines`].
pub const BATCH_LINES: usize = 1024;

/// How much of a log is kept in memory and returned at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    pub max_line_bytes: usize,
    pub cut_head_bytes: usize,
    pub cut_tail_bytes: usize,
    pub batch_bytes: usize,
    pub batch_lines: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            max_line_bytes: MAX_LINE_BYTES,
            cut_head_bytes: CUT_HEAD_BYTES,
            cut_tail_bytes: CUT_TAIL_BYTES,
            batch_bytes: BATCH_BYTES,
            batch_lines: BATCH_LINES,
        }
    }
}

/// How a log is to be read: always with `timestamps=true`, and without `stream`, `tailLines` and `limitBytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRequest {
    pub follow: bool,
    /// `sinceTime` in whole seconds since 1970; `None` reads everything.
    pub since_s: Option<i64>,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogEnd {
    /// The body ended cleanly by HTTP. It does not follow that the container ended.
    Clean,
    /// The connection failed, before or after the first byte.
    Broken(String),
    /// The server answered with a status other than 200.
    Refused { status: u16, message: String },
}

/// The state of the container whose log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerSeen {
    Waiting,
    Running,
    Terminated,
    /// It has terminated, and its Pod is being deleted: a read that starts now may be too late.
    PodTerminating,
    /// It has terminated and was restarted: a read that starts now returns the log of the new incarnation, which has no reader.
    Replaced,
    /// Its Pod is proven to be deleted.
    PodDeleted,
}

/// A line that the container printed, without its line feed. Invalid UTF-8 is replaced by U+FFFD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Whole(String),
    /// The start of a line whose end could not be read: a secret in it may be cut, too.
    Torn(String),
    /// A line over [`LogLimits::max_line_bytes`]: its start, its end, and its full size in bytes.
    Cut {
        head: String,
        tail: String,
        bytes: u64,
    },
}

/// What a reader requests or reports, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    /// Open a stream. There is never more than one.
    Open(LogRequest),
    /// Drop the stream. None of its later bytes may be passed to the reader.
    Close,
    /// The next lines.
    Lines(Vec<Line>),
    /// Output is lost between the lines before and those that follow.
    Gap { lost_lines: Option<u64>, lost_bytes: Option<u64>, reason: String },
    /// The stream broke although the container runs. Reported once, until [`LogOutput::Resumed`].
    Interrupted { reason: String },
    /// The stream continues where it broke.
    Resumed,
    /// Text of the server or the kubelet. It may quote the container, so it has to be redacted like lines.
    Diagnostic(String),
    /// Nothing follows. `lines` and `bytes` count what was delivered, line feeds included. `is_complete` is false if the rest could not be
    /// read, or was possibly not read.
    Ended { lines: u64, bytes: u64, is_complete: bool },
}
