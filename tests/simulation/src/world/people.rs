//! What people and the cluster's administrators do to a run.

use paperclip_contract::types::{CancelRequest, CancelSource, ObjectRef};
use paperclip_engine::api::{ApiCall, ApiReply};
use paperclip_engine::driver::DriverEvent;
use serde_json::{Value, json};

use super::{EPOCH_MS, World, WorldEvent};
use crate::cluster::{Actor, Stage};
use crate::coverage_points::CoveragePoint;
use crate::fault::Fault;
use crate::scenario::{Cancel, CancelWay, NAMESPACE, RunPlan};

/// When a person who cancelled a run checks whether the cancel was acknowledged, in ms.
const ASK_AGAIN_MS: u64 = 15_000;

impl World {
    pub(super) fn plan_cancel(&mut self, run: usize, cancel: Cancel) {
        let event = match cancel.way {
            CancelWay::Host => WorldEvent::Cancel { run },
            CancelWay::Paperclip => WorldEvent::CancelInPaperclip { run },
        };
        self.at(EPOCH_MS + cancel.at_ms, event);
    }

    /// A person asks the run's host to cancel it, and tries again while the host is down.
    pub(super) fn cancel(&mut self, run: usize) {
        if self.runs[run].is_closed {
            return;
        }
        let Some(process) = self.runs[run].process else {
            return self.after(2_000, WorldEvent::Cancel { run });
        };
        self.after(ASK_AGAIN_MS, WorldEvent::CancelAgain { run, process });
        let request =
            CancelRequest { reason: Some("no longer needed".to_owned()), source: CancelSource::Operator };
        self.give(process, DriverEvent::Cancel { request, awaits_acknowledgement: true });
    }

    /// The person has no acknowledgement yet: the host crashed, perhaps before the cancel was durable, or is slow.
    pub(super) fn cancel_again(&mut self, run: usize, process: usize) {
        let truth = &self.runs[run];
        if truth.is_cancel_acknowledged || truth.is_closed || !truth.results.is_empty() {
            return;
        }
        if truth.process == Some(process) {
            return self.after(ASK_AGAIN_MS, WorldEvent::CancelAgain { run, process });
        }
        self.cancel(run);
    }

    pub(super) fn stop_host(&mut self, run: usize) {
        if let Some(process) = self.runs[run].process {
            self.give(process, DriverEvent::Stop);
        }
    }

    /// Draws a disturbance of a Job and its pod.
    pub(super) fn disturb_job(&mut self, job_uid: &str) {
        let Some(run) = self.run_of_job(job_uid) else { return };
        let Some(job) = self.cluster.jobs.get(job_uid).filter(|job| !job.is_removed) else { return };
        let job_object = job.object.clone();
        let pod = self.cluster.pods_of(job_uid).next().map(|pod| (pod.object.uid.clone(), pod.stage));
        let has_had_pod = job.has_had_pod;
        if self.strikes_job(Fault::JobDeleted, run, job_uid) {
            self.delete_by_somebody(&job_object);
        } else if !has_had_pod {
            // The next disturbance is planned with its pod.
            return;
        } else if self.strikes_job(Fault::JobReplaced, run, job_uid) {
            self.replace_job(&job_object);
        } else if self.strikes_job(Fault::JobSuspended, run, job_uid) {
            self.suspend_job(job_uid);
        } else if let Some((pod_uid, stage)) = pod {
            self.disturb_pod(&pod_uid, stage);
        }
        if self.cluster.jobs.get(job_uid).is_some_and(|job| !job.is_removed && !job.is_finished())
            && !self.swarm.is_healed()
        {
            let delay_ms = 1_000 + self.entropy.skewed(0, 60_000);
            self.after(delay_ms, WorldEvent::Disturb(job_uid.to_owned()));
        }
    }

