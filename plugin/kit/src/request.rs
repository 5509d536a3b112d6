//! The request of a run: Paperclip's execution context as the host parsed it. It holds no secret value.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One run of one agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    /// Paperclip's id of the heartbeat run.
    pub run_id: String,
    pub agent: Agent,
    pub runtime: Runtime,
    /// The agent's `config`, without `env`.
    pub config: Map<String, Value>,
    /// `config.env`, in the order in which it was written.
    pub config_env: Vec<EnvName>,
    /// Why the agent runs and on what: wake reason, task, workspace.
    pub context: Map<String, Value>,
    /// Whether the host holds a token for this run.
    pub has_auth_token: bool,
    /// Names of variables whose values the host masks in the run's output.
    pub masked_env: Vec<String>,
    /// Paperclip's pod. An entry of its environment that has neither `value` nor `valueFrom` is a literal whose value the host keeps.
    pub paperclip_pod: Option<Value>,
    /// Instructions, skills and other files for the agent. The files of a skill are below `skills/NAME/`.
    pub files: Vec<File>,
    /// The path of the instructions among the files.
    pub instructions_path: Option<String>,
    pub host: HostFacts,
}

/// The agent that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Agent {
    pub id: String,
    pub company_id: String,
    pub name: String,
    /// The agent type, such as `claude_k8s`.
    pub adapter_type: String,
}

/// The session that the run resumes, if any.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Runtime {
    pub session_id: Option<String>,
    pub session_params: Option<Value>,
    pub session_display_id: Option<String>,
    pub task_key: Option<String>,
}

impl Runtime {
    /// Returns the id of the session to resume: that of the session's parameters, else the plain id.
    pub fn session(&self) -> Option<&str> {
        self.session_params
            .as_ref()
            .and_then(|params| params.get("sessionId"))
            .and_then(Value::as_str)
            .filter(|id| !id.is_empty())
            .or_else(|| self.session_id.as_deref().filter(|id| !id.is_empty()))
    }
}

/// A name of `config.env`, and its value where the plugin may see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvName {
    pub name: String,
    pub value: Option<String>,
}

/// A file for the agent: a relative path with `/`, and its content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct File {
    pub path: String,
    /// Text, or base64 if `is_base64` is true.
    pub content: String,
    pub is_base64: bool,
    /// Permission bits; `None` is 0o644.
    pub mode: Option<u32>,
}

/// Facts about the host, which the operator configured for all runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostFacts {
    /// The namespace of runs whose config names none, where Paperclip's pod is unknown.
    pub default_namespace: Option<String>,
    /// Where agents reach Paperclip's API.
    pub api_url: Option<String>,
    /// Names that agents do not inherit from Paperclip's pod, beyond the built-in list; `*` matches any text.
    pub denied_env: Vec<String>,
    /// The clusters that the config field `kubeconfig` may name.
    pub clusters: Vec<String>,
    /// The ConfigMap with the init program.
    pub init_config_map: Option<String>,
}

/// Returns the text under a key of a config or context, unless it is empty.
pub fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    map.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The number of an attempt of a run, and how it treats the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// 1, or 2 if the first attempt could not resume its session.
    pub number: u32,
    /// The session of the request is not resumed.
    pub is_session_fresh: bool,
}

impl Attempt {
    pub const FIRST: Attempt = Attempt { number: 1, is_session_fresh: false };
    /// The attempt that follows a session that could not be resumed.
    pub const WITH_FRESH_SESSION: Attempt = Attempt { number: 2, is_session_fresh: true };
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_session_of_the_parameters_precedes_the_plain_id() {
        let with = |params: Value, id: Option<&str>| Runtime {
            session_params: Some(params),
            session_id: id.map(Into::into),
            ..Runtime::default()
        };
        assert_eq!(with(json!({"sessionId": "a"}), Some("b")).session(), Some("a"));
        assert_eq!(with(json!({"sessionId": ""}), Some("b")).session(), Some("b"));
        assert_eq!(with(json!({"sessionId": 3}), Some("b")).session(), Some("b"));
        assert_eq!(with(json!(["x"]), Some("")).session(), None);
    }
}
