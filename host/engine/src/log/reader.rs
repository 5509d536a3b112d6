//! The state machine of one log: when to read, from where, and when it has ended.

use std::collections::VecDeque;

use super::assembler::{Assembler, Coverage, Told};
use super::position::Position;
use super::{ContainerSeen, LogEnd, LogLimits, LogOutput, LogRequest};
use crate::backoff;

/// The first wait before a stream is opened again, in ms. Doubles up to [`RETRY_CAP_MS`], begins anew with progress.
pub const RETRY_BASE_MS: u64 = 200;
/// The longest wait before a stream is opened again, in ms: an API server comes back without notice.
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
/// A stream that has brought nothing for so long, in ms, after its container terminated, has brought what it has: the last read may begin.
/// Before that the read could be of a file that has been rotated under the stream.
pub const WIND_MS: u64 = 60;
/// The same for a stream whose lines come late, in ms: a node that is busy pauses longer, and what it has not read yet is in no file that a
/// last read gets. It ends by itself a second after it has brought all.
pub const WIND_BEHIND_MS: u64 = 5_000;
/// How long an open stream may go on after its Pod is gone, in ms.
pub const GONE_DRAIN_MS: u64 = 2_000;
/// How long an open stream of a container that terminated is heard out, in ms, where a read in its place may find nothing: it ends by
/// itself a second later.
pub const HEAR_OUT_MS: u64 = 2_000;
/// A log of so many bytes may have been rotated after its last line. The kubelet rotates at 10 MiB where it is not told otherwise.
pub const ROTATION_BYTES: u64 = 512 << 10;
/// Last reads that break in a row before the rest is given up: about 25 s.
pub const MAX_BROKEN_READS: u32 = 20;
/// Last reads in a row that are refused, or end before they hold what is known, before the rest is given up.
pub const MAX_SHORT_READS: u32 = 4;

/// Reads the log of one container incarnation: one (Pod UID, container, restart count).
///
/// After each call [`LogReader::poll`] is to be called until it returns none. Times are milliseconds of any clock that does not go back.
pub struct LogReader {
    stage: Stage,
    link: Link,
    container: Option<ContainerSeen>,
    assembler: Assembler,
    /// After the last line that was polled.
    delivered: Position,
    queue: VecDeque<Told>,
    retry: Retry,
    interruption: Interruption,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Following,
    /// The container terminated while its stream was still bringing lines, or before it is known whether it has brought the last.
    Winding {
        terminated_ms: u64,
    },
    /// The container terminated, and its Pod is about to go: the open stream is heard out.
    Leaving {
        until_ms: u64,
    },
    /// The Pod is gone, or another container has taken its place; the open stream may go on until then.
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
    Open { since_ms: u64, heard_ms: u64 },
}

