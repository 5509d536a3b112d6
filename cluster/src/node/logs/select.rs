//! Which part of a log file a reader gets: the kubelet's rules (`pkg/kubelet/kuberuntime/logs`, `ReadLogs`), pure.
//!
//! Two of them surprise: `tailLines` counts records, so that a chunk of a long line counts as a line, and
//! `sinceTime` is applied to each record, so that it can leave the end of a long line without its start
//! (and without a timestamp).

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::ControlFlow;

use jiff::Timestamp;

use super::record::{self, Tag};

/// How many bytes are read in one step when the last lines are searched from the end.
const TAIL_BLOCK_BYTES: u64 = 64 * 1024;

/// The part of a request that is not served yet.
#[derive(Debug)]
pub(super) struct Selection {
    since: Option<Timestamp>,
    has_timestamps: bool,
    records_left: Option<u64>,
    bytes_left: Option<u64>,
    /// Only the first record of a line is stamped.
    is_line_start: bool,
}

impl Selection {
    /// `records` and `bytes` are upper limits; `None` is no limit.
    pub(super) fn new(
        since: Option<Timestamp>,
        has_timestamps: bool,
        records: Option<u64>,
        bytes: Option<u64>,
    ) -> Self {
        Selection { since, has_timestamps, records_left: records, bytes_left: bytes, is_line_start: true }
    }

    /// Whether a limit is used up.
    pub(super) fn is_exhausted(&self) -> bool {
        self.records_left == Some(0) || self.bytes_left == Some(0)
    }

    /// Serves one line of the file; `Break` ends the answer. Lines that are no records are skipped.
    pub(super) fn push(&mut self, line: &[u8], answer: &mut Vec<u8>) -> ControlFlow<()> {
        let Some(record) = record::parse(line) else { return ControlFlow::Continue(()) };
        let is_selected = self.since.is_none_or(|since| record.stamp >= since);
        if is_selected {
            let start = answer.len();
            if self.has_timestamps && self.is_line_start {
                answer.extend_from_slice(record::stamp_text(record.stamp).as_bytes());
                answer.push(b' ');
            }
            answer.extend_from_slice(record.text);
            if record.tag == Tag::Full {
                answer.push(b'\n');
            }
            self.charge(answer, start);
        }
        self.is_line_start = match record.tag {
            Tag::Full => true,
            Tag::Partial => record.text.is_empty(),
        };
        self.records_left = self.records_left.map(|left| left.saturating_sub(1));
        if self.is_exhausted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Takes what was appended since `start` from the byte limit, cutting it there.
    fn charge(&mut self, answer: &mut Vec<u8>, start: usize) {
        let Some(left) = self.bytes_left.as_mut() else { return };
        let allowed = usize::try_from(*left).unwrap_or(usize::MAX).min(answer.len() - start);
        answer.truncate(start + allowed);
        *left -= allowed as u64;
    }
}

/// The offset at which the last `lines` lines of the file start.
pub(super) fn tail_start(file: &mut (impl Read + Seek), lines: u64) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(end);
    }
    let mut newlines = 0;
    let mut position = end;
    let mut block = Vec::new();
    while position > 0 {
        let start = position.saturating_sub(TAIL_BLOCK_BYTES);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        file.by_ref().take(position - start).read_to_end(&mut block)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = start + index as u64 + 1;
            // The newline that ends the file starts no line.
            newlines += u64::from(after < end);
            if newlines == lines {
                return Ok(after);
            }
        }
        position = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const FILE: &str = "\
2026-01-01T00:00:01.5Z stdout F one
2026-01-01T00:00:02Z stdout P long,
2026-01-01T00:00:02Z stderr F warn
2026-01-01T00:00:03Z stdout F longer
2026-01-01T00:00:04Z stdout F 
2026-01-01T00:00:05Z stdout P tail
";

    fn served(mut selection: Selection, file: &str) -> String {
        let mut answer = Vec::new();
        for line in file.split_inclusive('\n') {
            if selection.push(line.as_bytes(), &mut answer).is_break() {
                break;
            }
        }
        String::from_utf8(answer).unwrap()
    }

    fn since(text: &str) -> Option<Timestamp> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn selections() {
        let all = "one\nlong,warn\nlonger\n\ntail";
        let cases: &[(&str, Selection, &str)] = &[
            ("everything", Selection::new(None, false, None, None), all),
            (
                "stamps on the first record of a line",
                Selection::new(None, true, None, None),
                "2026-01-01T00:00:01.500000000Z one\n\
                 2026-01-01T00:00:02.000000000Z long,warn\n\
                 2026-01-01T00:00:03.000000000Z longer\n\
                 2026-01-01T00:00:04.000000000Z \n\
                 2026-01-01T00:00:05.000000000Z tail",
            ),
            (
                "since is inclusive",
                Selection::new(since("2026-01-01T00:00:04Z"), false, None, None),
                "\ntail",
            ),
            ("three records", Selection::new(None, false, Some(3), None), "one\nlong,warn\n"),
            ("five bytes", Selection::new(None, false, None, Some(5)), "one\nl"),
            ("a limit cuts stamps too", Selection::new(None, true, None, Some(4)), "2026"),
        ];
        for (name, selection, expected) in cases {
            let selection = Selection { is_line_start: true, ..copy(selection) };
            assert_eq!(served(selection, FILE), *expected, "{name}");
        }
    }

    #[test]
    fn a_since_between_chunks_leaves_an_unstamped_end() {
        let file = "2026-01-01T00:00:01Z stdout P head\n2026-01-01T00:00:02Z stdout F end\n2026-01-01T00:00:02Z stdout F x\n";
        let selection = Selection::new(since("2026-01-01T00:00:02Z"), true, None, None);
        assert_eq!(served(selection, file), "end\n2026-01-01T00:00:02.000000000Z x\n");
    }

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        for (file, lines, expected) in [
            ("", 3, 0),
            ("a\nb\nc\n", 0, 6),
            ("a\nb\nc\n", 1, 4),
            ("a\nb\nc\n", 2, 2),
            ("a\nb\nc\n", 3, 0),
            ("a\nb\nc\n", 9, 0),
            ("a\nb\nc", 1, 4),
        ] {
            assert_eq!(tail_start(&mut Cursor::new(file), lines).unwrap(), expected, "{file:?} {lines}");
        }
        let big = format!("{}\nlast\n", "x".repeat(3 * TAIL_BLOCK_BYTES as usize));
        assert_eq!(tail_start(&mut Cursor::new(&big), 1).unwrap(), big.len() as u64 - 5);
        assert_eq!(tail_start(&mut Cursor::new(&big), 2).unwrap(), 0);
    }

    fn copy(selection: &Selection) -> Selection {
        Selection::new(
            selection.since,
            selection.has_timestamps,
            selection.records_left,
            selection.bytes_left,
        )
    }
}
