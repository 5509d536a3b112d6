//! The init program as process 1 of a container of the local cluster.

use std::fs;
use std::process::Command;

use crate::host::{Finished, Place, recording};
use serde_json::json;

/// A run of a host that counts its agents' output.
fn run_counted(place: &Place) -> Finished {
    let context = place.context(json!({}));
    let configuration = place.path("host.toml");
    fs::write(&configuration, "[agents]\ncount_output = true\n").unwrap();
    let mut host = place.host(&["run", "--cluster", "local", "--output", "ndjson", "--context"]);
    Finished::of(host.arg(context).arg("--config").arg(configuration).output().unwrap())
}

#[test]
fn an_agents_output_is_counted_by_the_init_program() {
    let machine = String::from_utf8(Command::new("uname").arg("-m").output().unwrap().stdout).unwrap();
    let place = Place::playing(&recording("ok"), "").with_agent(
        "cat >/dev/null\necho \"parent $(cat /proc/$PPID/comm)\"\nseq 3000\ncat \"$(dirname \"$0\")/output\"",
    );
    let finished = run_counted(&place);
    let lines = finished.lines("stdout");
    // The program's file is named after the machine.
    assert_eq!(lines[0], format!("parent {}", machine.trim()), "{}", finished.stderr);
    let numbers: Vec<String> = (1..=3000).map(|number| number.to_string()).collect();
    assert_eq!(lines[1..=3000], numbers);
    assert!(lines.iter().all(|line| !line.starts_with("#paperclip")));
    assert!(finished.records.iter().all(|record| record["type"] != "gap"));
    assert_eq!((finished.code, finished.result()["exitCode"].as_i64()), (Some(0), Some(0)));
}

#[test]
fn the_exit_code_and_the_end_of_stderr_are_the_agents() {
    let place = Place::new("cat >/dev/null\nprintf 'no line feed'\necho boom >&2\nexit 3");
    let finished = run_counted(&place);
    assert_eq!((finished.lines("stdout"), finished.lines("stderr")), (vec!["no line feed"], vec!["boom"]));
    assert_eq!(finished.result()["exitCode"], 3);
}
