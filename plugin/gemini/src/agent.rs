//! The agent type `gemini_k8s`.

use paperclip_kit::cli::{Cli, Identity, ModelOption, Variables};
use paperclip_kit::config::fields::Fields;
use paperclip_kit::config::schema::ConfigField;
use paperclip_kit::manifest::{Call, OutputBy};
use paperclip_kit::outcome::{Billing, BillingType};
use paperclip_kit::refusal::Refusal;
use paperclip_kit::stream::Event;
use paperclip_kit::transcript::TranscriptEntry;
use serde_json::{Map, Value};

use crate::stream::Stream;
use crate::{command, transcript};

/// How to configure an agent of this type. Markdown.
const DOC: &str = include_str!("agent_configuration.md");

/// Runs the Gemini CLI.
#[derive(Debug, Default, Clone, Copy)]
pub struct Gemini;

const fn model(id: &'static str, label: &'static str) -> ModelOption {
    ModelOption { id, label, provider: "google" }
}

impl Cli for Gemini {
    type Stream = Stream;

    const IDENTITY: Identity = Identity {
        adapter_type: "gemini_k8s",
        label: "Gemini CLI (Kubernetes)",
        version: env!("CARGO_PKG_VERSION"),
        container_name: "gemini",
        job_name_prefix: "ag",
        program: "gemini",
        credential: "GEMINI_API_KEY",
        revealed_env: &["PAPERCLIP_API_URL", "HOME", "PATH"],
        models: &[
            model("auto", "The CLI's choice"),
            model("gemini-3.1-pro-preview", "Gemini 3.1 Pro (preview)"),
            model("gemini-3.1-pro-preview-customtools", "Gemini 3.1 Pro, custom tools (preview)"),
            model("gemini-2.5-pro", "Gemini 2.5 Pro"),
            model("gemini-2.5-flash", "Gemini 2.5 Flash"),
            model("gemini-2.5-flash-lite", "Gemini 2.5 Flash-Lite"),
            model("gemini-2.0-flash", "Gemini 2.0 Flash"),
            model("gemini-2.0-flash-lite", "Gemini 2.0 Flash-Lite"),
        ],
        doc: DOC,
    };
    /// Without the first, SIGTERM would not reach the CLI: it runs as a child of itself.
    const FORCED_ENV: &'static [(&'static str, &'static str)] =
        &[("GEMINI_CLI_NO_RELAUNCH", "true"), ("HOME", "/paperclip"), ("NO_BROWSER", "1")];
    const DEFAULT_ENV: &'static [(&'static str, &'static str)] =
        &[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")];
    /// Of a line over 256 KiB the rest and everything after it is lost when the CLI exits.
    const OUTPUT_BY: OutputBy = OutputBy::File;
    const SESSION_IS_BOUND_TO_CWD: bool = true;
    const MCP_TOKENS_IN_ENV: bool = true;
    const PROTOCOL_MEMBERS: &'static [&'static str] = &[
        "type",
        "subtype",
        "session_id",
        "model",
        "role",
        "tool_name",
        "tool_id",
        "severity",
        "status",
        "error.type",
    ];

    fn config_fields() -> Vec<ConfigField> {
        command::config_fields()
    }

    fn arguments(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
        command::arguments(call, config)
    }

    fn environment(call: &Call<'_>, _config: &mut Fields<'_>) -> Result<Vec<(String, String)>, Refusal> {
        Ok(command::environment(call))
    }

    fn setup(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
        command::setup(call, config)
    }

    fn billing(_config: &Map<String, Value>, variables: &Variables<'_>) -> Billing {
        let has_key = ["GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI"];
        let billing_type = if has_key.into_iter().any(|name| variables.has(name)) {
            BillingType::Api
        } else {
            BillingType::Unknown
        };
        Billing::new("google", "google", billing_type)
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
        assert_eq!(unexplained_fields::<Gemini>(), Vec::<String>::new(), "missing in agent_configuration.md");
    }
}
