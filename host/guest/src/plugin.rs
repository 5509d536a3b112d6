//! One plugin: read, verified, compiled and given a trial.

use crate::budget::{MAX_PLUGIN_BYTES, TOOL_FUEL};
use crate::component_info::{self, ComponentInfo, Unreadable};
use crate::contract::{self, ContractVersion, ExportsPre, Mismatch};
use crate::digest::sha256_hex;
use crate::instance::Instance;
use crate::live::{Identity, Live};
use crate::load_error::LoadError;
use crate::masking;
use crate::runtime::Runtime;
use crate::source::Source;
use paperclip_contract::types::Descriptor;
use paperclip_engine::{FaultCause, GuestFault};
use paperclip_files::Root;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use wasmtime::component::{Component, Linker};

/// A plugin that this host can use.
pub struct Plugin {
    source: Source,
    file: Arc<[u8]>,
    info: ComponentInfo,
    contract: String,
    descriptor: Descriptor,
    protocol_members: Vec<String>,
    identity: Arc<Identity>,
    runtime: Runtime,
    pre: ExportsPre,
}

impl Plugin {
    /// Verifies and compiles a plugin, and calls it once as a trial. This takes 0.1 s or more, about 1 ms
    /// with the cache, so it must not run on a thread that serves others.
    ///
    /// # Errors
    /// The bytes are not a plugin that this host can use.
    pub fn load(runtime: &Runtime, source: Source, bytes: &[u8]) -> Result<Arc<Plugin>, LoadError> {
        let (info, version) = check(runtime, &source, bytes)?;
        let pre = compile(runtime, &source, bytes, version)?;
        let unknown =
            Identity { plugin: source.to_string(), version: "?".to_owned(), digest: sha256_hex(bytes) };
        let descriptor = trial(runtime, &source, &pre, version, unknown.clone())?;
        let protocol_members = ask_protocol_members(runtime, &source, &pre, &unknown)?;
        let identity = Identity {
            plugin: descriptor.adapter_type.clone(),
            version: descriptor.version.clone(),
            ..unknown
        };
        Ok(Arc::new(Plugin {
            contract: contract::exported_version(&info).unwrap_or(version.number()).to_owned(),
            source,
            file: bytes.into(),
            info,
            descriptor,
            protocol_members,
            identity: Arc::new(identity),
            runtime: runtime.clone(),
            pre,
        }))
    }

    /// Loads a plugin from a file, see [`Plugin::load`].
    ///
    /// # Errors
    /// The file cannot be read, or is not a plugin that this host can use.
    pub fn load_file(runtime: &Runtime, path: &Path) -> Result<Arc<Plugin>, LoadError> {
        let source = Source::File(path.to_owned());
        let bytes = paperclip_files::read(path, MAX_PLUGIN_BYTES).map_err(|error| unread(&source, error))?;
        Plugin::load(runtime, source, &bytes)
    }

    /// Creates a fresh instance for one run.
    ///
    /// # Errors
    /// [`FaultCause::NoCapacity`] if the pool is full; another cause if the plugin fails.
    pub fn instantiate(self: &Arc<Self>) -> Result<Instance, GuestFault> {
        Ok(Instance::new(Arc::clone(self), self.live()?))
    }

    /// Returns the description that the plugin gave when it was loaded.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Returns the agent type, such as `claude_k8s`.
    pub fn adapter_type(&self) -> &str {
        &self.descriptor.adapter_type
    }

    /// Returns the version of the plugin.
    pub fn version(&self) -> &str {
        &self.descriptor.version
    }

    /// Returns the SHA-256 of the plugin's bytes, hexadecimal.
    pub fn digest(&self) -> &str {
        &self.identity.digest
    }

    /// Returns the version of the contract that it implements, such as `0.2.0`.
    pub fn contract(&self) -> &str {
        &self.contract
    }

    /// Returns the members of its agent's events that are never masked, such as `type`: as it names them, else the usual ones.
    pub fn protocol_members(&self) -> &[String] {
        &self.protocol_members
    }

