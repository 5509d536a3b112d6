//! What a run shows to whoever watches: the records of `--output ndjson` and of the daemon's event stream.

use paperclip_contract::types::{Action, Event, LogLine, LogStream, StatusLevel};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::journal::{Entry, WholeLine};

/// One record, a line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Record {
    /// A line that the agent printed, byte for byte but for invalid UTF-8 and the run's own secrets.
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
    /// A line about the run.
    Status { level: Level, text: String },
    /// How the agent is invoked.
    Meta(Map<String, Value>),
    /// The last record: Paperclip's AdapterExecutionResult.
    Result(Map<String, Value>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    Warning,
    Error,
}

/// A record and its number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SequencedRecord {
    /// Position among all records of the run, from 0; the same whenever the run is told again.
    pub seq: u64,
    #[serde(flatten)]
    pub record: Record,
}

/// Makes records of what crossed the contract, while it happens and from a journal alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSequencer {
    next_seq: u64,
    next_index: u64,
}

impl RecordSequencer {
    /// The index of a line that will be told.
    pub(crate) fn take_index(&mut self) -> u64 {
        let index = self.next_index;
        self.next_index += 1;
        index
    }

    /// The index of the next line.
    pub(crate) fn next_index(&self) -> u64 {
        self.next_index
    }

    /// Numbers a record.
    pub(crate) fn tell(&mut self, record: Record) -> SequencedRecord {
        let seq = self.next_seq;
        self.next_seq += 1;
        SequencedRecord { seq, record }
    }

    /// The lines and gaps of a step. `whole` has the lines that the plugin got cut, in their order.
    pub(crate) fn events(&mut self, events: Vec<Event>, whole: Vec<WholeLine>) -> Vec<SequencedRecord> {
        let mut told = Vec::new();
        let mut whole = whole.into_iter();
        for event in events {
            if let Event::LogLines(batch) = event {
                for (index, line) in (batch.first_index..).zip(batch.lines) {
                    let text = match line {
                        LogLine::Whole(text) => text,
                        LogLine::Cut(_) => whole.next().map(|line| line.text).unwrap_or_default(),
                    };
                    self.next_index = self.next_index.max(index + 1);
                    told.push(self.tell(Record::Log { stream: Stream::Stdout, index, text }));
                }
            } else if let Event::LogGap(gap) = event {
                told.push(self.tell(Record::Gap {
                    index: gap.next_index,
                    lost_lines: gap.lost_lines,
                    lost_bytes: gap.lost_bytes,
                    reason: gap.reason,
                }));
            }
        }
        told
    }

