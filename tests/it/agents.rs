//! What real programs printed, judged and shown by the components of their agent types.

use codex_k8s::Codex;
use gemini_k8s::Gemini;
use opencode_k8s::Opencode;
use paperclip_guest::Tools;
use paperclip_kit::cli::Cli;
use paperclip_parity::recordings::{self, AT_MS};
use serde_json::{Value, json};

use crate::component::load_file;
use crate::host::{plugin_of, workspace};

/// Judges and shows each recording with the component, and compares that with the expected judgement and with the native code.
fn check<A: Cli>(folder: &str, model: &str) {
    let tools = Tools::new(load_file(&plugin_of(A::IDENTITY.adapter_type)));
    let config = json!({"model": model});
    for recording in recordings::load(&recordings::folder(folder)) {
        let evidence = recording.evidence::<A>(&config).to_string();
        let result = tools.classify(u64::try_from(AT_MS).unwrap(), &evidence).unwrap().unwrap();
        let native = serde_json::to_string(&recording.judged::<A>(&config)).unwrap();
        assert_eq!(result, native, "{folder}/{}: the component judges as the native code", recording.name);
        let result: Value = serde_json::from_str(&result).unwrap();
        assert_eq!(
            result["errorCode"].as_str(),
            recording.expected.as_deref(),
            "{folder}/{}",
            recording.name
        );

        let lines: Vec<String> = recording.stdout.lines().take(200).map(str::to_owned).collect();
        let shown = tools.transcript(&lines, "t").unwrap();
        assert_eq!(shown.len(), lines.len(), "{folder}/{}", recording.name);
        for (line, entries) in lines.iter().zip(&shown) {
            let entries: Vec<Value> = serde_json::from_str(entries).unwrap();
            assert_eq!(entries.is_empty(), line.trim().is_empty(), "{folder}/{}: {line}", recording.name);
        }
    }
}

#[test]
fn the_component_of_codex_judges_its_recordings() {
    check::<Codex>("codex-0.171.0", "mock-model");
}

#[test]
fn the_component_of_gemini_judges_its_recordings() {
    check::<Gemini>("gemini-0.61.0", "gemini-2.5-flash");
}

#[test]
fn the_component_of_opencode_judges_its_recordings() {
    check::<Opencode>("opencode-1.18.33", "mock/mock-model");
}

const AGENT_TYPES: [&str; 4] = ["claude_k8s", "codex_k8s", "gemini_k8s", "opencode_k8s"];

/// The other direction, that every code of an agent type is explained, is tested with the types' tables: tests/parity.
#[test]
fn every_explained_code_is_in_a_built_component() {
    let catalogue = std::fs::read_to_string(workspace().join("docs/errors.md")).unwrap();
    let explained: Vec<&str> =
        catalogue.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    assert!(explained.len() > 30, "{explained:?}");
    let components =
        AGENT_TYPES.map(|agent_type| (agent_type, std::fs::read(plugin_of(agent_type)).unwrap()));
    let components =
        components.map(|(agent_type, bytes)| (agent_type, String::from_utf8_lossy(&bytes).into_owned()));
    for code in explained {
        let is_in = |(agent_type, text): &(&str, String)| {
            let code = code.replace("<agent>", agent_type.trim_end_matches("_k8s"));
            text.contains(&code)
        };
        assert!(components.iter().any(is_in), "no built plugin has {code}");
    }
}

#[test]
fn every_component_imports_nothing_and_is_small() {
    for agent_type in AGENT_TYPES {
        let file = plugin_of(agent_type);
        let bytes = std::fs::read(&file).unwrap().len();
        assert!(bytes < 1_500_000, "{agent_type} is {bytes} bytes");
        assert_eq!(load_file(&file).inspection().imports, Vec::<String>::new(), "{agent_type}");
    }
}
