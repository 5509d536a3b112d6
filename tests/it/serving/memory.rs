//! What requests cost: whatever they send, the daemon stays within the memory of its deployment.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::json;

use super::daemon::{Daemon, text};
use crate::host::Place;

/// Of the container in `deploy/base`.
const CONTAINER_MIB: u64 = 512;
/// Of the large part: with the rest of a context it is a body of `request_mib`.
const BODY_BYTES: usize = (16 << 20) - (4 << 10);
const REQUESTS: usize = 50;

/// Kinds of bodies: four of too many values, or nested too deeply, and two of one long text.
const KINDS: usize = 6;

fn is_refused(number: usize) -> bool {
    number % KINDS < 4
}

/// Sends a whole body and returns the status.
fn post(daemon: &Daemon, body: &str) -> u16 {
    let mut stream = TcpStream::connect(daemon.address()).unwrap();
    let head = format!(
        "POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        daemon.token(),
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // It may answer before it has all of it.
    let _ = stream.write_all(body.as_bytes());
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status).unwrap();
    status.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{status:?}"))
}

#[test]
fn fifty_worst_bodies_at_a_time_stay_within_the_containers_memory() {
    let place = Place::new("cat >/dev/null; sleep 600");
    // As in a container with this limit.
    fs::write(place.path("serve.toml"), format!("[limits]\nmemory_mib = {}\n", CONTAINER_MIB * 8 / 10))
        .unwrap();
    let daemon = Daemon::start(&place, &["--config", &text(&place.path("serve.toml"))]);
    let idle_mib = daemon.peak_memory_mib();
    let zeros = format!("[{}0]", "0,".repeat(BODY_BYTES / 2));
    let objects = format!("[{}{{}}]", "{},".repeat(BODY_BYTES / 3));
    let nested = format!("{}0{}", r#"{"a":"#.repeat(BODY_BYTES / 6), "}".repeat(BODY_BYTES / 6));
    let letters = "x".repeat(BODY_BYTES);
    let body = |number: usize| {
        let mut context = super::daemon::context(&format!("r{number}"), "claude_k8s", json!({}));
        let (member, large) = match number % KINDS {
            0 => ("config", &zeros),
            1 => ("context", &objects),
            2 => ("unknown", &zeros),
            3 => ("context", &nested),
            4 => ("config", &letters),
            _ => ("context", &letters),
        };
        // Built as text: the test's own memory is not measured, but it should be small.
        let large = if is_refused(number) { large.clone() } else { format!("\"{large}\"") };
        let filler = json!({"large": "@"});
        match member {
            "unknown" => context["unknown"] = filler,
            member => context[member]["large"] = json!("@"),
        }
        json!({ "context": context }).to_string().replacen("\"@\"", &large, 1)
    };
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let daemon = &daemon;
        let sending = (0..REQUESTS).map(|number| {
            let body = body(number);
            scope.spawn(move || post(daemon, &body))
        });
        let sending: Vec<_> = sending.collect();
        sending.into_iter().map(|request| request.join().unwrap()).collect()
    });
    let peak_mib = daemon.peak_memory_mib();
    println!("{idle_mib} MiB idle, {peak_mib} MiB at most: {statuses:?}");
    for (number, status) in statuses.iter().enumerate() {
        let expected: &[u16] = if is_refused(number) { &[400, 503] } else { &[202, 400, 503] };
        assert!(expected.contains(status), "{number}: {status}");
    }
    assert_eq!(daemon.get("/healthz").status, 200);
    assert!(peak_mib < CONTAINER_MIB, "{peak_mib} MiB");
}
