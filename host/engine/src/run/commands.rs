//! Commands of the plugin: checked against the contract and its limits, then turned into effects.

use paperclip_contract::types::{
    Action, Command, EmittedLog, Ending, Event, Finish, FollowLog, Label, LabelJob, LogLine, LogStream,
    ObjectRef, StatusLevel, Timer,
};

use super::{MAX_COMMANDS, MAX_TIMERS, Phase, Run};
use crate::api::ApiCall;
use crate::calls::{CLEANUP_RETRY_MS, COMMAND_RETRY_MS, Purpose};
use crate::guard;
use crate::guest::{FaultCause, Guest, GuestFault};
use crate::journal;
use crate::logs::Told;
use crate::port::{Closing, Effect};
use crate::record::{Level, Record, Stream};
use crate::result;

impl<G: Guest> Run<G> {
    /// Hands the collected events to the plugin, and does so again for what its commands brought about at once.
    pub(super) fn step_guest(&mut self) {
        while self.phase == Phase::Live && !self.events.is_empty() {
            let events = std::mem::take(&mut self.events);
            self.step += 1;
            self.effects.push_back(Effect::Append(journal::step_line(self.step, self.now_ms, &events)));
            let answer = self.guest.step(self.now_ms, &events);
            self.emit_lines(events);
            match answer {
                Ok(commands) => self.take_commands(commands),
                Err(fault) => self.break_off(&fault),
            }
        }
    }

    /// Shows the lines that the plugin has just read. They stand in the journal by now.
    fn emit_lines(&mut self, events: Vec<Event>) {
        for event in events {
            if let Event::LogLines(batch) = event {
                for (index, line) in (batch.first_index..).zip(batch.lines) {
                    let text = match line {
                        LogLine::Whole(text) => text,
                        LogLine::Cut(_) => self.logs.take_whole(index),
                    };
                    self.emit(Record::Log { stream: Stream::Stdout, index, text });
                }
            } else if let Event::LogGap(gap) = event {
                self.emit(Record::Gap {
                    index: gap.next_index,
                    lost_lines: gap.lost_lines,
                    lost_bytes: gap.lost_bytes,
                    reason: gap.reason,
                });
            }
        }
    }

    pub(super) fn take_commands(&mut self, commands: Vec<Command>) {
        if commands.is_empty() {
            return;
        }
        if let Err(cause) = self.check(&commands) {
            let fault = self.fault(cause);
            return self.break_off(&fault);
        }
        self.effects.push_back(Effect::Append(journal::commands_line(self.step, &commands)));
        if commands.iter().any(|command| is_external(&command.action)) {
            self.effects.push_back(Effect::Sync);
        }
        for command in commands {
            if self.phase != Phase::Live {
                return;
            }
            if let Err(cause) = self.take_command(command.id, command.action) {
                let fault = self.fault(cause);
                return self.break_off(&fault);
            }
        }
    }

    fn check(&mut self, commands: &[Command]) -> Result<(), FaultCause> {
        if commands.len() > MAX_COMMANDS as usize {
            let found = commands.len() as u64;
            return Err(FaultCause::OverLimit {
                what: "commands in one call",
                found,
                limit: MAX_COMMANDS.into(),
            });
        }
        for command in commands {
            if command.id <= self.last_command {
                return Err(FaultCause::Contract(format!(
                    "command id {} after {}: ids rise strictly",
                    command.id, self.last_command
                )));
            }
            self.last_command = command.id;
        }
        Ok(())
    }

