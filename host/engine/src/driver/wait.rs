//! What a driver may wait for.

use crate::time::Timestamp;

/// Where events come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The run's journal.
    History,
    /// Cancels and stops.
    Control,
    /// Answers to calls and polls.
    Answers,
    /// Watches of the followed Jobs.
    Watches,
    /// The deadline of the wait.
    Deadline,
    /// Streams of logs.
    Logs,
    /// A failure of the sink.
    SinkFailure,
    /// Records that the sink has taken.
    SinkProgress,
}

impl Source {
    /// All sources, in the order in which they are read. Logs come last among the inputs, so that no flood of output delays a cancel, an
    /// answer or a timer.
    pub const ORDER: [Source; 8] = [
        Source::History,
        Source::Control,
        Source::Answers,
        Source::Watches,
        Source::Deadline,
        Source::Logs,
        Source::SinkFailure,
        Source::SinkProgress,
    ];

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The sources that a driver reads next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    enabled: u8,
    may_block: bool,
    deadline: Option<Timestamp>,
}

impl Wait {
    pub(super) fn blocking() -> Wait {
        Wait { enabled: 0, may_block: true, deadline: None }
    }

    pub(super) fn ready_only() -> Wait {
        Wait { enabled: 0, may_block: false, deadline: None }
    }

    pub(super) fn with(self, source: Source) -> Wait {
        Wait { enabled: self.enabled | source.bit(), ..self }
    }

    pub(super) fn with_if(self, condition: bool, source: Source) -> Wait {
        if condition { self.with(source) } else { self }
    }

    pub(super) fn with_deadline(self, deadline: Option<Timestamp>) -> Wait {
        Wait { deadline, ..self.with_if(deadline.is_some(), Source::Deadline) }
    }

    /// Returns the enabled sources. The event of the first one that has an event is taken, and no other.
    pub fn sources(self) -> impl Iterator<Item = Source> {
        Source::ORDER.into_iter().filter(move |source| self.has(*source))
    }

    /// Returns whether a source is enabled.
    pub fn has(self, source: Source) -> bool {
        self.enabled & source.bit() != 0
    }

    /// Returns whether to wait until a source has an event. If not, and none has one,
    /// [`DriverEvent::NothingReady`](super::DriverEvent::NothingReady) is the event.
    pub fn may_block(self) -> bool {
        self.may_block
    }

    /// Returns when [`Source::Deadline`] has its event.
    pub fn deadline(self) -> Option<Timestamp> {
        self.deadline
    }
}
