//! Every route, and every way to use one wrongly.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use serde_json::{Value, json};

use super::daemon::{Answer, Daemon, context, text};
use crate::host::{Place, TOKEN, recording};

/// An agent that waits for the test.
fn gated() -> Place {
    Place::gated("echo one", "echo two")
}

/// Holds an answer against the API's own description.
fn described(openapi: &Value, method: &str, route: &str, answer: &Answer) {
    let operation = &openapi["paths"][route][method];
    let mut response = &operation["responses"][answer.status.to_string()];
    assert!(!response.is_null(), "{method} {route} is not described to answer {}", answer.status);
    if let Some(reference) = response["$ref"].as_str() {
        response = openapi.pointer(reference.trim_start_matches('#')).unwrap();
    }
    let Some(schema) = response["content"]["application/json"].get("schema") else { return };
    let mut schema = schema.clone();
    schema["components"] = openapi["components"].clone();
    let value = answer.json();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{method} {route}: {errors:?} in {value}");
}

/// The adapter packages have a copy of the description, for the forms of a server whose daemon does not answer. `INSTA_UPDATE=always`
/// writes them again.
#[test]
fn adapter_packages_have_a_copy_of_the_description() {
    let daemon = Daemon::start(&gated(), &[]);
    for agent_type in ["claude_k8s", "codex_k8s", "gemini_k8s", "opencode_k8s"] {
        let mut description = daemon.get(&format!("/v1/adapters/{agent_type}")).json();
        let members = description.as_object_mut().unwrap();
        // They change with every build.
        members.remove("digest");
        members.remove("version");
        let path = format!("{}/../adapter/describe/{agent_type}.json", env!("CARGO_MANIFEST_DIR"));
        if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
            fs::write(&path, format!("{description:#}\n")).unwrap();
        }
        let copy = fs::read_to_string(&path).expect("run this test with INSTA_UPDATE=always");
        let copy: Value = serde_json::from_str(&copy).unwrap();
        assert_eq!(copy, description, "run this test with INSTA_UPDATE=always");
    }
}

