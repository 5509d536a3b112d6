//! Events → regions. Nothing is decided here.

use super::outbox::{TimerName, is_same};
use super::region::Region as _;
use super::regions::{GuardState, JobState, LogState, PodState, StopState};
use super::verification::{Looked, Verification};
use super::{Agent, Machine};
use crate::bindings::exports::paperclip::agent::types::{
    AnswerOk, ApiError, ContainerState, ContainerStatus, Deletion, Event, GuardBusy, HttpAnswer, JobSnapshot,
    LogLine, LogLines, PodPhase, PodSnapshot,
};
use crate::outcome::ErrorCode;

impl<A: Agent> Machine<A> {
    pub(super) fn observe(&mut self, now_ms: u64, event: Event) {
        match event {
            Event::GuardAcquired => self.guard.state.go(GuardState::Held),
            Event::GuardBusy(busy) => self.on_guard_busy(&busy),
            Event::GuardUnreachable(error) => self.on_guard_unreachable(&error),
            Event::GuardLost => self.guard.state.go(GuardState::Lost),
            Event::Answered(answer) => self.on_answer(now_ms, answer.command, answer.outcome),
            Event::JobObserved(job) => self.on_job(now_ms, job),
            Event::JobDeleted(gone) => self.on_job_gone(&gone),
            Event::PodObserved(pod) => self.on_pod(now_ms, pod),
            Event::PodDeleted(gone) => self.on_pod_gone(&gone),
            Event::LogLines(lines) => self.on_lines(now_ms, &lines),
            Event::LogInterrupted(_) | Event::LogResumed(_) | Event::LogGap(_) => {
                self.log.heard_at_ms = now_ms;
            }
            Event::LogEnded(ended) => {
                if Some(ended.command) == self.log.command {
                    self.log.state.go(LogState::Ended);
                    self.log.is_cut_short = !ended.is_complete;
                }
            }
            Event::TimerFired(timer) => self.on_timer(now_ms, timer),
            Event::HttpAnswered(answer) => self.on_http(now_ms, &answer),
            Event::CancelRequested(cancel) => self.cancel(now_ms, cancel.reason),
            // What these say is told by the state of the cluster, too; nothing is to be done for them.
            Event::HttpFailed(_) | Event::HostStopping | Event::Other(_) => {}
            Event::HostResumed(away_ms) => self.on_resumed(now_ms, away_ms),
        }
    }

    /// While nobody looked nothing could be seen: the time away is no part of any grace.
    fn on_resumed(&mut self, now_ms: u64, away_ms: u64) {
        self.log.heard_at_ms = now_ms;
        if let Some((_, since_ms)) = &mut self.pod.stall {
            *since_ms = (*since_ms + away_ms).min(now_ms);
        }
        if self.job.state == JobState::Blocked
            && let Some(since_ms) = &mut self.job.live_since_ms
        {
            *since_ms = (*since_ms + away_ms).min(now_ms);
        }
    }

    fn on_guard_busy(&mut self, busy: &GuardBusy) {
        let holder = busy.holder.as_deref().unwrap_or("unknown");
        if busy.is_final {
            self.guard.state.go(GuardState::Refused);
            let text = format!("Concurrent run blocked: run {holder} is still running for this agent");
            self.guard.cause = Some((ErrorCode::K8sConcurrentRunBlocked, text));
        } else {
            // The wait may be long.
            self.plan = None;
            let place = busy.position;
            self.outbox.info(format!(
                "[paperclip] Waiting for run {holder} of this agent to end (place {place} in line)"
            ));
        }
    }

    fn on_guard_unreachable(&mut self, error: &ApiError) {
        self.guard.state.go(GuardState::Refused);
        let text = format!("Concurrency guard unreachable: {}", describe(error));
        self.guard.cause = Some((ErrorCode::K8sConcurrencyGuardUnreachable, text));
    }

