//! Why a plugin is not taken: one line that names the source and the mend.

use crate::budget::MAX_PLUGIN_BYTES;
use crate::source::Source;
use paperclip_engine::FaultCause;
use std::fmt;
use std::io;

/// Why a plugin is not taken.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{from}: cannot be read: {error}; check the path and its permissions")]
    Read { from: Source, error: io::Error },
    #[error(
        "{from}: has {found} bytes, a plugin may have {MAX_PLUGIN_BYTES}; build it with the profile `plugin`, stripped of debug information"
    )]
    TooLarge { from: Source, found: u64 },
    #[error("{from}: is {found}, not a WebAssembly component; {}", found.mend())]
    NotAComponent { from: Source, found: Found },
    #[error("{from}: is a damaged component: {reason}; build or copy it again")]
    Damaged { from: Source, reason: String },
    #[error(
        "{from}: speaks the contract paperclip:agent@{found}, this host speaks {wanted}; take the plugin built for {wanted}, or the host that speaks {found}"
    )]
    Version { from: Source, found: String, wanted: &'static str },
    #[error("{from}: is no agent plugin, it does not export {}; build it for the world `agent-plugin` of the contract", missing.join(", "))]
    NotAPlugin { from: Source, missing: Vec<String> },
    #[error("{from}: imports {}, but a plugin may import nothing; build it for wasm32-unknown-unknown, without WASI", imports.join(", "))]
    Imports { from: Source, imports: Vec<String> },
    #[error(
        "{from}: needs {found_bytes} bytes of memory to begin with, an instance may have {limit_bytes}; make its static data smaller"
    )]
    Memory { from: Source, found_bytes: u64, limit_bytes: u64 },
    #[error(
        "{from}: does not compile: {reason}; build it with wit-component and Rust's default features for wasm32-unknown-unknown"
    )]
    Compile { from: Source, reason: String },
    #[error(
        "{from}: its functions are not those of the contract {wanted}: {reason}; build it again from wit/0.2"
    )]
    Shape { from: Source, wanted: &'static str, reason: String },
    #[error("{from}: failed when it was tried out, in `{call}`: {cause}; it is broken, take another version")]
    Trial { from: Source, call: &'static str, cause: FaultCause },
    #[error("{from}: could not be tried out: {reason}; finish runs, or allow more instances")]
    NoRoom { from: Source, reason: String },
    #[error("{from}: describes itself wrongly: {reason}; mend its `describe`")]
    Descriptor { from: Source, reason: String },
}

/// What bytes are that are no component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Nothing,
    Text,
    CoreModule,
    /// Machine code that wasmtime wrote. It is never taken from outside: it would run unchecked.
    Precompiled,
    Unknown,
}

impl Found {
    fn mend(self) -> &'static str {
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
