//! The end of an attempt: what is still missing is waited for, then the attempt is judged and the run finished.
//!
//! An attempt has ended when its container has, when its pod is gone, or when its Job is terminal or gone. The container's state counts,
//! not the Job's condition, which comes seconds later. Grace is for data that is missing, never for silence.

use super::observe::is_finished;
use super::outbox::TimerName;
use super::region::Region as _;
use super::regions::{GuardState, JobState, LogState, PodState, StopState};
use super::stall::{self, StallKind};
use super::verification::Verification;
use super::{Agent, Judgement, Machine};
use crate::bindings::exports::paperclip::agent::types::{
    Action, ContainerRole, ContainerState, DeleteCause, DeleteJob, EmittedLog, Ending, Finish, LogStream,
    ObjectRef,
};
use crate::manifest::termination;
use crate::outcome::{AdapterResult, ErrorCode, ExecutionRecovery};

/// How long the rest of an ended attempt may stay away, counted from the last sign of it, in ms.
const SETTLE_MS: u64 = 60_000;

impl<A: Agent> Machine<A> {
    pub(super) fn decide_end(&mut self, now_ms: u64) {
        if self.job.state == JobState::Leaving || (self.job.state == JobState::Gone && self.has_retried()) {
            return self.decide_retry(now_ms);
        }
        if !self.has_ended() {
            return;
        }
        // Its pod may have gone while no host looked: the host says what of its output is lost.
        self.follow_log(now_ms);
        let since_ms = *self.settling_since_ms.get_or_insert(now_ms);
        let is_overdue = since_ms.max(self.log.heard_at_ms) + SETTLE_MS <= now_ms;
        if !is_overdue && (self.is_output_missing() || self.is_verification_missing()) {
            let due_ms = since_ms.max(self.log.heard_at_ms) + SETTLE_MS;
            if self.settle_timer_ms.is_none_or(|at_ms| at_ms <= now_ms) {
                self.settle_timer_ms = Some(due_ms);
                self.outbox.set_timer(TimerName::Settle, due_ms - now_ms);
            }
            return;
        }
        self.finish_judged(now_ms);
    }

    /// Whether the attempt is over, as far as is known.
    fn has_ended(&self) -> bool {
        let is_job_over = self.job.state == JobState::Gone || self.job.last.as_ref().is_some_and(is_finished);
        matches!(self.pod.state, PodState::Ended | PodState::Gone) || is_job_over
    }

    /// Output may still come: a log ends with its container or with its pod.
    fn is_output_missing(&self) -> bool {
        self.log.state == LogState::Following
    }

    /// What only a look at the cluster can tell. Asks for it once.
    fn is_verification_missing(&mut self) -> bool {
        if self.is_end_explained() {
            return false;
        }
        match self.job.verification {
            Verification::Done => false,
            Verification::Asked { .. } => true,
            Verification::Open => {
                let Some(object) = self.job.object.clone() else { return false };
                self.job.verification = Verification::ask(&mut self.outbox, object);
                true
            }
        }
    }

    /// This run brought it about, or the container's end was seen and nobody took the pod away meanwhile.
    fn is_end_explained(&self) -> bool {
        let is_taken = self.pod.last.as_ref().is_some_and(|pod| pod.is_deleting);
        let is_seen = self.terminated().is_some() && !is_taken;
        let is_unstarted = self.pod.state == PodState::Ended && self.pod.agent_started_ms.is_none();
        // Nobody told what became of the container while no host was there to see it.
        let is_unseen = self.pod.state == PodState::Started;
        (self.job.is_deletion_asked && !is_unseen) || is_seen || is_unstarted
    }

    pub(super) fn terminated(
        &self,
    ) -> Option<&crate::bindings::exports::paperclip::agent::types::ContainerTerminated> {
        let name = self.agent.container_name();
        let pod = self.pod.last.as_ref()?;
        let agent = pod.containers.iter().find(|container| container.name == name)?;
        match &agent.state {
            ContainerState::Terminated(ended) => Some(ended),
            ContainerState::Running(_) | ContainerState::Waiting(_) | ContainerState::Unknown => None,
        }
    }

    // ------------------------------------------------------------------ once more

    fn has_retried(&self) -> bool {
        self.retry_result.is_some()
    }

    fn decide_retry(&mut self, now_ms: u64) {
        if self.stop.state == StopState::Cancelled {
            return self.finish_cancelled(now_ms);
        }
        // The pod may have gone by itself, while the deletion is still on its way: two Jobs of an agent never stand at a time.
        let is_job_leaving = self.job.state == JobState::Gone || self.job.is_deletion_accepted;
        if is_job_leaving && matches!(self.pod.state, PodState::Absent | PodState::Gone) {
            if self.job.state == JobState::Leaving {
                self.job.state.go(JobState::Gone);
            }
            self.settling_since_ms = None;
            self.settle_timer_ms = None;
            return self.begin_second_attempt(now_ms);
        }
        if self.settling_since_ms.is_some_and(|since| since + SETTLE_MS <= now_ms)
            && let Some(result) = self.retry_result.take()
        {
            self.finish(&result, Ending::Failed);
        }
    }

