//! What an author of a plugin does with the program: judge recorded cases, and measure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::host::{Place, fixture, plugin_of, workspace};

fn example() -> PathBuf {
    workspace().join("dist/test-plugins/example_k8s.wasm")
}

fn plugins(command: &str, plugin: &Path, fixtures: &Path, more: &[&str]) -> Output {
    let place = Place::new("exit 0");
    let mut host = place.host(&["plugins", command]);
    host.arg(plugin).arg("--fixtures").arg(fixtures).args(more).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_cases_of_each_agent_type_are_judged_as_expected() {
    let cases = [
        (example(), workspace().join("tests/example/fixtures"), "2 of 2 cases"),
        (plugin_of("codex_k8s"), fixture("agents/codex-0.171.0"), "32 of 32 cases"),
        (plugin_of("gemini_k8s"), fixture("agents/gemini-0.61.0"), "36 of 36 cases"),
        (plugin_of("opencode_k8s"), fixture("agents/opencode-1.18.33"), "47 of 47 cases"),
    ];
    for (plugin, fixtures, says) in cases {
        let output = plugins("test", &plugin, &fixtures, &[]);
        assert!(output.status.success(), "{}", text(&output));
        assert!(text(&output).contains(says), "{}", text(&output));
    }
}

#[test]
fn a_case_that_is_judged_otherwise_is_shown_until_it_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "success.ndjson", "success.exit"] {
        fs::copy(workspace().join("tests/example/fixtures").join(file), folder.path().join(file)).unwrap();
    }
    let output = plugins("test", &example(), folder.path(), &[]);
    assert_eq!(output.status.code(), Some(1), "nobody has said how it is judged: {}", text(&output));
    assert!(text(&output).contains("--accept writes the result into success.json"), "{}", text(&output));

    fs::write(folder.path().join("expected.txt"), "success llm_api_error\n").unwrap();
    let output = plugins("test", &example(), folder.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    for shown in ["different", "errorCode", "- \"llm_api_error\"", "+ null", "0 of 1 cases"] {
        assert!(text(&output).contains(shown), "{shown}: {}", text(&output));
    }

    assert!(plugins("test", &example(), folder.path(), &["--accept"]).status.success());
    let accepted: Value =
        serde_json::from_slice(&fs::read(folder.path().join("success.json")).unwrap()).unwrap();
    assert_eq!(accepted["expected"]["sessionId"], "s-1");
    assert!(plugins("test", &example(), folder.path(), &[]).status.success());
}

#[test]
fn a_plugin_is_measured() {
    let fixtures = workspace().join("tests/example/fixtures");
    let output = plugins("bench", &example(), &fixtures, &["--json"]);
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figures["adapterType"], "example_k8s");
    for figure in ["bytes", "compileMs", "instanceUs", "judgedBytesPerSec", "shownBytesPerSec"] {
        assert!(figures[figure].as_f64().unwrap() > 0.0, "{figure}: {figures}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let empty = tempfile::tempdir().unwrap();
    for (plugin, fixtures, says) in [
        (Path::new("nowhere.wasm"), empty.path(), "nowhere.wasm"),
        (&*example(), empty.path(), "it has no case"),
        (&*example(), Path::new("/nowhere"), "/nowhere"),
    ] {
        let output = plugins("test", plugin, fixtures, &[]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(says) && text(&output).contains("hint: "), "{}", text(&output));
    }
}
