//! A plugin's instance with an observer: it measures calls, and counts events and commands for operators.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use paperclip_contract::types::{
    Action, AnswerOk, Command, ContainerState, Event, PodSnapshot, Refusal, Request,
};
use paperclip_engine::time::Timestamp;
use paperclip_engine::{Guest, GuestFault};
use paperclip_guest::Instance;

use super::observer::RunObserver;
use crate::memory::Reserved;

/// The instance of one run.
#[derive(Debug)]
pub(crate) struct Observed {
    instance: Instance,
    observer: Arc<RunObserver>,
    /// The run's span, which records the Job's name.
    span: tracing::Span,
    /// What its start was promised, until it has started.
    memory: Reserved,
    /// The command whose answer names the run's Job.
    creating: Option<u64>,
    holds_guard: bool,
    /// The memory that its start needed was released, when its first lines came.
    is_renewed: bool,
    /// Causes for which this run's Pod has not started so far.
    stalls: BTreeSet<String>,
}

impl Observed {
    pub(crate) fn new(instance: Instance, observer: Arc<RunObserver>, memory: Reserved) -> Observed {
        observer.metrics().instances.inc();
        Observed {
            instance,
            span: tracing::Span::current(),
            observer,
            memory,
            creating: None,
            holds_guard: false,
            is_renewed: false,
            stalls: BTreeSet::new(),
        }
    }

    fn call<T>(&mut self, name: &'static str, call: impl FnOnce(&mut Instance) -> T) -> T {
        let started = Instant::now();
        let answer = call(&mut self.instance);
        self.observer.metrics().step(name, started.elapsed(), self.instance.usage().fuel);
        answer
    }

    fn observe_event(&mut self, event: &Event) {
        match event {
            Event::GuardAcquired => self.hold_guard(true),
            Event::GuardLost => self.hold_guard(false),
            Event::LogInterrupted(_) => self.observer.log_interrupted(),
            Event::LogGap(_) => self.observer.log_gap(),
            Event::PodObserved(pod) => self.observe_pod(pod),
            Event::LogLines(_) => self.observer.printed(),
            Event::LogEnded(_) => self.observer.ended(),
            Event::Answered(answer) if self.creating == Some(answer.command) => {
                if let Ok(AnswerOk::Created(job)) = &answer.outcome {
                    self.span.record("job", job.name.as_str());
                }
            }
            Event::Answered(_)
            | Event::GuardBusy(_)
            | Event::GuardUnreachable(_)
            | Event::JobObserved(_)
            | Event::JobDeleted(_)
            | Event::PodDeleted(_)
            | Event::LogResumed(_)
            | Event::TimerFired(_)
            | Event::HttpAnswered(_)
            | Event::HttpFailed(_)
            | Event::CancelRequested(_)
            | Event::HostStopping
            | Event::HostResumed(_)
            | Event::Other(_) => {}
        }
    }

    fn observe_pod(&mut self, pod: &PodSnapshot) {
        for cause in stalls(pod) {
            if self.stalls.insert(cause.clone()) {
                self.observer.stalled(cause);
            }
        }
    }

    fn observe_commands(&mut self, commands: &[Command]) {
        for command in commands {
            match &command.action {
                Action::CreateJob(_) => self.creating = Some(command.id),
                Action::AdoptJob(label) => {
                    self.span.record("job", label.job.name.as_str());
                }
                Action::FollowLog(_) => self.observer.printed(),
                Action::CountObservation(observation) => self.observer.observed(observation),
                Action::ReleaseGuard => self.hold_guard(false),
                Action::Finish(_) => {
                    self.hold_guard(false);
                    self.observer.ended();
                }
                // No metric follows from another action.
                _ => {}
            }
        }
    }

    fn hold_guard(&mut self, holds: bool) {
        match (self.holds_guard, holds) {
            (false, true) => drop(self.observer.metrics().leases.inc()),
            (true, false) => drop(self.observer.metrics().leases.dec()),
            (false, false) | (true, true) => {}
        }
        self.holds_guard = holds;
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.hold_guard(false);
        self.observer.ended();
        self.observer.metrics().instances.dec();
    }
}

impl Guest for Observed {
    fn start(
        &mut self,
        at: Timestamp,
        request: &Request,
    ) -> Result<Result<Vec<Command>, Refusal>, GuestFault> {
        let started = self.call("start", |instance| instance.start(at, request));
        // From here on its memory is that of this process, which new runs are refused by.
        self.memory = None;
        let started = started?;
        if let Ok(commands) = &started {
            self.observe_commands(commands);
        }
        Ok(started)
    }

    fn step(&mut self, at: Timestamp, events: &[Event]) -> Result<Vec<Command>, GuestFault> {
        for event in events {
            self.observe_event(event);
        }
        let commands = self.call("step", |instance| instance.step(at, events))?;
        self.observe_commands(&commands);
        if !self.is_renewed && events.iter().any(|event| matches!(event, Event::LogLines(_))) {
            self.is_renewed = true;
            self.call("renew", Instance::renew)?;
        }
        Ok(commands)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, GuestFault> {
        self.call("snapshot", Guest::snapshot)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<Result<(), Refusal>, GuestFault> {
        self.call("restore", |instance| instance.restore(snapshot))
    }

    fn phase(&mut self) -> Result<String, GuestFault> {
        self.instance.phase()
    }
}

/// Returns why a Pod does not start, as the reasons that Kubernetes gives.
fn stalls(pod: &PodSnapshot) -> impl Iterator<Item = String> {
    // Every Pod goes through these.
    const USUAL: [&str; 2] = ["ContainerCreating", "PodInitializing"];
    let waiting = pod.containers.iter().filter_map(|container| match &container.state {
        ContainerState::Waiting(waiting) => waiting.reason.clone(),
        ContainerState::Unknown | ContainerState::Running(_) | ContainerState::Terminated(_) => None,
    });
    let waiting = waiting.filter(|reason| !USUAL.contains(&reason.as_str()));
    let unscheduled =
        pod.conditions.iter().filter(|condition| condition.kind == "PodScheduled" && !condition.is_true);
    waiting.chain(unscheduled.filter_map(|condition| condition.reason.clone()))
}
