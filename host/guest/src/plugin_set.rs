//! The plugins of a process at one time.

use crate::digest::sha256_hex;
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
    /// The built-in plugins of the other agent types, by agent type: compiled when a run needs them.
    pub uncompiled: BTreeMap<String, Builtin>,
    /// The versions that were active before, by agent type.
    pub previous: BTreeMap<String, Arc<Plugin>>,
    pub rejected: Vec<Rejected>,
    /// Versions that are not loaded from the folder again, by digest.
    pub blocked: BTreeMap<String, Block>,
}

/// A built-in plugin that is not compiled yet.
#[derive(Debug, Clone)]
pub(crate) struct Builtin {
    pub bytes: &'static [u8],
    /// SHA-256 of its bytes, hexadecimal.
    pub digest: String,
}

impl Builtin {
    pub(crate) fn new(bytes: &'static [u8]) -> Builtin {
        Builtin { bytes, digest: sha256_hex(bytes) }
    }
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
        self.uncompiled.remove(plugin.adapter_type());
        self.active.insert(plugin.adapter_type().to_owned(), Arc::clone(plugin));
    }

    /// Makes the active version of an agent type the previous one.
    pub(crate) fn retire(&mut self, adapter_type: &str) {
        if let Some(current) = self.active.remove(adapter_type) {
            self.previous.insert(adapter_type.to_owned(), current);
        }
    }

    /// Returns the agent types that new runs can have.
    pub(crate) fn agent_types(&self) -> impl Iterator<Item = &String> {
        self.active.keys().chain(self.uncompiled.keys())
    }

    /// Returns the digest of the version that new runs use.
    fn digest(&self, adapter_type: &str) -> Option<String> {
        let active = self.active.get(adapter_type).map(|plugin| plugin.digest());
        let uncompiled = || self.uncompiled.get(adapter_type).map(|builtin| builtin.digest.as_str());
        active.or_else(uncompiled).map(str::to_owned)
    }

    /// Returns the agent types whose version differs from that of an older set.
    pub(crate) fn changes_since(&self, old: &PluginSet) -> Vec<Changed> {
        let mut types: Vec<&String> = old.agent_types().chain(self.agent_types()).collect();
        types.sort();
        types.dedup();
        types
            .into_iter()
            .map(|adapter_type| Changed {
                adapter_type: adapter_type.clone(),
                from: old.digest(adapter_type),
                to: self.digest(adapter_type),
            })
            .filter(|changed| changed.from != changed.to)
            .collect()
    }
}
