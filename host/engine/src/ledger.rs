//! What a run has open: all that follows from the events and commands that crossed the contract, and nothing else.
//!
//! The live engine and the replay of a journal keep it by the same calls, so that after a crash it says what is to be asked for again.

use paperclip_contract::types::{
    AcquireGuard, Action, Answer, AnswerOk, Command, Event, FollowLog, NewSecret, ObjectRef, SecretSource,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::calls::is_passing;
use crate::guest::FaultCause;
use crate::ids::{CommandId, PollId, TimerId};
use crate::log::Position;
use crate::manifest;
use crate::record::RecordSequencer;
use crate::time::Timestamp;
/// Most timers that a plugin may have set at a time.
pub const MAX_TIMERS: u32 = 64;
/// Most commands that one call of a plugin may return.
pub const MAX_COMMANDS: u32 = 256;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    pub(crate) last_command: u64,
    /// Commands that wait for an answer of the API, by id.
    pub(crate) open: BTreeMap<CommandId, Action>,
    /// When the plugin's timers are due.
    pub(crate) timers: BTreeMap<TimerId, Timestamp>,
    /// Paths that are polled.
    pub(crate) polls: BTreeMap<PollId, String>,
    /// Jobs that are followed, by UID.
    pub(crate) followed: BTreeMap<String, ObjectRef>,
    /// Jobs that are this run's own, by UID: created or adopted.
    pub(crate) jobs: BTreeMap<String, ObjectRef>,
    /// Manifests of Jobs that may have been created: no call had an answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) uncertain: Vec<String>,
    /// Jobs that may be this run's by an adoption without an answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unsure: Vec<ObjectRef>,
    /// Jobs that this run asked to delete, by UID.
    pub(crate) deleted_jobs: BTreeMap<String, DeletionState>,
    /// Logs that are read, by the id of the command.
    pub(crate) logs: BTreeMap<CommandId, OpenLog>,
    pub(crate) guard: Claim,
    /// Secrets that this run asked to create, without their prompts: where its secrets are read back from.
    #[serde(default)]
    secrets: Vec<NewSecret>,
    #[serde(rename = "teller")]
    pub(crate) sequencer: RecordSequencer,
}

/// How far a deletion has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeletionState {
    #[serde(rename = "Asked")]
    Requested,
    /// The API accepted it.
    #[serde(rename = "Answered")]
    Accepted,
}

/// A log that is being read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenLog {
    pub(crate) target: FollowLog,
    /// After the last line that was delivered.
    pub(crate) position: Position,
}

/// Where a run stands with its guard.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum Claim {
    #[default]
    None,
    /// Asked for, until this time.
    Wanted {
        guard: AcquireGuard,
        #[serde(rename = "until_ms")]
        until: Timestamp,
    },
    Held {
        guard: AcquireGuard,
    },
    /// Nobody knows whether it was had: no call had an answer.
    Unreachable {
        guard: AcquireGuard,
    },
    /// Another host has it: nothing is begun any more.
    Lost,
}

impl Ledger {
    /// Where the run's secrets stand in the cluster.
    pub fn secrets(&self) -> &[NewSecret] {
        &self.secrets
    }