    fn on_answer(&mut self, now_ms: u64, command: u64, outcome: Result<AnswerOk, ApiError>) {
        if Some(command) == self.pod.events_query {
            if let Ok(AnswerOk::Events(events)) = outcome {
                self.tell_events(&events);
            }
            return;
        }
        if self.on_verified(now_ms, command, &outcome) {
            return;
        }
        if self.job.awaited.remove(&command) {
            self.on_job_answer(now_ms, outcome);
        }
    }

    /// Takes the answers to the look-ups of a [`Verification`].
    fn on_verified(&mut self, now_ms: u64, command: u64, outcome: &Result<AnswerOk, ApiError>) -> bool {
        let of_stall = self.pod.stall_check.answered(command);
        let Some(looked) = of_stall.or_else(|| self.job.verification.answered(command)) else { return false };
        match (looked, outcome) {
            (Looked::AtJob, Ok(AnswerOk::Job(Some(seen)))) if self.is_own(seen) => {
                self.on_job(now_ms, seen.clone());
            }
            (Looked::AtJob, Ok(AnswerOk::Job(_))) => self.note_job_gone("grace-period-verify-404"),
            (Looked::AtPods, Ok(AnswerOk::Pods(found))) => match found.first() {
                Some(pod) => self.on_pod(now_ms, pod.clone()),
                None => self.pod.is_missing = true,
            },
            // Nothing is known while the API is away: a run is not given up for what was so once.
            (_, Err(error)) if of_stall.is_some() && is_away(error) => {
                self.pod.stall_check = Verification::Open;
            }
            (_, Ok(_) | Err(_)) => {}
        }
        true
    }

    fn is_own(&self, seen: &JobSnapshot) -> bool {
        self.job.object.as_ref().is_some_and(|own| is_same(own, &seen.job))
    }

    fn on_job(&mut self, now_ms: u64, seen: JobSnapshot) {
        if self.is_own(&seen) {
            // The answer may be lost, or hours late: what was asked for is done.
            if self.job.state == JobState::Releasing && !seen.is_suspended {
                self.released(now_ms);
            }
            self.job.observations = self.job.observations.saturating_add(1);
            self.job.last = Some(seen);
        } else if seen.is_deleting || is_finished(&seen) {
            self.job.blockers.retain(|blocker| !is_same(blocker, &seen.job));
        }
    }

    fn on_job_gone(&mut self, gone: &Deletion) {
        if self.job.object.as_ref().is_some_and(|own| is_same(own, &gone.object)) {
            if !gone.is_ours {
                self.note_job_gone(&gone.detected_via);
            }
            self.job_is_gone();
        } else {
            self.job.blockers.retain(|blocker| !is_same(blocker, &gone.object));
        }
    }

    fn note_job_gone(&mut self, via: &str) {
        if !self.job.is_deletion_asked && self.job.gone_via.is_none() {
            self.job.gone_via = Some(via.to_owned());
        }
        self.job_is_gone();
    }

    fn job_is_gone(&mut self) {
        match self.job.state {
            // Its agent ran though this run never let it.
            JobState::Furnishing if self.pod.agent_started_ms.is_some() => {
                let text = "Concurrency guard unreachable: another host took this run's Job over and ran it";
                self.fail_job(ErrorCode::K8sConcurrencyGuardUnreachable, text.to_owned());
            }
            JobState::Furnishing | JobState::Releasing | JobState::Live | JobState::Leaving => {
                self.job.state.go(JobState::Gone);
            }
            // One that is being adopted is not followed yet: the answer says it.
            JobState::Absent
            | JobState::Listing
            | JobState::Blocked
            | JobState::Adopting
            | JobState::Trying
            | JobState::Creating
            | JobState::Failed
            | JobState::Gone => {}
        }
    }

