//! Assembles the lines of a log from the bytes of successive streams: each line once, in order, in batches.

use std::borrow::Cow;
use std::collections::VecDeque;

use paperclip_control_lines::{self as control_lines, ControlLine, Parsed};

use super::burst::BurstDetector;
use super::chunks::{self, Rejoined};
use super::counted::{Counted, Loss};
use super::frame::{CutFrame, Frame, Framer, line_hash};
use super::port::{Line, LogLimits, LogOutput};
use super::position::{Chunks, Entry, Position};
use super::replay::{Replay, Verdict};
use super::stamp::{self, Stamp};
use crate::time::Timestamp;

/// Longest quotation of a text without a stamp, in bytes.
const MAX_DIAGNOSTIC_BYTES: usize = 1024;

const ROTATED: &str = "the log was rotated before it was read";

/// An output and, for lines, the position after them.
pub(super) type PositionedOutput = (LogOutput, Option<Position>);

/// Keeps what outlasts a stream: the position, and the unterminated line at the end of the last stream.
pub(super) struct Assembler {
    limits: LogLimits,
    framer: Framer,
    /// How the control lines of this log start, if it has any.
    control_prefix: Option<String>,
    /// After the last line that was assembled.
    position: Position,
    stream: Stream,
    bursts: BurstDetector,
    /// When the current bytes arrived.
    now: Timestamp,
    /// Fingerprint of the unterminated line of the last stream that had any bytes.
    last_tail: Option<(u64, u64)>,
    /// The stream with the unterminated line ended cleanly: text of the kubelet may be appended to it (rule 9).
    is_tail_suspect: bool,
    batch: Vec<Line>,
    batch_bytes: usize,
    outputs: VecDeque<PositionedOutput>,
    has_new_lines: bool,
    last_diagnostic: Option<String>,
}

/// The state of the current stream.
#[derive(Default)]
struct Stream {
    /// It has delivered bytes.
    is_fed: bool,
    /// None once every known line was replayed.
    replay: Option<Replay>,
    /// The text without a stamp that it starts with: the rest of a line that started before the requested second (rule 5), unless nothing
    /// follows.
    headless: Option<Vec<u8>>,
    /// It has delivered a line with a stamp.
    has_lines: bool,
    /// It contains text of the kubelet or ends within a stamp: it may be incomplete.
    is_suspect: bool,
}

/// How much of the log a stream contained when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coverage {
    /// Everything known, and no unterminated line.
    Whole,
    /// Everything known, and an unterminated line that the previous stream also ended with.
    WholeWithTail,
    /// Everything known, and an unterminated line that may continue.
    Unterminated,
    /// Not everything known, or text of the kubelet.
    Short,
    /// No bytes, although something is known.
    Nothing,
}

impl Assembler {
    pub(super) fn new(position: Position, limits: LogLimits) -> Self {
        Self {
            limits,
            framer: Framer::new(limits),
            control_prefix: None,
            position,
            stream: Stream::default(),
            bursts: BurstDetector::default(),
            now: Timestamp::EPOCH,
            last_tail: None,
            is_tail_suspect: false,
            batch: Vec::new(),
            batch_bytes: 0,
            outputs: VecDeque::new(),
            has_new_lines: false,
            last_diagnostic: None,
        }
    }

    /// Expects control lines with this tag.
    pub(super) fn expect_control_lines(&mut self, tag: &str) {
        self.control_prefix = Some(control_lines::prefix(tag));
    }

    /// Starts a stream that was opened from [`Position::since_s`], of a server that keeps what is not read yet or not.
    pub(super) fn start_stream(&mut self, keeps_unread: bool) {
        self.bursts.set_keeps_unread(keeps_unread);
        self.stream = Stream { replay: self.position.mark().cloned().map(Replay::new), ..Stream::default() };
    }

    pub(super) fn feed(&mut self, now: Timestamp, bytes: &[u8]) {
        self.now = now;
        if !self.stream.is_fed && !bytes.is_empty() {
            self.stream.is_fed = true;
            self.framer.clear();
        }
        let mut framer = std::mem::replace(&mut self.framer, Framer::new(self.limits));
        framer.feed(bytes, |frame| self.on_frame(frame, 1));
        self.framer = framer;
        self.flush_batch();
    }

