//! The real CLI of the agent on the local cluster, with a scripted Messages API in place of a provider.
//!
//! `cargo xtask claude` installs the CLI in the version of the recordings, builds the API, and runs these tests. They are not part of `cargo test`,
//! which needs no network.

// Helpers of tests may fail the test, too; those of the other tests are not all used here.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "not all of it is used here")]
#[path = "../it/host.rs"]
mod host;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use host::{Cluster, Finished, Place, Running};

/// Names the CLI's program.
const CLI: &str = "PAPERCLIP_TEST_CLAUDE";
/// Names the program of the scripted API.
const API: &str = "PAPERCLIP_TEST_MESSAGES_API";

fn program(variable: &str) -> String {
    let path = std::env::var(variable);
    path.unwrap_or_else(|_| panic!("{variable} is not set: run these tests by `cargo xtask claude`"))
}

/// A run of the CLI against a script of the API.
struct Stage {
    place: Place,
    script: &'static str,
}

impl Stage {
    fn new(script: &'static str) -> Stage {
        let place = Place::new("exit 1");
        let port = place.path("port");
        let agent = format!(
            "#!/bin/sh\nrm -f '{port}'\n'{api}' '{port}' &\nuntil [ -s '{port}' ]; do sleep 0.05; done\n\
             export ANTHROPIC_BASE_URL=\"http://127.0.0.1:$(cat '{port}')/$SCRIPT\"\nexec '{cli}' \"$@\"\n",
            port = port.display(),
            api = program(API),
            cli = program(CLI),
        );
        fs::write(place.path("bin/claude"), agent).unwrap();
        fs::set_permissions(place.path("bin/claude"), fs::Permissions::from_mode(0o755)).unwrap();
        Stage { place, script }
    }

