//! The stream's events as entries of Paperclip's transcript.

use std::borrow::Cow;

use paperclip_kit::json::{count, for_each_element, is_null, number, pick, portable, some_text, text};
use paperclip_kit::stream::{Event, error_text};
use paperclip_kit::transcript::{ResultEntry, TranscriptEntry, no_input};
use serde_json::json;
use serde_json::value::RawValue;

/// Pushes the entries of an event.
pub(crate) fn push_event<'a>(event: &Event<'a>, ts: &'a str, to: &mut Vec<TranscriptEntry<'a>>) {
    let names = ["thread_id", "item", "usage", "error", "message"];
    let [thread, item, usage, error, message] = pick(event.json, &names).unwrap_or_default();
    match event.kind.as_ref() {
        "thread.started" => to.push(TranscriptEntry::Init {
            ts,
            model: "unknown".to_owned(),
            session_id: text(thread).unwrap_or_default().into_owned(),
        }),
        "turn.started" => to.push(TranscriptEntry::System { ts, text: "Turn started".to_owned() }),
        "item.started" | "item.updated" | "item.completed" => {
            let item = item.map_or("{}", RawValue::get);
            push_item(item, event.kind == "item.started", event.kind == "item.completed", ts, to);
        }
        "turn.completed" => to.push(TranscriptEntry::Result(Box::new(result_entry(usage, None, ts)))),
        "turn.failed" => {
            to.push(TranscriptEntry::Result(Box::new(result_entry(usage, error.map(error_text), ts))));
        }
        "error" => {
            let text = text(message).unwrap_or_default();
            to.push(TranscriptEntry::Stderr { ts, text });
        }
        _ => {}
    }
}

/// A tool is a call as it starts, and its result as it is complete.
fn push_item<'a>(
    item: &'a str,
    is_started: bool,
    is_completed: bool,
    ts: &'a str,
    to: &mut Vec<TranscriptEntry<'a>>,
) {
    let names = ["id", "type", "text", "message", "command", "aggregated_output", "exit_code", "status"];
    let [id, kind, said, message, command, output, exit, status] = pick(item, &names).unwrap_or_default();
    let kind = some_text(kind).unwrap_or_default().into_owned();
    let id = || text(id).unwrap_or_default().into_owned();
    let is_failed = text(status).is_some_and(|status| status == "failed");
    match kind.as_str() {
        "agent_message" if is_completed => {
            to.extend(some_text(said).map(|text| TranscriptEntry::Assistant {
                ts,
                text: text.into(),
                delta: false,
            }));
        }
        "reasoning" if is_completed => {
            to.extend(some_text(said).map(|text| TranscriptEntry::Thinking {
                ts,
                text: text.into(),
                delta: false,
            }));
        }
        "error" => {
            let text = text(message).unwrap_or_default();
            to.push(TranscriptEntry::Stderr { ts, text });
        }
        "command_execution" if is_started => to.push(TranscriptEntry::ToolCall {
            ts,
            name: kind,
            tool_use_id: Some(id()),
            input: input_of("command", command),
        }),
        "command_execution" if is_completed => {
            let code = number(exit);
            let mut content = text(output).unwrap_or_default().into_owned();
            if let Some(code) = code.filter(|code| *code != 0.0) {
                content.push_str(&format!("\n[exit code {code}]"));
            }
            let is_error = is_failed || code.is_some_and(|code| code != 0.0);
            to.push(TranscriptEntry::ToolResult { ts, tool_use_id: id(), content, is_error });
        }
        "file_change" => {
            let [changes] = pick(item, &["changes"]).unwrap_or_default();
            let text = format!("File changes: {}", described_changes(changes));
            to.push(TranscriptEntry::System { ts, text });
        }
        "mcp_tool_call" | "web_search" => push_tool(item, &kind, is_completed, is_failed, ts, to),
        "todo_list" => {
            let [items] = pick(item, &["items"]).unwrap_or_default();
            to.push(TranscriptEntry::System { ts, text: format!("To do: {}", described_tasks(items)) });
        }
        _ => {}
    }
    if to.is_empty()
        && matches!(kind_of(item).as_deref(), Some("agent_message" | "reasoning" | "command_execution"))
    {
        to.push(TranscriptEntry::System {
            ts,
            text: format!("{} in progress", kind_of(item).unwrap_or_default()),
        });
    }
}

fn kind_of(item: &str) -> Option<String> {
    let [kind] = pick(item, &["type"])?;
    some_text(kind).map(Cow::into_owned)
}

fn push_tool<'a>(
    item: &'a str,
    kind: &str,
    is_completed: bool,
    is_failed: bool,
    ts: &'a str,
    to: &mut Vec<TranscriptEntry<'a>>,
) {
    let names = ["id", "server", "tool", "arguments", "result", "error", "query"];
    let [id, server, tool, arguments, result, error, query] = pick(item, &names).unwrap_or_default();
    let id = text(id).unwrap_or_default().into_owned();
    let name = match (some_text(server), some_text(tool)) {
        (Some(server), Some(tool)) => format!("{server}.{tool}"),
        _ => kind.to_owned(),
    };
    if !is_completed {
        let input = match arguments.filter(|_| !is_null(arguments)) {
            Some(arguments) => portable(arguments),
            None => input_of("query", query),
        };
        to.push(TranscriptEntry::ToolCall { ts, name, tool_use_id: Some(id), input });
        return;
    }
    let shown = [error, result].into_iter().find(|member| member.is_some() && !is_null(*member)).flatten();
    let content = shown.map_or_else(String::new, |shown| match text(Some(shown)) {
        Some(text) => text.into_owned(),
        None => shown.get().to_owned(),
    });
    let is_error = is_failed || error.is_some_and(|error| !is_null(Some(error)));
    to.push(TranscriptEntry::ToolResult { ts, tool_use_id: id, content, is_error });
}

fn input_of<'a>(name: &str, value: Option<&RawValue>) -> Cow<'a, RawValue> {
    let input = json!({name: text(value).unwrap_or_default()}).to_string();
    RawValue::from_string(input).map_or(Cow::Borrowed(no_input()), Cow::Owned)
}

fn described_changes(changes: Option<&RawValue>) -> String {
    let mut shown = Vec::new();
    let _ = for_each_element(changes, |change| {
        let [path, kind] = pick(change.get(), &["path", "kind"]).unwrap_or_default();
        shown.push(format!("{} {}", text(kind).unwrap_or("change".into()), text(path).unwrap_or_default()));
    });
    shown.join(", ")
}

fn described_tasks(items: Option<&RawValue>) -> String {
    let mut shown = Vec::new();
    let _ = for_each_element(items, |item| {
        let [task, done] = pick(item.get(), &["text", "completed"]).unwrap_or_default();
        let mark = if paperclip_kit::json::is_true(done) { "[x]" } else { "[ ]" };
        shown.push(format!("{mark} {}", text(task).unwrap_or_default()));
    });
    shown.join(", ")
}

fn result_entry<'a>(usage: Option<&RawValue>, error: Option<String>, ts: &'a str) -> ResultEntry<'a> {
    let names = ["input_tokens", "cached_input_tokens", "output_tokens"];
    let [input, cached, output] = usage.and_then(|usage| pick(usage.get(), &names)).unwrap_or_default();
    ResultEntry {
        ts,
        text: String::new(),
        input_tokens: count(input).saturating_sub(count(cached)),
        output_tokens: count(output),
        cached_tokens: count(cached),
        cost_usd: 0.0,
        subtype: if error.is_some() { "failed" } else { "completed" }.to_owned(),
        is_error: error.is_some(),
        errors: error.into_iter().collect(),
    }
}
