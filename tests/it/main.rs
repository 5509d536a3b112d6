//! The product as a user meets it: the program on the local cluster, and the plugin as the component that is shipped.
//!
//! `cargo xtask test` builds both before it runs these tests.

// Helpers of tests may fail the test, too.
#![allow(clippy::unwrap_used)]

mod agents;
mod authors;
mod bad_input;
mod component;
mod counted;
mod environment;
mod host;
mod instance;
mod isolation;
mod judged;
#[path = "../../plugin/claude/tests/it/judgement/mod.rs"]
mod judgement;
#[path = "../../plugin/kit/tests/it/machine/mod.rs"]
mod machine;
mod masking;
mod recordings;
mod serving;
mod stopping;
mod survival;
mod tenants;
mod twin;
