//! Whether a follow keeps up with what the container prints.
//!
//! The kubelet follows a log from file to file, and of those that are rotated meanwhile it opens the newest alone: a reader that is slower
//! than the container loses whole files, and the stream goes on as if nothing had happened. What shows it is a leap in the stamps while
//! lines are coming late and without a break: had the container been silent, the reader would have caught up.

use super::stamp::Stamp;
use crate::time::Timestamp;

/// A reader that is so far behind, in ms, does not keep up.
const BEHIND_MS: i64 = 2_000;
/// The shortest leap of the stamps, in ms, that may hide a file: the kubelet looks at their sizes each 10 s, or each 3 s at the most often.
const LEAP_MS: i64 = 2_000;
/// What has to have come late, in bytes, for a file to have been filled meanwhile: a kubelet has files of 10 MiB, and nobody has smaller ones
/// than a tenth of that. A container that says little is late after a cut connection, and loses nothing.
const LATE_BYTES: u64 = 1 << 20;

/// How far a reader is behind.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// By how much the clock of arrivals is ahead of the stamps at least, in ms: the difference of the clocks, and the shortest way.
    ahead_ms: Option<i64>,
    last: Option<Stamp>,
    is_behind: bool,
    late_bytes: u64,
}

impl Pace {
    /// The last line came late: there may be more where it came from.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Takes the next line; true if lines before it may have been lost.
    pub(super) fn take(&mut self, now: Timestamp, stamp: Stamp, bytes: u64) -> bool {
        let way_ms = now.as_millis().cast_signed().saturating_sub(stamp.ms());
        let ahead_ms = self.ahead_ms.map_or(way_ms, |ahead_ms| ahead_ms.min(way_ms));
        self.ahead_ms = Some(ahead_ms);
        let leap_ms = self.last.replace(stamp).map_or(0, |last| stamp.ms().saturating_sub(last.ms()));
        let has_leapt = self.is_behind && self.late_bytes >= LATE_BYTES && leap_ms >= LEAP_MS;
        self.is_behind = way_ms.saturating_sub(ahead_ms) >= BEHIND_MS;
        self.late_bytes = if self.is_behind && !has_leapt { self.late_bytes + bytes } else { 0 };
        has_leapt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of a quarter MiB, each with its stamp and its arrival in ms; before which of them something may be missing.
    fn leaps(clock_ms: i64, lines: &[(u64, u64)]) -> Vec<usize> {
        let mut pace = Pace::default();
        let taken = lines.iter().enumerate().filter(|(_, (stamp_ms, now_ms))| {
            let (s, ms) = (stamp_ms / 1_000, stamp_ms % 1_000);
            let stamp = Stamp { s: s.cast_signed(), ns: u32::try_from(ms).expect("below 1,000") * 1_000_000 };
            let now_ms = now_ms.checked_add_signed(clock_ms).expect("a time");
            pace.take(Timestamp::from_millis(now_ms), stamp, LATE_BYTES / 4)
        });
        taken.map(|(at, _)| at).collect()
    }

    #[test]
    fn a_leap_of_a_reader_that_is_behind_is_told_once() {
        let mut lines = vec![(10_000, 10_010)];
        // Printed within a tenth of a second, read over seconds.
        lines.extend((0..20).map(|n| (10_000 + 5 * n, 10_000 + 400 * n)));
        lines.extend((0..20).map(|n| (15_000 + 5 * n, 18_000 + 400 * n)));
        for clock_ms in [0, 90_000, -5_000] {
            assert_eq!(leaps(clock_ms, &lines), [21], "{clock_ms}");
        }
    }

    #[test]
    fn a_reader_that_keeps_up_hears_a_silent_container() {
        let lines: Vec<(u64, u64)> = (1..40).map(|n| (10_000 * n, 10_000 * n + 300)).collect();
        assert_eq!(leaps(0, &lines), [0_usize; 0]);
    }

    #[test]
    fn few_lines_that_come_late_after_a_cut_connection_are_all_there_is() {
        let mut lines = vec![(1_000, 1_010)];
        lines.extend((0..3).map(|n| (10_000 + 5_000 * n, 60_000)));
        assert_eq!(leaps(0, &lines), [0_usize; 0]);
    }
}
