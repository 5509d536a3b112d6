//! What a plugin's file holds, and whether this host takes it.

use crate::anatomy::{self, Anatomy};
use crate::contract;
use crate::digest::sha256_hex;
use crate::load_error::LoadError;
use crate::plugin::Plugin;
use crate::runtime::Runtime;
use crate::source::Source;
use serde::Serialize;
use std::fmt;

/// A plugin's file, told to a person (`Display`, several lines) or a program (JSON).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    pub source: Source,
    /// SHA-256 of the bytes, hexadecimal.
    pub digest: String,
    pub size_bytes: u64,
    /// Version of `paperclip:agent` that it speaks; none: it exports nothing of it.
    pub contract: Option<String>,
    pub exports: Vec<String>,
    /// Empty in a plugin.
    pub imports: Vec<String>,
    /// Linear memory of a fresh instance.
    pub initial_memory_bytes: u64,
    /// The most that an instance may grow to: the plugin's own limit or the host's.
    pub max_memory_bytes: u64,
    pub core_instances: u32,
    /// What the plugin says it is; none: this host does not take it.
    pub adapter_type: Option<String>,
    pub label: Option<String>,
    pub version: Option<String>,
    /// Why this host does not take it.
    pub problem: Option<String>,
}

/// Tells what `bytes` hold, also of a component that this host does not take.
///
/// # Errors
/// If the bytes are no component at all.
pub fn inspect(runtime: &Runtime, source: Source, bytes: &[u8]) -> Result<Inspection, LoadError> {
    match Plugin::load(runtime, source.clone(), bytes) {
        Ok(plugin) => Ok(of_plugin(&plugin)),
        Err(error) => match anatomy::read(bytes) {
            Ok(anatomy) => {
                let problem = Some(error.to_string());
                Ok(Inspection {
                    problem,
                    ..outside(runtime, source, &sha256_hex(bytes), bytes.len() as u64, anatomy)
                })
            }
            Err(_) => Err(error),
        },
    }
}

/// [`inspect`] of a plugin that this host must take.
///
/// # Errors
/// If it does not.
pub fn verify(runtime: &Runtime, source: Source, bytes: &[u8]) -> Result<Inspection, LoadError> {
    Plugin::load(runtime, source, bytes).map(|plugin| of_plugin(&plugin))
}

impl Plugin {
    /// What the plugin's file holds.
    pub fn inspection(&self) -> Inspection {
        of_plugin(self)
    }
}

fn of_plugin(plugin: &Plugin) -> Inspection {
    let said = plugin.descriptor();
    let size_bytes = plugin.size_bytes();
    let outside = outside(
        plugin.runtime(),
        plugin.source().clone(),
        plugin.digest(),
        size_bytes,
        plugin.anatomy().clone(),
    );
    Inspection {
        adapter_type: Some(said.adapter_type.clone()),
        label: Some(said.label.clone()),
        version: Some(said.version.clone()),
        ..outside
    }
}

fn outside(runtime: &Runtime, source: Source, digest: &str, size_bytes: u64, anatomy: Anatomy) -> Inspection {
    let host_limit_bytes = runtime.memory_bytes();
    Inspection {
        source,
        digest: digest.to_owned(),
        size_bytes,
        contract: contract::exported_version(&anatomy).map(str::to_owned),
        exports: anatomy.exports,
        imports: anatomy.imports,
        initial_memory_bytes: anatomy.initial_memory_bytes,
        max_memory_bytes: anatomy.max_memory_bytes.map_or(host_limit_bytes, |own| own.min(host_limit_bytes)),
        core_instances: anatomy.core_instances,
        adapter_type: None,
        label: None,
        version: None,
        problem: None,
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
        let or_none = |names: &[String]| match names {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        let rows = [
            ("source", self.source.to_string()),
            ("agent type", or_unknown(&self.adapter_type)),
            ("label", or_unknown(&self.label)),
            ("version", or_unknown(&self.version)),
            ("digest", format!("sha256:{}", self.digest)),
            ("size", kib(self.size_bytes)),
            ("contract", or_unknown(&self.contract)),
            ("exports", or_none(&self.exports)),
            ("imports", or_none(&self.imports)),
            (
                "memory",
                format!(
                    "{} at first, at most {}",
                    kib(self.initial_memory_bytes),
                    kib(self.max_memory_bytes)
                ),
            ),
            ("core instances", self.core_instances.to_string()),
            (
                "usable here",
                self.problem.as_ref().map_or("yes".to_owned(), |problem| format!("no: {problem}")),
            ),
        ];
        for (name, value) in rows {
            writeln!(f, "{name:<16}{value}")?;
        }
        Ok(())
    }
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}
