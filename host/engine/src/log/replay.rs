//! Tells lines that come again from new ones, after a reconnect.
//!
//! A log file only grows, and loses its beginning as a whole when it is rotated. So a replay either holds the remembered entries from
//! their first to their last, and counting them is enough, even where all are equal (rule 3); or it begins within them, or after
//! them: then the longest run of remembered entries that it can begin with is taken as known. Bit `i` of `candidates` says that the
//! last line may be entry `i` of the remembered tail.

use super::position::{Mark, TAIL_LINES};
use super::stamp::Stamp;

const _: () = assert!(TAIL_LINES == u64::BITS as usize, "the candidates are the bits of a u64");

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was delivered before.
    Known,
    /// It was delivered before, and all that follow are new.
    LastKnown,
    /// It is new, and so are all that follow.
    New,
    /// It is new, so are all that follow, and lines are lost before it: as many as given, if that is known.
    NewAfterGap { lost_lines: Option<u64> },
}

/// The lines of one stream, held against what is remembered.
#[derive(Debug, Clone)]
pub(super) struct Replay {
    mark: Mark,
    /// Lines seen so far.
    seen: u64,
    /// The stream may begin with the first remembered entry: nothing was rotated away.
    is_whole: bool,
    /// The stream may begin within the remembered tail.
    is_within: bool,
    candidates: u64,
    /// Index of the line that last completed the remembered tail.
    completed_at: Option<u64>,
    completions: u64,
}

impl Replay {
    pub(super) fn new(mark: Mark) -> Self {
        Self {
            mark,
            seen: 0,
            is_whole: true,
            is_within: true,
            candidates: 0,
            completed_at: None,
            completions: 0,
        }
    }

    /// Whether all that is remembered has come, so that nothing is missing if nothing follows.
    pub(super) fn is_caught_up(&self) -> bool {
        let last = 1 << (self.mark.tail.len() - 1);
        let is_certain = !self.is_within || self.candidates == last;
        !self.is_whole && is_certain && self.completed_at.is_some_and(|at| at + 1 == self.seen)
    }

    pub(super) fn see(&mut self, stamp: Stamp, hash: u64) -> Verdict {
        let equal = self.equal(hash);
        if self.seen == 0 && equal == 0 && hash != self.mark.first && stamp.s < self.mark.newest.s {
            // Printed before what is remembered. Asked for because the clock was set back later.
            return Verdict::Known;
        }
        let index = self.seen;
        self.seen += 1;
        self.is_whole &= self.may_be_entry(index, hash);
        self.advance(index, equal);
        if self.is_whole {
            return if self.seen == self.mark.count { Verdict::LastKnown } else { Verdict::Known };
        }
        if self.is_within {
            match (self.candidates, self.completed_at) {
                (0, None) => {
                    self.is_within = false;
                    self.advance(index, equal);
                }
                // Lines between were taken for known by a longer match that failed in the end.
                (0, Some(at)) if at + 1 < index => {
                    return Verdict::NewAfterGap { lost_lines: Some(index - at - 1) };
                }
                (0, Some(_)) => return Verdict::New,
                (_, _) => return Verdict::Known,
            }
        }
        self.search(index, stamp)
    }

    /// The stream begins before the remembered tail, or after it.
    fn search(&self, index: u64, stamp: Stamp) -> Verdict {
        match self.completed_at {
            Some(at) if at == index => Verdict::Known,
            Some(_) if self.completions == 1 => Verdict::New,
            // Equal lines, more than are remembered: which of them are new cannot be told.
            Some(_) => Verdict::NewAfterGap { lost_lines: None },
            None if stamp > self.mark.newest => Verdict::NewAfterGap { lost_lines: None },
            None if stamp == self.mark.newest && self.is_all_remembered() => {
                Verdict::NewAfterGap { lost_lines: None }
            }
            // Older than the newest that was delivered, so it was delivered: an entry before the tail, or the rest of a line that the
            // rotation split.
            None => Verdict::Known,
        }
    }

    fn advance(&mut self, index: u64, equal: u64) {
        let starts = match (index, self.is_within) {
            (0, _) => u64::MAX,
            (_, true) => 0,
            (_, false) => 1,
        };
        self.candidates = ((self.candidates << 1) | starts) & equal;
        if self.candidates >> (self.mark.tail.len() - 1) & 1 == 1 {
            self.completed_at = Some(index);
            self.completions += 1;
        }
    }

    /// Which entries of the tail have this hash.
    fn equal(&self, hash: u64) -> u64 {
        self.mark.tail.iter().rev().fold(0, |bits, entry| bits << 1 | u64::from(*entry == hash))
    }

    fn may_be_entry(&self, index: u64, hash: u64) -> bool {
        let forgotten = self.mark.count - self.mark.tail.len() as u64;
        match index.checked_sub(forgotten) {
            Some(at) => usize::try_from(at).is_ok_and(|at| self.mark.tail.get(at) == Some(&hash)),
            None => index > 0 || hash == self.mark.first,
        }
    }

    fn is_all_remembered(&self) -> bool {
        self.mark.count == self.mark.tail.len() as u64
    }
}
