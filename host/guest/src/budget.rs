//! What a plugin may use. What it may return stands in [`paperclip_engine::limits`].
//!
//! A unit of fuel is about one wasm instruction, or one byte that a bulk instruction moves; a release build of the host burns about
//! 10^9 units a second.

/// Fuel of one [`step`](paperclip_engine::Guest::step).
pub const STEP_FUEL: u64 = 2_000_000_000;

/// Fuel of the calls that handle a whole request or a whole run: `start`, `snapshot`, `restore`.
pub const RUN_FUEL: u64 = 5_000_000_000;

/// Fuel of one call of [`Tools`](crate::Tools).
pub const TOOL_FUEL: u64 = 5_000_000_000;

/// Linear memory of one instance, unless [`RuntimeOptions`](crate::RuntimeOptions) says otherwise.
pub const MEMORY_BYTES: u64 = 64 << 20;

/// Elements of one table of functions. Plugins in Rust have some hundreds.
pub const MAX_TABLE_ELEMENTS: usize = 10_000;

/// Stack that a plugin may use of the thread that calls it.
pub const STACK_BYTES: usize = 512 << 10;

/// Size of a plugin's file. Plugins in Rust have some hundred KiB.
pub const MAX_PLUGIN_BYTES: u64 = 64 << 20;

/// Core instances of one component: the module itself and the two that `wit-component` adds for an exported resource.
pub(crate) const CORE_INSTANCES: u32 = 3;

/// Tables of one component: the module's own and the one of the exported resource.
pub(crate) const TABLES: u32 = 2;

/// Memories of one component.
pub(crate) const MEMORIES: u32 = 1;

/// Memory above which an idle instance of [`Tools`](crate::Tools) is not kept, for linear memory never shrinks.
pub(crate) const IDLE_BYTES: u64 = 8 << 20;

/// Idle instances that [`Tools`](crate::Tools) keeps.
pub(crate) const MAX_IDLE: usize = 2;
