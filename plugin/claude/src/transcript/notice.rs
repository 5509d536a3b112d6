//! What the CLI says about its own work, as one line of text.

use paperclip_kit::json::{for_each_element, number, pick, some_text, text};
use paperclip_kit::outcome::{head, iso_time};
use serde_json::value::RawValue;

use crate::stream::event::Event;
use crate::stream::retry::ApiRetry;

/// A notice, in bytes.
const NOTICE_BYTES: usize = 2048;

/// Returns what an event says that has no entry of its own, or `None` if it is not understood.
pub(super) fn notice(event: &Event<'_>) -> Option<String> {
    let subtype = some_text(event.subtype).unwrap_or_default();
    let notice = match event.kind.as_ref() {
        "system" => of_system(event.json, &subtype)?,
        "rate_limit_event" => of_rate_limit(event.json)?,
        "stream_event" => of_partial_message(event.json)?,
        _ => return None,
    };
    Some(head(&notice, NOTICE_BYTES).into_owned())
}

fn of_system(json: &str, subtype: &str) -> Option<String> {
    Some(match subtype {
        "" => return None,
        "api_retry" => ApiRetry::read(json).describe(),
        "status" => {
            let names = ["status", "compact_result", "compact_error", "permissionMode"];
            let members = pick(json, &names)?;
            let status = some_text(members[0]).unwrap_or("none".into());
            format!("Status: {status}{}", details(&names[1..], &members[1..]))
        }
        "compact_boundary" => {
            let [metadata] = pick(json, &["compact_metadata"])?;
            let names = ["trigger", "pre_tokens", "post_tokens"];
            let members = metadata.and_then(|metadata| pick(metadata.get(), &names)).unwrap_or_default();
            format!("Conversation compacted{}", details(&names, &members))
        }
        "background_tasks_changed" => {
            let [tasks] = pick(json, &["tasks"])?;
            let mut names = Vec::new();
            let _ = for_each_element(tasks, |task| names.extend(task_name(task.get())));
            format!(
                "Background tasks: {}",
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            )
        }
        _ if subtype.starts_with("task_") => of_task(json, &subtype["task_".len()..])?,
        _ if subtype.starts_with("hook_") => of_hook(json, &subtype["hook_".len()..])?,
        _ => {
            let [content, text, message, level] = pick(json, &["content", "text", "message", "level"])?;
            let title = some_text(level).unwrap_or(subtype.into());
            match some_text(content).or(some_text(text)).or(some_text(message)) {
                Some(text) => format!("{title}: {text}"),
                None => subtype.to_owned(),
            }
        }
    })
}

fn of_task(json: &str, what: &str) -> Option<String> {
    let [status, patch, summary] = pick(json, &["status", "patch", "summary"])?;
    let [patched] = patch.and_then(|patch| pick(patch.get(), &["status"])).unwrap_or_default();
    let state = some_text(status).or(some_text(patched)).unwrap_or(what.into());
    let summary = some_text(summary).map(|summary| format!(", {summary}")).unwrap_or_default();
    Some(format!("Task {}: {state}{summary}", task_name(json)?))
}

fn task_name(json: &str) -> Option<String> {
    let [description, id] = pick(json, &["description", "task_id"])?;
    Some(some_text(description).or(some_text(id)).unwrap_or("unnamed".into()).into_owned())
}

fn of_hook(json: &str, what: &str) -> Option<String> {
    let names = ["hook_name", "hook_event", "exit_code", "stderr", "stdout", "output"];
    let [name, event, exit, stderr, stdout, output] = pick(json, &names)?;
    let name = some_text(name).or(some_text(event)).unwrap_or("unnamed".into());
    let exit = number(exit).map(|code| format!(" (exit code {code})")).unwrap_or_default();
    let shown = some_text(stderr).or(some_text(stdout)).or(some_text(output)).unwrap_or_default();
    let shown = shown.trim();
    let shown = if shown.is_empty() { String::new() } else { format!(": {shown}") };
    Some(format!("Hook {name}: {what}{exit}{shown}"))
}

fn of_rate_limit(json: &str) -> Option<String> {
    let [info] = pick(json, &["rate_limit_info"])?;
    let [status, kind, resets_at] = pick(info?.get(), &["status", "rateLimitType", "resetsAt"])?;
    let kind = some_text(kind).map(|kind| format!(" {kind}")).unwrap_or_default();
    let status = some_text(status).unwrap_or("unknown".into());
    let reset = number(resets_at).and_then(|seconds| iso_time((seconds as i64).saturating_mul(1000)));
    let reset = reset.map(|time| format!(", resets {time}")).unwrap_or_default();
    Some(format!("Rate limit{kind}: {status}{reset}"))
}

fn of_partial_message(json: &str) -> Option<String> {
    let [event] = pick(json, &["event"])?;
    let [kind, delta] = pick(event?.get(), &["type", "delta"])?;
    let [piece] = delta.and_then(|delta| pick(delta.get(), &["partial_json"])).unwrap_or_default();
    let piece = some_text(piece).map(|piece| format!(" {piece}")).unwrap_or_default();
    Some(format!("Partial message: {}{piece}", some_text(kind)?))
}

/// ` (name: value, …)` for the members that have a value.
fn details(names: &[&str], members: &[Option<&RawValue>]) -> String {
    let shown = names.iter().zip(members).filter_map(|(name, member)| {
        let value = text(*member)
            .map(std::borrow::Cow::into_owned)
            .or_else(|| number(*member).map(|n| n.to_string()));
        Some(format!("{name}: {}", value?))
    });
    let shown: Vec<_> = shown.collect();
    if shown.is_empty() { String::new() } else { format!(" ({})", shown.join(", ")) }
}