    fn take_command(&mut self, id: u64, action: Action) -> Result<(), FaultCause> {
        match action {
            Action::AcquireGuard(wanted) => {
                let outcomes = self.lock.acquire(self.now_ms, wanted);
                self.take_lock(outcomes);
            }
            Action::ReleaseGuard => {
                let outcomes = self.lock.release();
                self.take_lock(outcomes);
            }
            Action::ListJobs(list) => {
                self.command(id, ApiCall::ListJobs { namespace: list.namespace, labels: list.labels });
            }
            Action::TryPod(pod) => self.command(id, ApiCall::TryPod { manifest_json: pod.manifest_json }),
            Action::CreateJob(job) => {
                self.command(id, ApiCall::CreateJob { manifest_json: job.manifest_json });
            }
            Action::CreateSecret(secret) => {
                self.own(&secret.owner)?;
                self.command(id, ApiCall::CreateSecret(secret));
            }
            Action::CreateConfigMap(map) => {
                self.own(&map.owner)?;
                self.command(id, ApiCall::CreateConfigMap(map));
            }
            Action::UnsuspendJob(job) => {
                self.own(&job)?;
                let patch_json = r#"{"spec":{"suspend":false}}"#.to_owned();
                self.command(id, ApiCall::PatchJob { job, patch_json });
            }
            Action::AdoptJob(label) => self.command(id, label_call(label)),
            Action::LabelJob(label) => {
                self.own(&label.job)?;
                self.command(id, label_call(label));
            }
            Action::DeleteJob(delete) => {
                self.own(&delete.job)?;
                self.deleted_jobs.insert(delete.job.uid.clone());
                self.command(id, ApiCall::DeleteJob { job: delete.job });
            }
            Action::FollowJob(job) => self.effects.push_back(Effect::Follow(job)),
            Action::LookUpJob(job) => {
                self.command(id, ApiCall::GetJob { namespace: job.namespace, name: job.name });
            }
            Action::LookUpPods(job) => self.command(id, ApiCall::ListPods { job }),
            Action::ListEvents(job) => self.command(id, ApiCall::ListEvents { job }),
            Action::FollowLog(follow) => self.follow_log(id, follow),
            Action::StopLog(log) => {
                self.logs.stop(log);
                self.drain_logs();
            }
            Action::ReadLog(read) => self.command(id, ApiCall::ReadLog(read)),
            Action::SetTimer(timer) => self.set_timer(&timer)?,
            Action::CancelTimer(timer) => {
                self.timers.remove(&timer);
            }
            Action::PollHttp(poll) => {
                if !poll.path.starts_with("/api/") {
                    return Err(FaultCause::Contract(format!(
                        "poll of {:?}: the path begins with /api/",
                        poll.path
                    )));
                }
                self.polls.begin(self.now_ms, id, poll.path);
            }
            Action::StopPoll(poll) => self.polls.stop(poll),
            Action::EmitStatus(status) => {
                let level = match status.level {
                    StatusLevel::Info => Level::Info,
                    StatusLevel::Warning => Level::Warning,
                    StatusLevel::Error => Level::Error,
                };
                self.emit(Record::Status { level, text: status.text });
            }
            Action::EmitLog(emitted) => self.emit_log(emitted),
            Action::ReportMeta(json) => match serde_json::from_str(&json) {
                Ok(serde_json::Value::Object(meta)) => self.emit(Record::Meta(meta)),
                Ok(_) | Err(_) => {
                    return Err(FaultCause::Contract("report-meta is not a JSON object".to_owned()));
                }
            },
            Action::Finish(finish) => self.finish(finish)?,
            Action::Other(other) => {
                return Err(FaultCause::Contract(format!("this host knows no command {:?}", other.kind)));
            }
        }
        Ok(())
    }

    fn command(&mut self, id: u64, request: ApiCall) {
        self.call_until(Purpose::Command(id), request, COMMAND_RETRY_MS);
    }

    /// Refuses to touch a Job that is not this run's.
    fn own(&self, job: &ObjectRef) -> Result<(), FaultCause> {
        if self.jobs.get(&job.uid).is_some_and(|own| own == job) {
            return Ok(());
        }
        Err(FaultCause::Contract(format!(
            "Job {} (uid {}) in {} is not this run's: it neither created nor adopted it",
            job.name, job.uid, job.namespace
        )))
    }

    fn set_timer(&mut self, timer: &Timer) -> Result<(), FaultCause> {
        self.timers.insert(timer.timer, self.now_ms.saturating_add(timer.after_ms));
        if self.timers.len() > MAX_TIMERS as usize {
            let found = self.timers.len() as u64;
            return Err(FaultCause::OverLimit { what: "timers", found, limit: MAX_TIMERS.into() });
        }
        Ok(())
    }

    fn follow_log(&mut self, id: u64, follow: FollowLog) {
        self.logs.begin(self.now_ms, id, follow);
        self.drain_logs();
    }

    fn emit_log(&mut self, emitted: EmittedLog) {
        let stream = match emitted.stream {
            LogStream::Stdout => Stream::Stdout,
            LogStream::Stderr => Stream::Stderr,
        };
        for text in emitted.lines {
            let index = self.logs.next_index();
            self.emit(Record::Log { stream, index, text });
        }
    }

