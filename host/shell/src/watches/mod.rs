//! Watches that all runs of a process share: two a namespace, for Jobs and for Pods with our own label.
//!
//! They begin with the first run that follows a Job in the namespace and end with the last. A run hears of its own Job and of that Job's
//! Pods only, and of their newest state: a run that does not listen makes nobody wait and stores one state an object.

mod board;
mod mailbox;
mod supervise;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::runtime::watcher::Event;
use paperclip_contract::types::{Deletion, JobSnapshot, Label, ObjectRef, PodSnapshot};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use board::Board;
use mailbox::Mailbox;

/// The label that our Jobs and Pods carry.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub const MANAGER: &str = "paperclip";

/// What a run hears of a Job that it follows.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    JobSeen(JobSnapshot),
    /// `is_ours` is always false: who asked for the deletion is not known here.
    JobDeleted(Deletion),
    PodSeen(PodSnapshot),
    PodDeleted(Deletion),
    /// The server refuses to let this process watch; nothing is heard until it does. For a person.
    Refused(String),
}

/// The watches of a process. Cheap to clone.
#[derive(Clone)]
pub struct Watches {
    client: Client,
    namespaces: Arc<Mutex<BTreeMap<String, Weak<Namespace>>>>,
}

/// One run's ear. Dropping it ends the watches that nobody else needs.
#[derive(Debug)]
pub struct Follower {
    watches: Watches,
    mailbox: Arc<Mailbox>,
    followed: Vec<Followed>,
    /// Namespaces that are watched although nothing in them is followed yet.
    watched: Vec<Arc<Namespace>>,
}

#[derive(Debug)]
struct Followed {
    namespace: Arc<Namespace>,
    job: ObjectRef,
}

/// The two watches of a namespace and what they know.
#[derive(Debug)]
struct Namespace {
    board: Arc<Mutex<Board>>,
    /// Whether the Jobs have been listed.
    is_listed: Arc<watch::Sender<bool>>,
    /// When the server last answered a request of the watch of Jobs.
    heard_at: Heard,
    tasks: [AbortHandle; 2],
}

/// When a server was last heard.
type Heard = Arc<Mutex<Instant>>;

/// How long a server may be silent before its watch proves nothing. Watches are opened anew more often than that.
const FRESH: Duration = Duration::from_secs(60);
/// How long a first list is waited for.
const LIST_PATIENCE: Duration = Duration::from_secs(5);

impl Watches {
    /// Watches through this client, which must allow answers to stay open.
    pub fn new(client: Client) -> Watches {
        Watches { client, namespaces: Arc::default() }
    }

    /// An ear that hears nothing yet.
    pub fn follower(&self) -> Follower {
        Follower { watches: self.clone(), mailbox: Arc::default(), followed: Vec::new(), watched: Vec::new() }
    }

    /// Namespaces that are being watched.
    pub fn namespaces(&self) -> Vec<String> {
        let namespaces = lock(&self.namespaces);
        let live = namespaces.iter().filter(|(_, namespace)| namespace.strong_count() > 0);
        live.map(|(name, _)| name.clone()).collect()
    }

    /// Whether the watch of a namespace proves that it has no Job with all these labels. False where it proves nothing: it is not
    /// watched, was not heard for a while, or has such a Job, whose state may have changed meanwhile.
    pub async fn has_no_job(&self, namespace: &str, labels: &[Label]) -> bool {
        let watched = lock(&self.namespaces).get(namespace).and_then(Weak::upgrade);
        match watched {
            Some(namespace) => namespace.has_no_job(labels).await,
            None => false,
        }
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

impl Follower {
    /// Hears of this Job and its Pods from now on, beginning with what is known. Must be called within a tokio runtime.
    pub fn follow(&mut self, job: &ObjectRef) {
        self.followed.retain(|followed| {
            let is_same = followed.job.uid == job.uid;
            if is_same {
                lock(&followed.namespace.board).unfollow(&job.uid, &self.mailbox);
            }
            !is_same
        });
        let namespace = self.watches.namespace(&job.namespace);
        lock(&namespace.board).follow(job.clone(), &self.mailbox);
        self.followed.push(Followed { namespace, job: job.clone() });
    }

    /// Watches a namespace from now on, so that what it holds is known when it is asked for.
    pub fn watch(&mut self, namespace: &str) {
        let namespace = self.watches.namespace(namespace);
        if !self.watched.iter().any(|watched| Arc::ptr_eq(watched, &namespace)) {
            self.watched.push(namespace);
        }
    }

    /// The next change; waits for one. Cancel-safe.
    pub async fn changed(&mut self) -> Change {
        self.mailbox.take().await
    }

    /// The next change, if there is one already.
    pub fn try_changed(&mut self) -> Option<Change> {
        self.mailbox.try_take()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        for followed in &self.followed {
            lock(&followed.namespace.board).unfollow(&followed.job.uid, &self.mailbox);
        }
    }
}

impl Namespace {
    fn watch(client: &Client, name: &str) -> Namespace {
        let board = Arc::new(Mutex::new(Board::default()));
        let (jobs, pods) = (Arc::clone(&board), Arc::clone(&board));
        let (heard_at, is_listed) =
            (Heard::new(Mutex::new(Instant::now())), Arc::new(watch::Sender::new(false)));
        let listed = Arc::clone(&is_listed);
        let jobs = supervise::supervise::<Job>(
            client.clone(),
            name.to_owned(),
            Arc::clone(&heard_at),
            move |news| {
                let is_end_of_list = matches!(news, supervise::News::Event(Event::InitDone));
                lock(&jobs).on_jobs(news);
                if is_end_of_list {
                    listed.send_replace(true);
                }
            },
        );
        let unheard = Heard::new(Mutex::new(Instant::now()));
        let pods = supervise::supervise::<Pod>(client.clone(), name.to_owned(), unheard, move |news| {
            lock(&pods).on_pods(news);
        });
        let tasks = [tokio::spawn(jobs).abort_handle(), tokio::spawn(pods).abort_handle()];
        Namespace { board, is_listed, heard_at, tasks }
    }

    async fn has_no_job(&self, labels: &[Label]) -> bool {
        let mut is_listed = self.is_listed.subscribe();
        let listed = tokio::time::timeout(LIST_PATIENCE, is_listed.wait_for(|is_listed| *is_listed)).await;
        matches!(listed, Ok(Ok(_)))
            && lock(&self.heard_at).elapsed() < FRESH
            && !lock(&self.board).has_job(labels)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A panic while the lock was held leaves states that are old at worst.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
