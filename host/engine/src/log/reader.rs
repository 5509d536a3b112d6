//! The state machine of one log: when to read, from where, and what of it is new.

use std::collections::VecDeque;

use super::batch::Batch;
use super::frame::{Frame, Framer, line_hash};
use super::position::{Entry, Position};
use super::replay::{Replay, Verdict};
use super::stamp;
use super::text::{self, Notices};
use super::{ContainerSeen, LogEnd, LogLimits, LogOutput, LogRequest};
use crate::backoff;

/// The first wait before a stream is opened again, in ms. Doubles up to [`RETRY_CAP_MS`], begins anew with progress.
pub const RETRY_BASE_MS: u64 = 200;
/// The longest wait before a stream is opened again, in ms: an outage of the API server ends without notice.
pub const RETRY_CAP_MS: u64 = 1_600;
/// Added after a clean end, in ms: mostly the container has ended, and the watch tells it within this time.
pub const CLEAN_END_MS: u64 = 500;
/// The wait before a container that is known to wait is asked again, in ms. Its state comes by the watch; this is for a lost watch.
pub const WAITING_RETRY_MS: u64 = 30_000;
/// A stream that stays open for so long, in ms, has resumed even if nothing is printed.
pub const STAY_MS: u64 = 2_000;
/// A stream that brings nothing for so long, in ms, may be half open and is opened anew (rule 12).
pub const SILENT_MS: u64 = 5 * 60_000;
/// The longest time for the server to answer, and between two pieces of a read that does not follow, in ms.
pub const ANSWER_MS: u64 = 30_000;
/// How long an open stream may go on after its Pod is gone, in ms.
pub const GONE_DRAIN_MS: u64 = 2_000;
/// Last reads that break in a row before the rest is given up: about 25 s.
pub const MAX_BROKEN_READS: u32 = 20;
/// Last reads in a row that the server ends or refuses although they do not hold what is known, before the rest is given up.
pub const MAX_SHORT_READS: u32 = 4;

/// Reads the log of one container incarnation: one (Pod UID, container, restart count).
///
/// After each call [`LogReader::poll`] is to be called until it returns none. Times are milliseconds of any clock that does not go back.
pub struct LogReader {
    limits: LogLimits,
    seed: u64,
    stage: Stage,
    link: Link,
    container: Option<ContainerSeen>,
    framer: Framer,
    /// What the stream in hand replays; none once that has come.
    replay: Option<Replay>,
    notices: Notices,
    batch: Batch,
    queue: VecDeque<(LogOutput, Option<Position>)>,
    /// After the last parsed line.
    position: Position,
    /// After the last line that was polled.
    delivered: Position,
    retry: Retry,
    interruption: Interruption,
    /// The last unterminated line that a stream ended with.
    tail_seen: Option<(u64, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Following,
    /// The Pod is gone; the stream may go on until then.
    Draining {
        until_ms: u64,
    },
    /// The container terminated: plain reads until one holds all.
    Finishing {
        is_gone: bool,
    },
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Idle { open_at_ms: u64 },
    Opening { since_ms: Option<u64> },
    Open { since_ms: u64, heard_ms: u64, is_fresh: bool },
}

#[derive(Debug, Default)]
struct Retry {
    /// Openings in a row without progress.
    attempt: u32,
    broken_reads: u32,
    short_reads: u32,
    /// The last stream ended cleanly.
    was_clean: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Interruption {
    None,
    /// To be told when the stream is opened again, unless the container's end explains it.
    Suspected(String),
    Told,
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader")
            .field("stage", &self.stage)
            .field("link", &self.link)
            .field("container", &self.container)
            .field("position", &self.delivered)
            .finish_non_exhaustive()
    }
}

impl LogReader {
    /// A reader from the log's beginning. It wants to open a stream at once.
    pub fn new(limits: LogLimits, seed: u64) -> Self {
        Self::resume(Position::default(), limits, seed)
    }

