//! The plugins of a process over time: loaded from a folder, replaced while runs use them, reverted, put
//! under quarantine.
//!
//! A change is prepared in a copy and then swapped in at once. A run keeps the version that it started with.
//! A rejected file changes nothing: the version in use stays. A built-in plugin is compiled when it is first needed.

use crate::golden;
use crate::load_error::LoadError;
use crate::plugin::Plugin;
use crate::plugin_set::{Block, Builtin, Changed, PluginSet};
use crate::registry::{FolderError, Listed, Load, NoPlugin, PluginConfigMap, Registry, Rejected};
use crate::runtime::Runtime;
use crate::source::Source;
use arc_swap::ArcSwap;
use paperclip_diagnostic::{Diagnose as _, Diagnostic};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Traps count towards a quarantine within this window.
pub const TRAP_WINDOW_MS: u64 = 10 * 60 * 1_000;
/// A quarantine ends by itself after this time.
pub const QUARANTINE_MS: u64 = 30 * 60 * 1_000;

/// The sources of the plugins, and when to put one under quarantine.
#[derive(Debug, Clone)]
pub struct CatalogueOptions {
    /// The built-in plugins: agent type and bytes.
    pub builtins: &'static [(&'static str, &'static [u8])],
    /// The plugins folder, whose files replace built-in plugins.
    pub folder: Option<PathBuf>,
    /// In runs of how many agents a version must trap within [`TRAP_WINDOW_MS`] to be put under quarantine. The traps of one agent's runs count
    /// once: they may be caused by what it is given.
    pub max_traps: usize,
}

/// The plugins of a process. Any thread gets the one in use.
#[derive(Debug)]
pub struct Catalogue {
    runtime: Runtime,
    options: CatalogueOptions,
    plugins: ArcSwap<PluginSet>,
    /// The built-in plugins by agent type.
    builtins: BTreeMap<String, Builtin>,
    /// The plugins of the cluster, beside those of the folder.
    config_maps: ArcSwap<Vec<PluginConfigMap>>,
    /// Each version's traps, by digest. The lock is held while a change is prepared.
    traps: Mutex<Traps>,
}

type Traps = BTreeMap<String, VecDeque<Trap>>;

/// A run that ended because its plugin trapped.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trap {
    agent_id: String,
    at_ms: u64,
}

/// A version that no new run uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Quarantined {
    pub adapter_type: String,
    pub digest: String,
    pub reason: String,
}

/// The replacement of a version under quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    pub quarantined: Quarantined,
    /// The digest of the previous version, if there is one.
    pub to: Option<String>,
}

/// An agent type has no previous version to revert to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no previous version of {adapter_type} is known to this process")]
pub struct NoPrevious {
    pub adapter_type: String,
}

/// A plugin is not put into the plugins folder.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("this host has no plugins folder")]
    NoFolder,
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Two plugins of one agent type would be ambiguous.
    #[error("the ConfigMap {0} has the plugin of this agent type")]
    InConfigMap(String),
    #[error("it is a plugin of agent type {found}, not {requested}")]
    OtherType { requested: String, found: String },
    #[error("{0}")]
    Rejected(String),
    #[error("plugins folder: {0}")]
    Write(#[from] io::Error),
}

/// All plugins of a catalogue, as `GET /v1/plugins` returns them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PluginList {
    pub plugins: Vec<Listed>,
    pub previous: Vec<Listed>,
    pub rejected: Vec<Rejected>,
    pub quarantined: Vec<Quarantined>,
}

impl Catalogue {
    /// Loads the plugins of the folder. A rejected file still claims its agent type, because there is no previous version.
    ///
    /// # Errors
    /// The plugins folder cannot be listed.
    pub fn open(runtime: Runtime, options: CatalogueOptions) -> Result<Catalogue, FolderError> {
        let builtins = options.builtins.iter();
        let builtins = builtins.map(|(name, bytes)| ((*name).to_owned(), Builtin::new(bytes))).collect();
        let catalogue = Catalogue {
            runtime,
            options,
            builtins,
            plugins: ArcSwap::default(),
            config_maps: ArcSwap::default(),
            traps: Mutex::default(),
        };
        catalogue.reload()?;
        Ok(catalogue)
    }

