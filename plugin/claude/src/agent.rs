//! The agent type `claude_k8s`.

use paperclip_kit::cli::{Cli, Identity, Instructions, Variables};
use paperclip_kit::config::fields::Fields;
use paperclip_kit::config::schema::ConfigField;
use paperclip_kit::manifest::Call;
use paperclip_kit::manifest::mcp::{self, JsonPart, McpServer};
use paperclip_kit::outcome::{Billing, BillingType};
use paperclip_kit::refusal::Refusal;
use paperclip_kit::transcript::TranscriptEntry;
use serde_json::{Map, Value};

use crate::models::{MODELS, is_bedrock};
use crate::stream::Stream;
use crate::stream::event::Event;
use crate::{command, transcript};

/// How to configure an agent of this type, for people and for agents that configure others. Markdown.
const AGENT_CONFIGURATION_DOC: &str = include_str!("agent_configuration.md");

/// Runs the Claude Code CLI.
#[derive(Debug, Default, Clone, Copy)]
pub struct Claude;

impl Cli for Claude {
    type Stream = Stream;

    const IDENTITY: Identity = Identity {
        adapter_type: "claude_k8s",
        label: "Claude Code (Kubernetes)",
        version: env!("CARGO_PKG_VERSION"),
        container_name: "claude",
        job_name_prefix: "ac",
        program: "claude",
        credential: "ANTHROPIC_API_KEY",
        revealed_env: &[
            "CLAUDE_CODE_USE_BEDROCK",
            "ANTHROPIC_BEDROCK_BASE_URL",
            "PAPERCLIP_API_URL",
            "HOME",
            "PATH",
            "NODE_OPTIONS",
        ],
        models: MODELS,
        doc: AGENT_CONFIGURATION_DOC,
    };
    const INSTRUCTIONS: Instructions = Instructions::ByFile;
    const SKILLS_DIR: &'static str = ".claude/skills";
    const PROTOCOL_MEMBERS: &'static [&'static str] = &[
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

    fn config_fields() -> Vec<ConfigField> {
        command::config_fields()
    }

    fn arguments(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
        command::arguments(call, config)
    }

    fn mcp_config(servers: &[McpServer]) -> Option<Vec<JsonPart>> {
        Some(mcp::document(servers))
    }

    fn billing(_config: &Map<String, Value>, variables: &Variables<'_>) -> Billing {
        let biller = if is_bedrock(|name| variables.value(name)) { "aws_bedrock" } else { "anthropic" };
        Billing::new("anthropic", biller, BillingType::Api)
    }

    fn entries_of<'a>(event: &Event<'a>, ts: &'a str, to: &mut Vec<TranscriptEntry<'a>>) {
        transcript::push_event(event, ts, to);
    }
}

#[cfg(test)]
mod tests {
    use paperclip_parity::form::unexplained_fields;

    use super::*;

    #[test]
    fn the_doc_explains_every_field_of_the_form() {
        assert_eq!(unexplained_fields::<Claude>(), Vec::<String>::new(), "missing in agent_configuration.md");
    }
}
