//! The engine of a run: pure mechanism between a plugin that decides and a shell that acts.
//!
//! Inputs go in with the time, effects come out in the order in which they are to be carried out. The engine reads no clock, does
//! no I/O and draws no randomness of its own, so that it runs unchanged in the deterministic simulation.

pub mod guest;
pub mod log;

pub use guest::{FaultCause, Guest, GuestFault};
