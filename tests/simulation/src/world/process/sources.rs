//! The sources of a simulated process: events that have arrived and that its driver has not taken yet.

use std::collections::{BTreeMap, VecDeque};

use paperclip_engine::driver::{DriverEvent, LogPiece, Source};
use paperclip_engine::ids::LogId;

/// Pieces of one log that wait before no more of it is read from the server, as in `paperclip_shell::logs`.
const QUEUED_PIECES: usize = 4;

/// The error of a simulated journal or sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    Journal,
    SinkTimedOut,
}

pub(crate) type Event = DriverEvent<Failed>;

#[derive(Debug, Default)]
pub(crate) struct Sources {
    history: VecDeque<Event>,
    control: VecDeque<Event>,
    answers: VecDeque<Event>,
    watches: VecDeque<Event>,
    is_deadline_reached: bool,
    logs: BTreeMap<LogId, VecDeque<LogPiece>>,
    /// Bytes of records that the sink has taken and that were not reported to the driver.
    pub(super) sink_progress_bytes: usize,
}

impl Sources {
    pub(super) fn put(&mut self, event: Event) {
        match event {
            DriverEvent::HistoryEntry(..) | DriverEvent::HistoryFailed(_) | DriverEvent::HistoryEnded => {
                self.history.push_back(event);
            }
            DriverEvent::Cancel { .. } | DriverEvent::Stop | DriverEvent::ControlClosed => {
                self.control.push_back(event);
            }
            DriverEvent::Called { .. } | DriverEvent::Polled { .. } => self.answers.push_back(event),
            DriverEvent::Watch(_) => self.watches.push_back(event),
            DriverEvent::DeadlineReached { .. } => self.is_deadline_reached = true,
            DriverEvent::Log { log, piece } => self.logs.entry(log).or_default().push_back(piece),
            DriverEvent::SinkProgress { bytes } => self.sink_progress_bytes += bytes,
            DriverEvent::SinkFailed(_) | DriverEvent::NothingReady => {
                unreachable!("a simulated sink does not fail while its run is driven")
            }
        }
    }

    /// Puts an event back that was just taken.
    pub(super) fn put_back(&mut self, event: Event) {
        match event {
            DriverEvent::HistoryEntry(..) | DriverEvent::HistoryFailed(_) | DriverEvent::HistoryEnded => {
                self.history.push_front(event);
            }
            DriverEvent::Cancel { .. } | DriverEvent::Stop | DriverEvent::ControlClosed => {
                self.control.push_front(event);
            }
            DriverEvent::Called { .. } | DriverEvent::Polled { .. } => self.answers.push_front(event),
            DriverEvent::Watch(_) => self.watches.push_front(event),
            DriverEvent::Log { log, piece } => self.logs.entry(log).or_default().push_front(piece),
            DriverEvent::DeadlineReached { .. }
            | DriverEvent::SinkProgress { .. }
            | DriverEvent::SinkFailed(_)
            | DriverEvent::NothingReady => self.put(event),
        }
    }

    /// Takes the next event of a source, if it has one.
    pub(super) fn take(&mut self, source: Source) -> Option<Event> {
        match source {
            Source::History => self.history.pop_front(),
            Source::Control => self.control.pop_front(),
            Source::Answers => self.answers.pop_front(),
            Source::Watches => self.watches.pop_front(),
            Source::Deadline => std::mem::take(&mut self.is_deadline_reached)
                .then(|| DriverEvent::DeadlineReached { held_logs: self.logs.keys().copied().collect() }),
            Source::Logs => self.take_piece(),
            Source::SinkFailure => None,
            Source::SinkProgress => match std::mem::take(&mut self.sink_progress_bytes) {
                0 => None,
                bytes => Some(DriverEvent::SinkProgress { bytes }),
            },
        }
    }

    fn take_piece(&mut self) -> Option<Event> {
        let mut first = self.logs.first_entry()?;
        let log = *first.key();
        let piece = first.get_mut().pop_front();
        if first.get().is_empty() {
            first.remove();
        }
        piece.map(|piece| DriverEvent::Log { log, piece })
    }

    /// Whether the reader of a log has to wait until the driver takes a piece.
    pub(crate) fn is_log_full(&self, log: LogId) -> bool {
        self.logs.get(&log).is_some_and(|pieces| pieces.len() >= QUEUED_PIECES)
    }

    pub(super) fn close_log(&mut self, log: LogId) {
        self.logs.remove(&log);
    }
}
