//! Runs that outlive their daemon.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::daemon::{Daemon, text};
use crate::host::{Place, TOKEN, recording};

#[test]
fn a_run_is_resumed_from_its_last_segment_alone() {
    let place = Place::gated("echo one", r#"echo "$PAPERCLIP_API_KEY""#);
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];

    let daemon = Daemon::start_on(&place, &on, &[]);
    daemon.run("r1", json!({}));
    daemon.follow("r1", 0).find(|event| event["text"] == "one").unwrap();
    drop(daemon);
    // A host that resumes a run starts a new segment with everything that it needs.
    let daemon = Daemon::start_on(&place, &on, &[]).when_ready();
    let journal = place.path("state/runs/r1");
    while !fs::read(journal.join("journal-000002.ndjson")).is_ok_and(|segment| segment.ends_with(b"\n")) {
        daemon.state("r1");
    }
    drop(daemon);
    // As if the run had written more than is kept.
    fs::remove_file(journal.join("journal-000001.ndjson")).unwrap();

    let daemon = Daemon::start_on(&place, &on, &[]).when_ready();
    place.open_gate();
    let events = daemon.events("r1", 0);
    assert_eq!(events[0]["type"], "gap", "{}", events[0]);
    let lines: Vec<&Value> = events.iter().filter(|event| event["type"] == "log").collect();
    assert_eq!(lines[0]["text"], "[redacted:authToken]", "its secrets are known again");
    assert_eq!(lines.len(), 1 + recording("ok").lines().count());
    assert_eq!(events.last().unwrap()["errorCode"], Value::Null);
    assert_eq!(daemon.state("r1")["agentId"], "agent-r1");
    drop(daemon);
    assert_eq!(place.holds(TOKEN).filter(|path| path != cluster.kubeconfig()), None);
}

/// A collector of traces. Returns its URL and the bodies of all requests.
fn collector() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (sender, bodies) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut request = BufReader::new(stream);
            let mut length = 0;
            let mut line = String::new();
            while request.read_line(&mut line).is_ok_and(|read| read > 0) {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    let mut body = vec![0; length];
                    request.read_exact(&mut body).unwrap();
                    request
                        .get_mut()
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
                        .unwrap();
                    let _ = sender.send(serde_json::from_slice(&body).unwrap());
                    break;
                }
                line.clear();
            }
        }
    });
    (url, bodies)
}

#[test]
fn a_run_is_one_trace_over_a_restart() {
    let place = Place::gated("echo one", "");
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];
    let (url, bodies) = collector();
    let traced = ["--traces-endpoint", url.as_str()];

    let daemon = Daemon::start_on(&place, &on, &traced);
    daemon.run("r1", json!({}));
    daemon.follow("r1", 0).find(|event| event["text"] == "one").unwrap();
    daemon.stop();
    let daemon = Daemon::start_on(&place, &on, &traced).when_ready();
    place.open_gate();
    assert_eq!(daemon.events("r1", 0).last().unwrap()["errorCode"], Value::Null);
    daemon.stop();

    let bodies: Vec<Value> = bodies.try_iter().collect();
    let spans: Vec<&Value> = bodies
        .iter()
        .flat_map(|body| body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap())
        .collect();
    let name = |span: &Value| span["name"].as_str().unwrap().to_owned();
    let (root, others) = spans.split_last().unwrap();
    assert_eq!((name(root), &root["status"]), ("run".to_owned(), &json!({})));
    let start = |span: &Value| span["startTimeUnixNano"].as_str().unwrap().parse::<u64>().unwrap();
    for span in others {
        assert_eq!((&span["traceId"], &span["parentSpanId"]), (&root["traceId"], &root["spanId"]));
    }
    let last_driven = others.iter().rfind(|span| name(span) == "driven").unwrap();
    assert!(start(root) <= start(last_driven), "the root starts with the run, not with the last process");
    let names: Vec<String> = others.iter().map(|span| name(span)).collect();
    assert_eq!(names.iter().filter(|name| *name == "driven").count(), 2);
    let creations = names.iter().filter(|name| *name == "create Job");
    assert_eq!(creations.count(), 1, "calls of the first process are not exported again: {names:?}");
}

