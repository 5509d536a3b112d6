//! The program under test, and a stand-in for the agent's CLI.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The secret of every test: no copy of it may be found anywhere.
pub(crate) const TOKEN: &str = "canary-token-5d41402abc4b2a76b9719d91";

/// The folder of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

pub(crate) fn fixture(path: &str) -> PathBuf {
    workspace().join("tests/fixtures").join(path)
}

pub(crate) fn recording(name: &str) -> String {
    fs::read_to_string(fixture(&format!("claude-cli-2.1.330/{name}.ndjson"))).unwrap()
}

/// The plugin's component.
pub(crate) fn plugin() -> PathBuf {
    plugin_of("claude_k8s")
}

/// The component of an agent type.
pub(crate) fn plugin_of(agent_type: &str) -> PathBuf {
    let path = workspace().join(format!("dist/plugins/{agent_type}.wasm"));
    assert!(path.is_file(), "{} is missing: run `cargo xtask test`, which builds it", path.display());
    path
}

/// A folder of its own for each test: home, state, and a PATH with the stand-in agent.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    /// With an agent that runs this shell script; the prompt is its standard input.
    pub(crate) fn new(agent: &str) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(place.path("bin")).unwrap();
        fs::create_dir(place.path("home")).unwrap();
        let script = place.path("bin/claude");
        fs::write(&script, format!("#!/bin/sh\n{agent}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        place
    }

    /// Replaces the agent's script.
    pub(crate) fn with_agent(self, agent: &str) -> Place {
        fs::write(self.path("bin/claude"), format!("#!/bin/sh\n{agent}\n")).unwrap();
        self
    }

    /// With an agent that plays a recording and then ends with this shell command.
    pub(crate) fn playing(output: &str, end: &str) -> Place {
        let place = Place::new(&format!("cat >/dev/null\ncat \"$(dirname \"$0\")/output\"\n{end}"));
        fs::write(place.path("bin/output"), output).unwrap();
        place
    }

    /// With an agent that does one thing, waits for [`Place::open_gate`], does another, and plays the good recording.
    pub(crate) fn gated(before: &str, after: &str) -> Place {
        let place = Place::playing(&recording("ok"), "");
        let gate = place.path("gate");
        let wait = format!("while [ ! -e {} ]; do sleep 0.05; done", gate.display());
        place.with_agent(&format!(
            "cat >/dev/null\n{before}\n{wait}\n{after}\ncat \"$(dirname \"$0\")/output\""
        ))
    }

    pub(crate) fn open_gate(&self) {
        fs::write(self.path("gate"), "").unwrap();
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Writes a context with this config and returns its path.
    pub(crate) fn context(&self, config: Value) -> PathBuf {
        let mut config = config;
        config["image"] = json!("local/agent:1");
        let context = json!({
            "runId": "0b7c2f6e-1111-4222-8333-444455556666",
            "agent": {"id": "nova", "companyId": "acme", "name": "Nova", "adapterType": "claude_k8s"},
            "runtime": {}, "config": config, "context": {"taskId": "T-1"}, "authToken": TOKEN,
        });
        let path = self.path("context.json");
        fs::write(&path, context.to_string()).unwrap();
        path
    }

    /// The program with these arguments, away from the caller's own settings.
    pub(crate) fn host(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paperclip-host"));
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .args(args)
            .env_clear()
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("HOME", self.path("home"))
            .env("PAPERCLIP_STATE", self.path("state"))
            // Nothing listens there: runs are over before the first request.
            .env("PAPERCLIP_API_URL", "http://127.0.0.1:9")
            // All tests share what was compiled of the plugin.
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .stdin(Stdio::null());
        command
    }

    /// A run on the local cluster, to its end.
    pub(crate) fn run(&self, config: Value) -> Finished {
        let context = self.context(config);
        let output = self
            .host(&["run", "--cluster", "local", "--output", "ndjson", "--context"])
            .arg(context)
            .output()
            .unwrap();
        Finished::of(output)
    }

    /// The same, with the files that the config names read from the test's home folder.
    pub(crate) fn run_at_home(&self, config: Value) -> Finished {
        let context = self.context(config);
        let output = self
            .host(&["run", "--cluster", "local", "--output", "ndjson", "--context"])
            .arg(context)
            .arg("--paperclip-home")
            .arg(self.path("home"))
            .output()
            .unwrap();
        Finished::of(output)
    }

    /// Starts a run on the local cluster that continues while the test does.
    pub(crate) fn start(&self, config: Value) -> Running {
        let context = self.context(config);
        let mut command = self.host(&["run", "--cluster", "local", "--output", "ndjson", "--context"]);
        Running::of(command.arg(context))
    }

    /// A local cluster in a process of its own: it and its agents outlive hosts.
    pub(crate) fn cluster(&self) -> Cluster {
        let kubeconfig = self.path("kubeconfig");
        let mut command = self.host(&["cluster", "--listen", "127.0.0.1:0", "--kubeconfig-out"]);
        let mut child = command.arg(&kubeconfig).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("Ctrl-C") {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "the cluster did not start");
        }
        Cluster { child, kubeconfig, _out: out }
    }

    /// Whether any file below the folder, but the context that the test wrote, holds this text.
    pub(crate) fn holds(&self, text: &str) -> Option<PathBuf> {
        find(self.dir.path(), &self.path("context.json"), text.as_bytes())
    }
}

