//! Runs agent plugins on wasmtime: loads and verifies them, gives each run its own instance, and enforces its
//! limits.
//!
//! - [`Runtime`]: the compiler and the pool of instances, one per process.
//! - [`Registry`]: the plugins of a process by agent type, from the built-in ones and a folder.
//! - [`Catalogue`]: the same over time: reloaded, reverted, put under quarantine.
//! - [`Plugin`]: one plugin, verified and compiled.
//! - [`Instance`]: one run in one instance, which the engine drives as its [`Guest`](paperclip_engine::Guest).
//! - [`Tools`]: the pure functions of a plugin that need no run.
//! - [`inspect()`] and [`verify`]: what a file contains and whether this host can use it.
//!
//! A plugin has no clock, file, socket or randomness: one that imports anything is rejected. Calls are
//! synchronous and bounded by fuel. They need [`STACK_BYTES`] and a little more of the calling thread's
//! stack, which is less than the default size of a thread's stack.

// A fault or a refusal occurs once in a run or a load, so the size of its fields matters more than the cost
// of moving it.
#![allow(clippy::result_large_err)]

mod budget;
mod cache;
mod catalogue;
mod component_info;
mod contract;
mod diagnose;
mod digest;
mod fault;
mod golden;
mod inspect;
mod instance;
mod judged;
mod live;
mod load_error;
mod masking;
mod plugin;
mod plugin_set;
mod registry;
mod runtime;
mod source;
mod tools;

pub use budget::{
    MAX_PLUGIN_BYTES, MAX_TABLE_ELEMENTS, MEMORY_BYTES, RUN_FUEL, STACK_BYTES, STEP_FUEL, TOOL_FUEL,
};
pub use catalogue::{
    Catalogue, CatalogueOptions, Fallback, InstallError, NoPrevious, PluginList, QUARANTINE_MS, Quarantined,
    TRAP_WINDOW_MS,
};
pub use contract::series_supported as supported_contracts;
pub use digest::sha256_hex;
pub use inspect::{Inspection, inspect, verify};
pub use instance::Instance;
pub use judged::judged;
pub use live::Usage;
pub use load_error::{Found, LoadError};
pub use plugin::Plugin;
pub use plugin_set::Changed;
pub use registry::{FolderError, Listed, NoPlugin, PluginConfigMap, Registry, Rejected};
pub use runtime::{Runtime, RuntimeError, RuntimeOptions};
pub use source::Source;
pub use tools::Tools;
