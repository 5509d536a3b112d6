//! Plugins that change while the process runs.

use crate::forge::Forge;
use crate::{request, runtime};
use paperclip_contract::types::Event;
use paperclip_diagnostic::Diagnose as _;
use paperclip_engine::Guest;
use paperclip_engine::journal::{Entry, FORMAT};
use paperclip_engine::time::Timestamp;
use paperclip_guest::{
    Catalogue, CatalogueOptions, NoPlugin, PluginConfigMap, QUARANTINE_MS, Source, TRAP_WINDOW_MS, sha256_hex,
};
use std::borrow::Cow;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn version(version: &str) -> Vec<u8> {
    Forge::new("alpha").version(version).component()
}

fn place(dir: &Path, bytes: &[u8]) {
    fs::write(dir.join("alpha.wasm"), bytes).unwrap();
}

fn catalogue(dir: &TempDir) -> Catalogue {
    let options = CatalogueOptions { builtins: &[], folder: Some(dir.path().to_owned()), max_traps: 3 };
    Catalogue::open(runtime(), options).unwrap()
}

#[test]
fn new_runs_use_a_new_version_and_running_ones_keep_theirs() {
    let dir = tempfile::tempdir().unwrap();
    place(dir.path(), &version("1.0.0"));
    let catalogue = catalogue(&dir);
    let held = catalogue.get("alpha").unwrap();
    let mut run = held.instantiate().unwrap();
    run.start(Timestamp::EPOCH, &crate::request()).unwrap().unwrap();

    place(dir.path(), &version("2.0.0"));
    let changed = catalogue.reload().unwrap();
    assert_eq!(changed.len(), 1);
    assert_eq!(changed[0].from.as_deref(), Some(held.digest()));
    assert_eq!(catalogue.get("alpha").unwrap().version(), "2.0.0");
    assert_eq!(run.plugin().version(), "1.0.0");
    assert_eq!(run.step(Timestamp::from_millis(1), &[]), Ok(vec![]));
    assert_eq!(catalogue.list().previous[0].version, "1.0.0");
    assert_eq!(catalogue.by_digest(held.digest()).unwrap().version(), "1.0.0");
    assert_eq!(catalogue.reload().unwrap(), [], "nothing is new");
}

/// A catalogue with a built-in plugin `alpha` of version 1.0.0.
fn catalogue_with_builtin(dir: &TempDir, bytes: Vec<u8>) -> Catalogue {
    let builtins: &'static [(&str, &[u8])] = vec![("alpha", &*bytes.leak())].leak();
    let options = CatalogueOptions { builtins, folder: Some(dir.path().to_owned()), max_traps: 3 };
    Catalogue::open(runtime(), options).unwrap()
}

#[test]
fn a_builtin_plugin_is_compiled_when_it_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let catalogue = catalogue_with_builtin(&dir, version("1.0.0"));
    assert!(!catalogue.is_compiled("alpha"));
    assert!(catalogue.list().plugins.is_empty());
    let NoPlugin::Unknown { known, .. } = catalogue.get("beta").unwrap_err() else { panic!("unknown") };
    assert_eq!(known, "alpha", "one that is not compiled can be used, too");

    let digest = sha256_hex(&version("1.0.0"));
    assert_eq!(catalogue.by_digest(&digest).unwrap().version(), "1.0.0");
    assert!(catalogue.is_compiled("alpha"));
    assert_eq!(catalogue.reload().unwrap(), [], "it stays");
    assert_eq!(catalogue.list().plugins[0].digest, digest);
}

#[test]
fn a_file_replaces_an_uncompiled_builtin_plugin_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let catalogue = catalogue_with_builtin(&dir, version("1.0.0"));
    place(dir.path(), b"garbage");
    assert_eq!(catalogue.reload().unwrap(), [], "a rejected file changes nothing");
    assert!(!catalogue.is_compiled("alpha"));

    place(dir.path(), &version("2.0.0"));
    let changed = catalogue.reload().unwrap();
    assert_eq!(changed[0].from.as_deref(), Some(sha256_hex(&version("1.0.0")).as_str()));
    assert_eq!(catalogue.get("alpha").unwrap().version(), "2.0.0");

    fs::remove_file(dir.path().join("alpha.wasm")).unwrap();
    assert_eq!(catalogue.reload().unwrap()[0].to, changed[0].from);
    assert_eq!(catalogue.get("alpha").unwrap().version(), "1.0.0");
    let listed = catalogue.list();
    assert_eq!((listed.plugins.len(), listed.previous[0].version.as_str()), (1, "2.0.0"));
}