#[test]
fn every_route_answers_as_it_is_described() {
    let place = gated();
    let daemon = Daemon::start(&place, &[]);
    let openapi = daemon.get("/v1/openapi.json").json();
    let check = |method: &str, route: &str, answer: Answer| {
        described(&openapi, method, route, &answer);
        answer
    };
    assert_eq!(check("get", "/healthz", daemon.get("/healthz")).status, 200);
    assert_eq!(check("get", "/readyz", daemon.get("/readyz")).status, 200);

    let started = check("post", "/v1/runs", daemon.run("r1", json!({})));
    assert_eq!((started.status, started.json()), (202, json!({"runId": "r1"})));
    assert_eq!(daemon.run("r1", json!({})).json(), started.json(), "the same run");
    let mut live = daemon.follow("r1", 0);
    live.by_ref().find(|event| event["text"] == "one").unwrap();
    let state = check("get", "/v1/runs/{id}", daemon.get("/v1/runs/r1")).json();
    assert_eq!(state["state"], "running");
    place.open_gate();
    let last = live.last().unwrap();
    assert_eq!((&last["type"], &last["errorCode"]), (&json!("result"), &Value::Null), "{last}");

    let events = daemon.events("r1", 0);
    for (number, event) in (0_u64..).zip(&events) {
        assert_eq!(event["seq"], number);
    }
    assert_eq!(events.last().unwrap(), &last);
    assert_eq!(daemon.events("r1", 2), events[2..]);
    assert_eq!(daemon.events("r1", 1_000), [] as [Value; 0]);

    let plugins = check("get", "/v1/plugins", daemon.get("/v1/plugins")).json();
    let state = check("get", "/v1/runs/{id}", daemon.get("/v1/runs/r1")).json();
    assert_eq!(state["state"], "succeeded");
    assert_eq!(state["pluginDigest"], plugins["plugins"][0]["digest"]);
    assert_eq!(state["nextSeq"], events.len());
    assert_eq!(check("get", "/v1/runs", daemon.get("/v1/runs")).json()["runs"], json!([state]));
    check("get", "/v1/adapters/{type}", daemon.get("/v1/adapters/claude_k8s"));
    let tested = daemon.post("/v1/adapters/claude_k8s/check", &json!({"config": {}}));
    check("post", "/v1/adapters/{type}/check", tested);
    check("get", "/v1/version", daemon.get("/v1/version"));
    let skills = daemon.post("/v1/adapters/claude_k8s/skills", &json!({"config": {}}));
    check("post", "/v1/adapters/{type}/skills", skills);
    assert_eq!(
        check("post", "/v1/runs/{id}/taken", daemon.post("/v1/runs/r1/taken", &Value::Null)).status,
        204
    );
    check("post", "/v1/plugins/reload", daemon.post("/v1/plugins/reload", &Value::Null));
    let cancelled = daemon.post("/v1/runs/r1/cancel", &json!({"reason": "late"}));
    assert_eq!(check("post", "/v1/runs/{id}/cancel", cancelled).json()["state"], "succeeded");

    let metrics = daemon.get("/metrics").text;
    for line in [
        "paperclip_runs{state=\"succeeded\"} 1",
        "paperclip_runs_ended_total{adapter=\"claude_k8s\",outcome=\"succeeded\",code=\"\"} 1",
        "verb=\"create\",resource=\"jobs\",code=\"2xx\"} 1",
        "paperclip_plugin_instances 0",
        "paperclip_guards_held 0",
    ] {
        assert!(metrics.contains(line), "{line} is missing in {metrics}");
    }
    for (method, path, body, status, code) in [
        ("GET", "/v1/runs/none", "", 404, "not_found"),
        ("GET", "/v1/runs/none/events", "", 404, "not_found"),
        ("GET", "/v1/runs/r1/events?from=x", "", 400, "bad_request"),
        ("GET", "/v1/runs?taken=x", "", 400, "bad_request"),
        ("POST", "/v1/runs/none/taken", "", 404, "not_found"),
        ("POST", "/v1/adapters/none/skills", "{}", 404, "not_found"),
        ("POST", "/v1/runs/none/cancel", "", 404, "not_found"),
        ("POST", "/v1/runs/r1/cancel", "{", 400, "bad_request"),
        ("POST", "/v1/runs", "{", 400, "bad_request"),
        ("POST", "/v1/runs", "{\"context\":{},\"more\":1}", 400, "bad_request"),
        ("POST", "/v1/runs", "{\"context\":{}}", 400, "bad_request"),
        (
            "POST",
            "/v1/runs",
            "{\"context\":{\"agent\":{\"adapterType\":\"claude_k8s\"}}}",
            400,
            "bad_request",
        ),
        ("POST", "/v1/runs", "{\"adapter\":\"none\",\"context\":{\"runId\":\"x\"}}", 422, "no_plugin"),
        ("GET", "/v1/adapters/none", "", 404, "not_found"),
        ("POST", "/v1/plugins/claude_k8s/revert", "", 404, "not_found"),
        ("GET", "/nowhere", "", 404, "not_found"),
        ("DELETE", "/v1/runs", "", 405, "method_not_allowed"),
    ] {
        let answer = daemon.send(method, path, body);
        let error = answer.json();
        assert_eq!(
            (answer.status, &error["error"]["code"]),
            (status, &json!(code)),
            "{method} {path}: {error}"
        );
        assert!(!error["error"]["hint"].as_str().unwrap().is_empty(), "{error}");
        assert_eq!(
            error["error"]["mend"], error["error"]["hint"],
            "the former name is sent for one more version"
        );
    }
    let long = daemon.run("long", json!({"env": {"LONG": "x".repeat(128 << 10)}}));
    let error = &long.json()["error"];
    assert_eq!(long.status, 400);
    assert!(
        error["message"].as_str().unwrap().starts_with("context: env.LONG: the variable is 131078 bytes")
    );
    assert_eq!(error["hint"], "put the text into a file of the agent's workspace");
    let log = daemon.stop();
    assert!(!log.contains(TOKEN), "{log}");
}

