//! The plugin under test, as the product builds it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use paperclip_guest::{Instance, Runtime, RuntimeOptions};

/// Most instances at a time: each of a case's faults may start another process, and a replay has its own.
const INSTANCES: u32 = 128;

/// A loaded plugin. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Plugin(Arc<paperclip_guest::Plugin>);

impl Plugin {
    /// Loads the component that `cargo xtask wasm` builds.
    ///
    /// # Errors
    /// The component is missing, or this host cannot load it.
    pub fn load() -> Result<Self> {
        let path = built();
        anyhow::ensure!(
            path.is_file(),
            "{} is missing: run `cargo xtask wasm`, which builds it",
            path.display()
        );
        Self::load_file(&path)
    }

    /// Loads a plugin's file.
    ///
    /// # Errors
    /// It cannot be read, or the host rejects it.
    pub fn load_file(path: &Path) -> Result<Self> {
        let runtime =
            Runtime::new(&RuntimeOptions { max_instances: INSTANCES, ..RuntimeOptions::default() })?;
        let plugin = paperclip_guest::Plugin::load_file(&runtime, path)
            .with_context(|| format!("cannot load {}", path.display()))?;
        Ok(Plugin(plugin))
    }

    pub(crate) fn instantiate(&self) -> Instance {
        self.0.instantiate().expect("the pool has an instance for every process of a case")
    }

    /// Content of the `header.json` beside the journal of a run of this plugin.
    pub(crate) fn journal_header(&self, run_id: &str) -> String {
        let header = serde_json::json!({
            "format": paperclip_engine::journal::FORMAT,
            "runId": run_id,
            "adapterType": self.0.adapter_type(),
            "pluginVersion": self.0.version(),
            "pluginDigest": self.0.digest(),
            "contract": self.0.contract(),
        });
        header.to_string()
    }

    pub(crate) fn revealed_env(&self) -> &[String] {
        &self.0.descriptor().revealed_env
    }
}

fn built() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/plugins/claude_k8s.wasm")
}
