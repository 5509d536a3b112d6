//! The runs of a daemon: taken on, queued, driven, followed, taken up after a restart, let go.

mod admission;
mod adopt;
mod adoptable;
mod begin;
mod entry;
mod feed;
mod intake;
mod memory;
mod metrics;
mod observed;
mod observer;
mod refusal;
mod resume;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use paperclip_contract::types::{CancelRequest, CancelSource};
use paperclip_guest::Catalogue;
use paperclip_shell::{Cluster, Control, PaperclipApi};
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use crate::config::Config;
use crate::traces::Traces;
use admission::{Admission, Limits};

pub(crate) use entry::{Entry, Shown, State};
pub(crate) use metrics::{AnswerLabels, CONTENT_TYPE, Metrics};
pub(crate) use refusal::{Kind, Refusal};

/// How long a run may take to note that it is to end: one that is being taken up asks the API first whether it has its Job.
const CANCEL_DEADLINE: Duration = Duration::from_secs(10);
/// How long this process waits for its runs to hand over what they hold when it stops.
const STOP_DEADLINE: Duration = Duration::from_secs(9);
/// For how long the newest records of an ended run stay in memory.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// For how long a run is known that ended with nothing on disk.
const KEEP_WITHOUT_JOURNAL: Duration = Duration::from_secs(3_600);
/// For how long an answer of the Kubernetes API to a probe holds.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// How often what is too old is removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// What the daemon runs with.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) config: Config,
    pub(crate) state: PathBuf,
    pub(crate) host_id: String,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) cluster: Cluster,
    /// Which cluster that is, for people.
    pub(crate) place: String,
    /// Further ones, by the name that a config may have in `kubeconfig`.
    pub(crate) clusters: BTreeMap<String, Cluster>,
    pub(crate) own_pod: Option<Value>,
    pub(crate) paperclip: Option<PaperclipApi>,
    /// Who is told of runs as traces.
    pub(crate) traces: Option<Traces>,
}

/// The runs of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    around: Surroundings,
    metrics: Arc<Metrics>,
    runs: Mutex<BTreeMap<String, Arc<Entry>>>,
    admission: Mutex<Admission>,
    memory_limit_bytes: Option<u64>,
    /// How many runs have a task.
    tasks: watch::Sender<usize>,
    is_stopping: AtomicBool,
    /// Runs of an earlier process that are still being taken up.
    resuming: AtomicUsize,
    /// Runs that were taken up and wait for a repeated start to bring their secrets.
    awaited: Mutex<BTreeMap<String, oneshot::Sender<resume::Brought>>>,
    /// The last answer of the Kubernetes API to a probe, and when it came: probes are no load.
    probed: tokio::sync::Mutex<Option<(Instant, Result<(), Refusal>)>>,
}

impl Supervisor {
    pub(crate) fn new(around: Surroundings) -> Supervisor {
        let limits = &around.config.limits;
        let admission = Admission::new(Limits {
            runs: limits.runs as usize,
            runs_per_namespace: limits.runs_per_namespace as usize,
            runs_per_company: limits.runs_per_company as usize,
            queued_runs: limits.queued_runs as usize,
        });
        let shared = Shared {
            memory_limit_bytes: memory::limit_bytes(limits.memory_mib),
            metrics: Arc::new(Metrics::new()),
            runs: Mutex::default(),
            admission: Mutex::new(admission),
            tasks: watch::Sender::new(0),
            is_stopping: AtomicBool::new(false),
            resuming: AtomicUsize::new(0),
            awaited: Mutex::default(),
            probed: tokio::sync::Mutex::new(None),
            around,
        };
        let supervisor = Supervisor { shared: Arc::new(shared) };
        supervisor.note_plugins();
        supervisor
    }

    pub(crate) fn around(&self) -> &Surroundings {
        &self.shared.around
    }

