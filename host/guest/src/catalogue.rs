//! The plugins of a process while they change: taken from a folder, swapped under running runs, taken back, put under quarantine.
//!
//! A change is made aside and then swapped in at once. Whoever holds a plugin keeps its version. A file that is not taken changes nothing:
//! the version in use stays.

use crate::golden;
use crate::plugin::Plugin;
use crate::registry::{FolderError, Listed, NoPlugin, Registry, Rejected};
use crate::runtime::Runtime;
use arc_swap::ArcSwap;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Traps that lie further apart than this do not add up to a quarantine.
pub const TRAP_WINDOW_MS: u64 = 10 * 60 * 1_000;

/// Where the plugins come from, and how patient to be with them.
#[derive(Debug, Clone)]
pub struct CatalogueOptions {
    /// Agent type and bytes.
    pub builtins: &'static [(&'static str, &'static [u8])],
    pub folder: Option<PathBuf>,
    /// Traps of one version within [`TRAP_WINDOW_MS`] after which no new run takes it.
    pub max_traps: usize,
}

/// The plugins of a process, from which any thread takes the one in use.
#[derive(Debug)]
pub struct Catalogue {
    runtime: Runtime,
    options: CatalogueOptions,
    shelf: ArcSwap<Shelf>,
    /// Held while a change is made aside; has the times of each version's traps by digest.
    traps: Mutex<BTreeMap<String, VecDeque<u64>>>,
}

#[derive(Debug, Clone, Default)]
struct Shelf {
    active: BTreeMap<String, Arc<Plugin>>,
    previous: BTreeMap<String, Arc<Plugin>>,
    rejected: Vec<Rejected>,
    /// Versions that are not taken from the folder again, by digest.
    banned: BTreeMap<String, Ban>,
}

#[derive(Debug, Clone)]
struct Ban {
    adapter_type: String,
    reason: String,
    is_quarantine: bool,
}

/// One agent type whose plugin is another one now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    pub adapter_type: String,
    /// Digests; none: there was, or is, no plugin for the type.
    pub from: Option<String>,
    pub to: Option<String>,
}

/// A version that no new run takes any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Quarantined {
    pub adapter_type: String,
    pub digest: String,
    pub reason: String,
}

/// What new runs take in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    pub quarantined: Quarantined,
    /// Digest of the version before, if there is one.
    pub to: Option<String>,
}

/// There is no version to go back to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no previous version of {adapter_type} is known to this process")]
pub struct NoPrevious {
    pub adapter_type: String,
}

/// All that there is to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    pub plugins: Vec<Listed>,
    pub previous: Vec<Listed>,
    pub rejected: Vec<Rejected>,
    pub quarantined: Vec<Quarantined>,
}

impl Catalogue {
    /// Loads all plugins. A file that is not taken still stands for its agent type: there is no version before it.
    pub fn open(runtime: Runtime, options: CatalogueOptions) -> Result<Catalogue, FolderError> {
        let catalogue = Catalogue { runtime, options, shelf: ArcSwap::default(), traps: Mutex::default() };
        catalogue.reload()?;
        Ok(catalogue)
    }

    /// The plugin that a new run of this agent type takes.
    pub fn get(&self, adapter_type: &str) -> Result<Arc<Plugin>, NoPlugin> {
        let shelf = self.shelf.load();
        let wanted = || adapter_type.to_owned();
        if let Some(plugin) = shelf.active.get(adapter_type) {
            return Ok(Arc::clone(plugin));
        }
        if let Some(ban) = shelf.banned.values().find(|ban| ban.adapter_type == adapter_type) {
            return Err(NoPlugin::Quarantined { wanted: wanted(), reason: ban.reason.clone() });
        }
        let claim = |rejected: &&Rejected| rejected.adapter_type.as_deref() == Some(adapter_type);
        if let Some(rejected) = shelf.rejected.iter().find(claim) {
            return Err(NoPlugin::Rejected {
                wanted: wanted(),
                error: rejected.error.clone(),
                hint: rejected.hint.clone(),
            });
        }
        let known: Vec<&str> = shelf.active.keys().map(String::as_str).collect();
        Err(NoPlugin::Unknown {
            wanted: wanted(),
            known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
            into: match &self.options.folder {
                Some(folder) => folder.display().to_string(),
                None => "a folder and name it with --plugins".to_owned(),
            },
        })
    }

    /// The loaded plugin with this digest, in use or not long ago.
    pub fn by_digest(&self, digest: &str) -> Option<Arc<Plugin>> {
        let shelf = self.shelf.load();
        let known = shelf.active.values().chain(shelf.previous.values());
        known.into_iter().find(|plugin| plugin.digest() == digest).cloned()
    }

    pub fn show(&self) -> Shown {
        let shelf = self.shelf.load();
        let listed = |plugins: &BTreeMap<String, Arc<Plugin>>| {
            plugins.values().map(|plugin| Listed::of(plugin)).collect()
        };
        let quarantined = shelf.banned.iter().filter(|(_, ban)| ban.is_quarantine);
        Shown {
            plugins: listed(&shelf.active),
            previous: listed(&shelf.previous),
            rejected: shelf.rejected.clone(),
            quarantined: quarantined
                .map(|(digest, ban)| Quarantined {
                    adapter_type: ban.adapter_type.clone(),
                    digest: digest.clone(),
                    reason: ban.reason.clone(),
                })
                .collect(),
        }
    }

