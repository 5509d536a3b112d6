//! The journal of a run: what crossed the contract, in order, so that a run can be resumed after a crash and replayed offline.
//!
//! An entry is one JSON object on a line of its own; the shell adds the checksum when it writes the line. A step is journaled in this
//! order: its events, then the commands that the plugin returned, and only then is a command carried out. An answer therefore counts as
//! delivered once the journal has the step that contains it, and every request that was sent follows from a command in the journal.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use paperclip_contract::types::{Command, Ending, Event, ObjectRef, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ids::CommandId;
use crate::ledger::Ledger;
use crate::log::Position;
use crate::record::{Level, Record, RecordSequencer, SequencedRecord, WholeLine};
use crate::time::Timestamp;

/// Version of the journal's format. Changelog: 1, the first.
pub const FORMAT: u32 = 1;

/// One entry, `{"<kind>":{…}}`. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry<'a> {
    /// The run started with this request.
    Start {
        format: u32,
        #[serde(rename = "at_ms")]
        at: Timestamp,
        request: Cow<'a, Request>,
    },
    /// The state that the entries before it result in; the first entry of a later segment.
    Snapshot {
        format: u32,
        seq: u64,
        #[serde(rename = "at_ms")]
        at: Timestamp,
        /// The plugin's snapshot, base64.
        guest: Cow<'a, str>,
        ledger: Cow<'a, Ledger>,
        /// The request that the run started with, because its [`Entry::Start`] may have been deleted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<Box<Cow<'a, Request>>>,
    },
    /// The plugin received these events.
    Step {
        seq: u64,
        #[serde(rename = "at_ms")]
        at: Timestamp,
        events: Cow<'a, [Event]>,
        /// The positions in the logs whose lines are among the events, by the command that follows the log.
        #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
        cursors: Cow<'a, [(CommandId, Position)]>,
        /// Lines that the plugin received cut, as they are shown.
        #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
        whole: Cow<'a, [WholeLine]>,
    },
    /// The plugin returned these commands. There is no entry where it returned none.
    Commands { seq: u64, commands: Cow<'a, [Command]> },
    /// The host reported something about the run.
    Note { level: Level, text: Cow<'a, str> },
    /// A host resumed the run.
    Resumed {
        #[serde(rename = "at_ms")]
        at: Timestamp,
    },
    /// The run ended; its objects in the cluster are still to be deleted.
    End {
        seq: u64,
        #[serde(rename = "at_ms")]
        at: Timestamp,
        ending: Ending,
        result: Cow<'a, Map<String, Value>>,
        delete_jobs: Cow<'a, [ObjectRef]>,
        /// A log was not read to its end: the rest of it is lost.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_unread: bool,
    },
    /// The cleanup is complete.
    Closed,
}

impl Entry<'_> {
    /// Returns the entry as a line, with its line feed.
    pub fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("plain data with text keys serialises");
        line.push('\n');
        line
    }

    /// Parses a line.
    ///
    /// # Errors
    /// The line is not an entry, or has a format that this host does not know.
    pub fn parse(line: &str) -> Result<Entry<'static>, EntryError> {
        let entry: Entry<'static> =
            serde_json::from_str(line).map_err(|error| EntryError::Unreadable(error.to_string()))?;
        match &entry {
            Entry::Start { format, .. } | Entry::Snapshot { format, .. } if *format != FORMAT => {
                Err(EntryError::Format(*format))
            }
            Entry::Start { .. }
            | Entry::Snapshot { .. }
            | Entry::Step { .. }
            | Entry::Commands { .. }
            | Entry::Note { .. }
            | Entry::Resumed { .. }
            | Entry::End { .. }
            | Entry::Closed => Ok(entry),
        }
    }
}

impl RecordSequencer {
    /// Returns the records of an entry. For a snapshot that is the first entry this is a gap in place of the records before it.
    pub fn entry(&mut self, entry: Entry<'_>) -> Vec<SequencedRecord> {
        match entry {
            Entry::Step { events, whole, .. } => self.events(events.into_owned(), whole.into_owned()),
            Entry::Commands { commands, .. } => {
                commands.iter().flat_map(|command| self.command(&command.action)).collect()
            }
            Entry::Note { level, text } => {
                vec![self.number(Record::Status { level, text: text.into_owned() })]
            }
            Entry::End { result, is_unread, .. } => self.end(result.into_owned(), is_unread),
            Entry::Snapshot { ledger, .. } => self.skip_to(&ledger.sequencer).into_iter().collect(),
            Entry::Start { .. } | Entry::Resumed { .. } | Entry::Closed => Vec::new(),
        }
    }
}

/// Encodes a plugin's snapshot for [`Entry::Snapshot`].
pub(crate) fn encode_snapshot(guest: &[u8]) -> String {
    STANDARD.encode(guest)
}

/// Decodes a plugin's snapshot from [`Entry::Snapshot`].
///
/// # Errors
/// The text is not base64; the error says where.
pub(crate) fn decode_snapshot(guest: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(guest).map_err(|error| error.to_string())
}

/// Why a line is not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("not an entry of a journal: {0}")]
    Unreadable(String),
    #[error(
        "format {0} is not known to this host, which writes format {FORMAT}: use the host that wrote it, or a newer one"
    )]
    Format(u32),
}

#[cfg(test)]
mod tests {
    use paperclip_contract::types::{Action, EmittedLog, LogLine, LogLines, LogStream, Status, StatusLevel};

    use super::*;

    #[test]
    fn parses_the_lines_that_it_writes() {
        let entries = [
            Entry::Step {
                seq: 3,
                at: Timestamp::from_millis(5),
                events: vec![Event::TimerFired(4)].into(),
                cursors: vec![(CommandId::new(7), Position::default())].into(),
                whole: vec![WholeLine { index: 9, text: "x".into() }].into(),
            },
            Entry::Commands { seq: 3, commands: Vec::new().into() },
            Entry::Note { level: Level::Warning, text: "t".into() },
            Entry::Snapshot {
                format: FORMAT,
                seq: 3,
                at: Timestamp::from_millis(5),
                guest: "".into(),
                ledger: std::borrow::Cow::Owned(crate::ledger::testing::full()),
                request: None,
            },
            Entry::Closed,
        ];
        for entry in entries {
            let line = entry.to_line();
            assert!(line.ends_with('\n') && !line[..line.len() - 1].contains('\n'));
            assert_eq!(Entry::parse(&line), Ok(entry));
        }
    }

    #[test]
    fn an_unknown_format_is_an_error_that_says_what_to_do() {
        let ledger = serde_json::to_string(&Ledger::default()).expect("plain data");
        let line = format!(r#"{{"snapshot":{{"format":9,"seq":0,"at_ms":0,"guest":"","ledger":{ledger}}}}}"#);
        assert_eq!(Entry::parse(&line), Err(EntryError::Format(9)));
        assert!(matches!(Entry::parse("{}"), Err(EntryError::Unreadable(_))));
    }

    #[test]
    fn returns_the_numbered_records_of_entries() {
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
            at: Timestamp::EPOCH,
            events: vec![lines].into(),
            cursors: Vec::new().into(),
            whole: Vec::new().into(),
        };
        let mut sequencer = RecordSequencer::default();
        let records: Vec<SequencedRecord> = [step, Entry::Commands { seq: 1, commands: commands.into() }]
            .into_iter()
            .flat_map(|entry| sequencer.entry(entry))
            .collect();
        let shown: Vec<String> =
            records.iter().map(|record| serde_json::to_string(record).expect("JSON")).collect();
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
}
