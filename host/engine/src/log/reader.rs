//! The state machine of one log: when to read, from where, and when it has ended.

use super::assembler::{Assembler, Coverage, Told};
use super::position::Position;
use super::{ContainerSeen, LogEnd, LogLimits, LogOutput, LogRequest};
use crate::backoff;
use crate::time::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

/// The first wait before a stream is opened again. Doubles up to [`RETRY_CAP`], starts from the first again with progress.
pub const RETRY_BASE: Duration = Duration::from_millis(200);
/// The longest wait before a stream is opened again: an API server comes back without notice.
pub const RETRY_CAP: Duration = Duration::from_millis(1_600);
/// Added after a clean end: mostly the container has ended, and the watch tells it within this time.
pub const CLEAN_END_WAIT: Duration = Duration::from_millis(500);
/// The wait before a container that is known to wait is asked again. Its state comes by the watch; this is for a lost watch.
pub const WAITING_RETRY: Duration = Duration::from_secs(30);
/// A stream that stays open for so long has resumed even if nothing is printed.
pub const ESTABLISHED_AFTER: Duration = Duration::from_secs(2);
/// A stream that brings nothing for so long may be half open and is opened anew (rule 12).
pub const SILENCE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// The longest time for the server to answer, and between two pieces of a read that does not follow.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A stream that has brought nothing for so long after its container terminated, has brought what it has: the last read may begin.
/// Before that the read could be of a file that has been rotated under the stream.
pub const QUIET_PERIOD: Duration = Duration::from_millis(60);
/// The same for a stream whose lines come late: a node that is busy pauses longer, and what it has not read yet is in no file that a
/// last read gets. It ends by itself a second after it has brought all.
pub const LAGGING_QUIET_PERIOD: Duration = Duration::from_secs(5);
/// How long an open stream may go on after its Pod is gone.
pub const DELETED_DRAIN: Duration = Duration::from_secs(2);
/// How long an open stream of a container that terminated is heard out, where a read in its place may find nothing: it ends by
/// itself a second later.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// A log of so many bytes may have been rotated after its last line. The kubelet rotates at 10 MiB where it is not told otherwise.
pub const ROTATION_BYTES: u64 = 512 << 10;
/// Last reads that break in a row before the rest is given up: about 25 s.
pub const MAX_BROKEN_READS: u32 = 20;
/// Last reads in a row that are refused, or end before they hold what is known, before the rest is given up.
pub const MAX_SHORT_READS: u32 = 4;

/// Reads the log of one container incarnation: one (Pod UID, container, restart count).
///
/// After each call [`LogReader::poll`] is to be called until it returns none. Times are of any clock that does not go back.
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
        terminated_at: Timestamp,
    },
    /// The container terminated, and its Pod is about to go: the open stream is heard out.
    Leaving {
        until: Timestamp,
    },
    /// The Pod is gone, or another container has taken its place; the open stream may go on until then.
    Draining {
        until: Timestamp,
    },
    /// The container terminated: plain reads until one holds all.
    Finishing {
        is_gone: bool,
    },
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Idle { open_at: Timestamp },
    Opening { since: Option<Timestamp> },
    Open { since: Timestamp, last_activity: Timestamp },
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

