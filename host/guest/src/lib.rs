//! Runs agent plugins on wasmtime: loads and verifies them, gives each run an instance of its own, and holds it to its
//! limits.
//!
//! - [`Runtime`]: the compiler and the pool of instances, one a process.
//! - [`Registry`]: the plugins of this process by agent type, from the built-in ones and a folder.
//! - [`Catalogue`]: the same while they change: reloaded, reverted, put under quarantine.
//! - [`Plugin`]: one plugin, verified, compiled and tried out.
//! - [`Instance`]: one run in one instance; what the engine drives as its [`Guest`](paperclip_engine::Guest).
//! - [`Tools`]: the pure functions of a plugin beside runs.
//! - [`inspect()`] and [`verify`]: what a file holds and whether this host takes it.
//!
//! A plugin never sees a clock, a file, a socket or randomness: whatever it imports is refused at load. Calls are
//! synchronous and bounded by fuel; they want [`STACK_BYTES`] and some room of the calling thread's stack, which the
//! default stack of a thread has.

// A fault or a refusal happens once in a run or a load; its fields are worth more than the bytes that a move of it
// costs.
#![allow(clippy::result_large_err)]

mod anatomy;
mod budget;
mod cache;
mod catalogue;
mod contract;
mod diagnose;
mod digest;
mod fault;
mod golden;
mod inspect;
mod instance;
mod live;
mod load_error;
mod plugin;
mod registry;
mod runtime;
mod source;
mod tools;

pub use budget::{
    MAX_PLUGIN_BYTES, MAX_TABLE_ELEMENTS, MEMORY_BYTES, RUN_FUEL, STACK_BYTES, STEP_FUEL, TOOL_FUEL,
};
pub use catalogue::{
    Catalogue, CatalogueOptions, Changed, Fallback, NoPrevious, Quarantined, Shown, TRAP_WINDOW_MS,
};
pub use digest::sha256_hex;
pub use inspect::{Inspection, inspect, verify};
pub use instance::Instance;
pub use live::Usage;
pub use load_error::{Found, LoadError};
pub use plugin::Plugin;
pub use registry::{FolderError, Listed, NoPlugin, Registry, Rejected};
pub use runtime::{Runtime, RuntimeError, RuntimeOptions};
pub use source::Source;
pub use tools::Tools;
