//! What agent types share: the run state machine, the Job's manifest, config, prompt, outcomes, and the exports of a plugin.
//!
//! Everything here is pure: no clock, no I/O, no randomness, and no state that grows with an agent's output. It compiles natively for
//! its tests, and into the component of each plugin.

pub mod bindings;
pub mod check;
pub mod cli;
pub mod config;
pub mod javascript;
pub mod judge;
pub mod kubernetes;
pub mod machine;
pub mod manifest;
pub mod orphan;
pub mod outcome;
mod panic_note;
pub mod phrases;
pub mod plugin;
pub mod prompt;
pub mod refusal;
pub mod request;
pub mod retry_time;
pub mod sessions;
pub mod skills;
pub mod stream;
pub mod transcript;
pub mod words;

pub use paperclip_json as json;
