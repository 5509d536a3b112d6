//! The plugins of a process at one time.

use crate::plugin::Plugin;
use crate::registry::Rejected;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The plugins of a process at one time. A change makes a new set.
#[derive(Debug, Clone, Default)]
pub(crate) struct PluginSet {
    /// The versions that new runs use, by agent type.
    pub active: BTreeMap<String, Arc<Plugin>>,
    /// The versions that were active before, by agent type.
    pub previous: BTreeMap<String, Arc<Plugin>>,
    pub rejected: Vec<Rejected>,
    /// Versions that are not loaded from the folder again, by digest.
    pub blocked: BTreeMap<String, Block>,
}

/// Why a version is not loaded again.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub adapter_type: String,
    pub reason: String,
    /// When a quarantine ends; none if the version was reverted.
    pub until_ms: Option<u64>,
}

/// An agent type whose plugin changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    pub adapter_type: String,
    /// The digest before; none if the type had no plugin.
    pub from: Option<String>,
    /// The digest now; none if the type has no plugin any more.
    pub to: Option<String>,
}

impl PluginSet {
    /// Makes a version the active one; the one that was active becomes the previous one.
    pub(crate) fn activate(&mut self, plugin: &Arc<Plugin>) {
        self.retire(plugin.adapter_type());
        self.active.insert(plugin.adapter_type().to_owned(), Arc::clone(plugin));
    }

    /// Makes the active version of an agent type the previous one.
    pub(crate) fn retire(&mut self, adapter_type: &str) {
        if let Some(current) = self.active.remove(adapter_type) {
            self.previous.insert(adapter_type.to_owned(), current);
        }
    }

    /// Returns the agent types whose active version differs from that of an older set.
    pub(crate) fn changes_since(&self, old: &PluginSet) -> Vec<Changed> {
        let digest = |set: &PluginSet, adapter_type: &str| {
            set.active.get(adapter_type).map(|plugin| plugin.digest().to_owned())
        };
        let mut types: Vec<&String> = old.active.keys().chain(self.active.keys()).collect();
        types.sort();
        types.dedup();
        types
            .into_iter()
            .map(|adapter_type| Changed {
                adapter_type: adapter_type.clone(),
                from: digest(old, adapter_type),
                to: digest(self, adapter_type),
            })
            .filter(|changed| changed.from != changed.to)
            .collect()
    }
}