    /// A reader that goes on after the last line that an earlier one delivered.
    pub fn resume(saved: Position, limits: LogLimits, seed: u64) -> Self {
        let mut reader = Self {
            limits,
            seed,
            stage: Stage::Following,
            link: Link::Idle { open_at_ms: 0 },
            container: None,
            framer: Framer::new(limits),
            replay: None,
            notices: Notices::default(),
            batch: Batch::new(limits),
            queue: VecDeque::new(),
            delivered: saved.clone(),
            position: saved,
            retry: Retry::default(),
            interruption: Interruption::None,
            tail_seen: None,
        };
        reader.open(None);
        reader
    }

    /// The server accepted the request.
    pub fn on_opened(&mut self, now_ms: u64) {
        if let Link::Opening { .. } = self.link {
            self.link = Link::Open { since_ms: now_ms, heard_ms: now_ms, is_fresh: true };
            self.replay = self.position.mark().cloned().map(Replay::new);
        }
    }

    /// The stream brought these bytes.
    pub fn on_bytes(&mut self, now_ms: u64, bytes: &[u8]) {
        let Link::Open { heard_ms, is_fresh, .. } = &mut self.link else { return };
        *heard_ms = now_ms;
        if std::mem::take(is_fresh) {
            self.framer.clear();
        }
        let mut framer = std::mem::replace(&mut self.framer, Framer::new(self.limits));
        framer.feed(bytes, |frame| self.take_frame(&frame, true));
        self.framer = framer;
        self.flush_batch();
    }

    /// The stream ended, or could not be opened. Not to be called after [`LogOutput::Close`].
    pub fn on_closed(&mut self, now_ms: u64, end: LogEnd) {
        match (self.stage, self.link) {
            (Stage::Ended, _) | (_, Link::Idle { .. }) => {}
            (Stage::Following, Link::Opening { .. } | Link::Open { .. }) => {
                self.end_stream();
                self.break_off(now_ms, end);
            }
            (Stage::Draining { .. }, Link::Opening { .. } | Link::Open { .. }) => {
                self.end_stream();
                self.end(end == LogEnd::Clean && self.is_drained());
            }
            (Stage::Finishing { is_gone }, Link::Opening { .. } | Link::Open { .. }) => {
                let was_open = matches!(self.link, Link::Open { .. });
                self.finish_read(now_ms, end, was_open, is_gone);
            }
        }
    }

    /// The container's state was observed. States may be missed and repeated.
    pub fn on_container(&mut self, now_ms: u64, seen: ContainerSeen) {
        let before = self.container.replace(seen);
        match (self.stage, seen) {
            (Stage::Following, ContainerSeen::Waiting) => {}
            (Stage::Following, ContainerSeen::Running) => {
                if before != Some(ContainerSeen::Running) && self.is_idle() {
                    self.retry.attempt = 0;
                    self.open(Some(now_ms));
                }
            }
            (Stage::Following | Stage::Draining { .. }, ContainerSeen::Terminated) => {
                self.begin_finish(now_ms, matches!(self.stage, Stage::Draining { .. }));
            }
            (Stage::Following, ContainerSeen::Gone) if self.is_idle() => {
                self.end(self.retry.was_clean && self.is_drained());
            }
            (Stage::Following, ContainerSeen::Gone) => {
                self.stage = Stage::Draining { until_ms: now_ms + GONE_DRAIN_MS };
            }
            (Stage::Finishing { .. }, ContainerSeen::Gone) if self.is_idle() => self.end(false),
            (Stage::Finishing { .. }, ContainerSeen::Gone) => {
                self.stage = Stage::Finishing { is_gone: true };
            }
            (Stage::Draining { .. }, ContainerSeen::Waiting | ContainerSeen::Running | ContainerSeen::Gone)
            | (
                Stage::Finishing { .. },
                ContainerSeen::Waiting | ContainerSeen::Running | ContainerSeen::Terminated,
            )
            | (
                Stage::Ended,
                ContainerSeen::Waiting
                | ContainerSeen::Running
                | ContainerSeen::Terminated
                | ContainerSeen::Gone,
            ) => {}
        }
    }