#[test]
fn a_run_without_its_secret_continues_when_it_is_started_again() {
    let place = Place::playing(&recording("ok"), "echo \"$PAPERCLIP_API_KEY\"");
    let daemon = Daemon::start(&place, &[]);
    daemon.run("r1", json!({}));
    daemon.events("r1", 0);
    drop(daemon);
    // As it is on disk if a host dies at once, and its cluster with it.
    let journal = place.path("state/runs/r1/journal-000001.ndjson");
    let text = fs::read_to_string(&journal).unwrap();
    let start = text.find("{\"start\":").unwrap();
    let end = start + text[start..].find('\n').unwrap() + 1;
    fs::write(&journal, &text[..end]).unwrap();

    let daemon = Daemon::start(&place, &[]).when_ready();
    assert_eq!(daemon.state("r1")["state"], "running");
    assert_eq!(daemon.run("r1", json!({})).status, 202);
    let events = daemon.events("r1", 0);
    assert_eq!(events.last().unwrap()["errorCode"], Value::Null, "{events:?}");
    assert!(events.iter().any(|event| event["text"] == "[redacted:authToken]"), "{events:?}");
}

#[test]
fn a_cancellation_that_comes_too_late_is_refused() {
    let place = Place::new("cat >/dev/null\necho one\nsleep 1000");
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];
    let mut daemon = Daemon::start_on(&place, &on, &[]);
    daemon.run("r1", json!({}));
    daemon.follow("r1", 0).find(|event| event["text"] == "one").unwrap();
    // The run cannot release its lease, which delays the daemon's exit.
    cluster.signal(Signal::STOP);
    daemon.terminate();
    daemon.wait_for_log("detaches from all runs");
    let refused = daemon.post("/v1/runs/r1/cancel", &Value::Null);
    let error = &refused.json()["error"];
    assert_eq!((refused.status, &error["code"]), (503, &json!("stopping")));
    assert_eq!(error["hint"], "try again when it runs again");
    cluster.signal(Signal::CONT);
    daemon.stop();

    let daemon = Daemon::start_on(&place, &on, &[]).when_ready();
    assert_eq!(daemon.state("r1")["state"], "running");
    assert_eq!(daemon.post("/v1/runs/r1/cancel", &Value::Null).status, 202);
    assert_eq!(daemon.events("r1", 0).last().unwrap()["errorCode"], "cancelled");
}

#[test]
fn an_accepted_cancellation_survives_its_host() {
    let place = Place::new("cat >/dev/null\necho one\nsleep 1000");
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];
    let daemon = Daemon::start_on(&place, &on, &[]);
    daemon.run("r1", json!({}));
    daemon.follow("r1", 0).find(|event| event["text"] == "one").unwrap();
    // It is not carried out before the host is killed.
    cluster.signal(Signal::STOP);
    assert_eq!(daemon.post("/v1/runs/r1/cancel", &json!({"reason": "enough"})).status, 202);
    drop(daemon);
    cluster.signal(Signal::CONT);

    let daemon = Daemon::start_on(&place, &on, &[]).when_ready();
    assert_eq!(daemon.events("r1", 0).last().unwrap()["errorCode"], "cancelled");
}

#[test]
fn an_unmasked_variable_is_shown_also_after_a_restart() {
    let show = r#"echo "$KEY $BUILD_ID""#;
    let place = Place::gated(show, show);
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];
    let shown = "[redacted:KEY] the-build-number";
    let config = place.path("serve.toml");
    fs::write(&config, "unmasked_env = [\"BUILD_*\"]\n").unwrap();
    let daemon = Daemon::start_on(&place, &on, &["--config", &text(&config)]);
    daemon.run("r1", json!({"env": {"KEY": "the-secret-key", "BUILD_ID": "the-build-number"}}));
    daemon.follow("r1", 0).find(|event| event["text"] == shown).unwrap();
    drop(daemon);

    // A run keeps what it was started with.
    let daemon = Daemon::start_on(&place, &on, &[]).when_ready();
    place.open_gate();
    let events = daemon.events("r1", 0);
    let lines: Vec<&Value> =
        events.iter().filter(|event| event["type"] == "log").map(|event| &event["text"]).collect();
    assert_eq!(lines[..2], [shown, shown]);
}
