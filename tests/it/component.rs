//! The plugin as the component that is shipped, in the real host.

use std::path::Path;
use std::sync::Arc;

use paperclip_contract::types::Event;
use paperclip_engine::intake::{self, IntakeFacts};
use paperclip_engine::time::Timestamp;
use paperclip_engine::{FaultCause, Guest as _};
use paperclip_guest::{Plugin, Runtime, RuntimeOptions, Tools};
use paperclip_parity::{manifest, outcome};
use serde_json::{Map, Value, json};

use crate::host::{fixture, plugin, recording};
use crate::instance::Started;

pub(crate) fn load() -> Arc<Plugin> {
    load_file(&plugin())
}

pub(crate) fn load_file(path: &Path) -> Arc<Plugin> {
    let runtime = Runtime::new(&RuntimeOptions { max_instances: 8, ..RuntimeOptions::default() }).unwrap();
    Plugin::load_file(&runtime, path).unwrap()
}

fn cases(name: &str) -> String {
    std::fs::read_to_string(fixture(&format!("cases/{name}.ndjson"))).unwrap()
}

#[test]
fn it_imports_nothing() {
    let inspection = load().inspection();
    assert_eq!(inspection.imports, Vec::<String>::new());
    assert_eq!(inspection.contract.as_deref(), Some("0.2.0"));
}

#[test]
fn it_is_small_and_has_one_place_for_a_panics_note() {
    let bytes = std::fs::read(plugin()).unwrap();
    assert!(bytes.len() < 1_500_000, "{} bytes", bytes.len());
    let mark = b"\x01paperclip panic";
    assert_eq!(bytes.windows(mark.len()).filter(|part| part == mark).count(), 1);
}

