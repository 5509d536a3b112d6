//! What a run begins with, whoever drives it: its plugin pinned, its journal begun, its secrets masked.

use std::path::Path;

use paperclip_contract::types::Request;
use paperclip_engine::PluginIdentity;
use paperclip_engine::intake::Secrets;
use paperclip_engine::journal::FORMAT;
use paperclip_engine::redact::Redactor;
use paperclip_guest::Plugin;
use paperclip_shell::journal::{self, Header, JournalError, RunFolder};

/// Interval of the cancel poll, in ms.
pub(crate) const POLL_INTERVAL_MS: u64 = 15_000;

/// Who decides for the run.
pub(crate) fn identity(plugin: &Plugin) -> PluginIdentity {
    PluginIdentity {
        adapter_type: plugin.adapter_type().to_owned(),
        version: plugin.version().to_owned(),
        digest: plugin.digest().to_owned(),
    }
}

/// Keeps the plugin and says in the run's folder what the run is, unless it has begun already.
pub(crate) fn begin_folder(
    state: &Path,
    folder: &mut RunFolder,
    plugin: &Plugin,
    run_id: &str,
) -> Result<(), JournalError> {
    if folder.header().is_some() {
        return Ok(());
    }
    journal::keep_plugin(state, plugin.digest(), plugin.file())
        .map_err(|cause| JournalError::Io { path: journal::kept_plugin(state, plugin.digest()), cause })?;
    folder.begin(&Header {
        format: FORMAT,
        run_id: run_id.to_owned(),
        adapter_type: plugin.adapter_type().to_owned(),
        plugin_version: plugin.version().to_owned(),
        plugin_digest: plugin.digest().to_owned(),
        contract: plugin.contract().to_owned(),
    })
}

/// Masks all secrets but those that the plugin was shown: they are no secrets.
pub(crate) fn redactor(request: &Request, secrets: &Secrets) -> anyhow::Result<Redactor> {
    let shown =
        |name: &str| request.config_env.iter().any(|entry| entry.name == name && entry.value.is_some());
    Ok(Redactor::new(secrets.named().filter(|(name, _)| !shown(name)))?)
}

/// The seed of a run's jitter: runs that fail together should not come back together.
pub(crate) fn seed(run_id: &str) -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(run_id)
}
