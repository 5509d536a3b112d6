//! The runs of a daemon: started, queued, driven, followed, resumed after a restart, detached.

mod actor;
mod admission;
mod adopt;
mod candidate;
mod cursor;
mod feed;
mod handle;
mod mapping;
mod observed;
mod observer;
mod past;
mod peers;
mod plugins;
mod quiet;
mod readiness;
mod records;
mod resume;
mod retention;
mod run_locks;
mod runs;
mod start;
mod storage;
mod taken;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use paperclip_contract::types::{CancelRequest, CancelSource};
use paperclip_guest::{Catalogue, Tools};
use paperclip_prepare::{HostContext, Target};
use paperclip_shell::hosts::HostSetup;
use paperclip_shell::{Cluster, Control};
use paperclip_traces::Traces;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::memory;
use crate::metrics::{AgeLabel, Metrics, StateLabel};
use crate::refusal::{Kind, Refusal};
use actor::RunsActor;
use admission::Limits;
use readiness::ApiProbe;
use run_locks::RunLocks;

pub(crate) use feed::From as FollowFrom;
pub(crate) use handle::{RunHandle, RunInfo, RunState};
pub(crate) use peers::{PeerAccess, PeerProblem};
pub(crate) use records::{Elsewhere, Found};
pub(crate) use start::{StartRequest, Started};
use storage::StorageProbe;

/// How long a run may take to record that it is to end: one that is being resumed first asks the API whether it has its Job.
const CANCEL_DEADLINE: Duration = Duration::from_secs(10);
/// How long this process waits for its runs to release what they hold when it stops.
const STOP_DEADLINE: Duration = Duration::from_secs(9);

/// The clusters that this daemon runs agents on.
#[derive(Debug)]
pub(crate) struct Clusters {
    /// The one for configs that name none.
    pub(crate) default: Cluster,
    /// Which cluster that is, for people.
    pub(crate) place: String,
    /// Whether agents on it are processes of this machine.
    pub(crate) is_default_local: bool,
    /// Further ones, by the name that a config may have in `kubeconfig`.
    pub(crate) named: BTreeMap<String, Cluster>,
}

impl Clusters {
    /// Returns the cluster that a config names in `kubeconfig`, else the default one.
    ///
    /// # Errors
    /// The config names a cluster that the configuration does not have.
    pub(crate) fn select(&self, config: &Value) -> Result<&Cluster, Refusal> {
        let name = config["kubeconfig"].as_str().map(str::trim).filter(|name| !name.is_empty());
        let Some(name) = name else { return Ok(&self.default) };
        self.named.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.named.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Refusal::new(
                Kind::BadRequest,
                format!("config.kubeconfig: this host knows no cluster {name:?}"),
                format!("name one of its [clusters], or leave it out: {known}"),
            )
        })
    }

    /// Returns where the agent of a run of this config will run.
    ///
    /// # Errors
    /// Those of [`Clusters::select`].
    pub(crate) fn target(&self, config: &Value) -> Result<Target<'_>, Refusal> {
        let cluster = self.select(config)?;
        let is_local = self.is_default_local && std::ptr::eq(cluster, &raw const self.default);
        Ok(Target { namespace: Some(cluster.default_namespace()), needs_api_url: !is_local, starts: true })
    }

    /// Returns all clusters with their names; the default one has none.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Option<&str>, &Cluster)> {
        let named = self.named.iter().map(|(name, cluster)| (Some(name.as_str()), cluster));
        std::iter::once((None, &self.default)).chain(named)
    }
}

/// What a supervisor works with.
#[derive(Debug)]
pub(crate) struct Resources {
    pub(crate) host: HostContext,
    pub(crate) clusters: Clusters,
    pub(crate) catalogue: Arc<Catalogue>,
    /// Where runs are exported to as traces.
    pub(crate) traces: Option<Traces>,
    /// How other hosts are reached, if this host has their key.
    pub(crate) peers: Option<PeerAccess>,
}

