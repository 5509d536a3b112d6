//! The stream's lines as entries of Paperclip's transcript.
//!
//! Every line becomes at least one entry, unless it is blank. What is not understood is shown as it was printed, and nothing is
//! left out because its message id was seen before: a message arrives as one event per content block.

mod notice;

use paperclip_kit::json::{
    count, for_each_element, is_null, is_true, number, pick, portable, some_text, text,
};
use paperclip_kit::stream::error_text;
use paperclip_kit::transcript::{ResultEntry, TranscriptEntry, no_input};
use serde_json::value::RawValue;

use self::notice::notice;
use crate::agent::Claude;
use crate::stream::event::Event;

/// Returns a JSON array of the entries of a line of standard output.
pub fn entries_json(line: &str, ts: &str) -> String {
    paperclip_kit::transcript::entries_json::<Claude>(line, ts)
}

/// Pushes the entries of an event.
pub(crate) fn push_event<'a>(event: &Event<'a>, ts: &'a str, to: &mut Vec<TranscriptEntry<'a>>) {
    match event.kind.as_ref() {
        "system" if event.has_subtype("init") => {
            let [model] = pick(event.json, &["model"]).unwrap_or_default();
            let model = text(model).unwrap_or("unknown".into()).into_owned();
            let session_id = text(event.session_id).unwrap_or_default().into_owned();
            to.push(TranscriptEntry::Init { ts, model, session_id });
        }
        "assistant" => push_blocks(event, ts, to, push_assistant_block),
        "user" => push_blocks(event, ts, to, push_user_block),
        "result" => to.push(TranscriptEntry::Result(Box::new(result_entry(event.json, ts)))),
        "stream_event" => push_delta(event.json, ts, to),
        _ => {}
    }
    if to.is_empty() {
        to.extend(notice(event).map(|text| TranscriptEntry::System { ts, text }));
    }
}

/// A piece of a message that is still being written.
fn push_delta<'a>(json: &str, ts: &'a str, to: &mut Vec<TranscriptEntry<'a>>) {
    let Some(delta) = delta_of(json) else { return };
    let [text, thinking] = pick(delta.get(), &["text", "thinking"]).unwrap_or_default();
    if let Some(text) = some_text(text) {
        to.push(TranscriptEntry::Assistant { ts, text: text.into(), delta: true });
    } else if let Some(text) = some_text(thinking) {
        to.push(TranscriptEntry::Thinking { ts, text: text.into(), delta: true });
    }
}

fn delta_of(json: &str) -> Option<&RawValue> {
    let [event] = pick(json, &["event"])?;
    let [delta] = pick(event?.get(), &["delta"])?;
    delta
}

type PushBlock = for<'a> fn(&Block<'a>, &'a str, &mut Vec<TranscriptEntry<'a>>);

/// A content block: its members by the names that blocks have.
struct Block<'a> {
    kind: String,
    text: Option<&'a RawValue>,
    thinking: Option<&'a RawValue>,
    name: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    tool_use_id: Option<&'a RawValue>,
    input: Option<&'a RawValue>,
    content: Option<&'a RawValue>,
    is_error: Option<&'a RawValue>,
}

impl<'a> Block<'a> {
    fn read(json: &'a RawValue) -> Option<Block<'a>> {
        let names = ["type", "text", "thinking", "name", "id", "tool_use_id", "input", "content", "is_error"];
        let [kind, text, thinking, name, id, tool_use_id, input, content, is_error] =
            pick(json.get(), &names)?;
        let kind = some_text(kind)?.into_owned();
        Some(Block { kind, text, thinking, name, id, tool_use_id, input, content, is_error })
    }
}

/// Pushes a message's blocks. Blocks of an unknown kind beside known ones are shown as they are; a message of nothing else is shown
/// as a whole.
fn push_blocks<'a>(event: &Event<'a>, ts: &'a str, to: &mut Vec<TranscriptEntry<'a>>, push: PushBlock) {
    let Some([content]) = event.message.and_then(|message| pick(message.get(), &["content"])) else { return };
    if let Some(text) = some_text(content) {
        let text = text.into_owned();
        to.push(match event.kind.as_ref() {
            "user" => TranscriptEntry::User { ts, text },
            _ => TranscriptEntry::Assistant { ts, text, delta: false },
        });
    }
    let mut unknown = Vec::new();
    let has_more = for_each_element(content, |json| {
        let before = to.len();
        let block = Block::read(json);
        if let Some(block) = &block {
            push(block, ts, to);
        }
        if to.len() == before && !block.is_some_and(|block| block.is_empty()) {
            unknown.push((before, json));
        }
    });
    if has_more {
        // A message has fewer blocks: it is shown as it was printed.
        to.clear();
    }
    if !to.is_empty() {
        for (place, json) in unknown.into_iter().rev() {
            to.insert(place, TranscriptEntry::Stdout { ts, text: json.get() });
        }
    }
}

