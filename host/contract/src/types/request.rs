//! The request for a run.

#[cfg(feature = "component")]
use paperclip_contract_macros::wit;
use serde::{Deserialize, Serialize};

/// One run of one agent, parsed from Paperclip's execution context. Contains no secret value.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Paperclip's id of the heartbeat run. Never empty.
    pub run_id: String,
    /// The agent to run.
    pub agent: AgentIdentity,
    /// `runtime` of the execution context, an object: session id and parameters of the session to resume,
    /// task key.
    pub runtime_json: String,
    /// `config` of the execution context, an object, without `env`.
    pub config_json: String,
    /// The names of `config.env`, and the values of those names that
    /// [`Descriptor::revealed_env`](super::Descriptor::revealed_env) lists.
    pub config_env: Vec<EnvEntry>,
    /// `context` of the execution context, an object.
    pub context_json: String,
    /// Whether the execution context has a token for the run. The host keeps its value;
    /// [`SecretSource::AuthToken`](super::SecretSource::AuthToken) refers to it.
    pub has_auth_token: bool,
    /// The names of the variables whose values the host masks in the run's output. The token is masked too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked_env: Vec<String>,
    /// The Pod that Paperclip itself runs in (core/v1, JSON), if known. Literal values of its environment are
    /// removed, except empty ones, paths at or below a mount of their container, and those that
    /// [`Descriptor::revealed_env`](super::Descriptor::revealed_env) lists: an entry with neither `value` nor
    /// `valueFrom` is a literal that the plugin can refer to by
    /// [`SecretSource::PaperclipPodEnv`](super::SecretSource::PaperclipPodEnv).
    #[serde(rename = "self_pod_json")]
    pub paperclip_pod_json: Option<String>,
    /// Instructions, skills and other files for the agent. The files of a skill are below `skills/NAME/`.
    pub files: Vec<ContextFile>,
    /// The path of the agent's instructions among the files, if it has any. They may refer to files beside them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions_path: Option<String>,
    /// What the operator configured for all runs of this host.
    pub host: HostFacts,
}

/// The agent that runs.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentIdentity {
    pub id: String,
    pub company_id: String,
    pub name: String,
    /// The agent type, such as `claude_k8s`.
    pub adapter_type: String,
}

/// A name in an environment, and its value if the plugin is allowed to see it.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvEntry {
    pub name: String,
    pub value: Option<String>,
}

/// A file for the agent: a relative path with `/` as the separator, and its content.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextFile {
    pub path: String,
    /// Text, or base64 if [`is_base64`](ContextFile::is_base64) is true.
    pub content: String,
    /// Whether the file is not text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_base64: bool,
    /// The permission bits, such as 0o755; none means 0o644.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}

impl ContextFile {
    /// Returns a file with text and the usual permissions.
    pub fn text(path: impl Into<String>, content: impl Into<String>) -> ContextFile {
        ContextFile { path: path.into(), content: content.into(), is_base64: false, mode: None }
    }
}

/// Facts about the host that a plugin's policy depends on.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// The namespace for runs whose config names none while Paperclip's pod is unknown.
    pub default_namespace: Option<String>,
    /// The base URL at which agents reach Paperclip's API, if the operator configured it.
    pub paperclip_api_url: Option<String>,
    /// Names of environment variables that agents do not inherit, in addition to the built-in list. A `*` at
    /// the end is a wildcard.
    pub denied_env: Vec<String>,
    /// The values that `kubeconfig` in an agent's config can have.
    pub clusters: Vec<String>,
    /// The limits that the host enforces.
    pub limits: Limits,
    /// The ConfigMap that contains the init program, which the host creates in the namespace of a Job that mounts it. None if the host has no
    /// init program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_config_map: Option<String>,
}

/// Limits of what a plugin returns. Exceeding one ends the run with an error that names it.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Most commands that one call returns.
    pub max_commands: u32,
    /// Most timers that are set at the same time.
    pub max_timers: u32,
    /// Most bytes of all strings that one call returns.
    pub max_output_bytes: u64,
    /// Longest line that the plugin receives whole; of a longer one it receives head and tail.
    pub max_line_bytes: u32,
}

/// Why a plugin refuses a request. Nothing was created.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The errorCode of the result.
    pub code: String,
    /// The config or context field at fault, under the name that the user wrote, if there is one.
    pub field: Option<String>,
    /// What is wrong and what is expected, for a person.
    pub message: String,
}
