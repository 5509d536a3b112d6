//! What the watches of a namespace know, and who hears of it. Pure but for the mailboxes that it fills.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use paperclip_contract::types::{Deletion, JobSnapshot, Label, ObjectRef, PodSnapshot};

use super::Change;
use super::mailbox::Mailbox;
use super::supervise::News;
use crate::snapshot;

/// A watch said so.
const WATCH_DELETED: &str = "watch-deleted";
/// It was there before, or was followed before, and a new list has it no more.
const RELIST_MISSING: &str = "relist-missing";

#[derive(Debug, Default)]
pub(super) struct Board {
    jobs: Known<JobSnapshot>,
    pods: Known<PodSnapshot>,
    /// By the UID of the Job that they follow.
    followers: BTreeMap<String, Vec<Listener>>,
}

#[derive(Debug)]
struct Listener {
    job: ObjectRef,
    mailbox: Arc<Mailbox>,
    /// How many lists of Jobs had begun before it came: what a list that began earlier lacks may have been created since.
    lists_before: u64,
    /// It was told that the Job is gone.
    is_told_gone: bool,
}

impl Board {
    pub(super) fn follow(&mut self, job: ObjectRef, mailbox: &Arc<Mailbox>) {
        if let Some(known) = self.jobs.objects.get(&job.uid) {
            mailbox.put(Change::JobSeen(known.clone()));
        }
        for pod in self.pods.objects.values().filter(|pod| pod.job_uid == job.uid) {
            mailbox.put(Change::PodSeen(pod.clone()));
        }
        let lists_before = self.jobs.lists;
        let mailbox = Arc::clone(mailbox);
        let uid = job.uid.clone();
        let listener = Listener { job, mailbox, lists_before, is_told_gone: false };
        self.followers.entry(uid).or_default().push(listener);
    }

    pub(super) fn unfollow(&mut self, job_uid: &str, mailbox: &Arc<Mailbox>) {
        if let Some(listeners) = self.followers.get_mut(job_uid) {
            listeners.retain(|listener| !Arc::ptr_eq(&listener.mailbox, mailbox));
            if listeners.is_empty() {
                self.followers.remove(job_uid);
            }
        }
    }

    /// Whether a Job with all these labels is known.
    pub(super) fn has_job(&self, labels: &[Label]) -> bool {
        self.jobs.objects.values().any(|job| labels.iter().all(|label| job.labels.contains(label)))
    }

    pub(super) fn on_jobs(&mut self, news: News<Job>) {
        match news {
            News::Event(Event::Init) => self.jobs.begin_list(),
            News::Event(Event::InitApply(job) | Event::Apply(job)) => self.see_job(&snapshot::job(&job)),
            News::Event(Event::Delete(job)) => {
                let job = snapshot::job(&job);
                self.see_job(&job);
                self.jobs.objects.remove(&job.job.uid);
                self.tell_job_gone(&job.job, WATCH_DELETED);
            }
            News::Event(Event::InitDone) => {
                for lost in self.jobs.end_list() {
                    self.tell_job_gone(&lost.job, RELIST_MISSING);
                }
                for job in self.never_seen() {
                    self.tell_job_gone(&job, RELIST_MISSING);
                }
            }
            News::Refused(text) => self.tell_all(&Change::Refused(text)),
        }
    }

    pub(super) fn on_pods(&mut self, news: News<Pod>) {
        match news {
            News::Event(Event::Init) => self.pods.begin_list(),
            News::Event(Event::InitApply(pod) | Event::Apply(pod)) => {
                if let Some(pod) = snapshot::pod(&pod) {
                    self.see_pod(pod);
                }
            }
            News::Event(Event::Delete(pod)) => {
                if let Some(pod) = snapshot::pod(&pod) {
                    self.see_pod(pod.clone());
                    self.pods.objects.remove(&pod.pod.uid);
                    self.tell_pod_gone(pod, WATCH_DELETED);
                }
            }
            News::Event(Event::InitDone) => {
                for lost in self.pods.end_list() {
                    self.tell_pod_gone(lost, RELIST_MISSING);
                }
            }
            News::Refused(text) => self.tell_all(&Change::Refused(text)),
        }
    }

