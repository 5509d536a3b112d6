//! Who this agent type is, as Paperclip's server asks an adapter. The form of its configuration is
//! `command::config_fields`.

use serde::Serialize;

pub const ADAPTER_TYPE: &str = "claude_k8s";
pub const LABEL: &str = "Claude Code (Kubernetes)";
/// The container that the agent runs in.
pub const CONTAINER_NAME: &str = "claude";
/// Variables whose values the judgement and the manifest depend on; all others stay with the host.
pub const REVEALED_ENV: [&str; 6] = [
    "CLAUDE_CODE_USE_BEDROCK",
    "ANTHROPIC_BEDROCK_BASE_URL",
    "PAPERCLIP_API_URL",
    "HOME",
    "PATH",
    "NODE_OPTIONS",
];
/// The members of the CLI's events whose strings are its protocol, not text: they are never masked.
pub const PROTOCOL_MEMBERS: [&str; 30] = [
    "type",
    "subtype",
    "session_id",
    "uuid",
    "parent_tool_use_id",
    "request_id",
    "task_id",
    "model",
    "claude_code_version",
    "status",
    "error",
    "api_error_type",
    "terminal_reason",
    "stop_reason",
    "stopReason",
    "error_code",
    "errorCode",
    "errors.type",
    "rate_limit_info.status",
    "rate_limit_info.rateLimitType",
    "message.id",
    "message.type",
    "message.role",
    "message.model",
    "message.stop_reason",
    "message.content.type",
    "message.content.id",
    "message.content.name",
    "message.content.tool_use_id",
    "event.type",
];
/// How to configure an agent of this type, for people and for agents that configure others. Markdown.
pub const AGENT_CONFIGURATION_DOC: &str = include_str!("agent_configuration.md");

/// What the server may rely on: its flags of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// A run gets a token for Paperclip's API.
    pub supports_local_agent_jwt: bool,
    pub supports_instructions_bundle: bool,
    /// The config field that holds the path of the instructions.
    pub instructions_path_key: &'static str,
    /// Skills come with the context, not from a folder of the server.
    pub requires_materialized_runtime_skills: bool,
    pub session_management: SessionManagement,
}

/// How sessions are continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionManagement {
    pub supports_session_resume: bool,
    /// The CLI itself keeps a session within its context.
    pub native_context_management: &'static str,
    pub default_session_compaction: SessionCompaction,
}

/// When the server is to start a new session. 0 is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionCompaction {
    pub enabled: bool,
    pub max_session_runs: u32,
    pub max_raw_input_tokens: u32,
    pub max_session_age_hours: u32,
}

pub const CAPABILITIES: Capabilities = Capabilities {
    supports_local_agent_jwt: true,
    supports_instructions_bundle: true,
    instructions_path_key: "instructionsFilePath",
    requires_materialized_runtime_skills: false,
    session_management: SessionManagement {
        supports_session_resume: true,
        native_context_management: "confirmed",
        default_session_compaction: SessionCompaction {
            enabled: true,
            max_session_runs: 0,
            max_raw_input_tokens: 0,
            max_session_age_hours: 0,
        },
    },
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::command::config_fields;

    #[test]
    fn the_flags_have_the_servers_names() {
        assert_eq!(
            serde_json::to_value(CAPABILITIES).unwrap(),
            json!({
                "supportsLocalAgentJwt": true,
                "supportsInstructionsBundle": true,
                "instructionsPathKey": "instructionsFilePath",
                "requiresMaterializedRuntimeSkills": false,
                "sessionManagement": {
                    "supportsSessionResume": true,
                    "nativeContextManagement": "confirmed",
                    "defaultSessionCompaction": {
                        "enabled": true, "maxSessionRuns": 0, "maxRawInputTokens": 0, "maxSessionAgeHours": 0,
                    },
                },
            })
        );
    }

    #[test]
    fn the_doc_explains_every_field_of_the_form() {
        for field in config_fields() {
            let name = format!("`{}`", field.key);
            assert!(AGENT_CONFIGURATION_DOC.contains(&name), "{name} is missing in agent_configuration.md");
        }
    }
}