#[derive(Debug)]
struct Retry {
    seed: u64,
    /// Openings in a row without progress.
    attempt: u32,
    broken_reads: u32,
    short_reads: u32,
    /// The last follow ended cleanly and held all that is known, and nothing has come since: it may have brought the log's end.
    was_whole: bool,
    /// The same of a follow that ended after its container: it has brought the log's end.
    was_heard_out: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Interruption {
    None,
    /// To be told when the stream is opened again, unless the container's end explains it.
    Suspected,
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
            stage: Stage::Following,
            link: Link::Idle { open_at_ms: 0 },
            container: None,
            delivered: saved.clone(),
            queue: VecDeque::new(),
            retry: Retry {
                seed,
                attempt: 0,
                broken_reads: 0,
                short_reads: 0,
                was_whole: false,
                was_heard_out: false,
            },
            interruption: Interruption::None,
            assembler: Assembler::new(saved, limits),
        };
        match reader.delivered.ended() {
            Some(is_complete) => reader.end(is_complete),
            None => reader.open(None),
        }
        reader
    }

    /// The server accepted the request.
    pub fn on_opened(&mut self, now_ms: u64) {
        if let Link::Opening { .. } = self.link {
            self.link = Link::Open { since_ms: now_ms, heard_ms: now_ms };
            self.assembler.begin_stream();
            if self.is_follow() {
                self.retry.was_whole = false;
            }
        }
    }

    /// The stream brought these bytes.
    pub fn on_bytes(&mut self, now_ms: u64, bytes: &[u8]) {
        if let Link::Open { heard_ms, .. } = &mut self.link {
            *heard_ms = now_ms;
            self.assembler.feed(now_ms, bytes);
            self.drain_assembler();
        }
    }

    /// The stream ended, or could not be opened. Nothing of a stream counts any more after [`LogOutput::Close`].
    pub fn on_closed(&mut self, now_ms: u64, end: LogEnd) {
        let was_open = match self.link {
            Link::Idle { .. } => return,
            Link::Opening { .. } => false,
            Link::Open { .. } => true,
        };
        let coverage = if was_open { self.end_stream(end == LogEnd::Clean) } else { Coverage::Short };
        match self.stage {
            Stage::Following => self.break_off(now_ms, end, coverage),
            Stage::Winding { .. } => {
                self.begin_last_read(now_ms, false);
                self.retry.was_heard_out = end == LogEnd::Clean && coverage == Coverage::Whole;
            }
            Stage::Leaving { .. } if end == LogEnd::Clean && coverage == Coverage::Whole => self.end(true),
            Stage::Leaving { .. } => self.begin_last_read(now_ms, false),
            Stage::Draining { .. } => {
                let is_whole = end == LogEnd::Clean && coverage == Coverage::Whole;
                self.end(is_whole && self.container != Some(ContainerSeen::Replaced));
            }
            Stage::Finishing { is_gone } => self.end_read(now_ms, end, coverage, is_gone),
            Stage::Ended => {}
        }
    }

    /// The container's state was observed. States may be missed and repeated.
    pub fn on_container(&mut self, now_ms: u64, seen: ContainerSeen) {
        let before = self.container.replace(seen);
        match self.stage {
            Stage::Following => self.on_container_followed(now_ms, seen, before),
            Stage::Winding { .. } => match seen {
                ContainerSeen::Gone | ContainerSeen::Replaced => self.drain(now_ms),
                ContainerSeen::Leaving => self.stage = Stage::Leaving { until_ms: now_ms + HEAR_OUT_MS },
                ContainerSeen::Waiting | ContainerSeen::Running | ContainerSeen::Terminated => {}
            },
            Stage::Leaving { until_ms } => {
                if let ContainerSeen::Gone | ContainerSeen::Replaced = seen {
                    self.stage = Stage::Draining { until_ms };
                }
            }
            Stage::Draining { .. } => {
                if let ContainerSeen::Terminated | ContainerSeen::Leaving = seen {
                    self.begin_last_read(now_ms, true);
                }
            }
            Stage::Finishing { .. } => {
                if let ContainerSeen::Gone | ContainerSeen::Replaced = seen {
                    self.stage = Stage::Finishing { is_gone: true };
                    self.give_up_unless_open(seen);
                }
            }
            Stage::Ended => {}
        }
    }

    /// Bytes of the stream wait in this process to be taken: its silence is not the server's.
    pub fn on_held(&mut self, now_ms: u64) {
        if let Link::Open { heard_ms, .. } = &mut self.link {
            *heard_ms = now_ms;
        }
    }

    /// When [`LogReader::on_deadline`] is to be called next; 0 means at once.
    pub fn deadline_ms(&self) -> Option<u64> {
        match self.stage {
            Stage::Following => Some(self.follow_deadline_ms()),
            Stage::Winding { terminated_ms } => Some(match self.link {
                Link::Open { heard_ms, .. } => self.wind_until_ms(heard_ms, terminated_ms),
                Link::Idle { .. } | Link::Opening { .. } => 0,
            }),
            Stage::Leaving { until_ms } => Some(until_ms),
            Stage::Draining { until_ms } => Some(until_ms.min(self.follow_deadline_ms())),
            Stage::Finishing { .. } => Some(match self.link {
                Link::Idle { open_at_ms } => open_at_ms,
                Link::Opening { since_ms } => since_ms.map_or(0, |since_ms| since_ms + ANSWER_MS),
                Link::Open { heard_ms, .. } => heard_ms + ANSWER_MS,
            }),
            Stage::Ended => None,
        }
    }

    /// Time has passed; harmless when called early.
    pub fn on_deadline(&mut self, now_ms: u64) {
        if self.deadline_ms().is_none_or(|deadline_ms| now_ms < deadline_ms) {
            return;
        }
        if let Stage::Winding { .. } | Stage::Leaving { .. } = self.stage {
            return self.begin_last_read(now_ms, false);
        }
        if matches!(self.stage, Stage::Draining { until_ms } if now_ms >= until_ms) {
            self.close();
            self.end_unread();
            return;
        }
        match self.link {
            Link::Idle { .. } => self.open(Some(now_ms)),
            Link::Opening { since_ms: None } => self.link = Link::Opening { since_ms: Some(now_ms) },
            Link::Opening { since_ms: Some(_) } => self.give_up_stream(now_ms),
            Link::Open { heard_ms, .. } => match self.stage {
                Stage::Finishing { .. } => self.give_up_stream(now_ms),
                Stage::Following
                | Stage::Winding { .. }
                | Stage::Leaving { .. }
                | Stage::Draining { .. }
                | Stage::Ended => {
                    self.on_quiet(now_ms, now_ms - heard_ms);
                }
            },
        }
    }

    /// Nobody wants the log any more: nothing comes but, if a stream is open, the wish to close it.
    pub fn stop(&mut self) {
        let was_opening = matches!(self.queue.back(), Some((LogOutput::Open(_), _)));
        self.queue.clear();
        if !self.is_idle() && !was_opening {
            self.tell(LogOutput::Close);
        }
        self.link = Link::Idle { open_at_ms: 0 };
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

    fn open(&mut self, now_ms: Option<u64>) {
        if self.interruption == Interruption::Suspected {
            self.interrupt("the stream ended although the container runs".to_owned());
        }
        self.link = Link::Opening { since_ms: now_ms };
        let since_s = self.assembler.position().since_s();
        self.tell(LogOutput::Open(LogRequest { follow: self.is_follow(), since_s }));
    }

    fn is_follow(&self) -> bool {
        !matches!(self.stage, Stage::Finishing { .. })
    }

    fn open_later(&mut self, now_ms: u64, extra_ms: u64) {
        self.retry.attempt += 1;
        let Retry { seed, attempt, .. } = &mut self.retry;
        let wait_ms = backoff::delay_ms(seed, *attempt, RETRY_BASE_MS, RETRY_CAP_MS, None);
        self.link = Link::Idle { open_at_ms: now_ms + wait_ms + extra_ms };
    }

    /// Drops the stream, or takes the wish to open it back.
    fn close(&mut self) {
        match self.link {
            Link::Idle { .. } => return,
            Link::Opening { .. } if matches!(self.queue.back(), Some((LogOutput::Open(_), _))) => {
                self.queue.pop_back();
            }
            Link::Opening { .. } => self.tell(LogOutput::Close),
            Link::Open { .. } => {
                self.end_stream(false);
                self.tell(LogOutput::Close);
            }
        }
        self.link = Link::Idle { open_at_ms: 0 };
    }

    fn end_stream(&mut self, is_clean: bool) -> Coverage {
        let coverage = self.assembler.end_stream(is_clean);
        self.drain_assembler();
        coverage
    }

    fn drain_assembler(&mut self) {
        let (told, has_news) = self.assembler.take_told();
        if has_news {
            self.retry.was_whole = false;
            self.establish();
        }
        self.queue.extend(told);
    }

    /// The connection works: nothing is left of earlier trouble.
    fn establish(&mut self) {
        self.retry.attempt = 0;
        self.retry.broken_reads = 0;
        self.retry.short_reads = 0;
        self.assembler.forget_diagnostic();
        if std::mem::replace(&mut self.interruption, Interruption::None) == Interruption::Told {
            self.tell(LogOutput::Resumed);
        }
    }

    fn is_established(&self) -> bool {
        self.retry.attempt == 0 && self.interruption == Interruption::None
    }

    fn interrupt(&mut self, reason: String) {
        if self.interruption != Interruption::Told {
            self.interruption = Interruption::Told;
            self.tell(LogOutput::Interrupted { reason });
        }
    }

    /// Until when the stream of a container that has terminated is heard, if it brings nothing more.
    fn wind_until_ms(&self, heard_ms: u64, terminated_ms: u64) -> u64 {
        let quiet_ms = heard_ms + if self.assembler.is_behind() { WIND_BEHIND_MS } else { WIND_MS };
        if self.assembler.position().bytes() < ROTATION_BYTES {
            quiet_ms
        } else {
            quiet_ms.max(terminated_ms + HEAR_OUT_MS)
        }
    }

    fn follow_deadline_ms(&self) -> u64 {
        match self.link {
            Link::Idle { open_at_ms } => open_at_ms,
            Link::Opening { since_ms } => since_ms.map_or(0, |since_ms| since_ms + ANSWER_MS),
            Link::Open { heard_ms, .. } if self.is_established() => heard_ms + SILENT_MS,
            Link::Open { since_ms, heard_ms } => (since_ms + STAY_MS).min(heard_ms + SILENT_MS),
        }
    }

    fn on_container_followed(&mut self, now_ms: u64, seen: ContainerSeen, before: Option<ContainerSeen>) {
        match seen {
            ContainerSeen::Waiting => {
                if matches!(self.queue.back(), Some((LogOutput::Open(_), _))) {
                    self.close();
                    self.link = Link::Idle { open_at_ms: now_ms + WAITING_RETRY_MS };
                }
            }
            ContainerSeen::Running => {
                if before != Some(ContainerSeen::Running) && self.is_idle() {
                    self.retry.attempt = 0;
                    self.open(Some(now_ms));
                }
            }
            ContainerSeen::Terminated => match self.link {
                Link::Open { heard_ms, .. } if now_ms < self.wind_until_ms(heard_ms, now_ms) => {
                    self.stage = Stage::Winding { terminated_ms: now_ms };
                }
                Link::Open { .. } | Link::Opening { .. } | Link::Idle { .. } => {
                    self.begin_last_read(now_ms, false);
                }
            },
            ContainerSeen::Leaving => match self.link {
                Link::Open { .. } => self.stage = Stage::Leaving { until_ms: now_ms + HEAR_OUT_MS },
                Link::Opening { .. } | Link::Idle { .. } => self.begin_last_read(now_ms, false),
            },
            ContainerSeen::Gone | ContainerSeen::Replaced => {
                self.drain(now_ms);
                self.give_up_unless_open(seen);
            }
        }
    }

    /// No read can begin any more: what is open is heard for a while.
    fn drain(&mut self, now_ms: u64) {
        self.stage = Stage::Draining { until_ms: now_ms + GONE_DRAIN_MS };
    }

    /// Ends the log if nothing more can come: of another container's log not even an answer to what was asked already.
    fn give_up_unless_open(&mut self, seen: ContainerSeen) {
        match self.link {
            Link::Open { .. } => {}
            Link::Opening { .. } if seen == ContainerSeen::Gone => {}
            Link::Opening { .. } | Link::Idle { .. } => {
                self.close();
                self.end_unread();
            }
        }
    }

    /// A follow ended, or could not be opened, and the container is not known to have terminated (rule 8).
    fn break_off(&mut self, now_ms: u64, end: LogEnd, coverage: Coverage) {
        let is_running = self.container == Some(ContainerSeen::Running);
        let is_clean = end == LogEnd::Clean;
        self.retry.was_whole = is_clean && coverage == Coverage::Whole;
        match end {
            LogEnd::Clean if is_running && self.interruption == Interruption::None => {
                self.interruption = Interruption::Suspected;
            }
            LogEnd::Broken(reason) if is_running => self.interrupt(reason),
            LogEnd::Clean | LogEnd::Broken(_) => {}
            LogEnd::Refused { status, message } => self.refuse(status, &message),
        }
        if self.container == Some(ContainerSeen::Waiting) {
            self.link = Link::Idle { open_at_ms: now_ms + WAITING_RETRY_MS };
        } else {
            self.open_later(now_ms, if is_clean { CLEAN_END_MS } else { 0 });
        }
    }

    fn refuse(&mut self, status: u16, message: &str) {
        let text = format!("the server refused the log with status {status}: {message}");
        self.assembler.diagnose(text.as_bytes());
        self.drain_assembler();
    }

    fn give_up_stream(&mut self, now_ms: u64) {
        self.tell(LogOutput::Close);
        self.on_closed(now_ms, LogEnd::Broken(format!("nothing came for {} s", ANSWER_MS / 1000)));
    }

    fn on_quiet(&mut self, now_ms: u64, quiet_ms: u64) {
        if quiet_ms < SILENT_MS {
            self.establish();
        } else {
            self.close();
            self.open(Some(now_ms));
        }
    }

    /// The container terminated. One plain read from here on holds all; the follow's own end comes a second later (rule 13).
    fn begin_last_read(&mut self, now_ms: u64, is_gone: bool) {
        self.close();
        if self.interruption == Interruption::Suspected {
            self.interruption = Interruption::None;
        }
        self.stage = Stage::Finishing { is_gone };
        self.retry.attempt = 0;
        self.open(Some(now_ms));
    }

    /// A last read ended, or could not be begun.
    fn end_read(&mut self, now_ms: u64, end: LogEnd, coverage: Coverage, is_gone: bool) {
        match (end, coverage) {
            (LogEnd::Clean, Coverage::Whole | Coverage::WholeWithTail) => return self.end(true),
            // The file was rotated after the last line, which the follow has brought.
            (LogEnd::Clean, Coverage::Nothing) if self.retry.was_heard_out => return self.end(true),
            (LogEnd::Clean, Coverage::Unterminated | Coverage::Short | Coverage::Nothing) => {
                self.retry.short_reads += 1;
            }
            (LogEnd::Broken(_), _) => self.retry.broken_reads += 1,
            (LogEnd::Refused { status, message }, _) => {
                self.refuse(status, &message);
                if status == 429 || status >= 500 {
                    self.retry.broken_reads += 1;
                } else {
                    self.retry.short_reads += 1;
                }
            }
        }
        let is_hopeless =
            self.retry.broken_reads >= MAX_BROKEN_READS || self.retry.short_reads >= MAX_SHORT_READS;
        if is_gone || is_hopeless {
            self.end_unread();
        } else {
            self.open_later(now_ms, 0);
        }
    }

    /// No read of the end can be had any more. Where the Pod was on its way out, a follow that ended by itself right before has brought it;
    /// else such an end may have been the server's (rule 8).
    fn end_unread(&mut self) {
        let is_leaving = matches!(self.container, Some(ContainerSeen::Leaving | ContainerSeen::Gone));
        self.end(is_leaving && self.retry.was_whole);
    }

    fn end(&mut self, is_complete: bool) {
        self.stage = Stage::Ended;
        self.link = Link::Idle { open_at_ms: 0 };
        if !is_complete {
            // What is left of the last line is told, but nothing has resumed.
            self.interruption = Interruption::None;
        }
        self.assembler.finish(is_complete);
        self.drain_assembler();
        if !is_complete {
            let why = match self.container {
                Some(ContainerSeen::Gone) => "the pod was gone before its log was read to the end",
                Some(ContainerSeen::Replaced) => {
                    "the container was started anew: what it has printed since then is not read"
                }
                Some(
                    ContainerSeen::Waiting
                    | ContainerSeen::Running
                    | ContainerSeen::Terminated
                    | ContainerSeen::Leaving,
                )
                | None => {
                    "the end of the log could not be read: it was rotated away, or the node does not answer"
                }
            };
            self.tell(LogOutput::Gap { lost_lines: None, lost_bytes: None, reason: why.to_owned() });
        }
        let (lines, bytes) = (self.assembler.position().lines(), self.assembler.position().bytes());
        let position = Some(self.assembler.position().clone());
        self.queue.push_back((LogOutput::Ended { lines, bytes, is_complete }, position));
    }
}
