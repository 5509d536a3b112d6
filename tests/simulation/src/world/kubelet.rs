//! The scheduler and the kubelet: from a pod to a container, its agent, and its end.

use paperclip_contract::types::ContainerTerminated;

use super::{World, WorldEvent};
use crate::cluster::{ControlFate, Pod, Stage};
use crate::fault::Fault;
use crate::script::{End, OnTerm};

/// The line before the tail of stderr, as the Job's command writes it.
const STDERR_MARKER: &str = "--- paperclip: end of stderr ---";
/// The exit code of a container whose processes were killed, the init program among them.
const KILLED: i32 = 137;
/// For how long what keeps a pod from starting lasts, in ms: within any grace, or beyond it.
const START_DELAYS_MS: [u64; 4] = [3_000, 30_000, 100_000, 500_000];

impl World {
    fn pod(&mut self, uid: &str) -> Option<&mut Pod> {
        self.cluster.pods.get_mut(uid).filter(|pod| pod.stage != Stage::Removed && !pod.is_lost)
    }

    /// Whether a fault strikes a pod now.
    pub(super) fn strikes_pod(&mut self, fault: Fault, uid: &str) -> bool {
        let run = self.run_of_pod(uid);
        let job_uid = self.cluster.pods[uid].job_uid.clone();
        self.strikes_job(fault, run, &job_uid)
    }

    fn run_of_pod(&self, uid: &str) -> usize {
        self.cluster.pods.get(uid).and_then(|pod| self.run_of_job(&pod.job_uid)).unwrap_or(0)
    }

    pub(super) fn schedule_pod(&mut self, uid: &str) {
        match self.pod(uid) {
            Some(pod) if pod.stage == Stage::Unscheduled && pod.deleting_since_ms.is_none() => {
                pod.is_gated = false;
            }
            _ => return,
        }
        if self.strikes_pod(Fault::PodUnschedulable, uid) {
            let text = "0/3 nodes are available: 3 Insufficient memory.";
            self.cluster.pods.get_mut(uid).expect("found above").set_condition(
                "PodScheduled",
                false,
                "Unschedulable",
                text,
            );
            self.cluster.publish_pod(uid);
            let delay_ms = *self.entropy.choose(&START_DELAYS_MS);
            self.after(delay_ms, WorldEvent::Schedule(uid.to_owned()));
            return;
        }
        let pod = self.cluster.pods.get_mut(uid).expect("found above");
        pod.stage = Stage::Starting;
        pod.set_condition("PodScheduled", true, "", "");
        self.cluster.publish_pod(uid);
        let delay_ms = self.entropy.skewed(20, 6_000);
        self.after(delay_ms, WorldEvent::StartContainer(uid.to_owned()));
    }

    pub(super) fn start_container(&mut self, uid: &str) {
        match self.pod(uid) {
            Some(pod)
                if pod.stage == Stage::Starting
                    && pod.deleting_since_ms.is_none()
                    && pod.reason.is_none() => {}
            _ => return,
        }
        let lacks_secret = self.lacks_secret(uid);
        if lacks_secret && self.runs.iter().all(|run| run.is_closed) {
            // No run is left to create it: the kubelet would retry forever.
            return;
        }
        let waiting = if lacks_secret {
            Some(("CreateContainerConfigError", "secret not found"))
        } else if self.strikes_pod(Fault::ImageFails, uid) {
            Some(*self.entropy.choose(&[
                ("ErrImagePull", "connection refused"),
                ("ImagePullBackOff", "Back-off pulling image"),
            ]))
        } else if self.strikes_pod(Fault::CreateFails, uid) {
            Some(("CreateContainerError", "context deadline exceeded"))
        } else {
            None
        };
        let now_ms = self.now_ms;
        let pod = self.cluster.pods.get_mut(uid).expect("found above");
        if waiting.is_some() {
            pod.waiting = waiting;
            self.cluster.publish_pod(uid);
            let delay_ms = *self.entropy.choose(&START_DELAYS_MS);
            self.after(delay_ms, WorldEvent::StartContainer(uid.to_owned()));
            return;
        }
        pod.stage = Stage::Running;
        pod.waiting = None;
        pod.started_ms = Some(now_ms);
        let first_ms = delay_of_next(pod);
        self.start_counting(uid);
        self.cluster.publish_pod(uid);
        if let Some(delay_ms) = first_ms {
            self.after(delay_ms, WorldEvent::Agent(uid.to_owned()));
        }
    }

