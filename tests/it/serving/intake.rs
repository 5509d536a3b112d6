//! What a client sends beside the context, and how it reaches the agent.

use serde_json::{Value, json};

use super::adopt::ask;
use super::daemon::{Daemon, context, text};
use crate::host::{Place, TOKEN, recording};

const MCP_TOKEN: &str = "canary-mcp-token-81dc9bdb52d04dc2";
const TOOLS_TOKEN: &str = "canary-tools-token-9bf31c7ff062936a";

/// An agent that shows what it got, and then plays the good recording.
fn showing(commands: &str) -> Place {
    Place::playing(&recording("ok"), "").with_agent(&format!(
        r#"output="$(dirname "$0")/output"
prompt=$(cat)
mcp= dir=
while [ $# -gt 0 ]; do
  case $1 in --mcp-config) mcp=$2 ;; --add-dir) dir=$2 ;; esac
  shift
done
{commands}
cat "$output""#
    ))
}

fn lines(events: &[Value]) -> Vec<&str> {
    let logs = events.iter().filter(|event| event["type"] == "log" && event["stream"] == "stdout");
    logs.map(|event| event["text"].as_str().unwrap()).collect()
}

#[test]
fn files_and_servers_reach_the_agent_and_their_tokens_nothing_else() {
    let place = showing(
        r#"cat "$dir/instructions/HEARTBEAT.md"; echo
"$dir/.claude/skills/review/run.sh"
wc -c <"$dir/.claude/skills/review/picture.png" | tr -d ' '
cat "$mcp"; echo
echo "tools $PAPERCLIP_RUNTIME_TOOLS_TOKEN at $PAPERCLIP_RUNTIME_TOOLS_MCP_URL"
echo "mcp [$PAPERCLIP_MCP_TOKEN_1]"
[ -w "$TMPDIR" ] && [ "$TMPDIR" = "$PAPERCLIP_SCRATCH_DIR" ] && echo writable"#,
    );
    let daemon = Daemon::start(&place, &[]);
    let mut context =
        context("r1", "claude_k8s", json!({"env": {"PAPERCLIP_SCRATCH_DIR": "/of/the/server"}}));
    context["executionTarget"] = json!({"kind": "local"});
    context["later"] = json!({"unknown": true});
    context["runtimeTools"] =
        json!({"guidance": "Search first.", "mcpEndpoint": "http://p/tools", "bearerToken": TOOLS_TOKEN});
    let start = json!({
        "context": context,
        "files": [
            {"path": "instructions/AGENTS.md", "text": "Be kind."},
            {"path": "instructions/HEARTBEAT.md", "text": "Beat."},
            {"path": "skills/review/run.sh", "text": "#!/bin/sh\necho reviewed", "mode": 0o755},
            {"path": "skills/review/picture.png", "base64": "iVBORw=="},
        ],
        "instructionsEntry": "AGENTS.md",
        "mcpServers": [{"name": "Paperclip projects", "url": "http://p/mcp", "token": MCP_TOKEN, "connectionId": "c"}],
        "pushesCancel": true,
    });
    let answer = daemon.post("/v1/runs", &start);
    assert_eq!((answer.status, answer.json()), (202, json!({"runId": "r1"})));
    let events = daemon.events("r1", 0);
    let lines = lines(&events);
    assert_eq!(lines[..3], ["Beat.", "reviewed", "4"], "{events:?}");
    let servers: Value = serde_json::from_str(lines[3]).unwrap();
    let server = &servers["mcpServers"]["Paperclip-projects"];
    assert_eq!(server["headers"]["Authorization"], "Bearer [redacted:PAPERCLIP_MCP_TOKEN_1]");
    assert_eq!(
        lines[4..7],
        ["tools [redacted:PAPERCLIP_RUNTIME_TOOLS_TOKEN] at http://p/tools", "mcp []", "writable"]
    );
    let meta = events.iter().find(|event| event["type"] == "meta").unwrap();
    let masked = json!(["PAPERCLIP_MCP_TOKEN_1", "PAPERCLIP_RUNTIME_TOOLS_TOKEN"]);
    assert_eq!(meta["maskedEnv"], masked, "{meta}");
    assert_eq!(events.last().unwrap()["errorCode"], Value::Null);
    let log = daemon.stop();
    for token in [TOKEN, MCP_TOKEN, TOOLS_TOKEN] {
        assert!(!log.contains(token), "{log}");
        assert_eq!(place.holds(token), None, "{token}");
    }
}