impl Block<'_> {
    /// A text or a thought without a word: the CLI prints them as they start.
    fn is_empty(&self) -> bool {
        matches!(self.kind.as_str(), "text" | "thinking")
    }
}

fn push_assistant_block<'a>(block: &Block<'a>, ts: &'a str, to: &mut Vec<TranscriptEntry<'a>>) {
    match block.kind.as_str() {
        "text" => {
            to.extend(some_text(block.text).map(|text| TranscriptEntry::Assistant {
                ts,
                text: text.into(),
                delta: false,
            }));
        }
        "thinking" => {
            to.extend(some_text(block.thinking).map(|text| TranscriptEntry::Thinking {
                ts,
                text: text.into(),
                delta: false,
            }));
        }
        "tool_use" | "server_tool_use" | "mcp_tool_use" => to.push(TranscriptEntry::ToolCall {
            ts,
            name: text(block.name).unwrap_or("unknown".into()).into_owned(),
            tool_use_id: text(block.id).or(text(block.tool_use_id)).map(Into::into),
            input: portable(block.input.filter(|_| !is_null(block.input)).unwrap_or_else(no_input)),
        }),
        _ => push_tool_result(block, ts, to),
    }
}

fn push_user_block<'a>(block: &Block<'a>, ts: &'a str, to: &mut Vec<TranscriptEntry<'a>>) {
    match block.kind.as_str() {
        "text" => {
            to.extend(some_text(block.text).map(|text| TranscriptEntry::User { ts, text: text.into() }));
        }
        _ => push_tool_result(block, ts, to),
    }
}

/// Tools that the provider runs have results of their own kinds, such as `web_search_tool_result`.
fn push_tool_result<'a>(block: &Block<'a>, ts: &'a str, to: &mut Vec<TranscriptEntry<'a>>) {
    if block.kind.ends_with("tool_result") {
        to.push(TranscriptEntry::ToolResult {
            ts,
            tool_use_id: text(block.tool_use_id).unwrap_or_default().into_owned(),
            content: result_text(block.content),
            is_error: is_true(block.is_error),
        });
    }
}

/// A result's text, or the texts of its parts, a line each; parts without a text are named by their kind.
fn result_text(content: Option<&RawValue>) -> String {
    if let Some(text) = text(content) {
        return text.into_owned();
    }
    let mut lines = Vec::new();
    let has_more = for_each_element(content, |part| {
        let [kind, part_text] = pick(part.get(), &["type", "text"]).unwrap_or_default();
        match (text(part_text), some_text(kind)) {
            (Some(text), _) => lines.push(text.into_owned()),
            (None, Some(kind)) => lines.push(format!("[{kind}]")),
            (None, None) => {}
        }
    });
    if has_more {
        lines.push("[more parts than are shown]".to_owned());
    }
    lines.join("\n")
}

