//! Runs whose host is killed, and that another host resumes.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::host::{Finished, Place, Running};

const LINES: usize = 120;

/// Notes each of its starts, then prints lines one after another.
fn agent() -> Place {
    Place::new(&format!(
        "cat >/dev/null\necho start >> \"$(dirname \"$0\")/starts\"\ni=0\nwhile [ $i -lt {LINES} ]; do echo \"line $i\"; i=$((i+1)); sleep 0.01; done\necho '{}'",
        json!({"type": "result", "subtype": "success", "is_error": false, "result": "done", "session_id": "s"})
    ))
}

fn check(place: &Place, run: &Finished) {
    let lines = run.lines("stdout");
    let expected: Vec<String> = (0..LINES).map(|line| format!("line {line}")).collect();
    assert_eq!(lines[..LINES], expected, "{:#?}", run.records);
    assert_eq!((lines.len(), run.code), (LINES + 1, Some(0)), "{}", run.stderr);
    assert_eq!(run.result()["summary"], "done");
    assert_eq!(std::fs::read_to_string(place.path("bin/starts")).unwrap(), "start\n", "one agent start");
}

/// Whether a record is reached at which the host is to be killed.
type Moment = fn(&Value) -> bool;

#[test]
fn a_killed_host_neither_loses_nor_repeats_a_line() {
    let moments: [(&str, Moment); 4] = [
        ("before the Job exists", |record| record["type"] == "status"),
        ("the Job exists", |record| record["type"] == "meta"),
        ("the agent started", |record| record["type"] == "log"),
        ("in the middle", |record| record["index"] == 60),
    ];
    for (name, moment) in moments {
        let place = agent();
        let cluster = place.cluster();
        let context = place.context(json!({}));
        let kubeconfig = cluster.kubeconfig().to_owned();
        let host = || {
            let mut host = place.host(&["run", "--output", "ndjson", "--context"]);
            Running::of(host.arg(&context).arg("--kubeconfig").arg(&kubeconfig))
        };
        let mut first = host();
        first.wait_for(moment);
        first.signal(Signal::KILL);
        let first = first.finish();
        assert_eq!(first.code, None, "{name}: killed");
        let second = host().finish();
        check(&place, &second);
        // What the first host had shown, the second shows again, the same.
        assert_eq!(second.records[..first.records.len()], first.records, "{name}");
        // And a third time, after its end and without the cluster.
        drop(cluster);
        let third = host().finish();
        assert_eq!((third.code, &third.records), (Some(0), &second.records), "{name}");
    }
}

#[test]
fn a_host_without_the_runs_state_adopts_its_job_and_reads_from_the_start() {
    let place = agent();
    let cluster = place.cluster();
    let context = place.context(json!({}));
    let host = |state: &str| {
        let mut host = place.host(&["run", "--output", "ndjson", "--context"]);
        host.arg(&context)
            .arg("--kubeconfig")
            .arg(cluster.kubeconfig())
            .env("PAPERCLIP_STATE", place.path(state));
        Running::of(&mut host)
    };
    let mut first = host("state");
    first.wait_for_line("line 3");
    // It releases its lease, so that the other host need not wait until that has expired.
    first.signal(Signal::TERM);
    assert_eq!(first.finish().code, Some(4));
    check(&place, &host("elsewhere").finish());
}

#[test]
fn replays_a_recorded_run_and_compares_another_plugin_with_it() {
    let place = agent();
    let run = place.run(json!({}));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let journal = place.path("state/runs/0b7c2f6e-1111-4222-8333-444455556666");
    let output = place.host(&["replay"]).arg(&journal).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("121 lines of output") && text.contains("identical"), "{text}");

    // A journal of decisions that this plugin would not have made.
    let segment = journal.join("journal-000001.ndjson");
    let recorded = std::fs::read_to_string(&segment).unwrap();
    let other: String = recorded
        .lines()
        .map(|line| {
            let json = line[9..].replace("\"wait_ms\":600000", "\"wait_ms\":5");
            format!("{:08x} {json}\n", crc(&json))
        })
        .collect();
    std::fs::write(&segment, other).unwrap();
    let output = place.host(&["replay"]).arg(&journal).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("step 0") && text.contains("stopped at step 0"), "{text}");

    let output = place.host(&["replay", "/nowhere"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text.contains("/nowhere") && text.contains("name a run's folder"), "{text}");
}

/// CRC-32 as the journal has it.
fn crc(json: &str) -> u32 {
    let mut crc = u32::MAX;
    for byte in json.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}
