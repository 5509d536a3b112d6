//! After Paperclip's server has crashed: nothing is done twice.

use serde_json::{Value, json};

use super::daemon::{Daemon, context, text};
use crate::host::Place;

/// Starts a run of the same agent that continues an earlier one.
pub(super) fn resume(daemon: &Daemon, run_id: &str, earlier: &str) -> Value {
    let mut context = context(run_id, "claude_k8s", json!({}));
    context["agent"]["id"] = json!("agent-r1");
    let answer = daemon.post("/v1/runs", &json!({"context": context, "resumes": earlier}));
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()
}

fn untaken(daemon: &Daemon) -> Vec<Value> {
    let runs = daemon.get("/v1/runs?taken=false").json();
    runs["runs"].as_array().unwrap().iter().map(|run| run["runId"].clone()).collect()
}

#[test]
fn a_later_run_follows_an_earlier_one_and_has_its_result() {
    let place = Place::gated("echo one; echo \"$*\" >>\"$(dirname \"$0\")/calls\"", "echo two");
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];
    let daemon = Daemon::start_on(&place, &on, &[]);
    daemon.run("r1", json!({}));
    daemon.follow("r1", 0).find(|event| event["text"] == "one").unwrap();

    let follows = json!({"runId": "r2", "follows": "r1"});
    assert_eq!(resume(&daemon, "r2", "r1"), follows);
    assert_eq!(resume(&daemon, "r2", "r1"), follows, "again");
    let state = daemon.state("r2");
    assert_eq!(
        (&state["runId"], &state["follows"], &state["state"]),
        (&json!("r2"), &json!("r1"), &json!("running"))
    );
    assert_eq!(daemon.state("r1")["resumedBy"], "r2");
    daemon.stop();

    // It is known after a restart as well.
    let daemon = Daemon::start_on(&place, &on, &[]).when_ready();
    place.open_gate();
    let events = daemon.events("r2", 0);
    assert_eq!(events, daemon.events("r1", 0), "the same records from the first on");
    assert_eq!(events.last().unwrap()["errorCode"], Value::Null);
    assert_eq!(untaken(&daemon), [json!("r2")], "it is r2's");

    assert_eq!(daemon.post("/v1/runs/r2/taken", &Value::Null).status, 204);
    assert_eq!(daemon.post("/v1/runs/r2/taken", &Value::Null).status, 204);
    assert_eq!(daemon.post("/v1/runs/none/taken", &Value::Null).status, 404);
    assert_eq!(untaken(&daemon), [] as [Value; 0]);
    drop(daemon);
    let daemon = Daemon::start_on(&place, &on, &[]).when_ready();
    assert_eq!(daemon.state("r2")["taken"], true);

    // Its result is taken: what is left is its session.
    assert_eq!(resume(&daemon, "r3", "r2"), json!({"runId": "r3"}));
    let last = daemon.events("r3", 0).pop().unwrap();
    assert_eq!(last["errorCode"], Value::Null, "{last}");
    let session = daemon.state("r1")["result"]["sessionId"].as_str().unwrap().to_owned();
    let calls = std::fs::read_to_string(place.path("bin/calls")).unwrap();
    let calls: Vec<&str> = calls.lines().collect();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(calls[1].contains(&format!("--resume {session}")), "{calls:?}");
    assert_eq!(untaken(&daemon), [json!("r3")]);

    // A run that this host does not know is not an error, and one of another agent is.
    assert_eq!(resume(&daemon, "r4", "none"), json!({"runId": "r4"}));
    let warned =
        |event: &Value| event["text"].as_str().is_some_and(|text| text.contains("Run none is not known"));
    assert!(daemon.events("r4", 0).iter().any(warned));
    let other = context("r5", "claude_k8s", json!({}));
    let refused = daemon.post("/v1/runs", &json!({"context": other, "resumes": "r1"}));
    assert_eq!(refused.status, 400);
    assert!(refused.text.contains("is of agent agent-r1"), "{refused:?}");
}

#[test]
fn a_result_that_nobody_has_is_the_later_runs() {
    let place = Place::gated("echo one; echo call >>\"$(dirname \"$0\")/calls\"", "echo two");
    place.open_gate();
    let daemon = Daemon::start(&place, &[]);
    daemon.run("r1", json!({}));
    let events = daemon.events("r1", 0);
    assert_eq!(untaken(&daemon), [json!("r1")]);
    assert_eq!(resume(&daemon, "r2", "r1"), json!({"runId": "r2", "follows": "r1"}));
    assert_eq!(daemon.events("r2", 0), events);
    assert_eq!(std::fs::read_to_string(place.path("bin/calls")).unwrap().lines().count(), 1, "done once");
}
