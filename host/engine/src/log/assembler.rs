//! Makes of the bytes of one stream after the other the lines of a log: each once, in order, in batches.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::chunks::{self, Rejoined};
use super::frame::{CutFrame, Frame, Framer, line_hash};
use super::pace::Pace;
use super::position::{Chunks, Entry, Position};
use super::replay::{Replay, Verdict};
use super::stamp::{self, Stamp};
use super::{Line, LogLimits, LogOutput};
use crate::time::Timestamp;

/// Most that is quoted of a text without stamp, in bytes.
const MAX_DIAGNOSTIC_BYTES: usize = 1024;

/// An output, and for lines the position after them.
pub(super) type Told = (LogOutput, Option<Position>);

/// Holds what outlasts a stream: the position, and the unterminated line that the last one ended with.
pub(super) struct Assembler {
    limits: LogLimits,
    framer: Framer,
    /// After the last line that was taken.
    position: Position,
    stream: Stream,
    pace: Pace,
    /// When the bytes in hand came.
    now: Timestamp,
    /// The unterminated line of the last stream that brought anything.
    tail_seen: Option<(u64, u64)>,
    /// The stream that left the unterminated line ended cleanly: text of the kubelet may stick to it (rule 9).
    is_tail_suspect: bool,
    batch: Vec<Line>,
    batch_bytes: usize,
    told: VecDeque<Told>,
    has_news: bool,
    last_diagnostic: Option<String>,
}

/// What is known of the stream in hand.
#[derive(Default)]
struct Stream {
    /// It brought bytes.
    is_fed: bool,
    /// None once all that is known has come again.
    replay: Option<Replay>,
    /// It began with a text without stamp: the rest of a line that began before the second asked for (rule 5), unless nothing follows.
    headless: Option<Vec<u8>>,
    /// It brought a line with a stamp.
    has_lines: bool,
    /// It brought text of the kubelet, or ended within a stamp: what it holds may not be all.
    is_suspect: bool,
}

/// How much of the log a stream held when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coverage {
    /// Everything known, with nothing left over.
    Whole,
    /// Everything known, and an unterminated line that the stream before had ended with as well.
    WholeWithTail,
    /// Everything known, and an unterminated line that may be going on.
    Unterminated,
    /// Not everything that is known, or with text of the kubelet.
    Short,
    /// Not a byte, though something is known.
    Nothing,
}

impl Assembler {
    pub(super) fn new(position: Position, limits: LogLimits) -> Self {
        Self {
            limits,
            framer: Framer::new(limits),
            position,
            stream: Stream::default(),
            pace: Pace::default(),
            now: Timestamp::EPOCH,
            tail_seen: None,
            is_tail_suspect: false,
            batch: Vec::new(),
            batch_bytes: 0,
            told: VecDeque::new(),
            has_news: false,
            last_diagnostic: None,
        }
    }

    /// A stream was opened that begins at [`Position::since_s`].
    pub(super) fn begin_stream(&mut self) {
        self.stream = Stream { replay: self.position.mark().cloned().map(Replay::new), ..Stream::default() };
    }

    pub(super) fn feed(&mut self, now: Timestamp, bytes: &[u8]) {
        self.now = now;
        if !self.stream.is_fed && !bytes.is_empty() {
            self.stream.is_fed = true;
            self.framer.clear();
        }
        let mut framer = std::mem::replace(&mut self.framer, Framer::new(self.limits));
        framer.feed(bytes, |frame| self.take_frame(frame, 1));
        self.framer = framer;
        self.flush_batch();
    }

