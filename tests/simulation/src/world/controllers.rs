//! The Job controller, the TTL controller and the garbage collector, each with its own lag.

use paperclip_contract::types::ObjectRef;

use super::{World, WorldEvent};
use crate::cluster::{Actor, Pod, SUSPENDED, Stage};
use crate::fault::Fault;
use crate::scenario::NAMESPACE;

impl World {
    /// Reconciles a Job whose spec or pods have changed.
    pub(super) fn reconcile_job(&mut self, uid: &str) {
        let run = self.run_of_job(uid).unwrap_or(0);
        let now_ms = self.now_ms;
        let Some(job) = self.cluster.jobs.get_mut(uid) else { return };
        if job.is_removed || job.deleting_since_ms.is_some() || job.has_had_pod {
            return;
        }
        let (is_news, is_suspended) = (job.note_suspension(now_ms), job.is_suspended);
        if is_news {
            self.cluster.publish_job(uid);
        }
        if is_suspended {
            return;
        }
        let job = self.cluster.jobs.get_mut(uid).expect("found above");
        if job.started_ms.is_none() {
            job.started_ms = Some(now_ms);
            if let Some(deadline_s) = job.active_deadline_s {
                self.after(deadline_s * 1_000, WorldEvent::JobDeadline(uid.to_owned()));
            }
        }
        if self.strikes_job(Fault::PodQuota, run, uid) {
            let name = self.cluster.jobs[uid].object.name.clone();
            let text =
                "Error creating: pods is forbidden: exceeded quota: pods, requested: 1, used: 9, limited: 9";
            self.cluster.note_event(uid, format!("Job/{name}"), "FailedCreate", text);
            let delay_ms = *self.entropy.choose(&[10_000, 40_000, 120_000, 400_000]);
            self.after(delay_ms, WorldEvent::ReconcileJob(uid.to_owned()));
            return;
        }
        self.create_pod(uid, run);
    }

    fn create_pod(&mut self, job_uid: &str, run: usize) {
        let attempt = self.cluster.jobs[job_uid].attempt;
        let script = self.runs[run].plan.scripts[attempt].clone();
        let now_ms = self.now_ms;
        let job = self.cluster.jobs.get_mut(job_uid).expect("the caller found it");
        job.has_had_pod = true;
        job.active = 1;
        let name = format!("{}-x7k2p", job.object.name);
        let uid = format!("pod-of-{job_uid}");
        let object = ObjectRef { namespace: NAMESPACE.to_owned(), name, uid: uid.clone() };
        let mut pod = Pod::new(object, job_uid.to_owned(), script, now_ms);
        pod.has_sidecar = self.strikes_job(Fault::SidecarInjected, run, job_uid);
        pod.is_gated = self.strikes_job(Fault::PodGated, run, job_uid);
        let delay_ms = if pod.is_gated {
            *self.entropy.choose(&[5_000, 60_000, 700_000])
        } else {
            self.entropy.skewed(5, 300)
        };
        self.cluster.pods.insert(uid.clone(), pod);
        self.cluster.publish_pod(&uid);
        self.cluster.publish_job(job_uid);
        self.after(delay_ms, WorldEvent::Schedule(uid));
        let disturb_ms = self.entropy.skewed(10, 30_000);
        self.after(disturb_ms, WorldEvent::Disturb(job_uid.to_owned()));
    }

    /// A pod has ended or was removed: the Job's conditions follow later (rule 14).
    pub(super) fn on_pod_ended(&mut self, pod_uid: &str) {
        let pod = &self.cluster.pods[pod_uid];
        let job_uid = pod.job_uid.clone();
        // Rule 15: with a container that never ends the Job does not end either.
        if pod.has_sidecar
            && pod.deleting_since_ms.is_none()
            && pod.reason.is_none()
            && pod.stage == Stage::Ended
        {
            return;
        }
        let run = self.run_of_job(&job_uid).unwrap_or(0);
        let delay_ms = if self.strikes_job(Fault::ConditionLate, run, &job_uid) {
            *self.entropy.choose(&[100_000, 600_000])
        } else {
            self.condition_delay_ms(4_000)
        };
        self.after(delay_ms, WorldEvent::JobCondition(job_uid));
    }

    /// The local cluster sets conditions within milliseconds.
    fn condition_delay_ms(&mut self, longest_ms: u64) -> u64 {
        if self.entropy.chance(64) { 2 } else { self.entropy.skewed(10, longest_ms) }
    }

