//! Transcript entries as text for a person.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use super::style::{DIM, ERROR, HEADING, PLAIN, SUCCESS, TOOL, WARNING};

/// Most lines of a tool's result that are shown.
const RESULT_LINES: usize = 6;
/// Most characters of a line of a tool's arguments or result.
const LINE_CHARS: usize = 160;

/// The part of Paperclip's transcript entry that is rendered.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub(crate) enum Entry {
    Init {
        model: String,
        #[serde(default)]
        session_id: String,
    },
    Assistant {
        text: String,
    },
    Thinking {
        text: String,
    },
    ToolCall {
        name: String,
        #[serde(default)]
        input: Value,
    },
    ToolResult {
        #[serde(default)]
        content: String,
        #[serde(default)]
        is_error: bool,
    },
    User {
        text: String,
    },
    Result(ResultEntry),
    Stdout {
        text: String,
    },
    Stderr {
        text: String,
    },
    System {
        text: String,
    },
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(crate) struct ResultEntry {
    text: String,
    input_tokens: u64,
    output_tokens: u64,
    cached_tokens: u64,
    cost_usd: f64,
    subtype: String,
    is_error: bool,
    errors: Vec<String>,
}

/// Renders an entry as lines of text, each ending in a line feed.
pub(crate) fn render(entry: &Entry) -> String {
    match entry {
        Entry::Init { model, session_id } => {
            format!("{HEADING}▶ {model}{HEADING:#} {DIM}session {session_id}{DIM:#}\n")
        }
        Entry::Assistant { text } => indent("● ", PLAIN, text, usize::MAX),
        Entry::Thinking { text } => indent("∴ ", DIM, text, usize::MAX),
        Entry::ToolCall { name, input } => {
            format!("{TOOL}⚙ {name}{TOOL:#} {}\n", arguments(input))
        }
        Entry::ToolResult { content, is_error: false } => indent("  ⎿ ", DIM, content, RESULT_LINES),
        Entry::ToolResult { content, is_error: true } => indent("  ⎿ ", ERROR, content, RESULT_LINES),
        Entry::User { text } => indent("» ", DIM, text, usize::MAX),
        Entry::Result(result) => of_result(result),
        Entry::Stdout { text } => event(text),
        Entry::Stderr { text } => format!("{WARNING}stderr{WARNING:#} {text}\n"),
        Entry::System { text } => format!("{DIM}{text}{DIM:#}\n"),
        Entry::Unknown => String::new(),
    }
}

fn of_result(result: &ResultEntry) -> String {
    let (style, mark) = if result.is_error { (ERROR, "✗") } else { (SUCCESS, "✓") };
    let mut text = format!("{style}{mark} {}{style:#}\n", result.subtype);
    if result.is_error && !result.text.is_empty() {
        text.push_str(&indent("  ", ERROR, &result.text, RESULT_LINES));
    }
    for error in &result.errors {
        text.push_str(&indent("  ", ERROR, error, RESULT_LINES));
    }
    let ResultEntry { input_tokens, output_tokens, cached_tokens, cost_usd, .. } = result;
    let _ = writeln!(
        text,
        "{DIM}  tokens: in={input_tokens} out={output_tokens} cached={cached_tokens} cost=${cost_usd:.6}{DIM:#}"
    );
    text
}

/// Renders a line without an entry of its own: an event by its type, other text as it is.
fn event(text: &str) -> String {
    let parsed = serde_json::from_str::<Value>(text).ok();
    let kind = parsed.as_ref().and_then(|event| event["type"].as_str());
    match (parsed.as_ref(), kind) {
        (Some(event), Some("rate_limit_event")) => {
            let info = &event["rate_limit_info"];
            let limit = info["rateLimitType"].as_str().unwrap_or("unknown");
            let status = info["status"].as_str().unwrap_or("unknown");
            let resets = info["resetsAt"].as_i64().and_then(|at| jiff::Timestamp::from_second(at).ok());
            let resets = resets.map_or("unknown".to_owned(), |at| at.to_string());
            format!("{WARNING}rate_limit: type={limit} status={status} resets={resets}{WARNING:#}\n")
        }
        (Some(event), Some(kind)) => {
            let subtype = event["subtype"].as_str().map_or(String::new(), |subtype| format!("/{subtype}"));
            format!("{DIM}· {kind}{subtype}{DIM:#}\n")
        }
        _ => format!("{text}\n"),
    }
}

/// Renders a tool's arguments on one line, as names and values.
fn arguments(input: &Value) -> String {
    let text = match input {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| match value {
                Value::String(text) => format!("{name}={}", one_line(text)),
                other => format!("{name}={other}"),
            })
            .collect::<Vec<_>>()
            .join("  "),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    shorten(&text)
}

fn one_line(text: &str) -> String {
    text.split('\n').collect::<Vec<_>>().join("⏎")
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(LINE_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Renders text behind a mark, with further lines aligned to the first; at most `max_lines` lines, then how many more there are.
fn indent(mark: &str, style: anstyle::Style, text: &str, max_lines: usize) -> String {
    let margin = " ".repeat(mark.chars().count());
    let mut lines = text.trim_end().lines();
    let mut out = String::new();
    for (index, line) in lines.by_ref().take(max_lines).enumerate() {
        let lead = if index == 0 { mark } else { &margin };
        let line = if max_lines == usize::MAX { line.to_owned() } else { shorten(line) };
        let _ = writeln!(out, "{style}{lead}{line}{style:#}");
    }
    let more = lines.count();
    if more > 0 {
        let _ = writeln!(out, "{DIM}{margin}… {more} more lines{DIM:#}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plain(entry: Value) -> String {
        let entry: Entry = serde_json::from_value(entry).unwrap();
        anstream::adapter::strip_str(&render(&entry)).to_string()
    }

    #[test]
    fn renders_each_kind_of_entry() {
        for (entry, text) in [
            (json!({"kind": "assistant", "ts": "t", "text": "a\nb"}), "● a\n  b\n"),
            (
                json!({"kind": "tool_call", "ts": "t", "name": "Bash", "input": {"command": "a\nb", "n": 1}}),
                "⚙ Bash command=a⏎b  n=1\n",
            ),
            (
                json!({"kind": "tool_result", "ts": "t", "toolUseId": "x", "content": "1\n2\n3\n4\n5\n6\n7\n8", "isError": false}),
                "  ⎿ 1\n    2\n    3\n    4\n    5\n    6\n    … 2 more lines\n",
            ),
            (json!({"kind": "stdout", "ts": "t", "text": "plain words"}), "plain words\n"),
            (
                json!({"kind": "stdout", "ts": "t", "text": "{\"type\":\"system\",\"subtype\":\"api_retry\"}"}),
                "· system/api_retry\n",
            ),
            (json!({"kind": "from_the_future", "ts": "t"}), ""),
        ] {
            assert_eq!(plain(entry.clone()), text, "{entry}");
        }
    }

    #[test]
    fn renders_a_result_with_its_cost() {
        let entry = json!({"kind": "result", "ts": "t", "text": "no", "inputTokens": 3, "outputTokens": 1, "cachedTokens": 2,
            "costUsd": 0.5, "subtype": "error_max_turns", "isError": true, "errors": ["too many"]});
        assert_eq!(
            plain(entry),
            "✗ error_max_turns\n  no\n  too many\n  tokens: in=3 out=1 cached=2 cost=$0.500000\n"
        );
    }
}
