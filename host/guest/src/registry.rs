//! The plugins of a process by agent type.

use crate::digest::sha256_hex;
use crate::load_error::LoadError;
use crate::plugin::{self, Plugin};
use crate::runtime::Runtime;
use crate::source::Source;
use paperclip_diagnostic::{Diagnose as _, Diagnostic};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The plugins of a process by agent type: the built-in ones, and over them those of a folder.
///
/// A file that is not taken stops no other. It still stands for its agent type: [`Registry::get`] of that type tells
/// what is wrong with it rather than fall back to a built-in plugin that the operator meant to replace.
#[derive(Debug)]
pub struct Registry {
    plugins: BTreeMap<String, Arc<Plugin>>,
    rejected: Vec<Rejected>,
    folder: Option<PathBuf>,
}

/// A plugin in use, as `GET /v1/plugins` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    pub adapter_type: String,
    /// The plugin's own version.
    pub version: String,
    /// SHA-256 of its bytes, hexadecimal.
    pub digest: String,
    /// Version of the contract that it was built for.
    pub contract: String,
    pub source: Source,
}

impl Listed {
    pub(crate) fn of(plugin: &Plugin) -> Listed {
        Listed {
            adapter_type: plugin.adapter_type().to_owned(),
            version: plugin.version().to_owned(),
            digest: plugin.digest().to_owned(),
            contract: plugin.contract().to_owned(),
            source: plugin.source().clone(),
        }
    }
}

/// A plugin that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// The agent type that it has, or that its name lets expect.
    pub adapter_type: Option<String>,
    pub source: Source,
    /// Names the source and what is wrong with it.
    pub error: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The plugins folder cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("plugins folder {}: {error}", folder.display())]
pub struct FolderError {
    pub folder: PathBuf,
    pub error: io::Error,
}

/// There is no plugin to use for an agent type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlugin {
    #[error("no plugin for agent type {wanted:?}; known: {known}")]
    Unknown { wanted: String, known: String, into: String },
    #[error("the plugin for agent type {wanted:?} is not usable: {error}")]
    Rejected { wanted: String, error: String, hint: Option<String> },
    #[error("the plugin for agent type {wanted:?} is under quarantine: {reason}")]
    Quarantined { wanted: String, reason: String },
}

impl Registry {
    /// Loads every `*.wasm` of `folder`, then each of `builtins` (agent type, bytes) whose type no file claims.
    pub fn load(
        runtime: &Runtime,
        builtins: &[(&str, &[u8])],
        folder: Option<&Path>,
    ) -> Result<Registry, FolderError> {
        Registry::reload(runtime, builtins, folder, &[])
    }

    /// [`Registry::load`] that takes what has not changed from these plugins instead of compiling it again.
    pub(crate) fn reload(
        runtime: &Runtime,
        builtins: &[(&str, &[u8])],
        folder: Option<&Path>,
        loaded: &[Arc<Plugin>],
    ) -> Result<Registry, FolderError> {
        let mut registry =
            Registry { plugins: BTreeMap::new(), rejected: Vec::new(), folder: folder.map(Path::to_owned) };
        let load = Load { runtime, loaded };
        if let Some(folder) = folder {
            let files =
                wasm_files(folder).map_err(|error| FolderError { folder: folder.to_owned(), error })?;
            registry.add_files(&load, &files);
        }
        for (name, bytes) in builtins {
            if registry.plugins.contains_key(*name) || registry.rejected_claim(name).is_some() {
                continue;
            }
            let source = Source::Builtin((*name).to_owned());
            match load.bytes(source.clone(), bytes) {
                Ok(plugin) => {
                    registry.plugins.entry(plugin.adapter_type().to_owned()).or_insert(plugin);
                }
                Err(error) => registry.reject(source.expected_type(), source, error.diagnostic()),
            }
        }
        Ok(registry)
    }

