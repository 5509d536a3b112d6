//! Why a plugin is rejected.

use crate::budget::MAX_PLUGIN_BYTES;
use crate::source::Source;
use paperclip_engine::FaultCause;
use std::fmt;
use std::io;

/// Why a plugin is rejected. The message names its source; [`Diagnose::hint`](paperclip_diagnostic::Diagnose)
/// says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{from}: cannot be read: {error}")]
    Read { from: Source, error: io::Error },
    #[error("{from}: is too large, a plugin has at most {MAX_PLUGIN_BYTES} bytes")]
    TooLarge { from: Source },
    #[error("{from}: is {found}, not a WebAssembly component")]
    NotAComponent { from: Source, found: Found },
    #[error("{from}: is a damaged component: {reason}")]
    Damaged { from: Source, reason: String },
    #[error("{from}: implements the contract paperclip:agent@{found}, this host supports {supported}")]
    Version { from: Source, found: String, supported: String },
    #[error("{from}: is not an agent plugin, it does not export {}", missing.join(", "))]
    NotAPlugin { from: Source, missing: Vec<String> },
    #[error("{from}: imports {}, but a plugin has no imports", imports.join(", "))]
    Imports { from: Source, imports: Vec<String> },
    #[error("{from}: needs {found_bytes} bytes of initial memory, an instance has at most {limit_bytes}")]
    Memory { from: Source, found_bytes: u64, limit_bytes: u64 },
    #[error("{from}: does not compile: {reason}")]
    Compile { from: Source, reason: String },
    #[error("{from}: its functions do not match the contract {version}: {reason}")]
    Shape { from: Source, version: &'static str, reason: String },
    #[error("{from}: failed its trial, in `{call}`: {cause}")]
    Trial { from: Source, call: &'static str, cause: FaultCause },
    #[error("{from}: has no capacity for its trial: {reason}")]
    NoCapacity { from: Source, reason: String },
    #[error("{from}: has an invalid description: {reason}")]
    Descriptor { from: Source, reason: String },
}

/// The kind of a file that is not a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Nothing,
    Text,
    CoreModule,
    /// Machine code that wasmtime compiled. It is never loaded, because it would run without a check.
    Precompiled,
    Unknown,
}

impl Found {
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Found::CoreModule => {
                "make it a component with wit-component, as `cargo xtask wasm` does for the plugins of this repository"
            }
            Found::Precompiled => "give the .wasm that it was compiled from",
            Found::Nothing | Found::Text | Found::Unknown => "give the .wasm of a plugin",
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Found::Nothing => "empty",
            Found::Text => "text",
            Found::CoreModule => "a core module",
            Found::Precompiled => "compiled code",
            Found::Unknown => "an unknown kind of file",
        })
    }
}
