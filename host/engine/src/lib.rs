//! The engine of a run: a state machine between a plugin, which decides, and a shell, which does the I/O.
//!
//! [`Run::handle`] accepts an [`Input`] with the time; [`Run::poll_effect`] returns each [`Effect`] in the order in which to carry it out.
//! The engine reads no clock, does no I/O and has no source of randomness except a seed, so that the deterministic simulation runs it
//! unchanged.

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
mod intake_size;
pub mod journal;
pub mod lease;
pub mod ledger;
pub mod log;
mod logs;
mod manifest;
pub mod ownership;
pub mod policy;
mod polls;
pub mod port;
pub mod record;
pub mod redact;
pub mod result;
pub mod run;
pub mod run_record;
pub mod time;
mod unobserved;

pub use guest::{FaultCause, Guest, GuestFault};
pub use port::{Closing, Effect, Input};
pub use run::{PluginIdentity, ReplayError, Run, RunSpec, SegmentLimits};

use paperclip_contract::types::Limits;

/// Most bytes of strings that one call of a plugin may return: a prompt of 8 MiB in a Secret, and the rest.
pub const MAX_OUTPUT_BYTES: u64 = 32 << 20;
/// Longest line that a plugin receives uncut, in bytes: the longest that is forwarded whole.
pub const MAX_GUEST_LINE_BYTES: u32 = log::MAX_LINE_BYTES as u32;

/// Returns the limits of every plugin.
pub const fn limits() -> Limits {
    Limits {
        max_commands: ledger::MAX_COMMANDS,
        max_timers: ledger::MAX_TIMERS,
        max_output_bytes: MAX_OUTPUT_BYTES,
        max_line_bytes: MAX_GUEST_LINE_BYTES,
    }
}