    pub(crate) fn catalogue(&self) -> &Arc<Catalogue> {
        &self.shared.around.catalogue
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// All runs that this process knows, by id.
    pub(crate) fn list(&self) -> Vec<Shown> {
        let runs: Vec<Arc<Entry>> = self.shared.runs().values().cloned().collect();
        runs.iter().map(|entry| self.show(entry)).collect()
    }

    pub(crate) fn get(&self, run_id: &str) -> Result<Arc<Entry>, Refusal> {
        if let Some(entry) = self.shared.runs().get(run_id) {
            return Ok(Arc::clone(entry));
        }
        // It may be one of those.
        self.not_resuming()?;
        Err(Refusal::new(
            Kind::NotFound,
            format!("run {run_id} is not known to this host"),
            "check the id; with several replicas ask the one that holds its lease, or start it here again to take it over",
        ))
    }

    fn not_resuming(&self) -> Result<(), Refusal> {
        match self.shared.resuming.load(Ordering::Relaxed) {
            0 => Ok(()),
            resuming => Err(Refusal::new(
                Kind::NotReady,
                format!("{resuming} runs are being taken up"),
                "ask again in some seconds",
            )),
        }
    }

    pub(crate) fn show(&self, entry: &Entry) -> Shown {
        let position = (entry.state() == State::Queued)
            .then(|| self.shared.admission().position(&entry.about.run_id))
            .flatten();
        entry.show(position)
    }

    /// Wants a run to end. Nothing happens to one that has.
    pub(crate) async fn cancel(&self, run_id: &str, reason: Option<String>) -> Result<Arc<Entry>, Refusal> {
        let entry = self.get(run_id)?;
        self.not_stopping()?;
        let request = CancelRequest { source: CancelSource::Operator, reason };
        let (noted, is_noted) = oneshot::channel();
        // A run that has ended does not listen any more.
        let _ = entry.control.send(Control::Cancel(request, Some(noted))).await;
        match tokio::time::timeout(CANCEL_DEADLINE, is_noted).await {
            Ok(Ok(())) => {}
            // A run that is let go hears nothing any more: the wish was in time only if nobody had told it to go before.
            Ok(Err(_)) => self.not_stopping()?,
            Err(_) => {
                return Err(Refusal::new(
                    Kind::NotReady,
                    format!("run {run_id} is being taken up and has not noted the wish yet"),
                    "look at its state, and ask again unless it is being cancelled",
                ));
            }
        }
        Ok(entry)
    }

    /// Why no run can be taken on now, if so: still resuming, stopping, or the API is away.
    pub(crate) async fn readiness(&self) -> Result<(), Refusal> {
        self.not_stopping()?;
        self.not_resuming()?;
        self.api_answers().await
    }

    /// Whether the Kubernetes API answers, as it was asked last. Whoever comes while it is being asked waits for that answer.
    async fn api_answers(&self) -> Result<(), Refusal> {
        let mut probed = self.shared.probed.lock().await;
        if let Some((at, answer)) = probed.as_ref()
            && at.elapsed() < PROBE_INTERVAL
        {
            return answer.clone();
        }
        let version = self.around().cluster.version().await;
        let answer = version.map(drop).map_err(|error| Refusal::of(Kind::NotReady, &error));
        *probed = Some((Instant::now(), answer.clone()));
        answer
    }

    fn not_stopping(&self) -> Result<(), Refusal> {
        if self.shared.is_stopping.load(Ordering::SeqCst) {
            return Err(Refusal::new(
                Kind::Stopping,
                "this host is about to exit",
                "ask again when it is up again",
            ));
        }
        Ok(())
    }

    /// Lets go of all runs; they go on in the cluster. Tells how many did not manage to in time.
    pub(crate) async fn stop(&self) -> usize {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        tracing::info!("lets go of all runs");
        let runs: Vec<Arc<Entry>> = self.shared.runs().values().cloned().collect();
        for entry in runs.iter().filter(|entry| !entry.state().is_over()) {
            // A full channel has a wish before this one; the run is told twice then.
            if entry.control.try_send(Control::Stop).is_err() {
                tracing::debug!(run_id = entry.about.run_id, "does not listen");
            }
        }
        let mut tasks = self.shared.tasks.subscribe();
        let _ = tokio::time::timeout(STOP_DEADLINE, tasks.wait_for(|count| *count == 0)).await;
        runs.iter().filter(|entry| !entry.state().is_over()).count()
    }

    /// Runs a task that [`Supervisor::stop`] waits for.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let counted = Counted::new(&self.shared);
        tokio::spawn(async move {
            task.await;
            drop(counted);
        });
    }

