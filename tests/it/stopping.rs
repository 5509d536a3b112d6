//! Runs that are stopped: cancelled, timed out, left to the cluster.

use rustix::process::Signal;
use serde_json::json;

use crate::host::{Place, Running};

const SLOW: &str =
    "cat >/dev/null\ntrap 'echo asked to stop; exit 143' TERM\necho started\nwhile :; do sleep 0.05; done";

#[test]
fn ctrl_c_cancels_and_reads_the_agents_output_to_its_end() {
    let place = Place::new(SLOW);
    let mut run = place.start(json!({}));
    run.wait_for_line("started");
    run.signal(Signal::INT);
    let run = run.finish();
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert_eq!(run.lines("stdout"), ["started", "asked to stop"]);
    assert_eq!(run.result()["errorCode"], "cancelled");
    assert_eq!(run.result()["errorMessage"], "Run cancelled");
}

#[test]
fn an_agent_that_ignores_the_signal_is_killed_after_its_grace() {
    let place = Place::new("cat >/dev/null\ntrap '' TERM\necho started\nwhile :; do sleep 0.05; done");
    let mut run = place.start(json!({"cancelGraceSec": 1}));
    run.wait_for_line("started");
    run.signal(Signal::INT);
    assert_eq!(run.finish().code, Some(3));
}

#[test]
fn a_run_that_takes_too_long_is_reported_as_timed_out() {
    // Of a signal the shell says something or not, by what it does at the moment.
    let place = Place::new(&format!("exec 2>/dev/null\n{SLOW}"));
    let run = place.run(json!({"timeoutSec": 1}));
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    let result = run.result();
    assert_eq!((result["errorCode"].as_str(), result["timedOut"].as_bool()), (Some("timeout"), Some(true)));
    assert_eq!(
        result["errorMessage"],
        "Timed out after 1s: asked to stop [pod: exit code 143, SIGTERM, reason=Error]"
    );
    assert_eq!(run.lines("stdout"), ["started", "asked to stop"]);
}

#[test]
fn sigterm_leaves_the_run_to_the_cluster_and_the_next_host_resumes_it() {
    let place = Place::new(
        "cat >/dev/null\necho started\nwhile ! [ -e \"$(dirname \"$0\")/go\" ]; do sleep 0.05; done\necho done",
    );
    let cluster = place.cluster();
    let context = place.context(json!({}));
    let host = || {
        let mut host = place.host(&["run", "--output", "ndjson", "--context"]);
        host.arg(&context).arg("--kubeconfig").arg(cluster.kubeconfig());
        Running::of(&mut host)
    };
    let mut first = host();
    first.wait_for_line("started");
    first.signal(Signal::TERM);
    let first = first.finish();
    assert_eq!(first.code, Some(4), "{}", first.stderr);
    assert!(first.records.iter().all(|record| record["type"] != "result"));

    std::fs::write(place.path("bin/go"), "").unwrap();
    let second = host().finish();
    assert_eq!(second.lines("stdout"), ["started", "done"], "{:#?}", second.records);
    assert_eq!(second.result()["exitCode"], 0);
}
