//! What a plugin's file contains, and whether this host can use it.

use crate::component_info::{self, ComponentInfo};
use crate::contract;
use crate::digest::sha256_hex;
use crate::load_error::LoadError;
use crate::plugin::Plugin;
use crate::runtime::Runtime;
use crate::source::Source;
use serde::Serialize;
use std::fmt;

/// The properties of a plugin's file, for a person (`Display`, several lines) or a program (JSON).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    pub source: Source,
    /// SHA-256 of the bytes, hexadecimal.
    pub digest: String,
    pub size_bytes: u64,
    /// The version of `paperclip:agent` that it implements; none if it exports no interface of it.
    pub contract: Option<String>,
    pub exports: Vec<String>,
    /// Empty in a plugin.
    pub imports: Vec<String>,
    /// The linear memory of a fresh instance.
    pub initial_memory_bytes: u64,
    /// The largest linear memory of an instance: the plugin's limit or the host's.
    pub max_memory_bytes: u64,
    pub core_instances: u32,
    /// The agent type from the plugin's description; none if this host rejects the plugin.
    pub adapter_type: Option<String>,
    pub label: Option<String>,
    pub version: Option<String>,
    /// Why this host rejects it.
    pub problem: Option<String>,
}

/// Returns the properties of a component, including one that this host rejects.
///
/// # Errors
/// The bytes are not a component.
pub fn inspect(runtime: &Runtime, source: Source, bytes: &[u8]) -> Result<Inspection, LoadError> {
    match Plugin::load(runtime, source.clone(), bytes) {
        Ok(plugin) => Ok(of_plugin(&plugin)),
        Err(error) => match component_info::read(bytes) {
            Ok(info) => {
                let problem = Some(error.to_string());
                Ok(Inspection {
                    problem,
                    ..properties(runtime, source, &sha256_hex(bytes), bytes.len() as u64, info)
                })
            }
            Err(_) => Err(error),
        },
    }
}

/// Returns the properties of a plugin that this host can use.
///
/// # Errors
/// The host rejects it.
pub fn verify(runtime: &Runtime, source: Source, bytes: &[u8]) -> Result<Inspection, LoadError> {
    Plugin::load(runtime, source, bytes).map(|plugin| of_plugin(&plugin))
}

impl Plugin {
    /// Returns the properties of the plugin's file.
    pub fn inspection(&self) -> Inspection {
        of_plugin(self)
    }
}

fn of_plugin(plugin: &Plugin) -> Inspection {
    let descriptor = plugin.descriptor();
    let size_bytes = plugin.size_bytes();
    let properties = properties(
        plugin.runtime(),
        plugin.source().clone(),
        plugin.digest(),
        size_bytes,
        plugin.info().clone(),
    );
    Inspection {
        adapter_type: Some(descriptor.adapter_type.clone()),
        label: Some(descriptor.label.clone()),
        version: Some(descriptor.version.clone()),
        ..properties
    }
}

fn properties(
    runtime: &Runtime,
    source: Source,
    digest: &str,
    size_bytes: u64,
    info: ComponentInfo,
) -> Inspection {
    let host_limit_bytes = runtime.memory_bytes();
    Inspection {
        source,
        digest: digest.to_owned(),
        size_bytes,
        contract: contract::exported_version(&info).map(str::to_owned),
        exports: info.exports,
        imports: info.imports,
        initial_memory_bytes: info.initial_memory_bytes,
        max_memory_bytes: info.max_memory_bytes.map_or(host_limit_bytes, |limit| limit.min(host_limit_bytes)),
        core_instances: info.core_instances,
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