/// The supervisor of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    resources: Resources,
    runs: RunsActor,
    metrics: Arc<Metrics>,
    memory_limit_bytes: Option<u64>,
    /// The tasks that a stopping process waits for.
    tasks: TaskTracker,
    probe: ApiProbe,
    /// Runs that are being started.
    starting: RunLocks,
    storage: StorageProbe,
    /// Pure functions of plugins, by digest: there are as many as versions of plugins.
    tools: Mutex<BTreeMap<String, Arc<Tools>>>,
}

impl Supervisor {
    /// Returns a supervisor without runs. Its task needs a tokio runtime.
    pub(crate) fn new(resources: Resources) -> Supervisor {
        let limits = &resources.host.config.limits;
        let shared = Shared {
            runs: RunsActor::spawn(Limits {
                runs: limits.runs as usize,
                runs_per_namespace: limits.runs_per_namespace as usize,
                runs_per_company: limits.runs_per_company as usize,
                runs_of_companies: resources.host.config.runs_of_companies(),
                queued_runs: limits.queued_runs as usize,
            }),
            memory_limit_bytes: memory::limit_bytes(limits.memory_mib),
            metrics: Arc::new(Metrics::new()),
            tasks: TaskTracker::new(),
            probe: ApiProbe::default(),
            starting: RunLocks::default(),
            storage: StorageProbe::default(),
            tools: Mutex::default(),
            resources,
        };
        let supervisor = Supervisor { shared: Arc::new(shared) };
        for (_, cluster) in supervisor.clusters().all() {
            cluster.hosts().set_up(HostSetup {
                host: supervisor.host().host_id.clone(),
                address: supervisor.host().config.peers.advertise_url.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            });
        }
        supervisor.count_plugins();
        supervisor
    }

    pub(crate) fn host(&self) -> &HostContext {
        &self.shared.resources.host
    }

    pub(crate) fn clusters(&self) -> &Clusters {
        &self.shared.resources.clusters
    }

    pub(crate) fn catalogue(&self) -> &Arc<Catalogue> {
        &self.shared.resources.catalogue
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    fn runs(&self) -> &RunsActor {
        &self.shared.runs
    }

    /// Returns all runs that this process knows, by id.
    pub(crate) async fn list(&self) -> Result<Vec<RunState>, Refusal> {
        self.runs().list().await
    }

    /// Returns a run.
    ///
    /// # Errors
    /// No run has the id, or runs are still being resumed: it may be one of those.
    pub(crate) async fn get(&self, run_id: &str) -> Result<Arc<RunHandle>, Refusal> {
        self.runs().get(run_id).await
    }

    /// Returns the state of a run for the API.
    pub(crate) async fn describe(&self, run: Arc<RunHandle>) -> Result<RunState, Refusal> {
        self.runs().describe(run).await
    }

    /// Requests that a run ends, and returns when the request is on disk. A run that has ended stays as it is.
    ///
    /// # Errors
    /// The run is not known, this process stops, or the run did not record the request in time.
    pub(crate) async fn cancel(
        &self,
        run_id: &str,
        reason: Option<String>,
    ) -> Result<Found<Arc<RunHandle>>, Refusal> {
        let run = match self.find(run_id).await? {
            Found::Here(run) => run,
            elsewhere @ Found::Elsewhere(_) => return Ok(elsewhere),
        };
        self.runs().check_running().await?;
        let noted = self.note_cancel(&run, reason.clone());
        let request = CancelRequest { source: CancelSource::Operator, reason };
        let (recorded, is_recorded) = oneshot::channel();
        // A run that has ended no longer receives.
        let _ = run.control.send(Control::Cancel(request, Some(recorded))).await;
        let (is_recorded, ()) = tokio::join!(tokio::time::timeout(CANCEL_DEADLINE, is_recorded), noted);
        match is_recorded {
            Ok(Ok(())) => Ok(Found::Here(run)),
            // The run ended, or it was detached because this process stops: then the request was too late.
            Ok(Err(_)) => self.runs().check_running().await.map(|()| Found::Here(run)),
            Err(_) => Err(Refusal::new(
                Kind::NotReady,
                format!("run {run_id} is being resumed and has not recorded the request yet"),
                "get its state, and try again unless it is being cancelled",
            )),
        }
    }

    /// Records that Paperclip's server has the result of a run.
    ///
    /// # Errors
    /// No run has the id, or it cannot be recorded.
    pub(crate) async fn take(&self, run_id: &str) -> Result<Found<()>, Refusal> {
        let run = match self.find(run_id).await? {
            Found::Here(run) => run,
            Found::Elsewhere(elsewhere) => return Ok(Found::Elsewhere(elsewhere)),
        };
        run.take();
        self.keep_taken(&run).await?;
        if run.state().is_over() {
            self.delete_record(&run).await?;
        }
        Ok(Found::Here(()))
    }

    /// Writes who has the result of a run beside its journal, if it has one.
    async fn keep_taken(&self, run: &RunHandle) -> Result<(), Refusal> {
        let (taken, Some(folder)) = (run.taken(), self.run_folder(&run.info.run_id)) else { return Ok(()) };
        let written = tokio::task::spawn_blocking(move || taken.write(&folder)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(not_recorded(&run.info.run_id, &error)),
            Err(error) => Err(not_recorded(&run.info.run_id, &error)),
        }
    }

    /// Detaches from all runs, which continue in the cluster. Returns how many did not manage to in time.
    pub(crate) async fn stop(&self) -> usize {
        tracing::info!("detaches from all runs");
        let runs = self.runs().stop().await.unwrap_or_default();
        for run in &runs {
            // A full channel has a request before this one, and the run ends by that.
            if run.control.try_send(Control::Stop).is_err() {
                tracing::debug!(run_id = run.info.run_id, "does not receive");
            }
        }
        self.shared.tasks.close();
        let _ = tokio::time::timeout(STOP_DEADLINE, self.shared.tasks.wait()).await;
        // Guards that are not handed over by now are free with the Lease of this host.
        for (_, cluster) in self.clusters().all() {
            cluster.hosts().stop().await;
        }
        runs.iter().filter(|run| !run.state().is_over()).count()
    }

    /// Notes that this process has a run, so that it is not adopted.
    fn note_entered(&self, run_id: &str) {
        for (_, cluster) in self.clusters().all() {
            cluster.hosts().run_entered(run_id);
        }
    }

    /// Notes that a run has left this process.
    fn note_left(&self, run_id: &str) {
        for (_, cluster) in self.clusters().all() {
            cluster.hosts().run_left(run_id);
        }
    }

    /// Runs a task that [`Supervisor::stop`] waits for.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.shared.tasks.spawn(task);
    }

