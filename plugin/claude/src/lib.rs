//! The plugin for agents that run the Claude Code CLI: how it is called, what its stream says, and how its runs are judged.

mod agent;
mod command;
pub mod describe;
#[cfg(target_family = "wasm")]
mod exports;
pub mod models;
pub mod outcome;
mod phrases;
pub mod session;
pub mod stream;
pub mod transcript;
mod words;

pub use agent::Claude;
