//! The one place where regions meet: derives commands from what is known now.

use super::create::control_lines;
use super::outbox::TimerName;
use super::region::{IllegalTransition, Region as _};
use super::regions::{GuardState, JobState, LogState, PodState, StopState};
use super::{Activity, Agent, Attempt, Job, Log, Machine, Pod, Stop};
use crate::bindings::exports::paperclip::agent::types::{
    Action, DeleteCause, DeleteJob, FollowLog, PollHttp,
};
use crate::manifest;

/// How long a deleted Job may remain, beyond the pod's own grace, before its run ends without waiting for it, in ms.
pub(super) const STOP_SLACK_MS: u64 = 15_000;

impl<A: Agent> Machine<A> {
    pub(super) fn decide(&mut self, now_ms: u64) -> Result<(), IllegalTransition> {
        match self.job.state {
            JobState::NotCreated => self.decide_start(now_ms),
            JobState::Blocked => self.decide_blocked(now_ms),
            JobState::CreatingDependents => self.decide_dependents(now_ms),
            JobState::Live => self.decide_live(now_ms),
            JobState::Deleting | JobState::Deleted => self.decide_end(now_ms),
            JobState::Failed => {
                self.finish_not_started(now_ms);
                Ok(())
            }
            // Nothing was created yet, and neither a list nor a dry run creates anything.
            JobState::Listing | JobState::Preflight => {
                if self.stop.state == StopState::Cancelled {
                    self.finish_cancelled(now_ms);
                }
                Ok(())
            }
            // An answer is pending; nothing is decided before it.
            JobState::Creating | JobState::Unsuspending | JobState::Adopting => Ok(()),
        }
    }

    fn decide_start(&mut self, now_ms: u64) -> Result<(), IllegalTransition> {
        if self.stop.state == StopState::Cancelled {
            self.finish_cancelled(now_ms);
            return Ok(());
        }
        if self.guard.state == GuardState::NotRequested {
            self.acquire_guard()?;
        }
        match self.guard.state {
            GuardState::Held if self.attempt.number > 1 => self.preflight_second_attempt(),
            GuardState::Held => self.list_jobs(),
            GuardState::Refused | GuardState::Lost => {
                self.finish_not_started(now_ms);
                Ok(())
            }
            GuardState::NotRequested | GuardState::Requested => Ok(()),
        }
    }

    fn decide_blocked(&mut self, now_ms: u64) -> Result<(), IllegalTransition> {
        if self.stop.state == StopState::Cancelled {
            self.finish_cancelled(now_ms);
        } else if self.job.blockers.is_empty() {
            self.outbox.cancel_timer(TimerName::Queue);
            self.list_jobs()?;
        } else if self.job.blocked_since_ms.is_some_and(|since| since + self.queue_ms() <= now_ms) {
            self.job.state.transition(JobState::Failed)?;
            self.finish_not_started(now_ms);
        }
        Ok(())
    }

    fn decide_dependents(&mut self, now_ms: u64) -> Result<(), IllegalTransition> {
        if self.stop.state == StopState::Cancelled {
            self.finish_cancelled(now_ms);
        } else if self.guard.state == GuardState::Lost {
            self.finish_not_started(now_ms);
        } else if self.job.awaited.is_empty() && !self.job.is_over_quota {
            self.unsuspend()?;
        }
        Ok(())
    }

    fn decide_live(&mut self, now_ms: u64) -> Result<(), IllegalTransition> {
        self.poll_for_cancel();
        self.follow_log(now_ms)?;
        self.set_run_timer(now_ms);
        self.decide_running(now_ms)?;
        match self.stop.state {
            StopState::NotRequested => self.decide_waiting(now_ms),
            StopState::Cancelled | StopState::TimedOut | StopState::Reported | StopState::Stuck => {
                self.stop_job(now_ms)?;
            }
        }
        if self.is_finished { Ok(()) } else { self.decide_end(now_ms) }
    }

    /// Polls the run's status in Paperclip while the Job is live: it changes when the run is cancelled there.
    fn poll_for_cancel(&mut self) {
        if self.poll.is_none() && self.facts.may_poll {
            let path = format!("/api/heartbeat-runs/{}", path_segment(&self.request.run_id));
            self.poll = Some(self.outbox.push(Action::PollHttp(PollHttp { path })));
        }
    }

