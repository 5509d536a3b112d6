//! The objects that the watches of a namespace know, and the inboxes that receive their changes. Has no other side effect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Event;
use paperclip_contract::types::{Deletion, JobSnapshot, Label, ObjectRef, PodSnapshot};
use paperclip_engine::api::EPOCH_ANNOTATION;
use paperclip_engine::driver::WatchEvent;
use paperclip_engine::ownership::JobView;
use paperclip_engine::policy::is_label_of;
use tokio::sync::mpsc;

use super::inbox::Inbox;
use super::supervise::Notice;
use crate::snapshot;

/// `detected_via` of a deletion that a watch reported.
const WATCH_DELETED: &str = "watch-deleted";
/// `detected_via` of an object that was known or followed before, and that a new list does not have.
const RELIST_MISSING: &str = "relist-missing";

/// At which resourceVersion a Job had which epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobVersion {
    pub(crate) resource_version: String,
    /// 0 if no host with epochs has acted for it.
    pub(crate) epoch: u64,
}

impl JobVersion {
    pub(crate) fn of(metadata: &ObjectMeta) -> JobVersion {
        let annotations = metadata.annotations.as_ref();
        let epoch = annotations.and_then(|annotations| annotations.get(EPOCH_ANNOTATION)?.parse().ok());
        JobVersion {
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            epoch: epoch.unwrap_or(0),
        }
    }
}

/// What [`WatchCache::observe_jobs`] reports of all Jobs.
#[derive(Debug)]
pub(crate) enum JobNotice {
    /// All Jobs that exist.
    Listed(Vec<JobSnapshot>),
    Seen(JobSnapshot),
    Deleted {
        uid: String,
    },
}

#[derive(Debug, Default)]
pub(super) struct WatchCache {
    jobs: Known<JobSnapshot>,
    /// The versions of the known Jobs, by UID.
    versions: BTreeMap<String, JobVersion>,
    /// Receivers of all Jobs.
    observers: Vec<mpsc::UnboundedSender<JobNotice>>,
    is_listed: bool,
    pods: Known<PodSnapshot>,
    /// By the UID of the followed Job.
    followers: BTreeMap<String, Vec<Follower>>,
}

#[derive(Debug)]
struct Follower {
    job: ObjectRef,
    inbox: Arc<Inbox>,
    /// How many lists of Jobs had started before it followed: a Job that an earlier list lacks may have been created since.
    lists_before: u64,
    /// The deletion of the Job was reported to it.
    is_reported_deleted: bool,
}

impl WatchCache {
    pub(super) fn follow(&mut self, job: ObjectRef, inbox: &Arc<Inbox>) {
        if let Some(known) = self.jobs.objects.get(&job.uid) {
            inbox.put(WatchEvent::JobSeen(known.clone()));
        }
        for pod in self.pods.objects.values().filter(|pod| pod.job_uid == job.uid) {
            inbox.put(WatchEvent::PodSeen(pod.clone()));
        }
        let lists_before = self.jobs.lists;
        let inbox = Arc::clone(inbox);
        let uid = job.uid.clone();
        let follower = Follower { job, inbox, lists_before, is_reported_deleted: false };
        self.followers.entry(uid).or_default().push(follower);
    }

    pub(super) fn unfollow(&mut self, job_uid: &str, inbox: &Arc<Inbox>) {
        if let Some(followers) = self.followers.get_mut(job_uid) {
            followers.retain(|follower| !Arc::ptr_eq(&follower.inbox, inbox));
            if followers.is_empty() {
                self.followers.remove(job_uid);
            }
        }
    }

    /// Reports all Jobs from now on, the known ones first if they were listed.
    pub(super) fn observe_jobs(&mut self) -> mpsc::UnboundedReceiver<JobNotice> {
        let (sender, receiver) = mpsc::unbounded_channel();
        if self.is_listed {
            let _ = sender.send(listed(&self.jobs));
        }
        self.observers.push(sender);
        receiver
    }

    fn notify(&mut self, notice: impl Fn(&Known<JobSnapshot>) -> JobNotice) {
        self.observers.retain(|observer| observer.send(notice(&self.jobs)).is_ok());
    }

