//! `plugins config-map`: a plugin as a ConfigMap, for `kubectl apply`.

use std::path::Path;

use paperclip_diagnostic::Diagnostic;
use paperclip_guest::Plugin;
use paperclip_shell::plugin_config_maps::pack;

use crate::exit::{CommandError, Exit, usage};
use crate::plugins::runtime;

pub(crate) fn config_map(file: &Path, name: Option<&str>) -> Result<Exit, CommandError> {
    let plugin = Plugin::load_file(&runtime()?, file).map_err(usage)?;
    let config_map = pack(plugin.adapter_type(), name, plugin.file()).map_err(|error| {
        let problem = Diagnostic::new("plugin_too_large", format!("{}: {error}", file.display()));
        usage(problem.with_hint("use the plugins folder or `plugins push`"))
    })?;
    println!("{}", serde_json::to_string_pretty(&config_map)?);
    Ok(Exit::Succeeded)
}
