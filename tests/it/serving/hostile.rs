//! Plugins that are broken or mean harm: each ends its own run with a named cause, and its neighbour finishes.

use std::fs;

use serde_json::{Value, json};

use super::daemon::{Daemon, context, text};
use crate::host::{Place, recording};
use forge::Forge;

#[path = "../../../host/guest/tests/it/forge.rs"]
#[allow(dead_code, reason = "the forge is shared with the tests of the guest host")]
mod forge;

/// Case of `create-job` and of `set-timer` among the actions of the contract.
const CREATE_JOB: u32 = 4;
const SET_TIMER: u32 = 19;
/// Bytes of a command.
const COMMAND: u32 = 72;
const COMMANDS: u32 = forge::SCRATCH;
const MANIFEST: u32 = forge::SCRATCH + 32_768;

/// A plugin whose start returns these commands, a list of this many at [`COMMANDS`].
fn starting_with(name: &str, prepare: &str, commands: u32) -> Forge {
    Forge::new(name).body(
        "start",
        &format!(
            "(local $i i32) {prepare} (i32.store (i32.const 516) (call $new (i32.const 7)))
             (i32.store (i32.const 520) (i32.const {COMMANDS})) (i32.store (i32.const 524) (i32.const {commands})) (i32.const 512)"
        ),
    )
}

/// A plugin that creates this Job.
fn creating(name: &str, job: &Value) -> Forge {
    let manifest = job.to_string();
    let escaped: String = manifest.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let prepare = format!(
        "(i64.store (i32.const {COMMANDS}) (i64.const 1)) (i32.store8 (i32.const {}) (i32.const {CREATE_JOB}))
         (i32.store (i32.const {}) (i32.const {MANIFEST})) (i32.store (i32.const {}) (i32.const {}))",
        COMMANDS + 8,
        COMMANDS + 16,
        COMMANDS + 20,
        manifest.len()
    );
    starting_with(name, &prepare, 1).function(&format!("(data (i32.const {MANIFEST}) \"{escaped}\")"))
}

fn job(namespace: &str, container: Value) -> Value {
    let mut container = container;
    container["name"] = json!("c");
    container["image"] = json!("i:1");
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": namespace},
        "spec": {"suspend": true, "template": {"spec": {"automountServiceAccountToken": false, "containers": [container]}}},
    })
}

fn hostile() -> Vec<(&'static str, Forge, &'static str, &'static str)> {
    let busy = "(drop (i32.add (i32.const 1) (i32.const 1)))".repeat(1_000);
    let safe = json!({"securityContext": {"allowPrivilegeEscalation": false}});
    let stolen = json!({
        "securityContext": {"allowPrivilegeEscalation": false}, "envFrom": [{"secretRef": {"name": "somebody-elses"}}],
    });
    let timers = format!(
        "(loop
            (i64.store (i32.add (i32.const {COMMANDS}) (i32.mul (local.get $i) (i32.const {COMMAND}))) (i64.extend_i32_u (i32.add (local.get $i) (i32.const 1))))
            (i32.store8 (i32.add (i32.const {}) (i32.mul (local.get $i) (i32.const {COMMAND}))) (i32.const {SET_TIMER}))
            (i64.store (i32.add (i32.const {}) (i32.mul (local.get $i) (i32.const {COMMAND}))) (i64.extend_i32_u (local.get $i)))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if 0 (i32.lt_u (local.get $i) (i32.const 100))))",
        COMMANDS + 8,
        COMMANDS + 16
    );
    let huge = format!(
        "(drop (memory.grow (i32.const 700))) (i64.store (i32.const {COMMANDS}) (i64.const 1))
         (i32.store8 (i32.const {}) (i32.const {CREATE_JOB})) (i32.store (i32.const {}) (i32.const 40000000))",
        COMMANDS + 8,
        COMMANDS + 20
    );
    vec![
        ("evil_trap", Forge::new("evil_trap").body("start", "(unreachable)"), "plugin_failed", "it trapped"),
        (
            "evil_loop",
            Forge::new("evil_loop").body("start", &format!("(loop {busy} (br 0)) (i32.const 512)")),
            "plugin_failed",
            "units of fuel",
        ),
        (
            "evil_bomb",
            Forge::new("evil_bomb")
                .body("start", "(loop (drop (memory.grow (i32.const 16))) (br 0)) (i32.const 512)"),
            "plugin_failed",
            "bytes of memory",
        ),
        (
            "evil_flood",
            starting_with("evil_flood", "(drop (memory.grow (i32.const 1020)))", 1_000_000),
            "plugin_failed",
            "",
        ),
        ("evil_timers", starting_with("evil_timers", &timers, 100), "plugin_failed", "timers"),
        ("evil_string", starting_with("evil_string", &huge, 1), "plugin_failed", "more bytes than fit"),
        (
            "evil_namespace",
            creating("evil_namespace", &job("kube-system", safe)),
            "plugin_refused",
            "rule namespace",
        ),
        (
            "evil_privileged",
            creating("evil_privileged", &job("default", json!({"securityContext": {"privileged": true}}))),
            "plugin_refused",
            "rule privileged",
        ),
        ("evil_thief", creating("evil_thief", &job("default", stolen)), "plugin_refused", "rule secret"),
    ]
}

#[test]
fn a_hostile_plugin_ends_its_own_run_only() {
    let place = Place::playing(&recording("ok"), "exit 0");
    let plugins = place.path("plugins");
    fs::create_dir(&plugins).unwrap();
    let hostile = hostile();
    for (name, forge, _, _) in &hostile {
        fs::write(plugins.join(format!("{name}.wasm")), forge.component()).unwrap();
    }
    let daemon = Daemon::start(&place, &["--plugins", &text(&plugins)]);
    for (name, ..) in &hostile {
        let body = json!({ "context": context(name, name, json!({"namespace": "default"})) });
        assert_eq!(daemon.post("/v1/runs", &body).status, 202, "{name}");
    }
    daemon.run("neighbour", json!({}));
    for (name, _, code, message) in &hostile {
        let events = daemon.events(name, 0);
        let result = events.last().unwrap();
        assert_eq!(result["errorCode"], *code, "{name}: {result}");
        let text = result["errorMessage"].as_str().unwrap();
        assert!(text.contains(message) && text.contains(name), "{name}: {text}");
        assert_eq!(daemon.state(name)["state"], "failed");
    }
    assert_eq!(daemon.events("neighbour", 0).last().unwrap()["errorCode"], Value::Null);

    // A plugin that fails again and again is no longer used.
    for run in ["again", "and-again"] {
        let body = json!({ "context": context(run, "evil_trap", json!({})) });
        assert_eq!(daemon.post("/v1/runs", &body).status, 202);
        daemon.events(run, 0);
    }
    let refused =
        daemon.post("/v1/runs", &json!({ "context": context("once-more", "evil_trap", json!({})) }));
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(refused.text.contains("quarantine"), "{refused:?}");
    assert_eq!(daemon.get("/v1/plugins").json()["quarantined"][0]["adapterType"], "evil_trap");
}
