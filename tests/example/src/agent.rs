//! The agent type `example_k8s`.

use paperclip_kit::cli::{Cli, Identity, ModelOption, Variables};
use paperclip_kit::config::fields::Fields;
use paperclip_kit::config::schema::{ConfigField, FieldKind};
use paperclip_kit::manifest::{Call, option};
use paperclip_kit::outcome::{Billing, BillingType};
use paperclip_kit::refusal::Refusal;
use paperclip_kit::stream::Event;
use paperclip_kit::transcript::TranscriptEntry;
use serde_json::{Map, Value};

use crate::stream::Stream;
use crate::transcript;

/// Runs the program `example`.
#[derive(Debug, Default, Clone, Copy)]
pub struct Example;

impl Cli for Example {
    type Stream = Stream;

    const IDENTITY: Identity = Identity {
        adapter_type: "example_k8s",
        label: "Example (Kubernetes)",
        version: env!("CARGO_PKG_VERSION"),
        container_name: "example",
        job_name_prefix: "example",
        program: "example",
        credential: "EXAMPLE_API_KEY",
        revealed_env: &["PAPERCLIP_API_URL", "HOME", "PATH"],
        models: &[ModelOption { id: "large", label: "Large", provider: "direct" }],
        doc: include_str!("agent_configuration.md"),
    };
    const PROTOCOL_MEMBERS: &'static [&'static str] = &["type", "session", "model", "name", "id"];

    fn config_fields() -> Vec<ConfigField> {
        let hint = "How long the model thinks before it answers.";
        vec![ConfigField::new(FieldKind::Text, "effort", "Effort", hint)]
    }

    fn arguments(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
        let mut args = vec!["--json".to_owned()];
        option(&mut args, "--model", config.trimmed("model")?);
        option(&mut args, "--effort", config.trimmed("effort")?);
        option(&mut args, "--resume", call.session);
        args.extend(config.extra_args("extraArgs", &["--json", "--resume"])?.into_iter().map(str::to_owned));
        Ok(args)
    }

    fn billing(_config: &Map<String, Value>, variables: &Variables<'_>) -> Billing {
        let is_api = variables.has(Self::IDENTITY.credential);
        Billing::new("example", "example", if is_api { BillingType::Api } else { BillingType::Unknown })
    }

    fn entries_of<'a>(event: &Event<'a>, ts: &'a str, to: &mut Vec<TranscriptEntry<'a>>) {
        transcript::push_event(event, ts, to);
    }
}