fn find(dir: &Path, but: &Path, needle: &[u8]) -> Option<PathBuf> {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if let Some(found) = find(&path, but, needle) {
                return Some(found);
            }
        } else if path != but
            && path.is_file()
            && fs::read(&path).unwrap().windows(needle.len()).any(|window| window == needle)
        {
            return Some(path);
        }
    }
    None
}

/// Ends with the test.
pub(crate) struct Cluster {
    child: Child,
    kubeconfig: PathBuf,
    _out: BufReader<ChildStdout>,
}

impl Cluster {
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Stops the process or lets it continue: requests wait meanwhile.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A run that came to its end.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) records: Vec<Value>,
}

impl Finished {
    pub(crate) fn of(output: Output) -> Finished {
        let stdout = String::from_utf8(output.stdout).unwrap();
        let records = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Finished { code: output.status.code(), stdout, stderr, records }
    }

    /// Returns the lines of a stream, after a check of their indices.
    pub(crate) fn lines(&self, stream: &str) -> Vec<&str> {
        let logs = || self.records.iter().filter(|record| record["type"] == "log");
        for (index, record) in logs().enumerate() {
            assert_eq!(record["index"], index as u64, "{record}");
        }
        logs()
            .filter(|record| record["stream"] == stream)
            .map(|record| record["text"].as_str().unwrap())
            .collect()
    }

    pub(crate) fn result(&self) -> &Value {
        let last = self.records.last().unwrap_or_else(|| panic!("no record; stderr: {}", self.stderr));
        assert_eq!(last["type"], "result", "{last}; stderr: {}", self.stderr);
        assert_eq!(self.records.iter().filter(|record| record["type"] == "result").count(), 1);
        last
    }
}

/// A run under way. Killed when the test ends early.
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    records: Vec<Value>,
}

impl Running {
    pub(crate) fn of(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Running { child, stdout, records: Vec::new() }
    }

    /// Reads records until one matches.
    pub(crate) fn wait_for(&mut self, matches: impl Fn(&Value) -> bool) -> Value {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.stdout.read_line(&mut line).unwrap();
            assert!(read > 0, "the output ended before; so far: {:#?}", self.records);
            let record: Value = serde_json::from_str(&line).unwrap();
            self.records.push(record.clone());
            if matches(&record) {
                return record;
            }
        }
    }

    pub(crate) fn wait_for_line(&mut self, text: &str) {
        self.wait_for(|record| record["type"] == "log" && record["text"] == text);
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn finish(mut self) -> Finished {
        let mut line = String::new();
        while self.stdout.read_line(&mut line).unwrap() > 0 {
            self.records.push(serde_json::from_str(&line).unwrap());
            line.clear();
        }
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut stderr).unwrap();
        let code = self.child.wait().unwrap().code();
        Finished { code, stdout: String::new(), stderr, records: std::mem::take(&mut self.records) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
