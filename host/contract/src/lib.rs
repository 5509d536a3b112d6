//! The types of the plugin contract, as plain data: version 0.2 of `wit/`.
//!
//! The engine works with these types and does not depend on WebAssembly. With the feature `component` they also
//! have wasmtime's component traits, so that `paperclip-guest` passes them to a plugin without a conversion.
//! Types of an older version of the contract exist only there, with conversions from and to these.

pub mod actions;
pub mod types;

#[cfg(feature = "component")]
pub use paperclip_contract_macros::wit;

/// The version of the contract that these types follow.
pub const VERSION: &str = "0.2.0";
