//! Replicas on one cluster: any of them answers for every run.

use serde_json::{Value, json};

use super::adopt::{ask, patch_object};
use super::continuing::resume;
use super::daemon::{Daemon, text};
use crate::host::{Cluster, Place};

const KEY: &str = "the-key-that-all-replicas-share";

const RECORDS: &str =
    "/api/v1/namespaces/default/configmaps?labelSelector=app.kubernetes.io/component%3Drun-record";

/// Two replicas, of which the first drives run r1; its agent waits.
fn replicas(place: &Place, cluster: &Cluster, key: &str) -> (Daemon, Daemon) {
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];
    let first = Daemon::replica(place, &on, "first", KEY);
    assert_eq!(first.run("r1", json!({"timeoutSec": 600})).status, 202);
    first.follow("r1", 0).find(|event| event["text"] == "one").unwrap();
    (first, Daemon::replica(place, &on, "second", key).when_ready())
}

fn gated() -> Place {
    Place::gated("echo one", "")
}

/// Asks a replica for a run until it has adopted it, as the clients of a Service do whose other endpoint is removed.
fn adopted(replica: &Daemon, run: &str) -> Value {
    loop {
        let answer = replica.get(&format!("/v1/runs/{run}"));
        match answer.status {
            200 if answer.json()["adopted"] == true => return answer.json(),
            200 | 503 => {}
            _ => panic!("{answer:?}"),
        }
    }
}

#[test]
fn every_request_for_a_run_is_answered_by_any_replica() {
    let place = gated();
    let cluster = place.cluster();
    let (first, second) = replicas(&place, &cluster, KEY);
    let again = second.run("r1", json!({"timeoutSec": 600}));
    assert_eq!((again.status, again.json()), (202, json!({"runId": "r1"})));
    let jobs = || ask(&cluster, "GET", "/apis/batch/v1/jobs")["items"].as_array().unwrap().len();
    assert_eq!(jobs(), 1, "it was started once");
    assert_eq!(second.state("r1")["state"], "running");
    assert_eq!(second.state("r1")["agentId"], "agent-r1");
    second.follow("r1", 0).find(|event| event["text"] == "one").unwrap();
    let listed = second.get("/v1/runs").json();
    assert_eq!(
        (listed["runs"][0]["runId"].as_str(), &listed["missing"]),
        (Some("r1"), &Value::Null),
        "{listed}"
    );

    let cancelled = second.post("/v1/runs/r1/cancel", &json!({"reason": "at the other replica"}));
    assert_eq!(cancelled.status, 202, "{cancelled:?}");
    let events = second.events("r1", 0);
    assert_eq!(events, first.events("r1", 0), "every record, each once");
    let result = events.last().unwrap();
    assert_eq!(result["errorCode"], "cancelled");
    assert_eq!(result["resultJson"]["executionCancellation"]["state"], "acknowledged");
    assert_eq!(jobs(), 0, "its agent was stopped");

    // Once it has ended, whoever is asked has the result.
    assert_eq!(second.run("r1", json!({})).status, 202);
    assert_eq!(second.state("r1")["state"], "cancelled");
    assert_eq!(second.post("/v1/runs/r1/taken", &Value::Null).status, 204);
    assert_eq!(ask(&cluster, "GET", RECORDS)["items"], json!([]));
    drop(first);
}

#[test]
fn a_run_that_continues_another_is_known_to_any_replica_and_to_the_host_that_adopts_it() {
    let place = gated();
    let cluster = place.cluster();
    let (first, second) = replicas(&place, &cluster, KEY);
    let follows = json!({"runId": "r2", "follows": "r1"});
    assert_eq!(resume(&first, "r2", "r1"), follows);
    assert_eq!(resume(&second, "r2", "r1"), follows, "again, at the other replica");
    assert_eq!(second.state("r2")["follows"], "r1");
    second.follow("r2", 0).find(|event| event["text"] == "one").unwrap();

    first.terminate();
    assert_eq!(adopted(&second, "r2")["follows"], "r1");
    place.open_gate();
    assert_eq!(second.events("r2", 0).last().unwrap()["errorCode"], Value::Null);
    let third = Daemon::replica(&place, &["--kubeconfig", &text(cluster.kubeconfig())], "third", KEY);
    assert_eq!(third.when_ready().state("r2")["follows"], "r1", "after its end as well");

    assert_eq!(second.post("/v1/runs/r2/taken", &Value::Null).status, 204);
    // The record of the later run is collected with that of the earlier one.
    while ask(&cluster, "GET", RECORDS)["items"] != json!([]) {}
    drop(first);
}

