//! The folder of compiled plugins. Its files are executed without a check, so no other user must be able to
//! write into it.

use crate::runtime::RuntimeError;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use wasmtime::{Cache, CacheConfig};

const PRIVATE: u32 = 0o700;
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Opens the cache in `dir`, which is created if it is missing. The key of an entry is the digest of the
/// plugin with the version and the settings of the compiler. wasmtime removes the oldest entries.
///
/// # Errors
/// The folder cannot be created, or another user owns it or can write into it.
pub(crate) fn open(dir: &Path) -> Result<Cache, RuntimeError> {
    let dir = private_dir(dir)?;
    let mut config = CacheConfig::new();
    config.with_directory(&dir);
    Cache::new(config).map_err(|error| RuntimeError::Cache {
        dir,
        reason: format!("{error:#}"),
        hint: "give another folder",
    })
}

/// Creates `dir` if it is missing and makes it private. Refuses a folder that another user can have written
/// into.
fn private_dir(dir: &Path) -> Result<PathBuf, RuntimeError> {
    let refuse = |reason: String, hint| RuntimeError::Cache { dir: dir.to_owned(), reason, hint };
    let failed = |error: io::Error| refuse(error.to_string(), "give a folder that this user may write");
    DirBuilder::new().recursive(true).mode(PRIVATE).create(dir).map_err(failed)?;
    let dir = fs::canonicalize(dir).map_err(failed)?;
    let found = fs::metadata(&dir).map_err(failed)?;
    let (owner, user) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        return Err(refuse(
            format!("it belongs to user {owner}, this is user {user}"),
            "give a folder of this user's own",
        ));
    }
    if found.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(refuse(
            format!("others may write into it (mode {:03o})", found.mode() & 0o777),
            "remove it, or give another folder",
        ));
    }
    fs::set_permissions(&dir, Permissions::from_mode(PRIVATE)).map_err(failed)?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(dir: &Path) -> u32 {
        fs::metadata(dir).unwrap().mode() & 0o777
    }

    #[test]
    fn makes_new_and_readable_folders_private() {
        let parent = tempfile::tempdir().unwrap();
        let fresh = parent.path().join("a/b");
        assert_eq!(mode(&private_dir(&fresh).unwrap()), PRIVATE);

        fs::set_permissions(&fresh, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(mode(&private_dir(&fresh).unwrap()), PRIVATE);
    }

    #[test]
    fn refuses_a_folder_that_others_can_write_into() {
        let parent = tempfile::tempdir().unwrap();
        fs::set_permissions(parent.path(), Permissions::from_mode(0o777)).unwrap();
        let error = private_dir(parent.path()).unwrap_err().to_string();
        assert!(error.contains("others may write into it (mode 777)"), "{error}");
    }
}
