//! Runs that outlive their daemon.

use std::fs;

use serde_json::{Value, json};

use super::daemon::{Daemon, text};
use crate::host::{Place, TOKEN, recording};

#[test]
fn a_run_is_taken_up_from_its_last_segment_alone() {
    let place = Place::new("true");
    let gate = text(&place.path("gate"));
    let place = place.with_agent(&format!(
        "cat >/dev/null\necho one\nwhile [ ! -e {gate} ]; do sleep 0.05; done\necho \"$PAPERCLIP_API_KEY\"\ncat \"$(dirname \"$0\")/output\""
    ));
    fs::write(place.path("bin/output"), recording("ok")).unwrap();
    let cluster = place.cluster();
    let kubeconfig = text(cluster.kubeconfig());
    let on = ["--kubeconfig", kubeconfig.as_str()];

    let daemon = Daemon::start_on(&place, &on, &[]);
    daemon.run("r1", json!({}));
    daemon.follow("r1", 0).find(|event| event["text"] == "one").unwrap();
    drop(daemon);
    // Whoever takes a run up begins a new segment, with all that it needs.
    let daemon = Daemon::start_on(&place, &on, &[]).when_ready();
    let journal = place.path("state/runs/r1");
    while !journal.join("journal-000002.ndjson").exists() {
        daemon.state("r1");
    }
    drop(daemon);
    // As a run does that has written more than it may keep.
    fs::remove_file(journal.join("journal-000001.ndjson")).unwrap();

    let daemon = Daemon::start_on(&place, &on, &[]).when_ready();
    fs::write(&gate, "").unwrap();
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
