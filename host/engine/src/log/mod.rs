//! The reader of one container's log: what the API server sends, cut anywhere, becomes whole lines, each once and in order.
//!
//! [`LogReader`] is a state machine without clock, I/O or randomness. The shell opens and closes streams as it is told and hands over
//! the bytes as they come; the reader decides when to read again, from where, and which of the lines that come again are known.
//!
//! What it relies on, and what it must survive, is written down as numbered rules beside the tests. In short:
//! - every line is stamped by the kubelet; text without a stamp is the kubelet talking, not the agent;
//! - `sinceTime` has whole seconds, so that each reconnect replays a second: [`Position`] remembers what that second held;
//! - the end of a stream says nothing about the container; only the container's state ends a log, after one last plain read.
//!
//! What cannot be known from a log, and is therefore not promised: lines that were rotated away before the first read, lines that were
//! stamped in an earlier second than their predecessors while nobody read (the node's clock was set back), and a last read that the
//! API server cut off exactly between two lines while pretending that it was whole.

mod assembler;
mod chunks;
mod frame;
mod pace;
mod position;
mod reader;
mod replay;
mod stamp;
#[cfg(test)]
mod tests;

pub use position::Position;
pub use reader::{
    ANSWER_TIMEOUT, CLEAN_END_WAIT, DELETED_DRAIN, DRAIN_TIMEOUT, ESTABLISHED_AFTER, LAGGING_QUIET_PERIOD,
    LogReader, MAX_BROKEN_READS, MAX_SHORT_READS, QUIET_PERIOD, RETRY_BASE, RETRY_CAP, ROTATION_BYTES,
    SILENCE_TIMEOUT, WAITING_RETRY,
};
pub use stamp::Stamp;

use serde::{Deserialize, Serialize};

/// Longest line that is forwarded whole, in bytes.
pub const MAX_LINE_BYTES: usize = 16 << 20;
/// What is kept of the beginning of a longer line, in bytes.
pub const CUT_HEAD_BYTES: usize = 1 << 20;
/// What is kept of the end of a longer line, in bytes.
pub const CUT_TAIL_BYTES: usize = 64 << 10;
/// Most bytes of lines in one [`LogOutput::Lines`]; a longer line stands alone.
pub const BATCH_BYTES: usize = 64 << 10;
/// Most lines in one [`LogOutput::Lines`].
pub const BATCH_LINES: usize = 1024;

/// How much of a log is held in memory and handed over at once.
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
    /// `sinceTime` in whole seconds since 1970; everything if none.
    pub since_s: Option<i64>,
}

/// How a stream came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogEnd {
    /// The body ended as HTTP wants it. It does not mean that the container did.
    Clean,
    /// The connection failed, before or after the first byte.
    Broken(String),
    /// The server answered with another status than 200.
    Refused { status: u16, message: String },
}

/// What is known of the container whose log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerSeen {
    Waiting,
    Running,
    Terminated,
    /// It has terminated, and its Pod is being deleted: a read that begins now may come too late.
    Leaving,
    /// It has terminated, and another one has taken its place: a read that begins now is of that one's log, which belongs to no reader.
    Replaced,
    /// Its Pod is proven gone.
    Gone,
}

/// A line that the container printed, without its line feed. Bytes that are no UTF-8 are replaced by U+FFFD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Whole(String),
    /// The beginning of a line whose end was not to be had: a secret in it may be cut, too.
    Torn(String),
    /// A line over [`LogLimits::max_line_bytes`]: its beginning, its end, and its full size in bytes.
    Cut {
        head: String,
        tail: String,
        bytes: u64,
    },
}

/// What the reader wants done or has to tell, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    /// Open a stream. There is never a second one beside it.
    Open(LogRequest),
    /// Drop the stream. Nothing that it still brings may be handed over.
    Close,
    /// The next whole lines.
    Lines(Vec<Line>),
    /// Output is lost between the lines before and those that follow.
    Gap { lost_lines: Option<u64>, lost_bytes: Option<u64>, reason: String },
    /// The stream broke off although the container runs. Told once, until [`LogOutput::Resumed`].
    Interrupted { reason: String },
    /// The stream goes on where it broke off.
    Resumed,
    /// Text of the server or the kubelet. It may quote the container, so it is to be redacted as lines are.
    Diagnostic(String),
    /// Nothing follows. `lines` and `bytes` are those delivered, line feeds included; `is_complete` is false where the rest could not be
    /// read, or may not have been.
    Ended { lines: u64, bytes: u64, is_complete: bool },
}
