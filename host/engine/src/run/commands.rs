//! Commands of the plugin: noted in the journal and the ledger, then turned into effects.

use paperclip_contract::types::{Action, ApiError, Command, Event, FollowLog, Label, LabelJob, NewSecret};
use std::time::Duration;

use super::{Phase, Run};
use crate::adoption;
use crate::api::ApiCall;
use crate::calls::{CLEANUP_RETRY, COMMAND_RETRY, Purpose};
use crate::guard;
use crate::guest::{FaultCause, Guest, GuestFault};
use crate::ids::{CallId, CommandId, PollId};
use crate::journal::{Entry, WholeLine};
use crate::ledger::{Claim, MAX_COMMANDS};
use crate::logs::Told;
use crate::port::Effect;
use crate::record::Level;

/// How often it is looked whether the guard is certain again while something is to be asked of the API once more.
const LEASE_RECHECK: Duration = Duration::from_secs(1);

impl<G: Guest> Run<G> {
    /// Hands the collected events to the plugin, and does so again for what its commands brought about at once.
    pub(super) fn step_guest(&mut self) {
        while self.phase == Phase::Live && !self.events.is_empty() {
            let events = std::mem::take(&mut self.events);
            let whole = self.append_step(&events);
            let answer = self.give(&events);
            self.tell_events(events, whole);
            match answer {
                Ok(commands) => self.take_commands(commands),
                Err(fault) => self.break_off(&fault),
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

    /// Notes the events and hands them to the plugin.
    pub(super) fn give(&mut self, events: &[Event]) -> Result<Vec<Command>, GuestFault> {
        for event in events {
            self.ledger.event(event);
        }
        self.guest.step(self.now, events)
    }

    /// Shows the lines that the plugin has just read. They stand in the journal by now.
    pub(super) fn tell_events(&mut self, events: Vec<Event>, whole: Vec<WholeLine>) {
        for told in self.ledger.sequencer.events(events, whole) {
            self.show(told);
        }
    }

    pub(super) fn take_commands(&mut self, commands: Vec<Command>) {
        if commands.is_empty() {
            return;
        }
        if let Err(fault) = self.check_count(&commands).and_then(|()| self.check_policy(&commands)) {
            return self.break_off(&fault);
        }
        self.append(Entry::Commands { seq: self.step, commands: commands.as_slice().into() }.to_line());
        if commands.iter().any(|command| is_external(&command.action)) {
            self.effects.push_back(Effect::Sync);
        }
        for command in commands {
            if self.phase != Phase::Live {
                return;
            }
            if let Err(fault) = self.note_command(&command) {
                return self.break_off(&fault);
            }
            if let Err(cause) = self.carry_out(CommandId::new(command.id), command.action) {
                let fault = self.fault(cause);
                return self.break_off(&fault);
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

    /// Refuses all commands of a call if one is not granted. What is in a journal was: a replay does not ask again.
    fn check_policy(&self, commands: &[Command]) -> Result<(), GuestFault> {
        self.spec.policy.check(commands).map_err(|refused| self.fault(FaultCause::Refused(refused)))
    }

    /// Notes a command and shows what it says, if it may be carried out.
    pub(super) fn note_command(&mut self, command: &Command) -> Result<(), GuestFault> {
        self.ledger.command(self.now, command).map_err(|cause| self.fault(cause))?;
        for told in self.ledger.sequencer.command(&command.action) {
            self.show(told);
        }
        Ok(())
    }

    fn carry_out(&mut self, id: CommandId, action: Action) -> Result<(), FaultCause> {
        match action {
            Action::AcquireGuard(wanted) => {
                let outcomes = self.lock.acquire(self.now, wanted);
                self.take_lock(outcomes);
            }
            Action::ReleaseGuard => {
                let outcomes = self.lock.release();
                self.take_lock(outcomes);
            }
            Action::FollowJob(job) => self.follow_job(job),
            Action::FollowLog(follow) => self.follow_log(id, follow),
            Action::StopLog(log) => {
                self.logs.stop(CommandId::new(log));
                self.drain_logs();
            }
            Action::PollHttp(poll) => self.polls.begin(self.now, id.into(), poll.path),
            Action::StopPoll(poll) => self.polls.stop(PollId::new(poll)),
            Action::Finish(finish) => self.finish(finish)?,
            Action::ReportMeta(json) => {
                serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&json)
                    .map_err(|_error| FaultCause::Contract("report-meta is not a JSON object".to_owned()))?;
            }
            // The ledger and the sequencer have done what there is to do.
            Action::SetTimer(_)
            | Action::CancelTimer(_)
            | Action::EmitStatus(_)
            | Action::EmitLog(_)
            | Action::Other(_) => {}
            call @ (Action::ListJobs(_)
            | Action::DryRunPod(_)
            | Action::CreateJob(_)
            | Action::CreateSecret(_)
            | Action::CreateConfigMap(_)
            | Action::UnsuspendJob(_)
            | Action::AdoptJob(_)
            | Action::LabelJob(_)
            | Action::DeleteJob(_)
            | Action::GetJob(_)
            | Action::ListPods(_)
            | Action::ListEvents(_)
            | Action::ReadLog(_)) => self.call(id, call),
        }
        Ok(())
    }

    /// Asks the API for what a command wants, if it is one that does.
    pub(super) fn call(&mut self, id: CommandId, action: Action) {
        if needs_guard(&action) && !self.lock.is_sure(self.now) {
            return match self.lock.is_open() {
                true => self.unguarded.push((id, action)),
                false => self.answer(id, Err(guard_lost())),
            };
        }
        let Some(action) = self.unless_adopted(id, action) else { return };
        let action = match action {
            Action::CreateSecret(secret) => Action::CreateSecret(self.with_recovery_record(secret)),
            other => other,
        };
        if let Some(request) = request(action) {
            self.call_until(Purpose::Command(id), request, COMMAND_RETRY);
        }
    }

    /// Sends a call again that had no good answer. What the guard is needed for waits until that is certain again: the API may have been
    /// away for longer than a lease holds.
    pub(super) fn call_again(&mut self, call: CallId) {
        let action = self.calls.command(call).and_then(|command| self.ledger.open.get(&command));
        if action.is_some_and(needs_guard) && !self.lock.is_sure(self.now) {
            if self.lock.is_open() {
                self.calls.put_off(call, self.now + LEASE_RECHECK);
            } else if let Some(finished) = self.calls.end(call, Err(guard_lost())) {
                self.on_finished(finished);
            }
            return;
        }
        if let Some(request) = self.calls.again(call) {
            self.effects.push_back(Effect::Call { call, request });
        }
    }

    /// Puts what another host needs to take the run up beside what its agent needs.
    fn with_recovery_record(&self, secret: NewSecret) -> NewSecret {
        let guard = match &self.ledger.guard {
            Claim::Held { guard } => Some(guard),
            Claim::None | Claim::Wanted { .. } | Claim::Unreachable { .. } | Claim::Lost => None,
        };
        adoption::with_recovery_record(secret, &self.spec.request, guard)
    }

    /// Does what waited for the guard, or says that it is lost; what has to wait on does.
    pub(super) fn call_guarded(&mut self) {
        for (id, action) in std::mem::take(&mut self.unguarded) {
            self.call(id, action);
        }
    }

    fn follow_log(&mut self, id: CommandId, follow: FollowLog) {
        self.logs.begin(self.now, id, follow, crate::log::Position::default());
        self.drain_logs();
    }

    /// Takes what the log readers have to say or want done.
    pub(super) fn drain_logs(&mut self) {
        let max_line_bytes = self.spec.request.host.limits.max_line_bytes;
        while let Some(told) = self.logs.poll(&mut self.ledger.sequencer, &self.spec.redactor, max_line_bytes)
        {
            match told {
                Told::Effect(effect) => self.effects.push_back(effect),
                Told::Event(event) => self.events.push(event),
                Told::Diagnostic(text) => self.note(Level::Warning, text),
            }
        }
    }

    pub(super) fn take_lock(&mut self, outcomes: Vec<guard::Outcome>) {
        for outcome in outcomes {
            match outcome {
                guard::Outcome::Call(call) => {
                    let limit = if self.phase == Phase::Live { COMMAND_RETRY } else { CLEANUP_RETRY };
                    self.call_until(Purpose::Guard, call, limit);
                }
                guard::Outcome::Acquired => self.events.push(Event::GuardAcquired),
                guard::Outcome::Busy(busy) => self.events.push(Event::GuardBusy(busy)),
                guard::Outcome::Unreachable(error) => self.events.push(Event::GuardUnreachable(error)),
                guard::Outcome::Lost => self.events.push(Event::GuardLost),
                guard::Outcome::Released => {}
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

/// Whether a command is for the holder of the guard alone: whoever else has it may have taken the Job over, too.
fn needs_guard(action: &Action) -> bool {
    matches!(
        action,
        Action::CreateJob(_)
            | Action::CreateSecret(_)
            | Action::CreateConfigMap(_)
            | Action::UnsuspendJob(_)
            | Action::AdoptJob(_)
            | Action::DeleteJob(_)
    )
}

fn guard_lost() -> ApiError {
    ApiError {
        status: None,
        reason: Some("GuardLost".to_owned()),
        message: "another host took the lease of this agent".to_owned(),
        retry_after_ms: None,
    }
}

/// What a command asks of the API.
fn request(action: Action) -> Option<ApiCall> {
    Some(match action {
        Action::ListJobs(list) => ApiCall::ListJobs { namespace: list.namespace, labels: list.labels },
        Action::DryRunPod(pod) => ApiCall::DryRunPod { manifest_json: pod.manifest_json },
        Action::CreateJob(job) => ApiCall::CreateJob { manifest_json: job.manifest_json },
        Action::CreateSecret(secret) => ApiCall::CreateSecret(secret),
        Action::CreateConfigMap(map) => ApiCall::CreateConfigMap(map),
        Action::UnsuspendJob(job) => {
            let patch_json = r#"{"spec":{"suspend":false}}"#.to_owned();
            ApiCall::PatchJob { job, patch_json }
        }
        Action::AdoptJob(label) | Action::LabelJob(label) => label_call(label),
        Action::DeleteJob(delete) => ApiCall::DeleteJob { job: delete.job },
        Action::GetJob(job) => ApiCall::GetJob { namespace: job.namespace, name: job.name },
        Action::ListPods(job) => ApiCall::ListPods { job },
        Action::ListEvents(job) => ApiCall::ListEvents { job },
        Action::ReadLog(read) => ApiCall::ReadLog(read),
        Action::AcquireGuard(_)
        | Action::ReleaseGuard
        | Action::FollowJob(_)
        | Action::FollowLog(_)
        | Action::StopLog(_)
        | Action::EmitLog(_)
        | Action::SetTimer(_)
        | Action::CancelTimer(_)
        | Action::PollHttp(_)
        | Action::StopPoll(_)
        | Action::EmitStatus(_)
        | Action::ReportMeta(_)
        | Action::Finish(_)
        | Action::Other(_) => return None,
    })
}

/// Whether a command changes the world, so that its cause has to be on disk before it is carried out.
pub(super) fn is_external(action: &Action) -> bool {
    match action {
        Action::AcquireGuard(_)
        | Action::ReleaseGuard
        | Action::CreateJob(_)
        | Action::CreateSecret(_)
        | Action::CreateConfigMap(_)
        | Action::UnsuspendJob(_)
        | Action::AdoptJob(_)
        | Action::LabelJob(_)
        | Action::DeleteJob(_)
        | Action::Finish(_) => true,
        Action::ListJobs(_)
        | Action::DryRunPod(_)
        | Action::FollowJob(_)
        | Action::GetJob(_)
        | Action::ListPods(_)
        | Action::ListEvents(_)
        | Action::FollowLog(_)
        | Action::StopLog(_)
        | Action::ReadLog(_)
        | Action::SetTimer(_)
        | Action::CancelTimer(_)
        | Action::PollHttp(_)
        | Action::StopPoll(_)
        | Action::EmitStatus(_)
        | Action::EmitLog(_)
        | Action::ReportMeta(_)
        | Action::Other(_) => false,
    }
}

fn label_call(label: LabelJob) -> ApiCall {
    let labels: serde_json::Map<String, serde_json::Value> =
        label.labels.into_iter().map(|Label { key, value }| (key, value.into())).collect();
    let patch_json = serde_json::json!({ "metadata": { "labels": labels } }).to_string();
    ApiCall::PatchJob { job: label.job, patch_json }
}
