//! The stream's events as entries of Paperclip's transcript.

use paperclip_kit::json::{count, is_null, number, pick, portable, some_text, text};
use paperclip_kit::stream::{Event, error_text};
use paperclip_kit::transcript::{ResultEntry, TranscriptEntry, no_input};
use serde_json::value::RawValue;

/// Pushes the entries of an event.
pub(crate) fn push_event<'a>(event: &Event<'a>, ts: &'a str, to: &mut Vec<TranscriptEntry<'a>>) {
    let [session, part, error] = pick(event.json, &["sessionID", "part", "error"]).unwrap_or_default();
    let part = part.map_or("{}", RawValue::get);
    match event.kind.as_ref() {
        "step_start" => {
            let session_id = text(session).unwrap_or_default();
            to.push(TranscriptEntry::System { ts, text: format!("Step started in session {session_id}") });
        }
        "text" => to.extend(said(part).map(|text| TranscriptEntry::Assistant { ts, text, delta: false })),
        "reasoning" => to.extend(said(part).map(|text| TranscriptEntry::Thinking { ts, text, delta: false })),
        "tool_use" => push_tool(part, ts, to),
        "step_finish" => to.push(TranscriptEntry::Result(Box::new(step_entry(part, ts)))),
        "error" => {
            let [name, data] =
                error.and_then(|error| pick(error.get(), &["name", "data"])).unwrap_or_default();
            let name = text(name).unwrap_or("Error".into());
            let said = data.map(error_text).filter(|said| !said.is_empty());
            let text = said.map_or_else(|| name.to_string(), |said| format!("{name}: {said}"));
            to.push(TranscriptEntry::Stderr { ts, text: text.into() });
        }
        _ => {}
    }
}

fn said(part: &str) -> Option<String> {
    let [said] = pick(part, &["text"])?;
    some_text(said).map(Into::into)
}

fn push_tool<'a>(part: &'a str, ts: &'a str, to: &mut Vec<TranscriptEntry<'a>>) {
    let [tool, id, state] = pick(part, &["tool", "callID", "state"]).unwrap_or_default();
    let names = ["status", "input", "output", "error", "metadata"];
    let [status, input, output, error, metadata] =
        state.and_then(|state| pick(state.get(), &names)).unwrap_or_default();
    let [exit] = metadata.and_then(|metadata| pick(metadata.get(), &["exit"])).unwrap_or_default();
    let id = text(id).unwrap_or_default().into_owned();
    to.push(TranscriptEntry::ToolCall {
        ts,
        name: text(tool).unwrap_or("unknown".into()).into_owned(),
        tool_use_id: Some(id.clone()),
        input: portable(input.filter(|_| !is_null(input)).unwrap_or_else(no_input)),
    });
    to.push(TranscriptEntry::ToolResult {
        ts,
        tool_use_id: id,
        content: text(output).or(text(error)).unwrap_or_default().into_owned(),
        is_error: text(status).is_some_and(|status| status == "error")
            || number(exit).is_some_and(|code| code != 0.0),
    });
}

fn step_entry<'a>(part: &str, ts: &'a str) -> ResultEntry<'a> {
    let [reason, tokens, cost] = pick(part, &["reason", "tokens", "cost"]).unwrap_or_default();
    let [input, output, reasoning, cache] = tokens
        .and_then(|tokens| pick(tokens.get(), &["input", "output", "reasoning", "cache"]))
        .unwrap_or_default();
    let [cached] = cache.and_then(|cache| pick(cache.get(), &["read"])).unwrap_or_default();
    let reason = text(reason).unwrap_or_default().into_owned();
    ResultEntry {
        ts,
        text: reason.clone(),
        input_tokens: count(input),
        output_tokens: count(output).saturating_add(count(reasoning)),
        cached_tokens: count(cached),
        cost_usd: number(cost).unwrap_or(0.0),
        subtype: reason,
        is_error: false,
        errors: Vec::new(),
    }
}