    /// The init program of a container starts, if its Job asks for it and it is there.
    fn start_counting(&mut self, uid: &str) {
        let job = self.cluster.pods.get(uid).and_then(|pod| self.cluster.jobs.get(&pod.job_uid));
        let Some(tag) = job.and_then(|job| job.control_tag()).map(str::to_owned) else { return };
        if self.cluster.has_init {
            let (fate, now_ms) = (self.control_fate(uid), self.now_ms);
            self.cluster.pods.get_mut(uid).expect("found above").log.start_counting(now_ms, &tag, fate);
        }
    }

    fn control_fate(&mut self, uid: &str) -> ControlFate {
        if !self.cluster.pods[uid].log.is_counted() {
            ControlFate::Stored
        } else if self.strikes_pod(Fault::ControlLost, uid) {
            ControlFate::Lost
        } else if self.strikes_pod(Fault::ControlTorn, uid) {
            ControlFate::Torn
        } else {
            ControlFate::Stored
        }
    }

    fn lacks_secret(&self, uid: &str) -> bool {
        let pod = &self.cluster.pods[uid];
        let Some(job) = self.cluster.jobs.get(&pod.job_uid) else { return false };
        job.secrets.iter().any(|name| !self.cluster.owned.iter().any(|owned| owned.name == *name))
    }

    /// The agent prints its next lines, or ends.
    pub(super) fn act_agent(&mut self, uid: &str) {
        let now_ms = self.now_ms;
        let Some(pod) =
            self.cluster.pods.get_mut(uid).filter(|pod| pod.stage == Stage::Running && !pod.is_termed)
        else {
            return;
        };
        if let Some(burst) = pod.script.bursts.get(pod.next_burst) {
            for line in burst.lines.clone() {
                pod.log.print(now_ms, line, &pod.script.grammar);
            }
            pod.next_burst += 1;
            let next_ms = delay_of_next(pod);
            let fate = self.control_fate(uid);
            self.cluster.pods.get_mut(uid).expect("found above").log.count(now_ms, None, fate);
            if self.is_rotated(uid) {
                self.cluster.pods.get_mut(uid).expect("found above").log.rotate(now_ms);
            }
            if let Some(delay_ms) = next_ms {
                self.after(delay_ms, WorldEvent::Agent(uid.to_owned()));
            }
            self.wake_logs(uid);
        } else if let End::Exits { code, .. } = pod.script.end {
            self.end_container(uid, code, if code == 0 { "Completed" } else { "Error" });
        }
    }

    /// Whether the log is rotated. Only lines that nobody follows can be lost, so rotation is tried more often then.
    fn is_rotated(&mut self, uid: &str) -> bool {
        if !self.cluster.pods[uid].log.may_rotate(self.now_ms) {
            return false;
        }
        let tries = if self.is_log_followed(uid) { 1 } else { 4 };
        (0..tries).any(|_| self.strikes_pod(Fault::LogRotated, uid))
    }

    /// The deletion of a pod was requested: SIGTERM, and SIGKILL after its grace.
    pub(super) fn term_pod(&mut self, uid: &str) {
        let now_ms = self.now_ms;
        let job = self.cluster.pods.get(uid).map(|pod| pod.job_uid.clone()).unwrap_or_default();
        let grace_ms = self.cluster.jobs.get(&job).map_or(30_000, |job| job.grace_s * 1_000);
        let Some(pod) = self.cluster.pods.get_mut(uid) else { return };
        if pod.stage == Stage::Removed || pod.deleting_since_ms.is_some() {
            return;
        }
        pod.deleting_since_ms = Some(now_ms);
        let (stage, on_term, is_lost) = (pod.stage, pod.script.on_term, pod.is_lost);
        pod.is_termed = true;
        self.cluster.publish_pod(uid);
        if is_lost {
            return self.collect_lost_pod(uid);
        }
        match (stage, on_term) {
            (Stage::Running, OnTerm::Exits { after_ms } | OnTerm::Reports { after_ms })
                if after_ms < grace_ms =>
            {
                self.after(after_ms, WorldEvent::Kill(uid.to_owned()));
            }
            (Stage::Running, _) => self.after(grace_ms, WorldEvent::Kill(uid.to_owned())),
            (Stage::Unscheduled | Stage::Starting | Stage::Ended | Stage::Removed, _) => {
                let delay_ms = self.entropy.skewed(10, 2_000);
                self.after(delay_ms, WorldEvent::RemovePod(uid.to_owned()));
            }
        }
    }

