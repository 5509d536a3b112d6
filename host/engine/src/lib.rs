//! The engine of a run: pure mechanism between a plugin that decides and a shell that acts.
//!
//! Inputs go in with the time, effects come out in the order in which they are to be carried out. The engine reads no clock, does
//! no I/O and draws no randomness of its own, so that it runs unchanged in the deterministic simulation.

pub mod adoption;
pub mod api;
pub mod backoff;
pub mod calls;
pub mod comparison;
mod diagnose;
pub mod driver;
pub mod guest;
pub mod ids;
pub mod intake;
pub mod journal;
pub mod lease;
pub mod ledger;
pub mod log;
mod logs;
mod manifest;
pub mod policy;
mod polls;
pub mod port;
pub mod record;
pub mod redact;
pub mod result;
pub mod run;
pub mod time;
mod unobserved;

pub use guest::{FaultCause, Guest, GuestFault};
pub use port::{Closing, Effect, Input};
pub use run::{PluginIdentity, ReplayError, Run, RunSpec, SegmentLimits};

use paperclip_contract::types::Limits;

/// Most bytes of strings that one call of a plugin may return: a prompt of 8 MiB in a Secret, and the rest.
pub const MAX_OUTPUT_BYTES: u64 = 32 << 20;
/// Longest line that reaches a plugin whole, in bytes.
pub const MAX_GUEST_LINE_BYTES: u32 = 4 << 20;

/// The limits that a plugin is held to.
pub const fn limits() -> Limits {
    Limits {
        max_commands: ledger::MAX_COMMANDS,
        max_timers: ledger::MAX_TIMERS,
        max_output_bytes: MAX_OUTPUT_BYTES,
        max_line_bytes: MAX_GUEST_LINE_BYTES,
    }
}