    /// Returns where it was loaded from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Returns the size of its file in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.file.len() as u64
    }

    /// Returns the content of its file at the time when it was loaded.
    pub fn file(&self) -> &[u8] {
        &self.file
    }

    pub(crate) fn info(&self) -> &ComponentInfo {
        &self.info
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

/// Reads a file of the plugins folder, up to the limit of its size. Links out of the folder are not followed.
///
/// # Errors
/// It is too large, cannot be read, or is outside the folder.
pub(crate) fn read(root: &Root, source: &Source, name: &Path) -> Result<Vec<u8>, LoadError> {
    root.read(name, MAX_PLUGIN_BYTES).map_err(|error| unread(source, error))
}

fn unread(source: &Source, error: io::Error) -> LoadError {
    let from = source.clone();
    if error.kind() == io::ErrorKind::FileTooLarge {
        LoadError::TooLarge { from }
    } else {
        LoadError::Read { from, error }
    }
}

/// Checks everything that needs no compilation.
fn check(
    runtime: &Runtime,
    source: &Source,
    bytes: &[u8],
) -> Result<(ComponentInfo, ContractVersion), LoadError> {
    let from = source.clone();
    let info = match component_info::read(bytes) {
        Ok(info) => info,
        Err(Unreadable::NotAComponent(found)) => return Err(LoadError::NotAComponent { from, found }),
        Err(Unreadable::Damaged(reason)) => return Err(LoadError::Damaged { from, reason }),
    };
    let version = match contract::check(&info) {
        Ok(version) => version,
        Err(Mismatch::Version(found)) => {
            return Err(LoadError::Version { from, found, supported: contract::supported() });
        }
        Err(Mismatch::Missing(missing)) => return Err(LoadError::NotAPlugin { from, missing }),
        Err(Mismatch::Imports(imports)) => return Err(LoadError::Imports { from, imports }),
    };
    let (found_bytes, limit_bytes) = (info.initial_memory_bytes, runtime.memory_bytes());
    if found_bytes > limit_bytes {
        return Err(LoadError::Memory { from, found_bytes, limit_bytes });
    }
    Ok((info, version))
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

/// Creates an instance and calls `describe`. Instantiation checks that the functions have the contract's
/// types.
fn trial(
    runtime: &Runtime,
    source: &Source,
    pre: &ExportsPre,
    version: ContractVersion,
    identity: Identity,
) -> Result<Descriptor, LoadError> {
    let failed = |fault: GuestFault| match (fault.call, fault.cause) {
        (_, FaultCause::NoCapacity(reason)) => LoadError::NoCapacity { from: source.clone(), reason },
        ("instantiate", FaultCause::Contract(reason)) => {
            LoadError::Shape { from: source.clone(), version: version.number(), reason }
        }
        (call, cause) => LoadError::Trial { from: source.clone(), call, cause },
    };
    let descriptor = Live::new(runtime, pre, Arc::new(identity))
        .and_then(|mut live| live.call("describe", TOOL_FUEL, |store, plugin| plugin.describe(store)))
        .map_err(failed)?;
    match invalid(&descriptor) {
        None => Ok(descriptor),
        Some(reason) => Err(LoadError::Descriptor { from: source.clone(), reason }),
    }
}

fn ask_protocol_members(
    runtime: &Runtime,
    source: &Source,
    pre: &ExportsPre,
    identity: &Identity,
) -> Result<Vec<String>, LoadError> {
    let named = Live::protocol_members(runtime, pre, identity).map_err(|fault| match fault.cause {
        FaultCause::NoCapacity(reason) => LoadError::NoCapacity { from: source.clone(), reason },
        cause => LoadError::Trial { from: source.clone(), call: fault.call, cause },
    })?;
    masking::checked(named).map_err(|reason| LoadError::Descriptor { from: source.clone(), reason })
}

/// Returns what is wrong with a plugin's description.
fn invalid(descriptor: &Descriptor) -> Option<String> {
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

/// Formats an error with its causes as one line.
fn one_line(error: &wasmtime::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