    fn see_job(&mut self, job: &JobSnapshot) {
        if self.jobs.see(&job.job.uid, job) {
            for listener in self.followers.get_mut(&job.job.uid).into_iter().flatten() {
                listener.is_told_gone = false;
                listener.mailbox.put(Change::JobSeen(job.clone()));
            }
        }
    }

    fn see_pod(&mut self, pod: PodSnapshot) {
        if self.pods.see(&pod.pod.uid, &pod) {
            self.tell(&pod.job_uid.clone(), &Change::PodSeen(pod));
        }
    }

    /// Jobs that are followed, were never seen, and are not in a list that began after somebody had come to follow them.
    fn never_seen(&self) -> Vec<ObjectRef> {
        let unknown = self.followers.iter().filter(|(uid, _)| !self.jobs.objects.contains_key(*uid));
        let waiting = unknown.flat_map(|(_, listeners)| {
            listeners.iter().find(|one| !one.is_told_gone && one.lists_before < self.jobs.lists)
        });
        waiting.map(|listener| listener.job.clone()).collect()
    }

    fn tell_job_gone(&mut self, object: &ObjectRef, detected_via: &str) {
        for listener in self.followers.get_mut(&object.uid).into_iter().flatten() {
            if !listener.is_told_gone {
                listener.is_told_gone = true;
                listener.mailbox.put(Change::JobDeleted(gone(object.clone(), detected_via)));
            }
        }
    }

    fn tell_pod_gone(&self, pod: PodSnapshot, detected_via: &str) {
        self.tell(&pod.job_uid, &Change::PodDeleted(gone(pod.pod, detected_via)));
    }

    fn tell(&self, job_uid: &str, change: &Change) {
        for listener in self.followers.get(job_uid).into_iter().flatten() {
            listener.mailbox.put(change.clone());
        }
    }

    fn tell_all(&self, change: &Change) {
        for listener in self.followers.values().flatten() {
            listener.mailbox.put(change.clone());
        }
    }
}

fn gone(object: ObjectRef, detected_via: &str) -> Deletion {
    Deletion { object, detected_via: detected_via.to_owned(), is_ours: false }
}

/// The objects of one kind.
#[derive(Debug)]
struct Known<S> {
    objects: BTreeMap<String, S>,
    /// UIDs that the list under way has brought so far.
    listed: Option<BTreeSet<String>>,
    /// Lists that have begun.
    lists: u64,
}

impl<S> Default for Known<S> {
    fn default() -> Self {
        Known { objects: BTreeMap::new(), listed: None, lists: 0 }
    }
}

impl<S: Clone + PartialEq> Known<S> {
    fn begin_list(&mut self) {
        self.lists += 1;
        self.listed = Some(BTreeSet::new());
    }

    /// Takes a state; whether it says anything new.
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

    /// Forgets and returns what the list did not bring.
    fn end_list(&mut self) -> Vec<S> {
        let Some(listed) = self.listed.take() else { return Vec::new() };
        let missing: Vec<String> =
            self.objects.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        missing.iter().filter_map(|uid| self.objects.remove(uid)).collect()
    }
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

    fn list(board: &mut Board, jobs: &[Job]) {
        board.on_jobs(News::Event(Event::Init));
        for job in jobs {
            board.on_jobs(News::Event(Event::InitApply(job.clone())));
        }
        board.on_jobs(News::Event(Event::InitDone));
    }

    /// What was heard, in short.
    fn heard(mailbox: &Mailbox) -> Vec<String> {
        let changes = std::iter::from_fn(|| mailbox.try_take());
        changes
            .map(|change| match change {
                Change::JobSeen(job) => format!("job {} active {}", job.job.uid, job.active_pods),
                Change::JobDeleted(gone) => format!("job {} {}", gone.object.uid, gone.detected_via),
                Change::PodSeen(pod) => format!("pod {} {:?}", pod.pod.uid, pod.phase),
                Change::PodDeleted(gone) => format!("pod {} {}", gone.object.uid, gone.detected_via),
                Change::Refused(text) => text,
            })
            .collect()
    }

