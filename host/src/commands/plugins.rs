//! `plugins`: what is in use, and what a file holds.

use std::path::Path;

use paperclip_guest::{Inspection, LoadError, Registry, Runtime, Source, inspect, verify};

use super::revert::revert;
use crate::args::{PluginsArgs, PluginsCommand};
use crate::exit::{Exit, usage};
use crate::plugins::{BUILTIN, runtime};

pub(crate) async fn plugins(args: &PluginsArgs) -> anyhow::Result<Exit> {
    match &args.command {
        PluginsCommand::List { plugins, json } => list(&runtime()?, plugins.as_deref(), *json),
        PluginsCommand::Inspect { plugin, json } => {
            let inspection = look(&runtime()?, plugin, inspect)?;
            if *json {
                println!("{}", serde_json::to_string_pretty(&inspection)?);
            } else {
                print!("{inspection}");
            }
            Ok(Exit::Succeeded)
        }
        PluginsCommand::Revert { adapter_type, listen, token_file } => {
            revert(adapter_type, listen.clone(), token_file.as_deref()).await
        }
        PluginsCommand::Verify { plugin } => {
            let inspection = look(&runtime()?, plugin, verify)?;
            println!(
                "{}: {} {} (contract {}, sha256:{}) is taken",
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

fn list(runtime: &Runtime, folder: Option<&Path>, is_json: bool) -> anyhow::Result<Exit> {
    let registry = Registry::load(runtime, BUILTIN, folder).map_err(usage)?;
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
        anstream::eprintln!("{}rejected:{} {}", crate::pretty::style::ERROR, anstyle::Reset, rejected.error);
    }
    Ok(Exit::Succeeded)
}

type Look = fn(&Runtime, Source, &[u8]) -> Result<Inspection, LoadError>;

/// Looks at a file, or at a built-in plugin where there is no file of that name.
fn look(runtime: &Runtime, wanted: &Path, how: Look) -> anyhow::Result<Inspection> {
    let builtin = BUILTIN.iter().find(|(name, _)| Path::new(name) == wanted);
    match (std::fs::read(wanted), builtin) {
        (Ok(bytes), _) => how(runtime, Source::File(wanted.to_owned()), &bytes).map_err(usage),
        (Err(_), Some((name, bytes))) => {
            how(runtime, Source::Builtin((*name).to_owned()), bytes).map_err(usage)
        }
        (Err(error), None) => {
            let known: Vec<&str> = BUILTIN.iter().map(|(name, _)| *name).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Err(usage(format!(
                "plugin {}: {error}; name a readable file, or a built-in agent type: {known}",
                wanted.display()
            )))
        }
    }
}