    pub(super) fn follow_log(&mut self, now_ms: u64) -> Result<(), IllegalTransition> {
        let has_started = self.pod.agent_started_ms.is_some();
        let (LogState::NotFollowed, true, Some(pod)) = (self.log.state, has_started, &self.pod.last) else {
            return Ok(());
        };
        let follow = FollowLog {
            pod: pod.pod.clone(),
            container: self.agent.container_name().to_owned(),
            restart_count: self.agent_in(pod).map_or(0, |agent| agent.restart_count),
            control_tag: self.control_tag(),
        };
        self.log.state.transition(LogState::Following)?;
        self.log.last_activity_ms = now_ms;
        self.activity.start(now_ms);
        self.log.command = Some(self.outbox.push(Action::FollowLog(follow)));
        let place = pod.node.as_deref().map_or(String::new(), |node| format!(" on node {node}"));
        self.outbox.info(format!("[paperclip] Agent started in pod {}{place}", pod.pod.name));
        self.outbox.cancel_timer(TimerName::Stall);
        Ok(())
    }

    /// Returns the tag of the control lines in the agent's output, if it has any. A Job of another run has that run's.
    fn control_tag(&self) -> Option<String> {
        if !self.job.is_adopted {
            return manifest::control_tag(&self.request, self.attempt);
        }
        control_lines(self.job.last.as_ref()?).and_then(manifest::annotated_tag).map(str::to_owned)
    }

    /// Sets the timer of the run's timeout, which counts from the start of the container and not from the creation of the Job.
    fn set_run_timer(&mut self, now_ms: u64) {
        if let (Some(due_ms), LogState::Following, PodState::Started) =
            (self.run_due_ms(), self.log.state, self.pod.state)
            && self.stop.state == StopState::NotRequested
            && !self.pod.is_run_timer_set
        {
            self.pod.is_run_timer_set = true;
            self.outbox.set_timer(TimerName::Run, due_ms.saturating_sub(now_ms));
        }
    }

    fn run_due_ms(&self) -> Option<u64> {
        let timeout_ms = u64::from(self.facts.settings.timeout_sec?) * 1_000;
        Some(self.pod.agent_started_ms? + timeout_ms)
    }

    pub(super) fn is_timeout_over(&self, now_ms: u64) -> bool {
        self.run_due_ms().is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// Stops a run that nothing has stopped so far.
    pub(super) fn stop(&mut self, now_ms: u64, state: StopState) -> Result<(), IllegalTransition> {
        self.stop.state.transition(state)?;
        self.stop.since_ms = now_ms;
        Ok(())
    }

    /// Deletes the Job while its log is still followed: the pod gets SIGTERM and its grace, the output is drained.
    fn stop_job(&mut self, now_ms: u64) -> Result<(), IllegalTransition> {
        let Some(job) = self.job.object.clone() else { return Ok(()) };
        if !self.job.is_deletion_requested {
            self.job.is_deletion_requested = true;
            let (cause, why) = match self.stop.state {
                StopState::NotRequested | StopState::Cancelled => {
                    (DeleteCause::Cancelled, "Run cancelled".to_owned())
                }
                StopState::TimedOut => (DeleteCause::TimedOut, "Run timed out".to_owned()),
                StopState::Reported => {
                    (DeleteCause::AttemptEnded, "The agent keeps running after its report".to_owned())
                }
                StopState::Stuck => {
                    let reason = self.stop.reason.as_deref().unwrap_or("no reason");
                    (DeleteCause::TimedOut, format!("The agent does not come to an end: {reason}"))
                }
            };
            self.outbox.info(format!("[paperclip] {why} — deleting Job {}", job.name));
            self.outbox.push(Action::DeleteJob(DeleteJob { job, cause }));
            self.outbox.set_timer(TimerName::Stop, self.max_stop_ms());
        }
        if now_ms >= self.stop.since_ms + self.max_stop_ms() { self.finish_judged(now_ms) } else { Ok(()) }
    }

    /// How long the end of a stopped agent is waited for.
    fn max_stop_ms(&self) -> u64 {
        u64::from(self.facts.settings.cancel_grace_sec) * 1_000 + STOP_SLACK_MS
    }

    /// Starts the second attempt, with a fresh session, after the pod of the first one was deleted.
    pub(super) fn start_second_attempt(&mut self, now_ms: u64) -> Result<(), IllegalTransition> {
        self.attempt = Attempt::WITH_FRESH_SESSION;
        self.plan = None;
        self.job = Job::default();
        self.pod = Pod::default();
        self.log = Log::default();
        self.stream = A::Stream::default();
        self.activity = Activity::default();
        self.shown_wait = None;
        self.watch_status = None;
        // The first attempt was stopped because its agent had reported its end; the second one is not.
        self.stop = Stop::default();
        // There is no third attempt.
        self.retry_result = None;
        self.decide_start(now_ms)
    }
}

/// Returns a path segment, percent-encoded where it has other characters than RFC 3986's unreserved ones.
fn path_segment(text: &str) -> String {
    use std::fmt::Write as _;
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            segment.push(char::from(byte));
        } else {
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}
