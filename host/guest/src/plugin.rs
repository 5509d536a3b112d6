//! One plugin: read, verified, compiled and tried out.

use crate::anatomy::{self, Anatomy, Unreadable};
use crate::budget::{MAX_PLUGIN_BYTES, TOOL_FUEL};
use crate::contract::{self, ContractVersion, ExportsPre, Mismatch};
use crate::digest::sha256_hex;
use crate::instance::Instance;
use crate::live::{Identity, Live};
use crate::load_error::LoadError;
use crate::runtime::Runtime;
use crate::source::Source;
use paperclip_contract::types::Descriptor;
use paperclip_engine::{FaultCause, GuestFault};
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use wasmtime::component::{Component, Linker};

/// A plugin that this host takes.
pub struct Plugin {
    source: Source,
    file: Arc<[u8]>,
    anatomy: Anatomy,
    contract: String,
    descriptor: Descriptor,
    identity: Arc<Identity>,
    runtime: Runtime,
    pre: ExportsPre,
}

impl Plugin {
    /// Verifies, compiles and tries out a plugin. Takes 0.1 s or more the first time, about 1 ms from the cache: not on
    /// a thread that serves others.
    pub fn load(runtime: &Runtime, source: Source, bytes: &[u8]) -> Result<Arc<Plugin>, LoadError> {
        let (anatomy, version) = acceptable(runtime, &source, bytes)?;
        let pre = compile(runtime, &source, bytes, version)?;
        let unknown =
            Identity { plugin: source.to_string(), version: "?".to_owned(), digest: sha256_hex(bytes) };
        let descriptor = try_out(runtime, &source, &pre, version, unknown.clone())?;
        let identity = Identity {
            plugin: descriptor.adapter_type.clone(),
            version: descriptor.version.clone(),
            ..unknown
        };
        Ok(Arc::new(Plugin {
            contract: contract::exported_version(&anatomy).unwrap_or(version.number()).to_owned(),
            source,
            file: bytes.into(),
            anatomy,
            descriptor,
            identity: Arc::new(identity),
            runtime: runtime.clone(),
            pre,
        }))
    }

    /// [`Plugin::load`] of a file.
    pub fn load_file(runtime: &Runtime, path: &Path) -> Result<Arc<Plugin>, LoadError> {
        let source = Source::File(path.to_owned());
        let bytes = read(&source, path)?;
        Plugin::load(runtime, source, &bytes)
    }

    /// A fresh instance for one run.
    ///
    /// # Errors
    /// [`FaultCause::NoRoom`] if as many instances live as may.
    pub fn instantiate(self: &Arc<Self>) -> Result<Instance, GuestFault> {
        Ok(Instance::new(Arc::clone(self), self.live()?))
    }

    /// What the plugin says it is.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Agent type, such as `claude_k8s`.
    pub fn adapter_type(&self) -> &str {
        &self.descriptor.adapter_type
    }

    /// The plugin's own version.
    pub fn version(&self) -> &str {
        &self.descriptor.version
    }

    /// SHA-256 of the plugin's bytes, hexadecimal.
    pub fn digest(&self) -> &str {
        &self.identity.digest
    }

    /// Version of the contract that it was built for, such as `0.2.0`.
    pub fn contract(&self) -> &str {
        &self.contract
    }

    /// Where it was loaded from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Size of its file in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.file.len() as u64
    }

    /// Its file as it was loaded, whatever has become of it since.
    pub fn file(&self) -> &[u8] {
        &self.file
    }

    pub(crate) fn anatomy(&self) -> &Anatomy {
        &self.anatomy
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) fn live(&self) -> Result<Live, GuestFault> {
        Live::new(&self.runtime, &self.pre, Arc::clone(&self.identity))
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("identity", &self.identity)
            .field("source", &self.source)
            .field("contract", &self.contract)
            .finish_non_exhaustive()
    }
}

