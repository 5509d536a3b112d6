//! The stream's events as entries of Paperclip's transcript.

use paperclip_kit::json::{count, is_null, pick, portable, text};
use paperclip_kit::stream::{Event, error_text};
use paperclip_kit::transcript::{ResultEntry, TranscriptEntry, no_input};

/// Pushes the entries of an event.
pub(crate) fn push_event<'a>(event: &Event<'a>, ts: &'a str, to: &mut Vec<TranscriptEntry<'a>>) {
    match event.kind.as_ref() {
        "init" => {
            let [session, model] = pick(event.json, &["session_id", "model"]).unwrap_or_default();
            to.push(TranscriptEntry::Init {
                ts,
                model: text(model).unwrap_or("unknown".into()).into_owned(),
                session_id: text(session).unwrap_or_default().into_owned(),
            });
        }
        "message" => {
            let [role, content] = pick(event.json, &["role", "content"]).unwrap_or_default();
            let is_users = text(role).is_some_and(|role| role == "user");
            let text = text(content).unwrap_or_default().into_owned();
            to.push(if is_users {
                TranscriptEntry::User { ts, text }
            } else {
                TranscriptEntry::Assistant { ts, text, delta: true }
            });
        }
        "tool_use" => {
            let [name, id, input] =
                pick(event.json, &["tool_name", "tool_id", "parameters"]).unwrap_or_default();
            to.push(TranscriptEntry::ToolCall {
                ts,
                name: text(name).unwrap_or("unknown".into()).into_owned(),
                tool_use_id: text(id).map(Into::into),
                input: portable(input.filter(|_| !is_null(input)).unwrap_or_else(no_input)),
            });
        }
        "tool_result" => {
            let [id, status, output, error] =
                pick(event.json, &["tool_id", "status", "output", "error"]).unwrap_or_default();
            let output = text(output).map(Into::into);
            to.push(TranscriptEntry::ToolResult {
                ts,
                tool_use_id: text(id).unwrap_or_default().into_owned(),
                content: output.or_else(|| error.map(error_text)).unwrap_or_default(),
                is_error: text(status).is_some_and(|status| status == "error"),
            });
        }
        "error" => {
            let [severity, message] = pick(event.json, &["severity", "message"]).unwrap_or_default();
            let message = text(message).unwrap_or_default();
            to.push(if text(severity).is_some_and(|severity| severity == "warning") {
                TranscriptEntry::System { ts, text: message.into_owned() }
            } else {
                TranscriptEntry::Stderr { ts, text: message }
            });
        }
        "result" => to.push(TranscriptEntry::Result(Box::new(result_entry(event.json, ts)))),
        _ => {}
    }
}

fn result_entry<'a>(json: &str, ts: &'a str) -> ResultEntry<'a> {
    let [status, error, stats] = pick(json, &["status", "error", "stats"]).unwrap_or_default();
    let [input, cached, output] =
        stats.and_then(|stats| pick(stats.get(), &["input", "cached", "output_tokens"])).unwrap_or_default();
    let subtype = text(status).unwrap_or_default().into_owned();
    ResultEntry {
        ts,
        text: String::new(),
        input_tokens: count(input),
        output_tokens: count(output),
        cached_tokens: count(cached),
        cost_usd: 0.0,
        is_error: subtype != "success",
        subtype,
        errors: error.map(error_text).into_iter().collect(),
    }
}
