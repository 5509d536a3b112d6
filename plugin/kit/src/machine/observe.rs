//! Records events in the regions. Nothing is decided here.

use super::outbox::{TimerName, is_same};
use super::region::{IllegalTransition, Region as _};
use super::regions::{GuardState, JobState, LogState, PodState, StopState};
use super::verification::{Read, Verification};
use super::{Agent, Machine};
use crate::bindings::exports::paperclip::agent::types::{
    AnswerOk, ApiError, ContainerState, ContainerStatus, Deletion, Event, GuardBusy, HttpAnswer, JobSnapshot,
    LogEnded, LogLine, LogLines, PodPhase, PodSnapshot,
};
use crate::outcome::ErrorCode;

impl<A: Agent> Machine<A> {
    pub(super) fn observe(&mut self, now_ms: u64, event: Event) -> Result<(), IllegalTransition> {
        match event {
            Event::GuardAcquired => self.guard.state.transition(GuardState::Held),
            Event::GuardBusy(busy) => self.on_guard_busy(&busy),
            Event::GuardUnreachable(error) => self.on_guard_unreachable(&error),
            Event::GuardLost => self.guard.state.transition(GuardState::Lost),
            Event::Answered(answer) => self.on_answer(now_ms, answer.command, answer.outcome),
            Event::JobObserved(job) => self.on_job(now_ms, job),
            Event::JobDeleted(deletion) => self.on_job_deleted(&deletion),
            Event::PodObserved(pod) => self.on_pod(now_ms, pod),
            Event::PodDeleted(deletion) => self.on_pod_deleted(&deletion),
            Event::LogLines(lines) => {
                self.on_lines(now_ms, &lines);
                Ok(())
            }
            Event::LogInterrupted(_) => {
                self.log.last_activity_ms = now_ms;
                self.activity.interrupt(now_ms);
                Ok(())
            }
            Event::LogResumed(_) | Event::LogGap(_) => {
                self.log.last_activity_ms = now_ms;
                self.activity.resume(now_ms);
                Ok(())
            }
            Event::LogEnded(ended) => self.on_log_ended(&ended),
            Event::TimerFired(timer) => self.on_timer(now_ms, timer),
            Event::HttpAnswered(answer) => self.on_http(now_ms, &answer),
            Event::CancelRequested(cancel) => self.cancel(now_ms, cancel.reason),
            // The state of the cluster shows what matters about these; they need no reaction.
            Event::HttpFailed(_) | Event::HostStopping | Event::Other(_) => Ok(()),
            Event::HostResumed(away_ms) => {
                self.on_resumed(now_ms, away_ms);
                Ok(())
            }
        }
    }

    /// Without a host nothing could be observed: the time away does not count for any grace.
    fn on_resumed(&mut self, now_ms: u64, away_ms: u64) {
        self.log.last_activity_ms = now_ms;
        self.activity.start(now_ms);
        if let Some((_, since_ms)) = &mut self.pod.stall {
            *since_ms = (*since_ms + away_ms).min(now_ms);
        }
        if self.job.state == JobState::Blocked
            && let Some(since_ms) = &mut self.job.blocked_since_ms
        {
            *since_ms = (*since_ms + away_ms).min(now_ms);
        }
    }

    fn on_guard_busy(&mut self, busy: &GuardBusy) -> Result<(), IllegalTransition> {
        let holder = busy.holder.as_deref().unwrap_or("unknown");
        if busy.is_final {
            self.guard.state.transition(GuardState::Refused)?;
            let text = format!("Concurrent run blocked: run {holder} is still running for this agent");
            self.guard.cause = Some((ErrorCode::K8S_CONCURRENT_RUN_BLOCKED, text));
        } else {
            // The wait may be long.
            self.plan = None;
            let place = busy.position;
            self.outbox.info(format!(
                "[paperclip] Waiting for run {holder} of this agent to end (place {place} in line)"
            ));
        }
        Ok(())
    }

    fn on_guard_unreachable(&mut self, error: &ApiError) -> Result<(), IllegalTransition> {
        self.guard.state.transition(GuardState::Refused)?;
        let text = format!("Concurrency guard unreachable: {}", describe(error));
        self.guard.cause = Some((ErrorCode::K8S_CONCURRENCY_GUARD_UNREACHABLE, text));
        Ok(())
    }