    /// When [`LogReader::on_deadline`] is to be called next.
    pub fn deadline_ms(&self) -> Option<u64> {
        let of_link = match (self.stage, self.link) {
            (Stage::Ended, _) => return None,
            (_, Link::Idle { open_at_ms }) => open_at_ms,
            (_, Link::Opening { since_ms }) => since_ms.map_or(0, |since_ms| since_ms + ANSWER_MS),
            (Stage::Finishing { .. }, Link::Open { heard_ms, .. }) => heard_ms + ANSWER_MS,
            (Stage::Following | Stage::Draining { .. }, Link::Open { since_ms, heard_ms, .. }) => {
                let stays_at_ms = if self.is_established() { u64::MAX } else { since_ms + STAY_MS };
                stays_at_ms.min(heard_ms + SILENT_MS)
            }
        };
        match self.stage {
            Stage::Draining { until_ms } => Some(of_link.min(until_ms)),
            Stage::Following | Stage::Finishing { .. } | Stage::Ended => Some(of_link),
        }
    }

    /// Time has come; harmless when called early.
    pub fn on_deadline(&mut self, now_ms: u64) {
        if self.deadline_ms().is_none_or(|deadline_ms| now_ms < deadline_ms) {
            return;
        }
        if matches!(self.stage, Stage::Draining { until_ms } if now_ms >= until_ms) {
            self.close();
            self.end_stream();
            return self.end(false);
        }
        match self.link {
            Link::Idle { .. } => self.open(Some(now_ms)),
            Link::Opening { since_ms: None } => self.link = Link::Opening { since_ms: Some(now_ms) },
            Link::Opening { since_ms: Some(_) } => {
                self.give_up_stream(now_ms, format!("no answer for {} s", ANSWER_MS / 1000));
            }
            Link::Open { heard_ms, .. } => self.on_quiet(now_ms, now_ms - heard_ms),
        }
    }

    /// Nobody wants the log any more: nothing comes but, if a stream is open, the wish to close it.
    pub fn stop(&mut self) {
        self.queue.clear();
        self.batch = Batch::new(self.limits);
        if self.stage != Stage::Ended && !self.is_idle() {
            self.close();
        }
        self.stage = Stage::Ended;
    }

    /// The next thing to do or to tell.
    pub fn poll(&mut self) -> Option<LogOutput> {
        let (output, position) = self.queue.pop_front()?;
        if let Some(position) = position {
            self.delivered = position;
        }
        Some(output)
    }

    /// The place after the last line that was polled. To be saved when that line is safe.
    pub fn position(&self) -> &Position {
        &self.delivered
    }

    fn is_idle(&self) -> bool {
        matches!(self.link, Link::Idle { .. })
    }

    fn tell(&mut self, output: LogOutput) {
        self.queue.push_back((output, None));
    }

    fn close(&mut self) {
        self.tell(LogOutput::Close);
    }

    fn open(&mut self, now_ms: Option<u64>) {
        if let Interruption::Suspected(reason) = &mut self.interruption {
            let reason = std::mem::take(reason);
            self.interrupt(reason);
        }
        self.link = Link::Opening { since_ms: now_ms };
        let follow = !matches!(self.stage, Stage::Finishing { .. });
        self.tell(LogOutput::Open(LogRequest { follow, since_s: self.position.since_s() }));
    }

    fn open_later(&mut self, now_ms: u64, extra_ms: u64) {
        self.retry.attempt += 1;
        let wait_ms =
            backoff::delay_ms(&mut self.seed, self.retry.attempt, RETRY_BASE_MS, RETRY_CAP_MS, None);
        self.link = Link::Idle { open_at_ms: now_ms + wait_ms + extra_ms };
    }

    fn interrupt(&mut self, reason: String) {
        if self.interruption != Interruption::Told {
            self.interruption = Interruption::Told;
            self.tell(LogOutput::Interrupted { reason });
        }
    }

    /// Nothing is left of earlier trouble.
    fn is_established(&self) -> bool {
        self.retry.attempt == 0 && self.interruption == Interruption::None
    }

    fn establish(&mut self) {
        self.retry = Retry::default();
        self.notices.forget();
        if std::mem::replace(&mut self.interruption, Interruption::None) == Interruption::Told {
            self.tell(LogOutput::Resumed);
        }
    }