    fn disturb_pod(&mut self, uid: &str, stage: Stage) {
        if self.strikes_pod(Fault::PodDeleted, uid) {
            return self.after(0, WorldEvent::Term(uid.to_owned()));
        }
        if self.strikes_pod(Fault::PodPreempted, uid) {
            let pod = self.cluster.pods.get_mut(uid).expect("the caller found it");
            pod.set_condition("DisruptionTarget", true, "PreemptionByScheduler", "preempted");
            self.cluster.publish_pod(uid);
            return self.after(0, WorldEvent::Term(uid.to_owned()));
        }
        if stage != Stage::Running {
            return;
        }
        if self.strikes_pod(Fault::ContainerRestarted, uid) {
            self.restart_container(uid);
        } else if self.strikes_pod(Fault::OutOfMemory, uid) {
            self.cluster.pods.get_mut(uid).expect("the caller found it").was_killed = true;
            self.end_container(uid, 137, "OOMKilled");
        } else if self.strikes_pod(Fault::PodEvicted, uid) {
            let pod = self.cluster.pods.get_mut(uid).expect("the caller found it");
            pod.was_killed = true;
            pod.reason = Some("Evicted".to_owned());
            pod.message = Some("The node was low on resource: memory.".to_owned());
            pod.set_condition("DisruptionTarget", true, "TerminationByKubelet", "low on memory");
            self.end_container(uid, 137, "Error");
        } else if self.strikes_pod(Fault::NodeLost, uid) {
            let pod = self.cluster.pods.get_mut(uid).expect("the caller found it");
            pod.is_lost = true;
            pod.was_killed = true;
            pod.set_condition("DisruptionTarget", true, "DeletionByTaintManager", "node is unreachable");
            let is_deleting = pod.deleting_since_ms.is_some();
            self.cluster.publish_pod(uid);
            if is_deleting {
                self.collect_lost_pod(uid);
            } else {
                self.after(5_000, WorldEvent::Term(uid.to_owned()));
            }
        }
    }

    fn delete_by_somebody(&mut self, job: &ObjectRef) {
        if self.cluster.delete_job(Actor::Somebody, job).is_ok() {
            self.on_job_deletion_requested(&job.uid);
        }
    }

    /// kubectl replace --force: another Job of the same name. It is nobody's run.
    fn replace_job(&mut self, job: &ObjectRef) {
        if self.cluster.delete_job(Actor::Somebody, job).is_err() {
            return;
        }
        self.remove_job(&job.uid);
        self.create_by_somebody(&job.name, &json!({"made-by": "somebody"}), 120_000);
    }

    /// A Job of an agent that is no run's, and has no pod.
    pub(super) fn leave_orphan(&mut self, plan: &RunPlan, remains_ms: u64) {
        let labels = json!({
            "paperclip.io/agent-id": plan.agent_id,
            "paperclip.io/adapter-type": plan.scripts[0].grammar.adapter_type,
        });
        self.create_by_somebody(&format!("orphan-of-{}", plan.run_id), &labels, remains_ms);
    }

    fn create_by_somebody(&mut self, name: &str, labels: &Value, remains_ms: u64) {
        let manifest_json = json!({
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
            "spec": {"suspend": true, "ttlSecondsAfterFinished": 300,
                "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "x"}]}}},
        })
        .to_string();
        if let Ok(ApiReply::Created(job)) =
            self.cluster.apply(Actor::Somebody, &ApiCall::CreateJob { manifest_json })
        {
            self.after(remains_ms, WorldEvent::RemoveJob(job.uid));
        }
    }

    /// A suspended Job loses its pods, and gets none before it is resumed.
    fn suspend_job(&mut self, uid: &str) {
        let job = self.cluster.jobs.get_mut(uid).expect("the caller found it");
        if job.is_finished() {
            return;
        }
        job.is_suspended = true;
        let has_had_pod = job.has_had_pod;
        self.cluster.publish_job(uid);
        if has_had_pod {
            return self.end_suspended_pod(uid);
        }
        let delay_ms = *self.entropy.choose(&[20_000, 100_000, 900_000]);
        self.after(delay_ms, WorldEvent::ResumeJob(uid.to_owned()));
    }

    /// The Job is not resumed: its run ends before a queue would do that.
    fn end_suspended_pod(&mut self, job_uid: &str) {
        let pod =
            self.cluster.pods.values_mut().find(|pod| pod.job_uid == job_uid && pod.stage < Stage::Ended);
        let Some(pod) = pod else { return };
        pod.is_suspended = true;
        let (uid, is_running) = (pod.object.uid.clone(), pod.stage == Stage::Running);
        if is_running {
            self.cover(CoveragePoint::Suspended);
        }
        self.after(0, WorldEvent::Term(uid));
    }

    pub(super) fn resume_job(&mut self, uid: &str) {
        let Some(job) = self.cluster.jobs.get_mut(uid).filter(|job| !job.is_removed) else { return };
        job.is_suspended = false;
        self.cluster.publish_job(uid);
        self.reconcile_job(uid);
    }
}