    /// The stream in hand ended, as HTTP wants it or not. An unterminated line is kept: it may be all that can be had of it (rule 1).
    pub(super) fn end_stream(&mut self, is_clean: bool) -> Coverage {
        let stream = std::mem::take(&mut self.stream);
        let is_caught_up = stream.replay.as_ref().is_none_or(Replay::is_caught_up);
        if !stream.is_fed {
            return if is_caught_up && self.framer.is_empty() { Coverage::Whole } else { Coverage::Nothing };
        }
        let mut is_suspect = stream.is_suspect;
        let may_be_headless = self.position.since_s().is_some() && !stream.has_lines;
        if let Some(text) = stream.headless.filter(|_| may_be_headless) {
            is_suspect = true;
            // The kubelet's own text is followed by a clean end.
            if is_clean {
                self.diagnose(&text);
            }
        }
        if !self.framer.is_empty() && stamp::split(self.framer.in_flight()).is_none() {
            is_suspect = true;
            if !stamp::is_cut(self.framer.in_flight()) && (is_clean || !may_be_headless) {
                let text = self.framer.in_flight().to_vec();
                self.diagnose(&text);
            }
            self.framer.clear();
        }
        if !is_caught_up {
            self.framer.clear();
        }
        self.is_tail_suspect = is_clean;
        let tail = (!self.framer.is_empty()).then(|| self.framer.fingerprint());
        let tail_before = std::mem::replace(&mut self.tail_seen, tail);
        match tail {
            _ if is_suspect || !is_caught_up => Coverage::Short,
            None => Coverage::Whole,
            Some(_) if tail == tail_before => Coverage::WholeWithTail,
            Some(_) => Coverage::Unterminated,
        }
    }

    /// Nothing more will be read: what is left of an unterminated line is a line, if it is the container's for sure.
    pub(super) fn finish(&mut self, is_complete: bool) {
        self.position.end(is_complete);
        let text_at = stamp::split(self.framer.in_flight()).map_or(0, |(_, at)| at);
        let may_be_told = is_complete || !self.is_tail_suspect;
        if may_be_told && self.framer.in_flight().len() > text_at {
            let mut framer = std::mem::replace(&mut self.framer, Framer::new(self.limits));
            framer.flush(|frame| self.take_frame(frame, 0));
            self.flush_batch();
        }
    }

    /// A text of the server that is no line, unless it was the last one told.
    pub(super) fn diagnose(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(whole_characters_before(text, MAX_DIAGNOSTIC_BYTES)).into_owned();
        if !text.trim().is_empty() && self.last_diagnostic.as_ref() != Some(&text) {
            self.last_diagnostic = Some(text.clone());
            self.told.push_back((LogOutput::Diagnostic(text), None));
        }
    }

    /// What there is to tell since the last call, and whether new lines are among it.
    pub(super) fn take_told(&mut self) -> (VecDeque<Told>, bool) {
        (std::mem::take(&mut self.told), std::mem::take(&mut self.has_news))
    }

    /// The next diagnostic is told even if it is the last one again.
    pub(super) fn forget_diagnostic(&mut self) {
        self.last_diagnostic = None;
    }

    pub(super) fn position(&self) -> &Position {
        &self.position
    }

    /// Lines come late: the stream has more than it has brought.
    pub(super) fn is_behind(&self) -> bool {
        self.pace.is_behind()
    }

    fn take_frame(&mut self, frame: Frame<'_>, line_feed_bytes: u64) {
        match frame {
            Frame::Whole(line) => match stamp::split(line) {
                Some((stamp, at)) => self.take_line(stamp, &line[at..], line_feed_bytes),
                None => self.take_text(line),
            },
            Frame::Cut(cut) => match cut.stamp {
                Some(stamp) => self.take_cut(stamp, &cut, line_feed_bytes),
                None => self.take_text(&cut.head),
            },
        }
    }

    fn take_line(&mut self, stamp: Stamp, text: &[u8], line_feed_bytes: u64) {
        let Rejoined { text, continuations, chunks } = chunks::rejoin(stamp, text, self.position.chunks());
        if chunks != Chunks::Unknown {
            self.position.set_chunks(chunks);
        }
        let hash = line_hash(stamp, &text);
        if self.is_new(stamp, hash) {
            let bytes = text.len() as u64 + line_feed_bytes;
            // What is left when nothing more will be read is the beginning of a line.
            let is_torn = self.position.ended() == Some(false);
            self.push(Entry { stamp, hash, bytes, continuations }, text.len(), || {
                if is_torn { Line::Torn(to_text(text)) } else { Line::Whole(to_text(text)) }
            });
        }
    }

