//! Watches that all runs of a process share: two per namespace, for Jobs and for Pods with the product's label.
//!
//! They start with the first run that follows a Job in the namespace and end with the last. A run receives its own Job and that Job's
//! Pods only, in their newest state: a run that does not read delays no other and stores one state per object.

mod cache;
mod inbox;
pub(crate) mod supervise;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::runtime::watcher::Event;
use paperclip_contract::types::{Label, ObjectRef};
use paperclip_engine::driver::WatchEvent;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use cache::WatchCache;
pub(crate) use cache::{JobNotice, JobVersion};
pub(crate) use inbox::Inbox;

/// The label of the product's Jobs and Pods.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub const MANAGER: &str = "paperclip";

/// The watches of a process. Cheap to clone.
#[derive(Clone)]
pub struct Watches {
    client: Client,
    namespaces: Arc<Mutex<BTreeMap<String, Weak<Namespace>>>>,
}

/// What one run receives of the watches. Dropping it ends the watches that no other run needs.
#[derive(Debug)]
pub struct Subscription {
    watches: Watches,
    inbox: Arc<Inbox>,
    followed: Vec<Followed>,
    /// Namespaces that are watched although none of their Jobs is followed yet.
    watched: Vec<Arc<Namespace>>,
}

#[derive(Debug)]
struct Followed {
    namespace: Arc<Namespace>,
    job: ObjectRef,
}

/// The two watches of a namespace and the objects that they know.
#[derive(Debug)]
struct Namespace {
    cache: Arc<Mutex<WatchCache>>,
    /// Whether the Jobs have been listed.
    is_listed: Arc<watch::Sender<bool>>,
    /// When the server last answered a request of the watch of Jobs.
    last_activity: LastActivity,
    tasks: [AbortHandle; 2],
}

/// All Jobs of a namespace, as its watch reports them. Dropping it ends the watch if no run needs it.
#[derive(Debug)]
pub(crate) struct JobsObserver {
    pub(crate) notices: mpsc::UnboundedReceiver<JobNotice>,
    _namespace: Arc<Namespace>,
}

/// When a server last answered.
pub(crate) type LastActivity = Arc<Mutex<Instant>>;

/// How long a server may be silent before its watch proves nothing. Watches are opened again more often than that.
const FRESH: Duration = Duration::from_secs(60);
/// How long to wait for the first list.
const LIST_DEADLINE: Duration = Duration::from_secs(5);

impl Watches {
    /// Returns the watches of a client, which must allow responses to stay open.
    pub fn new(client: Client) -> Watches {
        Watches { client, namespaces: Arc::default() }
    }

    /// Returns a subscription that follows no Job yet.
    pub fn subscribe(&self) -> Subscription {
        Subscription {
            watches: self.clone(),
            inbox: Arc::default(),
            followed: Vec::new(),
            watched: Vec::new(),
        }
    }

    /// Returns the namespaces that are being watched.
    pub fn namespaces(&self) -> Vec<String> {
        let namespaces = lock(&self.namespaces);
        let live = namespaces.iter().filter(|(_, namespace)| namespace.strong_count() > 0);
        live.map(|(name, _)| name.clone()).collect()
    }

    /// Returns whether the watch of a namespace proves that it has no Job with all these labels. False if the namespace is not watched,
    /// its watch was silent for a while, or it has such a Job, whose state may have changed since.
    pub async fn has_no_job(&self, namespace: &str, labels: &[Label]) -> bool {
        self.proves(namespace, |cache| !cache.has_job(labels)).await
    }

    /// Returns whether the watch of a namespace proves that it has no Job of this run, as [`Watches::has_no_job`] does.
    pub async fn has_no_job_of(&self, namespace: &str, run_id: &str) -> bool {
        self.proves(namespace, |cache| !cache.has_job_of(run_id)).await
    }

    async fn proves(&self, namespace: &str, holds: impl Fn(&WatchCache) -> bool) -> bool {
        let watched = lock(&self.namespaces).get(namespace).and_then(Weak::upgrade);
        match watched {
            Some(namespace) => namespace.is_up_to_date().await && holds(&lock(&namespace.cache)),
            None => false,
        }
    }

