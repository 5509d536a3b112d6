//! The end of an attempt: waits for the data that is still missing, then judges the attempt and finishes the run.
//!
//! An attempt has ended when its container has ended, its pod was deleted, or its Job is terminal or deleted. The container's state counts,
//! not the Job's condition, which comes seconds later. The grace is for missing data, never for a silent agent.

use super::observe::is_finished;
use super::outbox::TimerName;
use super::region::{IllegalTransition, Region as _};
use super::regions::{GuardState, JobState, LogState, PodState, StopState};
use super::stall::{self, StallKind};
use super::verification::Verification;
use super::{Agent, Judgement, Machine};
use crate::bindings::exports::paperclip::agent::types::{
    Action, ContainerRole, ContainerState, ContainerTerminated, DeleteCause, DeleteJob, EmittedLog, Ending,
    Finish, LogStream, ObjectRef,
};
use crate::manifest::termination;
use crate::outcome::{AdapterResult, ErrorCode};

/// How long the data of an ended attempt may be missing, counted from the last activity of its log, in ms.
const SETTLE_MS: u64 = 60_000;

impl<A: Agent> Machine<A> {
    pub(super) fn decide_end(&mut self, now_ms: u64) -> Result<(), IllegalTransition> {
        let is_deleted_for_retry = self.job.state == JobState::Deleted && self.retry_result.is_some();
        if self.job.state == JobState::Deleting || is_deleted_for_retry {
            return self.decide_retry(now_ms);
        }
        if !self.has_ended() {
            return Ok(());
        }
        // The pod may have been deleted while no host was there: the host reports how much of its output is lost.
        self.follow_log(now_ms)?;
        let since_ms = *self.settling_since_ms.get_or_insert(now_ms);
        let due_ms = since_ms.max(self.log.last_activity_ms) + SETTLE_MS;
        if due_ms > now_ms && (self.is_output_missing() || self.is_verification_missing()) {
            if self.settle_timer_ms.is_none_or(|at_ms| at_ms <= now_ms) {
                self.settle_timer_ms = Some(due_ms);
                self.outbox.set_timer(TimerName::Settle, due_ms - now_ms);
            }
            return Ok(());
        }
        self.finish_judged(now_ms)
    }

    /// Whether the attempt is known to have ended.
    fn has_ended(&self) -> bool {
        let is_job_over =
            self.job.state == JobState::Deleted || self.job.last.as_ref().is_some_and(is_finished);
        matches!(self.pod.state, PodState::Ended | PodState::Deleted) || is_job_over
    }

    /// Output may still come: a log ends with its container or with its pod.
    fn is_output_missing(&self) -> bool {
        self.log.state == LogState::Following
    }

    /// Whether the end has to be verified with the API first. Requests that once.
    fn is_verification_missing(&mut self) -> bool {
        if self.is_end_explained() {
            return false;
        }
        match self.job.verification {
            Verification::Done => false,
            Verification::Pending { .. } => true,
            Verification::NotRequested => {
                let Some(object) = self.job.object.clone() else { return false };
                self.job.verification = Verification::request(&mut self.outbox, object);
                true
            }
        }
    }

    /// Whether the end needs no verification: this run caused it, or the container's end was observed in a pod that is not being deleted.
    fn is_end_explained(&self) -> bool {
        let is_deleting = self.pod.last.as_ref().is_some_and(|pod| pod.is_deleting);
        let is_observed = self.terminated().is_some() && !is_deleting;
        let is_unstarted = self.pod.state == PodState::Ended && self.pod.agent_started_ms.is_none();
        // The container's end was not observed, for example while no host was there.
        let is_unobserved = self.pod.state == PodState::Started;
        (self.job.is_deletion_requested && !is_unobserved) || is_observed || is_unstarted
    }

    /// Returns the end of the agent's container, if it was observed.
    pub(super) fn terminated(&self) -> Option<&ContainerTerminated> {
        match &self.agent_in(self.pod.last.as_ref()?)?.state {
            ContainerState::Terminated(ended) => Some(ended),
            ContainerState::Running(_) | ContainerState::Waiting(_) | ContainerState::Unknown => None,
        }
    }

