//! The plugin of a command.

use std::path::Path;
use std::sync::Arc;

use paperclip_diagnostic::Diagnostic;
use paperclip_guest::{Plugin, Registry, Runtime, RuntimeError, Tools};
use paperclip_prepare::plugins::{self, BuiltinPlugins};

use crate::args::PluginArgs;
use crate::exit::{CommandError, usage};

/// Instances that a command needs at a time.
const INSTANCES: u32 = 8;

/// Returns the plugin runtime of a command.
pub(crate) fn runtime() -> Result<Runtime, RuntimeError> {
    plugins::runtime(INSTANCES)
}

/// Returns the plugin of an agent type.
pub(crate) fn get(
    runtime: &Runtime,
    builtins: BuiltinPlugins,
    folder: Option<&Path>,
    adapter_type: &str,
) -> Result<Arc<Plugin>, CommandError> {
    let registry = Registry::load(runtime, &only(builtins, adapter_type), folder).map_err(usage)?;
    registry.get(adapter_type).cloned().map_err(usage)
}

/// Returns the built-in plugin of an agent type, so that no other is compiled; all of them if there is none, for the message.
fn only(builtins: BuiltinPlugins, adapter_type: &str) -> Vec<(&'static str, &'static [u8])> {
    match builtins.iter().find(|(name, _)| *name == adapter_type) {
        Some(plugin) => vec![*plugin],
        None => builtins.to_vec(),
    }
}

/// Returns the functions beside runs of the plugin that the arguments choose.
pub(crate) fn tools(args: &PluginArgs, builtins: BuiltinPlugins) -> Result<Tools, CommandError> {
    get_or_first(builtins, args.plugins.as_deref(), args.adapter.as_deref()).map(Tools::new)
}

/// Returns the plugin of the agent type that is named, else the first that is built in, else the only one there is.
pub(crate) fn get_or_first(
    builtins: BuiltinPlugins,
    folder: Option<&Path>,
    adapter_type: Option<&str>,
) -> Result<Arc<Plugin>, CommandError> {
    if let Some(named) = adapter_type {
        return get(&runtime()?, builtins, folder, named);
    }
    let Some((first, _)) = builtins.first() else {
        return get_only(folder);
    };
    get(&runtime()?, builtins, folder, first)
}

/// Returns the only plugin of a folder.
fn get_only(folder: Option<&Path>) -> Result<Arc<Plugin>, CommandError> {
    let registry = Registry::load(&runtime()?, &[], folder).map_err(usage)?;
    let listed = registry.list();
    match listed.as_slice() {
        [only] => registry.get(&only.adapter_type).cloned().map_err(usage),
        [] => Err(usage(
            Diagnostic::new("no_plugin", "this program has no plugin")
                .with_hint("build the plugins with `cargo xtask wasm`, or name a folder with --plugins"),
        )),
        several => {
            let types: Vec<&str> = several.iter().map(|plugin| plugin.adapter_type.as_str()).collect();
            Err(usage(
                Diagnostic::new("ambiguous_agent_type", "there are plugins for several agent types")
                    .with_hint(format!("name one with --adapter: {}", types.join(", "))),
            ))
        }
    }
}
