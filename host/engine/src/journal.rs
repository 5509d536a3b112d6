//! The lines of a run's journal. Each is one JSON object; the shell adds the checksum when it writes them.

use paperclip_contract::types::{Command, Event, Request};
use serde::Serialize;
use serde_json::{Map, Value};

/// Version of the journal's format. Changelog: 1, the first.
pub const FORMAT: u32 = 1;

/// One record of the journal.
#[derive(Debug, Serialize)]
#[serde(tag = "record", rename_all = "lowercase")]
enum Line<'a> {
    /// The run began with this request, which holds no secret.
    Start { format: u32, at_ms: u64, request: &'a Request },
    /// The plugin was given these events.
    Step { seq: u64, at_ms: u64, events: &'a [Event] },
    /// It answered with these commands.
    Commands { seq: u64, commands: &'a [Command] },
    /// The run came to its end.
    End { seq: u64, result: &'a Map<String, Value> },
}

pub(crate) fn start_line(at_ms: u64, request: &Request) -> String {
    line(&Line::Start { format: FORMAT, at_ms, request })
}

pub(crate) fn step_line(seq: u64, at_ms: u64, events: &[Event]) -> String {
    line(&Line::Step { seq, at_ms, events })
}

pub(crate) fn commands_line(seq: u64, commands: &[Command]) -> String {
    line(&Line::Commands { seq, commands })
}

pub(crate) fn end_line(seq: u64, result: &Map<String, Value>) -> String {
    line(&Line::End { seq, result })
}

fn line(record: &Line<'_>) -> String {
    let mut line = serde_json::to_string(record).expect("plain data with text keys serialises");
    line.push('\n');
    line
}
