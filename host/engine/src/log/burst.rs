//! Detects that a follow lost files because the container printed faster than the log was read.
//!
//! The kubelet follows a log from file to file, and opens only the newest of the files that were rotated meanwhile. A reader that is slower
//! than the container therefore loses whole files, and the stream shows no sign of it except one: the stamps jump while lines arrive late
//! without a pause. Had the container been silent, the reader would have caught up.

use super::stamp::Stamp;
use crate::time::Timestamp;

/// A reader that is this far behind, in ms, does not keep up.
const LAGGING_MS: i64 = 2_000;
/// The shortest jump of the stamps, in ms, that may hide a file: the kubelet checks their sizes every 10 s, or at most every 3 s.
const JUMP_MS: i64 = 2_000;
/// How many bytes must have arrived late for a file to have been filled meanwhile: the kubelet's files have 10 MiB by default, and
/// a limit below a tenth of that is not expected. A quiet container is also late after a broken connection, and loses nothing.
const LATE_BYTES: u64 = 1 << 20;

/// Tracks how far a reader is behind.
#[derive(Debug, Default)]
pub(super) struct BurstDetector {
    /// The smallest difference between arrival and stamp, in ms: the difference of the clocks plus the shortest latency.
    least_latency_ms: Option<i64>,
    last: Option<Stamp>,
    is_lagging: bool,
    late_bytes: u64,
    /// The server keeps what is not read yet, so that a jump hides nothing.
    keeps_unread: bool,
}

impl BurstDetector {
    /// Sets whether the server of the current stream keeps what is not read yet.
    pub(super) fn set_keeps_unread(&mut self, keeps_unread: bool) {
        self.keeps_unread = keeps_unread;
    }

    /// Returns whether the last line arrived late, so that the stream may have more.
    pub(super) fn is_lagging(&self) -> bool {
        self.is_lagging
    }

    /// Processes the next line. Returns whether lines before it may have been lost.
    pub(super) fn on_line(&mut self, now: Timestamp, stamp: Stamp, bytes: u64) -> bool {
        let latency_ms = now.as_millis().cast_signed().saturating_sub(stamp.ms());
        let least_latency_ms =
            self.least_latency_ms.map_or(latency_ms, |least_latency_ms| least_latency_ms.min(latency_ms));
        self.least_latency_ms = Some(least_latency_ms);
        let jump_ms = self.last.replace(stamp).map_or(0, |last| stamp.ms().saturating_sub(last.ms()));
        let has_jumped =
            !self.keeps_unread && self.is_lagging && self.late_bytes >= LATE_BYTES && jump_ms >= JUMP_MS;
        self.is_lagging = latency_ms.saturating_sub(least_latency_ms) >= LAGGING_MS;
        self.late_bytes = if self.is_lagging && !has_jumped { self.late_bytes + bytes } else { 0 };
        has_jumped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns before which lines something may be missing. A line has a quarter MiB, a stamp and an arrival in ms.
    fn jumps(clock_ms: i64, lines: &[(u64, u64)]) -> Vec<usize> {
        jumps_of(BurstDetector::default(), clock_ms, lines)
    }

    fn jumps_of(mut detector: BurstDetector, clock_ms: i64, lines: &[(u64, u64)]) -> Vec<usize> {
        let reported = lines.iter().enumerate().filter(|(_, (stamp_ms, now_ms))| {
            let (s, ms) = (stamp_ms / 1_000, stamp_ms % 1_000);
            let stamp = Stamp { s: s.cast_signed(), ns: u32::try_from(ms).expect("below 1,000") * 1_000_000 };
            let now_ms = now_ms.checked_add_signed(clock_ms).expect("a time");
            detector.on_line(Timestamp::from_millis(now_ms), stamp, LATE_BYTES / 4)
        });
        reported.map(|(at, _)| at).collect()
    }

    #[test]
    fn reports_a_jump_of_a_lagging_reader_once() {
        let mut lines = vec![(10_000, 10_010)];
        // Printed within a tenth of a second, read over seconds.
        lines.extend((0..20).map(|n| (10_000 + 5 * n, 10_000 + 400 * n)));
        lines.extend((0..20).map(|n| (15_000 + 5 * n, 18_000 + 400 * n)));
        for clock_ms in [0, 90_000, -5_000] {
            assert_eq!(jumps(clock_ms, &lines), [21], "{clock_ms}");
        }
        let keeping = BurstDetector { keeps_unread: true, ..BurstDetector::default() };
        assert_eq!(jumps_of(keeping, 0, &lines), [0_usize; 0], "nothing can be lost");
    }

    #[test]
    fn a_silent_container_causes_no_report_if_the_reader_keeps_up() {
        let lines: Vec<(u64, u64)> = (1..40).map(|n| (10_000 * n, 10_000 * n + 300)).collect();
        assert_eq!(jumps(0, &lines), [0_usize; 0]);
    }

    #[test]
    fn a_few_late_lines_after_a_broken_connection_cause_no_report() {
        let mut lines = vec![(1_000, 1_010)];
        lines.extend((0..3).map(|n| (10_000 + 5_000 * n, 60_000)));
        assert_eq!(jumps(0, &lines), [0_usize; 0]);
    }
}
