//! Who may speak to the daemon: nobody without a token on TCP, no web page, and the user of the Unix socket.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Command;

use serde_json::{Value, json};

use super::daemon::{Daemon, text};
use crate::host::Place;

/// Sends a request as it is and returns the status and the body of the answer.
fn raw(mut stream: impl std::io::Read + std::io::Write, head: &str, body: &str) -> (u16, String) {
    let length = body.len();
    write!(stream, "{head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let body = answer.split_once("\r\n\r\n").unwrap_or_default().1.to_owned();
    (status.unwrap_or_else(|| panic!("{answer:?}")), body)
}

#[test]
fn a_web_page_can_neither_start_nor_cancel_runs() {
    let place = Place::gated("echo one", "");
    let daemon = Daemon::start(&place, &[]);
    daemon.run("r1", json!({}));
    daemon.follow("r1", 0).find(|event| event["text"] == "one").unwrap();
    let (token, address) = (daemon.token(), daemon.address());
    let send = |path: &str, lines: &str, body: &str| {
        let head = format!("POST {path} HTTP/1.1\r\n{lines}");
        raw(TcpStream::connect(address).unwrap(), &head, body)
    };
    let json_body = "Content-Type: application/json";
    let start = json!({"context": super::daemon::context("r2", "claude_k8s", json!({}))}).to_string();
    let with_token = format!("Authorization: Bearer {token}");
    // A page that was loaded from a name which now resolves to this machine, with and without a token.
    for authorization in [with_token.as_str(), "X: y"] {
        let lines = format!("Host: evil.example\r\n{json_body}\r\n{authorization}");
        let (status, answer) = send("/v1/runs", &lines, &start);
        assert_eq!(status, 403, "{answer}");
        let error: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(error["error"]["code"], "forbidden");
    }
    // A form of another site.
    for origin in ["https://evil.example", "null"] {
        let lines =
            format!("Host: {address}\r\nOrigin: {origin}\r\nContent-Type: text/plain\r\n{with_token}");
        for path in ["/v1/runs/r1/cancel", "/v1/plugins/reload", "/v1/runs"] {
            assert_eq!(send(path, &lines, "{}").0, 403, "{path}");
        }
    }
    // No token, and a body that a form can send.
    let host = format!("Host: {address}");
    assert_eq!(send("/v1/runs/r1/cancel", &format!("{host}\r\n{json_body}"), "{}").0, 401);
    for declared in ["Content-Type: text/plain", "Content-Type: application/x-www-form-urlencoded", "X: y"] {
        let lines = format!("{host}\r\n{declared}\r\n{with_token}");
        let (status, answer) = send("/v1/runs/r1/cancel", &lines, "{}");
        assert_eq!(status, 415, "{answer}");
    }
    assert_eq!(daemon.state("r1")["state"], "running");
    let allowed = daemon.get("/healthz");
    assert_eq!(allowed.status, 200);
    place.open_gate();
    assert_eq!(daemon.events("r1", 0).last().unwrap()["errorCode"], Value::Null);
    assert_eq!(daemon.get("/v1/runs/r2").status, 404);
}

#[test]
fn a_token_is_generated_for_the_daemons_user_and_can_be_replaced() {
    let place = Place::new("true");
    let daemon = Daemon::start(&place, &[]);
    let file = place.path("state/token");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let first = fs::read_to_string(&file).unwrap();
    assert_eq!(daemon.get("/v1/runs").status, 200);
    fs::write(&file, format!("a-token-of-the-operator\n{first}")).unwrap();
    assert_eq!(daemon.get("/v1/runs").status, 200, "both are valid");
    fs::write(&file, "a-token-of-the-operator\n").unwrap();
    assert_eq!(daemon.get("/v1/runs").status, 401);
    let daemon = daemon.with_token("a-token-of-the-operator");
    assert_eq!(daemon.get("/v1/runs").status, 200);
    let log = daemon.stop();
    assert!(!log.contains(first.trim()), "{log}");
}

#[test]
fn a_flood_without_a_token_starves_nobody_who_has_one() {
    let place = Place::new("true");
    fs::write(place.path("serve.toml"), "[limits]\nrequests_per_second = 2\n").unwrap();
    let daemon = Daemon::start(&place, &["--config", &text(&place.path("serve.toml"))]);
    let idle: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(daemon.address()).unwrap()).collect();
    let head = format!("POST /v1/runs/x/cancel HTTP/1.1\r\nHost: {}", daemon.address());
    let codes: Vec<u16> =
        (0..200).map(|_| raw(TcpStream::connect(daemon.address()).unwrap(), &head, "").0).collect();
    assert!(codes.contains(&401) && codes.contains(&429), "{codes:?}");
    // Its own rate is as full as before, and a cancellation never counts.
    assert_eq!(daemon.post("/v1/plugins/none/revert", &Value::Null).status, 404);
    let changes: Vec<u16> =
        (0..10).map(|_| daemon.post("/v1/plugins/none/revert", &Value::Null).status).collect();
    assert!(changes.contains(&429), "{changes:?}");
    for _ in 0..20 {
        assert_eq!(daemon.post("/v1/runs/none/cancel", &Value::Null).status, 404);
    }
    drop(idle);
}

