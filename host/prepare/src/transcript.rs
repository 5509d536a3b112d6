//! Transcript entries as text for a person.

use std::fmt::Write as _;

use anstyle::Style;
use serde::Deserialize;
use serde_json::Value;

/// Most lines of a tool's result that are shown.
const RESULT_LINES: usize = 6;
/// Most characters of a line of a tool's arguments or result.
const LINE_CHARS: usize = 160;

/// The styles of a rendering.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Palette {
    pub heading: Style,
    pub tool: Style,
    pub success: Style,
    pub warning: Style,
    pub error: Style,
    pub dim: Style,
}

/// The part of Paperclip's transcript entry that is rendered.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Entry {
    Init {
        model: String,
        #[serde(default)]
        session_id: String,
    },
    Assistant {
        text: String,
        /// The text is a piece of a message that follows as a whole.
        #[serde(default)]
        delta: bool,
    },
    Thinking {
        text: String,
        #[serde(default)]
        delta: bool,
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
pub struct ResultEntry {
    text: String,
    input_tokens: u64,
    output_tokens: u64,
    cached_tokens: u64,
    cost_usd: f64,
    subtype: String,
    is_error: bool,
    errors: Vec<String>,
}

/// Returns the entries of one line, a JSON array as a plugin returns it, as text: lines that each end in a line feed.
///
/// # Errors
/// It is not an array of entries.
///
/// ```
/// use paperclip_prepare::transcript::{Palette, text};
///
/// let entries = r#"[{"kind": "assistant", "ts": "t", "text": "Hello"}]"#;
/// assert_eq!(text(entries, &Palette::default()).unwrap(), "● Hello\n");
/// ```
pub fn text(entries: &str, palette: &Palette) -> serde_json::Result<String> {
    let entries: Vec<Entry> = serde_json::from_str(entries)?;
    Ok(entries.iter().map(|entry| render(entry, palette)).collect())
}

/// Renders an entry as lines of text, each ending in a line feed.
fn render(entry: &Entry, palette: &Palette) -> String {
    let Palette { heading, tool, warning, error, dim, .. } = *palette;
    let dimmed = Lines { style: dim, more: dim };
    match entry {
        Entry::Assistant { delta: true, .. } | Entry::Thinking { delta: true, .. } => String::new(),
        Entry::Init { model, session_id } => {
            format!("{heading}▶ {model}{heading:#} {dim}session {session_id}{dim:#}\n")
        }
        Entry::Assistant { text, .. } => {
            Lines { style: Style::new(), more: dim }.indent("● ", text, usize::MAX)
        }
        Entry::Thinking { text, .. } => dimmed.indent("∴ ", text, usize::MAX),
        Entry::ToolCall { name, input } => {
            format!("{tool}⚙ {name}{tool:#} {}\n", arguments(input))
        }
        Entry::ToolResult { content, is_error: false } => dimmed.indent("  ⎿ ", content, RESULT_LINES),
        Entry::ToolResult { content, is_error: true } => {
            Lines { style: error, more: dim }.indent("  ⎿ ", content, RESULT_LINES)
        }
        Entry::User { text } => dimmed.indent("» ", text, usize::MAX),
        Entry::Result(result) => of_result(result, palette),
        Entry::Stdout { text } => event(text, palette),
        Entry::Stderr { text } => format!("{warning}stderr{warning:#} {text}\n"),
        Entry::System { text } => format!("{dim}{text}{dim:#}\n"),
        Entry::Unknown => String::new(),
    }
}

fn of_result(result: &ResultEntry, palette: &Palette) -> String {
    let Palette { success, error, dim, .. } = *palette;
    let (style, mark) = if result.is_error { (error, "✗") } else { (success, "✓") };
    let mut text = format!("{style}{mark} {}{style:#}\n", result.subtype);
    let failed = Lines { style: error, more: dim };
    if result.is_error && !result.text.is_empty() {
        text.push_str(&failed.indent("  ", &result.text, RESULT_LINES));
    }
    for error in &result.errors {
        text.push_str(&failed.indent("  ", error, RESULT_LINES));
    }
    let ResultEntry { input_tokens, output_tokens, cached_tokens, cost_usd, .. } = result;
    let _ = writeln!(
        text,
        "{dim}  tokens: in={input_tokens} out={output_tokens} cached={cached_tokens} cost=${cost_usd:.6}{dim:#}"
    );
    text
}

/// Renders a line without an entry of its own: an event by its type, other text as it is.
fn event(text: &str, palette: &Palette) -> String {
    let Palette { warning, dim, .. } = *palette;
    let parsed = serde_json::from_str::<Value>(text).ok();
    let kind = parsed.as_ref().and_then(|event| event["type"].as_str());
    match (parsed.as_ref(), kind) {
        (Some(event), Some("rate_limit_event")) => {
            let info = &event["rate_limit_info"];
            let limit = info["rateLimitType"].as_str().unwrap_or("unknown");
            let status = info["status"].as_str().unwrap_or("unknown");
            let resets = info["resetsAt"].as_i64().and_then(|at| jiff::Timestamp::from_second(at).ok());
            let resets = resets.map_or("unknown".to_owned(), |at| at.to_string());
            format!("{warning}rate_limit: type={limit} status={status} resets={resets}{warning:#}\n")
        }
        (Some(event), Some(kind)) => {
            let subtype = event["subtype"].as_str().map_or(String::new(), |subtype| format!("/{subtype}"));
            format!("{dim}· {kind}{subtype}{dim:#}\n")
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

/// The styles of text of several lines.
struct Lines {
    style: Style,
    /// Of the note that there are more lines.
    more: Style,
}

impl Lines {
    /// Renders text behind a mark, with further lines aligned to the first; at most `max_lines` lines, then how many more there are.
    fn indent(&self, mark: &str, text: &str, max_lines: usize) -> String {
        let Lines { style, more } = self;
        let margin = " ".repeat(mark.chars().count());
        let mut lines = text.trim_end().lines();
        let mut out = String::new();
        for (index, line) in lines.by_ref().take(max_lines).enumerate() {
            let lead = if index == 0 { mark } else { &margin };
            let line = if max_lines == usize::MAX { line.to_owned() } else { shorten(line) };
            let _ = writeln!(out, "{style}{lead}{line}{style:#}");
        }
        let left = lines.count();
        if left > 0 {
            let _ = writeln!(out, "{more}{margin}… {left} more lines{more:#}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plain(entry: &Value) -> String {
        text(&json!([entry]).to_string(), &Palette::default()).unwrap()
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
            (json!({"kind": "assistant", "ts": "t", "text": "a", "delta": true}), ""),
            (json!({"kind": "stdout", "ts": "t", "text": "plain words"}), "plain words\n"),
            (
                json!({"kind": "stdout", "ts": "t", "text": "{\"type\":\"system\",\"subtype\":\"api_retry\"}"}),
                "· system/api_retry\n",
            ),
            (json!({"kind": "from_the_future", "ts": "t"}), ""),
        ] {
            assert_eq!(plain(&entry), text, "{entry}");
        }
    }

    #[test]
    fn renders_a_result_with_its_cost() {
        let entry = json!({"kind": "result", "ts": "t", "text": "no", "inputTokens": 3, "outputTokens": 1, "cachedTokens": 2,
            "costUsd": 0.5, "subtype": "error_max_turns", "isError": true, "errors": ["too many"]});
        assert_eq!(
            plain(&entry),
            "✗ error_max_turns\n  no\n  too many\n  tokens: in=3 out=1 cached=2 cost=$0.500000\n"
        );
    }
}
