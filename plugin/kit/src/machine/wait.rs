//! Waits for the Pod to start: shows the cause while it lasts, and ends the run when its grace has passed.

use super::outbox::TimerName;
use super::regions::PodState;
use super::stall::{self, Stall, StallKind};
use super::verification::Verification;
use super::{Agent, Machine};
use crate::bindings::exports::paperclip::agent::types::{Action, ClusterEvent};
use crate::outcome::ErrorCode;

/// How long a pod may report nothing before its Kubernetes events are listed, in ms.
const EVENTS_AFTER_MS: u64 = 20_000;
/// A Job that is still suspended so long after it was unsuspended, in ms, was suspended by another controller: watches lag.
const SUSPENDED_AFTER_MS: u64 = 5_000;
/// How many events are shown.
const EVENTS_SHOWN: usize = 3;

impl<A: Agent> Machine<A> {
    pub(super) fn decide_waiting(&mut self, now_ms: u64) {
        match self.pod.state {
            PodState::NotObserved | PodState::Waiting => {}
            PodState::Started | PodState::Ended | PodState::Deleted => return,
        }
        let stall = self.current_stall(now_ms);
        let grace_ms = stall::grace_ms(stall.kind, &self.facts.settings);
        let known = self.pod.stall.take();
        let is_new = known.as_ref().is_none_or(|(known, _)| known.kind != stall.kind);
        let is_reworded = known.as_ref().is_none_or(|(known, _)| known.detail != stall.detail);
        let since_ms = known.filter(|_| !is_new).map_or(now_ms, |(_, since_ms)| since_ms);
        let age_ms = now_ms - since_ms;
        if is_new {
            self.pod.stall_verification = Verification::NotRequested;
        }
        if age_ms >= grace_ms {
            if stall.kind == StallKind::Fatal || self.is_stall_verified() {
                return self.finish_unscheduled(&stall, age_ms);
            }
            self.pod.stall = Some((stall, since_ms));
            return;
        }
        if is_reworded && stall.kind != StallKind::Starting && stall.kind != StallKind::NoPod {
            let text = format!(
                "[paperclip] Waiting: {} (for {} s, at most {} s)",
                stall.detail,
                age_ms / 1_000,
                grace_ms / 1_000
            );
            self.outbox.warn(text);
        }
        let is_silent = matches!(stall.kind, StallKind::Starting | StallKind::NoPod);
        if is_new {
            self.pod.events_query = None;
            self.pod.event_message = None;
            let first_ms = if is_silent { EVENTS_AFTER_MS.min(grace_ms) } else { grace_ms };
            self.outbox.set_timer(TimerName::Stall, first_ms);
        } else if is_silent && age_ms >= EVENTS_AFTER_MS && self.pod.events_query.is_none() {
            if let Some(job) = self.job.object.clone() {
                self.pod.events_query = Some(self.outbox.push(Action::ListEvents(job)));
            }
            self.outbox.set_timer(TimerName::Stall, grace_ms - age_ms);
        }
        self.pod.stall = Some((stall, since_ms));
    }

    /// Whether the stall was verified with the API since it started. Requests the verification if there was none.
    fn is_stall_verified(&mut self) -> bool {
        match (self.pod.stall_verification, self.job.object.clone()) {
            (Verification::Done, _) | (_, None) => true,
            (Verification::Pending { .. }, Some(_)) => false,
            (Verification::NotRequested, Some(job)) => {
                self.pod.stall_verification = Verification::request(&mut self.outbox, job);
                false
            }
        }
    }

    fn current_stall(&self, now_ms: u64) -> Stall {
        if let Some(pod) = &self.pod.last {
            return stall::of_pod(pod);
        }
        let job = self.job.object.as_ref().map_or("", |job| job.name.as_str());
        let is_settled = self.job.live_since_ms.is_some_and(|since| since + SUSPENDED_AFTER_MS <= now_ms);
        if is_settled && self.job.last.as_ref().is_some_and(|job| job.is_suspended) {
            let detail = format!("Job {job} is suspended: it is queued");
            return Stall { kind: StallKind::Queued, detail };
        }
        Stall { kind: StallKind::NoPod, detail: format!("Job {job} has no pod yet") }
    }

    /// Shows the warnings among the Kubernetes events of a stall.
    pub(super) fn on_events(&mut self, events: &[ClusterEvent]) {
        let warnings = events.iter().filter(|event| event.is_warning);
        for event in warnings.take(EVENTS_SHOWN) {
            let text = format!("[paperclip] Waiting: {}: {} ({})", event.about, event.message, event.reason);
            self.outbox.warn(text);
            self.pod.event_message.get_or_insert_with(|| event.message.clone());
        }
    }

    fn finish_unscheduled(&mut self, stall: &Stall, age_ms: u64) {
        let mut text = format!("Pod scheduling failed: {}", stall.detail);
        let message = self.pod.event_message.as_deref();
        if let Some(message) = message.filter(|message| !stall.detail.contains(message)) {
            text.push_str(&format!(": {message}"));
        }
        if age_ms > 0 {
            text.push_str(&format!(" (waited {} s)", age_ms / 1_000));
        }
        self.finish_failed(ErrorCode::K8S_POD_SCHEDULE_FAILED, text);
    }
}