    /// Takes what the log readers have to say or want done.
    pub(super) fn drain_logs(&mut self) {
        while let Some(told) =
            self.logs.poll(&self.spec.redactor, self.spec.request.host.limits.max_line_bytes)
        {
            match told {
                Told::Effect(effect) => self.effects.push_back(effect),
                Told::Event(event) => self.events.push(event),
                Told::Diagnostic(text) => {
                    let text = self.spec.redactor.mask(text);
                    self.emit(Record::Status { level: Level::Warning, text });
                }
            }
        }
    }

    pub(super) fn take_lock(&mut self, outcomes: Vec<guard::Outcome>) {
        for outcome in outcomes {
            match outcome {
                guard::Outcome::Call(call) => {
                    let for_ms = if self.phase == Phase::Live { COMMAND_RETRY_MS } else { CLEANUP_RETRY_MS };
                    self.call_until(Purpose::Guard, call, for_ms);
                }
                guard::Outcome::Acquired => self.events.push(Event::GuardAcquired),
                guard::Outcome::Busy(busy) => self.events.push(Event::GuardBusy(busy)),
                guard::Outcome::Unreachable(error) => self.events.push(Event::GuardUnreachable(error)),
                guard::Outcome::Lost => self.events.push(Event::GuardLost),
                guard::Outcome::Released => {}
            }
        }
    }

    // ------------------------------------------------------------------ the end

    fn finish(&mut self, finish: Finish) -> Result<(), FaultCause> {
        let Ok(serde_json::Value::Object(record)) = serde_json::from_str(&finish.result_json) else {
            return Err(FaultCause::Contract("the result is not a JSON object".to_owned()));
        };
        for job in &finish.delete_jobs {
            self.own(job)?;
        }
        self.end(record, finish.ending, finish.delete_jobs);
        Ok(())
    }

    /// The plugin is of no more use: the run ends with the fault as its cause, and its Jobs go.
    pub(super) fn break_off(&mut self, fault: &GuestFault) {
        let jobs = self.jobs.values().cloned().collect();
        self.end(result::of_fault(fault), Ending::Failed, jobs);
    }

    fn end(
        &mut self,
        record: serde_json::Map<String, serde_json::Value>,
        ending: Ending,
        delete_jobs: Vec<ObjectRef>,
    ) {
        self.events.clear();
        self.effects.push_back(Effect::Append(journal::end_line(self.step, &record)));
        self.effects.push_back(Effect::Sync);
        let record = result::mask(record, &self.spec.redactor);
        self.effects.push_back(Effect::Emit(Record::Result(record)));
        self.phase = Phase::CleaningUp(ending);
        self.timers.clear();
        self.polls.clear();
        self.logs.stop_all();
        self.drain_logs();
        self.events.clear();
        for job in delete_jobs {
            if self.deleted_jobs.insert(job.uid.clone()) {
                self.call_until(Purpose::Cleanup, ApiCall::DeleteJob { job }, CLEANUP_RETRY_MS);
            }
        }
        let outcomes = self.lock.release();
        self.take_lock(outcomes);
    }

    pub(super) fn close_when_done(&mut self) {
        let is_guard_busy = self.calls.is_waiting_for(&Purpose::Guard);
        let closing = match self.phase {
            Phase::CleaningUp(ending) if !is_guard_busy && !self.calls.is_waiting_for(&Purpose::Cleanup) => {
                Closing::Ended(ending)
            }
            Phase::Detaching { until_ms } if !is_guard_busy || until_ms <= self.now_ms => Closing::Detached,
            Phase::CleaningUp(_) | Phase::Detaching { .. } | Phase::New | Phase::Live | Phase::Closed => {
                return;
            }
        };
        self.phase = Phase::Closed;
        self.effects.push_back(Effect::Close(closing));
    }

    /// Shows a record, with the run's own secrets masked where a plugin or a server wrote text.
    pub(super) fn emit(&mut self, record: Record) {
        let record = match record {
            Record::Status { level, text } => Record::Status { level, text: self.spec.redactor.mask(text) },
            Record::Meta(meta) => Record::Meta(result::mask(meta, &self.spec.redactor)),
            record @ (Record::Log { .. } | Record::Gap { .. } | Record::Result(_)) => record,
        };
        self.effects.push_back(Effect::Emit(record));
    }

    fn fault(&self, cause: FaultCause) -> GuestFault {
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

/// Whether a command changes the world, so that its cause has to be on disk before it is carried out.
fn is_external(action: &Action) -> bool {
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
        | Action::TryPod(_)
        | Action::FollowJob(_)
        | Action::LookUpJob(_)
        | Action::LookUpPods(_)
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
