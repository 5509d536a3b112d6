//! New versions of a plugin under a running daemon.

use std::fs;

use serde_json::{Value, json};

use super::daemon::{Daemon, text};
use crate::host::{Place, plugin};

/// The plugin with a custom section more: another digest, the same conduct.
fn another_version() -> Vec<u8> {
    let mut bytes = fs::read(plugin()).unwrap();
    bytes.extend_from_slice(&[0, 6, 5, b'a', b'g', b'a', b'i', b'n']);
    bytes
}

#[test]
fn a_run_keeps_its_version_and_new_runs_use_the_new_one() {
    let place = Place::gated("echo one", "");
    fs::create_dir(place.path("plugins")).unwrap();
    let daemon = Daemon::start(&place, &["--plugins", &text(&place.path("plugins"))]);
    daemon.run("old", json!({}));
    daemon.follow("old", 0).find(|event| event["text"] == "one").unwrap();
    let old = daemon.state("old")["pluginDigest"].clone();

    // The folder is watched: the list says when it was taken.
    fs::write(place.path("plugins/claude_k8s.wasm"), another_version()).unwrap();
    let listed = loop {
        let listed = daemon.get("/v1/plugins").json();
        if listed["plugins"][0]["digest"] != old {
            break listed;
        }
    };
    assert_eq!(listed["previous"][0]["digest"], old);
    place.open_gate();
    daemon.run("new", json!({}));
    for run in ["old", "new"] {
        assert_eq!(daemon.events(run, 0).last().unwrap()["errorCode"], Value::Null, "{run}");
    }
    assert_eq!(daemon.state("old")["pluginDigest"], old);
    assert_eq!(daemon.state("new")["pluginDigest"], listed["plugins"][0]["digest"]);

    fs::write(place.path("plugins/claude_k8s.wasm"), "garbage").unwrap();
    let reloaded = daemon.post("/v1/plugins/reload", &Value::Null).json();
    assert_eq!(reloaded["plugins"], listed["plugins"], "a bad file changes nothing");
    assert!(reloaded["rejected"][0]["error"].as_str().unwrap().contains("is text"), "{reloaded}");

    let output =
        place.host(&["plugins", "revert", "claude_k8s", "--listen", daemon.address()]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(daemon.get("/v1/plugins").json()["plugins"][0]["digest"], old);
    daemon.run("reverted", json!({}));
    assert_eq!(daemon.events("reverted", 0).last().unwrap()["errorCode"], Value::Null);
    assert_eq!(daemon.state("reverted")["pluginDigest"], old);
}
