//! Distinguishes replayed lines from new ones after a reconnect.
//!
//! A log file only grows, and a rotation removes its start as a whole. So a stream can start in three ways, which are tested side by side;
//! the one that takes the most lines as known has precedence:
//! - with the first remembered entry: then counting is enough, even if all lines are equal (rule 3);
//! - within the tail, whose entries are all remembered;
//! - before that tail and after the first entry: then the whole tail follows.
//!
//! If none fits, the log was rotated after the last delivered line, and lines may be lost (rule 11).

use super::position::{Mark, TAIL_LINES};
use super::stamp::Stamp;

const _: () = assert!(TAIL_LINES == u64::BITS as usize, "the candidates are the bits of a u64");

/// How a line relates to those delivered before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was delivered before.
    Known,
    /// It was delivered before, and all lines that follow are new.
    LastKnown,
    /// It is new, and so are all lines that follow.
    New,
    /// It is new, so are all lines that follow, and lines are lost before it; how many, if known.
    NewAfterGap { lost_lines: Option<u64> },
}

/// Compares the lines of one stream with the remembered ones.
#[derive(Debug, Clone)]
pub(super) struct Replay {
    mark: Mark,
    /// Number of lines so far.
    seen: u64,
    /// The stream may have started with the first entry.
    is_whole: bool,
    /// It may have started within the tail.
    within: Search,
    /// It may have started before the tail.
    before: Search,
}

/// Searches a stream for the remembered tail (shift-and).
#[derive(Debug, Clone, Copy, Default)]
struct Search {
    /// Bit `i`: the last line may be entry `i` of the tail.
    candidates: u64,
    /// Index of the line that last completed the tail.
    completed_at: Option<u64>,
    completions: u64,
}

impl Replay {
    pub(super) fn new(mark: Mark) -> Self {
        Self { mark, seen: 0, is_whole: true, within: Search::default(), before: Search::default() }
    }

    /// Returns whether everything remembered was replayed, so that nothing is missing if nothing follows.
    pub(super) fn is_caught_up(&self) -> bool {
        let last = self.seen.checked_sub(1);
        let is_at_end = |search: &Search| search.completed_at.is_some() && search.completed_at == last;
        let is_certain = self.within.candidates == self.last_candidate();
        !self.is_whole && (is_at_end(&self.before) || is_certain && is_at_end(&self.within))
    }

    pub(super) fn classify(&mut self, stamp: Stamp, hash: u64) -> Verdict {
        let equal = self.equal(hash);
        if self.seen == 0 && equal == 0 && hash != self.mark.first && stamp < self.mark.newest {
            // It was delivered, but it is not one of the remembered lines: the rest of a line that a rotation split, an entry long before
            // the tail, or one before the first that is requested because the clock was set back after it.
            return Verdict::Known;
        }
        let index = self.seen;
        self.seen += 1;
        self.is_whole &= stamp <= self.mark.newest && self.may_be_entry(index, hash);
        let last = self.last_candidate();
        self.within.advance(if index == 0 { u64::MAX } else { 0 }, equal, last, index);
        self.before.advance(1, equal, last, index);
        if self.is_whole {
            return if self.seen == self.mark.count { Verdict::LastKnown } else { Verdict::Known };
        }
        if self.within.candidates != 0 || self.before.completed_at == Some(index) {
            return Verdict::Known;
        }
        match self.before.completed_at.max(self.within.completed_at) {
            Some(at) if at + 1 < index => {
                // A longer match that failed in the end has taken lines for known.
                Verdict::NewAfterGap { lost_lines: Some(index - at - 1) }
            }
            // More equal lines than are remembered: which of them are new cannot be determined.
            Some(_) if self.before.completions > 1 => Verdict::NewAfterGap { lost_lines: None },
            Some(_) => Verdict::New,
            None if stamp > self.mark.newest => Verdict::NewAfterGap { lost_lines: None },
            None if stamp == self.mark.newest && self.is_all_remembered() => {
                Verdict::NewAfterGap { lost_lines: None }
            }
            None => Verdict::Known,
        }
    }

    /// Returns which entries of the tail have this hash.
    fn equal(&self, hash: u64) -> u64 {
        self.mark.tail.iter().rev().fold(0, |bits, entry| bits << 1 | u64::from(*entry == hash))
    }

    /// Returns the bit of the last entry.
    fn last_candidate(&self) -> u64 {
        1 << (self.mark.tail.len() - 1)
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

impl Search {
    fn advance(&mut self, starts: u64, equal: u64, last: u64, index: u64) {
        self.candidates = (self.candidates << 1 | starts) & equal;
        if self.candidates & last != 0 {
            self.completed_at = Some(index);
            self.completions += 1;
        }
    }
}
