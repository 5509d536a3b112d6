//! What a run takes from around it: Paperclip's pod and home folder, and the cluster's answers to the environment test.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::host::Place;

/// The document that `manifest` prints.
fn manifest(place: &Place, config: Value, pod: &Value) -> Value {
    let context = place.context(config);
    let file = place.path("pod.json");
    fs::write(&file, pod.to_string()).unwrap();
    let output = place
        .host(&["manifest", "--context", context.to_str().unwrap(), "--self-pod", file.to_str().unwrap()])
        .args(["--paperclip-home", place.path("home").to_str().unwrap()])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let mut document: Value = serde_json::from_slice(&output.stdout).unwrap();
    document["stderr"] = json!(stderr);
    document
}

fn paperclip_pod(env: &Value) -> Value {
    json!({"metadata": {"namespace": "paperclip"}, "spec": {"containers": [
        {"name": "paperclip", "image": "acme/paperclip:1", "env": env},
    ]}})
}

fn variable<'a>(manifest: &'a Value, name: &str) -> &'a Value {
    let env = &manifest["job"]["spec"]["template"]["spec"]["containers"][0]["env"];
    env.as_array().unwrap().iter().find(|variable| variable["name"] == name).unwrap_or(&Value::Null)
}

#[test]
fn literals_of_paperclips_pod_are_inherited_as_its_container_sees_them() {
    let place = Place::new("exit 0");
    let pod = paperclip_pod(&json!([
        {"name": "HOST", "value": "api"},
        {"name": "ANTHROPIC_BEDROCK_BASE_URL", "value": "http://$(HOST):3100"},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "SELF", "value": "http://$(POD_IP)/"},
    ]));
    let manifest = manifest(&place, json!({}), &pod);
    assert_eq!(variable(&manifest, "ANTHROPIC_BEDROCK_BASE_URL")["value"], "http://api:3100");
    assert_eq!(manifest["secrets"][0]["entries"]["HOST"], json!({"from": "selfPod.env.HOST"}));
    assert_eq!(variable(&manifest, "SELF"), &Value::Null);
    let stderr = manifest["stderr"].as_str().unwrap();
    assert!(stderr.contains("SELF is not inherited") && stderr.contains("POD_IP"), "{stderr}");
}

