//! Splits a stream of bytes into lines, whatever pieces it arrives in (rule 1: a stream may be cut anywhere).

use std::hash::Hasher;

use memchr::memchr;
use twox_hash::XxHash3_64;

use super::port::LogLimits;
use super::stamp::{self, Stamp};

/// Capacity that is kept for the next line after a longer one, in bytes.
const KEPT_BYTES: usize = 256 << 10;

/// A line with its stamp, without its line feed.
pub(super) enum Frame<'a> {
    Whole(&'a [u8]),
    /// A line over the limit.
    Cut(CutFrame),
}

/// The kept parts of a line over the limit.
pub(super) struct CutFrame {
    /// None if the text has no stamp.
    pub stamp: Option<Stamp>,
    pub head: Vec<u8>,
    pub tail: Vec<u8>,
    /// Size without stamp and line feed.
    pub bytes: u64,
    pub hash: u64,
}

/// Returns the hash by which a replayed line is recognised. It is part of the saved position.
pub(super) fn line_hash(stamp: Stamp, text: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(stamp.seed(), text)
}

/// Keeps the current line, at most [`LogLimits::max_line_bytes`] of it.
pub(super) struct Framer {
    limits: LogLimits,
    line: Vec<u8>,
    over: Option<Over>,
}

/// The part of a line beyond its head.
struct Over {
    stamp: Option<Stamp>,
    /// Between one and two times [`LogLimits::cut_tail_bytes`].
    tail: Vec<u8>,
    bytes: u64,
    hasher: XxHash3_64,
}

impl Framer {
    pub(super) fn new(limits: LogLimits) -> Self {
        Self { limits, line: Vec::new(), over: None }
    }

    /// Processes bytes and passes each line that they complete to `take`.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(Frame<'_>)) {
        while let Some(at) = memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..at], &bytes[at + 1..]);
            if self.is_empty() && line.len() <= self.limits.max_line_bytes {
                take(Frame::Whole(line));
            } else {
                self.push(line);
                self.flush(&mut take);
            }
            bytes = rest;
        }
        self.push(bytes);
    }

    /// Passes the current line to `take` although its line feed has not arrived.
    pub(super) fn flush(&mut self, mut take: impl FnMut(Frame<'_>)) {
        match self.over.take() {
            Some(over) => take(Frame::Cut(over.finish(&mut self.line, self.limits))),
            None => take(Frame::Whole(&self.line)),
        }
        self.clear();
    }

    pub(super) fn clear(&mut self) {
        self.over = None;
        self.line.clear();
        self.line.shrink_to(KEPT_BYTES);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Returns the current line, or its head.
    pub(super) fn in_flight(&self) -> &[u8] {
        &self.line
    }

    /// Returns a value by which the same unterminated line is recognised later.
    pub(super) fn fingerprint(&self) -> (u64, u64) {
        match &self.over {
            Some(over) => (over.bytes, over.hasher.finish()),
            None => (self.line.len() as u64, XxHash3_64::oneshot(&self.line)),
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        if let Some(over) = &mut self.over {
            return over.push(bytes, self.limits.cut_tail_bytes);
        }
        let capacity = self.limits.max_line_bytes - self.line.len();
        let (fits, rest) = bytes.split_at(capacity.min(bytes.len()));
        self.line.extend_from_slice(fits);
        if !rest.is_empty() {
            let mut over = Over::start(&self.line, self.limits);
            over.push(rest, self.limits.cut_tail_bytes);
            self.over = Some(over);
            self.line.truncate(self.limits.cut_head_bytes.max(1));
            self.line.shrink_to(KEPT_BYTES);
        }
    }
}

impl Over {
    fn start(line: &[u8], limits: LogLimits) -> Self {
        let (stamp, text_at) = stamp::split(line).map_or((None, 0), |(stamp, at)| (Some(stamp), at));
        let mut hasher = XxHash3_64::with_seed(stamp.map_or(0, Stamp::seed));
        hasher.write(&line[text_at..]);
        let tail = line[line.len() - limits.cut_tail_bytes.min(line.len() - text_at)..].to_vec();
        Self { stamp, tail, bytes: (line.len() - text_at) as u64, hasher }
    }

    fn push(&mut self, bytes: &[u8], keep: usize) {
        self.hasher.write(bytes);
        self.bytes += bytes.len() as u64;
        self.tail.extend_from_slice(&bytes[bytes.len() - keep.min(bytes.len())..]);
        if self.tail.len() > 2 * keep {
            self.tail.drain(..self.tail.len() - keep);
        }
    }

    fn finish(mut self, line: &mut Vec<u8>, limits: LogLimits) -> CutFrame {
        let text_at = stamp::split(line).map_or(0, |(_, at)| at);
        self.tail.drain(..self.tail.len() - limits.cut_tail_bytes.min(self.tail.len()));
        let head = line.split_off(text_at.min(line.len()));
        CutFrame { stamp: self.stamp, head, tail: self.tail, bytes: self.bytes, hash: self.hasher.finish() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> LogLimits {
        LogLimits { max_line_bytes: 60, cut_head_bytes: 40, cut_tail_bytes: 8, ..LogLimits::default() }
    }

    fn lines(pieces: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>, u64)> {
        let mut framer = Framer::new(small());
        let mut lines = Vec::new();
        for piece in pieces {
            framer.feed(piece, |frame| {
                lines.push(match frame {
                    Frame::Whole(line) => (line.to_vec(), Vec::new(), line.len() as u64),
                    Frame::Cut(cut) => (cut.head, cut.tail, cut.hash ^ cut.bytes),
                });
            });
        }
        lines
    }

    #[test]
    fn rule_1_a_cut_anywhere_changes_no_line() {
        let text = b"2026-03-01T00:00:00.1Z a\r\n\n2026-03-01T00:00:00.1Z \xc3\xa9t\xc3\xa9\n\
            2026-03-01T00:00:00.1Z 0123456789012345678901234567890123456789012345678901234567890123456789\nx\n";
        let whole = lines(&[text]);
        assert_eq!(whole.len(), 5);
        assert_eq!(whole[3].1, b"23456789");
        for at in 0..=text.len() {
            assert_eq!(lines(&[&text[..at], &text[at..]]), whole, "cut at {at}");
        }
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(lines(&single), whole);
    }

    #[test]
    fn a_line_over_the_limit_is_counted_and_hashed_whole() {
        let text = vec![b'x'; 10_000];
        let line = [b"2026-03-01T00:00:00Z ".as_slice(), &text, b"\n"].concat();
        let mut framer = Framer::new(small());
        let mut count = 0;
        framer.feed(&line, |frame| {
            let Frame::Cut(cut) = frame else { panic!("the line is over the limit") };
            let stamp = cut.stamp.expect("it has a stamp");
            assert_eq!((cut.bytes, cut.hash), (10_000, line_hash(stamp, &text)));
            assert_eq!((cut.head.as_slice(), cut.tail.as_slice()), (&text[..19], &text[..8]));
            count += 1;
        });
        assert_eq!(count, 1);
        assert!(framer.is_empty());
    }
}