    fn retry(&mut self, now_ms: u64, text: String, result: AdapterResult) {
        self.outbox.info(text);
        self.retry_result = Some(result);
        self.settling_since_ms = Some(now_ms);
        self.outbox.set_timer(TimerName::Settle, SETTLE_MS);
        if self.job.state == JobState::Live
            && let Some(job) = self.job.object.clone()
        {
            self.job.state.go(JobState::Leaving);
            self.job.is_deletion_asked = true;
            self.await_answer(Action::DeleteJob(DeleteJob { job, cause: DeleteCause::AttemptEnded }));
        }
        self.decide_retry(now_ms);
    }

    // ------------------------------------------------------------------ the result

    /// Judges the attempt by all that is known, and finishes the run or begins it once more.
    pub(super) fn finish_judged(&mut self, now_ms: u64) {
        if let Some(detail) = self.failed_unstarted() {
            let text = format!("Pod scheduling failed: {detail}");
            return self.finish_failed(now_ms, ErrorCode::K8sPodScheduleFailed, text);
        }
        self.emit_stderr();
        let evidence = self.evidence(now_ms);
        let Judgement { result, retry } = self.agent.judge(&evidence, &self.stream);
        let may_retry = self.attempt.number == 1
            && self.stop.state == StopState::Unasked
            && self.guard.state == GuardState::Held;
        match retry {
            Some(text) if may_retry => self.retry(now_ms, text, result),
            Some(_) | None => {
                let ending = self.ending(&result);
                self.finish(&result, ending);
            }
        }
    }

    /// Why the pod failed before the agent's container had started, if it did.
    fn failed_unstarted(&self) -> Option<String> {
        let is_unstarted = self.pod.state == PodState::Ended && self.pod.agent_started_ms.is_none();
        let pod = self.pod.last.as_ref().filter(|_| is_unstarted && self.stop.state == StopState::Unasked)?;
        let stall = stall::of_pod(pod);
        (stall.kind == StallKind::Fatal).then_some(stall.detail)
    }

    fn ending(&self, result: &AdapterResult) -> Ending {
        if result.error_code == Some(ErrorCode::Cancelled) {
            Ending::Cancelled
        } else if result.is_success() {
            Ending::Succeeded
        } else {
            Ending::Failed
        }
    }

    /// Ends a run that was cancelled before its agent did anything.
    pub(super) fn finish_cancelled(&mut self, now_ms: u64) {
        let evidence = self.evidence(now_ms);
        let judgement = self.agent.judge(&evidence, &self.stream);
        self.finish(&judgement.result, Ending::Cancelled);
    }

    /// Ends a run that never had a Job of its own.
    pub(super) fn finish_unbegun(&mut self, now_ms: u64) {
        if self.stop.state == StopState::Cancelled {
            return self.finish_cancelled(now_ms);
        }
        let lost = || {
            let text = "Concurrency guard unreachable: another host took the lease of this agent";
            (ErrorCode::K8sConcurrencyGuardUnreachable, text.to_owned())
        };
        let (code, text) = self.job.cause.take().or_else(|| self.guard.cause.take()).unwrap_or_else(lost);
        self.finish_failed(now_ms, code, text);
    }

    /// Ends a run whose agent never started.
    pub(super) fn finish_failed(&mut self, _now_ms: u64, code: ErrorCode, text: String) {
        let mut result = AdapterResult::failed(code, text);
        if !self.job.is_adopted {
            result.execution_recovery = Some(ExecutionRecovery::BOOTSTRAP);
        }
        self.finish(&result, Ending::Failed);
    }

    fn finish(&mut self, result: &AdapterResult, ending: Ending) {
        self.is_finished = true;
        let result_json = serde_json::to_string(result).expect("a result is plain data with text keys");
        let delete_jobs = self.jobs_to_delete();
        self.tell_not_kept();
        self.outbox.push(Action::Finish(Finish { result_json, ending, delete_jobs }));
    }

    /// The own Job goes, unless it is to be kept for a look at it, was never had, or is gone.
    fn jobs_to_delete(&self) -> Vec<ObjectRef> {
        let is_kept = self.is_to_be_kept() && self.held_by().is_none();
        if is_kept || self.job.state == JobState::Gone {
            return Vec::new();
        }
        self.job.object.clone().into_iter().collect()
    }

    fn is_to_be_kept(&self) -> bool {
        self.facts.settings.retain_jobs && self.pod.state == PodState::Ended
    }

    /// A container that goes on beside the agent's: its Job never finishes, so its `ttlSecondsAfterFinished` never begins.
    fn held_by(&self) -> Option<&str> {
        let name = self.agent.container_name();
        let others = self.pod.last.iter().flat_map(|pod| &pod.containers);
        let mut running = others.filter(|other| {
            let is_over = matches!(other.state, ContainerState::Terminated(_));
            other.role == ContainerRole::Main && other.name != name && !is_over
        });
        running.next().map(|other| other.name.as_str())
    }

    fn tell_not_kept(&mut self) {
        if !self.is_to_be_kept() {
            return;
        }
        let Some(container) = self.held_by() else { return };
        let text = format!("[paperclip] The Job is not retained: its container {container} goes on");
        self.outbox.info(text);
    }

    /// Puts the tail of stderr, which came with the termination message, behind the output.
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
