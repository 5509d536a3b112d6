//! Whether this daemon can start runs.

use std::time::{Duration, Instant};

use paperclip_shell::Cluster;
use tokio::sync::Mutex;

use super::Supervisor;
use crate::refusal::{Kind, Refusal};

/// For how long an answer of the Kubernetes API to a probe is used again: probes must not be load.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// The last answer of the Kubernetes API to a probe.
#[derive(Debug, Default)]
pub(super) struct ApiProbe {
    last: Mutex<Option<(Instant, Result<(), Refusal>)>>,
}

impl ApiProbe {
    /// Returns whether the API answers. Callers that come during a request wait for its answer.
    async fn check(&self, cluster: &Cluster) -> Result<(), Refusal> {
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = last.as_ref()
            && at.elapsed() < PROBE_INTERVAL
        {
            return answer.clone();
        }
        let version = cluster.version().await;
        let answer = version.map(drop).map_err(|error| Refusal::of(Kind::NotReady, &error));
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

impl Supervisor {
    /// # Errors
    /// Says why no run can start now: this process stops, runs are being resumed, no run can be recorded, or the API does not answer.
    pub(crate) async fn readiness(&self) -> Result<(), Refusal> {
        self.runs().check_running().await?;
        self.runs().check_resumed().await?;
        self.check_storage().await?;
        self.shared.probe.check(&self.clusters().default).await
    }
}
