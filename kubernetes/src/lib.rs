//! Facts about Kubernetes, each defined once.
//!
//! The plugins check a configuration with them before anything is created, the engine and the host apply them to what a
//! plugin requests, and the local cluster behaves by them. Everything is a pure function of its arguments, compiles to
//! `wasm32-unknown-unknown` and adds little to a plugin's size.
//!
//! Each module names the Kubernetes source that it follows. Where this crate is stricter than Kubernetes, it says so.

pub mod data_volume;
pub mod environment;
pub mod image;
pub mod paperclip_pod;
pub mod quantity;
pub mod shared;
pub mod validation;

pub use quantity::{ParseQuantityError, Quantity};
