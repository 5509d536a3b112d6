//! The state machine, through its public interface.

// Helpers of tests may fail the test, too.
#![allow(clippy::unwrap_used)]

mod machine;
mod twin;