    /// Takes note of a command that the plugin gave at this time.
    ///
    /// # Errors
    /// The command breaks the contract or a limit; it must not be carried out.
    pub(crate) fn command(&mut self, at: Timestamp, command: &Command) -> Result<(), FaultCause> {
        if command.id <= self.last_command {
            let (id, last) = (command.id, self.last_command);
            return Err(FaultCause::Contract(format!("command id {id} after {last}: ids rise strictly")));
        }
        self.last_command = command.id;
        let id = CommandId::new(command.id);
        match &command.action {
            Action::AcquireGuard(guard) => {
                let until = at + Duration::from_millis(guard.wait_ms);
                self.guard = Claim::Wanted { guard: guard.clone(), until };
            }
            Action::ReleaseGuard => self.guard = Claim::None,
            Action::ListJobs(_)
            | Action::DryRunPod(_)
            | Action::CreateJob(_)
            | Action::AdoptJob(_)
            | Action::GetJob(_)
            | Action::ListPods(_)
            | Action::ListEvents(_)
            | Action::ReadLog(_) => self.open(command),
            Action::CreateSecret(secret) => {
                self.own(&secret.owner)?;
                self.secrets.extend(without_prompt(secret));
                self.open(command);
            }
            Action::CreateConfigMap(map) => {
                self.own(&map.owner)?;
                self.open(command);
            }
            Action::UnsuspendJob(job) => {
                self.own(job)?;
                self.open(command);
            }
            Action::LabelJob(label) => {
                self.own(&label.job)?;
                self.open(command);
            }
            Action::DeleteJob(delete) => {
                self.own(&delete.job)?;
                self.deleted_jobs.insert(delete.job.uid.clone(), DeletionState::Requested);
                self.open(command);
            }
            Action::FollowJob(job) => {
                self.followed.insert(job.uid.clone(), job.clone());
            }
            Action::FollowLog(target) => {
                let log = OpenLog { target: target.clone(), position: Position::default() };
                self.logs.insert(id, log);
            }
            Action::StopLog(log) => {
                self.logs.remove(&CommandId::new(*log));
            }
            Action::SetTimer(timer) => {
                let due_at = at + Duration::from_millis(timer.after_ms);
                self.timers.insert(TimerId::new(timer.timer), due_at);
                let found = self.timers.len() as u64;
                if found > MAX_TIMERS.into() {
                    return Err(FaultCause::OverLimit { what: "timers", found, limit: MAX_TIMERS.into() });
                }
            }
            Action::CancelTimer(timer) => {
                self.timers.remove(&TimerId::new(*timer));
            }
            Action::PollHttp(poll) => {
                if !poll.path.starts_with("/api/") {
                    let path = &poll.path;
                    return Err(FaultCause::Contract(format!(
                        "poll of {path:?}: the path begins with /api/"
                    )));
                }
                self.polls.insert(id.into(), poll.path.clone());
            }
            Action::StopPoll(poll) => {
                self.polls.remove(&PollId::new(*poll));
            }
            Action::Finish(finish) => {
                for job in &finish.delete_jobs {
                    self.own(job)?;
                }
            }
            Action::EmitLog(_) | Action::EmitStatus(_) | Action::ReportMeta(_) => {}
            Action::Other(other) => {
                return Err(FaultCause::Contract(format!("this host knows no command {:?}", other.kind)));
            }
        }
        Ok(())
    }

    fn open(&mut self, command: &Command) {
        self.open.insert(CommandId::new(command.id), command.action.clone());
    }

    /// Takes note of an event that the plugin is given.
    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::GuardAcquired => {
                if let Claim::Wanted { guard, .. } = &self.guard {
                    self.guard = Claim::Held { guard: guard.clone() };
                }
            }
            Event::GuardBusy(busy) if !busy.is_final => {}
            Event::GuardBusy(_) => self.guard = Claim::None,
            Event::GuardUnreachable(_) => {
                if let Claim::Wanted { guard, .. } = &self.guard {
                    self.guard = Claim::Unreachable { guard: guard.clone() };
                }
            }
            Event::GuardLost => self.guard = Claim::Lost,
            Event::Answered(answer) => self.answered(answer),
            Event::LogEnded(ended) => {
                self.logs.remove(&CommandId::new(ended.command));
            }
            Event::TimerFired(timer) => {
                self.timers.remove(&TimerId::new(*timer));
            }
            Event::JobObserved(_)
            | Event::JobDeleted(_)
            | Event::PodObserved(_)
            | Event::PodDeleted(_)
            | Event::LogLines(_)
            | Event::LogInterrupted(_)
            | Event::LogResumed(_)
            | Event::LogGap(_)
            | Event::HttpAnswered(_)
            | Event::HttpFailed(_)
            | Event::CancelRequested(_)
            | Event::HostStopping
            | Event::HostResumed(_)
            | Event::Other(_) => {}
        }
    }

    /// A Job is the run's own once the API said that it created or adopted it.
    fn answered(&mut self, answer: &Answer) {
        match (self.open.remove(&CommandId::new(answer.command)), &answer.outcome) {
            (Some(Action::CreateJob(_)), Ok(AnswerOk::Created(job))) => {
                self.jobs.insert(job.uid.clone(), job.clone());
            }
            (Some(Action::CreateJob(new)), Err(error)) if is_passing(error) => {
                self.uncertain.push(new.manifest_json);
            }
            (Some(Action::AdoptJob(_)), Ok(AnswerOk::Job(Some(job)))) => {
                self.jobs.insert(job.job.uid.clone(), job.job.clone());
            }
            (Some(Action::AdoptJob(label)), Err(error)) if is_passing(error) => {
                self.unsure.push(label.job);
            }
            (Some(Action::DeleteJob(delete)), Ok(_)) => {
                self.deleted_jobs.insert(delete.job.uid, DeletionState::Accepted);
            }
            (Some(_) | None, Ok(_) | Err(_)) => {}
        }
    }

    /// Jobs that may exist, or be this run's, although no answer said so; those that may exist without their UID.
    pub(crate) fn uncertain_jobs(&self) -> Vec<ObjectRef> {
        let named = |manifest_json: &String| {
            let (namespace, name) = manifest::job_name(manifest_json)?;
            Some(ObjectRef { namespace, name, uid: String::new() })
        };
        let open = self.open.values().filter_map(|action| match action {
            Action::CreateJob(new) => named(&new.manifest_json),
            Action::AdoptJob(label) => Some(label.job.clone()),
            _ => None,
        });
        let answered = self.uncertain.iter().filter_map(named).chain(self.unsure.iter().cloned());
        open.chain(answered).collect()
    }

    /// Takes note of how far logs have been read.
    pub(crate) fn cursors(&mut self, cursors: &[(CommandId, Position)]) {
        for (command, position) in cursors {
            if let Some(log) = self.logs.get_mut(command) {
                log.position = position.clone();
            }
        }
    }

    /// Whether a log has not come to its end.
    pub(crate) fn is_reading(&self) -> bool {
        !self.logs.is_empty()
    }

    /// The run is over: nothing of it is open any more but its guard.
    pub(crate) fn close(&mut self) {
        self.open.clear();
        self.timers.clear();
        self.polls.clear();
        self.followed.clear();
        self.logs.clear();
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
}