    fn take_cut(&mut self, stamp: Stamp, cut: &CutFrame, line_feed_bytes: u64) {
        if self.is_new(stamp, cut.hash) {
            let entry = Entry {
                stamp,
                hash: cut.hash,
                bytes: cut.bytes + line_feed_bytes,
                continuations: Vec::new(),
            };
            self.push(entry, cut.head.len() + cut.tail.len(), || Line::Cut {
                head: to_text(Cow::Borrowed(whole_characters_before(&cut.head, cut.head.len()))),
                tail: to_text(Cow::Borrowed(whole_characters_after(&cut.tail))),
                bytes: cut.bytes,
            });
        }
    }

    fn take_text(&mut self, text: &[u8]) {
        let may_be_headless = self.position.since_s().is_some() && !self.stream.has_lines;
        if may_be_headless && self.stream.headless.is_none() {
            self.stream.headless = Some(text[..text.len().min(MAX_DIAGNOSTIC_BYTES)].to_vec());
        } else {
            self.stream.is_suspect = true;
            self.diagnose(text);
        }
    }

    fn is_new(&mut self, stamp: Stamp, hash: u64) -> bool {
        self.stream.has_lines = true;
        let Some(replay) = &mut self.stream.replay else { return true };
        let verdict = replay.see(stamp, hash);
        match verdict {
            Verdict::Known => return false,
            Verdict::LastKnown | Verdict::New => {}
            Verdict::NewAfterGap { lost_lines } => {
                self.tell_gap(lost_lines, "the log was rotated before it was read");
            }
        }
        self.stream.replay = None;
        verdict != Verdict::LastKnown
    }

    fn push(&mut self, entry: Entry, line_bytes: usize, line: impl FnOnce() -> Line) {
        let is_full = self.batch.len() >= self.limits.batch_lines
            || self.batch_bytes + line_bytes > self.limits.batch_bytes;
        if is_full {
            self.flush_batch();
        }
        if self.pace.take(self.now, entry.stamp, entry.bytes) {
            let reason = "the container printed faster than its log could be read: files of it may have been rotated away, and the line before this be the beginning of one and the end of another";
            self.tell_gap(None, reason);
        }
        self.batch.push(line());
        self.batch_bytes += line_bytes;
        self.has_news = true;
        self.position.push(entry);
    }

    /// Output is lost between the lines that were taken and those that follow.
    fn tell_gap(&mut self, lost_lines: Option<u64>, reason: &str) {
        self.flush_batch();
        let gap = LogOutput::Gap { lost_lines, lost_bytes: None, reason: reason.to_owned() };
        self.told.push_back((gap, None));
    }

    fn flush_batch(&mut self) {
        if !self.batch.is_empty() {
            let lines = std::mem::take(&mut self.batch);
            self.batch_bytes = 0;
            self.told.push_back((LogOutput::Lines(lines), Some(self.position.clone())));
        }
    }
}

/// The text, with U+FFFD for what is no UTF-8. A line is whole here, so that no character is cut (D31).
fn to_text(bytes: Cow<'_, [u8]>) -> String {
    match bytes {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Cow::Owned(bytes) => String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

/// At most `limit` bytes from the beginning, without a character that is cut by the end.
fn whole_characters_before(text: &[u8], limit: usize) -> &[u8] {
    let text = &text[..text.len().min(limit)];
    match text.utf8_chunks().last() {
        Some(last) if is_cut_character(last.invalid()) => &text[..text.len() - last.invalid().len()],
        Some(_) | None => text,
    }
}

/// The text without the rest of a character that is cut by the beginning.
fn whole_characters_after(text: &[u8]) -> &[u8] {
    let rest = text.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
    &text[rest..]
}

/// Whether these last bytes are the beginning of a character, and no nonsense.
fn is_cut_character(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|byte| *byte >= 0xc2)
}