    #[test]
    fn a_follower_hears_what_is_known_and_then_its_own_job_only() {
        let mut board = Board::default();
        list(&mut board, &[job("a", 0), job("b", 0)]);
        board.on_pods(News::Event(Event::Apply(pod("p", "a", "Pending"))));
        let mailbox = Arc::<Mailbox>::default();
        board.follow(object("a"), &mailbox);
        assert_eq!(heard(&mailbox), ["job a active 0", "pod p PodPhase::Pending"]);
        board.on_jobs(News::Event(Event::Apply(job("b", 1))));
        board.on_pods(News::Event(Event::Apply(pod("q", "b", "Pending"))));
        assert!(heard(&mailbox).is_empty());
        board.on_pods(News::Event(Event::Delete(pod("p", "a", "Failed"))));
        assert_eq!(heard(&mailbox), ["pod p PodPhase::Failed", "pod p watch-deleted"]);
        board.on_jobs(News::Event(Event::Delete(job("a", 0))));
        assert_eq!(heard(&mailbox), ["job a watch-deleted"]);
    }

    #[test]
    fn a_state_that_says_nothing_new_is_not_told_again() {
        let mut board = Board::default();
        let mailbox = Arc::<Mailbox>::default();
        board.follow(object("a"), &mailbox);
        list(&mut board, &[job("a", 1)]);
        assert_eq!(heard(&mailbox), ["job a active 1"]);
        list(&mut board, &[job("a", 1)]);
        board.on_jobs(News::Event(Event::Apply(job("a", 1))));
        assert!(heard(&mailbox).is_empty());
    }

    #[test]
    fn what_a_new_list_lacks_is_gone_and_told_once() {
        let mut board = Board::default();
        let (seen, unseen) = (Arc::<Mailbox>::default(), Arc::<Mailbox>::default());
        board.follow(object("a"), &seen);
        board.follow(object("z"), &unseen);
        list(&mut board, &[job("a", 1)]);
        assert_eq!(heard(&seen), ["job a active 1"]);
        assert_eq!(heard(&unseen), ["job z relist-missing"]);
        board.on_pods(News::Event(Event::Apply(pod("p", "a", "Running"))));
        board.on_pods(News::Event(Event::Init));
        board.on_pods(News::Event(Event::InitDone));
        list(&mut board, &[]);
        list(&mut board, &[]);
        let mut told = heard(&seen);
        told.sort();
        assert_eq!(told, ["job a relist-missing", "pod p PodPhase::Running", "pod p relist-missing"]);
        assert!(heard(&unseen).is_empty());
    }

    #[test]
    fn a_list_that_began_before_a_job_was_followed_proves_nothing_about_it() {
        let mut board = Board::default();
        let mailbox = Arc::<Mailbox>::default();
        board.on_jobs(News::Event(Event::Init));
        board.follow(object("a"), &mailbox);
        board.on_jobs(News::Event(Event::InitDone));
        assert!(heard(&mailbox).is_empty());
        board.on_jobs(News::Event(Event::Apply(job("a", 0))));
        assert_eq!(heard(&mailbox), ["job a active 0"]);
    }

    #[test]
    fn who_does_not_follow_any_more_hears_nothing() {
        let mut board = Board::default();
        let (stays, leaves) = (Arc::<Mailbox>::default(), Arc::<Mailbox>::default());
        board.follow(object("a"), &stays);
        board.follow(object("a"), &leaves);
        board.unfollow("a", &leaves);
        board.on_jobs(News::Event(Event::Apply(job("a", 1))));
        assert_eq!((heard(&stays).len(), heard(&leaves).len()), (1, 0));
    }
}
