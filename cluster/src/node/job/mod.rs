//! The Job controller: makes a Job's Pods, counts them, and says when the Job is over.

mod condition;
mod plan;
mod pods;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::events::{Component, Event, Recorder, Severity};
use super::informer::{Informer, Observation};
use super::objects::{self, decode};
use crate::error::ApiError;
use crate::resource::Resource;
use crate::store::{ChangeKind, DeleteOptions, Key, Object, Propagation, Store, meta};
use plan::{News, Plan, plan};
use pods::{Stage, TRACKING_FINALIZER, controller_uid, new_pod, stage};

/// The wait before the creation of a Pod is retried.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until it is dropped. `first_backoff` is the wait before the first failed Pod of a Job is replaced.
pub(super) async fn run(store: Store, recorder: Recorder, first_backoff: Duration) {
    let mut controller =
        Controller { store, recorder, first_backoff, due: BTreeMap::new(), doomed: HashSet::new() };
    let mut jobs = Informer::new(&controller.store, Resource::Jobs);
    let mut pods = Informer::new(&controller.store, Resource::Pods);
    loop {
        let touched = tokio::select! {
            sight = jobs.next() => touched_by_jobs(&sight),
            sight = pods.next() => controller.touched_by_pods(&sight),
            () = controller.until_due() => controller.take_due(),
        };
        for key in touched {
            controller.sync(&key);
        }
    }
}

#[derive(Debug)]
struct Controller {
    store: Store,
    recorder: Recorder,
    first_backoff: Duration,
    /// When to evaluate a Job even if nothing changes.
    due: BTreeMap<Key, Timestamp>,
    /// Uids of Pods that were seen under deletion while they ran: they count as failed however they end.
    doomed: HashSet<String>,
}

impl Controller {
    /// The Jobs of changed Pods. A Pod whose Job is deleted is released here, since no Job will count it.
    fn touched_by_pods(&mut self, sight: &Observation) -> BTreeSet<Key> {
        if let Observation::Changed(change) = sight
            && change.kind == ChangeKind::Deleted
        {
            self.doomed.remove(meta(&change.object, "uid"));
        }
        let look = |pod: &Object| -> Option<Key> {
            let (name, uid) = controller_uid(pod)?;
            let key = Key::new(Resource::Jobs, meta(pod, "namespace"), name);
            if self.store.get(&key).is_some_and(|job| meta(&job, "uid") == uid) {
                return Some(key);
            }
            self.release(&Key::of(Resource::Pods, pod), meta(pod, "uid"));
            None
        };
        match sight {
            Observation::Listed(pods) => pods.iter().filter_map(|pod| look(pod)).collect(),
            Observation::Changed(change) => look(&change.object).into_iter().collect(),
        }
    }

    fn sync(&mut self, key: &Key) {
        self.due.remove(key);
        let Some(job) = self.store.get(key) else { return self.release_orphans(key) };
        let mut pods = self.pods_of(&job);
        self.doom(&mut pods);
        let Some(typed) = decode::<Job>(&job) else { return };
        let plan = plan(&typed, &pods, Timestamp::now(), self.first_backoff);
        let look_again = plan.look_again;
        match self.carry_out(key, &job, plan) {
            Ok(()) => {
                if let Some(at) = look_again {
                    self.due.insert(key.clone(), at);
                }
            }
            Err(error) => {
                tracing::debug!(%error, job = %key.name, "a job is evaluated again");
                let at = Timestamp::now().checked_add(RETRY).unwrap_or(Timestamp::MAX);
                self.due.insert(key.clone(), at);
            }
        }
    }

    /// A Pod counts as failed from its deletion on, as with the real controller, even if its containers take that
    /// as a reason to end well.
    fn doom(&mut self, pods: &mut [Pod]) {
        for pod in pods {
            match stage(pod) {
                Stage::Terminating => {
                    self.doomed.insert(uid(pod).to_owned());
                }
                Stage::Succeeded if self.doomed.contains(uid(pod)) => {
                    pod.status.get_or_insert_default().phase = Some("Failed".to_owned());
                }
                Stage::Active | Stage::Succeeded | Stage::Failed => {}
            }
        }
    }

