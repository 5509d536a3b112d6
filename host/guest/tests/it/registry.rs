//! Plugins by agent type: built-in ones, a folder that replaces them, and rejected ones.

use crate::forge::Forge;
use crate::runtime;
use paperclip_diagnostic::Diagnose as _;
use paperclip_guest::{NoPlugin, Registry, Source, sha256_hex};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn registry(builtins: &[(&str, &[u8])], folder: &Path) -> Registry {
    Registry::load(&runtime(), builtins, Some(folder)).unwrap()
}

#[test]
fn a_file_replaces_a_built_in_plugin() {
    let (old, new) = (Forge::new("alpha").component(), Forge::new("alpha").version("2.0.0").component());
    let beta = Forge::new("beta").component();
    let folder = folder(&[("other_name.wasm", &new), ("notes.txt", b"not a plugin")]);
    let registry = registry(&[("alpha", &old), ("beta", &beta)], folder.path());

    assert_eq!(registry.get("alpha").unwrap().version(), "2.0.0");
    assert_eq!(registry.get("beta").unwrap().source(), &Source::Builtin("beta".into()));
    assert!(registry.rejected().is_empty());
    assert_eq!(
        serde_json::to_value(registry.list()).unwrap(),
        serde_json::json!([
            {"adapterType": "alpha", "version": "2.0.0", "digest": sha256_hex(&new), "contract": "0.2.0",
             "source": folder.path().join("other_name.wasm")},
            {"adapterType": "beta", "version": "1.2.3", "digest": sha256_hex(&beta), "contract": "0.2.0",
             "source": "builtin"},
        ])
    );
}

#[test]
fn an_unknown_type_is_reported_with_the_known_ones_and_how_to_add_it() {
    let registry = Registry::load(&runtime(), &[("alpha", &Forge::new("alpha").component())], None).unwrap();
    let line = registry.get("gamma").unwrap_err().diagnostic().to_string();
    for word in ["\"gamma\"", "known: alpha", "gamma.wasm", "--plugins"] {
        assert!(line.contains(word), "{word:?} is missing in: {line}");
    }
}

#[test]
fn two_files_of_one_type_are_both_named_and_neither_is_used() {
    let alpha = Forge::new("alpha").component();
    let folder = folder(&[("a.wasm", &alpha), ("b.wasm", &Forge::new("alpha").version("2").component())]);
    let registry = registry(&[("alpha", &alpha)], folder.path());

    let error = registry.get("alpha").unwrap_err();
    let NoPlugin::Rejected { error, .. } = error else { panic!("{error}") };
    assert!(error.contains("a.wasm") && error.contains("b.wasm"), "{error}");
    assert_eq!(registry.rejected().len(), 2);
    assert_eq!(registry.list(), []);
}

#[test]
fn a_rejected_file_affects_no_other_and_does_not_fall_back_to_the_built_in_plugin() {
    let alpha = Forge::new("alpha").component();
    let folder = folder(&[("alpha.wasm", b"garbage"), ("beta.wasm", &Forge::new("beta").component())]);
    let registry = registry(&[("alpha", &alpha)], folder.path());

    assert_eq!(registry.get("beta").unwrap().adapter_type(), "beta");
    let line = registry.get("alpha").unwrap_err().to_string();
    assert!(line.contains("alpha.wasm: is text"), "{line}");
    let [rejected] = registry.rejected() else { panic!("{:?}", registry.rejected()) };
    assert_eq!(rejected.adapter_type.as_deref(), Some("alpha"));
    assert_eq!(registry.list().len(), 1);
}

#[test]
fn ignores_a_rejected_file_beside_a_good_one_of_its_type() {
    let folder = folder(&[("alpha.wasm", b"garbage"), ("alpha-2.wasm", &Forge::new("alpha").component())]);
    let registry = registry(&[], folder.path());
    assert_eq!(registry.get("alpha").unwrap().adapter_type(), "alpha");
    assert_eq!(registry.rejected().len(), 1);
}

#[test]
fn reports_a_rejected_built_in_plugin() {
    let registry = Registry::load(&runtime(), &[("alpha", b"garbage")], None).unwrap();
    let line = registry.get("alpha").unwrap_err().to_string();
    assert!(line.contains("built-in plugin alpha: is text"), "{line}");
}

#[test]
fn a_missing_folder_is_an_error() {
    let error = Registry::load(&runtime(), &[], Some(Path::new("no/such/folder"))).unwrap_err();
    assert!(error.to_string().starts_with("plugins folder no/such/folder: "), "{error}");
}

#[test]
fn a_holder_of_a_plugin_keeps_its_version() {
    let folder = folder(&[("alpha.wasm", &Forge::new("alpha").component())]);
    let held = registry(&[], folder.path()).get("alpha").unwrap().clone();
    fs::write(folder.path().join("alpha.wasm"), Forge::new("alpha").version("2.0.0").component()).unwrap();
    assert_eq!(registry(&[], folder.path()).get("alpha").unwrap().version(), "2.0.0");
    assert_eq!(held.version(), "1.2.3");
    held.instantiate().unwrap();
}
