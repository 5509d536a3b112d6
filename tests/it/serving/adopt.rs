//! Runs whose daemon was lost with its journals: another daemon adopts their Jobs.

use std::fs;

use http::Request;
use paperclip_shell::Access;
use serde_json::{Value, json};
use tokio::runtime::Builder;

use super::daemon::{Daemon, text};
use crate::host::{Cluster, Place, TOKEN, recording};

/// An agent that waits for the test, and then prints its token and variables.
fn gated() -> Place {
    Place::gated("echo one", r#"echo "$PAPERCLIP_API_KEY $KEY $OPEN""#)
}

fn config() -> Value {
    json!({"timeoutSec": 600, "env": {"KEY": "the-secret-key", "OPEN": "the-open-text"}})
}

/// Starts runs on this cluster and waits until their agents have started.
fn started<'a>(place: &Place, on: &[&str], runs: impl IntoIterator<Item = &'a str>) -> Daemon {
    let daemon = Daemon::start_on(place, on, &[]);
    for run in runs {
        assert_eq!(daemon.run(run, config()).status, 202);
        daemon.follow(run, 0).find(|event| event["text"] == "one").unwrap();
    }
    daemon
}

/// Removes everything that the daemon knew about its runs.
fn lose_journals(place: &Place) {
    fs::remove_dir_all(place.path("state/runs")).unwrap();
}

/// Returns the cluster's answer to a request.
pub(super) fn ask(cluster: &Cluster, method: &str, path: &str) -> Value {
    let access = Access::Kubeconfig { path: Some(cluster.kubeconfig().to_owned()), context: None };
    let request = Request::builder().method(method).uri(path).body(Vec::new()).unwrap();
    let asked =
        async { paperclip_shell::Cluster::connect(&access).await.unwrap().ask(request).await.unwrap() };
    Builder::new_current_thread().enable_all().build().unwrap().block_on(asked)
}

/// Applies a merge patch.
pub(super) fn patch_object(cluster: &Cluster, path: &str, patch: &Value) {
    let access = Access::Kubeconfig { path: Some(cluster.kubeconfig().to_owned()), context: None };
    let request = Request::patch(path)
        .header("Content-Type", "application/merge-patch+json")
        .body(patch.to_string().into_bytes())
        .unwrap();
    let asked =
        async { paperclip_shell::Cluster::connect(&access).await.unwrap().ask(request).await.unwrap() };
    Builder::new_current_thread().enable_all().build().unwrap().block_on(asked);
}

#[test]
fn adopts_a_run_without_a_journal_and_keeps_it_over_a_restart() {
    let place = gated();
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];
    started(&place, &on, ["r1", "r2"]).stop();
    lose_journals(&place);

    let mut daemon = Daemon::start_on(&place, &on, &[]);
    for _ in 0..2 {
        let adopted = daemon.wait_for_log("run is adopted");
        assert!(adopted["job"].as_str().unwrap().starts_with("ac-agent-r"), "{adopted}");
    }
    let daemon = daemon.when_ready();
    let state = daemon.state("r1");
    assert_eq!((&state["adopted"], &state["agentId"]), (&json!(true), &json!("agent-r1")));
    assert_eq!((&state["companyId"], &state["state"]), (&json!("acme"), &json!("running")));
    daemon.follow("r2", 0).find(|event| event["text"] == "one").unwrap();
    // Its agent is stopped, its Job deleted.
    assert_eq!(daemon.post("/v1/runs/r2/cancel", &Value::Null).status, 202);
    let events = daemon.events("r2", 0);
    assert!(events.iter().any(|event| event["text"] == "one"), "from the start of the log: {events:?}");
    assert_eq!(events.last().unwrap()["errorCode"], "cancelled");
    // From now on it has a journal, and is still a run that nothing is created for.
    daemon.follow("r1", 0).find(|event| event["text"] == "one").unwrap();
    daemon.stop();
    let daemon = Daemon::start_on(&place, &on, &[]).when_ready();
    assert_eq!(daemon.state("r1")["adopted"], true);
    place.open_gate();

    let events = daemon.events("r1", 0);
    let lines: Vec<&Value> =
        events.iter().filter(|event| event["type"] == "log").map(|event| &event["text"]).collect();
    assert_eq!(lines[..2], ["one", "[redacted:authToken] [redacted:KEY] the-open-text"]);
    assert_eq!(lines.len(), 2 + recording("ok").lines().count(), "every line once");
    assert_eq!(events.last().unwrap()["errorCode"], Value::Null, "{events:?}");
    assert_eq!(daemon.state("r1")["state"], "succeeded");
    let jobs = ask(&cluster, "GET", "/apis/batch/v1/jobs");
    assert_eq!(jobs["items"], json!([]), "the runs' Jobs are deleted");
    assert_eq!(place.holds(TOKEN).filter(|path| path != cluster.kubeconfig()), None);
}

