//! What the real opencode printed, judged and shown.

use opencode_k8s::Opencode;
use paperclip_parity::recordings::{self, Recording, shortened};
use serde_json::{Value, json};

fn all() -> Vec<Recording> {
    recordings::load(&recordings::folder("opencode-1.18.33"))
}

fn config() -> Value {
    json!({"model": "mock/mock-model"})
}

#[test]
fn every_recording_is_judged_as_expected() {
    let recordings = all();
    assert!(recordings.len() >= 47);
    let differences = recordings::differences::<Opencode>(&recordings, &config());
    assert_eq!(differences, Vec::<String>::new());
}

#[test]
fn every_recording_is_judged_as_before() {
    for recording in all() {
        let result = serde_json::to_value(recording.judged::<Opencode>(&config())).unwrap();
        insta::assert_json_snapshot!(recording.name, shortened(result, 300));
    }
}

#[test]
fn no_event_of_a_recording_is_shown_as_json() {
    for recording in all() {
        for entry in recording.transcript::<Opencode>() {
            assert_ne!(entry["kind"], "stdout", "{}: {entry}", recording.name);
        }
    }
}

#[test]
fn a_run_with_a_tool_is_shown() {
    let recording = all().into_iter().find(|recording| recording.name == "tool").unwrap();
    let shown: Vec<_> =
        recording.transcript::<Opencode>().into_iter().map(|entry| shortened(entry, 100)).collect();
    insta::assert_json_snapshot!("transcript_of_tool", shown);
}
