//! What happens: the run's start, inputs and deadlines.

use std::borrow::Cow;

use paperclip_contract::types::{
    ApiError, Command, ContainerState, Deletion, Event, HttpAnswer, HttpFailure, JobSnapshot, PodSnapshot,
    Refusal,
};

use super::state::Phase;
use super::{DETACH_TIMEOUT, Run};
use crate::guest::Guest;
use crate::ids::PollId;
use crate::journal::{Entry, FORMAT};
use crate::port::{Closing, Effect, Input};
use crate::record::{Level, Record};
use crate::result;

impl<G: Guest> Run<G> {
    pub(super) fn start(&mut self) {
        self.segment.since = self.now;
        match self.guest.start(self.now, &self.spec.request) {
            Ok(Ok(commands)) => self.start_live(commands),
            Ok(Err(refusal)) => self.refuse(&refusal),
            Err(fault) => {
                self.append_start();
                self.end_with_fault(&fault);
            }
        }
    }

    fn start_live(&mut self, commands: Vec<Command>) {
        self.phase = Phase::Live;
        self.append_start();
        self.apply_commands(commands);
        self.step_guest();
    }

    fn append_start(&mut self) {
        let request = Cow::Borrowed(&self.spec.request);
        let line = Entry::Start { format: FORMAT, at: self.now, request }.to_line();
        self.append(line);
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.emit(Record::Result(result::of_refusal(refusal)));
        self.phase = Phase::Closed;
        self.effects.push_back(Effect::Close(Closing::Refused));
    }

    pub(super) fn handle_live(&mut self, input: Input) {
        match input {
            Input::Start | Input::Resume | Input::Tick => {}
            Input::Called { call, outcome } => self.on_called(call, outcome),
            Input::JobSeen(job) => self.observe_job(job),
            Input::JobDeleted(deletion) => self.observe_job_deleted(deletion),
            Input::PodSeen(mut pod) => {
                self.mask_pod(&mut pod);
                self.on_pods(std::slice::from_ref(&pod));
                self.events.push(Event::PodObserved(pod));
            }
            Input::PodDeleted(deletion) => {
                self.logs.on_pod_deleted(self.now, &deletion.object.uid);
                self.events.push(Event::PodDeleted(deletion));
            }
            Input::LogOpened { log, keeps_unread } => {
                self.logs.on_opened(self.now, log, keeps_unread);
            }
            Input::LogBytes { log, bytes } => self.logs.on_bytes(self.now, log, &bytes),
            Input::LogHeld { log } => self.logs.on_held(self.now, log),
            Input::LogClosed { log, end } => self.logs.on_closed(self.now, log, end),
            Input::Polled { poll, outcome } => self.on_polled(poll, outcome),
            Input::Host(host) => {
                let outcomes = self.lease.set_host(self.now, host);
                self.apply_lease(outcomes);
            }
            Input::GuardChanged => {
                let outcomes = self.lease.on_changed();
                self.apply_lease(outcomes);
            }
            Input::Cancel(request) => {
                self.pending_cancel = Some(request);
                self.deliver_cancel();
            }
            Input::Note { level, text } => self.note(level, text),
            Input::Stop => self.detach(),
        }
        self.drain_logs();
    }

    /// Handles an input after the end of the run: only answers to the engine's own calls and the stop of the host matter.
    pub(super) fn handle_closing(&mut self, input: Input) {
        match input {
            Input::Called { call, outcome } => self.on_called(call, outcome),
            Input::Stop => {
                self.phase = Phase::Closed;
                self.effects.push_back(Effect::Close(Closing::Detached));
            }
            Input::Host(host) => {
                let outcomes = self.lease.set_host(self.now, host);
                self.apply_lease(outcomes);
            }
            Input::Start
            | Input::Resume
            | Input::Tick
            | Input::GuardChanged
            | Input::JobSeen(_)
            | Input::JobDeleted(_)
            | Input::PodSeen(_)
            | Input::PodDeleted(_)
            | Input::LogOpened { .. }
            | Input::LogBytes { .. }
            | Input::LogHeld { .. }
            | Input::LogClosed { .. }
            | Input::Polled { .. }
            | Input::Note { .. } => {}
            // Too late for this host: the next one delivers it.
            Input::Cancel(request) => {
                if let Phase::Detaching { .. } = self.phase {
                    self.pending_cancel = Some(request);
                }
            }
        }
    }

