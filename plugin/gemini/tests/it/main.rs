//! What the real Gemini CLI printed, judged and shown.

use gemini_k8s::Gemini;
use paperclip_parity::recordings::{self, Recording, shortened};
use serde_json::{Value, json};

fn all() -> Vec<Recording> {
    recordings::load(&recordings::folder("gemini-0.61.0"))
}

fn config() -> Value {
    json!({"model": "gemini-2.5-flash"})
}

#[test]
fn every_recording_is_judged_as_expected() {
    let recordings = all();
    assert!(recordings.len() >= 36);
    let differences = recordings::differences::<Gemini>(&recordings, &config());
    assert_eq!(differences, Vec::<String>::new());
}

#[test]
fn every_recording_is_judged_as_before() {
    for recording in all() {
        let result = serde_json::to_value(recording.judged::<Gemini>(&config())).unwrap();
        insta::assert_json_snapshot!(recording.name, shortened(result, 300));
    }
}

#[test]
fn no_event_of_a_recording_is_shown_as_json() {
    // The last line of these is cut, and is shown as it was printed.
    for recording in all().into_iter().filter(|recording| !recording.name.starts_with("bigtool")) {
        for entry in recording.transcript::<Gemini>() {
            assert_ne!(entry["kind"], "stdout", "{}: {entry}", recording.name);
        }
    }
}

#[test]
fn a_run_with_a_tool_is_shown() {
    let recording = all().into_iter().find(|recording| recording.name == "tool").unwrap();
    let shown: Vec<_> =
        recording.transcript::<Gemini>().into_iter().map(|entry| shortened(entry, 100)).collect();
    insta::assert_json_snapshot!("transcript_of_tool", shown);
}