/// Reads a plugin's file, which may be any file that somebody named.
pub(crate) fn read(source: &Source, path: &Path) -> Result<Vec<u8>, LoadError> {
    let failed = |error| LoadError::Read { from: source.clone(), error };
    let found = fs::metadata(path).map_err(failed)?.len();
    if found > MAX_PLUGIN_BYTES {
        return Err(LoadError::TooLarge { from: source.clone(), found });
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_PLUGIN_BYTES).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

/// All that can be said without compiling.
fn acceptable(
    runtime: &Runtime,
    source: &Source,
    bytes: &[u8],
) -> Result<(Anatomy, ContractVersion), LoadError> {
    let from = source.clone();
    let anatomy = match anatomy::read(bytes) {
        Ok(anatomy) => anatomy,
        Err(Unreadable::NotAComponent(found)) => return Err(LoadError::NotAComponent { from, found }),
        Err(Unreadable::Damaged(reason)) => return Err(LoadError::Damaged { from, reason }),
    };
    let version = match contract::check(&anatomy) {
        Ok(version) => version,
        Err(Mismatch::Version(found)) => {
            return Err(LoadError::Version { from, found, supported: contract::supported() });
        }
        Err(Mismatch::Missing(missing)) => return Err(LoadError::NotAPlugin { from, missing }),
        Err(Mismatch::Imports(imports)) => return Err(LoadError::Imports { from, imports }),
    };
    let (found_bytes, limit_bytes) = (anatomy.initial_memory_bytes, runtime.memory_bytes());
    if found_bytes > limit_bytes {
        return Err(LoadError::Memory { from, found_bytes, limit_bytes });
    }
    Ok((anatomy, version))
}

fn compile(
    runtime: &Runtime,
    source: &Source,
    bytes: &[u8],
    version: ContractVersion,
) -> Result<ExportsPre, LoadError> {
    let from = || source.clone();
    let component = Component::from_binary(runtime.engine(), bytes)
        .map_err(|error| LoadError::Compile { from: from(), reason: one_line(&error) })?;
    Linker::new(runtime.engine())
        .instantiate_pre(&component)
        .and_then(|pre| ExportsPre::new(version, pre))
        .map_err(|error| LoadError::Shape {
            from: from(),
            version: version.number(),
            reason: one_line(&error),
        })
}

/// Makes an instance and asks it who it is. Only an instance shows whether the functions have the contract's types.
fn try_out(
    runtime: &Runtime,
    source: &Source,
    pre: &ExportsPre,
    version: ContractVersion,
    identity: Identity,
) -> Result<Descriptor, LoadError> {
    let failed = |fault: GuestFault| match (fault.call, fault.cause) {
        (_, FaultCause::NoRoom(reason)) => LoadError::NoRoom { from: source.clone(), reason },
        ("instantiate", FaultCause::Contract(reason)) => {
            LoadError::Shape { from: source.clone(), version: version.number(), reason }
        }
        (call, cause) => LoadError::Trial { from: source.clone(), call, cause },
    };
    let descriptor = Live::new(runtime, pre, Arc::new(identity))
        .and_then(|mut live| live.call("describe", TOOL_FUEL, |store, plugin| plugin.describe(store)))
        .map_err(failed)?;
    match implausible(&descriptor) {
        None => Ok(descriptor),
        Some(reason) => Err(LoadError::Descriptor { from: source.clone(), reason }),
    }
}

/// What is wrong with a plugin's description of itself.
fn implausible(descriptor: &Descriptor) -> Option<String> {
    let is_type = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    if !is_type(&descriptor.adapter_type) {
        return Some(format!(
            "its agent type is {:?}, which must be of a-z, 0-9 and _, such as `claude_k8s`",
            descriptor.adapter_type
        ));
    }
    if descriptor.version.is_empty() {
        return Some("it has no version".to_owned());
    }
    if descriptor.container_name.is_empty() {
        return Some("it names no container for the agent".to_owned());
    }
    None
}

/// An error and its causes as one line.
fn one_line(error: &wasmtime::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
