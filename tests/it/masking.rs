//! Masking never changes how a run is judged: whatever value a secret has, as long as it is not text by which runs are judged.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use codex_k8s::Codex;
use gemini_k8s::Gemini;
use opencode_k8s::Opencode;
use paperclip_engine::redact::{MIN_SECRET_BYTES, Redactor};
use paperclip_guest::{Plugin, Runtime, RuntimeOptions, Tools};
use paperclip_kit::cli::Cli;
use paperclip_parity::recordings;
use serde_json::{Value, json};

use crate::component::load_file;
use crate::host::{fixture, plugin, plugin_of};

const AT_MS: u64 = 1_780_000_000_000;
/// Secrets that are tried on each recording, of those that it offers.
const TRIED: usize = 15;
/// What a run is judged to be, without the texts that people read.
const JUDGED: [&str; 9] = [
    "exitCode",
    "errorCode",
    "errorFamily",
    "sessionId",
    "model",
    "usage",
    "costUsd",
    "timedOut",
    "retryNotBefore",
];

fn claude_recordings() -> impl Iterator<Item = PathBuf> {
    let folders = ["claude-cli-2.1.330", "claude-cli-2.1.332"].map(fixture);
    let files = folders.into_iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "ndjson"))
}

fn judge(tools: &Tools, lines: &[String], exit: i32) -> Vec<Value> {
    let evidence = json!({
        "config": {}, "stdout": lines.join("\n"), "job": {"outcome": if exit == 0 { "complete" } else { "failed" }},
        "container": {"exitCode": exit}, "pod": {"phase": if exit == 0 { "Succeeded" } else { "Failed" }},
    });
    judged_fields(&tools.classify(AT_MS, &evidence.to_string()).unwrap().unwrap())
}

/// Collects what a secret may be equal to without being text: names of members, their values where they are of the protocol or one word,
/// numbers, and the punctuation between them.
fn collect(value: &Value, path: &str, protocol: &[String], secrets: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                secrets.insert(name.clone());
                secrets.insert(format!("\"{name}\":"));
                if let Value::Bool(_) | Value::Number(_) = member {
                    secrets.insert(format!("{name}\":{member}"));
                    secrets.insert(member.to_string());
                }
                collect(member, &path, protocol, secrets);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, path, protocol, secrets)),
        Value::String(text) => {
            let is_protocol = protocol.iter().any(|member| member == path);
            if is_protocol || !text.contains(char::is_whitespace) {
                secrets.insert(text.clone());
            }
            if is_protocol {
                secrets.insert(format!("\"{text}\""));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Collects strings that quote JSON, such as a provider's error as it was received: they are text, and a secret that is a part of their
/// grammar changes them.
fn collect_quoted(value: &Value, quoted: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.values().for_each(|member| collect_quoted(member, quoted)),
        Value::Array(items) => items.iter().for_each(|item| collect_quoted(item, quoted)),
        Value::String(text) if text.contains("{\"") || text.contains("{\n") => quoted.push(text.clone()),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Masks a recording with secrets of its own, and compares how it is judged with how it was. Returns how many were tried.
fn try_secrets(
    name: &str,
    lines: &[String],
    protocol: &[String],
    judge: impl Fn(&[String]) -> Vec<Value>,
) -> usize {
    let expected = judge(lines);
    let mut secrets =
        BTreeSet::from(["\"type\":\"".to_owned(), "is_error".to_owned(), "session_id".to_owned()]);
    let mut quoted = Vec::new();
    for event in lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        collect(&event, "", protocol, &mut secrets);
        collect_quoted(&event, &mut quoted);
    }
    let is_quoted = |secret: &str| quoted.iter().any(|text| text.contains(secret));
    secrets.retain(|secret| secret.len() >= MIN_SECRET_BYTES && !is_quoted(secret));
    let every = secrets.len().div_ceil(TRIED).max(1);
    let mut tried = 0;
    for secret in secrets.iter().step_by(every).chain(secrets.get("is_error")) {
        let redactor = Redactor::new([("S", secret)]).unwrap().with_protocol(protocol);
        let masked: Vec<String> = lines.iter().map(|line| redactor.mask_line(line.clone())).collect();
        assert_eq!(judge(&masked), expected, "{name}: the secret {secret:?}");
        tried += 1;
    }
    tried
}

fn judged_fields(result: &str) -> Vec<Value> {
    let result: Value = serde_json::from_str(result).unwrap();
    JUDGED.iter().map(|field| result[field].clone()).collect()
}

#[test]
fn no_secret_changes_how_a_recording_is_judged() {
    let runtime = Runtime::new(&RuntimeOptions { max_instances: 4, ..RuntimeOptions::default() }).unwrap();
    let plugin = Plugin::load_file(&runtime, &plugin()).unwrap();
    let protocol = plugin.protocol_members().to_vec();
    assert!(protocol.contains(&"message.stop_reason".to_owned()), "{protocol:?}");
    let tools = Tools::new(Arc::clone(&plugin));
    let mut tried = 0;
    for path in claude_recordings() {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let exit =
            fs::read_to_string(path.with_extension("exit")).ok().and_then(|exit| exit.trim().parse().ok());
        let exit = exit.unwrap_or(i32::from(!path.ends_with("ok.ndjson") && !path.ends_with("tool.ndjson")));
        let name = path.display().to_string();
        tried += try_secrets(&name, &lines, &protocol, |lines| judge(&tools, lines, exit));
    }
    assert!(tried > 500, "{tried}");
}

/// The same for the recordings of another agent type.
fn check<A: Cli>(folder: &str, model: &str) {
    let plugin = load_file(&plugin_of(A::IDENTITY.adapter_type));
    let protocol = plugin.protocol_members().to_vec();
    let tools = Tools::new(plugin);
    let config = json!({"model": model});
    let mut tried = 0;
    for recording in recordings::load(&recordings::folder(folder)) {
        let lines: Vec<String> = recording.stdout.lines().map(str::to_owned).collect();
        let name = format!("{folder}/{}", recording.name);
        tried += try_secrets(&name, &lines, &protocol, |lines| {
            let masked = recording.clone().with_stdout(lines.join("\n"));
            let evidence = masked.evidence::<A>(&config).to_string();
            let at_ms = u64::try_from(recordings::AT_MS).unwrap();
            judged_fields(&tools.classify(at_ms, &evidence).unwrap().unwrap())
        });
    }
    assert!(tried > 50, "{tried}");
}

#[test]
fn no_secret_changes_how_codex_is_judged() {
    check::<Codex>("codex-0.171.0", "mock-model");
}

#[test]
fn no_secret_changes_how_gemini_is_judged() {
    check::<Gemini>("gemini-0.61.0", "gemini-2.5-flash");
}

#[test]
fn no_secret_changes_how_opencode_is_judged() {
    check::<Opencode>("opencode-1.18.33", "mock/mock-model");
}