/// A Secret as far as it holds secrets.
pub fn without_prompt(secret: &NewSecret) -> Option<NewSecret> {
    let mut secret = secret.clone();
    secret.entries.retain(|entry| !matches!(entry.source, SecretSource::Prompt(_)));
    (!secret.entries.is_empty()).then_some(secret)
}

/// Ledgers for tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use paperclip_contract::types::{ListJobs, NewObject};

    /// With something open of each kind.
    pub(crate) fn full() -> Ledger {
        let job = ObjectRef { namespace: "n".into(), name: "j".into(), uid: "u".into() };
        let guard = AcquireGuard { key: "k".into(), namespace: "n".into(), wait_ms: 5 };
        let target = FollowLog { pod: job.clone(), container: "c".into(), restart_count: 0 };
        let list = ListJobs { namespace: "n".into(), labels: Vec::new() };
        Ledger {
            last_command: 9,
            open: BTreeMap::from([
                (CommandId::new(8), Action::ListJobs(list)),
                (CommandId::new(9), Action::CreateJob(NewObject { manifest_json: "{}".into() })),
            ]),
            timers: BTreeMap::from([(TimerId::new(1), Timestamp::from_millis(2))]),
            polls: BTreeMap::from([(PollId::new(3), "/api/x".into())]),
            followed: BTreeMap::from([("u".into(), job.clone())]),
            jobs: BTreeMap::from([("u".into(), job)]),
            unsure: Vec::new(),
            uncertain: Vec::new(),
            deleted_jobs: BTreeMap::from([("u".into(), DeletionState::Accepted)]),
            logs: BTreeMap::from([(CommandId::new(4), OpenLog { target, position: Position::default() })]),
            guard: Claim::Held { guard },
            secrets: Vec::new(),
            sequencer: RecordSequencer::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_contract::types::{DeleteCause, DeleteJob, NewObject, Timer};

    fn job(uid: &str) -> ObjectRef {
        ObjectRef { namespace: "n".into(), name: "j".into(), uid: uid.into() }
    }

    fn delete(id: u64, uid: &str) -> Command {
        Command { id, action: Action::DeleteJob(DeleteJob { job: job(uid), cause: DeleteCause::Cancelled }) }
    }

    #[test]
    fn a_job_is_own_once_its_creation_was_answered() {
        let mut ledger = Ledger::default();
        let create = Command { id: 1, action: Action::CreateJob(NewObject { manifest_json: "{}".into() }) };
        ledger.command(Timestamp::EPOCH, &create).expect("a good command");
        assert!(ledger.clone().command(Timestamp::EPOCH, &delete(2, "u")).is_err());
        ledger.event(&Event::Answered(Answer { command: 1, outcome: Ok(AnswerOk::Created(job("u"))) }));
        assert!(ledger.open.is_empty());
        ledger.clone().command(Timestamp::EPOCH, &delete(2, "u")).expect("its own");
        assert!(ledger.command(Timestamp::EPOCH, &delete(2, "other")).is_err());
    }

    #[test]
    fn ids_rise_and_timers_are_bounded() {
        let mut ledger = Ledger::default();
        let now = Timestamp::from_millis(10);
        let timer = |id, timer| Command { id, action: Action::SetTimer(Timer { timer, after_ms: 5 }) };
        ledger.command(now, &timer(1, 7)).expect("a timer");
        assert_eq!(ledger.timers, BTreeMap::from([(TimerId::new(7), Timestamp::from_millis(15))]));
        assert!(matches!(ledger.command(now, &timer(1, 8)), Err(FaultCause::Contract(_))));
        for id in 2..=u64::from(MAX_TIMERS) {
            ledger.command(now, &timer(id, id + 100)).expect("as many as may be");
        }
        assert!(matches!(ledger.command(now, &timer(99, 99)), Err(FaultCause::OverLimit { .. })));
    }
}