#[test]
fn adopts_a_run_that_excludes_no_other() {
    let place = gated();
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];
    let daemon = Daemon::start_on(&place, &on, &[]);
    let config = json!({"timeoutSec": 600, "concurrencyScope": "none"});
    assert_eq!(daemon.run("r1", config).status, 202);
    daemon.follow("r1", 0).find(|event| event["text"] == "one").unwrap();
    daemon.stop();
    lose_journals(&place);

    let daemon = Daemon::start_on(&place, &on, &[]).when_ready();
    assert_eq!(daemon.state("r1")["adopted"], true);
    place.open_gate();
    assert_eq!(daemon.events("r1", 0).last().unwrap()["errorCode"], Value::Null);
    let guards = || {
        let leases = ask(&cluster, "GET", "/apis/coordination.k8s.io/v1/namespaces/default/leases");
        let is_guard =
            |lease: &&Value| lease["metadata"]["annotations"]["paperclip.io/guard-key"].is_string();
        leases["items"].as_array().unwrap().iter().filter(is_guard).count()
    };
    while guards() > 0 {}
}

#[test]
fn adopts_a_run_that_ended_without_a_host_and_reads_all_its_output() {
    let place = gated();
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];
    started(&place, &on, ["r1"]).stop();
    lose_journals(&place);
    place.open_gate();
    while ask(&cluster, "GET", "/apis/batch/v1/jobs")["items"][0]["status"]["succeeded"] != 1 {}

    let daemon = Daemon::start_on(&place, &on, &[]).when_ready();
    let events = daemon.events("r1", 0);
    let lines = events.iter().filter(|event| event["type"] == "log").count();
    assert_eq!(lines, 2 + recording("ok").lines().count());
    assert_eq!(events.last().unwrap()["errorCode"], Value::Null, "{events:?}");
}

#[test]
fn a_job_that_cannot_be_adopted_is_reported_and_left_alone() {
    let place = gated();
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];
    started(&place, &on, ["r1"]).stop();
    lose_journals(&place);
    let job = ask(&cluster, "GET", "/apis/batch/v1/jobs")["items"][0]["metadata"]["name"].clone();
    let job = job.as_str().unwrap();
    ask(&cluster, "DELETE", &format!("/api/v1/namespaces/default/secrets/{job}-run"));

    let mut daemon = Daemon::start_on(&place, &on, &[]);
    let left = daemon.wait_for_log("Job is left alone");
    assert_eq!((left["job"].as_str(), left["run"].as_str()), (Some(job), Some("r1")));
    assert_eq!(left["why"], "no Secret of its own says what its run was asked to do");
    assert_eq!(left["hint"], "start its run again, which adopts it, or delete the Job");
    let daemon = daemon.when_ready();
    assert_eq!(daemon.get("/v1/runs/r1").status, 404);
    // The hint works.
    assert_eq!(daemon.run("r1", config()).status, 202);
    place.open_gate();
    assert_eq!(daemon.events("r1", 0).last().unwrap()["errorCode"], Value::Null);
}

