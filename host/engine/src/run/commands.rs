//! Commands of the plugin: recorded in the journal and the ledger, then turned into effects.

use std::time::Duration;

use paperclip_contract::types::{
    AcquireGuard, Action, ApiError, Command, Event, FollowLog, Label, LabelJob, NewSecret, ObjectRef,
};

use super::{Phase, Run};
use crate::adoption;
use crate::api::{ApiCall, EPOCH_ANNOTATION};
use crate::calls::{CLEANUP_RETRY, COMMAND_RETRY, Purpose};
use crate::guest::{FaultCause, Guest, GuestFault};
use crate::ids::{CallId, CommandId, PollId};
use crate::journal::Entry;
use crate::lease;
use crate::ledger::{GuardState, MAX_COMMANDS};
use crate::logs::LogsOutput;
use crate::manifest;
use crate::port::Effect;
use crate::record::{Level, WholeLine};

/// How often a retry that needs the lease is reconsidered while it is not certain that the lease is held.
const LEASE_RECHECK: Duration = Duration::from_secs(1);

impl<G: Guest> Run<G> {
    /// Passes the collected events to the plugin, and repeats that for the events that its commands cause at once.
    pub(super) fn step_guest(&mut self) {
        while self.phase == Phase::Live && !self.events.is_empty() {
            let events = std::mem::take(&mut self.events);
            let whole = self.append_step(&events);
            let answer = self.deliver(&events);
            self.emit_events(events, whole);
            match answer {
                Ok(commands) => self.apply_commands(commands),
                Err(fault) => self.end_with_fault(&fault),
            }
        }
    }

    fn append_step(&mut self, events: &[Event]) -> Vec<WholeLine> {
        self.step += 1;
        self.segment.has_steps = true;
        let cursors = self.logs.cursors(events);
        self.ledger.cursors(&cursors);
        let whole = self.logs.take_whole();
        let entry = Entry::Step {
            seq: self.step,
            at: self.now,
            events: events.into(),
            cursors: cursors.as_slice().into(),
            whole: whole.as_slice().into(),
        };
        self.append(entry.to_line());
        whole
    }

    /// Records the events in the ledger and passes them to the plugin.
    pub(super) fn deliver(&mut self, events: &[Event]) -> Result<Vec<Command>, GuestFault> {
        for event in events {
            self.ledger.event(event);
        }
        self.guest.step(self.now, events)
    }

    /// Emits the lines that the plugin has just received. The journal contains them by now.
    pub(super) fn emit_events(&mut self, events: Vec<Event>, whole: Vec<WholeLine>) {
        for record in self.ledger.sequencer.events(events, whole) {
            self.emit_sequenced(record);
        }
    }

    pub(super) fn apply_commands(&mut self, commands: Vec<Command>) {
        if commands.is_empty() {
            return;
        }
        if let Err(fault) = self.check_count(&commands).and_then(|()| self.check_policy(&commands)) {
            return self.end_with_fault(&fault);
        }
        self.append(Entry::Commands { seq: self.step, commands: commands.as_slice().into() }.to_line());
        if commands.iter().any(|command| command.action.properties().is_durable_first) {
            self.effects.push_back(Effect::Sync);
        }
        for command in commands {
            if self.phase != Phase::Live {
                return;
            }
            if let Err(fault) = self.record_command(&command) {
                return self.end_with_fault(&fault);
            }
            if let Err(cause) = self.carry_out(CommandId::new(command.id), command.action) {
                let fault = self.fault(cause);
                return self.end_with_fault(&fault);
            }
        }
    }

    pub(super) fn check_count(&self, commands: &[Command]) -> Result<(), GuestFault> {
        let (found, limit) = (commands.len() as u64, u64::from(MAX_COMMANDS));
        if found <= limit {
            return Ok(());
        }
        Err(self.fault(FaultCause::OverLimit { what: "commands in one call", found, limit }))
    }

    /// Refuses all commands of a call if one of them is not granted. A replay does not check again: commands in a journal were granted.
    fn check_policy(&self, commands: &[Command]) -> Result<(), GuestFault> {
        self.spec.policy.check(commands).map_err(|refused| self.fault(FaultCause::Refused(refused)))
    }

    /// Records a command in the ledger and emits its records, if it may be carried out.
    pub(super) fn record_command(&mut self, command: &Command) -> Result<(), GuestFault> {
        self.ledger.command(self.now, command).map_err(|cause| self.fault(cause))?;
        for record in self.ledger.sequencer.command(&command.action) {
            self.emit_sequenced(record);
        }
        Ok(())
    }

