//! Watches that all runs of a process share: two a namespace, for Jobs and for Pods with our own label.
//!
//! They begin with the first run that follows a Job in the namespace and end with the last. A run hears of its own Job and of that Job's
//! Pods only, and of their newest state: a run that does not listen makes nobody wait and stores one state an object.

mod board;
mod mailbox;
mod supervise;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use paperclip_contract::types::{Gone, JobSnapshot, ObjectRef, PodSnapshot};
use tokio::task::AbortHandle;

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
    JobGone(Gone),
    PodSeen(PodSnapshot),
    PodGone(Gone),
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
    tasks: [AbortHandle; 2],
}

impl Watches {
    /// Watches through this client, which must allow answers to stay open.
    pub fn new(client: Client) -> Watches {
        Watches { client, namespaces: Arc::default() }
    }

    /// An ear that hears nothing yet.
    pub fn follower(&self) -> Follower {
        Follower { watches: self.clone(), mailbox: Arc::default(), followed: Vec::new() }
    }

    /// Namespaces that are being watched.
    pub fn namespaces(&self) -> Vec<String> {
        let namespaces = lock(&self.namespaces);
        let live = namespaces.iter().filter(|(_, namespace)| namespace.strong_count() > 0);
        live.map(|(name, _)| name.clone()).collect()
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
        let jobs = supervise::supervise::<Job>(client.clone(), name.to_owned(), move |news| {
            lock(&jobs).on_jobs(news);
        });
        let pods = supervise::supervise::<Pod>(client.clone(), name.to_owned(), move |news| {
            lock(&pods).on_pods(news);
        });
        Namespace { board, tasks: [tokio::spawn(jobs).abort_handle(), tokio::spawn(pods).abort_handle()] }
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
