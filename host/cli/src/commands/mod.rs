//! The commands, one per module.

pub(crate) mod check;
pub(crate) mod classify;
#[cfg(feature = "local-cluster")]
pub(crate) mod cluster;
#[cfg(not(feature = "local-cluster"))]
#[path = "no_cluster.rs"]
pub(crate) mod cluster;
pub(crate) mod manifest;
mod pinned;
pub(crate) mod plugins;
pub(crate) mod replay;
pub(crate) mod revert;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod transcript;
