//! A daemon under test and its client.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::{Value, json};
use ureq::http::{Request, Response};

use crate::host::{Place, TOKEN};

/// A daemon on a port of its own. Killed when the test ends early.
pub(crate) struct Daemon {
    child: Child,
    log: BufReader<ChildStderr>,
    url: String,
    /// Where it serves besides.
    other_url: Option<String>,
    agent: ureq::Agent,
    token: Option<String>,
    /// Sent with each request.
    headers: Vec<(&'static str, String)>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Daemon {
    /// Starts on the local cluster of its own process.
    pub(crate) fn start(place: &Place, args: &[&str]) -> Daemon {
        Daemon::start_on(place, &["--cluster", "local"], args)
    }

    pub(crate) fn start_on(place: &Place, cluster: &[&str], args: &[&str]) -> Daemon {
        let mut command = Daemon::command(place);
        command.args(cluster).args(args);
        Daemon::spawn(place, command)
    }

    /// Starts a replica with a state folder of its own, which others reach with the key in this file.
    pub(crate) fn replica(place: &Place, cluster: &[&str], name: &str, key: &str) -> Daemon {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (address, url) = (format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{port}"));
        let key_file = place.path(&format!("{name}-key"));
        std::fs::write(&key_file, key).unwrap();
        let (state, key_file) = (text(&place.path(name)), text(&key_file));
        let mut command = place.host(&["serve", "--listen", &address, "--log-format", "json"]);
        command.args(cluster).args([
            "--advertise-url",
            &url,
            "--state",
            &state,
            "--peer-key-file",
            &key_file,
        ]);
        Daemon::spawn(place, command)
    }

    /// Starts on the local cluster of its own process, without the URL of Paperclip's API.
    pub(crate) fn start_without_api_url(place: &Place) -> Daemon {
        let mut command = Daemon::command(place);
        command.args(["--cluster", "local"]).env_remove("PAPERCLIP_API_URL");
        Daemon::spawn(place, command)
    }

    fn command(place: &Place) -> Command {
        place.host(&["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
    }

    fn spawn(place: &Place, mut command: Command) -> Daemon {
        let named =
            command.get_args().skip_while(|arg| *arg != "--state").nth(1).map(std::path::PathBuf::from);
        let state = named.unwrap_or_else(|| place.path("state"));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        let several = command.get_args().filter(|arg| *arg == "--listen").count() > 1;
        let mut serves = || loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it served: {seen}");
            seen.push_str(&line);
            let record: Value = serde_json::from_str(&line).unwrap_or_default();
            if record["message"] == "serves" {
                break record["address"].as_str().unwrap().to_owned();
            }
        };
        let url = serves();
        let other_url = several.then(serves);
        // A connection whose request was refused before its body was read is not used again.
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).max_idle_connections(0).build();
        // As every client of the machine finds it.
        let token = std::fs::read_to_string(state.join("token")).ok().map(|token| token.trim().to_owned());
        Daemon { child, log, url, other_url, agent: config.into(), token, headers: Vec::new() }
    }

    pub(crate) fn with_token(mut self, token: &str) -> Daemon {
        self.token = Some(token.to_owned());
        self
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Daemon {
        if name == "Authorization" {
            self.token = None;
        }
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Waits until all runs of an earlier daemon are resumed.
    pub(crate) fn when_ready(self) -> Daemon {
        while self.get("/readyz").status != 200 {}
        self
    }

    /// Its second address, if it has one.
    pub(crate) fn other_address(&self) -> Option<&str> {
        self.other_url.as_deref()
    }

    /// Without a token, as a stranger.
    pub(crate) fn without_token(mut self) -> Daemon {
        self.token = None;
        self
    }

    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send("POST", path, &body)
    }

    pub(crate) fn put(&self, path: &str, wasm: &[u8]) -> Answer {
        self.send_as("application/wasm", "PUT", path, wasm)
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send_as("application/json", method, path, body.as_bytes())
    }

    fn send_as(&self, content_type: &str, method: &str, path: &str, body: &[u8]) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("Content-Type", content_type);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let mut response: Response<ureq::Body> = if body.is_empty() {
            self.agent.run(request.body(()).unwrap()).unwrap()
        } else {
            self.agent.run(request.body(body.to_owned()).unwrap()).unwrap()
        };
        let text = response.body_mut().with_config().limit(64 << 20).read_to_string().unwrap();
        Answer { status: response.status().as_u16(), text }
    }

    /// The status of the answer to a POST that announces a body of this size, before any of it is sent: a server that
    /// refuses it need not read it.
    pub(crate) fn announce(&self, path: &str, bytes: usize) -> u16 {
        let (token, address) = (self.token(), self.address());
        let mut stream = TcpStream::connect(self.address()).unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {bytes}\r\n\r\n"
        )
        .unwrap();
        let mut status = String::new();
        BufReader::new(stream).read_line(&mut status).unwrap();
        status.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{status:?}"))
    }

    /// Starts a run of the stand-in agent.
    pub(crate) fn run(&self, run_id: &str, config: Value) -> Answer {
        self.post("/v1/runs", &json!({ "context": context(run_id, "claude_k8s", config) }))
    }

    /// All events from a number on; waits for the run's end.
    pub(crate) fn events(&self, run_id: &str, from: u64) -> Vec<Value> {
        let answer = self.get(&format!("/v1/runs/{run_id}/events?from={from}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The lines of a live event stream.
    pub(crate) fn follow(&self, run_id: &str, from: u64) -> impl Iterator<Item = Value> + use<> {
        let url = format!("{}/v1/runs/{run_id}/events?from={from}", self.url);
        let authorization = format!("Bearer {}", self.token());
        let response = self.agent.get(url).header("Authorization", authorization).call().unwrap();
        let lines = BufReader::new(response.into_body().into_reader()).lines();
        lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap())
    }

    pub(crate) fn state(&self, run_id: &str) -> Value {
        self.get(&format!("/v1/runs/{run_id}")).json()
    }

    /// Reads its log until a line has this message.
    pub(crate) fn wait_for_log(&mut self, message: &str) -> Value {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "it ended: {seen}");
            let record: Value = serde_json::from_str(&line).unwrap_or_default();
            if record["message"] == message {
                return record;
            }
            seen.push_str(&line);
        }
    }

    /// The most memory that it was resident with.
    pub(crate) fn peak_memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() >> 10
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// SIGTERM, and the rest of its log.
    pub(crate) fn stop(mut self) -> String {
        self.terminate();
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{log}");
        log
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn context(run_id: &str, adapter_type: &str, config: Value) -> Value {
    let mut config = config;
    config["image"] = json!("local/agent:1");
    json!({
        "runId": run_id,
        "agent": {"id": format!("agent-{run_id}"), "companyId": "acme", "name": "Nova", "adapterType": adapter_type},
        "runtime": {}, "config": config, "context": {"taskId": "T-1"}, "authToken": TOKEN,
    })
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