#[test]
fn a_builtin_plugin_that_cannot_be_used_is_rejected_at_its_first_use() {
    let dir = tempfile::tempdir().unwrap();
    let broken = Forge::new("alpha").body("describe", "(unreachable)").component();
    let catalogue = catalogue_with_builtin(&dir, broken);
    assert!(matches!(catalogue.get("alpha"), Err(NoPlugin::Rejected { .. })));
    catalogue.compile_all();
    assert_eq!(catalogue.list().rejected.len(), 1);
}

#[test]
fn an_installed_plugin_is_used_and_stays_after_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let catalogue = catalogue_with_builtin(&dir, version("1.0.0"));
    let changed = catalogue.install("alpha", &version("2.0.0")).unwrap().unwrap();
    assert_eq!(changed.to.as_deref(), Some(sha256_hex(&version("2.0.0")).as_str()));
    assert_eq!(catalogue.get("alpha").unwrap().version(), "2.0.0");
    assert_eq!(catalogue.reload().unwrap(), [], "the folder has it");
    assert_eq!(catalogue.install("alpha", &version("2.0.0")).unwrap(), None, "it is in use already");

    fs::rename(dir.path().join("alpha.wasm"), dir.path().join("mine.wasm")).unwrap();
    catalogue.reload().unwrap();
    catalogue.install("alpha", &version("3.0.0")).unwrap();
    assert_eq!(catalogue.reload().unwrap(), [], "the file that has the type is replaced");
    assert_eq!(catalogue.get("alpha").unwrap().version(), "3.0.0");
}

fn config_map(adapter_type: &str, plugin: Result<&[u8], &str>) -> PluginConfigMap {
    let (name, adapter_type) = ("paperclip/plugin".to_owned(), adapter_type.to_owned());
    PluginConfigMap {
        source: Source::ConfigMap { name, adapter_type },
        plugin: plugin.map(Into::into).map_err(str::to_owned),
    }
}

#[test]
fn a_plugin_of_the_cluster_replaces_the_builtin_one_until_its_config_map_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let catalogue = catalogue_with_builtin(&dir, version("1.0.0"));
    let changed = catalogue.set_config_maps(vec![config_map("alpha", Ok(&version("2.0.0")))]).unwrap();
    assert_eq!(changed.len(), 1);
    assert_eq!(catalogue.get("alpha").unwrap().version(), "2.0.0");
    let listed = serde_json::to_value(catalogue.list()).unwrap();
    assert_eq!(listed["plugins"][0]["source"], "configmap/paperclip/plugin");
    let error = catalogue.install("alpha", &version("3.0.0")).unwrap_err().to_string();
    assert!(error.contains("ConfigMap paperclip/plugin"), "{error}");

    let other = Forge::new("beta").component();
    for bad in [Ok(&b"garbage"[..]), Err("binaryData has no plugin"), Ok(&other)] {
        assert_eq!(catalogue.set_config_maps(vec![config_map("alpha", bad)]).unwrap(), []);
        assert_eq!(catalogue.get("alpha").unwrap().version(), "2.0.0", "a bad one changes nothing");
        assert!(catalogue.list().rejected[0].error.contains("ConfigMap paperclip/plugin"));
    }
    assert_eq!(catalogue.set_config_maps(Vec::new()).unwrap().len(), 1);
    assert_eq!(catalogue.get("alpha").unwrap().version(), "1.0.0");
}

