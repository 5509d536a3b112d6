//! The commands, one a module.

pub(crate) mod check;
pub(crate) mod classify;
pub(crate) mod cluster;
pub(crate) mod manifest;
pub(crate) mod plugins;
pub(crate) mod replay;
pub(crate) mod revert;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod transcript;