#[test]
fn a_token_guards_all_but_the_probes_and_large_bodies_are_refused() {
    let place = Place::new("true");
    let token = "0123456789abcdef0123";
    fs::write(place.path("token"), token).unwrap();
    fs::write(place.path("serve.toml"), "[limits]\nrequest_mib = 1\nrequests_per_second = 3\n").unwrap();
    let args = ["--config", &text(&place.path("serve.toml")), "--token-file", &text(&place.path("token"))];
    let daemon = Daemon::start(&place, &args).without_token();
    for path in ["/v1/runs", "/v1/plugins", "/metrics", "/v1/runs/x/events"] {
        assert_eq!(daemon.get(path).status, 401, "{path}");
    }
    assert_eq!(daemon.get("/healthz").status, 200);
    let daemon = daemon.with_token("0123456789abcdef0124");
    assert_eq!(daemon.get("/v1/runs").status, 401);
    let daemon = daemon.with_token(token);
    assert_eq!(daemon.get("/v1/runs").status, 200);
    let mut huge = TcpStream::connect(daemon.address()).unwrap();
    let head = format!(
        "POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        2 << 20
    );
    huge.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 4_096];
    let read = huge.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let codes: Vec<u16> =
        (0..20).map(|_| daemon.post("/v1/plugins/none/revert", &Value::Null).status).collect();
    assert!(codes.contains(&429), "{codes:?}");
}

#[test]
fn runs_are_cancelled_queued_and_refused_for_a_busy_agent() {
    let place = gated();
    fs::write(place.path("serve.toml"), "[limits]\nruns = 1\nqueued_runs = 1\n").unwrap();
    let daemon = Daemon::start(&place, &["--config", &text(&place.path("serve.toml"))]);
    daemon.run("r1", json!({}));
    daemon.follow("r1", 0).find(|event| event["text"] == "one").unwrap();

    let mut same_agent = super::daemon::context("r2", "claude_k8s", json!({"whenBusy": "fail"}));
    same_agent["agent"]["id"] = json!("agent-r1");
    let answer = daemon.post("/v1/runs", &json!({"context": same_agent}));
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (409, &json!("agent_busy")));
    assert!(answer.text.contains("r1"), "{answer:?}");

    assert_eq!(daemon.run("r3", json!({})).status, 202);
    assert_eq!(daemon.state("r3")["queuePosition"], 1);
    let full = daemon.run("r4", json!({}));
    assert_eq!((full.status, &full.json()["error"]["code"]), (503, &json!("queue_full")));
    daemon.post("/v1/runs/r3/cancel", &Value::Null);
    assert_eq!(daemon.events("r3", 0).last().unwrap()["errorCode"], "cancelled");

    assert_eq!(daemon.run("r5", json!({})).status, 202);
    daemon.post("/v1/runs/r1/cancel", &json!({"reason": "enough"}));
    assert_eq!(daemon.events("r1", 0).last().unwrap()["errorCode"], "cancelled");
    assert_eq!(daemon.state("r1")["state"], "cancelled");
    place.open_gate();
    assert_eq!(daemon.events("r5", 0).last().unwrap()["errorCode"], Value::Null);
}

/// Runs of one agent follow each other, whether they succeed, fail or are cancelled; runs of other agents do not wait.
#[test]
fn seed_10_runs_of_one_agent_are_serialised_while_others_run() {
    let place = gated();
    let daemon = Daemon::start(&place, &[]);
    let start = |run_id: &str, agent: &str| {
        let mut context = super::daemon::context(run_id, "claude_k8s", json!({}));
        context["agent"]["id"] = json!(agent);
        assert_eq!(daemon.post("/v1/runs", &json!({"context": context})).status, 202);
    };
    let runs_agent = |event: &Value| event["text"] == "one";
    start("a1", "agent-a");
    assert!(daemon.follow("a1", 0).any(|event| runs_agent(&event)));
    start("a2", "agent-a");
    start("a3", "agent-a");
    for waiting in ["a2", "a3"] {
        let waits =
            |event: Value| event["text"].as_str().is_some_and(|text| text.contains("Waiting for run"));
        assert!(daemon.follow(waiting, 0).any(waits), "{waiting}");
    }
    start("b1", "agent-b");
    assert!(daemon.follow("b1", 0).any(|event| runs_agent(&event)), "another agent does not wait");
    daemon.post("/v1/runs/a1/cancel", &Value::Null);
    let next = ["a2", "a3"].map(|run_id| {
        let feed = daemon.follow(run_id, 0);
        std::thread::spawn(move || {
            let times = feed.filter(|event| runs_agent(event) || event["type"] == "result");
            times.map(|event| (event["type"] == "result", Instant::now())).collect::<Vec<_>>()
        })
    });
    place.open_gate();
    let mut spans = next.map(|reader| {
        let times = reader.join().unwrap();
        assert_eq!(times.iter().map(|(is_result, _)| *is_result).collect::<Vec<_>>(), [false, true]);
        (times[0].1, times[1].1)
    });
    spans.sort();
    assert!(spans[0].1 <= spans[1].0, "two runs of an agent at once");
    for run_id in ["a2", "a3", "b1"] {
        assert_eq!(daemon.events(run_id, 0).last().unwrap()["errorCode"], Value::Null, "{run_id}");
    }
}

