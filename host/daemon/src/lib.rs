//! The daemon: runs started, followed and cancelled over HTTP, resumed after a restart and adopted from other hosts.
//!
//! [`Daemon::open`] prepares everything that may fail, [`Daemon::run`] serves until its caller stops it. Inside, a supervisor starts
//! and drives runs; one task of it owns the map of runs and decides about admission. The API translates HTTP.

mod api;
mod daemon;
mod memory;
mod metrics;
mod plugin_config_maps;
mod plugins_folder;
mod refusal;
mod reloaded;
mod supervisor;

pub use daemon::{Daemon, OpenError};
pub use plugins_folder::Watched;