    /// The plugin to use for an agent type from now on. Whoever holds it keeps its version.
    pub fn get(&self, adapter_type: &str) -> Result<&Arc<Plugin>, NoPlugin> {
        let wanted = adapter_type.to_owned();
        if let Some(plugin) = self.plugins.get(adapter_type) {
            return Ok(plugin);
        }
        if let Some(rejected) = self.rejected_claim(adapter_type) {
            return Err(NoPlugin::Rejected {
                wanted,
                error: rejected.error.clone(),
                hint: rejected.hint.clone(),
            });
        }
        Err(NoPlugin::Unknown {
            wanted,
            known: match self.plugins.len() {
                0 => "none".to_owned(),
                _ => self.plugins.keys().cloned().collect::<Vec<_>>().join(", "),
            },
            into: match &self.folder {
                Some(folder) => folder.display().to_string(),
                None => "a folder and name it with --plugins".to_owned(),
            },
        })
    }

    /// The plugins in use, one an agent type, ordered by it.
    pub fn list(&self) -> Vec<Listed> {
        self.plugins.values().map(|plugin| Listed::of(plugin)).collect()
    }

    /// The plugins that are not taken: those of the folder, then the built-in ones.
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    fn rejected_claim(&self, adapter_type: &str) -> Option<&Rejected> {
        self.rejected.iter().find(|rejected| rejected.adapter_type.as_deref() == Some(adapter_type))
    }

    pub(crate) fn plugins(&self) -> &BTreeMap<String, Arc<Plugin>> {
        &self.plugins
    }

    fn add_files(&mut self, load: &Load<'_>, files: &[PathBuf]) {
        let mut by_type: BTreeMap<String, Vec<Arc<Plugin>>> = BTreeMap::new();
        for path in files {
            match load.file(path) {
                Ok(plugin) => {
                    by_type.entry(plugin.adapter_type().to_owned()).or_default().push(plugin);
                }
                Err(error) => {
                    let source = Source::File(path.clone());
                    self.reject(source.expected_type(), source, error.diagnostic());
                }
            }
        }
        for (adapter_type, mut claimants) in by_type {
            match (claimants.pop(), claimants.as_slice()) {
                (Some(only), []) => {
                    self.plugins.insert(adapter_type, only);
                }
                (last, others) => {
                    let all: Vec<&Arc<Plugin>> = others.iter().chain(&last).collect();
                    self.reject_all(&adapter_type, &all);
                }
            }
        }
    }

    /// Nobody can tell which of several files of one type is meant.
    fn reject_all(&mut self, adapter_type: &str, claimants: &[&Arc<Plugin>]) {
        let names: Vec<String> = claimants.iter().map(|plugin| plugin.source().to_string()).collect();
        let problem = Diagnostic::new(
            "ambiguous_plugin",
            format!("{} are all of agent type {adapter_type}", names.join(", ")),
        )
        .with_hint("keep one of them");
        for plugin in claimants {
            self.reject(Some(adapter_type.to_owned()), plugin.source().clone(), problem.clone());
        }
    }

    fn reject(&mut self, adapter_type: Option<String>, source: Source, problem: Diagnostic) {
        let Diagnostic { message: error, hint, .. } = problem;
        self.rejected.push(Rejected { adapter_type, source, error, hint });
    }
}

/// Where plugins come from: what is loaded already, else the compiler.
struct Load<'a> {
    runtime: &'a Runtime,
    loaded: &'a [Arc<Plugin>],
}

impl Load<'_> {
    fn file(&self, path: &Path) -> Result<Arc<Plugin>, LoadError> {
        let source = Source::File(path.to_owned());
        let bytes = plugin::read(&source, path)?;
        self.bytes(source, &bytes)
    }

    fn bytes(&self, source: Source, bytes: &[u8]) -> Result<Arc<Plugin>, LoadError> {
        if !self.loaded.is_empty() {
            let digest = sha256_hex(bytes);
            let is_same = |plugin: &&Arc<Plugin>| plugin.digest() == digest && *plugin.source() == source;
            if let Some(same) = self.loaded.iter().find(is_same) {
                return Ok(Arc::clone(same));
            }
        }
        Plugin::load(self.runtime, source, bytes)
    }
}

/// The `*.wasm` of a folder by name.
fn wasm_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
