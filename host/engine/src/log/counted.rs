//! Compares what was delivered of a log with its control lines, which say how much the agent printed.

use paperclip_control_lines::{ControlLine, Count, End};
use serde::{Deserialize, Serialize};

/// How much the agent printed up to the end of what was delivered. It is a part of the position, from the first control line on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counted {
    lines: u64,
    bytes: u64,
    /// None if the bytes are not known, because a line was delivered in part or output was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checksum: Option<u32>,
    /// The lines at the last control line.
    at_control: u64,
    /// The agent's exit code: nothing follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    /// The log was probably rotated before it was read, and no control line has confirmed or refuted it yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_loss_suspected: bool,
}

/// Output that is missing before a control line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    pub lines: u64,
    pub bytes: u64,
}

impl Counted {
    /// Returns the state before the first control line, when this much was delivered.
    pub(super) fn after(lines: u64, bytes: u64) -> Self {
        let checksum = (lines == 0).then_some(0);
        Self { lines, bytes, checksum, at_control: 0, exit_code: None, is_loss_suspected: false }
    }

    /// Adds a delivered line without its line feed.
    pub(super) fn add_line(&mut self, text: &[u8]) {
        let mut count = Count { lines: self.lines, bytes: self.bytes, checksum: self.checksum.unwrap_or(0) };
        count.add_line(text);
        (self.lines, self.bytes) = (count.lines, count.bytes);
        self.checksum = self.checksum.map(|_| count.checksum);
        self.exit_code = None;
    }

    /// Adds a line of which not everything is known.
    pub(super) fn add_cut_line(&mut self, bytes: u64) {
        self.lines += 1;
        self.bytes += bytes;
        self.checksum = None;
        self.exit_code = None;
    }

    /// Compares with a control line. Returns what is missing before it.
    pub(super) fn compare(&mut self, control: &ControlLine) -> Option<Loss> {
        let Count { lines, bytes, checksum } = control.count;
        if lines < self.at_control {
            // Counts do not decrease: the agent printed this line itself.
            return None;
        }
        let loss = Loss { lines: lines.saturating_sub(self.lines), bytes: bytes.saturating_sub(self.bytes) };
        let is_same = self.checksum.is_none_or(|delivered| delivered == checksum);
        let is_missing = loss.lines > 0 || loss.bytes > 0 || lines == self.lines && !is_same;
        *self = Self {
            lines,
            bytes,
            checksum: Some(checksum),
            at_control: lines,
            exit_code: control.end.map(|End { exit_code, .. }| exit_code),
            is_loss_suspected: false,
        };
        is_missing.then_some(loss)
    }

    pub(super) fn exit_code(&self) -> Option<i32> {
        self.exit_code
    }

    pub(super) fn suspect_loss(&mut self) {
        self.is_loss_suspected = true;
    }

    pub(super) fn is_loss_suspected(&self) -> bool {
        self.is_loss_suspected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the control line after these lines of the agent.
    fn control(lines: &[&str], end: Option<End>) -> ControlLine {
        let mut count = Count::default();
        lines.iter().for_each(|line| count.add_line(line.as_bytes()));
        ControlLine { count, end }
    }

    fn delivered(lines: &[&str]) -> Counted {
        let mut counted = Counted::after(0, 0);
        lines.iter().for_each(|line| counted.add_line(line.as_bytes()));
        counted
    }

    #[test]
    fn the_loss_is_what_was_printed_and_not_delivered() {
        let printed = ["one", "two", "three", "four"];
        for (lines, expected) in [
            (&["one", "two", "three", "four"][..], None),
            (&["two", "three", "four"], Some(Loss { lines: 1, bytes: 4 })),
            (&["one", "four"], Some(Loss { lines: 2, bytes: 10 })),
            (&[], Some(Loss { lines: 4, bytes: 19 })),
            // A line that joins the start of one with the end of another.
            (&["oour"], Some(Loss { lines: 3, bytes: 14 })),
            // A damaged line, and one that was delivered in place of another.
            (&["one", "two", "thr", "four"], Some(Loss { lines: 0, bytes: 2 })),
            (&["one", "one", "three", "four"], Some(Loss { lines: 0, bytes: 0 })),
        ] {
            assert_eq!(delivered(lines).compare(&control(&printed, None)), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_loss_is_reported_by_one_control_line_only() {
        let mut counted = delivered(&["two"]);
        assert!(counted.compare(&control(&["one", "two"], None)).is_some());
        assert_eq!(counted.compare(&control(&["one", "two"], None)), None);
        counted.add_line(b"three");
        assert_eq!(counted.compare(&control(&["one", "two", "three"], None)), None);
    }

    #[test]
    fn a_count_that_decreases_is_ignored() {
        let mut counted = delivered(&["one", "two"]);
        assert_eq!(counted.compare(&control(&["one", "two"], None)), None);
        let before = counted;
        assert_eq!(
            counted.compare(&control(&["one"], Some(End { exit_code: 0, is_terminated: true }))),
            None
        );
        assert_eq!(counted, before);
    }

    #[test]
    fn the_exit_code_is_that_of_the_last_line_unless_output_follows() {
        let mut counted = delivered(&["one"]);
        assert_eq!(
            counted.compare(&control(&["one"], Some(End { exit_code: 3, is_terminated: true }))),
            None
        );
        assert_eq!(counted.exit_code(), Some(3));
        counted.add_line(b"two");
        assert_eq!(counted.exit_code(), None);
    }
}
