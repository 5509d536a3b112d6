//! Wrong input: one line that says what is wrong, one with the hint, exit code 2, nothing left behind.

use std::fs;

use serde_json::json;

use crate::host::Place;

/// Runs the program and expects a refusal that says all of this.
fn refused(place: &Place, args: &[&str], says: &[&str]) {
    let output = place.host(args).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    for text in says {
        assert!(stderr.contains(text), "{args:?} should say {text:?}: {stderr}");
    }
    let lines: Vec<&str> = stderr.trim_end().lines().collect();
    let [error, hint] = lines.as_slice() else {
        panic!("{args:?} should print an error and a hint: {stderr}")
    };
    assert!(error.starts_with("error: ") && hint.starts_with("hint: "), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
}

fn run(context: &str) -> [&str; 5] {
    ["run", "--cluster", "local", "--context", context]
}

#[test]
fn contexts() {
    let place = Place::new("exit 0");
    let file = |name: &str, text: &str| {
        fs::write(place.path(name), text).unwrap();
        place.path(name).display().to_string()
    };
    refused(&place, &run("missing.json"), &["context missing.json", "No such file", "- for stdin"]);
    let broken = file("broken.json", "{\"runId\": ");
    refused(&place, &run(&broken), &["broken.json", "not JSON", "line 1"]);
    let agent = json!({"id": "a", "adapterType": "claude_k8s"});
    let no_run = file("no-run.json", &json!({"agent": agent}).to_string());
    refused(&place, &run(&no_run), &["runId is missing"]);
    let unknown = file(
        "unknown.json",
        &json!({"runId": "r", "agent": {"id": "a", "adapterType": "gpt_k8s"}}).to_string(),
    );
    refused(&place, &run(&unknown), &["gpt_k8s", "claude_k8s"]);
    let untyped = file("untyped.json", &json!({"runId": "r", "agent": {"id": "a"}}).to_string());
    refused(&place, &run(&untyped), &["agent.adapterType", "--adapter"]);
    let remote =
        json!({"runId": "r", "agent": agent, "executionTarget": {"kind": "remote", "transport": "ssh"}});
    let remote = file("remote.json", &remote.to_string());
    refused(
        &place,
        &run(&remote),
        &["executionTarget: a remote environment (ssh)", "the local one in Paperclip"],
    );
    let no_kubeconfig = [
        "run",
        "--kubeconfig",
        "nowhere",
        "--context",
        &file("good.json", &json!({"runId": "r", "agent": agent}).to_string()),
    ];
    refused(&place, &no_kubeconfig, &["nowhere"]);
}

#[test]
fn configs_are_refused_by_their_field_before_anything_is_created() {
    for (config, says) in [
        (json!({"nodeSelector": "disk=ssd\nzone=e u"}), "nodeSelector: line 2"),
        (json!({"resources.limits.cpu": "lots"}), "resources.limits.cpu"),
        (json!({"namespace": "No"}), "namespace"),
        (json!({"kubeconfig": "/root/.kube/config"}), "kubeconfig"),
    ] {
        let place = Place::new("echo ran > \"$HOME/ran\"");
        let context = place.context(config);
        refused(&place, &["manifest", "--context", context.to_str().unwrap()], &[says]);
        let run = place
            .host(&["run", "--cluster", "local", "--output", "ndjson", "--context"])
            .arg(&context)
            .output()
            .unwrap();
        assert_eq!(run.status.code(), Some(2), "{}", String::from_utf8_lossy(&run.stderr));
        assert!(String::from_utf8_lossy(&run.stdout).contains(says));
    }
}

#[test]
fn configurations_of_the_host() {
    let place = Place::new("exit 0");
    let context = place.context(json!({"kubeconfig": "eu"}));
    let context = context.to_str().unwrap();
    let with = |text: &str, says: &[&str]| {
        let file = place.path("host.toml");
        fs::write(&file, text).unwrap();
        let args = ["run", "--cluster", "local", "--context", context, "--config", file.to_str().unwrap()];
        refused(&place, &args, says);
    };
    with("clusters = 3\n", &["host.toml:1:", "docs/operating-serve.md"]);
    // The run goes to the cluster that its config names, and that is not there.
    with("[clusters.eu]\nkubeconfig = \"/nowhere/eu\"\n", &["/nowhere/eu"]);
    let missing = ["run", "--context", context, "--config", "nowhere.toml"];
    refused(&place, &missing, &["config nowhere.toml", "No such file"]);
}

/// What a grant does not allow is refused to a run of the command as to one of the daemon.
#[test]
fn a_grant_holds_for_the_command_too() {
    let place = Place::new("echo ran > \"$HOME/ran\"");
    let config = place.path("host.toml");
    fs::write(&config, "[grants.claude_k8s]\nimages = [\"registry.example.com/*\"]\n").unwrap();
    let context = place.context(json!({}));
    let output = place
        .host(&["run", "--cluster", "local", "--output", "ndjson", "--config"])
        .arg(&config)
        .arg("--context")
        .arg(&context)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert!(stdout.contains("rule image") && stdout.contains("registry.example.com/*"), "{stdout}");
}

#[test]
fn variables_that_no_container_starts_with() {
    let place = Place::new("exit 0");
    for (env, says) in [
        (json!({"LONG": "x".repeat(128 << 10)}), "env.LONG: the variable is 131078 bytes"),
        (json!({"NUL": "a\0b"}), "env.NUL: the value holds a NUL character"),
        (json!({"A B": "c"}), "env.A B"),
        (json!({"REF": {"type": "secret_ref", "secretId": "s"}}), "config.env.REF"),
        (
            (0..8).map(|n| (format!("V{n}"), json!("x".repeat(100_000)))).collect(),
            "env: the variables are 800032 bytes together",
        ),
    ] {
        let context = place.context(json!({ "env": env }));
        refused(&place, &["manifest", "--context", context.to_str().unwrap()], &[says]);
    }
}

#[test]
fn pods_of_paperclip() {
    let place = Place::new("exit 0");
    let context = place.context(json!({}));
    for (text, says) in [("{", "not JSON"), ("{}", "spec.containers"), ("[]", "spec.containers")] {
        let pod = place.path("pod.json");
        fs::write(&pod, text).unwrap();
        let args = ["manifest", "--context", context.to_str().unwrap(), "--self-pod", pod.to_str().unwrap()];
        refused(&place, &args, &["pod.json", says]);
    }
}

#[test]
fn plugins() {
    let place = Place::new("exit 0");
    let file = |name: &str, bytes: &[u8]| {
        fs::write(place.path(name), bytes).unwrap();
        place.path(name).display().to_string()
    };
    refused(&place, &["plugins", "verify", "nothing.wasm"], &["nothing.wasm", "No such file"]);
    let garbage = file("garbage.wasm", b"not wasm at all");
    refused(&place, &["plugins", "verify", &garbage], &["garbage.wasm", "component"]);
    let module = file("module.wasm", b"\0asm\x01\0\0\0");
    refused(&place, &["plugins", "verify", &module], &["module.wasm", "component"]);
    let wat = |name: &str, text: &str| file(name, &wat::parse_str(text).unwrap());
    let importing = wat(
        "importing.wasm",
        r#"(component (import "wasi:clocks/wall-clock@0.2.0" (instance)) (instance $i)
            (export "paperclip:agent/types@0.2.0" (instance $i)) (export "paperclip:agent/runs@0.2.0" (instance $i))
            (export "paperclip:agent/tools@0.2.0" (instance $i)))"#,
    );
    refused(&place, &["plugins", "verify", &importing], &["importing.wasm", "wasi:clocks/wall-clock@0.2.0"]);
    let of_tomorrow = wat(
        "tomorrow.wasm",
        r#"(component (instance $i) (export "paperclip:agent/runs@9.0.0" (instance $i)))"#,
    );
    refused(&place, &["plugins", "verify", &of_tomorrow], &["tomorrow.wasm", "9.0.0", "0.1"]);
    refused(&place, &["plugins", "list", "--plugins", "nowhere"], &["nowhere"]);
}

/// Agents as processes that nothing isolates are started only by a daemon that is asked for them by name.
#[test]
fn serve_without_a_cluster_does_not_fall_back_to_the_local_one() {
    let place = Place::new("exit 0");
    let says = ["no cluster is configured", "--kubeconfig", "--cluster local"];
    refused(&place, &["serve", "--listen", "127.0.0.1:0"], &says);
}

#[test]
fn a_port_in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = Place::new("exit 0");
    refused(&place, &["cluster", "--listen", &address], &[&address, "in use"]);
}

#[test]
fn evidence() {
    let place = Place::new("exit 0");
    let path = place.path("evidence.ndjson");
    fs::write(&path, "{\"stdout\": 3}\n").unwrap();
    refused(&place, &["classify", "--evidence", path.to_str().unwrap()], &["evidence.ndjson", "line 1"]);
}