    /// Returns the plugin that a new run of this agent type uses. At its first use this compiles a built-in one, see
    /// [`Catalogue::is_compiled`].
    ///
    /// # Errors
    /// No plugin is in use for the type.
    pub fn get(&self, adapter_type: &str) -> Result<Arc<Plugin>, NoPlugin> {
        self.compile(adapter_type);
        let plugins = self.plugins.load();
        if let Some(plugin) = plugins.active.get(adapter_type) {
            return Ok(Arc::clone(plugin));
        }
        if let Some(block) = plugins.blocked.values().find(|block| block.adapter_type == adapter_type) {
            let (adapter_type, reason) = (adapter_type.to_owned(), block.reason.clone());
            return Err(NoPlugin::Quarantined { adapter_type, reason });
        }
        let folder = self.options.folder.as_deref();
        Err(NoPlugin::new(adapter_type, &plugins.rejected, plugins.agent_types(), folder))
    }

    /// Returns the plugin with this digest, among those in use and the previous ones. At its first use this compiles a built-in one.
    pub fn by_digest(&self, digest: &str) -> Option<Arc<Plugin>> {
        if let Some((adapter_type, _)) = self.builtins.iter().find(|(_, builtin)| builtin.digest == digest) {
            self.compile(adapter_type);
        }
        let plugins = self.plugins.load();
        let known = plugins.active.values().chain(plugins.previous.values());
        known.into_iter().find(|plugin| plugin.digest() == digest).cloned()
    }

    /// Whether [`Catalogue::get`] of this agent type returns at once. Otherwise it compiles, which takes seconds: not on a thread that
    /// serves others.
    pub fn is_compiled(&self, adapter_type: &str) -> bool {
        !self.plugins.load().uncompiled.contains_key(adapter_type)
    }

    /// Compiles the built-in plugins that no run has needed yet, so that [`Catalogue::list`] has them.
    pub fn compile_all(&self) {
        let uncompiled: Vec<String> = self.plugins.load().uncompiled.keys().cloned().collect();
        for adapter_type in uncompiled {
            self.compile(&adapter_type);
        }
    }

    /// Compiles the built-in plugin of an agent type unless it is. One that cannot be used is rejected.
    fn compile(&self, adapter_type: &str) {
        if self.is_compiled(adapter_type) {
            return;
        }
        let _changing = self.changing();
        let old = self.plugins.load_full();
        let mut new = PluginSet::clone(&old);
        // Another thread may have compiled it meanwhile.
        let Some(builtin) = new.uncompiled.remove(adapter_type) else { return };
        let source = Source::Builtin(adapter_type.to_owned());
        let loaded = Plugin::load(&self.runtime, source.clone(), builtin.bytes);
        let admitted = loaded.map_err(|error| error.diagnostic()).and_then(|plugin| {
            self.admit(&old, &plugin).map_err(|error| Diagnostic::new("rejected_plugin", error))?;
            Ok(plugin)
        });
        match admitted {
            Ok(plugin) => new.activate(&plugin),
            Err(error) => {
                let adapter_type = Some(adapter_type.to_owned());
                new.rejected.push(Rejected { adapter_type, source, error: error.message, hint: error.hint });
            }
        }
        self.plugins.store(Arc::new(new));
    }

    /// Returns all plugins that are compiled, with those that were rejected or put under quarantine.
    pub fn list(&self) -> PluginList {
        let plugins = self.plugins.load();
        let list = |plugins: &BTreeMap<String, Arc<Plugin>>| {
            plugins.values().map(|plugin| Listed::of(plugin)).collect()
        };
        let quarantined = plugins.blocked.iter().filter(|(_, block)| block.until_ms.is_some());
        PluginList {
            plugins: list(&plugins.active),
            previous: list(&plugins.previous),
            rejected: plugins.rejected.clone(),
            quarantined: quarantined
                .map(|(digest, block)| Quarantined {
                    adapter_type: block.adapter_type.clone(),
                    digest: digest.clone(),
                    reason: block.reason.clone(),
                })
                .collect(),
        }
    }

    /// Returns the runtime that all plugins share.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Sets all plugins of the cluster, and does what [`Catalogue::reload`] does.
    ///
    /// # Errors
    /// The plugins folder cannot be listed.
    pub fn set_config_maps(&self, config_maps: Vec<PluginConfigMap>) -> Result<Vec<Changed>, FolderError> {
        self.config_maps.store(Arc::new(config_maps));
        self.reload()
    }

