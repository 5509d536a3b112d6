//! Watches the plugins folder.

use std::path::Path;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use crate::supervisor::Supervisor;

/// Time without changes after which a change is complete: a file is copied in many writes.
const QUIET: Duration = Duration::from_millis(300);

/// Reloads the plugins after each change of the folder, until the future is dropped. If the folder cannot be watched, only
/// `POST /v1/plugins/reload` reloads them.
pub(crate) async fn watch_plugins(supervisor: Supervisor, folder: &Path) {
    let (sender, mut changes) = mpsc::channel(1);
    let watcher = RecommendedWatcher::new(
        move |event: notify::Result<notify::Event>| {
            let is_change = event.as_ref().map_or(true, |event| !matches!(event.kind, EventKind::Access(_)));
            if is_change {
                // A change that waits already covers this one.
                let _ = sender.try_send(());
            }
        },
        notify::Config::default(),
    );
    let watching = watcher.and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    let _watcher = match watching {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(
                folder = %folder.display(), %error,
                "the plugins folder is not watched: POST /v1/plugins/reload reloads it"
            );
            return;
        }
    };
    while changes.recv().await.is_some() {
        while tokio::time::timeout(QUIET, changes.recv()).await.is_ok_and(|change| change.is_some()) {}
        if let Err(error) = supervisor.reload_plugins().await {
            tracing::warn!(%error, hint = error.hint, "plugins are not reloaded");
        }
    }
}