#[test]
fn a_line_of_countless_blocks_costs_a_fraction_of_what_a_step_may() {
    let tools = Tools::new(load());
    let line = |block: &str| {
        let blocks = vec![block; (4 << 20) / (block.len() + 1)].join(",");
        format!(r#"{{"type":"assistant","message":{{"id":"m","content":[{blocks}]}}}}"#)
    };
    // A transcript reads what a step reads, and more; it may burn more, too.
    for block in ["{}", "1", r#"{"type":"text","text":""}"#] {
        let entries = tools.transcript(&[line(block)], "t").unwrap();
        assert_eq!(entries.len(), 1);
    }
    let evidence = json!({"stdout": line("{}"), "container": {"exitCode": 1}}).to_string();
    assert!(tools.classify(0, &evidence).unwrap().is_ok());
}

/// A step with the longest line that a plugin receives: a result event whose `type` is its last member, which costs the most memory.
#[test]
fn a_result_event_of_16_mib_fits_into_the_memory_of_a_run() {
    let plugin = load();
    let limits = paperclip_engine::limits();
    for (what, unit) in
        [("plain", "x"), ("escapes", r"\n"), ("surrogates", r"\ud800"), ("colours", "\u{1b}[1mx")]
    {
        let around = json!({"type": "result"}).to_string().len() + json!({"result": ""}).to_string().len();
        let text = unit.repeat((limits.max_line_bytes as usize - around - 64) / unit.len());
        let line = format!(r#"{{"result":"{text}","subtype":"success","is_error":false,"type":"result"}}"#);
        assert!(line.len() <= limits.max_line_bytes as usize && line.len() > 15 << 20);
        let mut run = Started::new(&plugin);
        run.print(line);
        let result = run.exit();
        assert_eq!(result["errorCode"], Value::Null, "{what}: {result}");
        assert_eq!(result["resultJson"]["subtype"], "success", "{what}");
        assert!(run.instance.usage().memory_bytes <= 60 << 20, "{what}: {:?}", run.instance.usage());
    }
}

#[test]
fn it_describes_itself() {
    let plugin = load();
    let descriptor = plugin.descriptor();
    assert_eq!(descriptor.adapter_type, "claude_k8s");
    assert_eq!(descriptor.container_name, "claude");
    let schema: Value = serde_json::from_str(&descriptor.config_schema_json).unwrap();
    assert!(schema["fields"].as_array().is_some_and(|fields| fields.len() > 15), "{schema}");
    let capabilities: Value = serde_json::from_str(&descriptor.capabilities_json).unwrap();
    assert_eq!(capabilities["supportsLocalAgentJwt"], true);
    assert!(descriptor.models.iter().any(|model| model.provider == "bedrock"));
}

#[test]
fn finished_evidence_is_judged_as_the_cases_say() {
    let tools = Tools::new(load());
    let all = ["classify", "reports"].map(|name| outcome::cases(&cases(name)));
    for case in all.into_iter().flatten() {
        let result = tools.classify(1_777_593_600_000, &case.evidence.to_string()).unwrap().unwrap();
        let result: Map<String, Value> = serde_json::from_str(&result).unwrap();
        let verdict = outcome::check_case(&case.expected, &case.reference, &result);
        assert_eq!(verdict, Ok(()), "{}", case.name);
    }
}

#[test]
fn manifests_equal_the_reference_adapters_except_for_intended_differences() {
    let plugin = load();
    for case in manifest::cases(&cases("manifest")) {
        let facts = IntakeFacts {
            paperclip_pod: Some(&case.pod),
            revealed_env: &plugin.descriptor().revealed_env,
            ..IntakeFacts::bare(None)
        };
        let (request, _) = intake::split(&case.context, "claude_k8s", facts).unwrap();
        let printed = Tools::new(plugin.clone()).manifest(&request).unwrap().unwrap();
        let printed = serde_json::from_str(&printed).unwrap();
        assert_eq!(manifest::differences(&case, &printed), Vec::<String>::new(), "{}", case.name);
    }
}

#[test]
fn an_illegal_transition_is_a_fault_that_names_region_and_states() {
    let plugin = load();
    let case = &manifest::cases(&cases("manifest"))[0];
    let facts = IntakeFacts { paperclip_pod: Some(&case.pod), ..IntakeFacts::bare(None) };
    let (request, _) = intake::split(&case.context, "claude_k8s", facts).unwrap();
    let mut run = plugin.instantiate().unwrap();
    run.start(Timestamp::from_millis(1_000), &request).unwrap().unwrap();
    // The guard was requested and never acquired.
    let fault = run.step(Timestamp::from_millis(2_000), &[Event::GuardLost]).unwrap_err();
    let FaultCause::Trap(text) = fault.cause else { panic!("{fault}") };
    assert!(text.contains("illegal transition of GuardState: from Requested to Lost"), "{text}");
}

#[test]
fn transcripts_of_a_batch_come_line_by_line() {
    let tools = Tools::new(load());
    let lines: Vec<String> = recording("tool").lines().map(str::to_owned).collect();
    let entries = tools.transcript(&lines, "2026-01-01T00:00:00Z").unwrap();
    assert_eq!(entries.len(), lines.len());
    let kinds: Vec<String> = entries
        .iter()
        .flat_map(|entries| serde_json::from_str::<Vec<Value>>(entries).unwrap())
        .map(|entry| entry["kind"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["init", "assistant", "tool_call", "tool_result", "assistant", "result"]);
}

#[test]
fn sessions_and_skills_go_through_it() {
    let tools = Tools::new(load());
    let stored = json!({"session_id": " s ", "workdir": "/w"}).to_string();
    let session: Value = serde_json::from_str(&tools.decode_session(&stored).unwrap().unwrap()).unwrap();
    assert_eq!(session, json!({"sessionId": "s", "cwd": "/w"}));
    assert_eq!(tools.decode_session("{}").unwrap(), None);
    let skills = tools.skills(r#"{"available":[{"key":"a"}],"desired":["a"]}"#).unwrap().unwrap();
    assert!(skills.contains("\"state\":\"configured\""), "{skills}");
}

/// What a tenant writes is refused by the field at fault, or it fits: it never costs the plugin its memory.
#[test]
fn no_config_or_context_traps_the_plugin() {
    let plugin = load();
    let long = "x".repeat(6_000);
    let zeros = vec![0; 1 << 19];
    for (what, config, context, expected) in [
        (
            "placeholders",
            json!({"promptTemplate": "{{context.a}}".repeat(6_000)}),
            json!({"a": long}),
            "promptTemplate",
        ),
        ("zeros", json!({"image": zeros}), json!({}), "config.image"),
        ("zeros in the context", json!({}), json!({"a": zeros}), "context.a"),
        (
            "values",
            json!({"unknown": vec![json!({"a": [1]}); 12_000]}),
            json!({"a": vec![json!({}); 49_000]}),
            "",
        ),
        (
            "a long prompt",
            json!({"promptTemplate": "x".repeat(8 << 20)}),
            json!({"a": "y".repeat(4 << 20)}),
            "",
        ),
        ("a long context", json!({}), json!({"paperclipTaskMarkdown": "y".repeat(12 << 20)}), ""),
        ("a long handoff", json!({}), json!({"paperclipSessionHandoffMarkdown": "\n".repeat(12 << 20)}), ""),
    ] {
        let mut config = config;
        if config.get("image").is_none() {
            config["image"] = json!("acme/agent:1");
        }
        let context = json!({"runId": "r", "agent": {"id": "a"}, "config": config, "context": context});
        let refusal = match intake::split(&context, "claude_k8s", IntakeFacts::bare(Some("agents"))) {
            Err(error) => error.to_string(),
            Ok((request, _)) => {
                let planned = Tools::new(plugin.clone())
                    .manifest(&request)
                    .unwrap_or_else(|fault| panic!("{what}: {fault}"));
                if planned.is_ok() {
                    Started::of(&plugin, &request).exit();
                }
                planned.err().map_or_else(String::new, |refusal| refusal.field.unwrap_or_default())
            }
        };
        assert!(
            refusal.starts_with(expected) && refusal.is_empty() == expected.is_empty(),
            "{what}: {refusal}"
        );
    }
}