    /// Reads the folder again and swaps in new versions that pass their recordings. This compiles plugins, so
    /// it must not run on a thread that serves others.
    ///
    /// # Errors
    /// The plugins folder cannot be listed.
    pub fn reload(&self) -> Result<Vec<Changed>, FolderError> {
        let _changing = self.changing();
        let old = self.plugins.load_full();
        let loaded: Vec<Arc<Plugin>> = old.active.values().chain(old.previous.values()).cloned().collect();
        let folder = self.options.folder.as_deref();
        let (compiled, uncompiled): (Vec<_>, Vec<_>) = self
            .builtins
            .iter()
            .partition(|(_, builtin)| loaded.iter().any(|plugin| plugin.digest() == builtin.digest));
        let compiled: Vec<_> =
            compiled.into_iter().map(|(name, builtin)| (name.as_str(), builtin.bytes)).collect();
        let load = Load { runtime: &self.runtime, loaded: &loaded };
        let config_maps = self.config_maps.load_full();
        let found = Registry::reload(&load, &compiled, folder, &config_maps)?;
        let mut new = PluginSet { rejected: found.rejected().to_vec(), ..PluginSet::clone(&old) };
        for (adapter_type, plugin) in found.plugins() {
            if old.active.get(adapter_type).is_some_and(|active| active.digest() == plugin.digest()) {
                new.active.insert(adapter_type.clone(), Arc::clone(plugin));
                continue;
            }
            match self.admit(&old, plugin) {
                Ok(()) => new.activate(plugin),
                Err(error) => new.rejected.push(Rejected {
                    adapter_type: Some(adapter_type.clone()),
                    source: plugin.source().clone(),
                    error,
                    hint: Some("put a fixed version in its place".to_owned()),
                }),
            }
        }
        // A type whose file was removed ends; one whose file is rejected keeps its version.
        let claimed: BTreeSet<String> =
            new.rejected.iter().filter_map(|rejected| rejected.adapter_type.clone()).collect();
        let is_removed = |adapter_type: &&String| {
            !found.plugins().contains_key(*adapter_type) && !claimed.contains(*adapter_type)
        };
        for adapter_type in old.active.keys().filter(is_removed) {
            new.retire(adapter_type);
        }
        let is_in_use = |adapter_type: &String| {
            let is_kept = old.uncompiled.contains_key(adapter_type);
            !new.active.contains_key(adapter_type) && (is_kept || !claimed.contains(adapter_type))
        };
        let uncompiled = uncompiled.into_iter().filter(|(adapter_type, _)| is_in_use(adapter_type));
        new.uncompiled =
            uncompiled.map(|(adapter_type, builtin)| (adapter_type.clone(), builtin.clone())).collect();
        Ok(self.swap(&old, new))
    }

    fn admit(&self, old: &PluginSet, plugin: &Arc<Plugin>) -> Result<(), String> {
        if let Some(block) = old.blocked.get(plugin.digest()) {
            return Err(format!("{}: {}", plugin.source(), block.reason));
        }
        match &self.options.folder {
            Some(folder) => golden::replay(plugin, folder),
            None => Ok(()),
        }
    }

    /// Puts a plugin into the plugins folder and makes it the active version, if it passes what a file there has to pass. Otherwise nothing
    /// changes. Returns what changed; none if it is the active version already. This compiles it.
    ///
    /// # Errors
    /// It is rejected, or cannot be written.
    pub fn install(&self, adapter_type: &str, bytes: &[u8]) -> Result<Option<Changed>, InstallError> {
        let folder = self.options.folder.as_deref().ok_or(InstallError::NoFolder)?;
        let _changing = self.changing();
        let old = self.plugins.load_full();
        // A file that has the type already is replaced: two would be ambiguous.
        let file = match old.active.get(adapter_type).map(|active| active.source()) {
            Some(Source::File(file)) => file.clone(),
            Some(Source::ConfigMap { name, .. }) => return Err(InstallError::InConfigMap(name.clone())),
            Some(Source::Builtin(_)) | None => folder.join(format!("{adapter_type}.wasm")),
        };
        let plugin = Plugin::load(&self.runtime, Source::File(file.clone()), bytes)?;
        if plugin.adapter_type() != adapter_type {
            let (requested, found) = (adapter_type.to_owned(), plugin.adapter_type().to_owned());
            return Err(InstallError::OtherType { requested, found });
        }
        self.admit(&old, &plugin).map_err(InstallError::Rejected)?;
        paperclip_files::replace(&file, bytes)?;
        let mut new = PluginSet::clone(&old);
        if old.active.get(adapter_type).is_none_or(|active| active.digest() != plugin.digest()) {
            new.activate(&plugin);
        }
        new.rejected.retain(|rejected| rejected.adapter_type.as_deref() != Some(adapter_type));
        Ok(self.swap(&old, new).pop())
    }