    /// The runtime that all plugins share.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Looks at the folder again and swaps in what is new and good. Compiles: not on a thread that serves others.
    pub fn reload(&self) -> Result<Vec<Changed>, FolderError> {
        let _changing = self.changing();
        let old = self.shelf.load_full();
        let loaded: Vec<Arc<Plugin>> = old.active.values().chain(old.previous.values()).cloned().collect();
        let folder = self.options.folder.as_deref();
        let found = Registry::reload(&self.runtime, self.options.builtins, folder, &loaded)?;
        let mut new = Shelf { rejected: found.rejected().to_vec(), ..Shelf::clone(&old) };
        for (adapter_type, plugin) in found.plugins() {
            if old.active.get(adapter_type).is_some_and(|active| active.digest() == plugin.digest()) {
                new.active.insert(adapter_type.clone(), Arc::clone(plugin));
                continue;
            }
            match self.admit(&old, plugin) {
                Ok(()) => new.put(plugin),
                Err(error) => new.rejected.push(Rejected {
                    adapter_type: Some(adapter_type.clone()),
                    source: plugin.source().clone(),
                    error,
                    hint: Some("put a fixed version into the plugins folder".to_owned()),
                }),
            }
        }
        // A type whose file was taken away is gone; one whose file is bad stays as it was.
        let is_claimed = |adapter_type: &str| {
            new.rejected.iter().any(|rejected| rejected.adapter_type.as_deref() == Some(adapter_type))
        };
        let gone: Vec<String> = old
            .active
            .keys()
            .filter(|adapter_type| !found.plugins().contains_key(*adapter_type) && !is_claimed(adapter_type))
            .cloned()
            .collect();
        for adapter_type in gone {
            new.take_out(&adapter_type);
        }
        Ok(self.swap(&old, new))
    }

    fn admit(&self, old: &Shelf, plugin: &Arc<Plugin>) -> Result<(), String> {
        if let Some(ban) = old.banned.get(plugin.digest()) {
            return Err(format!("{}: {}", plugin.source(), ban.reason));
        }
        match &self.options.folder {
            Some(folder) => golden::replay(plugin, folder),
            None => Ok(()),
        }
    }

    /// Goes back to the version before. The version that was in use is not taken from the folder again until it is reverted to, too.
    pub fn revert(&self, adapter_type: &str) -> Result<Changed, NoPrevious> {
        let _changing = self.changing();
        let old = self.shelf.load_full();
        let mut new = Shelf::clone(&old);
        let none = || NoPrevious { adapter_type: adapter_type.to_owned() };
        let wanted = new.previous.remove(adapter_type).ok_or_else(none)?;
        new.banned.remove(wanted.digest());
        if let Some(current) = new.active.get(adapter_type) {
            let ban = Ban {
                adapter_type: adapter_type.to_owned(),
                reason: format!(
                    "version {} (sha256:{:.12}) was reverted",
                    current.version(),
                    current.digest()
                ),
                is_quarantine: false,
            };
            new.banned.insert(current.digest().to_owned(), ban);
        }
        new.put(&wanted);
        self.swap(&old, new).pop().ok_or_else(none)
    }

    /// Counts a trap of a version. If they are too many, new runs take the version before, or none.
    pub fn note_trap(&self, digest: &str, at_ms: u64) -> Option<Fallback> {
        let mut traps = self.changing();
        let times = traps.entry(digest.to_owned()).or_default();
        times.push_back(at_ms);
        while times.front().is_some_and(|first| first + TRAP_WINDOW_MS < at_ms) {
            times.pop_front();
        }
        let count = times.len();
        if count < self.options.max_traps {
            return None;
        }
        traps.remove(digest);
        let old = self.shelf.load_full();
        let (adapter_type, current) = old.active.iter().find(|(_, plugin)| plugin.digest() == digest)?;
        let reason = format!(
            "version {} (sha256:{:.12}) broke {count} runs within {} minutes",
            current.version(),
            current.digest(),
            TRAP_WINDOW_MS / 60_000
        );
        let mut new = Shelf::clone(&old);
        let before = new.previous.remove(adapter_type);
        let before = before.filter(|plugin| !new.banned.contains_key(plugin.digest()));
        new.take_out(adapter_type);
        if let Some(before) = &before {
            new.active.insert(adapter_type.clone(), Arc::clone(before));
        }
        let ban = Ban { adapter_type: adapter_type.clone(), reason: reason.clone(), is_quarantine: true };
        new.banned.insert(digest.to_owned(), ban);
        self.swap(&old, new);
        Some(Fallback {
            quarantined: Quarantined {
                adapter_type: adapter_type.clone(),
                digest: digest.to_owned(),
                reason,
            },
            to: before.map(|plugin| plugin.digest().to_owned()),
        })
    }

    /// Puts a new shelf in place and tells what differs.
    fn swap(&self, old: &Shelf, new: Shelf) -> Vec<Changed> {
        let digest = |shelf: &Shelf, adapter_type: &str| {
            shelf.active.get(adapter_type).map(|plugin| plugin.digest().to_owned())
        };
        let mut types: Vec<&String> = old.active.keys().chain(new.active.keys()).collect();
        types.sort();
        types.dedup();
        let changed = types
            .into_iter()
            .map(|adapter_type| Changed {
                adapter_type: adapter_type.clone(),
                from: digest(old, adapter_type),
                to: digest(&new, adapter_type),
            })
            .filter(|changed| changed.from != changed.to)
            .collect();
        self.shelf.store(Arc::new(new));
        changed
    }

    fn changing(&self) -> MutexGuard<'_, BTreeMap<String, VecDeque<u64>>> {
        self.traps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// Puts a version in use; the one that was in use becomes the previous one.
    fn put(&mut self, plugin: &Arc<Plugin>) {
        self.take_out(plugin.adapter_type());
        self.active.insert(plugin.adapter_type().to_owned(), Arc::clone(plugin));
    }

    fn take_out(&mut self, adapter_type: &str) {
        if let Some(current) = self.active.remove(adapter_type) {
            self.previous.insert(adapter_type.to_owned(), current);
        }
    }
}
