//! This process's part in the ownership of runs: which host lives, and who drives which Job.
//!
//! A task per namespace carries out the [`Ownership`](paperclip_engine::ownership::Ownership) of the engine and decides nothing. It starts
//! with the first run that needs this host there, or with [`Hosts::adopt`], and ends with [`Hosts::stop`].

mod leases;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use paperclip_engine::ownership::{HostIdentity, JobView, Obstacle, Prepared, instance_prefix};
use paperclip_engine::policy::is_label_of;
use tokio::sync::{mpsc, oneshot};

use crate::connect::Cluster;
use crate::watches::{Inbox, lock};
use task::{Message, Task};

/// How long a stopping process waits until its Leases are deleted.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// How this process is known to others.
#[derive(Debug, Clone, Default)]
pub struct HostSetup {
    /// The host's id, which stays the same over restarts with the same state folder.
    pub host: String,
    /// Where other replicas reach this process.
    pub address: Option<String>,
    pub version: String,
}

/// The ownership of one cluster's runs in this process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    setup: OnceLock<HostSetup>,
    nonce: OnceLock<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    namespaces: BTreeMap<String, Namespace>,
    /// Runs that this process has, in whichever namespace.
    runs: BTreeSet<String>,
    next_member: u64,
    is_stopped: bool,
}

#[derive(Debug)]
struct Namespace {
    messages: mpsc::UnboundedSender<Message>,
    published: Arc<Published>,
}

/// What the task of a namespace shows to others.
#[derive(Debug, Default)]
struct Published {
    /// How many Jobs no host drives.
    undriven: AtomicUsize,
    /// Labels of the runs of those that cannot be adopted here.
    left_alone: Mutex<BTreeSet<String>>,
    others: Mutex<BTreeSet<OtherHost>>,
}

/// Another host, as its Lease describes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OtherHost {
    pub host: String,
    /// Where it is reached.
    pub address: String,
}

/// A run's membership in a namespace. Dropping it ends the reports to the run.
#[derive(Debug)]
pub(crate) struct Membership {
    id: u64,
    messages: mpsc::UnboundedSender<Message>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        // The task has ended if this process stops.
        let _ = self.messages.send(Message::Leave { member: self.id });
    }
}

/// What whoever prepares and drives runs is asked for.
#[derive(Debug)]
pub enum AdoptionRequest {
    /// Find out how the run of this Job can be driven, keep what is needed, and answer with [`AdoptionAnswers::prepared`].
    Prepare { job: JobView, run_id: String },
    /// Drive what was prepared.
    Drive { job_uid: String },
    /// Drop what was prepared.
    Discard { job_uid: String },
    /// Report to the operator that no host drives the run of this Job.
    Report { job: JobView, why: String, hint: String },
    /// Every Job that existed at first has a host, or a try to adopt it has ended. Once.
    Settled,
}

/// The adoptions of a namespace, in the order in which they are requested.
#[derive(Debug)]
pub struct Adoptions {
    requests: mpsc::UnboundedReceiver<AdoptionRequest>,
    answers: AdoptionAnswers,
}

/// Where requests of [`Adoptions`] are answered. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AdoptionAnswers(mpsc::UnboundedSender<Message>);

impl Adoptions {
    /// Waits for the next request; none once the process stops.
    pub async fn next(&mut self) -> Option<AdoptionRequest> {
        self.requests.recv().await
    }

    /// Returns where requests are answered.
    pub fn answers(&self) -> AdoptionAnswers {
        self.answers.clone()
    }
}

impl AdoptionAnswers {
    /// Answers [`AdoptionRequest::Prepare`].
    pub fn prepared(&self, job_uid: String, outcome: Result<Prepared, Obstacle>) {
        // The task has ended if this process stops.
        let _ = self.0.send(Message::Prepared { job_uid, outcome });
    }
}

impl Hosts {
    /// Sets how this process is known to others. The first call counts, and comes before the first run.
    pub fn set_up(&self, setup: HostSetup) {
        let _ = self.shared.setup.set(setup);
    }

    /// Makes this host known in a namespace, and reports its state and changes of a guard into an inbox.
    pub(crate) fn join(
        &self,
        cluster: &Cluster,
        namespace: &str,
        guard: String,
        inbox: &Arc<Inbox>,
    ) -> Membership {
        let mut state = lock(&self.shared.state);
        let id = state.next_member;
        state.next_member += 1;
        let messages = self.messages(&mut state, cluster, namespace);
        let _ = messages.send(Message::Join { member: id, guard, inbox: Arc::clone(inbox) });
        Membership { id, messages }
    }

