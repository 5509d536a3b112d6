//! Collects what the regions know as the evidence that an agent type judges.

use super::regions::{LogState, PodState, StopState};
use super::{Agent, Machine};
use crate::bindings::exports::paperclip::agent::types::{Condition, JobSnapshot, PodPhase, PodSnapshot};
use crate::manifest::termination;
use crate::outcome::{DeletionTrace, Evidence, InfraCause, JobCondition, JobOutcome, PodEnd, Termination};

impl<A: Agent> Machine<A> {
    /// Returns what is known of the attempt, as the agent type would judge it now.
    pub fn evidence(&self, now_ms: u64) -> Evidence {
        let container = self.terminated().map(|ended| Termination {
            exit_code: Some(ended.exit_code),
            reason: ended.reason.clone(),
            message: ended.message.as_deref().and_then(|text| {
                let (message, _) = termination::split(text);
                (!message.trim().is_empty()).then(|| message.to_owned())
            }),
            signal: ended.signal,
        });
        Evidence {
            is_cancelled: self.stop.state == StopState::Cancelled,
            is_timed_out: self.stop.state == StopState::TimedOut,
            is_stopped_after_report: self.stop.state == StopState::Reported,
            stopped_for: self.stop.reason.clone().filter(|_| self.stop.state == StopState::Stuck),
            quiet_sec: self.stop.quiet_ms.map(|quiet_ms| quiet_ms / 1_000),
            job: self.job_outcome(),
            container,
            has_never_started: self.has_never_started(),
            pod: self.pod_end(),
            is_log_unread: self.log.state == LogState::Following || self.log.is_cut_short,
            deletion: self.deletion_trace(now_ms),
            at_ms: i64::try_from(now_ms).ok(),
            run: self.agent.run_facts(&self.request, &self.facts.settings, self.attempt),
        }
    }

    /// Whether the agent's container is known not to have started. Of an adopted Job, or one whose pod was not observed, it is not.
    fn has_never_started(&self) -> bool {
        let is_observed = self.job.live_since_ms.is_none() || self.pod.last.is_some();
        self.pod.agent_started_ms.is_none() && !self.job.is_adopted && is_observed
    }

    fn job_outcome(&self) -> JobOutcome {
        if let Some(outcome) = self.job.last.as_ref().and_then(outcome_of) {
            return outcome;
        }
        if self.job.deleted_via.is_some() { JobOutcome::Deleted } else { JobOutcome::Unknown }
    }

    fn pod_end(&self) -> PodEnd {
        let pod = self.pod.last.as_ref();
        let is_missing = self.pod.is_missing || self.pod.state == PodState::Deleted;
        PodEnd {
            phase: pod.map(|pod| phase_name(pod.phase).to_owned()),
            is_missing,
            was_read: is_missing || pod.is_some(),
            cause: pod.and_then(|pod| self.infra_cause(pod)),
            cause_message: pod.and_then(|pod| pod.message.clone()),
        }
    }

    /// Returns what the cluster did to the pod: its own reason first, then its disruption, then what was done to its Job. A suspended Job
    /// loses its pods.
    fn infra_cause(&self, pod: &PodSnapshot) -> Option<InfraCause> {
        let own = pod.reason.as_deref().and_then(InfraCause::from_reason);
        let disrupted = pod
            .conditions
            .iter()
            .find(|condition| condition.is_true && condition.kind == "DisruptionTarget")
            .and_then(|condition| condition.reason.as_deref())
            .and_then(InfraCause::from_reason);
        let is_by_job = self.job.last.as_ref().and_then(outcome_of) == Some(JobOutcome::DeadlineExceeded);
        let is_taken = pod.is_deleting || self.pod.is_missing || self.pod.state == PodState::Deleted;
        let is_suspended = self.job.is_suspended_in_run || self.is_suspended_in_run();
        let suspended = is_taken && is_suspended && !self.job.is_deletion_requested;
        let deleted = pod.is_deleting && !self.job.is_deletion_requested;
        own.or(disrupted)
            .or(suspended.then_some(InfraCause::Suspended))
            .or(is_by_job.then_some(InfraCause::Deadline))
            .or(deleted.then_some(InfraCause::Deleted))
    }

    fn deletion_trace(&self, now_ms: u64) -> DeletionTrace {
        let conditions = self.job.last.as_ref().map(|job| job.conditions.as_slice()).unwrap_or_default();
        DeletionTrace {
            detected_via: self.job.deleted_via.clone(),
            job: self.job.object.as_ref().map(|job| job.name.clone()),
            namespace: self.job.object.as_ref().map(|job| job.namespace.clone()),
            pod_running_sec: self.pod.agent_started_ms.map(|started| now_ms.saturating_sub(started) / 1_000),
            job_observations: Some(self.job.observations),
            last_job_conditions: conditions.iter().map(job_condition).collect(),
        }
    }
}

/// Returns how the Job ended, by its conditions.
fn outcome_of(job: &JobSnapshot) -> Option<JobOutcome> {
    let failed = job
        .conditions
        .iter()
        .find(|condition| condition.is_true && matches!(&*condition.kind, "Failed" | "FailureTarget"));
    if let Some(failed) = failed {
        let is_deadline = failed.reason.as_deref() == Some("DeadlineExceeded");
        return Some(if is_deadline { JobOutcome::DeadlineExceeded } else { JobOutcome::Failed });
    }
    let is_complete =
        job.conditions.iter().any(|c| c.is_true && matches!(&*c.kind, "Complete" | "SuccessCriteriaMet"));
    is_complete.then_some(JobOutcome::Complete)
}

fn job_condition(condition: &Condition) -> JobCondition {
    JobCondition {
        kind: condition.kind.clone(),
        status: if condition.is_true { "True" } else { "False" }.to_owned(),
        reason: condition.reason.clone(),
    }
}

fn phase_name(phase: PodPhase) -> &'static str {
    match phase {
        PodPhase::Pending => "Pending",
        PodPhase::Running => "Running",
        PodPhase::Succeeded => "Succeeded",
        PodPhase::Failed => "Failed",
        PodPhase::Unknown => "Unknown",
    }
}
