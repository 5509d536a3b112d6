//! The plugins of a process by agent type.

use crate::digest::sha256_hex;
use crate::load_error::LoadError;
use crate::plugin::{self, Plugin};
use crate::runtime::Runtime;
use crate::source::Source;
use paperclip_diagnostic::{Diagnose as _, Diagnostic};
use paperclip_files::Root;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The plugins of a process by agent type: the built-in ones, and over them those of a folder.
///
/// A rejected file does not affect others. It still claims its agent type: [`Registry::get`] returns why the
/// file is rejected instead of the built-in plugin that the operator intended to replace.
#[derive(Debug)]
pub struct Registry {
    plugins: BTreeMap<String, Arc<Plugin>>,
    rejected: Vec<Rejected>,
    folder: Option<PathBuf>,
}

/// A plugin in use, as `GET /v1/plugins` returns it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    pub adapter_type: String,
    /// The version of the plugin.
    pub version: String,
    /// SHA-256 of its bytes, hexadecimal.
    pub digest: String,
    /// The version of the contract that it implements.
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

/// A plugin that is rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// Its agent type, or the one that its name implies.
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

/// An agent type has no usable plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlugin {
    #[error("no plugin for agent type {adapter_type:?}; known: {known}")]
    Unknown { adapter_type: String, known: String, into: String },
    #[error("the plugin for agent type {adapter_type:?} is not usable: {error}")]
    Rejected { adapter_type: String, error: String, hint: Option<String> },
    #[error("the plugin for agent type {adapter_type:?} is under quarantine: {reason}")]
    Quarantined { adapter_type: String, reason: String },
}

impl NoPlugin {
    /// Returns why no plugin is in use for this agent type, given those that are rejected and the `known`
    /// types.
    pub(crate) fn new<'a>(
        adapter_type: &str,
        rejected: &[Rejected],
        known: impl Iterator<Item = &'a String>,
        folder: Option<&Path>,
    ) -> NoPlugin {
        let adapter_type = adapter_type.to_owned();
        if let Some(rejected) = Rejected::of_type(rejected, &adapter_type) {
            let (error, hint) = (rejected.error.clone(), rejected.hint.clone());
            return NoPlugin::Rejected { adapter_type, error, hint };
        }
        let known: Vec<&str> = known.map(String::as_str).collect();
        NoPlugin::Unknown {
            adapter_type,
            known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
            into: match folder {
                Some(folder) => folder.display().to_string(),
                None => "a folder and name it with --plugins".to_owned(),
            },
        }
    }
}

impl Rejected {
    /// Returns the rejected plugin that claims this agent type.
    pub(crate) fn of_type<'a>(rejected: &'a [Rejected], adapter_type: &str) -> Option<&'a Rejected> {
        rejected.iter().find(|rejected| rejected.adapter_type.as_deref() == Some(adapter_type))
    }
}

impl Registry {
    /// Loads every `*.wasm` of `folder`, then each of `builtins` (agent type, bytes) whose type no file
    /// claims.
    ///
    /// # Errors
    /// The folder cannot be listed. A plugin that is rejected is not an error, see [`Registry::rejected`].
    pub fn load(
        runtime: &Runtime,
        builtins: &[(&str, &[u8])],
        folder: Option<&Path>,
    ) -> Result<Registry, FolderError> {
        Registry::reload(&Load { runtime, loaded: &[] }, builtins, folder, &[])
    }

