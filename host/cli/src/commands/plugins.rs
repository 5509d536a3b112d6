//! `plugins`: lists plugins and examines files.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use paperclip_diagnostic::Diagnostic;
use paperclip_guest::{Inspection, LoadError, Plugin, Registry, Runtime, Source, inspect, verify};

use paperclip_prepare::plugins::BuiltinPlugins;

use super::config_map::config_map;
use super::push::push;
use super::revert::revert;
use super::{plugin_bench, plugin_dev, plugin_test};
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
        PluginsCommand::Push { file, admin_token_file, daemon } => push(file, admin_token_file, daemon).await,
        PluginsCommand::ConfigMap { file, name } => config_map(file, name.as_deref()),
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
        PluginsCommand::Test { cases, accept } => {
            plugin_test::test(&load(&runtime()?, builtins, &cases.plugin)?, &cases.fixtures, *accept)
        }
        PluginsCommand::Bench { cases, json } => {
            let (source, bytes) = read(builtins, &cases.plugin)?;
            plugin_bench::bench(source, &bytes, &cases.fixtures, *json)
        }
        PluginsCommand::Dev { cases, journals, admin_token_file, daemon } => {
            let target = admin_token_file.as_deref().map(|file| (file, daemon));
            plugin_dev::dev(cases, journals.as_deref(), target).await
        }
    }
}

/// Loads a file, or a built-in plugin if there is no file of that name.
fn load(runtime: &Runtime, builtins: BuiltinPlugins, requested: &Path) -> Result<Arc<Plugin>, CommandError> {
    let (source, bytes) = read(builtins, requested)?;
    Plugin::load(runtime, source, &bytes).map_err(usage)
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
    let (source, bytes) = read(builtins, requested)?;
    how(runtime, source, &bytes).map_err(usage)
}

/// Reads a file, or a built-in plugin if there is no file of that name.
fn read(builtins: BuiltinPlugins, requested: &Path) -> Result<(Source, Cow<'static, [u8]>), CommandError> {
    let builtin = builtins.iter().find(|(name, _)| Path::new(name) == requested);
    match (std::fs::read(requested), builtin) {
        (Ok(bytes), _) => Ok((Source::File(requested.to_owned()), bytes.into())),
        (Err(_), Some((name, bytes))) => Ok((Source::Builtin((*name).to_owned()), (*bytes).into())),
        (Err(error), None) => {
            let known: Vec<&str> = builtins.iter().map(|(name, _)| *name).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let problem =
                Diagnostic::new("plugin_unreadable", format!("plugin {}: {error}", requested.display()));
            Err(usage(problem.with_hint(format!("name a readable file, or a built-in agent type: {known}"))))
        }
    }
}
