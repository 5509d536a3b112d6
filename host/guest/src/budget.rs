//! What a plugin may use. What it may return stands in [`paperclip_engine::limits`].
//!
//! A unit of fuel is about one wasm instruction, or one byte that a bulk instruction moves; a core burns some 5 × 10^9 of
//! them a second, and 10^9 in a loop that does nothing. The budgets are there to end endless loops, not to ration: a healthy run must never meet them.
//! Measured on `claude_k8s` 0.1.0:
//!
//! | call | fuel | memory |
//! |---|---|---|
//! | `start`, a prompt of 1 KiB | 1.5 × 10^6 | 1.5 MiB |
//! | `start`, a prompt of 8 MiB, the largest | 0.93 × 10^9 | 27 MiB |
//! | `step`, a line of 64 KiB of plain text | 2.4 × 10^6 | 1.8 MiB |
//! | `step`, a line of 4 MiB, the largest, a quarter of it escapes | 0.9 × 10^9 | 14 MiB |
//!
//! Of the content blocks of a line the plugin looks at the first 10,000 only: a million of them, which once cost 11 × 10^9, are
//! no case of their own any more.

/// Fuel of one [`step`](paperclip_engine::Guest::step): what a line holds is for the agent to say, so the worst one
/// must fit.
pub const STEP_FUEL: u64 = 12_000_000_000;

/// Fuel of the calls that handle a whole request or a whole run: `start`, `snapshot`, `restore`.
pub const RUN_FUEL: u64 = 10_000_000_000;

/// Fuel of one call of [`Tools`](crate::Tools): it may be given a whole run's output.
pub const TOOL_FUEL: u64 = 20_000_000_000;

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
