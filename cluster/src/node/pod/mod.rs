//! The kubelet: runs the Pods of this node.
//!
//! Not done, as runs don't need it: probes (a container that runs is ready), lifecycle hooks, resource limits,
//! ephemeral containers, and refreshing a mounted Secret or ConfigMap while its Pod runs. A process that is out of
//! memory is killed by the system without a word, so `OOMKilled` is never reported.

mod binding;
mod container;
mod dependencies;
mod launch;
mod lost;
mod plan;
mod start;
mod status;
mod termination;
mod worker;

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::events::Recorder;
use super::informer::{Informer, Observation};
use super::logs::Logs;
use super::process::Launcher;
use super::volumes::Folders;
use crate::resource::Resource;
use crate::store::{ChangeKind, Key, Object, Store, is_deleting, meta};
use worker::{Seen, Worker};

/// What the workers of all Pods share.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) store: Store,
    pub(super) recorder: Recorder,
    pub(super) folders: Folders,
    pub(super) logs: Logs,
    pub(super) launcher: Launcher,
    /// The wait before a container is started again for the second time; it doubles from there.
    pub(super) first_backoff: Duration,
}

/// Runs every Pod until `down` turns true or its sender is dropped; then ends all containers and returns.
pub(super) async fn run(context: Context, mut down: watch::Receiver<bool>) {
    lost::mark(&context.store);
    let mut informer = Informer::new(&context.store, Resource::Pods);
    let mut kubelet = Kubelet { context, workers: HashMap::new(), tasks: JoinSet::new() };
    loop {
        tokio::select! {
            sight = informer.next() => kubelet.see(sight),
            Some(ended) = kubelet.tasks.join_next() => kubelet.has_ended(ended),
            _ = down.wait_for(|is_down| *is_down) => break,
        }
    }
    for running in kubelet.workers.values() {
        running.seen.send_modify(|seen| seen.is_node_down = true);
    }
    while let Some(ended) = kubelet.tasks.join_next().await {
        kubelet.has_ended(ended);
    }
}

struct Kubelet {
    context: Context,
    /// By the Pod's uid.
    workers: HashMap<String, Running>,
    /// Each gives the uid of its Pod.
    tasks: JoinSet<String>,
}

struct Running {
    key: Key,
    seen: watch::Sender<Seen>,
}

impl Kubelet {
    fn see(&mut self, sight: Observation) {
        match sight {
            Observation::Changed(change) => match change.kind {
                ChangeKind::Added | ChangeKind::Modified => self.evaluate(&change.key),
                ChangeKind::Deleted => self.object_deleted(&change.object),
            },
            Observation::Listed(pods) => {
                for pod in &pods {
                    self.evaluate(&Key::of(Resource::Pods, pod));
                }
                let is_listed = |uid: &str| pods.iter().any(|pod| meta(pod, "uid") == uid);
                for (uid, running) in &self.workers {
                    if !is_listed(uid) {
                        running.seen.send_modify(|seen| seen.is_deleted = true);
                    }
                }
            }
        }
    }

    /// Evaluates the Pod as it is now: a change can be older than the end of its worker.
    fn evaluate(&mut self, key: &Key) {
        let Some(pod) = self.context.store.get(key) else { return };
        let uid = meta(&pod, "uid");
        if let Some(running) = self.workers.get(uid) {
            running.seen.send_modify(|seen| seen.object = pod.clone());
            return;
        }
        if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
            if is_deleting(&pod) {
                let _already_deleted = self.context.store.remove(key, uid);
            }
            return;
        }
        let seen = Seen { object: pod.clone(), is_deleted: false, is_node_down: false };
        let sender = watch::Sender::new(seen);
        let Some(worker) = Worker::new(self.context.clone(), sender.subscribe()) else { return };
        self.workers.insert(uid.to_owned(), Running { key: key.clone(), seen: sender });
        let uid = uid.to_owned();
        self.tasks.spawn(async move {
            worker.run().await;
            uid
        });
    }

    fn object_deleted(&mut self, pod: &Object) {
        let uid = meta(pod, "uid");
        match self.workers.get(uid) {
            // Its logs go when it has ended.
            Some(running) => running.seen.send_modify(|seen| seen.is_deleted = true),
            None => self.context.logs.forget(meta(pod, "namespace"), meta(pod, "name"), uid),
        }
    }

    fn has_ended(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => {
                if let Some(running) = self.workers.remove(&uid)
                    && running.seen.borrow().is_deleted
                {
                    self.context.logs.forget(&running.key.namespace, &running.key.name, &uid);
                }
            }
            Err(error) => tracing::error!(%error, "the worker of a pod broke"),
        }
    }
}
