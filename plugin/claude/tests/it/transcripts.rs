//! The recordings as transcripts.

use claude_k8s::transcript::entries_json;
use serde_json::{Value, json};

use crate::recordings::{RECORDINGS, recording};

const TS: &str = "2026-11-22T06:28:11.156Z";

fn transcript(text: &str) -> Vec<Value> {
    let entries =
        |line| serde_json::from_str::<Vec<Value>>(&entries_json(line, TS)).expect("entries are JSON");
    text.lines().flat_map(entries).collect()
}

/// Long texts are told by their beginning and length, so that a snapshot stays readable.
fn shortened(value: Value) -> Value {
    const SHOWN: usize = 120;
    match value {
        Value::String(text) if text.len() > SHOWN => {
            let shown: String = text.chars().take(SHOWN).collect();
            Value::String(format!("{shown}… ({} bytes)", text.len()))
        }
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, shortened(value))).collect(),
        other => other,
    }
}

#[test]
fn the_recordings_are_shown() {
    for recording in &RECORDINGS {
        let shown: Vec<_> = transcript(recording.text).into_iter().map(shortened).collect();
        insta::assert_json_snapshot!(format!("transcript_{}", recording.name), shown);
    }
}

#[test]
fn nothing_is_hidden_because_of_its_message_id() {
    let kinds = |name| -> Vec<_> {
        transcript(recording(name).text).iter().map(|entry| entry["kind"].clone()).collect()
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