    /// Does what [`Registry::load`] does, with the plugins of ConfigMaps beside those of the folder.
    pub(crate) fn reload(
        load: &Load<'_>,
        builtins: &[(&str, &[u8])],
        folder: Option<&Path>,
        config_maps: &[PluginConfigMap],
    ) -> Result<Registry, FolderError> {
        let mut registry =
            Registry { plugins: BTreeMap::new(), rejected: Vec::new(), folder: folder.map(Path::to_owned) };
        let mut found = Vec::new();
        if let Some(folder) = folder {
            let failed = |error| FolderError { folder: folder.to_owned(), error };
            let root = Root::open(folder).map_err(failed)?;
            let names = wasm_files(&root).map_err(failed)?;
            found.extend(names.iter().map(|name| {
                let source = Source::File(folder.join(name));
                let loaded = load.file(&root, &source, name);
                (source, loaded)
            }));
        }
        found.extend(config_maps.iter().map(|config_map| {
            let source = config_map.source.clone();
            let loaded = match &config_map.plugin {
                Ok(bytes) => load.bytes(source.clone(), bytes).and_then(of_its_label),
                Err(reason) => {
                    Err(LoadError::Read { from: source.clone(), error: io::Error::other(reason.clone()) })
                }
            };
            (source, loaded)
        }));
        registry.add(found);
        for (name, bytes) in builtins {
            if registry.plugins.contains_key(*name) || Rejected::of_type(&registry.rejected, name).is_some() {
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

    /// Returns the plugin of an agent type. A holder keeps its version when the registry is replaced.
    ///
    /// # Errors
    /// No plugin claims the type, or the one that does was rejected.
    pub fn get(&self, adapter_type: &str) -> Result<&Arc<Plugin>, NoPlugin> {
        self.plugins.get(adapter_type).ok_or_else(|| {
            NoPlugin::new(adapter_type, &self.rejected, self.plugins.keys(), self.folder.as_deref())
        })
    }

    /// Returns the plugins in use, one per agent type, ordered by it.
    pub fn list(&self) -> Vec<Listed> {
        self.plugins.values().map(|plugin| Listed::of(plugin)).collect()
    }

    /// Returns the rejected plugins: those of the folder, then the built-in ones.
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    pub(crate) fn plugins(&self) -> &BTreeMap<String, Arc<Plugin>> {
        &self.plugins
    }

    /// Adds plugins, each of which must be the only one of its agent type.
    fn add(&mut self, found: Vec<(Source, Result<Arc<Plugin>, LoadError>)>) {
        let mut by_type: BTreeMap<String, Vec<Arc<Plugin>>> = BTreeMap::new();
        for (source, loaded) in found {
            match loaded {
                Ok(plugin) => {
                    by_type.entry(plugin.adapter_type().to_owned()).or_default().push(plugin);
                }
                Err(error) => self.reject(source.expected_type(), source, error.diagnostic()),
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

    /// Rejects all files of one type: it is ambiguous which of them is intended.
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

/// A ConfigMap that has a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginConfigMap {
    /// A [`Source::ConfigMap`].
    pub source: Source,
    /// The component, or why it cannot be taken out of the ConfigMap.
    pub plugin: Result<Arc<[u8]>, String>,
}

/// Loads plugins, from those that are loaded already where possible.
pub(crate) struct Load<'a> {
    pub runtime: &'a Runtime,
    pub loaded: &'a [Arc<Plugin>],
}

impl Load<'_> {
    fn file(&self, root: &Root, source: &Source, name: &Path) -> Result<Arc<Plugin>, LoadError> {
        let bytes = plugin::read(root, source, name)?;
        self.bytes(source.clone(), &bytes)
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

/// Rejects a plugin of another agent type than its ConfigMap's label names.
fn of_its_label(plugin: Arc<Plugin>) -> Result<Arc<Plugin>, LoadError> {
    let label = plugin.source().expected_type();
    if label.as_deref() == Some(plugin.adapter_type()) {
        return Ok(plugin);
    }
    let (from, found) = (plugin.source().clone(), plugin.adapter_type());
    Err(LoadError::Descriptor {
        from,
        reason: format!("its agent type is {found}, its label says {}", label.unwrap_or_default()),
    })
}

/// Lists the `*.wasm` of a folder by name.
fn wasm_files(root: &Root) -> io::Result<Vec<PathBuf>> {
    let mut names = root.names(Path::new(""))?;
    names.retain(|name| name.extension().is_some_and(|extension| extension == "wasm"));
    Ok(names)
}