    fn on_answer(
        &mut self,
        now_ms: u64,
        command: u64,
        outcome: Result<AnswerOk, ApiError>,
    ) -> Result<(), IllegalTransition> {
        if Some(command) == self.pod.events_query {
            if let Ok(AnswerOk::Events(events)) = outcome {
                self.on_events(&events);
            }
            return Ok(());
        }
        if let Some(read) = self.pod.stall_verification.on_answer(command) {
            // While the API does not answer, the last snapshot is not verified: the run does not fail for it.
            if outcome.as_ref().is_err_and(is_unavailable) {
                self.pod.stall_verification = Verification::NotRequested;
            }
            return self.on_verified(now_ms, read, outcome);
        }
        if let Some(read) = self.job.verification.on_answer(command) {
            return self.on_verified(now_ms, read, outcome);
        }
        if self.job.awaited.remove(&command) { self.on_job_answer(now_ms, outcome) } else { Ok(()) }
    }

    /// Records an answer of a [`Verification`]. An error leaves what is known as it is.
    fn on_verified(
        &mut self,
        now_ms: u64,
        read: Read,
        outcome: Result<AnswerOk, ApiError>,
    ) -> Result<(), IllegalTransition> {
        match (read, outcome) {
            (Read::Job, Ok(AnswerOk::Job(Some(job)))) if self.is_own(&job) => self.on_job(now_ms, job),
            (Read::Job, Ok(AnswerOk::Job(_))) => self.record_deletion("grace-period-verify-404"),
            (Read::Pods, Ok(AnswerOk::Pods(pods))) => match pods.into_iter().next() {
                Some(pod) => self.on_pod(now_ms, pod),
                None => {
                    self.pod.is_missing = true;
                    Ok(())
                }
            },
            (Read::Job | Read::Pods, Ok(_) | Err(_)) => Ok(()),
        }
    }

    fn is_own(&self, job: &JobSnapshot) -> bool {
        self.job.object.as_ref().is_some_and(|own| is_same(own, &job.job))
    }

    fn on_job(&mut self, now_ms: u64, job: JobSnapshot) -> Result<(), IllegalTransition> {
        if self.is_own(&job) {
            // The answer to the command may be lost or late: the snapshot shows that it was carried out.
            if self.job.state == JobState::Unsuspending && !job.is_suspended {
                self.start_job(now_ms)?;
            }
            self.job.observations = self.job.observations.saturating_add(1);
            self.job.has_been_active |= !job.is_suspended;
            self.job.last = Some(job);
            self.job.is_suspended_in_run |= self.is_suspended_in_run();
        } else if job.is_deleting || is_finished(&job) {
            self.job.blockers.retain(|blocker| !is_same(blocker, &job.job));
        }
        Ok(())
    }

    /// Whether the last snapshot shows that somebody suspended the Job after its agent had started. A snapshot from before it was unsuspended
    /// may arrive late.
    pub(super) fn is_suspended_in_run(&self) -> bool {
        let is_suspended = self.job.last.as_ref().is_some_and(|job| job.is_suspended);
        is_suspended && self.job.has_been_active && self.pod.agent_started_ms.is_some()
    }

    fn on_job_deleted(&mut self, deletion: &Deletion) -> Result<(), IllegalTransition> {
        if self.job.object.as_ref().is_some_and(|own| is_same(own, &deletion.object)) {
            if deletion.is_ours { self.enter_deleted() } else { self.record_deletion(&deletion.detected_via) }
        } else {
            self.job.blockers.retain(|blocker| !is_same(blocker, &deletion.object));
            Ok(())
        }
    }

    fn record_deletion(&mut self, via: &str) -> Result<(), IllegalTransition> {
        if !self.job.is_deletion_requested && self.job.deleted_via.is_none() {
            self.job.deleted_via = Some(via.to_owned());
        }
        self.enter_deleted()
    }

