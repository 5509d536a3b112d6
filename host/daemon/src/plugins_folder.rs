//! Watches the plugins folder.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use crate::supervisor::Supervisor;

/// Time without changes after which a change is complete: a file is copied in many writes.
const QUIET: Duration = Duration::from_millis(300);
/// How often a folder that cannot be watched is tried again, such as one that was deleted.
const RETRY: Duration = Duration::from_secs(2);

/// Reloads the plugins after each change of the folder, until the future is dropped. A folder that is deleted is watched again when there is
/// one of its name; until then only `POST /v1/plugins/reload` reloads them.
pub(crate) async fn watch_plugins(supervisor: Supervisor, folder: &Path) {
    let mut is_reported = false;
    let mut is_first = true;
    loop {
        match Watched::open(folder) {
            Ok(mut watched) => {
                if !is_first {
                    tracing::info!(folder = %folder.display(), "the plugins folder is watched again");
                    reload(&supervisor).await;
                }
                is_reported = false;
                while watched.changed().await {
                    reload(&supervisor).await;
                }
            }
            Err(error) if !is_reported => {
                is_reported = true;
                tracing::warn!(
                    folder = %folder.display(), %error,
                    "the plugins folder is not watched: POST /v1/plugins/reload reloads it"
                );
            }
            Err(_) => {}
        }
        is_first = false;
        tokio::time::sleep(RETRY).await;
    }
}

async fn reload(supervisor: &Supervisor) {
    if let Err(error) = supervisor.reload_plugins().await {
        tracing::warn!(%error, hint = error.hint, "plugins are not reloaded");
    }
}

/// A folder that is watched for as long as it is the one of its name.
pub struct Watched<'a> {
    folder: &'a Path,
    inode: u64,
    changes: mpsc::Receiver<()>,
    /// The number of a deleted folder may be that of the next one.
    is_deleted: Arc<AtomicBool>,
    _watcher: RecommendedWatcher,
}

impl std::fmt::Debug for Watched<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl<'a> Watched<'a> {
    /// Watches a folder with everything in it.
    ///
    /// # Errors
    /// The folder does not exist, or the system watches no more folders.
    pub fn open(folder: &'a Path) -> notify::Result<Watched<'a>> {
        let (sender, changes) = mpsc::channel(1);
        let is_deleted = Arc::new(AtomicBool::new(false));
        let (deleted, itself) = (Arc::clone(&is_deleted), folder.to_owned());
        let mut watcher = RecommendedWatcher::new(
            move |event: notify::Result<notify::Event>| {
                let removes = |event: &notify::Event| {
                    matches!(event.kind, EventKind::Remove(_)) && event.paths.contains(&itself)
                };
                if event.as_ref().is_ok_and(removes) {
                    deleted.store(true, Ordering::Relaxed);
                }
                let is_change =
                    event.as_ref().map_or(true, |event| !matches!(event.kind, EventKind::Access(_)));
                if is_change {
                    // A change that waits already covers this one.
                    let _ = sender.try_send(());
                }
            },
            notify::Config::default(),
        )?;
        let inode = folder.metadata()?.ino();
        watcher.watch(folder, RecursiveMode::Recursive)?;
        Ok(Watched { folder, inode, changes, is_deleted, _watcher: watcher })
    }

    /// Waits until a change is complete. Returns false if the folder was deleted or replaced.
    pub async fn changed(&mut self) -> bool {
        if self.changes.recv().await.is_none() {
            return false;
        }
        while tokio::time::timeout(QUIET, self.changes.recv()).await.is_ok_and(|change| change.is_some()) {}
        let is_same = self.folder.metadata().is_ok_and(|folder| folder.ino() == self.inode);
        is_same && !self.is_deleted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_noticed_and_so_is_a_folder_that_is_deleted_and_made_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("plugins");
        assert!(Watched::open(&folder).is_err());
        std::fs::create_dir(&folder).expect("created");
        let mut watched = Watched::open(&folder).expect("watched");
        std::fs::write(folder.join("a.wasm"), "a").expect("written");
        assert!(watched.changed().await);
        std::fs::remove_dir_all(&folder).expect("deleted");
        std::fs::create_dir(&folder).expect("created");
        assert!(!watched.changed().await);
        let mut watched = Watched::open(&folder).expect("watched again");
        std::fs::write(folder.join("b.wasm"), "b").expect("written");
        assert!(watched.changed().await);
    }
}