    fn carry_out(&mut self, id: CommandId, action: Action) -> Result<(), FaultCause> {
        match action {
            Action::AcquireGuard(request) => {
                self.join_host(&request);
                let outcomes = self.lease.acquire(self.now, request);
                self.apply_lease(outcomes);
            }
            Action::ReleaseGuard => {
                let outcomes = self.lease.release();
                self.apply_lease(outcomes);
            }
            Action::FollowJob(job) => self.follow_job(job),
            Action::FollowLog(follow) => self.follow_log(id, follow),
            Action::StopLog(log) => {
                self.logs.stop(CommandId::new(log));
                self.drain_logs();
            }
            Action::PollHttp(poll) => self.polls.start(self.now, id.into(), poll.path),
            Action::StopPoll(poll) => self.polls.stop(PollId::new(poll)),
            Action::Finish(finish) => self.finish(finish)?,
            Action::ReportMeta(json) => {
                serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&json)
                    .map_err(|_error| FaultCause::Contract("report-meta is not a JSON object".to_owned()))?;
            }
            call if call.properties().calls_api => self.call(id, call),
            // The ledger and the record sequencer have processed the others.
            _ => {}
        }
        Ok(())
    }

    /// Sends the request of a command, or defers it until the lease that it needs is certain.
    pub(super) fn call(&mut self, id: CommandId, action: Action) {
        if action.properties().needs_lease && !self.lease.is_certain(self.now) {
            if self.lease.is_undecided() {
                self.deferred.push((id, action));
            } else {
                self.answer(id, Err(guard_lost()));
            }
            return;
        }
        let Some(action) = self.answer_from_adopted_job(id, action) else { return };
        let action = match action {
            Action::CreateSecret(secret) => Action::CreateSecret(self.with_recovery_record(secret)),
            other => other,
        };
        if let Some(request) = request(action, self.lease.epoch()) {
            self.call_for(Purpose::Command(id), request, COMMAND_RETRY);
        }
    }

    /// Retries a call. One that needs the lease waits until that is certain again: the API may have been unavailable for longer than a
    /// lease is valid.
    pub(super) fn retry_call(&mut self, call: CallId) {
        let action = self.calls.command(call).and_then(|command| self.ledger.open.get(&command));
        if action.is_some_and(|action| action.properties().needs_lease) && !self.lease.is_certain(self.now) {
            if self.lease.is_undecided() {
                self.calls.postpone(call, self.now + LEASE_RECHECK);
            } else if let Some(finished) = self.calls.end(call, Err(guard_lost())) {
                self.on_finished(finished);
            }
            return;
        }
        if let Some(request) = self.calls.retry(call) {
            self.effects.push_back(Effect::Call { call, request });
        }
    }

    /// Adds the record from which another host can resume the run to the Secret of its agent.
    fn with_recovery_record(&self, secret: NewSecret) -> NewSecret {
        let guard = match &self.ledger.guard {
            GuardState::Held { guard } => Some(guard),
            GuardState::None
            | GuardState::Requested { .. }
            | GuardState::Unreachable { .. }
            | GuardState::Lost => None,
        };
        adoption::with_recovery_record(secret, &self.spec.request, guard)
    }

    /// Sends the deferred requests, or answers that the lease is lost. Those that still have to wait are deferred again.
    pub(super) fn call_deferred(&mut self) {
        for (id, action) in std::mem::take(&mut self.deferred) {
            self.call(id, action);
        }
    }

    /// Has this host known in the namespace of the guard.
    pub(super) fn join_host(&mut self, guard: &AcquireGuard) {
        let (namespace, guard) = (guard.namespace.clone(), lease::lease_name(&guard.key));
        self.effects.push_back(Effect::Join { namespace, guard });
    }

    /// Raises the epoch of the run's Jobs, so that late requests of an earlier host fail.
    fn raise_epoch(&mut self, epoch: u64) {
        let is_live = |job: &&ObjectRef| !self.ledger.deleted_jobs.contains_key(&job.uid);
        let jobs: Vec<ObjectRef> = self.ledger.jobs.values().filter(is_live).cloned().collect();
        for job in jobs {
            let patch_json = manifest::epoch_patch(epoch);
            let call = ApiCall::PatchJob { job, patch_json, epoch: Some(epoch) };
            self.call_for(Purpose::Epoch, call, COMMAND_RETRY);
        }
    }

    fn follow_log(&mut self, id: CommandId, follow: FollowLog) {
        self.logs.start(self.now, id, follow, crate::log::Position::default());
        self.drain_logs();
    }

    /// Drains the outputs of all log readers.
    pub(super) fn drain_logs(&mut self) {
        let max_line_bytes = self.spec.request.host.limits.max_line_bytes;
        while let Some(output) =
            self.logs.poll(&mut self.ledger.sequencer, &self.spec.redactor, max_line_bytes)
        {
            match output {
                LogsOutput::Effect(effect) => self.effects.push_back(effect),
                LogsOutput::Event(event) => self.events.push(event),
                LogsOutput::Diagnostic(text) => self.note(Level::Warning, text),
            }
        }
    }

    pub(super) fn apply_lease(&mut self, outcomes: Vec<lease::Outcome>) {
        for outcome in outcomes {
            match outcome {
                lease::Outcome::Call(call) => {
                    let limit = if self.phase == Phase::Live { COMMAND_RETRY } else { CLEANUP_RETRY };
                    self.call_for(Purpose::Lease, call, limit);
                }
                lease::Outcome::Acquired if self.check_record() => {}
                lease::Outcome::Acquired => self.events.push(Event::GuardAcquired),
                lease::Outcome::EpochRaised(epoch) => self.raise_epoch(epoch),
                lease::Outcome::Moved { host } => self.leave_to(&host),
                lease::Outcome::Busy(busy) => self.events.push(Event::GuardBusy(busy)),
                lease::Outcome::Unreachable(error) => self.events.push(Event::GuardUnreachable(error)),
                lease::Outcome::Lost => self.events.push(Event::GuardLost),
                lease::Outcome::Released => {}
            }
        }
    }

    pub(super) fn fault(&self, cause: FaultCause) -> GuestFault {
        let plugin = &self.spec.plugin;
        GuestFault {
            plugin: plugin.adapter_type.clone(),
            version: plugin.version.clone(),
            digest: plugin.digest.clone(),
            call: "step",
            step: self.step,
            cause,
        }
    }
}

