//! The records of runs in the cluster: what is known of a run although its host is lost.

use serde_json::{Value, json};

use super::adopt::{ask, patch_object};
use super::daemon::{Answer, Daemon, context, text};
use crate::host::{Cluster, Place, TOKEN, recording};

const RECORDS: &str =
    "/api/v1/namespaces/default/configmaps?labelSelector=app.kubernetes.io/component%3Drun-record";

fn records(cluster: &Cluster) -> Vec<Value> {
    ask(cluster, "GET", RECORDS)["items"].as_array().unwrap().clone()
}

fn jobs(cluster: &Cluster) -> Value {
    ask(cluster, "GET", "/apis/batch/v1/jobs")["items"].clone()
}

/// The requests about ConfigMaps that a daemon has sent, by verb.
fn requests(daemon: &Daemon, verb: &str) -> u64 {
    let metrics = daemon.get("/metrics").text;
    let label = format!("verb=\"{verb}\",resource=\"configmaps\"");
    let counts = metrics.lines().filter(|line| line.contains(&label));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn a_result_outlives_its_host_and_the_run_is_not_started_again() {
    let place = Place::playing(&recording("ok"), "");
    let ran = place.path("ran");
    let agent = format!("cat >/dev/null\necho ran >> {}\ncat \"$(dirname \"$0\")/output\"", ran.display());
    let place = place.with_agent(&agent);
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];
    let daemon = Daemon::start_on(&place, &on, &[]);
    assert_eq!(daemon.run("r1", json!({"env": {"KEY": "the-secret-key"}})).status, 202);
    let result = daemon.events("r1", 0).pop().unwrap();
    assert_eq!(result["errorCode"], Value::Null, "{result}");
    let ended = daemon.state("r1");
    assert_eq!(
        ["create", "patch", "get", "list", "delete"].map(|verb| requests(&daemon, verb)),
        [1, 1, 0, 0, 0]
    );
    daemon.stop();

    // A pod with an emptyDir takes its place.
    let lost = text(&place.path("other-state"));
    let daemon = Daemon::start_on(&place, &on, &["--state", &lost]).when_ready();
    let state = daemon.state("r1");
    for field in ["state", "result", "agentId", "companyId", "adapterType", "pluginDigest", "acceptedAt"] {
        assert_eq!(state[field], ended[field], "{field}");
    }
    let again = daemon.run("r1", json!({}));
    assert_eq!((again.status, again.json()), (202, json!({"runId": "r1"})));
    assert_eq!(jobs(&cluster), json!([]), "no agent was started again");
    // Whatever a follower has received before, it gets the result.
    for from in [0, 7_000] {
        let events = daemon.events("r1", from);
        assert_eq!(events.last().unwrap()["summary"], result["summary"], "{events:?}");
        let says =
            |event: &Value| event["text"].as_str().is_some_and(|text| text.contains("its output was not"));
        assert!(events.iter().any(says), "{events:?}");
        assert_eq!(events[0]["type"] == "reset", from > 0, "{events:?}");
    }

    assert_eq!(daemon.post("/v1/runs/r1/taken", &Value::Null).status, 204);
    assert_eq!(records(&cluster), [] as [Value; 0]);
    assert_eq!(std::fs::read_to_string(ran).unwrap().lines().count(), 1);
}

#[test]
fn a_record_has_no_secret_and_ends_with_the_result() {
    let place = Place::gated("echo one", "");
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let daemon = Daemon::start_on(&place, &["--kubeconfig", &kubeconfig], &[]);
    let config = json!({"concurrencyScope": "none", "env": {"KEY": "the-secret-key"}});
    let mut start = context("r1", "claude_k8s", config);
    start["context"]["note"] = json!("the-secret-key is what it is");
    assert_eq!(daemon.post("/v1/runs", &json!({ "context": start })).status, 202);
    let [claimed] = &records(&cluster)[..] else { panic!("one run") };
    assert_eq!(claimed["metadata"]["annotations"]["paperclip.io/run-id"], "r1");
    assert!(claimed["binaryData"]["recovery.json.gz"].is_string(), "{claimed}");
    let packed: k8s_openapi::ByteString =
        serde_json::from_value(claimed["binaryData"]["recovery.json.gz"].clone()).unwrap();
    let recovery = paperclip_engine::run_record::unpack(&packed.0).unwrap();
    for secret in [TOKEN, "the-secret-key"] {
        assert!(!claimed.to_string().contains(secret) && !recovery.contains(secret), "{recovery}");
    }
    assert!(recovery.contains("[redacted:KEY] is what it is"), "{recovery}");
    place.open_gate();
    daemon.events("r1", 0);
    while daemon.state("r1")["state"] == "running" {}
    let [ended] = &records(&cluster)[..] else { panic!("one run") };
    assert_eq!(ended["binaryData"], Value::Null, "recovery data is of no use any more");
    assert!(ended["data"]["result.json"].as_str().unwrap().contains("\"state\":\"succeeded\""), "{ended}");
}