    pub(super) fn conclude_job(&mut self, uid: &str) {
        let now_ms = self.now_ms;
        let ended = self.cluster.pods.values().rev().find(|pod| pod.job_uid == uid);
        let has_succeeded =
            ended.is_some_and(|pod| pod.phase() == paperclip_contract::types::PodPhase::Succeeded);
        let is_terminal = ended.is_none_or(|pod| pod.stage >= Stage::Ended);
        let Some(job) = self.cluster.jobs.get_mut(uid).filter(|job| !job.is_removed && !job.is_finished())
        else {
            return;
        };
        let (early, last, reason) = if has_succeeded {
            ("SuccessCriteriaMet", "Complete", None)
        } else {
            ("FailureTarget", "Failed", Some("BackoffLimitExceeded"))
        };
        let has_early_condition = job.has_condition(early) || job.has_condition("FailureTarget");
        if !has_early_condition || !is_terminal {
            if !has_early_condition {
                job.add_condition(early, reason, now_ms);
                self.cluster.publish_job(uid);
            }
            if is_terminal {
                let delay_ms = self.condition_delay_ms(2_000);
                self.after(delay_ms, WorldEvent::JobCondition(uid.to_owned()));
            }
            return;
        }
        let early_condition = job.conditions.iter().find(|condition| condition.kind != SUSPENDED);
        let reason = early_condition.and_then(|condition| condition.reason.clone());
        job.add_condition(last, reason.as_deref(), now_ms);
        job.active = 0;
        job.succeeded = u32::from(has_succeeded);
        job.failed = u32::from(!has_succeeded);
        let ttl_ms = job.ttl_s * 1_000;
        self.cluster.publish_job(uid);
        self.after(ttl_ms, WorldEvent::JobTtl(uid.to_owned()));
    }

    /// Rule 20.
    pub(super) fn end_job_by_deadline(&mut self, uid: &str) {
        let now_ms = self.now_ms;
        let Some(job) = self.cluster.jobs.get_mut(uid).filter(|job| !job.is_removed && !job.is_finished())
        else {
            return;
        };
        job.add_condition("FailureTarget", Some("DeadlineExceeded"), now_ms);
        self.cluster.publish_job(uid);
        self.delete_pods_of(uid);
        self.after(1_000, WorldEvent::JobCondition(uid.to_owned()));
    }

    pub(super) fn end_job_by_ttl(&mut self, uid: &str) {
        if let Some(job) = self.cluster.jobs.get(uid).filter(|job| !job.is_removed) {
            let object = job.object.clone();
            if self.cluster.delete_job(Actor::Ttl, &object).is_ok() {
                self.on_job_deletion_requested(uid);
            }
        }
    }

    /// The deletion of a Job was requested. Without a finalizer the Job is removed at once.
    pub(super) fn on_job_deletion_requested(&mut self, uid: &str) {
        let run = self.run_of_job(uid).unwrap_or(0);
        if self.strikes_job(Fault::FinalizerStuck, run, uid) {
            self.cluster.publish_job(uid);
            self.delete_pods_of(uid);
            let delay_ms = *self.entropy.choose(&[2_000, 30_000, 200_000]);
            self.after(delay_ms, WorldEvent::RemoveJob(uid.to_owned()));
        } else {
            self.remove_job(uid);
        }
    }

    pub(super) fn remove_job(&mut self, uid: &str) {
        let Some(job) = self.cluster.jobs.get_mut(uid).filter(|job| !job.is_removed) else { return };
        job.is_removed = true;
        self.cluster.publish_job(uid);
        self.collect_later(uid);
        self.delete_pods_of(uid);
    }

    /// The garbage collector will find the dependents of an owner that was removed.
    pub(super) fn collect_later(&mut self, owner_uid: &str) {
        let delay_ms = self.entropy.skewed(10, 5_000);
        self.after(delay_ms, WorldEvent::CollectGarbage(owner_uid.to_owned()));
    }

    pub(super) fn collect_garbage(&mut self, owner_uid: &str) {
        self.cluster.owned.retain(|owned| owned.owner_uid != owner_uid);
    }

    pub(super) fn delete_pods_of(&mut self, job_uid: &str) {
        let pods: Vec<String> = self.cluster.pods_of(job_uid).map(|pod| pod.object.uid.clone()).collect();
        for pod in pods {
            let delay_ms = self.entropy.skewed(5, 500);
            self.after(delay_ms, WorldEvent::Term(pod));
        }
    }
}
