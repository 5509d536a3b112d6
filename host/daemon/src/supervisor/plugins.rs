//! Plugins of the daemon: reloaded, reverted and counted.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Bytes;
use paperclip_engine::result;
use paperclip_guest::{Catalogue, Changed, FolderError, InstallError, Plugin, PluginConfigMap, PluginList};
use paperclip_prepare::pinned_plugin;
use paperclip_shell::journal::Header;

use super::Supervisor;
use super::handle::{RunInfo, State};
use crate::metrics::{OutcomeLabels, PluginLabels};
use crate::refusal::{Kind, Refusal};

impl Supervisor {
    /// Reads the plugins folder again, and reports what changed in log and metrics.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) async fn reload_plugins(&self) -> Result<Vec<Changed>, Refusal> {
        self.reload_with(Catalogue::reload).await
    }

    /// Swaps in the plugins of the cluster, and reports what changed in log and metrics.
    ///
    /// # Errors
    /// The plugins folder cannot be read.
    pub(crate) async fn set_plugin_config_maps(
        &self,
        config_maps: Vec<PluginConfigMap>,
    ) -> Result<Vec<Changed>, Refusal> {
        self.reload_with(move |catalogue| catalogue.set_config_maps(config_maps)).await
    }

    async fn reload_with(
        &self,
        reload: impl FnOnce(&Catalogue) -> Result<Vec<Changed>, FolderError> + Send + 'static,
    ) -> Result<Vec<Changed>, Refusal> {
        let changed = self.with_catalogue(reload).await?;
        let changed = changed.map_err(|error| Refusal::of(Kind::Internal, &error))?;
        for change in &changed {
            self.count_change(change);
        }
        self.log_rejected_plugins();
        Ok(changed)
    }

    /// Returns the plugin that a new run of this agent type uses. A built-in one is compiled at its first use.
    ///
    /// # Errors
    /// A refusal of the given kind: no plugin is in use for the type.
    pub(crate) async fn plugin(&self, adapter_type: &str, kind: Kind) -> Result<Arc<Plugin>, Refusal> {
        let found = if self.catalogue().is_compiled(adapter_type) {
            self.catalogue().get(adapter_type)
        } else {
            let adapter_type = adapter_type.to_owned();
            self.with_catalogue(move |catalogue| catalogue.get(&adapter_type)).await?
        };
        found.map_err(|error| Refusal::of(kind, &error))
    }

    /// Returns all plugins, with the built-in ones that no run has needed yet.
    ///
    /// # Errors
    /// They could not be compiled, which is an error of this program.
    pub(crate) async fn list_plugins(&self) -> Result<PluginList, Refusal> {
        self.with_catalogue(|catalogue| {
            catalogue.compile_all();
            catalogue.list()
        })
        .await
    }

    /// Returns the plugin that a run was started with.
    ///
    /// # Errors
    /// It is no longer kept, or cannot be used.
    pub(super) async fn pinned_plugin(&self, state: PathBuf, header: Header) -> Result<Arc<Plugin>, Refusal> {
        let pinned = self.with_catalogue(move |catalogue| {
            let known = catalogue.by_digest(&header.plugin_digest);
            pinned_plugin(catalogue.runtime(), &state, &header, known)
        });
        pinned.await?.map_err(|error| Refusal::of(Kind::NoPlugin, &error))
    }

    /// Does what may compile plugins, on a thread of its own, and counts those that are in use then.
    pub(super) async fn with_catalogue<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Catalogue) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let catalogue = Arc::clone(self.catalogue());
        let done = tokio::task::spawn_blocking(move || work(&catalogue)).await;
        self.count_plugins();
        done.map_err(|error| Refusal::new(Kind::Internal, error.to_string(), "try again"))
    }

    /// Puts a plugin into the plugins folder and in use. Returns what changed, if it is not in use already.
    ///
    /// # Errors
    /// It is rejected, and nothing changes.
    pub(crate) async fn install_plugin(
        &self,
        adapter_type: String,
        bytes: Bytes,
    ) -> Result<Option<Changed>, Refusal> {
        let installed =
            self.with_catalogue(move |catalogue| catalogue.install(&adapter_type, &bytes)).await?;
        let change = installed.map_err(|error| {
            let kind =
                if matches!(error, InstallError::Write(_)) { Kind::Internal } else { Kind::BadRequest };
            Refusal::of(kind, &error)
        })?;
        if let Some(change) = &change {
            self.count_change(change);
        }
        Ok(change)
    }

    /// Goes back to the previous version of a plugin.
    ///
    /// # Errors
    /// This process has had no other version.
    pub(crate) fn revert_plugin(&self, adapter_type: &str) -> Result<Changed, Refusal> {
        let reverted = self.catalogue().revert(adapter_type);
        let change = reverted.map_err(|error| Refusal::of(Kind::NotFound, &error))?;
        self.count_change(&change);
        self.count_plugins();
        Ok(change)
    }

    /// Logs the plugins that are rejected.
    pub(crate) fn log_rejected_plugins(&self) {
        for rejected in self.catalogue().list().rejected {
            tracing::warn!(
                adapter = rejected.adapter_type,
                error = rejected.error,
                hint = rejected.hint,
                "plugin is rejected"
            );
        }
    }

    /// Counts a run that ended. A plugin whose faults are too many is quarantined.
    pub(super) fn count_ended(&self, info: &RunInfo, state: State, code: &str) {
        let metrics = self.metrics();
        let adapter = info.adapter_type.clone();
        let labels = OutcomeLabels { adapter: adapter.clone(), outcome: state.name(), code: code.to_owned() };
        metrics.ended.get_or_create(&labels).inc();
        if code != result::PLUGIN_FAILED {
            return;
        }
        let labels = PluginLabels {
            adapter,
            version: info.plugin_version.clone(),
            digest: info.plugin_digest.clone(),
        };
        metrics.traps.get_or_create(&labels).inc();
        if let Some(fallback) = self.catalogue().note_trap(&info.plugin_digest, &info.agent_id, now_ms()) {
            let quarantined = fallback.quarantined;
            tracing::error!(
                adapter = quarantined.adapter_type,
                reason = quarantined.reason,
                to = fallback.to,
                "plugin is quarantined"
            );
            self.count_plugins();
        }
    }

    /// Ends the quarantines whose time is over.
    pub(super) fn end_quarantines(&self) {
        let changed = self.catalogue().end_quarantines(now_ms());
        for change in &changed {
            self.count_change(change);
        }
        self.count_plugins();
    }

    fn count_change(&self, change: &Changed) {
        self.metrics().reloads.inc();
        tracing::info!(adapter = change.adapter_type, from = change.from, to = change.to, "plugin replaced");
    }

    /// Sets the metrics of the plugins in use.
    pub(super) fn count_plugins(&self) {
        let shown = self.catalogue().list();
        let metrics = self.metrics();
        metrics.plugins.clear();
        for plugin in shown.plugins {
            let labels =
                PluginLabels { adapter: plugin.adapter_type, version: plugin.version, digest: plugin.digest };
            metrics.plugins.get_or_create(&labels).set(1);
        }
        let count = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        metrics.rejected_plugins.set(count(shown.rejected.len()));
        metrics.quarantined_plugins.set(count(shown.quarantined.len()));
    }
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