    /// Frees what ended runs hold, until the future is dropped.
    pub(crate) async fn sweep(&self) {
        let retention = self.around().config.retention.limits();
        let mut interval = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            interval.tick().await;
            let state = self.around().state.clone();
            let pruned = tokio::task::spawn_blocking(move || {
                paperclip_shell::journal::prune(&state, retention, SystemTime::now())
            });
            match pruned.await {
                Ok(Ok(0)) => {}
                Ok(Ok(gone)) => tracing::info!(gone, "removed journals of ended runs"),
                Ok(Err(error)) => tracing::warn!(%error, "journals of ended runs cannot be removed"),
                Err(error) => tracing::warn!(%error, "removing journals broke off"),
            }
            self.forget();
        }
    }

    fn forget(&self) {
        let state = &self.around().state;
        self.shared.runs().retain(|run_id, entry| {
            let Some(over_for) = entry.over_for() else { return true };
            if over_for < FORGET_AFTER {
                return true;
            }
            entry.feed.forget();
            // What retention has removed from the disk is not known any more.
            over_for < KEEP_WITHOUT_JOURNAL || paperclip_shell::journal::run_folder(state, run_id).exists()
        });
    }

    /// Looks at the plugins folder again, and tells what became of it in log and metrics.
    pub(crate) async fn reload_plugins(&self) -> Result<Vec<paperclip_guest::Changed>, Refusal> {
        let catalogue = Arc::clone(self.catalogue());
        let reloaded = tokio::task::spawn_blocking(move || catalogue.reload()).await;
        let changed = match reloaded {
            Ok(Ok(changed)) => changed,
            Ok(Err(error)) => return Err(Refusal::of(Kind::Internal, &error)),
            Err(error) => {
                return Err(Refusal::new(
                    Kind::Internal,
                    format!("the reload broke off: {error}"),
                    "try again",
                ));
            }
        };
        for change in &changed {
            self.note_change(change);
        }
        for rejected in self.catalogue().show().rejected {
            tracing::warn!(
                adapter = rejected.adapter_type,
                error = rejected.error,
                hint = rejected.hint,
                "plugin is rejected"
            );
        }
        self.note_plugins();
        Ok(changed)
    }

    /// Goes back to the version of a plugin before.
    pub(crate) fn revert_plugin(&self, adapter_type: &str) -> Result<paperclip_guest::Changed, Refusal> {
        let reverted = self.catalogue().revert(adapter_type);
        let change = reverted.map_err(|error| Refusal::of(Kind::NotFound, &error))?;
        self.note_change(&change);
        self.note_plugins();
        Ok(change)
    }

    fn note_change(&self, change: &paperclip_guest::Changed) {
        self.shared.metrics.reloads.inc();
        tracing::info!(adapter = change.adapter_type, from = change.from, to = change.to, "plugin swapped");
    }

    fn note_plugins(&self) {
        let shown = self.catalogue().show();
        let metrics = &self.shared.metrics;
        metrics.plugins.clear();
        for plugin in shown.plugins {
            let labels = metrics::PluginLabels {
                adapter: plugin.adapter_type,
                version: plugin.version,
                digest: plugin.digest,
            };
            metrics.plugins.get_or_create(&labels).set(1);
        }
        metrics.rejected_plugins.set(i64::try_from(shown.rejected.len()).unwrap_or(i64::MAX));
    }

    /// All metrics as text.
    pub(crate) fn encode_metrics(&self) -> String {
        let mut counts: BTreeMap<State, i64> = State::ALL.iter().map(|state| (*state, 0)).collect();
        for entry in self.shared.runs().values() {
            *counts.entry(entry.state()).or_default() += 1;
        }
        for (state, count) in counts {
            let label = metrics::StateLabel { state: state.name() };
            self.shared.metrics.runs.get_or_create(&label).set(count);
        }
        let around = self.around();
        let own = std::iter::once(("", &around.cluster));
        let named = around.clusters.iter().map(|(name, cluster)| (name.as_str(), cluster));
        self.shared.metrics.encode(own.chain(named))
    }
}

impl Shared {
    fn runs(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Entry>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn awaited(&self) -> MutexGuard<'_, BTreeMap<String, oneshot::Sender<resume::Brought>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run has left: those that waited for it begin.
    fn leave(&self, run_id: &str) {
        let begin = self.admission().leave(run_id);
        let runs = self.runs();
        for run_id in begin {
            if let Some(entry) = runs.get(&run_id) {
                entry.admit();
            }
        }
    }
}

/// A task of a run, for as long as it is held.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: &Arc<Shared>) -> Counted {
        shared.tasks.send_modify(|count| *count += 1);
        Counted(Arc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.tasks.send_modify(|count| *count -= 1);
    }
}
