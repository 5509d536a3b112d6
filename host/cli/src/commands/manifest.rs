//! `manifest`: prints the Job that a run would create.

use paperclip_diagnostic::{Diagnose as _, Diagnostic};
use paperclip_guest::Tools;
use paperclip_prepare::plugins::BuiltinPlugins;
use paperclip_prepare::{Config, HostContext, Target, adapter_type, documents, paperclip_pod};
use serde_json::Value;

use crate::args::ManifestArgs;
use crate::exit::{CommandError, Exit, usage};
use crate::plugins;

/// The namespace of a run for which nothing names one.
const NAMESPACE: &str = "default";

pub(crate) fn manifest(args: ManifestArgs, builtins: BuiltinPlugins) -> Result<Exit, CommandError> {
    let ManifestArgs { context: context_args, plugin: plugin_args, config: args_config } = args;
    let context = documents::read_context(&context_args.context).map_err(usage)?;
    let adapter_type = adapter_type(&context, plugin_args.adapter.as_deref()).map_err(usage)?;
    let runtime = plugins::runtime()?;
    let plugin = plugins::get(&runtime, builtins, plugin_args.plugins.as_deref(), adapter_type)?;
    let mut config = match &args_config {
        None => Config::default(),
        Some(path) => Config::read(path).map_err(usage)?,
    };
    context_args.override_fields(&mut config);
    let pod = config.self_pod.as_deref().map(paperclip_pod::read).transpose().map_err(usage)?;
    let host = HostContext::new(config, None);
    let target = Target { namespace: Some(NAMESPACE), needs_api_url: false, starts: false };
    let prepared = host.prepare(&context, pod, &plugin, target).map_err(|error| {
        usage(error.diagnostic().on(format_args!("context {}", context_args.context.display())))
    })?;
    for warning in &prepared.warnings {
        anstream::eprintln!("warning: {warning}");
    }
    match Tools::new(plugin).manifest(&prepared.request)? {
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