    /// Returns the host's id and its instance in a namespace, once the instance is known to live. Must be called within a tokio runtime.
    pub(crate) async fn instance(&self, cluster: &Cluster, namespace: &str) -> Option<(String, String)> {
        let (reply, instance) = oneshot::channel();
        let messages = self.messages(&mut lock(&self.shared.state), cluster, namespace);
        let _ = messages.send(Message::Await { reply });
        let instance = instance.await.ok()?;
        let host = self.shared.setup.get().map(|setup| setup.host.clone()).unwrap_or_default();
        Some((host, instance))
    }

    /// Returns whether it is the name of an instance of this process.
    pub fn is_own(&self, instance: &str) -> bool {
        let own = instance_prefix(self.nonce());
        instance.strip_prefix(&own).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// Adopts the runs of this namespace that no host drives, from now on. Must be called within a tokio runtime, once per namespace.
    pub fn adopt(&self, cluster: &Cluster, namespace: &str) -> Adoptions {
        let (sender, requests) = mpsc::unbounded_channel();
        let messages = self.messages(&mut lock(&self.shared.state), cluster, namespace);
        let jobs = cluster.watches().observe_jobs(namespace);
        let _ = messages.send(Message::Adopt { requests: sender, jobs });
        Adoptions { requests, answers: AdoptionAnswers(messages) }
    }

    /// Notes that this process has a run.
    pub fn run_entered(&self, run_id: &str) {
        let mut state = lock(&self.shared.state);
        if state.runs.insert(run_id.to_owned()) {
            state.notify(|| Message::RunEntered { run_id: run_id.to_owned() });
        }
    }

    /// Notes that a run has left this process.
    pub fn run_left(&self, run_id: &str) {
        let mut state = lock(&self.shared.state);
        if state.runs.remove(run_id) {
            state.notify(|| Message::RunLeft { run_id: run_id.to_owned() });
        }
    }

    /// Returns how many Jobs no host drives, in the namespaces where this process adopts.
    pub fn undriven(&self) -> usize {
        let state = lock(&self.shared.state);
        state.namespaces.values().map(|namespace| namespace.published.undriven.load(Ordering::Relaxed)).sum()
    }

    /// Returns the other hosts that have an address, in the namespaces where this process takes part.
    pub fn others(&self) -> BTreeSet<OtherHost> {
        let state = lock(&self.shared.state);
        let others = state.namespaces.values().map(|namespace| lock(&namespace.published.others).clone());
        others.flatten().collect()
    }

    /// Returns whether no host drives the Job of a run, and this one cannot adopt it: whoever starts the run again adopts it.
    pub fn is_left_alone(&self, namespace: &str, run_id: &str) -> bool {
        let state = lock(&self.shared.state);
        let Some(namespace) = state.namespaces.get(namespace) else { return false };
        lock(&namespace.published.left_alone).iter().any(|label| is_label_of(label, run_id))
    }

    /// Deletes the Leases of this process, whose runs have released their guards. Nothing is adopted any more.
    pub async fn stop(&self) {
        let stopped: Vec<oneshot::Receiver<()>> = {
            let mut state = lock(&self.shared.state);
            state.is_stopped = true;
            let namespaces = state.namespaces.values();
            let stopped = namespaces.map(|namespace| {
                let (reply, stopped) = oneshot::channel();
                let _ = namespace.messages.send(Message::Stop { reply });
                stopped
            });
            stopped.collect()
        };
        let all = futures::future::join_all(stopped);
        if tokio::time::timeout(STOP_DEADLINE, all).await.is_err() {
            tracing::warn!("the Lease of this host is not deleted: others delete it when it has expired");
        }
    }

    /// Returns where the task of a namespace receives, after starting it if there is none.
    fn messages(
        &self,
        state: &mut State,
        cluster: &Cluster,
        namespace: &str,
    ) -> mpsc::UnboundedSender<Message> {
        if let Some(known) = state.namespaces.get(namespace) {
            return known.messages.clone();
        }
        let (messages, received) = mpsc::unbounded_channel();
        let published = Arc::<Published>::default();
        if !state.is_stopped {
            let task = Task::new(cluster, self.identity(namespace), received, Arc::clone(&published));
            tokio::spawn(task.run());
        }
        for run_id in &state.runs {
            let _ = messages.send(Message::RunEntered { run_id: run_id.clone() });
        }
        let started = Namespace { messages: messages.clone(), published };
        state.namespaces.insert(namespace.to_owned(), started);
        messages
    }

    fn identity(&self, namespace: &str) -> HostIdentity {
        let HostSetup { host, address, version } = self.shared.setup.get().cloned().unwrap_or_default();
        HostIdentity {
            namespace: namespace.to_owned(),
            host,
            nonce: self.nonce().to_owned(),
            address,
            version,
        }
    }

    fn nonce(&self) -> &str {
        self.shared.nonce.get_or_init(|| format!("{:016x}", RandomState::new().hash_one("nonce")))
    }
}

impl State {
    fn notify(&self, message: impl Fn() -> Message) {
        for namespace in self.namespaces.values() {
            let _ = namespace.messages.send(message());
        }
    }
}