#[test]
fn the_socket_in_paperclips_home_serves_its_user_without_a_token() {
    let place = Place::new("true");
    let home = place.path("home");
    let daemon = Daemon::start(
        &place,
        &["--listen", &format!("unix:{}", home.join("s").display()), "--paperclip-home", &text(&home)],
    );
    let socket = home.join("s");
    assert_eq!(socket.symlink_metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let get = |path: &str| {
        raw(UnixStream::connect(&socket).unwrap(), &format!("GET {path} HTTP/1.1\r\nHost: x"), "")
    };
    assert_eq!(get("/v1/runs").0, 200);
    let (status, _) = raw(
        UnixStream::connect(&socket).unwrap(),
        "POST /v1/plugins/reload HTTP/1.1\r\nHost: x\r\nOrigin: null",
        "",
    );
    assert_eq!(status, 403);
    // The same daemon on TCP.
    assert_eq!(daemon.get("/v1/runs").status, 200);
    assert_eq!(daemon.without_token().get("/v1/runs").status, 401);
}

#[test]
fn speaks_tls_to_other_machines() {
    let place = Place::new("true");
    let (certificate, key) = (text(&place.path("tls.crt")), text(&place.path("tls.key")));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-keyout", &key, "-out", &certificate])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let tls = ["--tls-certificate", &certificate, "--tls-key", &key];
    let daemon = Daemon::start(&place, &[&["--listen", "tls:0.0.0.0:0"], &tls[..]].concat());
    let address = daemon.other_address().unwrap();
    let port = address.rsplit_once(':').unwrap().1;
    let curl = |options: &[&str]| {
        let url = format!("https://localhost:{port}/v1/runs");
        let output = Command::new("curl")
            .args(["-sS", "-w", "%{http_code}", "-o", "/dev/null", &url])
            .args(options)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let authorization = format!("Authorization: Bearer {}", daemon.token());
    assert_eq!(curl(&["--cacert", &certificate, "-H", &authorization]), "200");
    assert_eq!(curl(&["--cacert", &certificate]), "401");
    assert_eq!(curl(&["-H", &authorization]), "000", "an unknown certificate");
    assert!(address.starts_with("https://"), "{address}");

    let revert = |certificate: &[&str]| {
        let listen = format!("tls:127.0.0.1:{port}");
        let mut command = place.host(&["plugins", "revert", "claude_k8s", "--listen", &listen]);
        let output = command.args(certificate).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let answered = revert(&["--tls-certificate", &certificate]);
    assert!(answered.contains("claude_k8s") && !answered.contains("no daemon answers"), "{answered}");
    let unnamed = revert(&[]);
    assert!(unnamed.contains("name the daemon's own with --tls-certificate"), "{unnamed}");
    let other = text(&place.path("other.crt"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-out", &other])
        .args(["-keyout", &text(&place.path("other.key"))])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let refused = revert(&["--tls-certificate", &other]);
    assert!(refused.contains("no daemon answers") && refused.contains("certificate"), "{refused}");
}

#[test]
fn two_daemons_do_not_share_a_state_folder() {
    let place = Place::new("true");
    let _daemon = Daemon::start(&place, &[]);
    let output = place.host(&["serve", "--cluster", "local", "--listen", "127.0.0.1:0"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("process ") && stderr.contains("serves with it"), "{stderr}");
}

#[test]
fn a_fifo_in_the_plugins_folder_is_rejected_and_nothing_hangs() {
    let place = Place::new("true");
    let plugins = place.path("plugins");
    fs::create_dir(&plugins).unwrap();
    assert!(Command::new("mkfifo").arg(plugins.join("pipe.wasm")).status().unwrap().success());
    std::os::unix::fs::symlink("/proc/self/environ", plugins.join("link.wasm")).unwrap();
    let daemon = Daemon::start(&place, &["--plugins", &text(&plugins)]);
    let reloaded = daemon.post("/v1/plugins/reload", &Value::Null);
    assert_eq!(reloaded.status, 200);
    let rejected = reloaded.json()["rejected"].to_string();
    assert!(rejected.contains("not a regular file") && rejected.contains("it is outside"), "{rejected}");
    assert_eq!(daemon.get("/v1/adapters/claude_k8s").status, 200);
}

/// A full or read-only disk, or too many open files: a run that cannot be recorded is refused, and may be started again.
#[test]
fn a_run_that_cannot_be_recorded_is_refused_and_not_failed() {
    let place = Place::playing(&crate::host::recording("ok"), "");
    let daemon = Daemon::start(&place, &[]).when_ready();
    // What is in the way of a file is the most that a test can do to the disk of whoever runs it.
    let in_the_way = place.path("state/write-probe");
    fs::create_dir(&in_the_way).unwrap();
    let mut refused = daemon.get("/readyz");
    while refused.status == 200 {
        refused = daemon.get("/readyz");
    }
    assert_eq!(refused.json()["error"]["code"], "storage_unavailable", "{refused:?}");
    let refused = daemon.run("r1", json!({}));
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (503, &json!("storage_unavailable")));
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(daemon.get("/readyz").status, 200);
    assert_eq!(daemon.run("r1", json!({})).status, 202);
    assert_eq!(daemon.events("r1", 0).last().unwrap()["errorCode"], Value::Null);
}
