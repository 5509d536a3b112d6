//! `plugins`: lists plugins and examines files.

use std::path::Path;

use paperclip_diagnostic::Diagnostic;
use paperclip_guest::{Inspection, LoadError, Registry, Runtime, Source, inspect, verify};

use paperclip_prepare::plugins::BuiltinPlugins;

use super::revert::revert;
use crate::args::{PluginsArgs, PluginsCommand};
use crate::exit::{CommandError, Exit, usage};
use crate::plugins::runtime;
use crate::pretty::style::{DIM, ERROR};

pub(crate) async fn plugins(args: &PluginsArgs, builtins: BuiltinPlugins) -> Result<Exit, CommandError> {
    match &args.command {
        PluginsCommand::List { plugins, json } => list(&runtime()?, builtins, plugins.as_deref(), *json),
        PluginsCommand::Inspect { plugin, json } => {
            let inspection = examine(&runtime()?, builtins, plugin, inspect)?;
            if *json {
                println!("{}", serde_json::to_string_pretty(&inspection)?);
            } else {
                print!("{inspection}");
            }
            Ok(Exit::Succeeded)
        }
        PluginsCommand::Revert { adapter_type, daemon } => revert(adapter_type, daemon).await,
        PluginsCommand::Verify { plugin } => {
            let inspection = examine(&runtime()?, builtins, plugin, verify)?;
            println!(
                "{}: {} {} (contract {}, sha256:{}) is accepted",
                inspection.source,
                inspection.adapter_type.unwrap_or_default(),
                inspection.version.unwrap_or_default(),
                inspection.contract.unwrap_or_default(),
                inspection.digest
            );
            Ok(Exit::Succeeded)
        }
    }
}

fn list(
    runtime: &Runtime,
    builtins: BuiltinPlugins,
    folder: Option<&Path>,
    is_json: bool,
) -> Result<Exit, CommandError> {
    let registry = Registry::load(runtime, builtins, folder).map_err(usage)?;
    if is_json {
        let document = serde_json::json!({ "plugins": registry.list(), "rejected": registry.rejected() });
        println!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(Exit::Succeeded);
    }
    println!("{:<16} {:<9} {:<9} {:<20} SOURCE", "TYPE", "VERSION", "CONTRACT", "DIGEST");
    for plugin in registry.list() {
        let digest = plugin.digest.get(..12).unwrap_or_default();
        println!(
            "{:<16} {:<9} {:<9} sha256:{digest}… {}",
            plugin.adapter_type, plugin.version, plugin.contract, plugin.source
        );
    }
    for rejected in registry.rejected() {
        anstream::eprintln!("{ERROR}rejected:{ERROR:#} {}", rejected.error);
        if let Some(hint) = &rejected.hint {
            anstream::eprintln!("{DIM}hint:{DIM:#} {hint}");
        }
    }
    Ok(Exit::Succeeded)
}

type Examine = fn(&Runtime, Source, &[u8]) -> Result<Inspection, LoadError>;

/// Examines a file, or a built-in plugin if there is no file of that name.
fn examine(
    runtime: &Runtime,
    builtins: BuiltinPlugins,
    requested: &Path,
    how: Examine,
) -> Result<Inspection, CommandError> {
    let builtin = builtins.iter().find(|(name, _)| Path::new(name) == requested);
    match (std::fs::read(requested), builtin) {
        (Ok(bytes), _) => how(runtime, Source::File(requested.to_owned()), &bytes).map_err(usage),
        (Err(_), Some((name, bytes))) => {
            how(runtime, Source::Builtin((*name).to_owned()), bytes).map_err(usage)
        }
        (Err(error), None) => {
            let known: Vec<&str> = builtins.iter().map(|(name, _)| *name).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let problem =
                Diagnostic::new("plugin_unreadable", format!("plugin {}: {error}", requested.display()));
            Err(usage(problem.with_hint(format!("name a readable file, or a built-in agent type: {known}"))))
        }
    }
}