/// Until when an answer to an opening is awaited; at once where it is not known since when it is.
fn answer_deadline(since: Option<Timestamp>) -> Timestamp {
    since.map_or(Timestamp::EPOCH, |since| since + ANSWER_TIMEOUT)
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
            link: Link::Idle { open_at: Timestamp::EPOCH },
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
    pub fn on_opened(&mut self, now: Timestamp) {
        if let Link::Opening { .. } = self.link {
            self.link = Link::Open { since: now, last_activity: now };
            self.assembler.begin_stream();
            if self.is_follow() {
                self.retry.was_whole = false;
            }
        }
    }

    /// The stream brought these bytes.
    pub fn on_bytes(&mut self, now: Timestamp, bytes: &[u8]) {
        if let Link::Open { last_activity, .. } = &mut self.link {
            *last_activity = now;
            self.assembler.feed(now, bytes);
            self.drain_assembler();
        }
    }

    /// The stream ended, or could not be opened. Nothing of a stream counts any more after [`LogOutput::Close`].
    pub fn on_closed(&mut self, now: Timestamp, end: LogEnd) {
        let was_open = match self.link {
            Link::Idle { .. } => return,
            Link::Opening { .. } => false,
            Link::Open { .. } => true,
        };
        let coverage = if was_open { self.end_stream(end == LogEnd::Clean) } else { Coverage::Short };
        match self.stage {
            Stage::Following => self.break_off(now, end, coverage),
            Stage::Winding { .. } => {
                self.begin_last_read(now, false);
                self.retry.was_heard_out = end == LogEnd::Clean && coverage == Coverage::Whole;
            }
            Stage::Leaving { .. } if end == LogEnd::Clean && coverage == Coverage::Whole => self.end(true),
            Stage::Leaving { .. } => self.begin_last_read(now, false),
            Stage::Draining { .. } => {
                let is_whole = end == LogEnd::Clean && coverage == Coverage::Whole;
                self.end(is_whole && self.container != Some(ContainerSeen::Replaced));
            }
            Stage::Finishing { is_gone } => self.end_read(now, end, coverage, is_gone),
            Stage::Ended => {}
        }
    }

    /// The container's state was observed. States may be missed and repeated.
    pub fn on_container(&mut self, now: Timestamp, seen: ContainerSeen) {
        let before = self.container.replace(seen);
        match self.stage {
            Stage::Following => self.on_container_followed(now, seen, before),
            Stage::Winding { .. } => match seen {
                ContainerSeen::Gone | ContainerSeen::Replaced => self.drain(now),
                ContainerSeen::Leaving => self.stage = Stage::Leaving { until: now + DRAIN_TIMEOUT },
                ContainerSeen::Waiting | ContainerSeen::Running | ContainerSeen::Terminated => {}
            },
            Stage::Leaving { until } => {
                if let ContainerSeen::Gone | ContainerSeen::Replaced = seen {
                    self.stage = Stage::Draining { until };
                }
            }
            Stage::Draining { .. } => {
                if let ContainerSeen::Terminated | ContainerSeen::Leaving = seen {
                    self.begin_last_read(now, true);
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
    pub fn on_held(&mut self, now: Timestamp) {
        if let Link::Open { last_activity, .. } = &mut self.link {
            *last_activity = now;
        }
    }

    /// When [`LogReader::on_deadline`] is to be called next; [`Timestamp::EPOCH`] means at once.
    pub fn deadline(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::Following => Some(self.follow_deadline()),
            Stage::Winding { terminated_at } => Some(match self.link {
                Link::Open { last_activity, .. } => self.drained_at(last_activity, terminated_at),
                Link::Idle { .. } | Link::Opening { .. } => Timestamp::EPOCH,
            }),
            Stage::Leaving { until } => Some(until),
            Stage::Draining { until } => Some(until.min(self.follow_deadline())),
            Stage::Finishing { .. } => Some(match self.link {
                Link::Idle { open_at } => open_at,
                Link::Opening { since } => answer_deadline(since),
                Link::Open { last_activity, .. } => last_activity + ANSWER_TIMEOUT,
            }),
            Stage::Ended => None,
        }
    }

    /// Time has passed; harmless when called early.
    pub fn on_deadline(&mut self, now: Timestamp) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if let Stage::Winding { .. } | Stage::Leaving { .. } = self.stage {
            return self.begin_last_read(now, false);
        }
        if matches!(self.stage, Stage::Draining { until } if now >= until) {
            self.close();
            self.end_unread();
            return;
        }
        match self.link {
            Link::Idle { .. } => self.open(Some(now)),
            Link::Opening { since: None } => self.link = Link::Opening { since: Some(now) },
            Link::Opening { since: Some(_) } => self.give_up_stream(now),
            Link::Open { last_activity, .. } => match self.stage {
                Stage::Finishing { .. } => self.give_up_stream(now),
                Stage::Following
                | Stage::Winding { .. }
                | Stage::Leaving { .. }
                | Stage::Draining { .. }
                | Stage::Ended => {
                    self.on_quiet(now, now.since(last_activity));
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
        self.link = Link::Idle { open_at: Timestamp::EPOCH };
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

    fn open(&mut self, now: Option<Timestamp>) {
        if self.interruption == Interruption::Suspected {
            self.interrupt("the stream ended although the container runs".to_owned());
        }
        self.link = Link::Opening { since: now };
        let since_s = self.assembler.position().since_s();
        self.tell(LogOutput::Open(LogRequest { follow: self.is_follow(), since_s }));
    }

    fn is_follow(&self) -> bool {
        !matches!(self.stage, Stage::Finishing { .. })
    }

    fn open_later(&mut self, now: Timestamp, extra: Duration) {
        self.retry.attempt += 1;
        let Retry { seed, attempt, .. } = &mut self.retry;
        let wait = backoff::delay(seed, *attempt, RETRY_BASE, RETRY_CAP, None);
        self.link = Link::Idle { open_at: now + wait + extra };
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
        self.link = Link::Idle { open_at: Timestamp::EPOCH };
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
    fn drained_at(&self, last_activity: Timestamp, terminated_at: Timestamp) -> Timestamp {
        let quiet_at =
            last_activity + if self.assembler.is_behind() { LAGGING_QUIET_PERIOD } else { QUIET_PERIOD };
        if self.assembler.position().bytes() < ROTATION_BYTES {
            quiet_at
        } else {
            quiet_at.max(terminated_at + DRAIN_TIMEOUT)
        }
    }

    fn follow_deadline(&self) -> Timestamp {
        match self.link {
            Link::Idle { open_at } => open_at,
            Link::Opening { since } => answer_deadline(since),
            Link::Open { last_activity, .. } if self.is_established() => last_activity + SILENCE_TIMEOUT,
            Link::Open { since, last_activity } => {
                (since + ESTABLISHED_AFTER).min(last_activity + SILENCE_TIMEOUT)
            }
        }
    }

    fn on_container_followed(&mut self, now: Timestamp, seen: ContainerSeen, before: Option<ContainerSeen>) {
        match seen {
            ContainerSeen::Waiting => {
                if matches!(self.queue.back(), Some((LogOutput::Open(_), _))) {
                    self.close();
                    self.link = Link::Idle { open_at: now + WAITING_RETRY };
                }
            }
            ContainerSeen::Running => {
                if before != Some(ContainerSeen::Running) && self.is_idle() {
                    self.retry.attempt = 0;
                    self.open(Some(now));
                }
            }
            ContainerSeen::Terminated => match self.link {
                Link::Open { last_activity, .. } if now < self.drained_at(last_activity, now) => {
                    self.stage = Stage::Winding { terminated_at: now };
                }
                Link::Open { .. } | Link::Opening { .. } | Link::Idle { .. } => {
                    self.begin_last_read(now, false);
                }
            },
            ContainerSeen::Leaving => match self.link {
                Link::Open { .. } => self.stage = Stage::Leaving { until: now + DRAIN_TIMEOUT },
                Link::Opening { .. } | Link::Idle { .. } => self.begin_last_read(now, false),
            },
            ContainerSeen::Gone | ContainerSeen::Replaced => {
                self.drain(now);
                self.give_up_unless_open(seen);
            }
        }
    }

    /// No read can begin any more: what is open is heard for a while.
    fn drain(&mut self, now: Timestamp) {
        self.stage = Stage::Draining { until: now + DELETED_DRAIN };
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
    fn break_off(&mut self, now: Timestamp, end: LogEnd, coverage: Coverage) {
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
            self.link = Link::Idle { open_at: now + WAITING_RETRY };
        } else {
            self.open_later(now, if is_clean { CLEAN_END_WAIT } else { Duration::ZERO });
        }
    }

    fn refuse(&mut self, status: u16, message: &str) {
        let text = format!("the server refused the log with status {status}: {message}");
        self.assembler.diagnose(text.as_bytes());
        self.drain_assembler();
    }

    fn give_up_stream(&mut self, now: Timestamp) {
        self.tell(LogOutput::Close);
        self.on_closed(now, LogEnd::Broken(format!("nothing came for {} s", ANSWER_TIMEOUT.as_secs())));
    }

    fn on_quiet(&mut self, now: Timestamp, quiet: Duration) {
        if quiet < SILENCE_TIMEOUT {
            self.establish();
        } else {
            self.close();
            self.open(Some(now));
        }
    }

    /// The container terminated. One plain read from here on holds all; the follow's own end comes a second later (rule 13).
    fn begin_last_read(&mut self, now: Timestamp, is_gone: bool) {
        self.close();
        if self.interruption == Interruption::Suspected {
            self.interruption = Interruption::None;
        }
        self.stage = Stage::Finishing { is_gone };
        self.retry.attempt = 0;
        self.open(Some(now));
    }

    /// A last read ended, or could not be begun.
    fn end_read(&mut self, now: Timestamp, end: LogEnd, coverage: Coverage, is_gone: bool) {
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
            self.open_later(now, Duration::ZERO);
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
        self.link = Link::Idle { open_at: Timestamp::EPOCH };
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