    /// Ends the current stream, cleanly by HTTP or not. An unterminated line is kept: nothing more of it may ever be readable (rule 1).
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
            // A clean end follows the kubelet's own text.
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
        let tail_before = std::mem::replace(&mut self.last_tail, tail);
        match tail {
            _ if is_suspect || !is_caught_up => Coverage::Short,
            None => Coverage::Whole,
            Some(_) if tail == tail_before => Coverage::WholeWithTail,
            Some(_) => Coverage::Unterminated,
        }
    }

    /// Finishes the log. An unterminated line becomes a line if it certainly is the container's.
    pub(super) fn finish(&mut self, is_complete: bool) {
        self.position.end(is_complete);
        let text_at = stamp::split(self.framer.in_flight()).map_or(0, |(_, at)| at);
        let is_certain = is_complete || !self.is_tail_suspect;
        if is_certain && self.framer.in_flight().len() > text_at {
            let mut framer = std::mem::replace(&mut self.framer, Framer::new(self.limits));
            framer.flush(|frame| self.on_frame(frame, 0));
            self.flush_batch();
        }
        if is_complete && self.position.counted().is_some_and(Counted::is_loss_suspected) {
            self.report_gap(None, ROTATED);
        }
    }

    /// Returns whether control lines count this log.
    pub(super) fn is_counted(&self) -> bool {
        self.position.counted().is_some()
    }

    /// Returns whether the last control line was read, so that nothing follows.
    pub(super) fn is_at_end(&self) -> bool {
        self.position.counted().is_some_and(|counted| counted.exit_code().is_some())
    }

    /// Reports a text of the server that is not a line, unless it repeats the last one.
    pub(super) fn diagnose(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(whole_characters_before(text, MAX_DIAGNOSTIC_BYTES)).into_owned();
        if !text.trim().is_empty() && self.last_diagnostic.as_ref() != Some(&text) {
            self.last_diagnostic = Some(text.clone());
            self.outputs.push_back((LogOutput::Diagnostic(text), None));
        }
    }

    /// Returns the outputs since the last call, and whether new lines are among them.
    pub(super) fn take_outputs(&mut self) -> (VecDeque<PositionedOutput>, bool) {
        (std::mem::take(&mut self.outputs), std::mem::take(&mut self.has_new_lines))
    }

    /// Allows the next diagnostic to repeat the last one.
    pub(super) fn forget_diagnostic(&mut self) {
        self.last_diagnostic = None;
    }

    pub(super) fn position(&self) -> &Position {
        &self.position
    }

    /// Returns whether lines arrive late, so that the stream has more than it has delivered.
    pub(super) fn is_lagging(&self) -> bool {
        self.bursts.is_lagging()
    }

    fn on_frame(&mut self, frame: Frame<'_>, line_feed_bytes: u64) {
        match frame {
            Frame::Whole(line) => match stamp::split(line) {
                Some((stamp, at)) => self.on_line(stamp, &line[at..], line_feed_bytes),
                None => self.on_text(line),
            },
            Frame::Cut(cut) => match cut.stamp {
                Some(stamp) => self.on_cut(stamp, &cut, line_feed_bytes),
                None => self.on_text(&cut.head),
            },
        }
    }

    fn on_line(&mut self, stamp: Stamp, text: &[u8], line_feed_bytes: u64) {
        let Rejoined { text, continuations, chunks } = chunks::rejoin(stamp, text, self.position.chunks());
        if chunks != Chunks::Unknown {
            self.position.set_chunks(chunks);
        }
        let hash = line_hash(stamp, &text);
        if self.is_new(stamp, hash) {
            let bytes = text.len() as u64 + line_feed_bytes;
            match self.parse(&text, line_feed_bytes) {
                Parsed::Output => {}
                Parsed::Control(control) => {
                    return self.on_control(&control, Entry { stamp, hash, bytes, continuations });
                }
                Parsed::Torn => return self.skip(Entry { stamp, hash, bytes, continuations }),
            }
            if let Some(counted) = self.position.counted_mut() {
                counted.add_line(&text);
            }
            // The remainder of a log that was not read to its end is the first part of a line.
            let is_torn = self.position.ended() == Some(false);
            self.push(Entry { stamp, hash, bytes, continuations }, text.len(), || {
                if is_torn { Line::Torn(to_text(text)) } else { Line::Whole(to_text(text)) }
            });
        }
    }

    fn on_cut(&mut self, stamp: Stamp, cut: &CutFrame, line_feed_bytes: u64) {
        if self.is_new(stamp, cut.hash) {
            let entry = Entry {
                stamp,
                hash: cut.hash,
                bytes: cut.bytes + line_feed_bytes,
                continuations: Vec::new(),
            };
            if self.parse(&cut.head, line_feed_bytes) != Parsed::Output {
                return self.skip(entry);
            }
            if let Some(counted) = self.position.counted_mut() {
                counted.add_cut_line(entry.bytes);
            }
            self.push(entry, cut.head.len() + cut.tail.len(), || Line::Cut {
                head: to_text(Cow::Borrowed(whole_characters_before(&cut.head, cut.head.len()))),
                tail: to_text(Cow::Borrowed(whole_characters_after(&cut.tail))),
                bytes: cut.bytes,
            });
        }
    }

    /// Returns what a line is. The first bytes of a control line are none of the agent's.
    fn parse(&self, text: &[u8], line_feed_bytes: u64) -> Parsed {
        let Some(prefix) = &self.control_prefix else { return Parsed::Output };
        let is_cut_prefix = line_feed_bytes == 0
            && !text.is_empty()
            && self.is_counted()
            && prefix.as_bytes().starts_with(text);
        if is_cut_prefix { Parsed::Torn } else { control_lines::parse(prefix, text) }
    }

    fn on_control(&mut self, control: &ControlLine, entry: Entry) {
        let loss = self.position.start_counting().compare(control);
        if loss.is_some() {
            self.flush_batch();
        }
        self.skip(entry);
        if let Some(Loss { lines, bytes }) = loss {
            let reason = match (lines, bytes) {
                (0, 0) => "lines since the previous count differ from those that the agent printed",
                (0, _) => "a line since the previous count is incomplete",
                _ => "the log was rotated before it was read, within the lines since the previous count",
            };
            let gap = LogOutput::Gap {
                lost_lines: Some(lines),
                lost_bytes: Some(bytes),
                reason: reason.to_owned(),
            };
            self.outputs.push_back((gap, Some(self.position.clone())));
        }
    }

    /// Adds a line to the position that is not delivered.
    fn skip(&mut self, entry: Entry) {
        self.has_new_lines = true;
        self.position.push_undelivered(entry);
    }

    fn on_text(&mut self, text: &[u8]) {
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
        let verdict = replay.classify(stamp, hash);
        match verdict {
            Verdict::Known => return false,
            Verdict::LastKnown | Verdict::New => {}
            Verdict::NewAfterGap { lost_lines } => self.infer_gap(lost_lines, ROTATED),
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
        if self.bursts.on_line(self.now, entry.stamp, entry.bytes) {
            let reason = "the container printed faster than its log could be read: files of it may have been rotated away, and the line before this may join the start of one line with the end of another";
            self.infer_gap(None, reason);
        }
        self.batch.push(line());
        self.batch_bytes += line_bytes;
        self.has_new_lines = true;
        self.position.push(entry);
    }

    /// Reports that output is probably lost, unless control lines say so exactly.
    fn infer_gap(&mut self, lost_lines: Option<u64>, reason: &str) {
        match (self.position.counted_mut(), &self.control_prefix) {
            (Some(counted), _) => counted.suspect_loss(),
            // The first control line counts what was lost before it.
            (None, Some(_)) => self.report_gap(None, reason),
            (None, None) => self.report_gap(lost_lines, reason),
        }
    }

    /// Reports that output is lost between the lines so far and those that follow.
    fn report_gap(&mut self, lost_lines: Option<u64>, reason: &str) {
        self.flush_batch();
        let gap = LogOutput::Gap { lost_lines, lost_bytes: None, reason: reason.to_owned() };
        self.outputs.push_back((gap, None));
    }

    fn flush_batch(&mut self) {
        if !self.batch.is_empty() {
            let lines = std::mem::take(&mut self.batch);
            self.batch_bytes = 0;
            self.outputs.push_back((LogOutput::Lines(lines), Some(self.position.clone())));
        }
    }
}

/// Returns the text with U+FFFD in place of invalid UTF-8. The line is whole, so no character is cut (D31).
fn to_text(bytes: Cow<'_, [u8]>) -> String {
    match bytes {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Cow::Owned(bytes) => String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}

/// Returns at most `limit` bytes from the start, without a character that is cut at the end.
fn whole_characters_before(text: &[u8], limit: usize) -> &[u8] {
    let text = &text[..text.len().min(limit)];
    match text.utf8_chunks().last() {
        Some(last) if is_cut_character(last.invalid()) => &text[..text.len() - last.invalid().len()],
        Some(_) | None => text,
    }
}

/// Returns the text without the rest of a character that is cut at the start.
fn whole_characters_after(text: &[u8]) -> &[u8] {
    let rest = text.iter().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
    &text[rest..]
}

/// Returns whether these last bytes are the start of a character.
fn is_cut_character(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|byte| *byte >= 0xc2)
}
