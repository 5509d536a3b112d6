//! The commands, one a module.

pub(crate) mod check;
pub(crate) mod classify;
pub(crate) mod cluster;
pub(crate) mod manifest;
pub(crate) mod plugins;
<<<<<<< HEAD
pub(crate) mod replay;
=======
pub(crate) mod revert;
>>>>>>> 45bc138 (Revert a plugin of a running daemon; test the daemon end to end)
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod transcript;