    /// Returns the version of a Job at which it had its epoch.
    pub(super) fn version_of(&self, uid: &str) -> Option<JobVersion> {
        self.versions.get(uid).cloned()
    }

    /// Returns whether a Job with all these labels is known.
    pub(super) fn has_job(&self, labels: &[Label]) -> bool {
        self.jobs.objects.values().any(|job| labels.iter().all(|label| job.labels.contains(label)))
    }

    /// Returns whether a Job of this run is known.
    pub(super) fn has_job_of(&self, run_id: &str) -> bool {
        let mut views = self.jobs.objects.values().filter_map(JobView::of);
        views.any(|job| is_label_of(&job.run, run_id))
    }

    pub(super) fn on_jobs(&mut self, notice: Notice<Job>) {
        match notice {
            Notice::Event(Event::Init) => self.jobs.start_list(),
            Notice::Event(Event::InitApply(job)) => drop(self.see_job_version(&job)),
            Notice::Event(Event::Apply(job)) => {
                let job = self.see_job_version(&job);
                self.notify(|_| JobNotice::Seen(job.clone()));
            }
            Notice::Event(Event::Delete(job)) => {
                let job = snapshot::job(&job);
                self.see_job(&job);
                self.jobs.objects.remove(&job.job.uid);
                self.versions.remove(&job.job.uid);
                self.notify(|_| JobNotice::Deleted { uid: job.job.uid.clone() });
                self.report_job_deleted(&job.job, WATCH_DELETED);
            }
            Notice::Event(Event::InitDone) => {
                for lost in self.jobs.end_list() {
                    self.versions.remove(&lost.job.uid);
                    self.report_job_deleted(&lost.job, RELIST_MISSING);
                }
                self.is_listed = true;
                self.notify(listed);
                for job in self.unseen() {
                    self.report_job_deleted(&job, RELIST_MISSING);
                }
            }
            Notice::Refused(text) => self.send_to_all(&WatchEvent::Refused(text)),
        }
    }

    pub(super) fn on_pods(&mut self, notice: Notice<Pod>) {
        match notice {
            Notice::Event(Event::Init) => self.pods.start_list(),
            Notice::Event(Event::InitApply(pod) | Event::Apply(pod)) => {
                if let Some(pod) = snapshot::pod(&pod) {
                    self.see_pod(pod);
                }
            }
            Notice::Event(Event::Delete(pod)) => {
                if let Some(pod) = snapshot::pod(&pod) {
                    self.see_pod(pod.clone());
                    self.pods.objects.remove(&pod.pod.uid);
                    self.report_pod_deleted(pod, WATCH_DELETED);
                }
            }
            Notice::Event(Event::InitDone) => {
                for lost in self.pods.end_list() {
                    self.report_pod_deleted(lost, RELIST_MISSING);
                }
            }
            Notice::Refused(text) => self.send_to_all(&WatchEvent::Refused(text)),
        }
    }

    /// Processes a Job with its version, and returns what is known of it.
    fn see_job_version(&mut self, job: &Job) -> JobSnapshot {
        let snapshot = snapshot::job(job);
        self.versions.insert(snapshot.job.uid.clone(), JobVersion::of(&job.metadata));
        self.see_job(&snapshot);
        snapshot
    }

    fn see_job(&mut self, job: &JobSnapshot) {
        if self.jobs.see(&job.job.uid, job) {
            for follower in self.followers.get_mut(&job.job.uid).into_iter().flatten() {
                follower.is_reported_deleted = false;
                follower.inbox.put(WatchEvent::JobSeen(job.clone()));
            }
        }
    }

    fn see_pod(&mut self, pod: PodSnapshot) {
        if self.pods.see(&pod.pod.uid, &pod) {
            self.send(&pod.job_uid.clone(), &WatchEvent::PodSeen(pod));
        }
    }

    /// Followed Jobs that were never seen and are missing from a list that started after they were followed.
    fn unseen(&self) -> Vec<ObjectRef> {
        let unknown = self.followers.iter().filter(|(uid, _)| !self.jobs.objects.contains_key(*uid));
        let waiting = unknown.flat_map(|(_, followers)| {
            followers.iter().find(|one| !one.is_reported_deleted && one.lists_before < self.jobs.lists)
        });
        waiting.map(|follower| follower.job.clone()).collect()
    }