    fn on_pod(&mut self, now_ms: u64, pod: PodSnapshot) {
        let is_own = self.job.object.as_ref().is_some_and(|job| job.uid == pod.job_uid);
        let is_other = self.pod.last.as_ref().is_some_and(|known| known.pod.uid != pod.pod.uid);
        // A second pod of the Job is not this attempt's agent once the first one has started.
        if !is_own || (is_other && self.pod.state >= PodState::Started) {
            return;
        }
        let agent = pod.containers.iter().find(|container| container.name == self.agent.container_name());
        let state = pod_state(&pod, agent);
        if let Some(started) = agent.and_then(started_at) {
            self.pod.agent_started_ms.get_or_insert(started.unwrap_or(now_ms));
        }
        if self.pod.state != PodState::Gone && state >= self.pod.state {
            self.pod.state.go(state);
        }
        self.pod.is_missing = false;
        self.pod.last = Some(pod);
    }

    fn on_pod_gone(&mut self, gone: &Deletion) {
        if self.pod.last.as_ref().is_some_and(|known| is_same(&known.pod, &gone.object)) {
            self.pod.state.go(PodState::Gone);
        }
    }

    fn on_lines(&mut self, now_ms: u64, lines: &LogLines) {
        if Some(lines.command) != self.log.command {
            return;
        }
        self.log.heard_at_ms = now_ms;
        for line in &lines.lines {
            match line {
                LogLine::Whole(text) => self.agent.read_line(&mut self.stream, text),
                LogLine::Cut(cut) => {
                    self.agent.read_cut_line(&mut self.stream, &cut.head, &cut.tail, cut.line_bytes);
                }
            }
        }
    }

    fn on_timer(&mut self, now_ms: u64, timer: u64) {
        match TimerName::from_number(timer) {
            Some(TimerName::Run) if self.is_agent_running() && self.is_run_over(now_ms) => {
                self.stop.state.go(StopState::TimedOut);
                self.stop.since_ms = now_ms;
            }
            // The others are looked at by their due time: a timer is only a reason to look.
            Some(
                TimerName::Run | TimerName::Queue | TimerName::Stall | TimerName::Settle | TimerName::Stop,
            )
            | None => {}
        }
    }

    /// An agent that has ended was in time, whatever is still awaited of it.
    fn is_agent_running(&self) -> bool {
        let is_wanted = self.stop.state == StopState::Unasked && self.job.state == JobState::Live;
        is_wanted && self.pod.state == PodState::Started
    }

    /// Paperclip's answer about its run: only `cancelled` and `cancelling` cancel it.
    fn on_http(&mut self, now_ms: u64, answer: &HttpAnswer) {
        if answer.status != 200 {
            return;
        }
        #[derive(serde::Deserialize)]
        struct HeartbeatRun {
            status: Option<String>,
        }
        let status = serde_json::from_str::<HeartbeatRun>(&answer.body).ok().and_then(|run| run.status);
        if let Some("cancelled" | "cancelling") = status.as_deref() {
            self.cancel(now_ms, None);
        }
    }

    fn cancel(&mut self, now_ms: u64, reason: Option<String>) {
        if self.stop.state == StopState::Cancelled {
            return;
        }
        // One that timed out is being stopped already, and has no more time for it.
        if self.stop.state == StopState::Unasked {
            self.stop.since_ms = now_ms;
        }
        self.stop.state.go(StopState::Cancelled);
        self.stop.reason = reason;
    }
}

/// Whether the API gave no answer, or none that says anything of what was asked.
fn is_away(error: &ApiError) -> bool {
    error.status.is_none_or(|status| status == 429 || status >= 500)
}

/// Whether a Job has come to its end.
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

/// Whether the container has started, and when as far as its status tells.
fn started_at(agent: &ContainerStatus) -> Option<Option<u64>> {
    match &agent.state {
        ContainerState::Running(at_ms) => Some(*at_ms),
        ContainerState::Terminated(ended) => Some(ended.started_at_ms),
        ContainerState::Waiting(_) | ContainerState::Unknown => None,
    }
}

/// An error of the API, for a message.
pub(super) fn describe(error: &ApiError) -> String {
    match error.status {
        Some(status) => format!("{} (HTTP {status})", error.message),
        None => error.message.clone(),
    }
}