#[test]
fn runs_with_the_same_skill_share_one_config_map_until_the_last_is_deleted() {
    let place = Place::gated("echo one", "echo two");
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let daemon = Daemon::start_on(&place, &["--kubeconfig", kubeconfig.as_str()], &[]);
    let maps = || {
        let path = "/api/v1/namespaces/default/configmaps";
        let maps = ask(&cluster, "GET", path)["items"].as_array().cloned().unwrap_or_default();
        let shared = maps.into_iter().filter(|map| {
            map["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("paperclip-files-"))
        });
        shared.collect::<Vec<Value>>()
    };
    for run_id in ["r1", "r2"] {
        let files = json!([
            {"path": "skills/review/SKILL.md", "text": "Review."},
            {"path": "instructions/AGENTS.md", "text": format!("You are the agent of {run_id}.")},
        ]);
        let context = context(run_id, "claude_k8s", json!({}));
        let start = json!({"context": context, "files": files, "instructionsEntry": "AGENTS.md"});
        assert_eq!(daemon.post("/v1/runs", &start).status, 202);
        daemon.follow(run_id, 0).find(|event| event["text"] == "one").unwrap();
    }
    let mut owners: Vec<usize> =
        maps().iter().map(|map| map["metadata"]["ownerReferences"].as_array().unwrap().len()).collect();
    owners.sort_unstable();
    assert_eq!(owners, [1, 1, 2], "the instructions of each run, and the skill of both: {:?}", maps());
    assert!(maps().iter().all(|map| map["immutable"] == true));

    // Cancelled runs leave nothing behind, and take nothing from others.
    assert_eq!(daemon.post("/v1/runs/r1/cancel", &json!({})).status, 202);
    assert_eq!(daemon.events("r1", 0).last().unwrap()["errorCode"], "cancelled");
    while maps().len() != 2 {}
    assert!(maps().iter().all(|map| map["metadata"]["ownerReferences"].as_array().unwrap().len() == 1));
    place.open_gate();
    assert_eq!(daemon.events("r2", 0).last().unwrap()["errorCode"], Value::Null);
}

#[test]
fn a_large_task_is_in_a_file_that_the_prompt_names() {
    let place = showing(
        r#"printf '%s' "$prompt" | grep -o '`[^`]*context/task.md`'
wc -c <"$dir/context/task.md" | tr -d ' '
printf '%s' "$prompt" | grep -c 'please fix'"#,
    );
    let daemon = Daemon::start(&place, &[]);
    let mut context = context("r1", "claude_k8s", json!({}));
    context["context"] = json!({
        "taskId": "T-1",
        "paperclipTaskMarkdown": "word ".repeat(40_000),
        "paperclipWake": {"reason": "issue_commented", "comments": [{"body": "please fix"}]},
    });
    assert_eq!(daemon.post("/v1/runs", &json!({"context": context})).status, 202);
    let events = daemon.events("r1", 0);
    assert_eq!(lines(&events)[..3], ["`/tmp/bundle/context/task.md`", "199999", "1"], "{events:?}");
}

#[test]
fn what_cannot_be_sent_is_refused_by_name() {
    let place = Place::new("true");
    let daemon = Daemon::start(&place, &[]);
    let mut remote = context("r1", "claude_k8s", json!({}));
    remote["executionTarget"] = json!({"kind": "remote", "transport": "sandbox"});
    let context = context("r1", "claude_k8s", json!({}));
    let files = |files: Value| json!({"context": context, "files": files});
    for (body, says) in [
        (json!({"context": remote}), "executionTarget: a remote environment (sandbox)"),
        (files(json!([{"path": "a/b", "text": "x".repeat((3 << 20) + 1)}])), "a/b (3145729)"),
        (files(json!([{"path": "a"}])), "exactly one of"),
    ] {
        let answer = daemon.post("/v1/runs", &body);
        let error = answer.json();
        assert_eq!((answer.status, &error["error"]["code"]), (400, &json!("bad_request")), "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains(says), "{error}");
    }
}

#[test]
fn a_run_in_a_namespace_that_cannot_exist_is_refused_at_once() {
    let place = Place::new("true");
    let daemon = Daemon::start(&place, &[]);
    for (run, namespace) in [("r1", "Agents"), ("r2", "a/../b")] {
        let context = context(run, "claude_k8s", json!({"namespace": namespace}));
        assert_eq!(daemon.post("/v1/runs", &json!({"context": context})).status, 202);
        let events = daemon.events(run, 0);
        let result = events.last().unwrap();
        assert_eq!(result["errorCode"], "k8s_config_invalid", "{result}");
        let message = result["errorMessage"].as_str().unwrap();
        assert!(message.contains(&format!("`{namespace}`")), "{message}");
    }
}

#[test]
fn a_check_reports_what_a_run_would_be_refused_for() {
    let place = Place::new("true");
    let daemon = Daemon::start(&place, &[]);
    let check =
        |config: Value| daemon.post("/v1/adapters/claude_k8s/check", &json!({"config": config})).json();
    let report = check(json!({"image": "Not An Image"}));
    assert_eq!(report["status"], "fail", "{report}");
    let first = &report["checks"][0];
    assert_eq!((&first["code"], &first["level"]), (&json!("k8s_config_invalid"), &json!("error")));
    assert!(first["message"].as_str().unwrap().starts_with("config field image: "), "{first}");
    let report = check(json!({"image": "a:1", "retainJobs": "yes"}));
    let warned =
        report["checks"].as_array().unwrap().iter().any(|check| {
            check["level"] == "warn" && check["message"].as_str().unwrap().contains("retainJobs")
        });
    assert!(warned, "{report}");
}

#[test]
fn clients_learn_what_they_may_use() {
    let place = Place::playing(&recording("ok"), "");
    let daemon = Daemon::start(&place, &[]);
    let version = daemon.get("/v1/version").json();
    assert_eq!((&version["api"], &version["contract"]), (&json!("1"), &json!(["0.1", "0.2"])));
    let features =
        ["cursor", "files", "mcp_servers", "push_cancel", "quota", "resumes", "skills", "taken", "text"];
    assert_eq!(version["features"], json!(features));
    let config =
        json!({"paperclipRuntimeSkills": [{"key": "acme/review", "runtimeName": "review", "source": "/s"}]});
    let skills =
        daemon.post("/v1/adapters/claude_k8s/skills", &json!({"config": config, "desired": ["acme/review"]}));
    let skills = skills.json();
    assert_eq!(
        (&skills["supported"], &skills["desiredSkills"]),
        (&json!(true), &json!(["acme/review"])),
        "{skills}"
    );
    let adapter = daemon.get("/v1/adapters/claude_k8s").json();
    assert_eq!(adapter["capabilities"]["hasOutOfProcessLiveness"], Value::Null);

    daemon.run("r1", json!({}));
    let plain = daemon.events("r1", 0);
    let answer = daemon.get("/v1/runs/r1/events?text=true");
    let with_text: Vec<Value> = answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(with_text.len(), plain.len());
    let rendered: Vec<&Value> =
        with_text.iter().filter(|event| event["type"] == "log").map(|event| &event["rendered"]).collect();
    assert!(rendered.iter().all(|lines| lines.is_array()), "{rendered:?}");
    assert!(rendered[0][0].as_str().unwrap().starts_with("▶ "), "{rendered:?}");
    for (with_text, plain) in with_text.into_iter().zip(plain) {
        let mut without = with_text;
        without.as_object_mut().unwrap().remove("rendered");
        assert_eq!(without, plain);
    }
}
