//! The folders where this host keeps journals, its identity, and compiled plugins.

use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};

use paperclip_diagnostic::Diagnostic;

use crate::exit::usage;

/// The folder that was asked for, else the platform's: `$XDG_STATE_HOME/paperclip-host` or `~/.local/state/paperclip-host`.
/// None where there is no home folder either.
pub(crate) fn folder(asked: Option<PathBuf>) -> Option<PathBuf> {
    asked.or_else(|| platform_folder("XDG_STATE_HOME", ".local/state"))
}

/// The folder for what can be made again: `$XDG_CACHE_HOME/paperclip-host` or `~/.cache/paperclip-host`.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    platform_folder("XDG_CACHE_HOME", ".cache")
}

/// Makes the folder for the state if it is missing; only this user may read it.
pub(crate) fn make_folder(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        usage(
            Diagnostic::new("state_unwritable", format!("state {}: {error}", path.display()))
                .with_hint("name a folder that this user may write with state (--state)"),
        )
    })
}

fn platform_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let base = match std::env::var_os(variable) {
        Some(base) if !base.is_empty() => PathBuf::from(base),
        Some(_) | None => std::env::home_dir()?.join(below_home),
    };
    Some(base.join("paperclip-host"))
}

/// Tells this host from any other: the same over restarts with the same folder, so that it takes its own runs up again at once.
pub(crate) fn host_id(state: Option<&Path>) -> String {
    let fresh = || format!("{:016x}", RandomState::new().hash_one("host"));
    let Some(path) = state.map(|state| state.join("host-id")) else { return fresh() };
    if let Ok(known) = std::fs::read_to_string(&path)
        && !known.trim().is_empty()
    {
        return known.trim().to_owned();
    }
    let id = fresh();
    let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    if let Err(error) = folder.and_then(|()| std::fs::write(&path, &id)) {
        tracing::warn!(path = %path.display(), %error, "the host's id is not kept");
    }
    id
}
