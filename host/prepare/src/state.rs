//! The folders of this host: journals, its identity, and compiled plugins.

use std::fs::{File, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use paperclip_diagnostic::Diagnostic;

/// Returns the configured folder, else the platform's: `$XDG_STATE_HOME/paperclip-host` or `~/.local/state/paperclip-host`.
/// None if there is no home folder either.
pub fn folder(configured: Option<PathBuf>) -> Option<PathBuf> {
    configured.or_else(|| platform_folder("XDG_STATE_HOME", ".local/state"))
}

/// Returns the error that there is no folder for the state.
pub fn no_folder() -> Diagnostic {
    Diagnostic::new("no_state_folder", "no folder for journals: there is no home folder")
        .with_hint("name one with state (--state)")
}

/// Returns the folder for what can be made again: `$XDG_CACHE_HOME/paperclip-host` or `~/.cache/paperclip-host`.
pub fn cache_folder() -> Option<PathBuf> {
    platform_folder("XDG_CACHE_HOME", ".cache")
}

/// Creates the state folder if it is missing; only this user may read it.
///
/// # Errors
/// This user cannot create it.
pub fn create_folder(path: &Path) -> Result<(), Diagnostic> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        Diagnostic::new("state_unwritable", format!("state {}: {error}", path.display()))
            .with_hint("name a folder that this user may write with state (--state)")
    })
}

/// Returns the file with the token that a daemon generates if none is configured.
pub fn token_file(state: &Path) -> PathBuf {
    state.join("token")
}

/// Returns the folder of plugins that were put into the host.
pub fn plugins_folder(state: &Path) -> PathBuf {
    state.join("installed-plugins")
}

/// Returns the folder in which the local cluster keeps its volumes.
pub fn local_cluster_folder(state: &Path) -> PathBuf {
    state.join("local-cluster")
}

/// Checks that a journal can be started: the folder can be written, the disk is not full, and this process may open a file.
///
/// # Errors
/// What the system says about it.
pub fn check_writable(state: &Path) -> io::Result<()> {
    // As much as a journal starts with: a file of one byte fits onto a full disk.
    const BYTES: usize = 64 << 10;
    let path = state.join("write-probe");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&[0; BYTES])?;
        file.sync_data()
    });
    let removed = std::fs::remove_file(&path);
    written.and(removed)
}

/// The state folder as one daemon's own. The system gives it up with the process, however that ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the folder.
    ///
    /// # Errors
    /// Another daemon has it, whose process the message names, or the folder cannot be written.
    pub fn take(state: &Path) -> Result<StateLock, Diagnostic> {
        let path = state.join("serve.lock");
        let failed = |error: io::Error| {
            Diagnostic::new("state_unwritable", format!("{}: {error}", path.display()))
                .with_hint("name a folder that this user may write with state (--state)")
        };
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = file.read_to_string(&mut owner);
                let owner = owner.trim();
                let owner = if owner.is_empty() { "another process" } else { owner };
                let message = format!("state {}: {owner} serves with it", state.display());
                return Err(Diagnostic::new("state_in_use", message)
                    .with_hint("stop that process, or name another folder with state (--state)"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let owner = format!("process {}", std::process::id());
        file.set_len(0).and_then(|()| writeln!(file, "{owner}")).map_err(failed)?;
        Ok(StateLock { _file: file })
    }
}

fn platform_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let base = match std::env::var_os(variable) {
        Some(base) if !base.is_empty() => PathBuf::from(base),
        Some(_) | None => std::env::home_dir()?.join(below_home),
    };
    Some(base.join("paperclip-host"))
}

/// Returns the id that distinguishes this host from any other. It stays the same over restarts with the same folder, so that a host
/// resumes its own runs at once; without a folder it is a new one.
pub fn host_id(state: Option<&Path>) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_written_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        check_writable(folder.path()).expect("writable");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing is left");
        std::fs::create_dir(folder.path().join("write-probe")).expect("in the way");
        assert!(check_writable(folder.path()).is_err());
        assert!(check_writable(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn two_daemons_do_not_share_a_state_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let lock = StateLock::take(folder.path()).expect("free");
        let error = StateLock::take(folder.path()).expect_err("taken");
        assert_eq!(error.code, "state_in_use");
        assert!(error.message.contains(&format!("process {}", std::process::id())), "{error}");
        drop(lock);
        StateLock::take(folder.path()).expect("free again");
    }

    #[test]
    fn a_host_keeps_its_id_in_its_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        let id = host_id(Some(&state));
        assert_eq!(host_id(Some(&state)), id);
        assert_ne!(host_id(Some(&folder.path().join("other"))), id);
    }
}
