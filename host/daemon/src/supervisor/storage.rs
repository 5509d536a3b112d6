//! Whether runs can be recorded: a run whose journal cannot be started is not accepted, rather than failed afterwards.

use std::time::{Duration, Instant};

use paperclip_prepare::config::JournalMode;
use paperclip_prepare::state;
use tokio::sync::Mutex;

use super::Supervisor;
use crate::refusal::{Kind, Refusal};

/// For how long a success is used again: a probe writes to the disk.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// When the state folder was last found to be writable.
#[derive(Debug, Default)]
pub(super) struct StorageProbe {
    writable_at: Mutex<Option<Instant>>,
}

impl Supervisor {
    /// # Errors
    /// No journal can be started: the disk is full or read-only, or this process has too many open files.
    pub(super) async fn check_storage(&self) -> Result<(), Refusal> {
        let host = self.host();
        let (JournalMode::Required, Some(folder)) = (host.config.journal, host.state.clone()) else {
            return Ok(());
        };
        let mut writable_at = self.shared.storage.writable_at.lock().await;
        if writable_at.is_some_and(|at| at.elapsed() < PROBE_INTERVAL) {
            return Ok(());
        }
        *writable_at = None;
        let shown = folder.display().to_string();
        let checked = tokio::task::spawn_blocking(move || state::check_writable(&folder)).await;
        let failed = match checked {
            Ok(Ok(())) => {
                *writable_at = Some(Instant::now());
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Err(Refusal::new(
            Kind::StorageUnavailable,
            format!("no run can be recorded: state {shown}: {failed}"),
            "give the state folder space and write access, or this process more open files; runs that are driven continue",
        ))
    }
}