    /// Writes the context, with a session to resume if there is one.
    fn context(&self, config: Value, session: Option<&str>) -> PathBuf {
        let mut config = config;
        config["model"] = json!("claude-sonnet-4-5");
        config["promptTemplate"] = json!("Do the task.");
        config["env"] = json!({
            "ANTHROPIC_API_KEY": "scripted-key-0123456789", "SCRIPT": self.script, "IS_SANDBOX": "1",
            "DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        });
        let path = self.place.context(config);
        let mut context: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        if let Some(session) = session {
            context["runtime"] = json!({"sessionId": session, "sessionParams": {"sessionId": session}});
        }
        fs::write(&path, context.to_string()).unwrap();
        path
    }

    fn start(&self, config: Value, session: Option<&str>) -> Running {
        let context = self.context(config, session);
        let mut host = self.place.host(&["run", "--cluster", "local", "--output", "ndjson", "--context"]);
        Running::of(host.arg(context).arg("--config").arg(self.configuration()))
    }

    /// A claim at `/paperclip`, where the CLI keeps its sessions.
    fn configuration(&self) -> PathBuf {
        let path = self.place.path("host.toml");
        fs::write(&path, "journal = \"best-effort\"\n[agents]\nvolume_claim = \"data\"\n").unwrap();
        path
    }

    fn run(&self, config: Value) -> Finished {
        self.start(config, None).finish()
    }
}

fn is_result_event(record: &Value) -> bool {
    record["type"] == "log" && record["text"].as_str().is_some_and(|text| text.contains(r#""type":"result""#))
}

fn results(run: &Finished) -> usize {
    run.records.iter().filter(|record| is_result_event(record)).count()
}

/// Checks that a run succeeded.
fn succeeded(run: &Finished) {
    let result = run.result();
    assert_eq!((&result["errorCode"], run.code), (&Value::Null, Some(0)), "{result}; {}", run.stderr);
}

#[test]
fn a_run_of_the_cli_succeeds() {
    let run = Stage::new("ok").run(json!({}));
    succeeded(&run);
    let result = run.result();
    assert_eq!(result["summary"], "All done.");
    assert_eq!(result["resultJson"]["cliVersion"], "2.1.332", "{result}");
    assert!(result["usage"]["inputTokens"].as_u64() >= Some(100), "{result}");
    assert!(result["sessionId"].as_str().is_some_and(|session| session.len() == 36), "{result}");
}

#[test]
fn a_background_task_of_25_s_is_waited_for_and_reports_a_second_result() {
    let start = Instant::now();
    let run = Stage::new("background-25").run(json!({}));
    succeeded(&run);
    assert!(start.elapsed() >= Duration::from_secs(25), "{:?}", start.elapsed());
    assert_eq!(results(&run), 2, "{:#?}", run.records);
}

#[test]
fn a_background_task_that_never_ends_does_not_hold_the_run() {
    let run = Stage::new("background-86400").run(json!({"backgroundGraceSec": 10, "resultGraceSec": 5}));
    succeeded(&run);
    assert_eq!(run.result()["exitCode"], Value::Null, "its process was ended");
}

#[test]
fn an_overloaded_provider_is_named_by_a_run_that_times_out() {
    let run = Stage::new("overloaded").run(json!({"timeoutSec": 20}));
    let result = run.result();
    assert_eq!(result["errorCode"], "timeout", "{result}");
    assert!(result["errorMessage"].as_str().is_some_and(|text| text.contains("529")), "{result}");
}

#[test]
fn an_unknown_session_is_replaced_by_a_fresh_one() {
    let stage = Stage::new("ok");
    let run = stage.start(json!({}), Some("1d1f0c9e-6b1c-4a57-9a66-0e5d0c3b7a11")).finish();
    succeeded(&run);
    let attempts = run.records.iter().filter(|record| record["type"] == "meta").count();
    assert_eq!(attempts, 2, "{:#?}", run.records);
    assert_ne!(run.result()["sessionId"], "1d1f0c9e-6b1c-4a57-9a66-0e5d0c3b7a11");
}

#[test]
fn a_session_that_has_become_too_long_is_replaced_by_a_fresh_one() {
    let stage = Stage::new("too-long-resumed");
    let first = stage.run(json!({}));
    succeeded(&first);
    let session = first.result()["sessionId"].as_str().unwrap().to_owned();
    let state = stage.place.path("state");
    fs::remove_dir_all(state.join("runs")).unwrap();
    let second = stage.start(json!({}), Some(&session)).finish();
    succeeded(&second);
    let attempts = second.records.iter().filter(|record| record["type"] == "meta").count();
    assert_eq!(attempts, 2, "{:#?}", second.records);
    assert_ne!(second.result()["sessionId"], session.as_str());
}

#[test]
fn a_pod_that_is_deleted_after_the_result_does_not_undo_it() {
    let stage = Stage::new("background-86400");
    let cluster: Cluster = stage.place.cluster();
    let context = stage.context(json!({"resultGraceSec": 600, "backgroundGraceSec": 600}), None);
    let mut host = stage.place.host(&["run", "--output", "ndjson", "--context"]);
    let mut run = Running::of(host.arg(context).arg("--kubeconfig").arg(cluster.kubeconfig()));
    let meta = run.wait_for(|record| record["type"] == "meta");
    run.wait_for(is_result_event);
    let job = meta["meta"]["jobName"].as_str().or(meta["jobName"].as_str()).unwrap_or_default().to_owned();
    let namespace =
        meta["meta"]["namespace"].as_str().or(meta["namespace"].as_str()).unwrap_or("default").to_owned();
    delete_pods(cluster.kubeconfig(), &namespace, &job);
    let run = run.finish();
    succeeded(&run);
}

/// Deletes the pods of a Job, as the drain of a node does.
fn delete_pods(kubeconfig: &std::path::Path, namespace: &str, job: &str) {
    let kubeconfig: Value = serde_json::from_str(&fs::read_to_string(kubeconfig).unwrap()).unwrap();
    let server = kubeconfig["clusters"][0]["cluster"]["server"].as_str().unwrap();
    let token = kubeconfig["users"][0]["user"]["token"].as_str().unwrap();
    // The same port serves plain HTTP.
    let server = server.replace("https://", "http://");
    let url = format!("{server}/api/v1/namespaces/{namespace}/pods?labelSelector=job-name%3D{job}");
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let authorization = format!("Bearer {token}");
    let answer = agent.delete(url).header("Authorization", authorization).call().unwrap();
    assert_eq!(answer.status().as_u16(), 200);
}

#[test]
fn a_tools_child_that_is_killed_is_the_agents_own_affair() {
    let run = Stage::new("kill-child").run(json!({}));
    succeeded(&run);
    assert!(run.lines("stdout").iter().any(|line| line.contains("137")), "{:#?}", run.records);
}

#[test]
fn a_budget_that_is_used_up_ends_the_run() {
    let run = Stage::new("expensive").run(json!({"maxCostUsd": 0.01}));
    let result = run.result();
    assert_eq!(result["errorCode"], "budget_exhausted", "{result}");
    assert!(result["sessionId"].is_string(), "the session is kept: {result}");
}
