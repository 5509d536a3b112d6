//! Which plugins are loaded, which are rejected, and with which messages.

use crate::forge::Forge;
use crate::{runtime, source};
use paperclip_diagnostic::Diagnose as _;
use paperclip_engine::FaultCause;
use paperclip_guest::{
    Found, Inspection, LoadError, Plugin, Runtime, RuntimeOptions, Source, inspect, sha256_hex, verify,
};
use std::fs;
use std::path::Path;

fn refusal(bytes: &[u8]) -> LoadError {
    Plugin::load(&runtime(), source(), bytes).unwrap_err()
}

#[track_caller]
fn assert_says(error: &LoadError, words: &[&str]) {
    let line = error.diagnostic().to_string();
    assert!(line.starts_with("plugins/test.wasm: "), "{line}");
    assert!(!line.contains('\n'), "{line}");
    for word in words {
        assert!(line.contains(word), "{word:?} is missing in: {line}");
    }
}

#[test]
fn loads_a_plugin_of_the_contract() {
    let bytes = Forge::new("test_k8s").component();
    let plugin = Plugin::load(&runtime(), source(), &bytes).unwrap();
    assert_eq!(plugin.adapter_type(), "test_k8s");
    assert_eq!(plugin.version(), "1.2.3");
    assert_eq!(plugin.contract(), "0.2.0");
    assert_eq!(plugin.digest(), sha256_hex(&bytes));
    assert_eq!(plugin.descriptor().doc, "A document");
}

#[test]
fn loads_plugins_of_each_version_and_of_later_patches() {
    for contract in ["0.1.0", "0.1.7", "0.2.0", "0.2.7"] {
        let bytes = Forge::new("test_k8s").contract(contract).component();
        let plugin = Plugin::load(&runtime(), source(), &bytes).unwrap();
        assert_eq!(plugin.contract(), contract);
        plugin.instantiate().unwrap();
    }
}

#[test]
fn rejects_an_unsupported_contract_and_names_the_supported_ones() {
    let error = refusal(&Forge::new("test_k8s").contract("0.9.0").component());
    assert!(matches!(error, LoadError::Version { .. }));
    assert_says(&error, &["paperclip:agent@0.9.0", "0.1.0 and 0.2.0"]);
}

