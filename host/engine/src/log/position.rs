//! How far a log has been read, and how to find that position again.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::counted::Counted;
use super::stamp::Stamp;
use crate::time::Timestamp;

/// How many of the last lines are remembered individually. They find the position in a log that was rotated within the second; without a
/// rotation, counting finds it however many lines the second has.
pub(super) const TAIL_LINES: usize = 64;

/// The position after the last delivered line, to be saved once that line is durable. It takes about 100 bytes, and up to 1.3 KiB when the
/// last second has many lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    lines: u64,
    bytes: u64,
    mark: Option<Mark>,
    chunks: Chunks,
    /// Set once nothing more can be delivered: whether the log is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<bool>,
    /// Set from the first control line on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counted: Option<Counted>,
}

/// What a read from here replays: everything that was stamped in the newest second.
///
/// It is more only after the node's clock was set back: everything since the first line of the second that was the newest before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The second to read from: the lowest one in the replay.
    pub since_s: i64,
    /// The newest stamp in the replay. Everything before the replay was stamped in an earlier second.
    pub newest: Stamp,
    /// How many entries the replay has.
    pub count: u64,
    /// Hash of its first entry.
    pub first: u64,
    /// Hashes of its last entries, at most [`TAIL_LINES`].
    pub tail: VecDeque<u64>,
    /// Hashes of the last line as read from a later second than its own (rule 5), by second; see [`Entry::continuations`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    continuations: Vec<(i64, u64)>,
}

/// Whether the kubelet stamps each stored chunk of a long line (rule 4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Chunks {
    #[default]
    Unknown,
    /// Each chunk: before 1.26.
    Stamped,
    /// Only the first chunk.
    Plain,
}

/// A delivered line.
pub(super) struct Entry {
    pub stamp: Stamp,
    pub hash: u64,
    /// Line feed included.
    pub bytes: u64,
    /// Where chunks are stamped: hashes of the rest of the line from its first chunk in each later second on. Such a rest has a stamp and
    /// looks like a line.
    pub continuations: Vec<(i64, u64)>,
}

impl Position {
    /// Returns the number of lines delivered so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Returns when the newest line was written, by the node's clock; `None` before the first line.
    pub fn newest_at(&self) -> Option<Timestamp> {
        let newest = self.mark.as_ref()?.newest;
        u64::try_from(newest.ms()).ok().map(Timestamp::from_millis)
    }

    /// Returns the bytes delivered so far, line feeds included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns where a read that continues from here has to start, in whole seconds since 1970; `None` means at the start of the log.
    pub fn since_s(&self) -> Option<i64> {
        self.mark.as_ref().map(|mark| mark.since_s)
    }

    pub(super) fn ended(&self) -> Option<bool> {
        self.ended
    }

    pub(super) fn end(&mut self, is_complete: bool) {
        self.ended = Some(is_complete);
    }

    pub(super) fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    pub(super) fn chunks(&self) -> Chunks {
        self.chunks
    }

    pub(super) fn set_chunks(&mut self, chunks: Chunks) {
        self.chunks = chunks;
    }

    pub(super) fn counted(&self) -> Option<&Counted> {
        self.counted.as_ref()
    }

    pub(super) fn counted_mut(&mut self) -> Option<&mut Counted> {
        self.counted.as_mut()
    }

    /// Returns what was counted so far, before the first control line what was delivered.
    pub(super) fn start_counting(&mut self) -> &mut Counted {
        self.counted.get_or_insert_with(|| Counted::after(self.lines, self.bytes))
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.lines += 1;
        self.bytes += entry.bytes;
        self.push_undelivered(entry);
    }

    /// Adds a line of the log that is not one of the agent, such as a control line: a replay contains it.
    pub(super) fn push_undelivered(&mut self, entry: Entry) {
        match &mut self.mark {
            Some(mark) if entry.stamp.s <= mark.newest.s => mark.push(entry.stamp, entry.hash),
            _ => self.mark = Some(self.next_mark(entry.stamp, entry.hash)),
        }
        if let Some(mark) = &mut self.mark {
            mark.continuations = entry.continuations;
        }
    }

    /// Returns the mark after a line that is the first of a new second.
    fn next_mark(&self, stamp: Stamp, hash: u64) -> Mark {
        let continuation = self.mark.as_ref().and_then(|mark| {
            mark.continuations.iter().find(|(second, _)| *second >= stamp.s).map(|(_, hash)| *hash)
        });
        let mut mark = Mark {
            since_s: stamp.s,
            newest: stamp,
            count: 0,
            first: continuation.unwrap_or(hash),
            tail: VecDeque::new(),
            continuations: Vec::new(),
        };
        if let Some(continuation) = continuation {
            mark.push(stamp, continuation);
        }
        mark.push(stamp, hash);
        mark
    }
}

impl Mark {
    fn push(&mut self, stamp: Stamp, hash: u64) {
        self.since_s = self.since_s.min(stamp.s);
        self.newest = self.newest.max(stamp);
        self.count += 1;
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(hash);
    }
}