    // ------------------------------------------------------------------ the second attempt

    fn decide_retry(&mut self, now_ms: u64) -> Result<(), IllegalTransition> {
        if self.stop.state == StopState::Cancelled {
            self.finish_cancelled(now_ms);
            return Ok(());
        }
        // The pod may be deleted before the deletion of the Job is accepted: an agent never has two Jobs at the same time.
        let is_job_deleted = self.job.state == JobState::Deleted || self.job.is_deletion_accepted;
        if is_job_deleted && matches!(self.pod.state, PodState::NotObserved | PodState::Deleted) {
            if self.job.state == JobState::Deleting {
                self.job.state.transition(JobState::Deleted)?;
            }
            self.settling_since_ms = None;
            self.settle_timer_ms = None;
            return self.start_second_attempt(now_ms);
        }
        if self.settling_since_ms.is_some_and(|since| since + SETTLE_MS <= now_ms)
            && let Some(result) = self.retry_result.take()
        {
            self.finish(&result, Ending::Failed);
        }
        Ok(())
    }

    fn retry(&mut self, now_ms: u64, text: String, result: AdapterResult) -> Result<(), IllegalTransition> {
        self.outbox.info(text);
        self.retry_result = Some(result);
        self.settling_since_ms = Some(now_ms);
        self.outbox.set_timer(TimerName::Settle, SETTLE_MS);
        if self.job.state == JobState::Live
            && let Some(job) = self.job.object.clone()
        {
            self.job.state.transition(JobState::Deleting)?;
            self.job.is_deletion_requested = true;
            self.await_answer(Action::DeleteJob(DeleteJob { job, cause: DeleteCause::AttemptEnded }));
        }
        self.decide_retry(now_ms)
    }

    // ------------------------------------------------------------------ the result

    /// Judges the attempt by everything that is known, and finishes the run or starts the second attempt.
    pub(super) fn finish_judged(&mut self, now_ms: u64) -> Result<(), IllegalTransition> {
        if let Some(detail) = self.failed_unstarted() {
            let text = format!("Pod scheduling failed: {detail}");
            self.finish_failed(ErrorCode::K8S_POD_SCHEDULE_FAILED, text);
            return Ok(());
        }
        self.emit_stderr();
        let evidence = self.evidence(now_ms);
        let Judgement { mut result, retry } = self.agent.judge(&evidence, &self.stream);
        if let Some(text) = self.unreadable_log(&result) {
            result.error_code = Some(ErrorCode::K8S_LOGS_FORBIDDEN);
            result.error_message = Some(text);
        }
        let may_retry = self.attempt.number == 1
            && matches!(self.stop.state, StopState::NotRequested | StopState::Reported)
            && self.guard.state == GuardState::Held;
        match retry {
            Some(text) if may_retry => self.retry(now_ms, text, result),
            Some(_) | None => {
                let ending = self.ending(&result);
                self.finish(&result, ending);
                Ok(())
            }
        }
    }

    /// Returns why the pod failed, if it failed before the agent's container had started.
    fn failed_unstarted(&self) -> Option<String> {
        let is_unstarted = self.pod.state == PodState::Ended && self.pod.agent_started_ms.is_none();
        let pod =
            self.pod.last.as_ref().filter(|_| is_unstarted && self.stop.state == StopState::NotRequested)?;
        let stall = stall::of_pod(pod);
        (stall.kind == StallKind::Fatal).then_some(stall.detail)
    }

    /// Returns why nothing is known of what the agent did, if the host lacks the right to read its log.
    fn unreadable_log(&self, result: &AdapterResult) -> Option<String> {
        let message = self.log.forbidden.as_ref()?;
        let is_stopped = self.stop.state != StopState::NotRequested;
        (!is_stopped && !result.is_success()).then(|| {
            format!(
                "The agent ran, but this host is not allowed to read its log: {message}. Add the verb `get` on `pods/log` to the Role of the host's service account in namespace {}",
                self.facts.namespace
            )
        })
    }

