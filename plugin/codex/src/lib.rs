//! The plugin for agents that run Codex: how it is called, what its stream says, and how its runs are judged.

mod agent;
mod command;
#[cfg(target_family = "wasm")]
mod exports;
mod rules;
pub mod stream;
mod transcript;

pub use agent::Codex;
