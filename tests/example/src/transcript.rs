//! The program's events as entries of Paperclip's transcript.

use paperclip_kit::json::{count, is_null, pick, portable, text};
use paperclip_kit::stream::Event;
use paperclip_kit::transcript::{ResultEntry, TranscriptEntry, no_input};

/// Pushes the entries of an event. One that pushes none is shown as it was printed.
pub(crate) fn push_event<'a>(event: &Event<'a>, ts: &'a str, to: &mut Vec<TranscriptEntry<'a>>) {
    match event.kind.as_ref() {
        "start" => {
            let [session, model] = pick(event.json, &["session", "model"]).unwrap_or_default();
            to.push(TranscriptEntry::Init {
                ts,
                model: text(model).unwrap_or_default().into_owned(),
                session_id: text(session).unwrap_or_default().into_owned(),
            });
        }
        "text" => {
            let [said] = pick(event.json, &["text"]).unwrap_or_default();
            let text = text(said).unwrap_or_default().into_owned();
            to.push(TranscriptEntry::Assistant { ts, text, delta: false });
        }
        "tool" => {
            let [id, name, input] = pick(event.json, &["id", "name", "input"]).unwrap_or_default();
            to.push(TranscriptEntry::ToolCall {
                ts,
                name: text(name).unwrap_or_default().into_owned(),
                tool_use_id: text(id).map(Into::into),
                input: portable(input.filter(|_| !is_null(input)).unwrap_or_else(no_input)),
            });
        }
        "tool_result" => {
            let [id, output, is_error] = pick(event.json, &["id", "output", "is_error"]).unwrap_or_default();
            to.push(TranscriptEntry::ToolResult {
                ts,
                tool_use_id: text(id).unwrap_or_default().into_owned(),
                content: text(output).unwrap_or_default().into_owned(),
                is_error: is_error.is_some_and(|is_error| is_error.get() == "true"),
            });
        }
        "done" | "failed" => {
            let [usage, message] = pick(event.json, &["usage", "message"]).unwrap_or_default();
            let [input, cached, output] =
                usage.and_then(|usage| pick(usage.get(), &["input", "cached", "output"])).unwrap_or_default();
            to.push(TranscriptEntry::Result(Box::new(ResultEntry {
                ts,
                text: String::new(),
                input_tokens: count(input),
                output_tokens: count(output),
                cached_tokens: count(cached),
                cost_usd: 0.0,
                subtype: event.kind.as_ref().to_owned(),
                is_error: event.kind.as_ref() == "failed",
                errors: text(message).map(Into::into).into_iter().collect(),
            })));
        }
        _ => {}
    }
}
