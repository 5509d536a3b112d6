//! The journal of a run: what crossed the contract, in order, so that a run can be taken up after a crash and replayed offline.
//!
//! An entry is one JSON object on a line of its own; the shell adds the checksum when it writes it. The order of a step is: its events,
//! then the plugin, then its commands, and only then what they ask for. So an answer counts as delivered once the step that brought it is
//! here, and whatever was asked for can be found among the commands.

use std::borrow::Cow;

use paperclip_contract::types::{Command, Ending, Event, ObjectRef, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ids::CommandId;
use crate::ledger::Ledger;
use crate::log::Position;
use crate::record::Level;
use crate::time::Timestamp;

/// Version of the journal's format. Changelog: 1, the first.
pub const FORMAT: u32 = 1;

/// One entry, `{"<kind>":{…}}`. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Entry<'a> {
    /// The run began with this request.
    Start {
        format: u32,
        #[serde(rename = "at_ms")]
        at: Timestamp,
        request: Cow<'a, Request>,
    },
    /// All that the entries before it come to; the first entry of a later segment.
    Snapshot {
        format: u32,
        seq: u64,
        #[serde(rename = "at_ms")]
        at: Timestamp,
        /// What the plugin gave, base64.
        guest: Cow<'a, str>,
        ledger: Cow<'a, Ledger>,
        /// What the run began with: the entry that told it may be gone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<Box<Cow<'a, Request>>>,
    },
    /// The plugin was given these events.
    Step {
        seq: u64,
        #[serde(rename = "at_ms")]
        at: Timestamp,
        events: Cow<'a, [Event]>,
        /// How far the logs have been read whose lines are among the events, by the command that follows them.
        #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
        cursors: Cow<'a, [(CommandId, Position)]>,
        /// Lines that the plugin got cut, as they are shown.
        #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
        whole: Cow<'a, [WholeLine]>,
    },
    /// It answered with these commands. Missing where it gave none.
    Commands { seq: u64, commands: Cow<'a, [Command]> },
    /// The host told something about the run.
    Note { level: Level, text: Cow<'a, str> },
    /// A host took the run up again.
    Resumed {
        #[serde(rename = "at_ms")]
        at: Timestamp,
    },
    /// The run came to its end; what it has put into the cluster is still to be removed.
    End {
        seq: u64,
        #[serde(rename = "at_ms")]
        at: Timestamp,
        ending: Ending,
        result: Cow<'a, Map<String, Value>>,
        delete_jobs: Cow<'a, [ObjectRef]>,
        /// A log was still being read: what it had beyond is lost.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_unread: bool,
    },
    /// Nothing is left to be done.
    Closed,
}

/// A line that a plugin got cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WholeLine {
    pub index: u64,
    pub text: String,
}

impl Entry<'_> {
    /// The entry as a line, its line feed included.
    pub fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).expect("plain data with text keys serialises");
        line.push('\n');
        line
    }

    /// Reads a line.
    ///
    /// # Errors
    /// It is no entry of a format that this host knows.
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

/// Why a line is no entry.
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
    use super::*;

    #[test]
    fn entries_survive_their_line() {
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
    fn an_unknown_format_says_what_to_do() {
        let ledger = serde_json::to_string(&Ledger::default()).expect("plain data");
        let line = format!(r#"{{"snapshot":{{"format":9,"seq":0,"at_ms":0,"guest":"","ledger":{ledger}}}}}"#);
        assert_eq!(Entry::parse(&line), Err(EntryError::Format(9)));
        assert!(matches!(Entry::parse("{}"), Err(EntryError::Unreadable(_))));
    }
}
