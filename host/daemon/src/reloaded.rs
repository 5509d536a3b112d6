//! What a file says, read again when the file changes.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use paperclip_diagnostic::Diagnostic;

type Read<T> = Box<dyn Fn() -> Result<T, Diagnostic> + Send + Sync>;

/// What one file or several say together. A change that cannot be read leaves the former value in use.
pub(crate) struct Reloaded<T> {
    files: Vec<PathBuf>,
    read: Read<T>,
    current: Mutex<Current<T>>,
}

struct Current<T> {
    value: Arc<T>,
    stamps: Vec<Option<Stamp>>,
}

/// Differs after each change of a file, also if another file takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let file = path.metadata().ok()?;
        Some(Stamp {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

impl<T> Reloaded<T> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// As of `read`.
    pub(crate) fn open(
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<T, Diagnostic> + Send + Sync + 'static,
    ) -> Result<Reloaded<T>, Diagnostic> {
        let stamps = stamps(&files);
        let current = Mutex::new(Current { value: Arc::new(read()?), stamps });
        Ok(Reloaded { files, read: Box::new(read), current })
    }

    /// Returns what the files say now. If nothing has changed, this costs one call of the system for each file.
    pub(crate) fn get(&self) -> Arc<T> {
        let stamps = stamps(&self.files);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if stamps != current.stamps {
            // Also after a failure: it is reported once for each change.
            current.stamps = stamps;
            match (self.read)() {
                Ok(value) => current.value = Arc::new(value),
                Err(error) => {
                    tracing::warn!(code = error.code, %error, hint = error.hint, "a change is not used");
                }
            }
        }
        Arc::clone(&current.value)
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded").field("files", &self.files).finish_non_exhaustive()
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|file| Stamp::of(file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_used_and_a_bad_one_leaves_the_former_value() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("file");
        std::fs::write(&path, "1").expect("written");
        let read = {
            let path = path.clone();
            move || {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                text.parse::<u32>().map_err(|_| Diagnostic::new("bad", "bad"))
            }
        };
        let value = Reloaded::open(vec![path.clone()], read).expect("a number");
        assert_eq!(*value.get(), 1);
        std::fs::write(&path, "22").expect("written");
        assert_eq!(*value.get(), 22);
        std::fs::write(&path, "none").expect("written");
        assert_eq!(*value.get(), 22);
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(*value.get(), 22);
        std::fs::write(&path, "3").expect("written");
        assert_eq!(*value.get(), 3);
    }
}