fn guard_lost() -> ApiError {
    ApiError {
        status: None,
        reason: Some("GuardLost".to_owned()),
        message: "another host took the lease of this agent".to_owned(),
        retry_after_ms: None,
    }
}

/// Returns the API request of an action, if it has one, in the epoch of this host.
fn request(action: Action, epoch: Option<u64>) -> Option<ApiCall> {
    Some(match action {
        Action::ListJobs(list) => ApiCall::ListJobs { namespace: list.namespace, labels: list.labels },
        Action::DryRunPod(pod) => ApiCall::DryRunPod { manifest_json: pod.manifest_json },
        Action::CreateJob(job) => {
            ApiCall::CreateJob { manifest_json: manifest::with_epoch(job.manifest_json, epoch) }
        }
        Action::CreateSecret(secret) => ApiCall::CreateSecret(secret),
        Action::CreateConfigMap(map) => ApiCall::CreateConfigMap(Box::new(map)),
        Action::UnsuspendJob(job) => {
            let patch_json = r#"{"spec":{"suspend":false}}"#.to_owned();
            ApiCall::PatchJob { job, patch_json, epoch }
        }
        // The guard decides between runs; the epoch between the hosts of this run from then on.
        Action::AdoptJob(label) => label_call(label, epoch, None),
        Action::LabelJob(label) => label_call(label, None, epoch),
        Action::DeleteJob(delete) => ApiCall::DeleteJob { job: delete.job, epoch },
        Action::GetJob(job) => ApiCall::GetJob { namespace: job.namespace, name: job.name },
        Action::ListPods(job) => ApiCall::ListPods { job },
        Action::ListEvents(job) => ApiCall::ListEvents { job },
        Action::ReadLog(read) => ApiCall::ReadLog(read),
        // Not API calls, by the table of actions.
        _ => return None,
    })
}

/// Returns the call that labels a Job, and raises its epoch if a new one is given.
fn label_call(label: LabelJob, new_epoch: Option<u64>, epoch: Option<u64>) -> ApiCall {
    let labels: serde_json::Map<String, serde_json::Value> =
        label.labels.into_iter().map(|Label { key, value }| (key, value.into())).collect();
    let mut metadata = serde_json::json!({ "labels": labels });
    if let Some(new_epoch) = new_epoch {
        metadata["annotations"] = serde_json::json!({ EPOCH_ANNOTATION: new_epoch.to_string() });
    }
    let patch_json = serde_json::json!({ "metadata": metadata }).to_string();
    ApiCall::PatchJob { job: label.job, patch_json, epoch }
}
