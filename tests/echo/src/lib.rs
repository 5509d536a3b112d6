//! The smallest agent type. The tests of the state machine run it natively, and the host's tests run it as a component.

#[cfg(target_family = "wasm")]
mod exports;

use paperclip_kit::bindings::exports::paperclip::agent::types::{Descriptor, Observation};
use paperclip_kit::config::Settings;
use paperclip_kit::config::fields::Fields;
use paperclip_kit::machine::{Agent, Judgement, Watch};
use paperclip_kit::manifest::{AgentType, Call};
use paperclip_kit::outcome::{AdapterResult, ErrorCode, Evidence, RunFacts, StreamEnd};
use paperclip_kit::plugin::AgentPlugin;
use paperclip_kit::refusal::Refusal;
use paperclip_kit::request::{Attempt, Request};
use serde::{Deserialize, Serialize};

/// Lines are its events, unless they start with `#`. `reported` and `failed` report its end, `tasks N` says how many tasks are open, `again` starts
/// to work again, `retry N` is a status, and `loops` is a reason to stop it.
#[derive(Debug, Default)]
pub struct Echo;

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Lines(Vec<String>);

impl AgentType for Echo {
    fn adapter_type(&self) -> &'static str {
        "echo_k8s"
    }
    fn job_name_prefix(&self) -> &'static str {
        "ae"
    }
    fn container_name(&self) -> &'static str {
        "echo"
    }
    fn program(&self) -> &'static str {
        "echo"
    }
    fn forced_env(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
    fn arguments(&self, _call: &Call<'_>, _config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
        Ok(vec!["hello".to_owned()])
    }
}

impl Agent for Echo {
    type Stream = Lines;

    fn read_line(&self, stream: &mut Lines, line: &str) {
        stream.0.push(line.to_owned());
    }

    fn read_cut_line(&self, stream: &mut Lines, head: &str, tail: &str, _line_bytes: u64) {
        stream.0.push(format!("{head}…{tail}"));
    }

    fn read_stderr_line(&self, stream: &mut Lines, line: &str) {
        stream.0.push(line.to_owned());
    }

    fn event_count(&self, stream: &Lines) -> u64 {
        stream.0.iter().filter(|line| !line.starts_with('#')).count() as u64
    }

    fn ended(&self, stream: &Lines) -> StreamEnd {
        let tasks = |line: &String| line.strip_prefix("tasks ")?.parse().ok();
        let open_tasks = stream.0.iter().rev().find_map(tasks).unwrap_or(0);
        let ends = ["reported", "failed", "again"];
        match stream.0.iter().rev().find(|line| ends.contains(&line.as_str())).map(String::as_str) {
            None | Some("again") => StreamEnd::Open,
            Some(end) => StreamEnd::Ended { is_good: end == "reported", open_tasks },
        }
    }

    fn last_activity<'a>(&self, stream: &'a Lines) -> &'a str {
        stream.0.last().map_or("", String::as_str)
    }

    fn observations(&self, stream: &Lines) -> Vec<Observation> {
        let versions = stream.0.iter().filter_map(|line| line.strip_prefix("version "));
        let observation = |version: &str| Observation {
            kind: "cli-version".to_owned(),
            value: version.to_owned(),
            count: 1,
        };
        versions.map(observation).collect()
    }

    fn watch(&self, stream: &Lines) -> Watch {
        match stream.0.last().map(String::as_str) {
            Some("loops") => Watch::Stop("it repeats itself".to_owned()),
            Some(line) if line.starts_with("retry ") => Watch::Status(line.to_owned()),
            Some(_) | None => Watch::Fine,
        }
    }

    fn run_facts(&self, _request: &Request, _settings: &Settings, _attempt: Attempt) -> RunFacts {
        RunFacts::default()
    }

    fn judge(&self, evidence: &Evidence, stream: &Lines) -> Judgement {
        let mut result = AdapterResult { exit_code: evidence.exit_code(), ..AdapterResult::default() };
        result.summary = Some(stream.0.join("\n"));
        let is_done = matches!(self.ended(stream), StreamEnd::Ended { is_good: true, .. });
        if is_done && evidence.own_failure().is_none() {
            result.exit_code = None;
        } else if evidence.is_cancelled {
            result.error_code = Some(ErrorCode::CANCELLED);
            result.error_message = Some("Run cancelled".to_owned());
        } else if evidence.is_timed_out {
            result.error_code = Some(ErrorCode::TIMEOUT);
            result.error_message = Some("Timed out".to_owned());
        } else if let Some(quiet_sec) = evidence.quiet_sec {
            result.error_code = Some(ErrorCode::AGENT_QUIET);
            result.error_message = Some(format!("quiet for {quiet_sec} s"));
        } else if let Some(reason) = &evidence.stopped_for {
            result.error_code = Some(ErrorCode::LLM_API_ERROR);
            result.error_message = Some(reason.clone());
        } else if evidence.exit_code() != Some(0) {
            result.error_code = Some(ErrorCode::new("echo_exited"));
            let unobserved = evidence.describe_unobserved_end().unwrap_or_default();
            result.error_message = Some(unobserved + &evidence.pod_suffix());
        }
        let retry = stream.0.iter().any(|line| line == "no session").then(|| "retry".to_owned());
        Judgement { result, retry }
    }
}

impl AgentPlugin for Echo {
    fn describe() -> Descriptor {
        Descriptor {
            adapter_type: "echo_k8s".to_owned(),
            label: "Echo".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            container_name: "echo".to_owned(),
            revealed_env: Vec::new(),
            models: Vec::new(),
            config_schema_json: r#"{"fields":[]}"#.to_owned(),
            capabilities_json: "{}".to_owned(),
            doc: "Prints what it is asked.".to_owned(),
        }
    }

    fn classify(_at_ms: u64, _evidence_json: &str) -> Result<String, String> {
        Err("it judges only runs of its own".to_owned())
    }

    fn transcript(_line: &str, _at: &str) -> String {
        "[]".to_owned()
    }

    fn decode_session(_stored_json: &str) -> Option<String> {
        None
    }

    fn encode_session(_session_json: &str) -> Option<String> {
        None
    }
}
