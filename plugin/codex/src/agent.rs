//! The agent type `codex_k8s`.

use paperclip_kit::cli::{Cli, Identity, ModelOption, Variables};
use paperclip_kit::config::fields::Fields;
use paperclip_kit::config::schema::ConfigField;
use paperclip_kit::manifest::Call;
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

/// Runs Codex.
#[derive(Debug, Default, Clone, Copy)]
pub struct Codex;

const fn model(id: &'static str, label: &'static str) -> ModelOption {
    ModelOption { id, label, provider: "openai" }
}

impl Cli for Codex {
    type Stream = Stream;

    const IDENTITY: Identity = Identity {
        adapter_type: "codex_k8s",
        label: "Codex (Kubernetes)",
        version: env!("CARGO_PKG_VERSION"),
        container_name: "codex",
        job_name_prefix: "ax",
        program: "codex",
        credential: "OPENAI_API_KEY",
        revealed_env: &["PAPERCLIP_API_URL", "HOME", "PATH"],
        models: &[
            model("gpt-5.6-sol", "GPT-5.6 Sol"),
            model("gpt-6-astra", "GPT-6 Astra"),
            model("gpt-5.6-terra", "GPT-5.6 Terra"),
            model("gpt-5.6-luna", "GPT-5.6 Luna"),
            model("gpt-5.4", "GPT-5.4"),
            model("gpt-5.4-mini", "GPT-5.4 mini"),
            model("gpt-5", "GPT-5"),
            model("o3", "o3"),
            model("o4-mini", "o4-mini"),
            model("gpt-5-mini", "GPT-5 mini"),
            model("gpt-5-nano", "GPT-5 nano"),
            model("o3-mini", "o3-mini"),
            model("codex-mini-latest", "Codex mini"),
        ],
        doc: DOC,
    };
    const FORCED_ENV: &'static [(&'static str, &'static str)] = &[("HOME", "/paperclip"), ("NO_COLOR", "1")];
    const DEFAULT_ENV: &'static [(&'static str, &'static str)] = &[("RUST_LOG", "error")];
    /// Six hours: it waits for a network for ever, and as long as a provider says.
    const DEFAULT_TIMEOUT_SEC: Option<u32> = Some(6 * 3600);
    const MCP_TOKENS_IN_ENV: bool = true;
    const PROTOCOL_MEMBERS: &'static [&'static str] =
        &["type", "thread_id", "item.id", "item.type", "item.status", "item.server", "item.tool"];

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

    fn billing(config: &Map<String, Value>, variables: &Variables<'_>) -> Billing {
        let provider = text(config, "modelProvider").unwrap_or("openai");
        let key = text(config, "envKey").unwrap_or("OPENAI_API_KEY");
        if [key, "OPENAI_API_KEY", "CODEX_API_KEY"].into_iter().any(|name| variables.has(name)) {
            return Billing::new(provider, provider, BillingType::Api);
        }
        Billing::new("openai", "chatgpt", BillingType::Subscription)
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
        assert_eq!(unexplained_fields::<Codex>(), Vec::<String>::new(), "missing in agent_configuration.md");
    }
}