    fn carry_out(&self, key: &Key, job: &Arc<Object>, mut plan: Plan) -> Result<(), ApiError> {
        for pod in &plan.withdraw {
            self.release(&pod_key(pod), uid(pod));
            self.delete_pod(job, pod);
        }
        for pod in &plan.delete {
            self.delete_pod(job, pod);
        }
        let made = (0..plan.create).map(|_| self.create_pod(job)).filter(Result::is_ok).count();
        let missing = plan.create - made;
        if missing > 0 {
            let active = plan.status.active.unwrap_or_default();
            plan.status.active = Some(active - i32::try_from(missing).unwrap_or_default()).filter(|n| *n > 0);
        }
        let status = serde_json::to_value(&plan.status).map_err(ApiError::internal)?;
        self.store.update(key, |stored| {
            if meta(stored, "uid") == meta(job, "uid") {
                stored["status"] = status;
            }
            Ok(())
        })?;
        for pod in &plan.release {
            self.release(&pod_key(pod), uid(pod));
        }
        for news in &plan.news {
            self.recorder.record(job, event_of(news));
        }
        if plan.is_expired {
            let options = DeleteOptions {
                uid: Some(meta(job, "uid").to_owned()),
                propagation: Some(Propagation::Foreground),
                ..DeleteOptions::default()
            };
            self.store.delete(key, &options)?;
        }
        if missing > 0 { Err(ApiError::internal("a pod was not made")) } else { Ok(()) }
    }

    fn create_pod(&self, job: &Object) -> Result<(), ApiError> {
        let (severity, reason, message, result) =
            match objects::create(&self.store, Resource::Pods, new_pod(job)) {
                Ok(pod) => {
                    let message = format!("Created pod: {}", meta(&pod, "name"));
                    (Severity::Normal, "SuccessfulCreate", message, Ok(()))
                }
                Err(error) => {
                    (Severity::Warning, "FailedCreate", format!("Error creating: {error}"), Err(error))
                }
            };
        self.recorder.record(job, event(severity, reason, message));
        result
    }

    fn delete_pod(&self, job: &Object, pod: &Pod) {
        let options = DeleteOptions {
            uid: Some(uid(pod).to_owned()),
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        let key = pod_key(pod);
        if self.store.delete(&key, &options).is_ok() {
            let message = format!("Deleted pod: {}", key.name);
            self.recorder.record(job, event(Severity::Normal, "SuccessfulDelete", message));
        }
    }

    /// Takes the tracking finalizer away.
    fn release(&self, pod: &Key, uid: &str) {
        let _already_deleted = self.store.update(pod, |stored| {
            let is_this_one = meta(stored, "uid") == uid;
            if let Some(finalizers) = stored["metadata"]["finalizers"].as_array_mut()
                && is_this_one
            {
                finalizers.retain(|finalizer| finalizer != TRACKING_FINALIZER);
            }
            Ok(())
        });
    }

    fn release_orphans(&self, job: &Key) {
        for pod in self.store.list(Resource::Pods, Some(&job.namespace)).1 {
            if controller_uid(&pod).is_some_and(|(name, _)| name == job.name) {
                self.release(&Key::of(Resource::Pods, &pod), meta(&pod, "uid"));
            }
        }
    }

    /// The Pods that the Job controls, the oldest first.
    fn pods_of(&self, job: &Object) -> Vec<Pod> {
        let pods = self.store.list(Resource::Pods, Some(meta(job, "namespace"))).1;
        let uid = meta(job, "uid");
        let mut own: Vec<Pod> = pods
            .iter()
            .filter(|pod| controller_uid(pod).is_some_and(|(_, owner)| owner == uid))
            .filter_map(|pod| decode(pod))
            .collect();
        own.sort_by(|a, b| a.metadata.creation_timestamp.cmp(&b.metadata.creation_timestamp));
        own
    }

    async fn until_due(&self) {
        match self.due.values().min() {
            Some(due) => {
                let wait = Timestamp::now().duration_until(*due);
                tokio::time::sleep(Duration::try_from(wait).unwrap_or_default()).await;
            }
            None => std::future::pending().await,
        }
    }

    fn take_due(&self) -> BTreeSet<Key> {
        let now = Timestamp::now();
        self.due.iter().filter(|(_, due)| **due <= now).map(|(key, _)| key.clone()).collect()
    }
}

fn touched_by_jobs(sight: &Observation) -> BTreeSet<Key> {
    match sight {
        Observation::Listed(jobs) => jobs.iter().map(|job| Key::of(Resource::Jobs, job)).collect(),
        Observation::Changed(change) => match change.kind {
            ChangeKind::Added | ChangeKind::Modified | ChangeKind::Deleted => [change.key.clone()].into(),
        },
    }
}

fn event_of(news: &News) -> Event {
    match news {
        News::Suspended => event(Severity::Normal, "Suspended", "Job suspended".to_owned()),
        News::Resumed => event(Severity::Normal, "Resumed", "Job resumed".to_owned()),
        News::Completed => event(Severity::Normal, "Completed", "Job completed".to_owned()),
        News::Failed(verdict) => event(Severity::Warning, verdict.reason(), verdict.message().to_owned()),
    }
}

fn event(severity: Severity, reason: &'static str, message: String) -> Event {
    Event { component: Component::JobController, severity, reason, message, field_path: None }
}

fn pod_key(pod: &Pod) -> Key {
    let name = pod.metadata.name.clone().unwrap_or_default();
    Key::new(Resource::Pods, pod.metadata.namespace.clone().unwrap_or_default(), name)
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}