#[test]
fn a_run_is_never_unknown_until_another_host_has_adopted_it() {
    let place = gated();
    let cluster = place.cluster();
    let (first, second) = replicas(&place, &cluster, KEY);
    first.terminate();
    adopted(&second, "r1");
    assert_eq!(second.post("/v1/runs/r1/cancel", &Value::Null).status, 202);
    assert_eq!(second.events("r1", 0).last().unwrap()["errorCode"], "cancelled");
    drop(first);
}

#[test]
fn a_request_is_passed_on_once_and_only_with_the_key_that_replicas_share() {
    let place = gated();
    let cluster = place.cluster();
    let another = "another-key-than-the-first-has";
    let (_first, second) = replicas(&place, &cluster, another);
    let answer = second.get("/v1/runs/r1");
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (421, &json!("driven_elsewhere")));
    assert!(answer.text.contains("has another peers.key_file"), "{answer:?}");
    let second = second.with_header("X-Paperclip-Forwarded", "third");
    let second = second.with_header("Authorization", &format!("Bearer {another}"));
    let answer = second.get("/v1/runs/r1");
    assert_eq!(answer.status, 421);
    assert!(!answer.text.contains("another peers.key_file"), "it was not passed on again: {answer:?}");
}

#[test]
fn a_stranger_who_claims_to_be_a_replica_is_refused() {
    let place = gated();
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let token = "0123456789abcdef-of-clients";
    std::fs::write(place.path("token"), token).unwrap();
    let token_file = text(&place.path("token"));
    let on = ["--kubeconfig", kubeconfig.as_str(), "--token-file", token_file.as_str()];
    let guarded = Daemon::replica(&place, &on, "first", KEY).with_header("X-Paperclip-Forwarded", "me");
    assert_eq!(guarded.get("/v1/runs").status, 401);
    let wrong = guarded.with_header("Authorization", "Bearer not-the-key-of-replicas");
    assert_eq!(wrong.get("/v1/runs").status, 401);
    drop(wrong);
    let guarded = Daemon::replica(&place, &on, "second", KEY).with_header("X-Paperclip-Forwarded", "me");
    assert_eq!(guarded.with_header("Authorization", &format!("Bearer {KEY}")).get("/v1/runs").status, 200);
    let replica =
        Daemon::replica(&place, &on, "third", KEY).with_header("Authorization", &format!("Bearer {KEY}"));
    assert_eq!(replica.get("/v1/runs").status, 401, "the key is for requests that are passed on");
}

#[test]
fn nothing_is_sent_to_an_address_that_is_not_a_replicas() {
    let place = gated();
    let cluster = place.cluster();
    let (_first, second) = replicas(&place, &cluster, KEY);
    // Whoever may change Leases writes another address.
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    for lease in ask(&cluster, "GET", leases)["items"].as_array().unwrap() {
        let name = lease["metadata"]["name"].as_str().unwrap();
        if lease["metadata"]["annotations"]["paperclip.io/address"].is_string() {
            let patch = json!({"metadata": {"annotations": {"paperclip.io/address": "http://192.0.2.1:80"}}});
            patch_object(&cluster, &format!("{leases}/{name}"), &patch);
        }
    }
    let answer = second.get("/v1/runs/r1");
    assert_eq!(answer.status, 421, "{answer:?}");
    assert!(answer.text.contains("is not passed on to http://192.0.2.1:80"), "{answer:?}");
}
