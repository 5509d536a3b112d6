//! `manifest`: the Job that a run would create.

use serde_json::Value;

use paperclip_diagnostic::Diagnostic;

use crate::args::ManifestArgs;
use crate::config::Config;
use crate::documents;
use crate::exit::{Exit, usage};
use crate::plugins;
use paperclip_guest::Tools;

pub(crate) async fn manifest(args: &ManifestArgs) -> anyhow::Result<Exit> {
    let context = documents::read_context(&args.context)?;
    let adapter_type = documents::adapter_type(&context, args.plugin.adapter.as_deref())?;
    let runtime = plugins::runtime()?;
    let plugin = plugins::get(&runtime, args.plugin.plugins.as_deref(), &adapter_type)?;
    let self_pod = args.context.self_pod.as_deref().map(documents::read_self_pod).transpose()?;
    let intake = documents::take(
        &context,
        &args.context,
        &Config::default(),
        &plugin,
        self_pod.as_ref(),
        Some("default"),
    )?;
    for warning in intake.warnings {
        anstream::eprintln!("warning: {warning}");
    }
    match Tools::new(plugin).manifest(&intake.request)? {
        Ok(json) => {
            let document: Value = serde_json::from_str(&json)?;
            println!("{}", serde_json::to_string_pretty(&document)?);
            Ok(Exit::Succeeded)
        }
        Err(refusal) => {
            let message = match refusal.field {
                Some(field) => format!("{field}: {}", refusal.message),
                None => refusal.message,
            };
            Err(usage(Diagnostic::new("bad_config", message).with_hint("correct that field of the config")))
        }
    }
}
