//! The plugin for agents that run `example`: how it is called, what it prints, and how its runs are judged.

mod agent;
#[cfg(target_family = "wasm")]
mod exports;
mod rules;
mod stream;
mod transcript;

pub use agent::Example;
