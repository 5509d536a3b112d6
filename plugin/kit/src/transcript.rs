//! The stream's lines as entries of Paperclip's transcript.
//!
//! Every line becomes at least one entry, unless it is blank. What is not understood is shown as it was printed.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::cli::Cli;
use crate::outcome::without_escapes;
use crate::stream::{AgentStream, Part, ReadEvent as _, for_each_part};

/// The events of an agent type.
type EventOf<'a, A> = <<A as Cli>::Stream as AgentStream>::Event<'a>;

/// Paperclip's `TranscriptEntry`, as far as agents here need it. `ts` is the time at which the line was read.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum TranscriptEntry<'a> {
    Init {
        ts: &'a str,
        model: String,
        session_id: String,
    },
    Assistant {
        ts: &'a str,
        text: String,
        /// The text continues the entry before: it is a piece of a message that follows as a whole.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        delta: bool,
    },
    Thinking {
        ts: &'a str,
        text: String,
        /// As of an assistant's text.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        delta: bool,
    },
    ToolCall {
        ts: &'a str,
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        tool_use_id: Option<String>,
        input: Cow<'a, RawValue>,
    },
    ToolResult {
        ts: &'a str,
        tool_use_id: String,
        content: String,
        is_error: bool,
    },
    User {
        ts: &'a str,
        text: String,
    },
    Result(Box<ResultEntry<'a>>),
    /// What the agent says about its own work.
    System {
        ts: &'a str,
        text: String,
    },
    Stdout {
        ts: &'a str,
        text: &'a str,
    },
    /// What the agent says went wrong.
    Stderr {
        ts: &'a str,
        text: Cow<'a, str>,
    },
}

/// The end of a run in its transcript.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultEntry<'a> {
    pub ts: &'a str,
    pub text: String,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cached_tokens: u64,
    pub cost_usd: f64,
    pub subtype: String,
    pub is_error: bool,
    pub errors: Vec<String>,
}

/// Returns the entries of a line of standard output. `ts` is a time in ISO 8601.
pub fn entries<'a, A: Cli>(line: &'a str, ts: &'a str) -> Vec<TranscriptEntry<'a>> {
    let mut entries = Vec::new();
    let mut is_understood = true;
    for_each_part(line, &mut |part: Part<'a, EventOf<'a, A>>| match part {
        Part::CutEvent => is_understood = false,
        Part::Untyped(text) => entries.push(TranscriptEntry::Stdout { ts, text }),
        Part::Event(event) => {
            let mut of_event = Vec::new();
            A::entries_of(&event, ts, &mut of_event);
            if of_event.is_empty() {
                of_event.push(TranscriptEntry::Stdout { ts, text: event.json() });
            }
            entries.append(&mut of_event);
        }
    });
    let is_one = matches!(entries.as_slice(), [TranscriptEntry::Stdout { .. }]);
    if is_one || !is_understood {
        // Shown to its last character.
        entries = vec![TranscriptEntry::Stdout { ts, text: line.trim_end_matches('\r') }];
    }
    entries
}

/// Returns a JSON array of the entries of a line of standard output.
pub fn entries_json<A: Cli>(line: &str, ts: &str) -> String {
    let clean = without_escapes(line);
    let mut shown = entries::<A>(&clean, ts);
    if shown.iter().all(|entry| matches!(entry, TranscriptEntry::Stdout { .. })) {
        // Text is shown with its colours.
        shown = entries::<A>(line, ts);
    }
    // Texts and raw JSON cannot fail.
    serde_json::to_string(&shown).unwrap_or_else(|_| "[]".to_owned())
}

/// Returns the input of a tool that was called without one.
pub fn no_input<'a>() -> &'a RawValue {
    serde_json::from_str("{}").expect("an empty object is JSON")
}
