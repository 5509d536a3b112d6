//! What a run shows to whoever watches: the records of `--output ndjson` and of the daemon's event stream.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