    fn report_job_deleted(&mut self, object: &ObjectRef, detected_via: &str) {
        for follower in self.followers.get_mut(&object.uid).into_iter().flatten() {
            if !follower.is_reported_deleted {
                follower.is_reported_deleted = true;
                follower.inbox.put(WatchEvent::JobDeleted(deletion(object.clone(), detected_via)));
            }
        }
    }

    fn report_pod_deleted(&self, pod: PodSnapshot, detected_via: &str) {
        self.send(&pod.job_uid, &WatchEvent::PodDeleted(deletion(pod.pod, detected_via)));
    }

    fn send(&self, job_uid: &str, event: &WatchEvent) {
        for follower in self.followers.get(job_uid).into_iter().flatten() {
            follower.inbox.put(event.clone());
        }
    }

    fn send_to_all(&self, event: &WatchEvent) {
        for follower in self.followers.values().flatten() {
            follower.inbox.put(event.clone());
        }
    }
}

fn deletion(object: ObjectRef, detected_via: &str) -> Deletion {
    Deletion { object, detected_via: detected_via.to_owned(), is_ours: false }
}

/// The objects of one kind.
#[derive(Debug)]
struct Known<S> {
    objects: BTreeMap<String, S>,
    /// UIDs that the current list has brought so far.
    listed: Option<BTreeSet<String>>,
    /// Lists that have started.
    lists: u64,
}

impl<S> Default for Known<S> {
    fn default() -> Self {
        Known { objects: BTreeMap::new(), listed: None, lists: 0 }
    }
}

impl<S: Clone + PartialEq> Known<S> {
    fn start_list(&mut self) {
        self.lists += 1;
        self.listed = Some(BTreeSet::new());
    }

    /// Stores a state. Returns whether it is a new one.
    fn see(&mut self, uid: &str, state: &S) -> bool {
        if let Some(listed) = &mut self.listed {
            listed.insert(uid.to_owned());
        }
        let is_new = self.objects.get(uid) != Some(state);
        if is_new {
            self.objects.insert(uid.to_owned(), state.clone());
        }
        is_new
    }

    /// Removes and returns the objects that the list did not bring.
    fn end_list(&mut self) -> Vec<S> {
        let Some(listed) = self.listed.take() else { return Vec::new() };
        let missing: Vec<String> =
            self.objects.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        missing.iter().filter_map(|uid| self.objects.remove(uid)).collect()
    }
}

