//! The plugin under test, as the product builds it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use paperclip_guest::{Instance, Runtime, RuntimeOptions};

use crate::grammar::Grammar;

/// Most instances at a time: each of a case's faults may start another process, and a replay has its own.
const INSTANCES: u32 = 128;

/// The agent type of a campaign that names none.
pub const DEFAULT_TYPE: &str = "claude_k8s";

/// A loaded plugin, and what its agents print. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Plugin {
    loaded: Arc<paperclip_guest::Plugin>,
    grammar: Arc<Grammar>,
}

impl Plugin {
    /// Loads the component of an agent type that `cargo xtask wasm` builds.
    ///
    /// # Errors
    /// The component is missing, this host cannot load it, or the type has no grammar.
    pub fn load(agent_type: &str) -> Result<Self> {
        let path = built(agent_type);
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
    /// It cannot be read, the host rejects it, or its agent type has no grammar.
    pub fn load_file(path: &Path) -> Result<Self> {
        let runtime =
            Runtime::new(&RuntimeOptions { max_instances: INSTANCES, ..RuntimeOptions::default() })?;
        let plugin = paperclip_guest::Plugin::load_file(&runtime, path)
            .with_context(|| format!("cannot load {}", path.display()))?;
        let grammar = Grammar::of(plugin.adapter_type())?;
        Ok(Plugin { loaded: plugin, grammar: Arc::new(grammar) })
    }

    /// Returns what its agents print.
    pub fn grammar(&self) -> &Arc<Grammar> {
        &self.grammar
    }

    pub(crate) fn instantiate(&self) -> Instance {
        self.loaded.instantiate().expect("the pool has an instance for every process of a case")
    }

    /// Content of the `header.json` beside the journal of a run of this plugin.
    pub(crate) fn journal_header(&self, run_id: &str) -> String {
        let header = serde_json::json!({
            "format": paperclip_engine::journal::FORMAT,
            "runId": run_id,
            "adapterType": self.loaded.adapter_type(),
            "pluginVersion": self.loaded.version(),
            "pluginDigest": self.loaded.digest(),
            "contract": self.loaded.contract(),
        });
        header.to_string()
    }

    pub(crate) fn revealed_env(&self) -> &[String] {
        &self.loaded.descriptor().revealed_env
    }
}

fn built(agent_type: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/plugins").join(format!("{agent_type}.wasm"))
}