    pub(super) fn observe_job(&mut self, job: JobSnapshot) {
        self.unobserved.observed(&job.job.uid);
        self.events.push(Event::JobObserved(job));
    }

    pub(super) fn observe_job_deleted(&mut self, mut deletion: Deletion) {
        self.unobserved.observed(&deletion.object.uid);
        deletion.is_ours = self.ledger.deleted_jobs.contains_key(&deletion.object.uid);
        self.events.push(Event::JobDeleted(deletion));
    }

    /// Masks the messages of a Pod: a container's termination message is text of the agent.
    pub(super) fn mask_pod(&self, pod: &mut PodSnapshot) {
        let mut messages: Vec<&mut Option<String>> = vec![&mut pod.message];
        for container in &mut pod.containers {
            match &mut container.state {
                ContainerState::Waiting(waiting) => messages.push(&mut waiting.message),
                ContainerState::Terminated(ended) => messages.push(&mut ended.message),
                ContainerState::Running(_) | ContainerState::Unknown => {}
            }
        }
        for message in messages.into_iter().flatten() {
            *message = self.spec.redactor.mask(std::mem::take(message));
        }
    }

    pub(super) fn on_pods(&mut self, pods: &[PodSnapshot]) {
        for pod in pods {
            self.logs.on_pod(self.now, pod);
        }
    }

    fn on_polled(&mut self, poll: PollId, outcome: Result<(u16, String), ApiError>) {
        match outcome {
            Ok((status, body)) => {
                if self.polls.answered(self.now, poll, status, &body) {
                    self.events.push(Event::HttpAnswered(HttpAnswer { command: poll.get(), status, body }));
                }
            }
            Err(error) => {
                if let Some(count) = self.polls.failed(self.now, poll) {
                    self.events.push(Event::HttpFailed(HttpFailure { command: poll.get(), count, error }));
                }
            }
        }
    }

    pub(super) fn on_deadlines(&mut self) {
        for call in self.calls.due(self.now) {
            self.retry_call(call);
        }
        if self.lease.deadline().is_some_and(|at| at <= self.now) {
            let outcomes = self.lease.on_deadline(self.now);
            self.apply_lease(outcomes);
        }
        if self.phase != Phase::Live {
            return;
        }
        self.call_deferred();
        self.get_unobserved_jobs();
        for (poll, path) in self.polls.due(self.now) {
            self.effects.push_back(Effect::Poll { poll, path });
        }
        self.logs.on_deadline(self.now);
        self.drain_logs();
        let due = self.ledger.timers.iter().filter(|(_, at)| **at <= self.now);
        self.events.extend(due.map(|(timer, _)| Event::TimerFired(timer.get())));
    }

    /// Detaches on SIGTERM: the run continues without this host, which deletes nothing.
    fn detach(&mut self) {
        self.events.push(Event::HostStopping);
        self.step_guest();
        if self.phase != Phase::Live {
            return;
        }
        self.note(Level::Info, "this host stops; the run goes on in the cluster".to_owned());
        self.effects.push_back(Effect::Sync);
        self.ledger.close();
        self.polls.clear();
        self.unobserved.clear();
        self.logs.stop_all();
        self.drain_logs();
        self.events.clear();
        self.phase = Phase::Detaching { until: self.now + DETACH_TIMEOUT };
        let outcomes = self.lease.hand_over(self.now);
        self.apply_lease(outcomes);
    }
}
