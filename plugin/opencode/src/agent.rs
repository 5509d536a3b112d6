//! The agent type `opencode_k8s`.

use paperclip_kit::cli::{Cli, Identity, Instructions, ModelOption, Variables};
use paperclip_kit::config::fields::Fields;
use paperclip_kit::config::schema::ConfigField;
use paperclip_kit::manifest::mcp::{self, JsonPart, McpServer};
use paperclip_kit::manifest::{Call, ClaimMount};
use paperclip_kit::outcome::{Billing, BillingType};
use paperclip_kit::refusal::Refusal;
use paperclip_kit::request::text;
use paperclip_kit::stream::Event;
use paperclip_kit::transcript::TranscriptEntry;
use serde_json::{Map, Value};

use crate::stream::Stream;
use crate::{command, transcript};

/// How to configure an agent of this type. Markdown.
const DOC: &str = include_str!("agent_configuration.md");

/// Runs opencode.
#[derive(Debug, Default, Clone, Copy)]
pub struct Opencode;

const fn model(id: &'static str, label: &'static str) -> ModelOption {
    ModelOption { id, label, provider: "openai" }
}

impl Cli for Opencode {
    type Stream = Stream;

    const IDENTITY: Identity = Identity {
        adapter_type: "opencode_k8s",
        label: "opencode (Kubernetes)",
        version: env!("CARGO_PKG_VERSION"),
        container_name: "opencode",
        job_name_prefix: "ao",
        program: "opencode",
        credential: "OPENAI_API_KEY",
        revealed_env: &["PAPERCLIP_API_URL", "HOME", "PATH"],
        models: &[
            model("openai/gpt-5.2-codex", "GPT-5.2 Codex"),
            model("openai/gpt-5.5", "GPT-5.5"),
            model("openai/gpt-5.4", "GPT-5.4"),
            model("openai/gpt-5.4-mini", "GPT-5.4 mini"),
            model("openai/gpt-5.2", "GPT-5.2"),
            model("openai/gpt-5.1-codex-max", "GPT-5.1 Codex Max"),
            model("openai/gpt-5.1-codex-mini", "GPT-5.1 Codex mini"),
        ],
        doc: DOC,
    };
    const FORCED_ENV: &'static [(&'static str, &'static str)] = &[
        ("HOME", "/paperclip"),
        ("OPENCODE_DISABLE_PROJECT_CONFIG", "true"),
        ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
        ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1"),
    ];
    const INSTRUCTIONS: Instructions = Instructions::ByFile;
    /// Six hours: it waits as long as a provider says, and prints nothing meanwhile.
    const DEFAULT_TIMEOUT_SEC: Option<u32> = Some(6 * 3600);
    const SESSION_IS_BOUND_TO_CWD: bool = true;
    const PROTOCOL_MEMBERS: &'static [&'static str] = &[
        "type",
        "sessionID",
        "part.id",
        "part.messageID",
        "part.sessionID",
        "part.type",
        "part.tool",
        "part.callID",
        "part.state.status",
        "part.reason",
        "error.name",
    ];

    fn config_fields() -> Vec<ConfigField> {
        command::config_fields()
    }

    fn arguments(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
        command::arguments(call, config)
    }

    fn environment(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<(String, String)>, Refusal> {
        command::environment(call, config)
    }

    fn setup(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
        command::setup(call, config)
    }

    fn claims(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<ClaimMount>, Refusal> {
        command::claims(call, config)
    }

    fn mcp_config(servers: &[McpServer]) -> Option<Vec<JsonPart>> {
        Some(mcp::document_of("mcp", "remote", servers))
    }

    fn billing(config: &Map<String, Value>, _variables: &Variables<'_>) -> Billing {
        let provider =
            text(config, "model").and_then(|model| model.split_once('/')).map(|(provider, _)| provider);
        match provider {
            Some(provider) => Billing::new(provider, provider, BillingType::Api),
            None => Billing { billing_type: BillingType::Api, ..Billing::default() },
        }
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
        assert_eq!(
            unexplained_fields::<Opencode>(),
            Vec::<String>::new(),
            "missing in agent_configuration.md"
        );
    }
}