#[test]
fn seed_16_a_run_whose_cancellation_would_not_be_noticed_says_so() {
    let place = gated();
    place.open_gate();
    let daemon = Daemon::start_without_api_url(&place);
    daemon.run("r1", json!({}));
    let context = context("r2", "claude_k8s", json!({}));
    daemon.post("/v1/runs", &json!({"context": context, "pushesCancel": true}));
    let is_warning = |event: &Value| {
        let text = event["text"].as_str().unwrap_or_default();
        text.contains("is not asked whether the run is cancelled")
    };
    let warnings = |run_id| daemon.events(run_id, 0).iter().filter(|event| is_warning(event)).count();
    assert_eq!(warnings("r1"), 1);
    assert_eq!(warnings("r2"), 0, "its client requests cancellations itself");
}

#[test]
fn a_restarted_daemon_resumes_where_it_stopped() {
    let place = gated();
    let kubeconfig = text(&place.path("kubeconfig"));
    let mut cluster = place
        .host(&["cluster", "--listen", "127.0.0.1:0", "--kubeconfig-out", &kubeconfig])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = std::io::BufReader::new(cluster.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut ready, &mut String::new()).unwrap();
    let on = ["--kubeconfig", kubeconfig.as_str()];

    let daemon = Daemon::start_on(&place, &on, &[]);
    daemon.run("r1", json!({}));
    let mut live = daemon.follow("r1", 0);
    live.by_ref().find(|event| event["text"] == "one").unwrap();
    let stopping = Instant::now();
    daemon.stop();
    assert!(stopping.elapsed().as_secs() < 10);

    let daemon = Daemon::start_on(&place, &on, &[]).when_ready();
    place.open_gate();
    let last = daemon.follow("r1", 0).last().unwrap();
    assert_eq!((&last["type"], &last["errorCode"]), (&json!("result"), &Value::Null), "{last}");
    let events = daemon.events("r1", 0);
    let lines: Vec<&str> = events
        .iter()
        .filter(|event| event["type"] == "log")
        .map(|event| event["text"].as_str().unwrap())
        .collect();
    assert_eq!(lines[..2], ["one", "two"]);
    assert_eq!(lines.len(), 2 + recording("ok").lines().count());
    for (number, event) in (0_u64..).zip(&events) {
        assert_eq!(event["seq"], number);
    }
    daemon.stop();
    let daemon = Daemon::start_on(&place, &on, &[]).when_ready();
    assert_eq!(daemon.events("r1", 0), events, "an ended run is kept");
    assert_eq!(daemon.state("r1")["state"], "succeeded");
    drop(daemon);
    assert_eq!(place.holds(TOKEN).filter(|path| path != &place.path("kubeconfig")), None);
    cluster.kill().unwrap();
    cluster.wait().unwrap();
}

#[test]
fn five_hundred_idle_followers_do_not_delay_a_run() {
    let place = gated();
    let daemon = Daemon::start(&place, &[]);
    daemon.run("r1", json!({}));
    daemon.follow("r1", 0).find(|event| event["text"] == "one").unwrap();
    let mut followers: Vec<TcpStream> = (0..500)
        .map(|_| {
            let mut stream = TcpStream::connect(daemon.address()).unwrap();
            stream
                .write_all(
                    format!(
                        "GET /v1/runs/r1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
                         Connection: close\r\n\r\n",
                        daemon.token()
                    )
                    .as_bytes(),
                )
                .unwrap();
            stream
        })
        .collect();
    // Half of them close their connections.
    followers.truncate(250);
    place.open_gate();
    assert_eq!(daemon.events("r1", 0).last().unwrap()["errorCode"], Value::Null);
    for follower in &mut followers {
        let mut text = String::new();
        follower.read_to_string(&mut text).unwrap();
        assert!(text.contains("\"type\":\"result\""), "{text}");
    }
}