    /// Reverts to the previous version. The version that was in use is blocked: a reload does not load it
    /// again until it is reverted to.
    ///
    /// # Errors
    /// No previous version is known to this process.
    pub fn revert(&self, adapter_type: &str) -> Result<Changed, NoPrevious> {
        let _changing = self.changing();
        let old = self.plugins.load_full();
        let mut new = PluginSet::clone(&old);
        let none = || NoPrevious { adapter_type: adapter_type.to_owned() };
        let previous = new.previous.remove(adapter_type).ok_or_else(none)?;
        new.blocked.remove(previous.digest());
        if let Some(current) = new.active.get(adapter_type) {
            let block = Block {
                adapter_type: adapter_type.to_owned(),
                reason: format!(
                    "version {} (sha256:{:.12}) was reverted",
                    current.version(),
                    current.digest()
                ),
                until_ms: None,
            };
            new.blocked.insert(current.digest().to_owned(), block);
        }
        new.activate(&previous);
        self.swap(&old, new).pop().ok_or_else(none)
    }

    /// Counts a trap of a version in a run of an agent. Returns the replacement if that puts the version under quarantine.
    pub fn note_trap(&self, digest: &str, agent_id: &str, at_ms: u64) -> Option<Fallback> {
        let mut traps = self.changing();
        let recent = traps.entry(digest.to_owned()).or_default();
        recent.retain(|trap| trap.agent_id != agent_id && trap.at_ms + TRAP_WINDOW_MS >= at_ms);
        recent.push_back(Trap { agent_id: agent_id.to_owned(), at_ms });
        let count = recent.len();
        if count < self.options.max_traps {
            return None;
        }
        traps.remove(digest);
        let old = self.plugins.load_full();
        let (adapter_type, current) = old.active.iter().find(|(_, plugin)| plugin.digest() == digest)?;
        let reason = format!(
            "version {} (sha256:{:.12}) failed runs of {count} agents within {} minutes",
            current.version(),
            current.digest(),
            TRAP_WINDOW_MS / 60_000
        );
        let mut new = PluginSet::clone(&old);
        let previous = new.previous.remove(adapter_type);
        let previous = previous.filter(|plugin| !new.blocked.contains_key(plugin.digest()));
        new.retire(adapter_type);
        if let Some(previous) = &previous {
            new.active.insert(adapter_type.clone(), Arc::clone(previous));
        }
        let block = Block {
            adapter_type: adapter_type.clone(),
            reason: reason.clone(),
            until_ms: Some(at_ms + QUARANTINE_MS),
        };
        new.blocked.insert(digest.to_owned(), block);
        self.swap(&old, new);
        Some(Fallback {
            quarantined: Quarantined {
                adapter_type: adapter_type.clone(),
                digest: digest.to_owned(),
                reason,
            },
            to: previous.map(|plugin| plugin.digest().to_owned()),
        })
    }

    /// Ends the quarantines whose time is over. New runs use such a version again if its agent type has no other one, else after a reload.
    pub fn end_quarantines(&self, now_ms: u64) -> Vec<Changed> {
        let _changing = self.changing();
        let old = self.plugins.load_full();
        let mut new = PluginSet::clone(&old);
        let is_over = |block: &Block| block.until_ms.is_some_and(|until_ms| until_ms <= now_ms);
        for (digest, block) in old.blocked.iter().filter(|(_, block)| is_over(block)) {
            new.blocked.remove(digest);
            let is_alone = !new.active.contains_key(&block.adapter_type);
            let version = new.previous.get(&block.adapter_type).filter(|plugin| plugin.digest() == digest);
            if let Some(version) = version.filter(|_| is_alone).cloned() {
                new.previous.remove(&block.adapter_type);
                new.activate(&version);
            }
        }
        self.swap(&old, new)
    }

    /// Swaps in a new set and returns what differs.
    fn swap(&self, old: &PluginSet, new: PluginSet) -> Vec<Changed> {
        let changed = new.changes_since(old);
        self.plugins.store(Arc::new(new));
        changed
    }

    fn changing(&self) -> MutexGuard<'_, Traps> {
        self.traps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