    /// Its kubelet is silent: the pod garbage collector removes it later.
    pub(super) fn collect_lost_pod(&mut self, uid: &str) {
        let delay_ms = *self.entropy.choose(&[20_000, 300_000]);
        self.after(delay_ms, WorldEvent::RemovePod(uid.to_owned()));
    }

    /// The container ends after SIGTERM, by itself or by SIGKILL.
    pub(super) fn kill_pod(&mut self, uid: &str) {
        let now_ms = self.now_ms;
        let Some(pod) = self.pod(uid).filter(|pod| pod.stage == Stage::Running) else { return };
        let waited_ms = pod.deleting_since_ms.map_or(0, |since_ms| now_ms - since_ms);
        let code = match pod.script.on_term {
            OnTerm::Exits { after_ms } if after_ms <= waited_ms => 143,
            OnTerm::Reports { after_ms } if after_ms <= waited_ms => {
                if pod.log.reports == 0
                    && let Some(interrupted) = pod.script.grammar.interrupted.clone()
                {
                    pod.log.print(now_ms, interrupted, &pod.script.grammar);
                }
                143
            }
            OnTerm::Exits { .. } | OnTerm::Reports { .. } | OnTerm::Ignores => 137,
        };
        pod.was_killed = true;
        self.wake_logs(uid);
        self.end_container(uid, code, "Error");
    }

    /// The agent restarts, in a container with a log of its own.
    pub(super) fn restart_container(&mut self, uid: &str) {
        let now_ms = self.now_ms;
        let Some(pod) = self.pod(uid).filter(|pod| pod.stage == Stage::Running && !pod.is_termed) else {
            return;
        };
        pod.restarts += 1;
        self.coverage_points.hit(crate::coverage_points::CoveragePoint::Restarted);
        let pod = self.cluster.pods.get_mut(uid).expect("found above");
        pod.restarted_ms = Some(now_ms);
        pod.next_burst = 0;
        self.end_readings(uid);
        self.cluster.pods.get_mut(uid).expect("found above").log.restart();
        self.start_counting(uid);
        self.cluster.publish_pod(uid);
        self.wake_logs(uid);
    }

    pub(super) fn end_container(&mut self, uid: &str, code: i32, reason: &str) {
        let now_ms = self.now_ms;
        let Some(pod) = self.cluster.pods.get_mut(uid) else { return };
        if code != KILLED {
            pod.log.count(now_ms, Some(code), ControlFate::Stored);
        }
        let stderr = &pod.script.stderr;
        let message = (!stderr.is_empty()).then(|| format!("{STDERR_MARKER}\n{stderr}"));
        pod.stage = Stage::Ended;
        pod.ended = Some(ContainerTerminated {
            exit_code: code,
            signal: None,
            reason: Some(reason.to_owned()),
            message,
            started_at_ms: pod.restarted_ms.or(pod.started_ms).map(|at| at / 1_000 * 1_000),
            finished_at_ms: Some(now_ms / 1_000 * 1_000),
        });
        let is_deleting = pod.deleting_since_ms.is_some();
        self.cluster.publish_pod(uid);
        self.wake_logs(uid);
        self.on_pod_ended(uid);
        if is_deleting {
            let delay_ms = self.entropy.skewed(20, 2_000);
            self.after(delay_ms, WorldEvent::RemovePod(uid.to_owned()));
        }
    }

    pub(super) fn remove_pod(&mut self, uid: &str) {
        let Some(pod) = self.cluster.pods.get_mut(uid).filter(|pod| pod.stage != Stage::Removed) else {
            return;
        };
        if pod.stage == Stage::Running {
            pod.was_killed = true;
        }
        pod.stage = Stage::Removed;
        self.cluster.publish_pod(uid);
        self.wake_logs(uid);
        self.on_pod_ended(uid);
    }
}

/// When the agent acts again; never if it hangs.
fn delay_of_next(pod: &Pod) -> Option<u64> {
    match (pod.script.bursts.get(pod.next_burst), pod.script.end) {
        (Some(burst), _) => Some(burst.after_ms),
        (None, End::Exits { after_ms, .. }) => Some(after_ms),
        (None, End::Hangs) => None,
    }
}
