//! What the real Codex printed, judged and shown.

use codex_k8s::Codex;
use paperclip_parity::recordings::{self, Recording, shortened};
use serde_json::{Value, json};

fn all() -> Vec<Recording> {
    recordings::load(&recordings::folder("codex-0.171.0"))
}

fn config() -> Value {
    json!({"model": "mock-model"})
}

#[test]
fn every_recording_is_judged_as_expected() {
    let recordings = all();
    assert!(recordings.len() >= 32);
    let differences = recordings::differences::<Codex>(&recordings, &config());
    assert_eq!(differences, Vec::<String>::new());
}

#[test]
fn every_recording_is_judged_as_before() {
    for recording in all() {
        let result = serde_json::to_value(recording.judged::<Codex>(&config())).unwrap();
        insta::assert_json_snapshot!(recording.name, shortened(result, 300));
    }
}

#[test]
fn no_event_of_a_recording_is_shown_as_json() {
    for recording in all() {
        for entry in recording.transcript::<Codex>() {
            assert_ne!(entry["kind"], "stdout", "{}: {entry}", recording.name);
        }
    }
}

#[test]
fn a_run_with_a_tool_is_shown() {
    let recording = all().into_iter().find(|recording| recording.name == "tool").unwrap();
    let shown: Vec<_> =
        recording.transcript::<Codex>().into_iter().map(|entry| shortened(entry, 100)).collect();
    insta::assert_json_snapshot!("transcript_of_tool", shown);
}