    /// What a command shows.
    pub(crate) fn command(&mut self, action: &Action) -> Vec<SequencedRecord> {
        match action {
            Action::EmitStatus(status) => {
                let level = match status.level {
                    StatusLevel::Info => Level::Info,
                    StatusLevel::Warning => Level::Warning,
                    StatusLevel::Error => Level::Error,
                };
                vec![self.tell(Record::Status { level, text: status.text.clone() })]
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
                        self.tell(Record::Log { stream, index, text: text.clone() })
                    })
                    .collect()
            }
            // What is no object is a breach of the contract, which is found where the command is taken.
            Action::ReportMeta(json) => match serde_json::from_str(json) {
                Ok(Value::Object(meta)) => vec![self.tell(Record::Meta(meta))],
                Ok(_) | Err(_) => Vec::new(),
            },
            Action::AcquireGuard(_)
            | Action::ReleaseGuard
            | Action::ListJobs(_)
            | Action::DryRunPod(_)
            | Action::CreateJob(_)
            | Action::CreateSecret(_)
            | Action::CreateConfigMap(_)
            | Action::UnsuspendJob(_)
            | Action::AdoptJob(_)
            | Action::LabelJob(_)
            | Action::DeleteJob(_)
            | Action::FollowJob(_)
            | Action::GetJob(_)
            | Action::ListPods(_)
            | Action::ListEvents(_)
            | Action::FollowLog(_)
            | Action::StopLog(_)
            | Action::ReadLog(_)
            | Action::SetTimer(_)
            | Action::CancelTimer(_)
            | Action::PollHttp(_)
            | Action::StopPoll(_)
            | Action::Finish(_)
            | Action::Other(_) => Vec::new(),
        }
    }

    /// The result, and before it that there was more to read.
    pub(crate) fn end(&mut self, result: Map<String, Value>, is_unread: bool) -> Vec<SequencedRecord> {
        let gap = Record::Gap {
            index: self.next_index,
            lost_lines: None,
            lost_bytes: None,
            reason: "the run ended before its log was read to the end".to_owned(),
        };
        let records = is_unread.then_some(gap).into_iter().chain([Record::Result(result)]);
        records.map(|record| self.tell(record)).collect()
    }

    /// What an entry of a journal shows. A snapshot that is the first entry says how much is missing before it.
    pub fn entry(&mut self, entry: Entry<'_>) -> Vec<SequencedRecord> {
        match entry {
            Entry::Step { events, whole, .. } => self.events(events.into_owned(), whole.into_owned()),
            Entry::Commands { commands, .. } => {
                commands.iter().flat_map(|command| self.command(&command.action)).collect()
            }
            Entry::Note { level, text } => vec![self.tell(Record::Status { level, text: text.into_owned() })],
            Entry::End { result, is_unread, .. } => self.end(result.into_owned(), is_unread),
            Entry::Snapshot { ledger, .. } => self.skip_to(&ledger.sequencer).into_iter().collect(),
            Entry::Start { .. } | Entry::Resumed { .. } | Entry::Closed => Vec::new(),
        }
    }

    /// Goes on where another sequencer stood; a gap stands for what was not told on the way.
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
    use paperclip_contract::types::{Command, EmittedLog, LogLines, Status};

    #[test]
    fn a_journal_tells_the_same_records_with_the_same_numbers() {
        let lines = Event::LogLines(LogLines {
            command: 1,
            first_index: 0,
            lines: vec![LogLine::Whole("a".into()), LogLine::Whole("b".into())],
        });
        let commands = vec![
            Command {
                id: 1,
                action: Action::EmitStatus(Status { level: StatusLevel::Info, text: "s".into() }),
            },
            Command {
                id: 2,
                action: Action::EmitLog(EmittedLog { stream: LogStream::Stderr, lines: vec!["e".into()] }),
            },
        ];
        let step = Entry::Step {
            seq: 1,
            at: crate::time::Timestamp::EPOCH,
            events: vec![lines].into(),
            cursors: Vec::new().into(),
            whole: Vec::new().into(),
        };
        let mut sequencer = RecordSequencer::default();
        let told: Vec<SequencedRecord> = [step, Entry::Commands { seq: 1, commands: commands.into() }]
            .into_iter()
            .flat_map(|entry| sequencer.entry(entry))
            .collect();
        let shown: Vec<String> = told.iter().map(|told| serde_json::to_string(told).expect("JSON")).collect();
        assert_eq!(
            shown,
            [
                r#"{"seq":0,"type":"log","stream":"stdout","index":0,"text":"a"}"#,
                r#"{"seq":1,"type":"log","stream":"stdout","index":1,"text":"b"}"#,
                r#"{"seq":2,"type":"status","level":"info","text":"s"}"#,
                r#"{"seq":3,"type":"log","stream":"stderr","index":2,"text":"e"}"#,
            ]
        );
    }

    #[test]
    fn what_a_journal_keeps_no_more_is_told_as_a_gap() {
        let kept = RecordSequencer { next_seq: 12, next_index: 9 };
        let gap = RecordSequencer::default().skip_to(&kept).expect("a gap");
        assert_eq!(gap.seq, 11);
        assert!(matches!(gap.record, Record::Gap { index: 9, lost_lines: Some(9), .. }));
        assert_eq!(kept.clone().skip_to(&kept), None);
    }
}
