//! The reader of one container's log: bytes from the API server, cut anywhere, become whole lines, each once and in order.
//!
//! [`LogReader`] is a state machine without clock, I/O or randomness. Its user opens and closes streams as requested and passes the bytes
//! on as they arrive; the reader decides when to read again, from where, and which of the replayed lines are known.
//!
//! Numbered rules beside the tests say what it relies on and what it must survive. In short:
//! - the kubelet stamps every line; text without a stamp is from the kubelet, not from the agent;
//! - `sinceTime` has whole seconds, so each reconnect replays a second: [`Position`] remembers the lines of that second;
//! - the end of a stream says nothing about the container; only the container's state ends a log, after one last plain read;
//! - where the agent's output is counted by control lines, they say exactly what is missing; they are not delivered.
//!
//! A log does not contain everything, so the following is not promised: lines that were rotated away before the first read, lines that
//! were stamped in an earlier second than their predecessors while there was no stream (the node's clock was set back), and a last read
//! that the API server cut exactly between two lines although it ended cleanly.
//!
//! ```
//! use paperclip_engine::log::{ContainerSeen, Line, LogEnd, LogLimits, LogOutput, LogReader};
//! use paperclip_engine::time::Timestamp;
//!
//! let now = Timestamp::from_millis(1_000);
//! let mut reader = LogReader::new(LogLimits::default(), 7);
//! assert!(matches!(reader.poll(), Some(LogOutput::Open(request)) if request.follow));
//! reader.on_opened(now, false);
//! reader.on_bytes(now, b"2026-03-01T00:00:00.5Z hello\n2026-03-01T00:00:00.6Z wor");
//! assert_eq!(reader.poll(), Some(LogOutput::Lines(vec![Line::Whole("hello".to_owned())])));
//!
//! // The connection breaks within a line; the next stream replays the second, and each line is returned once.
//! reader.on_closed(now, LogEnd::Broken("reset".to_owned()));
//! reader.on_deadline(reader.deadline().expect("it reconnects"));
//! assert!(matches!(reader.poll(), Some(LogOutput::Open(request)) if request.since_s.is_some()));
//! reader.on_opened(now, false);
//! reader.on_bytes(now, b"2026-03-01T00:00:00.5Z hello\n2026-03-01T00:00:00.6Z world\n");
//! assert_eq!(reader.poll(), Some(LogOutput::Lines(vec![Line::Whole("world".to_owned())])));
//! ```

mod assembler;
mod burst;
mod chunks;
mod counted;
mod frame;
mod port;
mod position;
mod reader;
mod replay;
mod stamp;
#[cfg(test)]
mod tests;
mod timing;

pub use port::{
    BATCH_BYTES, BATCH_LINES, CUT_HEAD_BYTES, CUT_TAIL_BYTES, ContainerSeen, Line, LogEnd, LogLimits,
    LogOutput, LogRequest, MAX_LINE_BYTES,
};
pub use position::Position;
pub use reader::LogReader;
pub use stamp::Stamp;