#[test]
fn a_run_with_a_long_context_is_adopted() {
    let place = Place::gated("echo one", "");
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];
    let daemon = Daemon::start_on(&place, &on, &[]);
    let mut start = context("r1", "claude_k8s", json!({"timeoutSec": 600}));
    start["context"]["history"] = json!("what was said before ".repeat(20_000));
    assert_eq!(daemon.post("/v1/runs", &json!({ "context": start })).status, 202);
    daemon.follow("r1", 0).find(|event| event["text"] == "one").unwrap();
    daemon.stop();
    let lost = text(&place.path("other-state"));
    let mut daemon = Daemon::start_on(&place, &on, &["--state", &lost]);
    daemon.wait_for_log("run is adopted");
    place.open_gate();
    let events = daemon.events("r1", 0);
    assert_eq!(events.last().unwrap()["errorCode"], Value::Null);
    assert_eq!(daemon.state("r1")["adopted"], true);
    let says =
        |event: &Value| event["text"].as_str().is_some_and(|text| text.starts_with("Of timeoutSec 600 s"));
    assert!(events.iter().any(says), "its timeout continues: {events:?}");
}

#[test]
fn a_run_that_ended_in_the_queue_has_its_result_and_a_stopped_one_can_start_again() {
    let place = Place::gated("echo one", "");
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    std::fs::write(place.path("serve.toml"), "[limits]\nruns = 1\n").unwrap();
    let file = text(&place.path("serve.toml"));
    let on = ["--kubeconfig", kubeconfig.as_str()];
    let daemon = Daemon::start_on(&place, &on, &["--config", &file]);
    for run in ["r1", "r2", "r3"] {
        assert_eq!(daemon.run(run, json!({})).status, 202);
    }
    assert_eq!(records(&cluster).len(), 3, "also those that wait");
    assert_eq!(daemon.post("/v1/runs/r2/cancel", &Value::Null).status, 202);
    daemon.events("r2", 0);
    daemon.follow("r1", 0).find(|event| event["text"] == "one").unwrap();
    daemon.stop();

    let lost = text(&place.path("other-state"));
    let daemon = Daemon::start_on(&place, &on, &["--config", &file, "--state", &lost]).when_ready();
    assert_eq!(daemon.state("r2")["result"]["errorCode"], "cancelled");
    let unknown: Answer = daemon.get("/v1/runs/r3");
    assert_eq!(unknown.status, 404, "{unknown:?}");
    assert_eq!(daemon.run("r3", json!({})).status, 202);
    place.open_gate();
    assert_eq!(daemon.events("r3", 0).last().unwrap()["errorCode"], Value::Null);
}

#[test]
fn a_cancel_is_carried_out_by_whoever_adopts_the_run() {
    let place = Place::gated("trap '' TERM; echo one", "");
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];
    let daemon = Daemon::start_on(&place, &on, &[]);
    assert_eq!(daemon.run("r1", json!({})).status, 202);
    daemon.follow("r1", 0).find(|event| event["text"] == "one").unwrap();
    daemon.stop();
    let [record] = &records(&cluster)[..] else { panic!("one run") };
    // Its host had answered 202, and was lost with its disk before it did anything.
    let name = record["metadata"]["name"].as_str().unwrap();
    let patch = json!({"metadata": {"annotations": {"paperclip.io/cancel-requested": "enough"}}});
    patch_object(&cluster, &format!("/api/v1/namespaces/default/configmaps/{name}"), &patch);
    let lost = text(&place.path("other-state"));
    let daemon = Daemon::start_on(&place, &on, &["--state", &lost]).when_ready();
    let result = daemon.events("r1", 0).pop().unwrap();
    assert_eq!(result["errorCode"], "cancelled", "{result}");
    assert_eq!(jobs(&cluster), json!([]));
}
