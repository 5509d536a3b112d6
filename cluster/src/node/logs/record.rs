//! The lines of a container's log file, in the format that container runtimes write for the kubelet (CRI):
//! `2026-01-02T03:04:05.000000006Z stdout F text`, where `P` marks a piece of a line that continues.

use jiff::Timestamp;

/// The longest piece of a line in one record; containerd's `max_container_log_line_size`.
pub(super) const CHUNK_BYTES: usize = 16 * 1024;

/// Which of the container's outputs a record came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Stdout,
    Stderr,
}

impl Output {
    const fn name(self) -> &'static str {
        match self {
            Output::Stdout => "stdout",
            Output::Stderr => "stderr",
        }
    }
}

/// Whether a record ends its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// The line continues in the next record of the same output, or has no end.
    Partial,
    /// The line ends here.
    Full,
}

/// A parsed record. The text has no newline.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) stamp: Timestamp,
    pub(super) output: Output,
    pub(super) tag: Tag,
    pub(super) text: &'a [u8],
}

/// Nanoseconds always in full, as the kubelet serves them (`RFC3339NanoFixed`).
pub(super) fn stamp_text(stamp: Timestamp) -> String {
    format!("{stamp:.9}")
}

impl Record<'_> {
    /// Appends the record as a line.
    pub(super) fn write(&self, file: &mut Vec<u8>) {
        let tag = match self.tag {
            Tag::Partial => "P",
            Tag::Full => "F",
        };
        file.extend_from_slice(stamp_text(self.stamp).as_bytes());
        file.extend_from_slice(format!(" {} {tag} ", self.output.name()).as_bytes());
        file.extend_from_slice(self.text);
        file.push(b'\n');
    }
}

/// Reads a line, with or without its newline; `None` if it is not a record.
pub(super) fn parse(line: &[u8]) -> Option<Record<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let stamp = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let output = match fields.next()? {
        b"stdout" => Output::Stdout,
        b"stderr" => Output::Stderr,
        _ => return None,
    };
    let tag = match fields.next()? {
        b"P" => Tag::Partial,
        b"F" => Tag::Full,
        _ => return None,
    };
    Some(Record { stamp, output, tag, text: fields.next()? })
}

/// Cuts what a process writes into the pieces that become records.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// The start of a line, at most [`CHUNK_BYTES`].
    pending: Vec<u8>,
}

impl Splitter {
    /// Takes the next bytes and hands out every piece that is complete.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut emit: impl FnMut(Tag, &[u8])) {
        while !bytes.is_empty() {
            let free = CHUNK_BYTES - self.pending.len();
            let newline = bytes.iter().take(free + 1).position(|byte| *byte == b'\n');
            let taken = newline.unwrap_or_else(|| bytes.len().min(free));
            self.pending.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if newline.is_some() {
                emit(Tag::Full, &self.pending);
                self.pending.clear();
                bytes = &bytes[1..];
            } else if !bytes.is_empty() {
                // The line is known to continue, so the full piece is not its last.
                emit(Tag::Partial, &self.pending);
                self.pending.clear();
            }
        }
    }

    /// The end of the output: an unterminated line is a partial record, as containerd has it.
    pub(super) fn finish(&mut self, mut emit: impl FnMut(Tag, &[u8])) {
        if !self.pending.is_empty() {
            emit(Tag::Partial, &self.pending);
            self.pending.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(reads: &[&[u8]]) -> Vec<(Tag, Vec<u8>)> {
        let mut splitter = Splitter::default();
        let mut pieces = Vec::new();
        for read in reads {
            splitter.push(read, |tag, text| pieces.push((tag, text.to_vec())));
        }
        splitter.finish(|tag, text| pieces.push((tag, text.to_vec())));
        pieces
    }

    #[test]
    fn a_record_reads_back_as_written() {
        let stamp: Timestamp = "2026-01-02T03:04:05.00000006Z".parse().unwrap();
        for text in [b"".as_slice(), b"plain", b" two  spaces ", b"\xff\x00"] {
            for (output, tag) in [(Output::Stdout, Tag::Full), (Output::Stderr, Tag::Partial)] {
                let record = Record { stamp, output, tag, text };
                let mut line = Vec::new();
                record.write(&mut line);
                assert_eq!(parse(&line), Some(record));
            }
        }
        assert_eq!(stamp_text(stamp), "2026-01-02T03:04:05.000000060Z");
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for line in
            ["", "text", "2026-01-02T03:04:05Z stdout F", "2026-01-02T03:04:05Z stdin F x", "x stdout F x"]
        {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn lines_are_cut_at_newlines_wherever_the_reads_end() {
        let expected =
            [(Tag::Full, b"one".to_vec()), (Tag::Full, b"".to_vec()), (Tag::Partial, b"two".to_vec())];
        assert_eq!(pieces(&[b"one\n\ntwo"]), expected);
        assert_eq!(pieces(&[b"on", b"e", b"\n", b"\nt", b"wo"]), expected);
        assert_eq!(pieces(&[]), []);
    }

    #[test]
    fn a_long_line_is_cut_into_chunks_of_which_only_the_last_is_full() {
        let exact = [vec![b'x'; CHUNK_BYTES], b"\n".to_vec()].concat();
        assert_eq!(pieces(&[&exact]), [(Tag::Full, vec![b'x'; CHUNK_BYTES])]);

        let long = [vec![b'x'; 2 * CHUNK_BYTES + 1], b"\n".to_vec()].concat();
        let lengths: Vec<(Tag, usize)> =
            pieces(&[&long]).iter().map(|(tag, text)| (*tag, text.len())).collect();
        assert_eq!(lengths, [(Tag::Partial, CHUNK_BYTES), (Tag::Partial, CHUNK_BYTES), (Tag::Full, 1)]);
        let byte_by_byte: Vec<&[u8]> = long.chunks(1).collect();
        assert_eq!(pieces(&byte_by_byte), pieces(&[&long]));
    }
}
