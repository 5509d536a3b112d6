//! The recordings as transcripts.

use claude_k8s::transcript::entries_json;
use serde_json::{Value, json};

use crate::recordings::{recording, recordings_of_330, recordings_of_332};

const TS: &str = "2026-11-22T06:28:11.156Z";

fn transcript(text: &str) -> Vec<Value> {
    let entries =
        |line| serde_json::from_str::<Vec<Value>>(&entries_json(line, TS)).expect("entries are JSON");
    text.lines().flat_map(entries).collect()
}

/// Shortens texts to `max` characters and their length, so that a snapshot stays readable.
pub(crate) fn shortened(value: Value, max: usize) -> Value {
    match value {
        Value::String(text) if text.len() > max => {
            let shown: String = text.chars().take(max).collect();
            Value::String(format!("{shown}… ({} bytes)", text.len()))
        }
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, shortened(value, max))).collect()
        }
        other => other,
    }
}

#[test]
fn the_recordings_are_shown() {
    for recording in recordings_of_330() {
        let shown: Vec<_> =
            transcript(&recording.text).into_iter().map(|entry| shortened(entry, 120)).collect();
        insta::assert_json_snapshot!(format!("transcript_{}", recording.name), shown);
    }
}

#[test]
fn no_event_of_a_recording_is_shown_as_json() {
    for recording in recordings_of_332() {
        for entry in transcript(&recording.text) {
            assert_ne!(entry["kind"], "stdout", "{}: {entry}", recording.name);
        }
    }
}

#[test]
fn nothing_is_hidden_because_of_its_message_id() {
    let kinds = |name| -> Vec<_> {
        transcript(&recording(name).text).iter().map(|entry| entry["kind"].clone()).collect()
    };
    assert_eq!(
        kinds("tool"),
        [
            json!("init"),
            "assistant".into(),
            "tool_call".into(),
            "tool_result".into(),
            "assistant".into(),
            "result".into()
        ]
    );
    assert_eq!(kinds("killed").iter().filter(|kind| **kind == "tool_call").count(), 2);
}
