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

/// A release brings built-in plugins of other digests: here they replace those of a folder that the next daemon does not have.
#[test]
fn runs_of_an_older_digest_continue_after_an_upgrade_of_the_daemon() {
    let place = Place::gated("echo one", "");
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];
    fs::create_dir(place.path("plugins")).unwrap();
    fs::write(place.path("plugins/claude_k8s.wasm"), another_version()).unwrap();
    let daemon = Daemon::start_on(&place, &on, &["--plugins", &text(&place.path("plugins"))]);
    for run in ["kept", "lost"] {
        daemon.run(run, json!({}));
        daemon.follow(run, 0).find(|event| event["text"] == "one").unwrap();
    }
    let old = daemon.state("kept")["pluginDigest"].clone();
    daemon.stop();
    fs::remove_dir_all(place.path("plugins")).unwrap();
    // One of them is adopted by its Job alone.
    fs::remove_dir_all(place.path("state/runs/lost")).unwrap();

    let daemon = Daemon::start_on(&place, &on, &[]).when_ready();
    let new = daemon.get("/v1/plugins").json()["plugins"][0]["digest"].clone();
    assert_ne!(old, new);
    place.open_gate();
    daemon.run("next", json!({}));
    for (run, digest) in [("kept", &old), ("lost", &new), ("next", &new)] {
        assert_eq!(daemon.events(run, 0).last().unwrap()["errorCode"], Value::Null, "{run}");
        assert_eq!(daemon.state(run)["pluginDigest"], *digest, "{run}");
    }
    let lines = |run: &str| daemon.events(run, 0).iter().filter(|event| event["text"] == "one").count();
    assert_eq!((lines("kept"), lines("lost")), (1, 1), "each line once");
}

/// The token of whoever puts plugins into the daemon.
const ADMIN_TOKEN: &str = "admin-0123456789abcdef";

#[test]
fn a_plugin_is_put_into_a_daemon_with_the_admin_token_alone() {
    let place = Place::new("echo one");
    fs::write(place.path("admin-token"), ADMIN_TOKEN).unwrap();
    let daemon = Daemon::start(&place, &["--admin-token-file", &text(&place.path("admin-token"))]);
    let client = daemon.put("/v1/plugins/claude_k8s", &another_version());
    assert_eq!(client.status, 401, "a client of runs: {client:?}");

    let daemon = daemon.with_token(ADMIN_TOKEN);
    let bad = daemon.put("/v1/plugins/claude_k8s", b"garbage");
    assert_eq!(bad.status, 400, "{bad:?}");
    assert!(bad.text.contains("is text, not a WebAssembly component"), "{bad:?}");
    let other = daemon.put("/v1/plugins/gemini_k8s", &another_version());
    assert!(other.text.contains("put it under /v1/plugins/claude_k8s"), "{other:?}");
    let put = daemon.put("/v1/plugins/claude_k8s", &another_version());
    assert_eq!(put.status, 200, "{put:?}");
    let digest = put.json()["digest"].clone();
    assert_eq!(put.json()["changed"]["to"], digest);
    assert_eq!(
        daemon.put("/v1/plugins/claude_k8s", &another_version()).json()["changed"],
        Value::Null,
        "it is in use already"
    );
    assert_eq!(daemon.get("/v1/runs").status, 401, "it is no token for runs");
    let push = |file: &std::path::Path| {
        let admin = text(&place.path("admin-token"));
        let mut host = place.host(&["plugins", "push", &text(file), "--to", daemon.address()]);
        host.args(["--admin-token-file", &admin]).output().unwrap()
    };
    let pushed = push(&plugin());
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    let said = String::from_utf8(pushed.stdout).unwrap();
    assert!(said.starts_with("claude_k8s ") && said.ends_with(" is in use\n"), "{said}");
    assert_eq!(push(&place.path("admin-token")).status.code(), Some(2), "no plugin");
    daemon.stop();

    let daemon = Daemon::start(&place, &[]).with_token(ADMIN_TOKEN);
    let nobody = daemon.put("/v1/plugins/claude_k8s", &another_version());
    assert_eq!(nobody.status, 403, "{nobody:?}");
    assert!(nobody.text.contains("--admin-token-file"), "{nobody:?}");
}