    /// Nothing more comes of the stream in hand. An unterminated line is kept: it may be all that is left (rule 1).
    fn end_stream(&mut self) {
        let had_stamp = stamp::split(self.framer.in_flight()).is_some();
        if let Some(headless) = self.notices.end_stream() {
            self.tell(LogOutput::Diagnostic(headless));
        }
        if !self.framer.is_empty() && !had_stamp && !stamp::is_cut(self.framer.in_flight()) {
            let notice = self.notices.notice(self.framer.in_flight());
            self.queue.extend(notice.map(|text| (LogOutput::Diagnostic(text), None)));
        }
        if !had_stamp || self.replay.is_some() {
            self.framer.clear();
        }
        self.tail_seen = (!self.framer.is_empty()).then(|| self.framer.fingerprint());
    }

    /// A follow ended while the container is not known to have terminated (rule 8).
    fn break_off(&mut self, now_ms: u64, end: LogEnd) {
        let was_open = matches!(self.link, Link::Open { .. });
        let is_running = self.container == Some(ContainerSeen::Running);
        self.retry.was_clean = was_open && end == LogEnd::Clean;
        match end {
            LogEnd::Clean => {
                if is_running && self.interruption == Interruption::None {
                    self.interruption = Interruption::Suspected("the stream ended".to_owned());
                }
            }
            LogEnd::Broken(reason) => {
                if is_running {
                    self.interrupt(reason);
                }
            }
            LogEnd::Refused { status, message } => self.refuse(status, &message),
        }
        if self.container == Some(ContainerSeen::Waiting) {
            self.link = Link::Idle { open_at_ms: now_ms + WAITING_RETRY_MS };
        } else {
            self.open_later(now_ms, if self.retry.was_clean { CLEAN_END_MS } else { 0 });
        }
    }

    fn refuse(&mut self, status: u16, message: &str) {
        let text = format!("the server refused the log with status {status}: {message}");
        let notice = self.notices.notice(text.as_bytes());
        self.queue.extend(notice.map(|text| (LogOutput::Diagnostic(text), None)));
    }

    fn give_up_stream(&mut self, now_ms: u64, reason: String) {
        self.close();
        self.on_closed(now_ms, LogEnd::Broken(reason));
    }

    fn on_quiet(&mut self, now_ms: u64, quiet_ms: u64) {
        if matches!(self.stage, Stage::Finishing { .. }) {
            return self.give_up_stream(now_ms, format!("nothing came for {} s", ANSWER_MS / 1000));
        }
        if quiet_ms < SILENT_MS {
            return self.establish();
        }
        self.close();
        self.end_stream();
        self.open(Some(now_ms));
    }

    /// The container terminated. One plain read from here on holds all: the follow's own end comes a second later (rule 13).
    fn begin_finish(&mut self, now_ms: u64, is_gone: bool) {
        if !self.is_idle() {
            self.close();
            self.end_stream();
        }
        if matches!(self.interruption, Interruption::Suspected(_)) {
            self.interruption = Interruption::None;
        }
        self.stage = Stage::Finishing { is_gone };
        self.retry.attempt = 0;
        self.open(Some(now_ms));
    }

    fn finish_read(&mut self, now_ms: u64, end: LogEnd, was_open: bool, is_gone: bool) {
        let tail_before = self.tail_seen;
        let is_known_tail = self.take_known_tail();
        self.end_stream();
        let is_proven = match end {
            LogEnd::Clean => {
                let is_whole_tail = is_known_tail || self.tail_seen.is_none() || self.tail_seen == tail_before;
                let is_proven = was_open && is_whole_tail && !self.notices.is_suspect() && self.is_caught_up();
                if !is_proven {
                    self.retry.short_reads += 1;
                }
                is_proven
            }
            LogEnd::Refused { status, message } => {
                self.refuse(status, &message);
                if status >= 500 || status == 429 {
                    self.retry.broken_reads += 1;
                } else {
                    self.retry.short_reads += 1;
                }
                false
            }
            LogEnd::Broken(_) => {
                self.retry.broken_reads += 1;
                false
            }
        };
        if is_proven {
            self.end(true);
        } else if is_gone
            || self.retry.broken_reads >= MAX_BROKEN_READS
            || self.retry.short_reads >= MAX_SHORT_READS
        {
            self.end(false);
        } else {
            self.open_later(now_ms, 0);
        }
    }
}