#[test]
fn a_plugin_that_cannot_be_installed_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let catalogue = catalogue_with_builtin(&dir, version("1.0.0"));
    let refused = |adapter_type: &str, bytes: &[u8]| {
        let error = catalogue.install(adapter_type, bytes).unwrap_err();
        assert!(error.hint().is_some());
        error.to_string()
    };
    assert!(refused("alpha", b"garbage").contains("not a WebAssembly component"));
    assert!(refused("beta", &version("2.0.0")).contains("agent type alpha, not beta"));
    let golden = dir.path().join("golden/alpha");
    fs::create_dir_all(&golden).unwrap();
    fs::write(golden.join("a.ndjson"), r#"{"name":"a","evidence":{},"expected":{"summary":"other"}}"#)
        .unwrap();
    assert!(refused("alpha", &version("2.0.0")).contains("golden recording"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no file is left behind");
    assert!(!catalogue.is_compiled("alpha"), "the built-in one is in use");
}

#[test]
fn a_rejected_file_changes_nothing_and_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    place(dir.path(), &version("1.0.0"));
    let catalogue = catalogue(&dir);
    for bad in [b"garbage".to_vec(), Forge::new("alpha").body("describe", "(unreachable)").component()] {
        place(dir.path(), &bad);
        assert_eq!(catalogue.reload().unwrap(), []);
        assert_eq!(catalogue.get("alpha").unwrap().version(), "1.0.0");
        let shown = catalogue.list();
        assert_eq!((shown.plugins.len(), shown.rejected.len()), (1, 1));
    }
    fs::remove_file(dir.path().join("alpha.wasm")).unwrap();
    assert_eq!(catalogue.reload().unwrap()[0].to, None);
    assert!(matches!(catalogue.get("alpha"), Err(NoPlugin::Unknown { .. })));
}

#[test]
fn a_reverted_version_is_not_loaded_again_until_it_is_reverted_to() {
    let dir = tempfile::tempdir().unwrap();
    place(dir.path(), &version("1.0.0"));
    let catalogue = catalogue(&dir);
    assert!(catalogue.revert("alpha").unwrap_err().to_string().contains("alpha"));
    place(dir.path(), &version("2.0.0"));
    catalogue.reload().unwrap();

    let changed = catalogue.revert("alpha").unwrap();
    assert_eq!(changed.to.as_deref(), Some(sha256_hex(&version("1.0.0")).as_str()));
    assert_eq!(catalogue.reload().unwrap(), []);
    assert_eq!(catalogue.get("alpha").unwrap().version(), "1.0.0");
    assert!(catalogue.list().rejected[0].error.contains("was reverted"));

    catalogue.revert("alpha").unwrap();
    assert_eq!(catalogue.get("alpha").unwrap().version(), "2.0.0");
    assert_eq!(catalogue.reload().unwrap(), []);
}

#[test]
fn traps_in_runs_of_several_agents_put_a_version_under_quarantine() {
    let dir = tempfile::tempdir().unwrap();
    place(dir.path(), &version("1.0.0"));
    let catalogue = catalogue(&dir);
    place(dir.path(), &version("2.0.0"));
    catalogue.reload().unwrap();
    let (old, new) = (sha256_hex(&version("1.0.0")), sha256_hex(&version("2.0.0")));

    assert_eq!(catalogue.note_trap(&new, "a", 0), None);
    assert_eq!(catalogue.note_trap(&new, "b", 1), None);
    // The first two are too long ago by now.
    let late_ms = 2 * TRAP_WINDOW_MS;
    assert_eq!(catalogue.note_trap(&new, "c", late_ms), None);
    assert_eq!(catalogue.note_trap(&new, "d", late_ms + 1), None);
    let fallback = catalogue.note_trap(&new, "e", late_ms + 2).unwrap();
    assert_eq!(fallback.to, Some(old.clone()));
    assert_eq!(catalogue.get("alpha").unwrap().version(), "1.0.0");
    assert_eq!(catalogue.reload().unwrap(), [], "the file still exists");
    assert_eq!(catalogue.list().quarantined[0].digest, new);

    for agent in ["a", "b", "c"] {
        catalogue.note_trap(&old, agent, late_ms + 2);
    }
    let error = catalogue.get("alpha").unwrap_err();
    assert!(matches!(error, NoPlugin::Quarantined { .. }), "{error}");
    assert!(error.hint().unwrap().contains("plugins revert alpha"), "{:?}", error.hint());
    place(dir.path(), &version("3.0.0"));
    catalogue.reload().unwrap();
    assert_eq!(catalogue.get("alpha").unwrap().version(), "3.0.0");
}

#[test]
fn one_agent_cannot_put_a_version_under_quarantine() {
    let dir = tempfile::tempdir().unwrap();
    place(dir.path(), &version("1.0.0"));
    let catalogue = catalogue(&dir);
    let digest = sha256_hex(&version("1.0.0"));
    for at_ms in 0..100 {
        assert_eq!(catalogue.note_trap(&digest, "a", at_ms), None);
    }
    assert_eq!(catalogue.get("alpha").unwrap().version(), "1.0.0");
}

#[test]
fn a_quarantine_ends_by_itself_or_by_a_revert() {
    let dir = tempfile::tempdir().unwrap();
    place(dir.path(), &version("1.0.0"));
    let catalogue = catalogue(&dir);
    let digest = sha256_hex(&version("1.0.0"));
    let quarantine = || ["a", "b", "c"].map(|agent| catalogue.note_trap(&digest, agent, 0));
    quarantine();
    assert_eq!(catalogue.end_quarantines(QUARANTINE_MS - 1), []);
    catalogue.get("alpha").unwrap_err();
    let changed = catalogue.end_quarantines(QUARANTINE_MS);
    assert_eq!(changed[0].to, Some(digest.clone()));
    assert_eq!(catalogue.get("alpha").unwrap().version(), "1.0.0");
    assert_eq!(catalogue.list().quarantined, []);

    quarantine();
    assert_eq!(catalogue.revert("alpha").unwrap().to, Some(digest));
    assert_eq!(catalogue.list().quarantined, []);
}

#[test]
fn rejects_a_version_that_judges_a_golden_recording_differently() {
    // classify answers ok("{}") or ok(""): the memory at 700 has the text.
    let answering = |text: u32, bytes: u32| {
        let body = format!(
            "(i32.store (i32.const 700) (i32.const {text})) (i32.store (i32.const 604) (i32.const 700))
             (i32.store (i32.const 608) (i32.const {bytes})) (i32.store8 (i32.const 600) (i32.const 0)) (i32.const 600)"
        );
        Forge::new("alpha").body("classify", &body).component()
    };
    let braces = u32::from_le_bytes(*b"{}  ");
    let dir = tempfile::tempdir().unwrap();
    let golden = dir.path().join("golden/alpha");
    fs::create_dir_all(&golden).unwrap();
    let recording = r#"{"name":"ok","evidence":{},"expected":{"errorCode":null}}"#;
    fs::write(golden.join("runs.ndjson"), format!("{recording}\n\n")).unwrap();
    place(dir.path(), &answering(braces, 2));
    let catalogue = catalogue(&dir);
    let good = catalogue.get("alpha").unwrap().digest().to_owned();

    place(dir.path(), &answering(0, 0));
    assert_eq!(catalogue.reload().unwrap(), []);
    assert_eq!(catalogue.get("alpha").unwrap().digest(), good);
    let error = &catalogue.list().rejected[0].error;
    assert!(error.contains("runs.ndjson:1 (ok)"), "{error}");
}

#[test]
fn rejects_a_version_that_fails_in_a_recorded_run() {
    let dir = tempfile::tempdir().unwrap();
    let golden = dir.path().join("golden/alpha");
    fs::create_dir_all(&golden).unwrap();
    let entries = [
        Entry::Start { format: FORMAT, at: Timestamp::from_millis(1), request: Cow::Owned(request()) },
        Entry::Step {
            seq: 1,
            at: Timestamp::from_millis(2),
            events: vec![Event::TimerFired(1)].into(),
            cursors: Vec::new().into(),
            whole: Vec::new().into(),
        },
    ];
    let lines = entries.map(|entry| format!("00000000 {}", entry.to_line()));
    fs::write(golden.join("run.journal"), lines.concat()).unwrap();
    place(dir.path(), &Forge::new("alpha").component());
    let catalogue = catalogue(&dir);
    let good = catalogue.get("alpha").unwrap().digest().to_owned();

    place(dir.path(), &Forge::new("alpha").body("step", "(unreachable)").component());
    assert_eq!(catalogue.reload().unwrap(), []);
    assert_eq!(catalogue.get("alpha").unwrap().digest(), good);
    let error = &catalogue.list().rejected[0].error;
    assert!(error.contains("run.journal: step 1: ") && error.contains("it trapped"), "{error}");

    place(dir.path(), &Forge::new("alpha").version("2.0.0").component());
    assert_eq!(catalogue.reload().unwrap().len(), 1, "it reproduces the recorded run");
}
