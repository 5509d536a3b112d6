//! What the real CLI printed: version 2.1.330, and version 2.1.332 in many situations.

use std::fs;
use std::path::{Path, PathBuf};

use claude_k8s::outcome::classify_document;
use serde_json::{Value, json};

use crate::transcripts::shortened;

/// A recording: its name, its text, and how the CLI ended.
pub(crate) struct Recording {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) stderr: String,
    pub(crate) exit_code: Option<i32>,
}

/// 2026-11-30, shortly after the recordings.
const AT_MS: i64 = 1_795_990_000_000;
/// Line before the tail of standard error in a termination message.
const MARKER: &str = "--- paperclip: end of stderr ---";

fn folder(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(format!("claude-cli-{version}"))
}

fn load(version: &str, name: &str) -> Recording {
    let read = |extension: &str| fs::read_to_string(folder(version).join(format!("{name}.{extension}")));
    Recording {
        name: name.to_owned(),
        text: read("ndjson").expect("a recording has its output"),
        stderr: read("stderr").unwrap_or_default(),
        exit_code: read("exit").ok().map(|code| code.trim().parse().expect("an exit code is a number")),
    }
}

/// A recording of version 2.1.330.
pub(crate) fn recording(name: &str) -> Recording {
    let exit_code = match name {
        "ok" | "tool" => Some(0),
        "401" => Some(1),
        _ => None,
    };
    Recording { exit_code, ..load("2.1.330", name) }
}

pub(crate) fn recordings_of_330() -> Vec<Recording> {
    ["ok", "tool", "401", "killed"].map(recording).into()
}

/// The recordings of version 2.1.332, by name.
pub(crate) fn recordings_of_332() -> Vec<Recording> {
    let files = fs::read_dir(folder("2.1.332")).expect("the recordings are there");
    let mut names: Vec<_> = files
        .filter_map(|file| Some(file.ok()?.file_name().to_str()?.strip_suffix(".ndjson")?.to_owned()))
        .collect();
    names.sort();
    names.iter().map(|name| load("2.1.332", name)).collect()
}

impl Recording {
    fn evidence(&self) -> Value {
        let code = self.exit_code.expect("every recording of 2.1.332 has its exit code");
        let (outcome, phase, reason) = match code {
            0 => ("complete", "Succeeded", "Completed"),
            _ => ("failed", "Failed", "Error"),
        };
        let message = (!self.stderr.is_empty()).then(|| format!("{MARKER}\n{}", self.stderr));
        json!({"config": {"model": "claude-sonnet-4-5"}, "stdout": self.text, "job": {"outcome": outcome},
            "container": {"exitCode": code, "reason": reason, "message": message, "signal": null},
            "pod": {"phase": phase, "missing": false}, "atMs": AT_MS})
    }
}

#[test]
fn every_recording_is_judged_as_before() {
    for recording in recordings_of_332() {
        let result = classify_document(AT_MS, &recording.evidence().to_string()).unwrap();
        let result: Value = serde_json::from_str(&result).unwrap();
        insta::assert_json_snapshot!(
            format!("result_{}", recording.name),
            shortened(without_event(result), 400)
        );
    }
}

/// Without the members that are the result event's own: what is added to it is of interest.
fn without_event(mut result: Value) -> Value {
    const ADDED: [&str; 14] = [
        "cliVersion",
        "conversationContinuation",
        "errorFamily",
        "executionCancellation",
        "executionRecovery",
        "retryNotBefore",
        "stderrTail",
        "stdoutTail",
        "stopReason",
        "subtype",
        "terminalReason",
        "termination",
        "unknownEvents",
        "usageIsPartial",
    ];
    if let Some(json) = result["resultJson"].as_object_mut() {
        json.retain(|name, _| ADDED.contains(&name.as_str()));
    }
    result
}

#[test]
fn the_recordings_are_complete() {
    assert!(recordings_of_332().len() >= 93);
}