    /// Reports all Jobs of a namespace from now on. Must be called within a tokio runtime.
    pub(crate) fn observe_jobs(&self, namespace: &str) -> JobsObserver {
        let namespace = self.namespace(namespace);
        let notices = lock(&namespace.cache).observe_jobs();
        JobsObserver { notices, _namespace: namespace }
    }

    /// Returns the version at which a Job had its epoch, if the namespace is watched.
    pub(crate) fn version_of(&self, namespace: &str, job_uid: &str) -> Option<JobVersion> {
        let namespace = lock(&self.namespaces).get(namespace).and_then(Weak::upgrade)?;
        lock(&namespace.cache).version_of(job_uid)
    }

    fn namespace(&self, name: &str) -> Arc<Namespace> {
        let mut namespaces = lock(&self.namespaces);
        if let Some(namespace) = namespaces.get(name).and_then(Weak::upgrade) {
            return namespace;
        }
        namespaces.retain(|_, namespace| namespace.strong_count() > 0);
        let namespace = Arc::new(Namespace::watch(&self.client, name));
        namespaces.insert(name.to_owned(), Arc::downgrade(&namespace));
        namespace
    }
}

impl std::fmt::Debug for Watches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watches").field("namespaces", &self.namespaces()).finish_non_exhaustive()
    }
}

impl Subscription {
    /// Follows this Job and its Pods, current states first. Must be called within a tokio runtime.
    pub fn follow(&mut self, job: &ObjectRef) {
        self.followed.retain(|followed| {
            let is_same = followed.job.uid == job.uid;
            if is_same {
                lock(&followed.namespace.cache).unfollow(&job.uid, &self.inbox);
            }
            !is_same
        });
        let namespace = self.watches.namespace(&job.namespace);
        lock(&namespace.cache).follow(job.clone(), &self.inbox);
        self.followed.push(Followed { namespace, job: job.clone() });
    }

    /// Returns where events of this subscription are put.
    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Watches a namespace from now on, so that its objects are known when they are requested.
    pub fn watch(&mut self, namespace: &str) {
        let namespace = self.watches.namespace(namespace);
        if !self.watched.iter().any(|watched| Arc::ptr_eq(watched, &namespace)) {
            self.watched.push(namespace);
        }
    }

    /// Waits for the next event of the followed Jobs. Cancel-safe.
    pub async fn next(&mut self) -> WatchEvent {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// Polls for the next event of the followed Jobs.
    pub fn poll_next(&mut self, context: &Context<'_>) -> Poll<WatchEvent> {
        self.inbox.poll_take(context)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        for followed in &self.followed {
            lock(&followed.namespace.cache).unfollow(&followed.job.uid, &self.inbox);
        }
    }
}

impl Namespace {
    fn watch(client: &Client, name: &str) -> Namespace {
        let cache = Arc::new(Mutex::new(WatchCache::default()));
        let (jobs, pods) = (Arc::clone(&cache), Arc::clone(&cache));
        let last_activity = LastActivity::new(Mutex::new(Instant::now()));
        let is_listed = Arc::new(watch::Sender::new(false));
        let listed = Arc::clone(&is_listed);
        let jobs = supervise::supervise::<Job>(
            client.clone(),
            name.to_owned(),
            supervise::of_the_product(),
            Arc::clone(&last_activity),
            move |notice| {
                let is_end_of_list = matches!(notice, supervise::Notice::Event(Event::InitDone));
                lock(&jobs).on_jobs(notice);
                if is_end_of_list {
                    listed.send_replace(true);
                }
            },
        );
        let unread = LastActivity::new(Mutex::new(Instant::now()));
        let pods = supervise::supervise::<Pod>(
            client.clone(),
            name.to_owned(),
            supervise::of_the_product(),
            unread,
            move |notice| lock(&pods).on_pods(notice),
        );
        let tasks = [tokio::spawn(jobs).abort_handle(), tokio::spawn(pods).abort_handle()];
        Namespace { cache, is_listed, last_activity, tasks }
    }

    /// Whether its Jobs are known, and its watch was not silent for long.
    async fn is_up_to_date(&self) -> bool {
        let mut is_listed = self.is_listed.subscribe();
        let listed = tokio::time::timeout(LIST_DEADLINE, is_listed.wait_for(|is_listed| *is_listed)).await;
        matches!(listed, Ok(Ok(_))) && lock(&self.last_activity).elapsed() < FRESH
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Ignores poison: a panic while the lock was held leaves outdated states at worst.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