    fn enter_deleted(&mut self) -> Result<(), IllegalTransition> {
        match self.job.state {
            // Its agent ran although this run never unsuspended it.
            JobState::CreatingDependents if self.pod.agent_started_ms.is_some() => {
                let text = "Concurrency guard unreachable: another host took this run's Job over and ran it";
                self.fail_job(ErrorCode::K8S_CONCURRENCY_GUARD_UNREACHABLE, text.to_owned())
            }
            JobState::CreatingDependents | JobState::Unsuspending | JobState::Live | JobState::Deleting => {
                self.job.state.transition(JobState::Deleted)
            }
            // A Job that is being adopted is not followed yet: the answer shows that it was deleted.
            JobState::NotCreated
            | JobState::Listing
            | JobState::Blocked
            | JobState::Adopting
            | JobState::Preflight
            | JobState::Creating
            | JobState::Failed
            | JobState::Deleted => Ok(()),
        }
    }

    fn on_pod(&mut self, now_ms: u64, pod: PodSnapshot) -> Result<(), IllegalTransition> {
        let is_own = self.job.object.as_ref().is_some_and(|job| job.uid == pod.job_uid);
        let is_other = self.pod.last.as_ref().is_some_and(|known| known.pod.uid != pod.pod.uid);
        // Once the agent has started in one pod, another pod of the Job is not this attempt's.
        if !is_own || (is_other && self.pod.state >= PodState::Started) {
            return Ok(());
        }
        let agent = self.agent_in(&pod);
        let state = pod_state(&pod, agent);
        // A watch that lags behind a read reports an earlier state: the agent's container ends once.
        if !is_other && state < PodState::Ended && self.has_pod_ended() {
            return Ok(());
        }
        if agent.is_some_and(has_started) {
            // The node's stamp of the start is of another clock: a node that lags would end a run early.
            self.pod.agent_started_ms.get_or_insert(now_ms);
        }
        if self.pod.state != PodState::Deleted && state >= self.pod.state {
            self.pod.state.transition(state)?;
        }
        self.pod.is_missing = false;
        self.pod.last = Some(pod);
        Ok(())
    }

