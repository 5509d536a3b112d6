//! The real CLIs of the other agent types on the local cluster, with scripted APIs in place of their providers.
//!
//! `cargo xtask agents e2e` installs the CLIs in the versions of the recordings, builds the APIs, and runs these tests. They are not part of
//! `cargo test`, which needs no network.

// Helpers of tests may fail the test, too; those of the other tests are not all used here.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "not all of it is used here")]
#[path = "../it/host.rs"]
mod host;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use host::{Finished, Place, Running};

/// Names the program of the scripted APIs.
const API: &str = "PAPERCLIP_TEST_MODEL_APIS";
/// How long that may take to listen.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);
/// Of one answer of the APIs, without those from the cache.
const INPUT_TOKENS: u64 = 1_000;
const KEY: &str = "scripted-key-0123456789";
const MCP_TOKEN: &str = "scripted-mcp-token-0123456789";

/// An agent type and how its CLI finds the scripted API.
struct AgentType {
    name: &'static str,
    /// What names its CLI's command.
    variable: &'static str,
    /// The config of a run whose API is at this address.
    config: fn(&str) -> Value,
}

impl AgentType {
    /// Returns its program, which is also what its error codes start with.
    fn agent(&self) -> &'static str {
        self.name.trim_end_matches("_k8s")
    }
}

const CODEX: AgentType = AgentType {
    name: "codex_k8s",
    variable: "PAPERCLIP_TEST_CODEX",
    config: |url| {
        json!({"model": "scripted", "modelProvider": "scripted", "baseUrl": format!("{url}/v1"), "envKey": "SCRIPTED_KEY",
            "env": {"SCRIPTED_KEY": KEY}})
    },
};
const GEMINI: AgentType = AgentType {
    name: "gemini_k8s",
    variable: "PAPERCLIP_TEST_GEMINI",
    config: |url| {
        json!({"model": "gemini-2.5-flash", "authType": "gemini-api-key",
            "env": {"GEMINI_API_KEY": KEY, "GOOGLE_GEMINI_BASE_URL": url}})
    },
};
const OPENCODE: AgentType = AgentType {
    name: "opencode_k8s",
    variable: "PAPERCLIP_TEST_OPENCODE",
    config: |url| {
        json!({"model": "scripted/model", "providers": {"scripted": {"npm": "@ai-sdk/openai-compatible",
                "options": {"baseURL": format!("{url}/v1"), "apiKey": "{env:SCRIPTED_KEY}"}}},
            "env": {"SCRIPTED_KEY": KEY, "OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1"}})
    },
};

fn program(variable: &str) -> String {
    let path = std::env::var(variable);
    path.unwrap_or_else(|_| panic!("{variable} is not set: run these tests by `cargo xtask agents e2e`"))
}

/// Runs of a CLI against a script of the APIs.
struct Stage {
    agent_type: &'static AgentType,
    place: Place,
    api: Child,
    /// Where the script is.
    url: String,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.api.kill();
        let _ = self.api.wait();
    }
}

impl Stage {
    fn new(agent_type: &'static AgentType, script: &str) -> Stage {
        let place = Place::new("exit 1");
        let cli = place.path("bin").join(agent_type.agent());
        fs::write(&cli, format!("#!/bin/sh\nexec {} \"$@\"\n", program(agent_type.variable))).unwrap();
        fs::set_permissions(cli, fs::Permissions::from_mode(0o755)).unwrap();
        let port_file = place.path("port");
        let api = Command::new(program(API)).arg(&port_file).spawn().unwrap();
        let start = Instant::now();
        let port = loop {
            if let Ok(port) = fs::read_to_string(&port_file) {
                break port;
            }
            assert!(start.elapsed() < LISTENS_WITHIN, "the scripted APIs do not listen");
            std::thread::yield_now();
        };
        Stage { agent_type, place, api, url: format!("http://127.0.0.1:{port}/{script}") }
    }

    /// Starts a run that resumes the session of an earlier result, if there is one, with further members of its context.
    fn start(&self, earlier: Option<&Value>, further: &Value) -> Running {
        let mut config = (self.agent_type.config)(&self.url);
        config["promptTemplate"] = json!("Do the task.");
        config["timeoutSec"] = json!(120);
        for (name, value) in further["env"].as_object().into_iter().flatten() {
            config["env"][name] = value.clone();
        }
        let path = self.place.context(config);
        let mut context: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        context["agent"]["adapterType"] = json!(self.agent_type.name);
        if let Some(result) = earlier {
            context["runId"] = json!("0b7c2f6e-1111-4222-8333-444455556667");
            context["runtime"] =
                json!({"sessionId": result["sessionId"], "sessionParams": result["sessionParams"]});
        }
        for (name, value) in further["context"].as_object().into_iter().flatten() {
            context["context"][name] = value.clone();
        }
        fs::write(&path, context.to_string()).unwrap();
        // A claim at `/paperclip`, where the CLIs keep their sessions.
        let configuration = self.place.path("host.toml");
        fs::write(&configuration, "journal = \"best-effort\"\n[agents]\nvolume_claim = \"data\"\n").unwrap();
        let mut host = self.place.host(&["run", "--cluster", "local", "--output", "ndjson", "--context"]);
        Running::of(host.arg(path).arg("--config").arg(configuration))
    }

