//! The plugins of this process.

use std::path::Path;
use std::sync::Arc;

use paperclip_diagnostic::Diagnostic;
use paperclip_guest::{Plugin, Registry, Runtime, RuntimeOptions};

use crate::exit::usage;
use crate::state;

/// The plugins that were built with this program: agent type and bytes.
pub(crate) const BUILTIN: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/builtin_plugins.rs"));

/// Instances that a command which serves one run or none needs at a time.
const INSTANCES: u32 = 8;

/// A runtime for a command that serves one run or none.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    runtime_for(INSTANCES)
}

/// A runtime that keeps what it compiled for the next process.
pub(crate) fn runtime_for(max_instances: u32) -> anyhow::Result<Runtime> {
    let cache_dir = state::cache_folder().map(|folder| folder.join("plugins"));
    let options = RuntimeOptions { max_instances, cache_dir, ..RuntimeOptions::default() };
    match Runtime::new(&options) {
        Ok(runtime) => Ok(runtime),
        // A cache that can't be used costs a tenth of a second, no run.
        Err(paperclip_guest::RuntimeError::Cache { dir, reason, hint }) => {
            tracing::warn!(dir = %dir.display(), %reason, hint, "compiled plugins are not cached");
            Ok(Runtime::new(&RuntimeOptions { cache_dir: None, ..options })?)
        }
        Err(error) => Err(error.into()),
    }
}

/// The plugin of an agent type.
pub(crate) fn get(
    runtime: &Runtime,
    folder: Option<&Path>,
    adapter_type: &str,
) -> anyhow::Result<Arc<Plugin>> {
    let registry = Registry::load(runtime, BUILTIN, folder).map_err(usage)?;
    registry.get(adapter_type).cloned().map_err(usage)
}

/// The plugin for a command that no context tells the agent type of: the one that was asked for, else the only one.
pub(crate) fn get_or_only(
    runtime: &Runtime,
    folder: Option<&Path>,
    adapter_type: Option<&str>,
) -> anyhow::Result<Arc<Plugin>> {
    let registry = Registry::load(runtime, BUILTIN, folder).map_err(usage)?;
    if let Some(wanted) = adapter_type {
        return registry.get(wanted).cloned().map_err(usage);
    }
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
                Diagnostic::new("ambiguous_agent_type", "the agent type is not known")
                    .with_hint(format!("name one with --adapter: {}", types.join(", "))),
            ))
        }
    }
}