    /// Returns the pure functions of a run's plugin, which its followers share.
    ///
    /// # Errors
    /// The plugin is no longer available.
    pub(crate) async fn tools(&self, run: &RunInfo) -> Result<Arc<Tools>, Refusal> {
        let digest = &run.plugin_digest;
        if let Some(tools) = self.known_tools().get(digest) {
            return Ok(Arc::clone(tools));
        }
        let plugin = self.plugin_of(&run.run_id, &run.adapter_type, Some(digest)).await?;
        let tools = Arc::new(Tools::new(plugin));
        Ok(Arc::clone(self.known_tools().entry(digest.clone()).or_insert(tools)))
    }

    fn known_tools(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Tools>>> {
        self.shared.tools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns all metrics as text.
    pub(crate) async fn encode_metrics(&self) -> Result<String, Refusal> {
        let counts = self.runs().count().await?;
        for (state, count) in counts.states {
            self.metrics().runs.get_or_create(&StateLabel { state: state.name() }).set(count);
        }
        for (age, count) in counts.quiet {
            self.metrics().quiet_runs.get_or_create(&AgeLabel { age }).set(count);
        }
        let undriven: usize = self.clusters().all().map(|(_, cluster)| cluster.hosts().undriven()).sum();
        self.metrics().undriven_jobs.set(i64::try_from(undriven).unwrap_or(i64::MAX));
        let clusters = self.clusters().all();
        Ok(self.metrics().encode(clusters.map(|(name, cluster)| (name.unwrap_or_default(), cluster))))
    }
}

fn not_recorded(run_id: &str, error: &dyn std::error::Error) -> Refusal {
    let message = format!("run {run_id}: it cannot be recorded who has its result: {error}");
    Refusal::new(Kind::Internal, message, "make the state folder writable, and try again")
}