    /// Returns the agent's container in a pod.
    pub(super) fn agent_in<'a>(&self, pod: &'a PodSnapshot) -> Option<&'a ContainerStatus> {
        pod.containers.iter().find(|container| container.name == self.agent.container_name())
    }

    /// Whether the last state of the pod is that the agent's container has ended.
    fn has_pod_ended(&self) -> bool {
        self.pod.last.as_ref().is_some_and(|pod| pod_state(pod, self.agent_in(pod)) == PodState::Ended)
    }

    fn on_pod_deleted(&mut self, deletion: &Deletion) -> Result<(), IllegalTransition> {
        if self.pod.last.as_ref().is_some_and(|known| is_same(&known.pod, &deletion.object)) {
            self.pod.state.transition(PodState::Deleted)?;
        }
        Ok(())
    }

    fn on_log_ended(&mut self, ended: &LogEnded) -> Result<(), IllegalTransition> {
        if Some(ended.command) == self.log.command {
            self.log.state.transition(LogState::Ended)?;
            self.log.is_cut_short = !ended.is_complete;
            self.log.forbidden = ended.forbidden.clone().filter(|_| ended.line_count == 0);
        }
        Ok(())
    }

    fn on_lines(&mut self, now_ms: u64, lines: &LogLines) {
        if Some(lines.command) != self.log.command {
            return;
        }
        self.log.last_activity_ms = now_ms;
        let known = self.agent.event_count(&self.stream);
        for line in &lines.lines {
            match line {
                LogLine::Whole(text) => self.agent.read_line(&mut self.stream, text),
                LogLine::Cut(cut) => {
                    self.agent.read_cut_line(&mut self.stream, &cut.head, &cut.tail, cut.line_bytes);
                }
            }
        }
        self.activity.read(now_ms, self.agent.event_count(&self.stream) != known);
    }

    fn on_timer(&mut self, now_ms: u64, timer: u64) -> Result<(), IllegalTransition> {
        match TimerName::from_number(timer) {
            Some(TimerName::Run) if self.is_agent_running() && self.is_timeout_over(now_ms) => {
                self.stop(now_ms, StopState::TimedOut)?;
            }
            Some(TimerName::Ended) => self.ended_timer_ms = None,
            Some(TimerName::Quiet) => self.quiet_timer_ms = None,
            Some(TimerName::Stall) if self.job.state == JobState::CreatingDependents => {
                self.retry_dependents()?;
            }
            // The decision that follows compares due times: these timers only cause a step.
            Some(
                TimerName::Run | TimerName::Queue | TimerName::Stall | TimerName::Settle | TimerName::Stop,
            )
            | None => {}
        }
        Ok(())
    }

    /// Whether the timeout applies: an agent that has ended was in time, even if its log is still read.
    pub(super) fn is_agent_running(&self) -> bool {
        let is_active = self.stop.state == StopState::NotRequested && self.job.state == JobState::Live;
        is_active && self.pod.state == PodState::Started
    }

    /// Reads Paperclip's answer about its run: only `cancelled` and `cancelling` cancel it.
    fn on_http(&mut self, now_ms: u64, answer: &HttpAnswer) -> Result<(), IllegalTransition> {
        #[derive(serde::Deserialize)]
        struct HeartbeatRun {
            status: Option<String>,
        }
        self.report_poll_refusal(answer.status);
        if answer.status != 200 {
            return Ok(());
        }
        let status = serde_json::from_str::<HeartbeatRun>(&answer.body).ok().and_then(|run| run.status);
        match status.as_deref() {
            Some("cancelled" | "cancelling") => self.cancel(now_ms, None),
            Some(_) | None => Ok(()),
        }
    }

    /// Reports once that Paperclip's API refuses the poll, and once that it does no longer: until then no cancellation is noticed. A
    /// status of 5xx is the server's trouble, which passes.
    fn report_poll_refusal(&mut self, status: u16) {
        match (status, self.poll_refusal) {
            (400..=499, None) => {
                self.poll_refusal = Some(status);
                self.outbox.warn(format!(
                    "[paperclip] Warning: Paperclip's API answers HTTP {status} when it is asked whether the run is cancelled: a cancellation there is not noticed while this lasts"
                ));
            }
            (200, Some(_)) => {
                self.poll_refusal = None;
                self.outbox.info("[paperclip] Paperclip's API says again whether the run is cancelled");
            }
            _ => {}
        }
    }

    fn cancel(&mut self, now_ms: u64, reason: Option<String>) -> Result<(), IllegalTransition> {
        if self.stop.state == StopState::Cancelled {
            return Ok(());
        }
        // A run that timed out is already stopping; its grace is not extended.
        if self.stop.state == StopState::NotRequested {
            self.stop.since_ms = now_ms;
        }
        self.stop.state.transition(StopState::Cancelled)?;
        self.stop.reason = reason;
        Ok(())
    }
}

/// Whether the error says nothing about the object: the API did not answer, or refused the request for its load.
fn is_unavailable(error: &ApiError) -> bool {
    error.status.is_none_or(|status| status == 429 || status >= 500)
}

/// Whether a Job is terminal: complete or failed.
pub(super) fn is_finished(job: &JobSnapshot) -> bool {
    job.conditions
        .iter()
        .any(|condition| condition.is_true && matches!(&*condition.kind, "Complete" | "Failed"))
}

fn pod_state(pod: &PodSnapshot, agent: Option<&ContainerStatus>) -> PodState {
    match (agent.map(|agent| &agent.state), pod.phase) {
        (Some(ContainerState::Terminated(_)), _) => PodState::Ended,
        (Some(ContainerState::Running(_)), _) => PodState::Started,
        (Some(ContainerState::Waiting(_) | ContainerState::Unknown) | None, PodPhase::Succeeded) => {
            PodState::Ended
        }
        (Some(ContainerState::Waiting(_) | ContainerState::Unknown) | None, PodPhase::Failed) => {
            PodState::Ended
        }
        (
            Some(ContainerState::Waiting(_) | ContainerState::Unknown) | None,
            PodPhase::Pending | PodPhase::Running | PodPhase::Unknown,
        ) => PodState::Waiting,
    }
}

fn has_started(agent: &ContainerStatus) -> bool {
    matches!(agent.state, ContainerState::Running(_) | ContainerState::Terminated(_))
}

/// Returns an API error as text for a message.
pub(super) fn describe(error: &ApiError) -> String {
    match error.status {
        Some(status) => format!("{} (HTTP {status})", error.message),
        None => error.message.clone(),
    }
}