    fn ending(&self, result: &AdapterResult) -> Ending {
        if result.error_code == Some(ErrorCode::CANCELLED) {
            Ending::Cancelled
        } else if result.is_success() {
            Ending::Succeeded
        } else {
            Ending::Failed
        }
    }

    /// Finishes a run that was cancelled before its agent started.
    pub(super) fn finish_cancelled(&mut self, now_ms: u64) {
        let evidence = self.evidence(now_ms);
        let judgement = self.agent.judge(&evidence, &self.stream);
        self.finish(&judgement.result, Ending::Cancelled);
    }

    /// Finishes a run whose Job was not created, or never unsuspended.
    pub(super) fn finish_not_started(&mut self, now_ms: u64) {
        if self.stop.state == StopState::Cancelled {
            return self.finish_cancelled(now_ms);
        }
        let lost = || {
            let text = "Concurrency guard unreachable: another host took the lease of this agent";
            (ErrorCode::K8S_CONCURRENCY_GUARD_UNREACHABLE, text.to_owned())
        };
        let (code, text) = self.job.cause.take().or_else(|| self.guard.cause.take()).unwrap_or_else(lost);
        self.finish_failed(code, text);
    }

    /// Finishes a run whose agent never started.
    pub(super) fn finish_failed(&mut self, code: ErrorCode, text: String) {
        let mut result = AdapterResult::failed(code, text);
        if !self.job.is_adopted {
            result.declare_bootstrap();
        }
        self.finish(&result, Ending::Failed);
    }

    fn finish(&mut self, result: &AdapterResult, ending: Ending) {
        self.is_finished = true;
        let result_json = serde_json::to_string(result).expect("a result is plain data with text keys");
        let delete_jobs = self.jobs_to_delete();
        self.report_not_retained();
        for observation in self.agent.observations(&self.stream) {
            self.outbox.push(Action::CountObservation(observation));
        }
        self.outbox.push(Action::Finish(Finish { result_json, ending, delete_jobs }));
    }

    /// Returns this run's Job, unless it is retained, was never created, or is deleted.
    fn jobs_to_delete(&self) -> Vec<ObjectRef> {
        let is_kept = self.is_retained() && self.running_sidecar().is_none();
        if is_kept || self.job.state == JobState::Deleted {
            return Vec::new();
        }
        self.job.object.clone().into_iter().collect()
    }

    fn is_retained(&self) -> bool {
        self.facts.settings.retain_jobs && self.pod.state == PodState::Ended
    }

    /// Returns a container that runs beside the ended agent. It keeps the Job from finishing, so `ttlSecondsAfterFinished` never applies.
    fn running_sidecar(&self) -> Option<&str> {
        let name = self.agent.container_name();
        let others = self.pod.last.iter().flat_map(|pod| &pod.containers);
        let mut running = others.filter(|other| {
            let has_ended = matches!(other.state, ContainerState::Terminated(_));
            other.role == ContainerRole::Main && other.name != name && !has_ended
        });
        running.next().map(|other| other.name.as_str())
    }

    fn report_not_retained(&mut self) {
        if !self.is_retained() {
            return;
        }
        let Some(container) = self.running_sidecar() else { return };
        let text = format!("[paperclip] The Job is not retained: its container {container} keeps running");
        self.outbox.info(text);
    }

    /// Emits the tail of stderr, which the termination message holds, after the output.
    fn emit_stderr(&mut self) {
        if self.log.is_stderr_emitted {
            return;
        }
        let Some(message) = self.terminated().and_then(|ended| ended.message.clone()) else { return };
        self.log.is_stderr_emitted = true;
        let (_, tail) = termination::split(&message);
        let lines: Vec<String> = tail.unwrap_or_default().lines().map(str::to_owned).collect();
        if lines.is_empty() {
            return;
        }
        for line in &lines {
            self.agent.read_stderr_line(&mut self.stream, line);
        }
        self.outbox.push(Action::EmitLog(EmittedLog { stream: LogStream::Stderr, lines }));
    }
}
