//! The description of a plugin.

#[cfg(feature = "component")]
use paperclip_contract_macros::wit;
use serde::{Deserialize, Serialize};

/// The description of an agent type, for Paperclip's server and for people.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// The agent type, such as `claude_k8s`.
    pub adapter_type: String,
    pub label: String,
    /// The version of the plugin, semver.
    pub version: String,
    /// The name of the container that the agent runs in.
    pub container_name: String,
    /// The names of environment variables whose values the plugin requests to see. The operator's grant
    /// decides.
    pub revealed_env: Vec<String>,
    /// The models to choose from, for each provider.
    pub models: Vec<Model>,
    /// Paperclip's adapter config schema, an object.
    pub config_schema_json: String,
    /// Paperclip's adapter flags, such as `supportsLocalAgentJwt`, an object.
    pub capabilities_json: String,
    /// How to configure an agent of this type, in Markdown.
    pub doc: String,
}

/// A model of an agent type.
#[cfg_attr(feature = "component", wit(record))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    pub id: String,
    pub label: String,
    /// The way to reach it, such as `direct` or `bedrock`.
    pub provider: String,
}
