//! The commands, one per module.

pub(crate) mod check;
pub(crate) mod classify;
#[cfg(feature = "local-cluster")]
pub(crate) mod cluster;
#[cfg(not(feature = "local-cluster"))]
#[path = "no_cluster.rs"]
pub(crate) mod cluster;
pub(crate) mod config_map;
mod daemon_client;
pub(crate) mod manifest;
mod pinned;
pub(crate) mod plugin_bench;
pub(crate) mod plugin_dev;
pub(crate) mod plugin_test;
pub(crate) mod plugins;
pub(crate) mod push;
pub(crate) mod replay;
pub(crate) mod revert;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod transcript;
