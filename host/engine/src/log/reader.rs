//! The state machine of one log: when to read, from where, and when it has ended.

use super::assembler::{Assembler, Coverage, PositionedOutput};
use super::port::{ContainerSeen, LogEnd, LogLimits, LogOutput, LogRequest};
use super::position::Position;
use super::timing::{
    ANSWER_TIMEOUT, CLEAN_END_WAIT, DELETED_DRAIN, DRAIN_TIMEOUT, ESTABLISHED_AFTER, LAGGING_QUIET_PERIOD,
    MAX_BROKEN_READS, MAX_SHORT_READS, QUIET_PERIOD, RETRY_BASE, RETRY_CAP, ROTATION_BYTES, SILENCE_TIMEOUT,
    WAITING_RETRY,
};
use crate::backoff;
use crate::time::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

/// Reads the log of one container incarnation: one (Pod UID, container, restart count).
///
/// After each call, [`LogReader::poll`] has to be called until it returns `None`. Times are of any clock that does not go back.
pub struct LogReader {
    stage: Stage,
    link: Link,
    container: Option<ContainerSeen>,
    assembler: Assembler,
    /// After the last line that was polled.
    delivered: Position,
    queue: VecDeque<PositionedOutput>,
    retry: Retry,
    interruption: Interruption,
    /// The container ended by itself, so the last control line was written if there are any.
    has_exited: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Following,
    /// The container terminated, and its open stream has or may have more lines: they are read before the last read.
    Draining {
        terminated_at: Timestamp,
    },
    /// The container terminated, and its Pod is being deleted: the open stream is read to its end until then.
    PodTerminating {
        until: Timestamp,
    },
    /// The Pod was deleted or the container restarted, so that no read can start: the open stream is read until then.
    LastStream {
        until: Timestamp,
    },
    /// The container terminated: plain reads until one contains everything.
    LastRead {
        is_last_attempt: bool,
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
    /// Consecutive openings without progress.
    attempt: u32,
    broken_reads: u32,
    short_reads: u32,
    /// The last follow ended cleanly with everything known, and nothing has arrived since: it may contain the end of the log.
    was_whole: bool,
    /// The same of a follow that ended after its container: it contains the end of the log.
    was_drained: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Interruption {
    None,
    /// To be reported when the stream is opened again, unless the container's end explains it.
    Suspected,
    Reported,
}

/// Returns until when an answer to an opening is awaited; at once if its start is not known yet.
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
    /// Returns a reader from the start of the log. Its first output opens a stream.
    pub fn new(limits: LogLimits, seed: u64) -> Self {
        Self::resume(Position::default(), limits, seed)
    }

    /// Returns a reader that continues after the last line that an earlier one delivered.
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
                was_drained: false,
            },
            interruption: Interruption::None,
            has_exited: false,
            assembler: Assembler::new(saved, limits),
        };
        match reader.delivered.ended() {
            Some(is_complete) => reader.end(is_complete),
            None => reader.open(None),
        }
        reader
    }

    /// Expects control lines with this tag in the log.
    #[must_use]
    pub fn counted_by(mut self, tag: &str) -> Self {
        self.assembler.expect_control_lines(tag);
        self
    }

    /// Processes that the server accepted the request. `keeps_unread` means that it removes nothing that this stream has still to send,
    /// as a kubelet does when it rotates.
    pub fn on_opened(&mut self, now: Timestamp, keeps_unread: bool) {
        if let Link::Opening { .. } = self.link {
            self.link = Link::Open { since: now, last_activity: now };
            self.assembler.start_stream(keeps_unread);
            if self.is_follow() {
                self.retry.was_whole = false;
            }
        }
    }

    /// Processes bytes of the stream.
    pub fn on_bytes(&mut self, now: Timestamp, bytes: &[u8]) {
        if let Link::Open { last_activity, .. } = &mut self.link {
            *last_activity = now;
            self.assembler.feed(now, bytes);
            self.drain_assembler();
            self.end_if_counted();
        }
    }

    /// Processes that the container's process ended by itself: it was not killed.
    pub fn on_exited(&mut self) {
        self.has_exited = true;
    }

    /// Processes that the stream ended or could not be opened. After [`LogOutput::Close`], no input of that stream may be passed.
    pub fn on_closed(&mut self, now: Timestamp, end: LogEnd) {
        let was_open = match self.link {
            Link::Idle { .. } => return,
            Link::Opening { .. } => false,
            Link::Open { .. } => true,
        };
        let coverage = if was_open { self.end_stream(end == LogEnd::Clean) } else { Coverage::Short };
        match self.stage {
            Stage::Following => self.on_follow_ended(now, end, coverage),
            Stage::Draining { .. } => {
                self.start_last_read(now, false);
                self.retry.was_drained = end == LogEnd::Clean && coverage == Coverage::Whole;
            }
            Stage::PodTerminating { .. }
                if end == LogEnd::Clean && coverage == Coverage::Whole && !self.lacks_end() =>
            {
                self.end(true);
            }
            Stage::PodTerminating { .. } => self.start_last_read(now, false),
            Stage::LastStream { .. } => {
                let is_whole = end == LogEnd::Clean && coverage == Coverage::Whole && !self.lacks_end();
                self.end(is_whole && self.container != Some(ContainerSeen::Replaced));
            }
            Stage::LastRead { is_last_attempt } => {
                self.on_last_read_ended(now, end, coverage, is_last_attempt);
            }
            Stage::Ended => {}
        }
    }

    /// Processes an observed state of the container. States may be missed and repeated.
    pub fn on_container(&mut self, now: Timestamp, seen: ContainerSeen) {
        let before = self.container.replace(seen);
        self.end_if_counted();
        match self.stage {
            Stage::Following => self.on_container_followed(now, seen, before),
            Stage::Draining { .. } => match seen {
                ContainerSeen::PodDeleted | ContainerSeen::Replaced => self.read_last_stream(now),
                ContainerSeen::PodTerminating => {
                    self.stage = Stage::PodTerminating { until: now + DRAIN_TIMEOUT }
                }
                ContainerSeen::Waiting | ContainerSeen::Running | ContainerSeen::Terminated => {}
            },
            Stage::PodTerminating { until } => {
                if let ContainerSeen::PodDeleted | ContainerSeen::Replaced = seen {
                    self.stage = Stage::LastStream { until };
                }
            }
            Stage::LastStream { .. } => {
                if let ContainerSeen::Terminated | ContainerSeen::PodTerminating = seen {
                    self.start_last_read(now, true);
                }
            }
            Stage::LastRead { .. } => {
                if let ContainerSeen::PodDeleted | ContainerSeen::Replaced = seen {
                    self.stage = Stage::LastRead { is_last_attempt: true };
                    self.give_up_unless_open(seen);
                }
            }
            Stage::Ended => {}
        }
    }

    /// Processes that bytes of the stream wait in this process to be read: its silence is not the server's.
    pub fn on_held(&mut self, now: Timestamp) {
        if let Link::Open { last_activity, .. } = &mut self.link {
            *last_activity = now;
        }
    }

    /// Returns when [`LogReader::on_deadline`] is to be called next; [`Timestamp::EPOCH`] means at once.
    pub fn deadline(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::Following => Some(self.follow_deadline()),
            Stage::Draining { terminated_at } => Some(match self.link {
                Link::Open { last_activity, .. } => self.drained_at(last_activity, terminated_at),
                Link::Idle { .. } | Link::Opening { .. } => Timestamp::EPOCH,
            }),
            Stage::PodTerminating { until } => Some(until),
            Stage::LastStream { until } => Some(until.min(self.follow_deadline())),
            Stage::LastRead { .. } => Some(match self.link {
                Link::Idle { open_at } => open_at,
                Link::Opening { since } => answer_deadline(since),
                Link::Open { last_activity, .. } => last_activity + ANSWER_TIMEOUT,
            }),
            Stage::Ended => None,
        }
    }

    /// Processes that time has passed. An early call has no effect.
    pub fn on_deadline(&mut self, now: Timestamp) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if let Stage::Draining { .. } | Stage::PodTerminating { .. } = self.stage {
            return self.start_last_read(now, false);
        }
        if matches!(self.stage, Stage::LastStream { until } if now >= until) {
            self.close();
            self.end_unread();
            return;
        }
        match self.link {
            Link::Idle { .. } => self.open(Some(now)),
            Link::Opening { since: None } => self.link = Link::Opening { since: Some(now) },
            Link::Opening { since: Some(_) } => self.give_up_stream(now),
            Link::Open { last_activity, .. } => match self.stage {
                Stage::LastRead { .. } => self.give_up_stream(now),
                Stage::Following
                | Stage::Draining { .. }
                | Stage::PodTerminating { .. }
                | Stage::LastStream { .. }
                | Stage::Ended => {
                    self.on_quiet(now, now.since(last_activity));
                }
            },
        }
    }

    /// Stops the reader. The only further output closes the stream, if one is open.
    pub fn stop(&mut self) {
        let was_opening = matches!(self.queue.back(), Some((LogOutput::Open(_), _)));
        self.queue.clear();
        if !self.is_idle() && !was_opening {
            self.push(LogOutput::Close);
        }
        self.link = Link::Idle { open_at: Timestamp::EPOCH };
        self.stage = Stage::Ended;
    }

    /// Returns the next output.
    pub fn poll(&mut self) -> Option<LogOutput> {
        let (output, position) = self.queue.pop_front()?;
        if let Some(position) = position {
            self.delivered = position;
        }
        Some(output)
    }

    /// Returns the position after the last line that was polled, to be saved once that line is durable.
    pub fn position(&self) -> &Position {
        &self.delivered
    }

    fn is_idle(&self) -> bool {
        matches!(self.link, Link::Idle { .. })
    }

    fn push(&mut self, output: LogOutput) {
        self.queue.push_back((output, None));
    }

    fn open(&mut self, now: Option<Timestamp>) {
        if self.interruption == Interruption::Suspected {
            self.interrupt("the stream ended although the container runs".to_owned());
        }
        self.link = Link::Opening { since: now };
        let since_s = self.assembler.position().since_s();
        self.push(LogOutput::Open(LogRequest { follow: self.is_follow(), since_s }));
    }

    fn is_follow(&self) -> bool {
        !matches!(self.stage, Stage::LastRead { .. })
    }

    fn open_later(&mut self, now: Timestamp, extra: Duration) {
        self.retry.attempt += 1;
        let Retry { seed, attempt, .. } = &mut self.retry;
        let wait = backoff::delay(seed, *attempt, RETRY_BASE, RETRY_CAP, None);
        self.link = Link::Idle { open_at: now + wait + extra };
    }

    /// Drops the stream, or withdraws the request to open it.
    fn close(&mut self) {
        match self.link {
            Link::Idle { .. } => return,
            Link::Opening { .. } if matches!(self.queue.back(), Some((LogOutput::Open(_), _))) => {
                self.queue.pop_back();
            }
            Link::Opening { .. } => self.push(LogOutput::Close),
            Link::Open { .. } => {
                self.end_stream(false);
                self.push(LogOutput::Close);
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
        let (outputs, has_new_lines) = self.assembler.take_outputs();
        if has_new_lines {
            self.retry.was_whole = false;
            self.establish();
        }
        self.queue.extend(outputs);
    }

    /// Resets retries and interruption, because the connection works.
    fn establish(&mut self) {
        self.retry.attempt = 0;
        self.retry.broken_reads = 0;
        self.retry.short_reads = 0;
        self.assembler.forget_diagnostic();
        if std::mem::replace(&mut self.interruption, Interruption::None) == Interruption::Reported {
            self.push(LogOutput::Resumed);
        }
    }

    fn is_established(&self) -> bool {
        self.retry.attempt == 0 && self.interruption == Interruption::None
    }

    fn interrupt(&mut self, reason: String) {
        if self.interruption != Interruption::Reported {
            self.interruption = Interruption::Reported;
            self.push(LogOutput::Interrupted { reason });
        }
    }

    /// Returns until when the stream of a terminated container is read, if it has no further bytes.
    fn drained_at(&self, last_activity: Timestamp, terminated_at: Timestamp) -> Timestamp {
        let quiet_at =
            last_activity + if self.assembler.is_lagging() { LAGGING_QUIET_PERIOD } else { QUIET_PERIOD };
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
                    self.stage = Stage::Draining { terminated_at: now };
                }
                Link::Open { .. } | Link::Opening { .. } | Link::Idle { .. } => {
                    self.start_last_read(now, false);
                }
            },
            ContainerSeen::PodTerminating => match self.link {
                Link::Open { .. } => self.stage = Stage::PodTerminating { until: now + DRAIN_TIMEOUT },
                Link::Opening { .. } | Link::Idle { .. } => self.start_last_read(now, false),
            },
            ContainerSeen::PodDeleted | ContainerSeen::Replaced => {
                self.read_last_stream(now);
                self.give_up_unless_open(seen);
            }
        }
    }

    /// Reads the open stream for a while, because no new read can start.
    fn read_last_stream(&mut self, now: Timestamp) {
        self.stage = Stage::LastStream { until: now + DELETED_DRAIN };
    }

    /// Ends the log if nothing more can arrive. Even an outstanding request would return the log of a restarted container.
    fn give_up_unless_open(&mut self, seen: ContainerSeen) {
        match self.link {
            Link::Open { .. } => {}
            Link::Opening { .. } if seen == ContainerSeen::PodDeleted => {}
            Link::Opening { .. } | Link::Idle { .. } => {
                self.close();
                self.end_unread();
            }
        }
    }

    /// Handles the end of a follow while the container is not known to have terminated (rule 8).
    fn on_follow_ended(&mut self, now: Timestamp, end: LogEnd, coverage: Coverage) {
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
        self.push(LogOutput::Close);
        self.on_closed(now, LogEnd::Broken(format!("no data for {} s", ANSWER_TIMEOUT.as_secs())));
    }

    fn on_quiet(&mut self, now: Timestamp, quiet: Duration) {
        if quiet < SILENCE_TIMEOUT {
            self.establish();
        } else {
            self.close();
            self.open(Some(now));
        }
    }

    /// Starts the plain read that contains everything, because the container terminated. The follow itself would end a second later
    /// (rule 13).
    fn start_last_read(&mut self, now: Timestamp, is_last_attempt: bool) {
        self.close();
        if self.interruption == Interruption::Suspected {
            self.interruption = Interruption::None;
        }
        self.stage = Stage::LastRead { is_last_attempt };
        self.retry.attempt = 0;
        self.open(Some(now));
    }

    /// Handles the end of a last read.
    fn on_last_read_ended(&mut self, now: Timestamp, end: LogEnd, coverage: Coverage, is_last_attempt: bool) {
        match (end, coverage) {
            (LogEnd::Clean, _) if self.lacks_end() => self.retry.short_reads += 1,
            (LogEnd::Clean, Coverage::Whole | Coverage::WholeWithTail) => return self.end(true),
            // The file was rotated after the last line, which the follow contained.
            (LogEnd::Clean, Coverage::Nothing) if self.retry.was_drained => return self.end(true),
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
        if is_last_attempt || is_hopeless {
            self.end_unread();
        } else {
            self.open_later(now, Duration::ZERO);
        }
    }

    /// Ends the log without a read of its end. If the Pod was terminating, a follow that ended by itself right before contained the end;
    /// otherwise such an end may have been the server's (rule 8).
    fn end_unread(&mut self) {
        let is_terminating =
            matches!(self.container, Some(ContainerSeen::PodTerminating | ContainerSeen::PodDeleted));
        self.end(is_terminating && self.retry.was_whole && !self.lacks_end());
    }

    /// Returns whether the last control line is missing although it was written.
    fn lacks_end(&self) -> bool {
        self.has_exited && self.assembler.is_counted() && !self.assembler.is_at_end()
    }

    /// Ends the log of an ended container after the last control line: nothing follows, and what is missing was reported.
    fn end_if_counted(&mut self) {
        let has_ended = match self.container {
            Some(
                ContainerSeen::Terminated
                | ContainerSeen::PodTerminating
                | ContainerSeen::Replaced
                | ContainerSeen::PodDeleted,
            ) => true,
            Some(ContainerSeen::Waiting | ContainerSeen::Running) | None => false,
        };
        if has_ended && self.stage != Stage::Ended && self.assembler.is_at_end() {
            self.close();
            self.end(true);
        }
    }

    fn end(&mut self, is_complete: bool) {
        self.stage = Stage::Ended;
        self.link = Link::Idle { open_at: Timestamp::EPOCH };
        if !is_complete {
            // The rest of the last line is output, but the stream has not resumed.
            self.interruption = Interruption::None;
        }
        self.assembler.finish(is_complete);
        self.drain_assembler();
        if !is_complete {
            let why = match self.container {
                Some(ContainerSeen::PodDeleted) => "the pod was deleted before its log was read to the end",
                Some(ContainerSeen::Replaced) => {
                    "the container was restarted: what it has printed since then is not read"
                }
                Some(
                    ContainerSeen::Waiting
                    | ContainerSeen::Running
                    | ContainerSeen::Terminated
                    | ContainerSeen::PodTerminating,
                )
                | None => {
                    "the end of the log could not be read: it was rotated away, or the node does not answer"
                }
            };
            self.push(LogOutput::Gap { lost_lines: None, lost_bytes: None, reason: why.to_owned() });
        }
        let (lines, bytes) = (self.assembler.position().lines(), self.assembler.position().bytes());
        let position = Some(self.assembler.position().clone());
        self.queue.push_back((LogOutput::Ended { lines, bytes, is_complete }, position));
    }
}
