//! Where a follower of a run is: a text that each record carries, and that stays valid when another host drives the run.
//!
//! A cursor has the generation of the records, the record's number in it, and the last line of the agent's output up to there. A host that
//! resumes a run with its journal continues its generation. One that adopts it without starts another generation, whose lines have the same
//! positions as long as none is lost: there the cursor is found by its line, position and content.

use std::fmt;
use std::str::FromStr;

use paperclip_engine::record::{Record, SequencedRecord};

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(super) generation: String,
    pub(super) seq: u64,
    pub(super) line: Option<Line>,
}

/// A line of the agent's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) index: u64,
    hash: u32,
}

impl Line {
    pub(super) fn new(index: u64, text: &str) -> Line {
        let hash = twox_hash::XxHash3_64::oneshot(text.as_bytes());
        Line { index, hash: (hash >> 32) as u32 }
    }
}

/// How the last member of a record starts.
pub(super) const MEMBER: &[u8] = b",\"cursor\":\"";

impl Cursor {
    /// Returns the end of a record that has this cursor.
    pub(super) fn as_member(&self) -> Vec<u8> {
        let mut member = MEMBER.to_vec();
        member.extend_from_slice(format!("{self}\"}}\n").as_bytes());
        member
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}", self.generation, self.seq)?;
        match self.line {
            Some(Line { index, hash }) => write!(f, ".{index:x}.{hash:x}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Cursor, ()> {
        let mut parts = text.split('.');
        let mut part = || parts.next().filter(|part| !part.is_empty());
        let number = |part: &str| u64::from_str_radix(part, 16).map_err(|_| ());
        let (generation, seq) = (part().ok_or(())?.to_owned(), number(part().ok_or(())?)?);
        let line = match (part(), part()) {
            (None, None) => None,
            (Some(index), Some(hash)) => {
                let hash = u32::try_from(number(hash)?).map_err(|_| ())?;
                Some(Line { index: number(index)?, hash })
            }
            (Some(_), None) | (None, Some(_)) => return Err(()),
        };
        if parts.next().is_some() { Err(()) } else { Ok(Cursor { generation, seq, line }) }
    }
}

/// Gives each record of one generation its cursor, in order.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    line: Option<Line>,
}

impl Cursors {
    /// Returns a record as a line of the event stream.
    pub(super) fn line(&mut self, generation: &str, record: &SequencedRecord) -> serde_json::Result<Vec<u8>> {
        if let Record::Log { index, text, .. } = &record.record {
            self.line = Some(Line::new(*index, text));
        }
        let mut line = serde_json::to_vec(record)?;
        // A record is an object that is not empty.
        line.pop();
        let cursor = Cursor { generation: generation.to_owned(), seq: record.seq, line: self.line };
        line.extend_from_slice(&cursor.as_member());
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_engine::record::{Level, Stream};
    use serde_json::Value;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        let cursor = Cursor { generation: "a1".into(), seq: 300, line: Some(Line::new(255, "text")) };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        let early = Cursor { generation: "a1".into(), seq: 0, line: None };
        assert_eq!(early.to_string(), "a1.0");
        assert_eq!("a1.0".parse(), Ok(early));
        for bad in ["", "a1", "a1.", ".0", "a1.x", "a1.0.1", "a1.0.1.2.3", "a1.0.1.fffffffff"] {
            assert_eq!(bad.parse::<Cursor>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn each_record_has_the_last_line_before_it() {
        let mut cursors = Cursors::default();
        let mut cursor = |seq, record| {
            let line = cursors.line("g", &SequencedRecord { seq, record }).expect("JSON");
            let record: Value = serde_json::from_slice(&line).expect("a record");
            record["cursor"].as_str().expect("it has one").parse::<Cursor>().expect("its own")
        };
        let status = || Record::Status { level: Level::Info, text: "s".into() };
        assert_eq!(cursor(0, status()).line, None);
        let log = Record::Log { stream: Stream::Stdout, index: 7, text: "x".into() };
        assert_eq!(cursor(1, log).line, Some(Line::new(7, "x")));
        assert_eq!(
            cursor(2, status()),
            Cursor { generation: "g".into(), seq: 2, line: Some(Line::new(7, "x")) }
        );
    }
}