    fn run(&self, earlier: Option<&Value>) -> Finished {
        self.start(earlier, &Value::Null).finish()
    }
}

/// Checks that a run succeeded at its first attempt.
fn succeeded(run: &Finished) {
    let result = run.result();
    let what = || format!("{result}; {:#?}; {}", run.records, run.stderr);
    assert_eq!((&result["errorCode"], run.code), (&Value::Null, Some(0)), "{}", what());
    assert_eq!(result["summary"], "All done.", "{}", what());
    let attempts = run.records.iter().filter(|record| record["type"] == "meta").count();
    assert_eq!(attempts, 1, "{}", what());
}

fn succeeds(agent_type: &'static AgentType) {
    let run = Stage::new(agent_type, "ok").run(None);
    succeeded(&run);
    let result = run.result();
    assert_eq!(result["usage"]["inputTokens"], INPUT_TOKENS, "{result}");
    assert!(result["sessionId"].as_str().is_some_and(|session| session.len() > 20), "{result}");
}

fn uses_a_tool(agent_type: &'static AgentType) {
    let run = Stage::new(agent_type, "tool").run(None);
    succeeded(&run);
    let is_tools = |line: &&str| line.contains("from the shell") && line.contains("SHELL_DONE");
    assert!(run.lines("stdout").iter().any(is_tools), "{:#?}", run.records);
}

fn resumes_its_session(agent_type: &'static AgentType) {
    let stage = Stage::new(agent_type, "ok");
    let first = stage.run(None);
    succeeded(&first);
    let second = stage.run(Some(first.result()));
    succeeded(&second);
    assert_eq!(second.result()["sessionId"], first.result()["sessionId"], "{}", second.result());
}

fn names_a_refused_key(agent_type: &'static AgentType) {
    let run = Stage::new(agent_type, "refused").run(None);
    let result = run.result();
    let code = format!("{}_auth_required", agent_type.agent());
    assert_eq!(result["errorCode"], code.as_str(), "{result}; {}", run.stderr);
}

fn is_cancelled(agent_type: &'static AgentType) {
    let stage = Stage::new(agent_type, "hang");
    let mut started = stage.start(None, &Value::Null);
    started.wait_for(|record| record["type"] == "log" && record["stream"] == "stdout");
    started.signal(rustix::process::Signal::INT);
    let finished = started.finish();
    assert_eq!(finished.result()["errorCode"], "cancelled", "{}", finished.result());
}

/// The token of an MCP server reaches the server, and neither an argument nor the output.
fn reaches_an_mcp_server(agent_type: &'static AgentType) {
    let stage = Stage::new(agent_type, "mcp");
    let servers = json!([{"name": "scripted", "url": format!("{}/mcp", stage.url), "tokenEnv": "PAPERCLIP_MCP_TOKEN_1"}]);
    let further =
        json!({"env": {"PAPERCLIP_MCP_TOKEN_1": MCP_TOKEN}, "context": {"paperclipMcpServers": servers}});
    let run = stage.start(None, &further).finish();
    succeeded(&run);
    assert!(!run.records.iter().any(|record| record.to_string().contains(MCP_TOKEN)), "{:#?}", run.records);
}

macro_rules! agent_types {
    ($($agent:ident: $agent_type:expr,)*) => {$(
        mod $agent {
            #[test]
            fn succeeds() {
                super::succeeds(&$agent_type);
            }

            #[test]
            fn uses_a_tool() {
                super::uses_a_tool(&$agent_type);
            }

            #[test]
            fn resumes_its_session() {
                super::resumes_its_session(&$agent_type);
            }

            #[test]
            fn names_a_refused_key() {
                super::names_a_refused_key(&$agent_type);
            }

            #[test]
            fn is_cancelled() {
                super::is_cancelled(&$agent_type);
            }

            #[test]
            fn reaches_an_mcp_server() {
                super::reaches_an_mcp_server(&$agent_type);
            }
        }
    )*};
}

agent_types! {
    codex: crate::CODEX,
    gemini: crate::GEMINI,
    opencode: crate::OPENCODE,
}