fn listed(jobs: &Known<JobSnapshot>) -> JobNotice {
    JobNotice::Listed(jobs.objects.values().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(uid: &str, active: i32) -> Job {
        serde_json::from_value(json!({
            "metadata": {"namespace": "n", "name": "j", "uid": uid}, "status": {"active": active},
        }))
        .expect("a Job")
    }

    fn pod(uid: &str, job_uid: &str, phase: &str) -> Pod {
        let owner =
            json!({"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": job_uid, "controller": true});
        serde_json::from_value(json!({
            "metadata": {"namespace": "n", "name": uid, "uid": uid, "ownerReferences": [owner]}, "status": {"phase": phase},
        }))
        .expect("a Pod")
    }

    fn object(uid: &str) -> ObjectRef {
        ObjectRef { namespace: "n".into(), name: "j".into(), uid: uid.into() }
    }

    fn list(cache: &mut WatchCache, jobs: &[Job]) {
        cache.on_jobs(Notice::Event(Event::Init));
        for job in jobs {
            cache.on_jobs(Notice::Event(Event::InitApply(job.clone())));
        }
        cache.on_jobs(Notice::Event(Event::InitDone));
    }

    /// The received events in short.
    fn received(inbox: &Inbox) -> Vec<String> {
        let events = std::iter::from_fn(|| inbox.try_take());
        events
            .map(|event| match event {
                WatchEvent::JobSeen(job) => format!("job {} active {}", job.job.uid, job.active_pods),
                WatchEvent::JobDeleted(deletion) => {
                    format!("job {} {}", deletion.object.uid, deletion.detected_via)
                }
                WatchEvent::PodSeen(pod) => format!("pod {} {:?}", pod.pod.uid, pod.phase),
                WatchEvent::PodDeleted(deletion) => {
                    format!("pod {} {}", deletion.object.uid, deletion.detected_via)
                }
                WatchEvent::Host(_) | WatchEvent::GuardChanged => {
                    unreachable!("no watch of Jobs or Pods reports it")
                }
                WatchEvent::Refused(text) => text,
            })
            .collect()
    }

    #[test]
    fn a_follower_receives_the_known_state_and_then_changes_of_its_own_job_only() {
        let mut cache = WatchCache::default();
        list(&mut cache, &[job("a", 0), job("b", 0)]);
        cache.on_pods(Notice::Event(Event::Apply(pod("p", "a", "Pending"))));
        let inbox = Arc::<Inbox>::default();
        cache.follow(object("a"), &inbox);
        assert_eq!(received(&inbox), ["job a active 0", "pod p Pending"]);
        cache.on_jobs(Notice::Event(Event::Apply(job("b", 1))));
        cache.on_pods(Notice::Event(Event::Apply(pod("q", "b", "Pending"))));
        assert!(received(&inbox).is_empty());
        cache.on_pods(Notice::Event(Event::Delete(pod("p", "a", "Failed"))));
        assert_eq!(received(&inbox), ["pod p Failed", "pod p watch-deleted"]);
        cache.on_jobs(Notice::Event(Event::Delete(job("a", 0))));
        assert_eq!(received(&inbox), ["job a watch-deleted"]);
    }

    #[test]
    fn an_unchanged_state_is_not_sent_again() {
        let mut cache = WatchCache::default();
        let inbox = Arc::<Inbox>::default();
        cache.follow(object("a"), &inbox);
        list(&mut cache, &[job("a", 1)]);
        assert_eq!(received(&inbox), ["job a active 1"]);
        list(&mut cache, &[job("a", 1)]);
        cache.on_jobs(Notice::Event(Event::Apply(job("a", 1))));
        assert!(received(&inbox).is_empty());
    }

    #[test]
    fn an_object_missing_from_a_new_list_is_reported_deleted_once() {
        let mut cache = WatchCache::default();
        let (seen, unseen) = (Arc::<Inbox>::default(), Arc::<Inbox>::default());
        cache.follow(object("a"), &seen);
        cache.follow(object("z"), &unseen);
        list(&mut cache, &[job("a", 1)]);
        assert_eq!(received(&seen), ["job a active 1"]);
        assert_eq!(received(&unseen), ["job z relist-missing"]);
        cache.on_pods(Notice::Event(Event::Apply(pod("p", "a", "Running"))));
        cache.on_pods(Notice::Event(Event::Init));
        cache.on_pods(Notice::Event(Event::InitDone));
        list(&mut cache, &[]);
        list(&mut cache, &[]);
        let mut events = received(&seen);
        events.sort();
        assert_eq!(events, ["job a relist-missing", "pod p Running", "pod p relist-missing"]);
        assert!(received(&unseen).is_empty());
    }

    #[test]
    fn a_list_that_started_before_a_job_was_followed_does_not_report_it_deleted() {
        let mut cache = WatchCache::default();
        let inbox = Arc::<Inbox>::default();
        cache.on_jobs(Notice::Event(Event::Init));
        cache.follow(object("a"), &inbox);
        cache.on_jobs(Notice::Event(Event::InitDone));
        assert!(received(&inbox).is_empty());
        cache.on_jobs(Notice::Event(Event::Apply(job("a", 0))));
        assert_eq!(received(&inbox), ["job a active 0"]);
    }

    #[test]
    fn sends_nothing_after_unfollow() {
        let mut cache = WatchCache::default();
        let (stays, leaves) = (Arc::<Inbox>::default(), Arc::<Inbox>::default());
        cache.follow(object("a"), &stays);
        cache.follow(object("a"), &leaves);
        cache.unfollow("a", &leaves);
        cache.on_jobs(Notice::Event(Event::Apply(job("a", 1))));
        assert_eq!((received(&stays).len(), received(&leaves).len()), (1, 0));
    }
}