#[test]
fn rejects_imports_by_name() {
    let bytes = Forge::new("test_k8s")
        .edit("export types;", "import clock: interface { now: func() -> u64; } export types;")
        .import(r#"(import "clock" "now" (func (result i64)))"#)
        .component();
    let error = refusal(&bytes);
    assert!(matches!(error, LoadError::Imports { .. }));
    assert_says(&error, &["imports clock", "without WASI"]);
}

#[test]
fn rejects_a_core_module_with_a_hint_to_componentise_it() {
    let error = refusal(&Forge::new("test_k8s").module());
    assert!(matches!(error, LoadError::NotAComponent { found: Found::CoreModule, .. }));
    assert_says(&error, &["a core module", "wit-component"]);
}

#[test]
fn distinguishes_text_garbage_and_truncated_files() {
    assert_says(&refusal(b"(module)"), &["is text"]);
    assert_says(&refusal(b""), &["is empty"]);
    assert_says(&refusal(b"\x00\x01\x02\x03\x04\x05\x06\x07\xff"), &["an unknown kind of file"]);
    let whole = Forge::new("test_k8s").component();
    assert_says(&refusal(&whole[..whole.len() / 2]), &["damaged"]);
}

#[test]
fn rejects_a_component_that_is_not_a_plugin_and_names_the_missing_exports() {
    let error = refusal(&wat::parse_str("(component)").unwrap());
    assert!(matches!(error, LoadError::NotAPlugin { .. }));
    assert_says(&error, &["paperclip:agent/runs@0.2.0"]);
}

#[test]
fn rejects_other_functions_under_the_contracts_name_at_load() {
    let bytes = Forge::new("test_k8s").edit("phase: func() -> string;", "phase: func() -> u32;").component();
    let error = refusal(&bytes);
    assert!(matches!(error, LoadError::Shape { .. }), "{error}");
    assert_says(&error, &["contract 0.2.0", "wit/0.2"]);
}

#[test]
fn rejects_a_plugin_that_fails_its_trial_with_the_call_and_the_cause() {
    let error = refusal(&Forge::new("test_k8s").body("describe", "(unreachable)").component());
    let LoadError::Trial { call: "describe", cause: FaultCause::Trap(_), .. } = &error else {
        panic!("{error}");
    };
    assert_says(&error, &["in `describe`"]);
}

#[test]
fn rejects_an_invalid_agent_type() {
    for name in ["", "Claude", "claude-k8s", "a b"] {
        let error = refusal(&Forge::new(name).component());
        assert!(matches!(error, LoadError::Descriptor { .. }), "{name:?}: {error}");
    }
    assert_says(&refusal(&Forge::new("ok").version("").component()), &["no version"]);
}

#[test]
fn rejects_a_plugin_that_needs_more_memory_than_the_limit() {
    let small = RuntimeOptions { max_instances: 1, memory_bytes: 128 << 10, ..RuntimeOptions::default() };
    let runtime = Runtime::new(&small).unwrap();
    let error = Plugin::load(&runtime, source(), &Forge::new("test_k8s").component()).unwrap_err();
    assert!(matches!(error, LoadError::Memory { limit_bytes: 131_072, .. }));
    assert_says(&error, &["262144 bytes", "131072"]);
}

#[test]
fn reports_a_missing_file_by_its_path() {
    let error = Plugin::load_file(&runtime(), Path::new("no/such.wasm")).unwrap_err();
    assert!(error.to_string().starts_with("no/such.wasm: cannot be read: "), "{error}");
}

#[test]
fn inspects_exports_and_memory_of_a_plugin() {
    let bytes = Forge::new("test_k8s").max_pages(64).component();
    let inspection = inspect(&runtime(), source(), &bytes).unwrap();
    assert_eq!(
        inspection,
        Inspection {
            source: source(),
            digest: sha256_hex(&bytes),
            size_bytes: bytes.len() as u64,
            contract: Some("0.2.0".into()),
            exports: ["types", "runs", "tools"]
                .iter()
                .map(|name| format!("paperclip:agent/{name}@0.2.0"))
                .collect(),
            imports: vec![],
            initial_memory_bytes: 256 << 10,
            max_memory_bytes: 4 << 20,
            core_instances: inspection.core_instances,
            adapter_type: Some("test_k8s".into()),
            label: Some("A label".into()),
            version: Some("1.2.3".into()),
            problem: None,
        }
    );
    let text = inspection.to_string();
    assert!(text.contains("imports         none\n"), "{text}");
    assert!(text.contains("usable here     yes\n"), "{text}");
    assert_eq!(verify(&runtime(), source(), &bytes).unwrap(), inspection);
}

#[test]
fn inspects_a_component_that_is_rejected() {
    let bytes = Forge::new("test_k8s").contract("0.9.0").component();
    let inspection = inspect(&runtime(), source(), &bytes).unwrap();
    assert_eq!(inspection.contract.as_deref(), Some("0.9.0"));
    assert_eq!(inspection.adapter_type, None);
    assert!(inspection.problem.unwrap().contains("0.9.0"));
    assert_eq!(inspection.max_memory_bytes, 64 << 20);
    assert!(verify(&runtime(), source(), &bytes).is_err());
    assert!(inspect(&runtime(), source(), b"text").is_err());
}

#[test]
fn stores_compiled_plugins_in_the_cache_and_loads_them_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = RuntimeOptions {
        max_instances: 1,
        cache_dir: Some(folder.path().join("compiled")),
        ..RuntimeOptions::default()
    };
    let bytes = Forge::new("test_k8s").component();
    for _ in 0..2 {
        let runtime = Runtime::new(&options).unwrap();
        let plugin = Plugin::load(&runtime, Source::Builtin("test_k8s".into()), &bytes).unwrap();
        plugin.instantiate().unwrap();
        assert!(fs::read_dir(folder.path().join("compiled")).unwrap().next().is_some());
    }
}
