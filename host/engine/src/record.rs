//! The records of a run: the lines of `--output ndjson` and of the daemon's event stream.

use paperclip_contract::types::{Action, Event, LogLine, LogStream, StatusLevel};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One record, a line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Record {
    /// A line that the agent printed. Invalid UTF-8 is replaced and the run's own secrets are masked; everything else is kept byte for
    /// byte.
    Log {
        stream: Stream,
        /// Position among all lines of the run, from 0.
        index: u64,
        text: String,
    },
    /// Output that is lost for good.
    Gap {
        /// Index of the first line after it.
        index: u64,
        #[serde(rename = "lostLines")]
        lost_lines: Option<u64>,
        #[serde(rename = "lostBytes")]
        lost_bytes: Option<u64>,
        reason: String,
    },
    /// A status line about the run.
    Status { level: Level, text: String },
    /// How the agent is invoked.
    Meta(Map<String, Value>),
    /// The last record: Paperclip's AdapterExecutionResult.
    Result(Map<String, Value>),
}

/// The stream that a line was printed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
}

/// The severity of a status line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    Warning,
    Error,
}

/// A line that the plugin received cut, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WholeLine {
    pub index: u64,
    pub text: String,
}

/// A record and its number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SequencedRecord {
    /// Position among all records of the run, from 0. It is the same whenever the run is replayed.
    pub seq: u64,
    #[serde(flatten)]
    pub record: Record,
}

/// Turns what crossed the contract into numbered records, identically for a live run and for its journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSequencer {
    next_seq: u64,
    next_index: u64,
}

impl RecordSequencer {
    /// Assigns the next index to a line.
    pub(crate) fn take_index(&mut self) -> u64 {
        let index = self.next_index;
        self.next_index += 1;
        index
    }

    /// Returns the index of the next line.
    pub(crate) fn next_index(&self) -> u64 {
        self.next_index
    }

    /// Assigns the next number to a record.
    pub(crate) fn number(&mut self, record: Record) -> SequencedRecord {
        let seq = self.next_seq;
        self.next_seq += 1;
        SequencedRecord { seq, record }
    }

    /// Returns the records of a step's lines and gaps. `whole` has the lines that the plugin received cut, in order.
    pub(crate) fn events(&mut self, events: Vec<Event>, whole: Vec<WholeLine>) -> Vec<SequencedRecord> {
        let mut records = Vec::new();
        let mut whole = whole.into_iter();
        for event in events {
            if let Event::LogLines(batch) = event {
                for (index, line) in (batch.first_index..).zip(batch.lines) {
                    let text = match line {
                        LogLine::Whole(text) => text,
                        LogLine::Cut(_) => whole.next().map(|line| line.text).unwrap_or_default(),
                    };
                    self.next_index = self.next_index.max(index + 1);
                    records.push(self.number(Record::Log { stream: Stream::Stdout, index, text }));
                }
            } else if let Event::LogGap(gap) = event {
                records.push(self.number(Record::Gap {
                    index: gap.next_index,
                    lost_lines: gap.lost_lines,
                    lost_bytes: gap.lost_bytes,
                    reason: gap.reason,
                }));
            }
        }
        records
    }

    /// Returns the records of a command.
    pub(crate) fn command(&mut self, action: &Action) -> Vec<SequencedRecord> {
        match action {
            Action::EmitStatus(status) => {
                let level = match status.level {
                    StatusLevel::Info => Level::Info,
                    StatusLevel::Warning => Level::Warning,
                    StatusLevel::Error => Level::Error,
                };
                vec![self.number(Record::Status { level, text: status.text.clone() })]
            }
            Action::EmitLog(emitted) => {
                let stream = match emitted.stream {
                    LogStream::Stdout => Stream::Stdout,
                    LogStream::Stderr => Stream::Stderr,
                };
                let lines = emitted.lines.iter();
                lines
                    .map(|text| {
                        let index = self.take_index();
                        self.number(Record::Log { stream, index, text: text.clone() })
                    })
                    .collect()
            }
            // JSON that is not an object breaks the contract; that is detected where the command is carried out.
            Action::ReportMeta(json) => match serde_json::from_str(json) {
                Ok(Value::Object(meta)) => vec![self.number(Record::Meta(meta))],
                Ok(_) | Err(_) => Vec::new(),
            },
            // Not visible, by the table of actions.
            _ => Vec::new(),
        }
    }

    /// Returns the record of the result, after a gap record where the log was not read to its end.
    pub(crate) fn end(&mut self, result: Map<String, Value>, is_unread: bool) -> Vec<SequencedRecord> {
        let gap = Record::Gap {
            index: self.next_index,
            lost_lines: None,
            lost_bytes: None,
            reason: "the run ended before its log was read to the end".to_owned(),
        };
        let records = is_unread.then_some(gap).into_iter().chain([Record::Result(result)]);
        records.map(|record| self.number(record)).collect()
    }

    /// Continues where another sequencer is. Returns a gap record in place of the records in between.
    pub(crate) fn skip_to(&mut self, other: &RecordSequencer) -> Option<SequencedRecord> {
        let lost_lines = other.next_index.saturating_sub(self.next_index);
        let is_behind = self.next_seq < other.next_seq;
        *self = other.clone();
        is_behind.then(|| SequencedRecord {
            seq: other.next_seq - 1,
            record: Record::Gap {
                index: other.next_index,
                lost_lines: Some(lost_lines),
                lost_bytes: None,
                reason: "the journal keeps the newest output only: older output was removed from it"
                    .to_owned(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_records_that_the_journal_no_longer_has_with_a_gap() {
        let kept = RecordSequencer { next_seq: 12, next_index: 9 };
        let gap = RecordSequencer::default().skip_to(&kept).expect("a gap");
        assert_eq!(gap.seq, 11);
        assert!(matches!(gap.record, Record::Gap { index: 9, lost_lines: Some(9), .. }));
        assert_eq!(kept.clone().skip_to(&kept), None);
    }
}
