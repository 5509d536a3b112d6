//! The plugin for agents that run the Claude Code CLI: how it is called, what its stream says, and how its runs are judged.

mod agent;
mod command;
#[cfg(target_family = "wasm")]
mod exports;
pub mod models;
pub mod outcome;
mod phrases;
pub mod stream;
pub mod transcript;

pub use agent::Claude;