#[test]
fn the_wake_payload_keeps_the_order_of_its_keys() {
    let place = Place::new("exit 0");
    let context = place.context(json!({}));
    let text = fs::read_to_string(&context).unwrap();
    let wake = r#"{"zeta":1.0,"alpha":{"y":[2,{"b":0,"a":0}],"x":"é"},"mid":1e21}"#;
    let text = text.replace(r#""context":{"#, &format!(r#""context":{{"paperclipWake":{wake},"#));
    fs::write(&context, text).unwrap();
    let output = place.host(&["manifest", "--context", context.to_str().unwrap()]).output().unwrap();
    let manifest: Value = serde_json::from_slice(&output.stdout).unwrap();
    // As JavaScript writes it.
    let expected = r#"{"zeta":1,"alpha":{"y":[2,{"b":0,"a":0}],"x":"é"},"mid":1e+21}"#;
    assert_eq!(variable(&manifest, "PAPERCLIP_WAKE_PAYLOAD_JSON")["value"], expected);
}

/// Instructions and a skill below Paperclip's home folder, and the config that names them.
fn bundle(place: &Place) -> Value {
    let home = place.path("home");
    fs::create_dir_all(home.join("skills/review/more")).unwrap();
    fs::write(home.join("AGENTS.md"), "Be kind.").unwrap();
    fs::write(home.join("skills/review/SKILL.md"), "# Review").unwrap();
    fs::write(home.join("skills/review/more/how.md"), "Slowly.").unwrap();
    json!({
        "instructionsFilePath": home.join("AGENTS.md"),
        "paperclipRuntimeSkills": [
            {"key": "acme/review", "runtimeName": "review", "source": home.join("skills/review")},
            {"key": "acme/other", "runtimeName": "other", "source": home.join("skills/other")},
        ],
        "paperclipSkillSync": {"desiredSkills": ["acme/review", "acme/missing"]},
    })
}

#[test]
fn bundles_instructions_and_selected_skills() {
    let place = Place::new("exit 0");
    let config = bundle(&place);
    let manifest = manifest(&place, config, &paperclip_pod(&json!([])));
    let spec = &manifest["job"]["spec"]["template"]["spec"];
    let volume =
        spec["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "bundle").unwrap();
    let sources = volume["projected"]["sources"].as_array().unwrap();
    let items = sources.iter().flat_map(|source| source["configMap"]["items"].as_array().unwrap());
    let paths: Vec<_> = items.map(|item| item["path"].as_str().unwrap()).collect();
    assert_eq!(
        paths,
        [".claude/skills/review/SKILL.md", ".claude/skills/review/more/how.md", "agent-instructions.md"]
    );
    let args = manifest["args"].as_array().unwrap();
    let tail: Vec<_> = args.iter().rev().take(4).rev().map(|arg| arg.as_str().unwrap()).collect();
    let instructions = "/tmp/bundle/agent-instructions.md";
    assert_eq!(tail, ["--append-system-prompt-file", instructions, "--add-dir", "/tmp/bundle"]);
    let stderr = manifest["stderr"].as_str().unwrap();
    assert!(stderr.contains("skill acme/missing: "), "{stderr}");
    assert!(!stderr.contains("acme/other"), "{stderr}");
}

#[test]
fn seed_9_an_agent_finds_its_skills_and_the_log_names_them() {
    let script = r#"cat >/dev/null
while [ $# -gt 1 ]; do [ "$1" = --add-dir ] && dir=$2; shift; done
cat "$dir/.claude/skills/review/SKILL.md" "$dir/.claude/skills/review/more/how.md"; echo"#;
    let place = Place::new(script);
    let config = bundle(&place);
    let finished = place.run_at_home(config);
    assert_eq!(finished.lines("stdout"), ["# ReviewSlowly."]);
    let status = |text: &str| {
        finished.records.iter().any(|record| record["type"] == "status" && record["text"] == text)
    };
    assert!(status("[paperclip] Skills bundled (1): review"), "{:#?}", finished.records);
    let meta = finished.records.iter().find(|record| record["type"] == "meta").unwrap();
    assert!(meta.to_string().contains("Skills (1): review"), "{meta}");
}

/// `check` against the local cluster: its exit code and its report.
fn check(place: &Place, args: &[&str]) -> (Option<i32>, Value) {
    let output = place.host(&["check", "--json"]).args(args).output().unwrap();
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

fn codes(report: &Value, level: &str) -> Vec<String> {
    let checks = report["checks"].as_array().unwrap().iter();
    let of_level = checks.filter(|check| check["level"] == level);
    of_level.map(|check| check["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_environment_test_queries_the_cluster() {
    let place = Place::new("exit 0");
    let (code, report) = check(&place, &["--cluster", "local"]);
    // A fresh cluster has neither a Secret of credentials nor a pod of Paperclip's, which nobody has named.
    assert_eq!((code, &report["status"]), (Some(0), &json!("pass")), "{report:#}");
    assert_eq!(report["adapterType"], "claude_k8s");
    assert_eq!((codes(&report, "error"), codes(&report, "warn")), (Vec::new(), Vec::new()), "{report:#}");
    for right in [
        "k8s_secret_missing",
        "k8s_pvc_not_detected",
        "k8s_rbac_job_patch",
        "k8s_rbac_pod_log",
        "k8s_rbac_lease_update",
        "k8s_rbac_event_list",
    ] {
        assert!(codes(&report, "info").iter().any(|code| code == right), "{right}: {report:#}");
    }
}

#[test]
fn a_cluster_that_does_not_answer_fails_the_environment_test() {
    let place = Place::new("exit 0");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let kubeconfig = place.path("kubeconfig");
    write_kubeconfig(&kubeconfig, &format!("http://{closed}"));
    let (code, report) = check(&place, &["--kubeconfig", kubeconfig.to_str().unwrap()]);
    assert_eq!((code, &report["status"]), (Some(1), &json!("fail")));
    assert_eq!(codes(&report, "error"), ["k8s_api_unreachable"]);
    assert_eq!(report["checks"].as_array().unwrap().len(), 1);
}

#[test]
fn an_invalid_config_ends_the_environment_test_before_any_request() {
    let place = Place::new("exit 0");
    let context = place.context(json!({"namespace": "Agents"}));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let kubeconfig = place.path("kubeconfig");
    write_kubeconfig(&kubeconfig, &format!("http://{closed}"));
    let on = ["--kubeconfig", kubeconfig.to_str().unwrap(), "--context", context.to_str().unwrap()];
    let (code, report) = check(&place, &on);
    assert_eq!((code, &report["status"]), (Some(1), &json!("fail")), "{report:#}");
    // Not `k8s_api_unreachable`: nothing was requested.
    assert_eq!(codes(&report, "error"), ["k8s_config_invalid"]);
    assert!(report["checks"][0]["message"].as_str().unwrap().contains("namespace: `Agents` must be"));
}

#[test]
fn the_environment_test_reports_what_a_run_would_be_refused_for_beside_the_state_of_the_cluster() {
    let place = Place::new("exit 0");
    let context = place.context(json!({"extraArgs": ["--resume", "x"]}));
    let (code, report) = check(&place, &["--cluster", "local", "--context", context.to_str().unwrap()]);
    assert_eq!((code, &report["status"]), (Some(1), &json!("fail")), "{report:#}");
    assert_eq!(codes(&report, "error"), ["k8s_config_invalid"]);
    assert!(report["checks"][0]["message"].as_str().unwrap().contains("extraArgs"), "{report:#}");
    assert!(codes(&report, "info").contains(&"k8s_api_reachable".to_owned()), "{report:#}");
}

#[test]
fn the_environment_test_of_a_config_misses_the_url_of_paperclips_api_where_a_run_needs_it() {
    let place = Place::new("exit 0");
    let cluster = place.cluster();
    let context = place.context(json!({}));
    let on = [
        "check",
        "--json",
        "--kubeconfig",
        cluster.kubeconfig().to_str().unwrap(),
        "--context",
        context.to_str().unwrap(),
    ];
    let output = place.host(&on).env_remove("PAPERCLIP_API_URL").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(codes(&report, "error"), ["no_api_url"], "{report:#}");
    assert!(report["checks"][0]["hint"].as_str().unwrap().contains("paperclip_api_url"), "{report:#}");
}

fn write_kubeconfig(path: &Path, server: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: '{server}'}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
    );
    fs::write(path, text).unwrap();
}
