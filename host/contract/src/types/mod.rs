//! The data that crosses the contract: the types of `wit/0.2/types.wit` under their Rust names.
//!
//! A run's journal stores these types, so their serialised form is part of the journal's format. Where a Rust
//! name changed after journals were written with the old one, `#[serde(rename)]` pins the old one; the tests
//! of this module pin all of them.

mod cluster;
mod command;
mod descriptor;
mod event;
mod request;
#[cfg(test)]
mod tests;

pub use cluster::*;
pub use command::*;
pub use descriptor::*;
pub use event::*;
pub use request::*;