#[test]
fn does_not_adopt_a_run_that_a_live_host_drives() {
    let place = gated();
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];
    let first = started(&place, &on, ["r1"]);
    let other_state = text(&place.path("other-state"));
    let second = Daemon::start_on(&place, &on, &["--state", &other_state]).when_ready();
    let elsewhere = second.get("/v1/runs/r1");
    assert_eq!((elsewhere.status, &elsewhere.json()["error"]["code"]), (421, &json!("driven_elsewhere")));
    assert_eq!(second.run("r1", config()).status, 421, "its agent is not started a second time");
    place.open_gate();
    assert_eq!(first.events("r1", 0).last().unwrap()["errorCode"], Value::Null);
    assert_eq!(second.get("/v1/runs").json()["runs"], json!([]));
}

#[test]
fn of_two_hosts_that_find_a_run_at_once_one_adopts_it() {
    let place = gated();
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];
    let runs: Vec<String> = (0..8).map(|index| format!("r{index}")).collect();
    started(&place, &on, runs.iter().map(String::as_str)).stop();
    lose_journals(&place);

    let states = ["one", "other"].map(|state| text(&place.path(state)));
    let hosts: Vec<Daemon> = std::thread::scope(|scope| {
        let (place, on) = (&place, &on);
        let starting = states
            .each_ref()
            .map(|state| scope.spawn(move || Daemon::start_on(place, on, &["--state", state]).when_ready()));
        starting.into_iter().map(|host| host.join().unwrap()).collect()
    });
    let driven: Vec<String> = hosts.iter().map(|host| host.get("/v1/runs").text).collect();
    place.open_gate();
    for run in &runs {
        let has = |driven: &String| driven.contains(&format!("\"runId\":\"{run}\""));
        let holders: Vec<&Daemon> =
            hosts.iter().zip(&driven).filter(|(_, driven)| has(driven)).map(|(host, _)| host).collect();
        assert_eq!(holders.len(), 1, "{run}");
        let events = holders[0].events(run, 0);
        let lines = events.iter().filter(|event| event["type"] == "log").count();
        assert_eq!(lines, 2 + recording("ok").lines().count(), "every line once");
        assert_eq!(events.last().unwrap()["errorCode"], Value::Null, "{events:?}");
    }
}

#[test]
fn a_follower_continues_with_its_cursor_where_the_run_was_adopted() {
    let place = Place::gated("echo one; echo two; echo three", "echo four");
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];
    let daemon = Daemon::start_on(&place, &on, &[]);
    assert_eq!(daemon.run("r1", config()).status, 202);
    let two = daemon.follow("r1", 0).find(|event| event["text"] == "two").unwrap();
    daemon.follow("r1", 0).find(|event| event["text"] == "three").unwrap();
    let cursor = two["cursor"].as_str().unwrap();
    daemon.stop();

    let lost = text(&place.path("other-state"));
    let mut daemon = Daemon::start_on(&place, &on, &["--state", &lost]);
    daemon.wait_for_log("run is adopted");
    place.open_gate();
    let read = |query: &str| -> Vec<Value> {
        let answer = daemon.get(&format!("/v1/runs/r1/events?{query}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let events = read(&format!("cursor={cursor}"));
    let lines: Vec<&Value> =
        events.iter().filter(|event| event["type"] == "log").map(|event| &event["text"]).collect();
    assert_eq!(lines[..2], ["three", "four"], "none is lost, none is doubled");
    assert!(!events.iter().any(|event| event["type"] == "reset"), "{events:?}");
    // Its own cursors continue, too.
    let last = events[events.len() - 2]["cursor"].as_str().unwrap();
    assert_eq!(read(&format!("cursor={last}")), events[events.len() - 1..]);
    // What it cannot find it says.
    for lost in ["cursor=0123456789ab.7.1.0", "from=7000"] {
        let events = read(lost);
        assert_eq!(events[0]["type"], "reset", "{lost}");
        assert!(events.iter().any(|event| event["text"] == "one"), "{events:?}");
    }
    assert_eq!(daemon.get("/v1/runs/r1/events?cursor=next").status, 400);
}