#[test]
fn a_unix_socket_serves_without_a_token_and_is_removed_with_its_daemon() {
    let place = Place::new("true");
    let socket = place.path("socket");
    let listen = format!("unix:{}", socket.display());
    let mut child = place
        .host(&["serve", "--cluster", "local", "--log-format", "json", "--listen", &listen])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let log = std::io::BufReader::new(child.stderr.take().unwrap());
    let serves = std::io::BufRead::lines(log).map(Result::unwrap).any(|line| line.contains("serves"));
    assert!(serves);
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn a_configuration_is_checked_and_printed_without_a_start() {
    let place = Place::new("true");
    let file = place.path("serve.toml");
    fs::write(&file, "namespace = \"agents\"\n[limits]\nrun = 3\n").unwrap();
    let output = place.host(&["serve", "--check-config", "--config", &text(&file)]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("serve.toml:3:1") && stderr.contains("unknown field `run`"), "{stderr}");
    fs::write(&file, "namespace = \"agents\"\n").unwrap();
    let output = place
        .host(&["serve", "--print-config", "--config", &text(&file)])
        .env("PAPERCLIP_LISTEN", "127.0.0.1:1")
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        stdout.contains("listen = \"127.0.0.1:1\"") && stdout.contains("namespace = \"agents\""),
        "{stdout}"
    );
    let output = place.host(&["serve", "--listen", "0.0.0.0:0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// Method and path of each described route, with a run and an agent type that do not exist.
fn routes(openapi: &Value) -> Vec<(String, String)> {
    let paths = openapi["paths"].as_object().unwrap().iter();
    let routes = paths.flat_map(|(route, operations)| {
        let path = route.replace("{id}", "none").replace("{type}", "none");
        operations
            .as_object()
            .unwrap()
            .keys()
            .filter(|method| ["get", "post"].contains(&method.as_str()))
            .map(move |method| (method.to_uppercase(), path.clone()))
    });
    routes.collect()
}

#[test]
fn each_route_refuses_a_wrong_token_a_huge_body_and_unknown_objects() {
    let place = Place::new("true");
    fs::write(place.path("token"), "0123456789abcdef0123").unwrap();
    fs::write(place.path("serve.toml"), "[limits]\nrequest_mib = 1\n").unwrap();
    let args = ["--config", &text(&place.path("serve.toml")), "--token-file", &text(&place.path("token"))];
    let daemon = Daemon::start(&place, &args).with_token("wrong");
    let routes = routes(&daemon.get("/v1/openapi.json").json());
    assert!(routes.len() > 12, "{routes:?}");
    let is_open = |path: &str| ["/healthz", "/readyz", "/v1/openapi.json"].contains(&path);
    for (method, path) in &routes {
        let expected = if is_open(path) { 200 } else { 401 };
        assert_eq!(daemon.send(method, path, "").status, expected, "{method} {path}");
    }
    let daemon = daemon.with_token("0123456789abcdef0123");
    for (method, path) in &routes {
        if method == "POST" {
            assert_eq!(daemon.announce(path, (1 << 20) + 1), 413, "{method} {path}");
        }
        if path.contains("none") {
            let answer = daemon.send(method, path, "");
            assert_eq!(
                (answer.status, &answer.json()["error"]["code"]),
                (404, &json!("not_found")),
                "{method} {path}"
            );
        }
    }
}

#[test]
fn connections_that_are_dropped_leave_nothing() {
    let place = gated();
    let daemon = Daemon::start(&place, &[]);
    daemon.run("r1", json!({}));
    daemon.follow("r1", 0).find(|event| event["text"] == "one").unwrap();
    let head = format!("Host: localhost\r\nAuthorization: Bearer {}", daemon.token());
    for half in [
        "POST /v1/ru".to_owned(),
        format!(
            "POST /v1/runs HTTP/1.1\r\n{head}\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{{\"context\":"
        ),
        format!("GET /v1/runs/r1/events HTTP/1.1\r\n{head}\r\n\r\n"),
    ] {
        let mut stream = TcpStream::connect(daemon.address()).unwrap();
        stream.write_all(half.as_bytes()).unwrap();
    }
    // The stream of events is found to be dropped when there is more to send.
    place.open_gate();
    assert_eq!(daemon.events("r1", 0).last().unwrap()["errorCode"], Value::Null);
    while !daemon.get("/metrics").text.contains("paperclip_followers 0\n") {}
    let runs = daemon.get("/v1/runs").json();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1, "half a start is none");
}
