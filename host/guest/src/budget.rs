//! How much a plugin can use. [`paperclip_engine::limits`] has the limits of what it returns.
//!
//! A unit of fuel is about one wasm instruction, or one byte that a bulk instruction moves. A core consumes
//! about 5 × 10^9 units per second, and 10^9 in a loop without a body. The budgets end endless loops; a
//! correct run never reaches them. Measured on `claude_k8s` 0.1.0:
//!
//! | call | fuel | memory |
//! |---|---|---|
//! | `start`, a prompt of 1 KiB | 1.5 × 10^6 | 1.5 MiB |
//! | `start`, a prompt of 8 MiB, the largest | 0.93 × 10^9 | 27 MiB |
//! | `step`, a line of 64 KiB of plain text | 2.4 × 10^6 | 1.8 MiB |
//! | `step`, a line of 4 MiB, the largest, a quarter of it escapes | 0.9 × 10^9 | 14 MiB |
//!
//! The plugin reads the first 10,000 content blocks of a line only, so a line of a million blocks costs no
//! more than the largest line above.

/// Fuel of one [`step`](paperclip_engine::Guest::step). The agent decides what a line contains, so the most
/// expensive line fits.
pub const STEP_FUEL: u64 = 12_000_000_000;

/// Fuel of the calls that process a whole request or a whole run: `start`, `snapshot`, `restore`.
pub const RUN_FUEL: u64 = 10_000_000_000;

/// Fuel of one call of [`Tools`](crate::Tools), whose input can be the whole output of a run.
pub const TOOL_FUEL: u64 = 20_000_000_000;

/// Default for the linear memory of one instance, see [`RuntimeOptions`](crate::RuntimeOptions).
pub const MEMORY_BYTES: u64 = 64 << 20;

/// Most elements of a table of functions. Plugins in Rust have a few hundred.
pub const MAX_TABLE_ELEMENTS: usize = 10_000;

/// How much of the calling thread's stack a plugin can use.
pub const STACK_BYTES: usize = 512 << 10;

/// The largest file of a plugin. Plugins in Rust have one or two MiB.
pub const MAX_PLUGIN_BYTES: u64 = 64 << 20;

/// Core instances of one component: the module itself and the two that `wit-component` adds for an exported
/// resource.
pub(crate) const CORE_INSTANCES: u32 = 3;

/// Tables of one component: the module's own and the one of the exported resource.
pub(crate) const TABLES: u32 = 2;

/// Memories of one component.
pub(crate) const MEMORIES: u32 = 1;

/// An idle instance of [`Tools`](crate::Tools) with more memory is dropped, because linear memory never
/// shrinks.
pub(crate) const IDLE_BYTES: u64 = 8 << 20;

/// Most idle instances that [`Tools`](crate::Tools) keeps.
pub(crate) const MAX_IDLE: usize = 2;
