//! The folder where this host keeps journals and compiled plugins.

use std::path::PathBuf;

/// The folder that was asked for, else the platform's: `$XDG_STATE_HOME/paperclip-host` or `~/.local/state/paperclip-host`.
/// None where there is no home folder either.
pub(crate) fn folder(asked: Option<PathBuf>) -> Option<PathBuf> {
    asked.or_else(|| {
        let base = match std::env::var_os("XDG_STATE_HOME") {
            Some(base) if !base.is_empty() => PathBuf::from(base),
            Some(_) | None => std::env::home_dir()?.join(".local/state"),
        };
        Some(base.join("paperclip-host"))
    })
}