fn result_entry<'a>(json: &'a str, ts: &'a str) -> ResultEntry<'a> {
    let names = ["result", "usage", "total_cost_usd", "subtype", "is_error", "errors"];
    let [result, usage, cost, subtype, is_error, error_list] = pick(json, &names).unwrap_or_default();
    let usage_names = ["input_tokens", "output_tokens", "cache_read_input_tokens"];
    let [input, output, cached] = usage.and_then(|usage| pick(usage.get(), &usage_names)).unwrap_or_default();
    let mut errors = Vec::new();
    let _ = for_each_element(error_list, |error| {
        errors.extend(Some(error_text(error)).filter(|text| !text.is_empty()));
    });
    ResultEntry {
        ts,
        text: text(result).unwrap_or_default().into_owned(),
        input_tokens: count(input),
        output_tokens: count(output),
        cached_tokens: count(cached),
        cost_usd: number(cost).unwrap_or(0.0),
        subtype: text(subtype).unwrap_or_default().into_owned(),
        is_error: is_true(is_error),
        errors,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use paperclip_kit::json::ELEMENTS;

    use super::*;

    const TS: &str = "2026-11-22T06:28:11.156Z";

    fn shown(line: &str) -> Value {
        serde_json::from_str(&entries_json(line, TS)).unwrap()
    }

    fn of_message(kind: &str, content: &Value) -> Value {
        shown(&json!({"type": kind, "message": {"id": "m", "content": content}}).to_string())
    }

    #[test]
    fn an_init_event_has_model_and_session() {
        let line = r#"{"type":"system","subtype":"init","model":"m","session_id":"s"}"#;
        assert_eq!(shown(line), json!([{"kind": "init", "ts": TS, "model": "m", "sessionId": "s"}]));
        let line = r#"{"type":"system","subtype":"init"}"#;
        assert_eq!(shown(line), json!([{"kind": "init", "ts": TS, "model": "unknown", "sessionId": ""}]));
    }

    #[test]
    fn each_block_of_the_assistant_is_an_entry() {
        let content = json!([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hi"},
            {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}},
            {"type": "tool_use", "tool_use_id": "t2"}]);
        assert_eq!(
            of_message("assistant", &content),
            json!([
                {"kind": "thinking", "ts": TS, "text": "hm"},
                {"kind": "assistant", "ts": TS, "text": "hi"},
                {"kind": "tool_call", "ts": TS, "name": "Bash", "toolUseId": "t1", "input": {"command": "ls"}},
                {"kind": "tool_call", "ts": TS, "name": "unknown", "toolUseId": "t2", "input": {}},
            ])
        );
    }

    #[test]
    fn the_result_of_a_tool_is_text() {
        let content = json!([{"type": "tool_result", "tool_use_id": "t1", "content": "out"},
            {"type": "tool_result", "tool_use_id": "t2", "is_error": true,
             "content": [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]},
            {"type": "text", "text": "continue"}]);
        assert_eq!(
            of_message("user", &content),
            json!([
                {"kind": "tool_result", "ts": TS, "toolUseId": "t1", "content": "out", "isError": false},
                {"kind": "tool_result", "ts": TS, "toolUseId": "t2", "content": "a\n[image]\nb", "isError": true},
                {"kind": "user", "ts": TS, "text": "continue"},
            ])
        );
    }

    #[test]
    fn a_result_has_usage_and_errors() {
        let line = json!({"result": "done", "total_cost_usd": 0.5, "errors": ["a", {"message": "b"}, {"x": 1}, ""],
            "usage": {"input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 1}, "is_error": true,
            "subtype": "success", "type": "result"});
        assert_eq!(
            shown(&line.to_string()),
            json!([{"kind": "result", "ts": TS, "text": "done", "inputTokens": 3, "outputTokens": 1,
                "cachedTokens": 2, "costUsd": 0.5, "subtype": "success", "isError": true,
                "errors": ["a", "b", "{\"x\":1}"]}])
        );
    }

    #[test]
    fn shows_as_it_is_what_is_not_understood() {
        for line in [
            "plain",
            "{\"type\":\"assis",
            "[1]",
            "{\"a\":1}",
            r#"{"type":"future_event"}"#,
            r#"{"type":"assistant","message":{"content":[{"type":"text","text":""}]}}"#,
            r#"{"type":"assistant","message":{"content":[{"type":"future"}]}}"#,
            r#"{"type":"user"}"#,
        ] {
            assert_eq!(shown(line), json!([{"kind": "stdout", "ts": TS, "text": line}]));
        }
        assert_eq!(shown("plain\r"), json!([{"kind": "stdout", "ts": TS, "text": "plain"}]));
        assert_eq!(shown(" \r"), json!([]));
    }

    #[test]
    fn a_block_of_an_unknown_kind_keeps_its_place() {
        let content =
            json!([{"type": "future", "n": 1}, {"type": "text", "text": "x"}, {"type": "future", "n": 2}]);
        assert_eq!(
            of_message("assistant", &content),
            json!([
                {"kind": "stdout", "ts": TS, "text": "{\"type\":\"future\",\"n\":1}"},
                {"kind": "assistant", "ts": TS, "text": "x"},
                {"kind": "stdout", "ts": TS, "text": "{\"type\":\"future\",\"n\":2}"},
            ])
        );
    }

    #[test]
    fn shows_a_message_of_countless_blocks_as_it_is() {
        let block = r#"{"type":"text","text":"x"}"#;
        let line = |blocks: usize| {
            format!(r#"{{"type":"assistant","message":{{"content":[{}]}}}}"#, vec![block; blocks].join(","))
        };
        assert_eq!(shown(&line(ELEMENTS)).as_array().unwrap().len(), ELEMENTS);
        assert_eq!(
            shown(&line(ELEMENTS + 1)),
            json!([{"kind": "stdout", "ts": TS, "text": line(ELEMENTS + 1)}])
        );
    }

    #[test]
    fn renders_status_events_of_the_cli() {
        for (event, expected) in [
            (
                json!({"type": "system", "subtype": "api_retry", "attempt": 4, "max_retries": 10, "error_status": 529,
                "error": "overloaded"}),
                "API retry 4 of 10: 529 overloaded",
            ),
            (json!({"type": "system", "subtype": "status", "status": "compacting"}), "Status: compacting"),
            (
                json!({"type": "system", "subtype": "status", "status": null, "compact_result": "failed",
                "compact_error": "exhausted"}),
                "Status: none (compact_result: failed, compact_error: exhausted)",
            ),
            (
                json!({"type": "system", "subtype": "compact_boundary", "compact_metadata": {"trigger": "auto",
                "pre_tokens": 155_000}}),
                "Conversation compacted (trigger: auto, pre_tokens: 155000)",
            ),
            (
                json!({"type": "system", "subtype": "background_tasks_changed", "tasks": [{"task_id": "b1",
                "description": "bg"}, {"task_id": "b2"}]}),
                "Background tasks: bg, b2",
            ),
            (
                json!({"type": "system", "subtype": "background_tasks_changed", "tasks": []}),
                "Background tasks: none",
            ),
            (
                json!({"type": "system", "subtype": "task_started", "task_id": "b1", "description": "bg"}),
                "Task bg: started",
            ),
            (
                json!({"type": "system", "subtype": "task_updated", "task_id": "b1", "patch": {"status": "killed"}}),
                "Task b1: killed",
            ),
            (
                json!({"type": "system", "subtype": "task_notification", "task_id": "b1", "status": "stopped",
                "summary": "it was stopped"}),
                "Task b1: stopped, it was stopped",
            ),
            (
                json!({"type": "system", "subtype": "hook_started", "hook_name": "SessionStart:startup",
                "hook_event": "SessionStart"}),
                "Hook SessionStart:startup: started",
            ),
            (
                json!({"type": "system", "subtype": "hook_response", "hook_name": "Stop", "exit_code": 2, "stdout": "",
                "stderr": "no\n"}),
                "Hook Stop: response (exit code 2): no",
            ),
            (
                json!({"type": "system", "subtype": "informational", "content": "x", "level": "notice"}),
                "notice: x",
            ),
            (json!({"type": "system", "subtype": "notification", "text": "x"}), "notification: x"),
            (json!({"type": "system", "subtype": "future", "n": 1}), "future"),
            (
                json!({"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "rateLimitType": "five_hour",
                "resetsAt": 1_780_000_000}}),
                "Rate limit five_hour: rejected, resets 2026-05-28T20:26:40.000Z",
            ),
            (
                json!({"type": "stream_event", "event": {"type": "message_start"}}),
                "Partial message: message_start",
            ),
            (
                json!({"type": "stream_event", "event": {"type": "content_block_delta", "delta":
                {"type": "input_json_delta", "partial_json": "{\"a\""}}}),
                "Partial message: content_block_delta {\"a\"",
            ),
        ] {
            assert_eq!(shown(&event.to_string()), json!([{"kind": "system", "ts": TS, "text": expected}]));
        }
    }

    #[test]
    fn a_partial_message_is_shown_piece_by_piece() {
        let piece = |delta: Value| {
            shown(
                &json!({"type": "stream_event", "event": {"type": "content_block_delta", "delta": delta}})
                    .to_string(),
            )
        };
        assert_eq!(
            piece(json!({"type": "text_delta", "text": "Let "})),
            json!([{"kind": "assistant", "ts": TS, "text": "Let ", "delta": true}])
        );
        assert_eq!(
            piece(json!({"type": "thinking_delta", "thinking": "hm"})),
            json!([{"kind": "thinking", "ts": TS, "text": "hm", "delta": true}])
        );
    }

    #[test]
    fn events_beside_text_have_entries_of_their_own() {
        let line = r#"Now using node v20{"type":"user","message":{"content":"a"}}{"type":"future"}"#;
        assert_eq!(
            shown(line),
            json!([
                {"kind": "stdout", "ts": TS, "text": "Now using node v20"},
                {"kind": "user", "ts": TS, "text": "a"},
                {"kind": "stdout", "ts": TS, "text": "{\"type\":\"future\"}"},
            ])
        );
        let cut = r#"{"type":"user","message":{"content":"a"}}{"type":"#;
        assert_eq!(shown(cut), json!([{"kind": "stdout", "ts": TS, "text": cut}]));
    }

    #[test]
    fn content_may_be_one_text() {
        assert_eq!(of_message("user", &json!("hello")), json!([{"kind": "user", "ts": TS, "text": "hello"}]));
        assert_eq!(
            of_message("assistant", &json!("hi")),
            json!([{"kind": "assistant", "ts": TS, "text": "hi"}])
        );
    }
}
