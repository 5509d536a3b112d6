//! What is freed of ended runs, and when.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use paperclip_shell::journal;

use super::{RunHandle, Supervisor};

/// For how long the newest records of an ended run stay in memory.
const KEEP_IN_MEMORY: Duration = Duration::from_secs(60);
/// For how long a run without a journal is known after its end.
const KEEP_WITHOUT_JOURNAL: Duration = Duration::from_secs(3_600);
/// How often ended runs are checked.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// How often the records of ended runs are listed.
const COLLECT_INTERVAL: Duration = Duration::from_secs(600);

impl Supervisor {
    /// Frees what ended runs hold and ends quarantines, until the future is dropped.
    pub(crate) async fn sweep(&self) {
        let mut interval = tokio::time::interval(SWEEP_INTERVAL);
        let mut collected_at = tokio::time::Instant::now();
        loop {
            interval.tick().await;
            if collected_at.elapsed() >= COLLECT_INTERVAL {
                collected_at = tokio::time::Instant::now();
                self.collect_records().await;
            }
            self.prune_journals().await;
            self.forget().await;
            self.end_quarantines();
        }
    }

    async fn prune_journals(&self) {
        let Some(state) = self.host().state.clone() else { return };
        let retention = self.host().config.retention.limits();
        let pruned =
            tokio::task::spawn_blocking(move || journal::prune(&state, retention, SystemTime::now()));
        match pruned.await {
            Ok(Ok(0)) => {}
            Ok(Ok(removed)) => tracing::info!(removed, "removed journals of ended runs"),
            Ok(Err(error)) => tracing::warn!(%error, "journals of ended runs cannot be removed"),
            Err(error) => tracing::warn!(%error, "removing journals failed"),
        }
    }

    async fn forget(&self) {
        let Ok(ended) = self.runs().ended().await else { return };
        let state = self.host().state.clone();
        let is_old = |run: &Arc<RunHandle>, age| run.over_for().is_some_and(|over_for| over_for >= age);
        let forgotten = tokio::task::spawn_blocking(move || {
            let mut forgotten = Vec::new();
            for run in ended.into_iter().filter(|run| is_old(run, KEEP_IN_MEMORY)) {
                run.feed.forget();
                // Retention has removed it from the disk.
                let has_journal =
                    state.as_ref().is_some_and(|state| journal::run_folder(state, &run.info.run_id).exists());
                if is_old(&run, KEEP_WITHOUT_JOURNAL) && !has_journal {
                    forgotten.push(run);
                }
            }
            forgotten
        });
        if let Ok(forgotten) = forgotten.await {
            self.runs().forget(forgotten).await;
        }
    }
}
