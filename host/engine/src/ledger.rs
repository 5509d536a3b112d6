//! The ledger of a run: its open requests, timers, logs and Jobs, derived from nothing but the events and commands that crossed the
//! contract.
//!
//! The live engine and the replay of a journal update it by the same calls, so after a crash it lists what has to be requested again.

use paperclip_contract::actions::Objects;
use paperclip_contract::types::{
    AcquireGuard, Action, Answer, AnswerOk, Command, Event, FollowLog, NewSecret, ObjectRef, SecretSource,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::calls::is_transient;
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

/// The open state of a run; see the [module](self).
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
    /// Jobs of this run, by UID: it created or adopted them.
    pub(crate) jobs: BTreeMap<String, ObjectRef>,
    /// Manifests of Jobs that may have been created: the request had no answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "uncertain")]
    pub(crate) uncertain_creations: Vec<String>,
    /// Jobs that this run may have adopted: the request had no answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "unsure")]
    uncertain_adoptions: Vec<ObjectRef>,
    /// Jobs that this run requested to delete, by UID.
    pub(crate) deleted_jobs: BTreeMap<String, DeletionState>,
    /// Logs that are being read, by the id of the command.
    pub(crate) logs: BTreeMap<CommandId, OpenLog>,
    pub(crate) guard: GuardState,
    /// Secrets that this run requested to create, without their prompts. A host that resumes the run reads its values from them.
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

/// The state of a run's guard.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum GuardState {
    #[default]
    None,
    /// Requested; the run waits for it until this time.
    #[serde(rename = "Wanted")]
    Requested {
        guard: AcquireGuard,
        #[serde(rename = "until_ms")]
        until: Timestamp,
    },
    Held {
        guard: AcquireGuard,
    },
    /// It may be held or not: the requests had no answer.
    Unreachable {
        guard: AcquireGuard,
    },
    /// Another holder has it: nothing new may be created.
    Lost,
}

impl Ledger {
    /// Returns the Secrets in the cluster that contain the run's secrets.
    pub fn secrets(&self) -> &[NewSecret] {
        &self.secrets
    }

    /// Records a command that the plugin returned at this time.
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
        let properties = command.action.properties();
        if let Objects::OwnJobs(jobs) = properties.objects {
            jobs.iter().try_for_each(|job| self.require_own(job))?;
        }
        if properties.calls_api {
            self.open.insert(id, command.action.clone());
        }
        match &command.action {
            Action::AcquireGuard(guard) => {
                let until = at + Duration::from_millis(guard.wait_ms);
                self.guard = GuardState::Requested { guard: guard.clone(), until };
            }
            Action::ReleaseGuard => self.guard = GuardState::None,
            Action::CreateSecret(secret) => self.secrets.extend(without_prompt(secret)),
            Action::DeleteJob(delete) => {
                self.deleted_jobs.insert(delete.job.uid.clone(), DeletionState::Requested);
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
                        "poll of {path:?}: the path does not start with /api/"
                    )));
                }
                self.polls.insert(id.into(), poll.path.clone());
            }
            Action::StopPoll(poll) => {
                self.polls.remove(&PollId::new(*poll));
            }
            Action::Other(other) => {
                return Err(FaultCause::Contract(format!("this host knows no command {:?}", other.kind)));
            }
            // Their row in the table of actions says everything.
            _ => {}
        }
        Ok(())
    }

    /// Records an event that the plugin receives.
    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::GuardAcquired => {
                if let GuardState::Requested { guard, .. } = &self.guard {
                    self.guard = GuardState::Held { guard: guard.clone() };
                }
            }
            Event::GuardBusy(busy) if !busy.is_final => {}
            Event::GuardBusy(_) => self.guard = GuardState::None,
            Event::GuardUnreachable(_) => {
                if let GuardState::Requested { guard, .. } = &self.guard {
                    self.guard = GuardState::Unreachable { guard: guard.clone() };
                }
            }
            Event::GuardLost => self.guard = GuardState::Lost,
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

    /// Closes the answered command. A Job belongs to the run once the API has confirmed that the run created or adopted it.
    fn answered(&mut self, answer: &Answer) {
        match (self.open.remove(&CommandId::new(answer.command)), &answer.outcome) {
            (Some(Action::CreateJob(_)), Ok(AnswerOk::Created(job))) => {
                self.jobs.insert(job.uid.clone(), job.clone());
            }
            (Some(Action::CreateJob(new)), Err(error)) if is_transient(error) => {
                self.uncertain_creations.push(new.manifest_json);
            }
            (Some(Action::AdoptJob(_)), Ok(AnswerOk::Job(Some(job)))) => {
                self.jobs.insert(job.job.uid.clone(), job.job.clone());
            }
            (Some(Action::AdoptJob(label)), Err(error)) if is_transient(error) => {
                self.uncertain_adoptions.push(label.job);
            }
            (Some(Action::DeleteJob(delete)), Ok(_)) => {
                self.deleted_jobs.insert(delete.job.uid, DeletionState::Accepted);
            }
            (Some(_) | None, Ok(_) | Err(_)) => {}
        }
    }

    /// Returns Jobs that the run may have created or adopted without an answer. Those that it may have created have no UID.
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
        let answered =
            self.uncertain_creations.iter().filter_map(named).chain(self.uncertain_adoptions.iter().cloned());
        open.chain(answered).collect()
    }

    /// Records how far logs have been read.
    pub(crate) fn cursors(&mut self, cursors: &[(CommandId, Position)]) {
        for (command, position) in cursors {
            if let Some(log) = self.logs.get_mut(command) {
                log.position = position.clone();
            }
        }
    }

    /// Returns whether a log has not been read to its end.
    pub(crate) fn is_reading(&self) -> bool {
        !self.logs.is_empty()
    }

    /// Clears everything that is open except the guard, because the run has ended.
    pub(crate) fn close(&mut self) {
        self.open.clear();
        self.timers.clear();
        self.polls.clear();
        self.followed.clear();
        self.logs.clear();
    }

    /// Refuses a Job that this run neither created nor adopted.
    fn require_own(&self, job: &ObjectRef) -> Result<(), FaultCause> {
        if self.jobs.get(&job.uid).is_some_and(|own| own == job) {
            return Ok(());
        }
        Err(FaultCause::Contract(format!(
            "Job {} (uid {}) in {} is not this run's: it neither created nor adopted it",
            job.name, job.uid, job.namespace
        )))
    }
}

/// Returns a Secret without its prompts, or `None` if nothing else is in it.
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

    /// Returns a ledger with something open of each kind.
    pub(crate) fn full() -> Ledger {
        let job = ObjectRef { namespace: "n".into(), name: "j".into(), uid: "u".into() };
        let guard = AcquireGuard { key: "k".into(), namespace: "n".into(), wait_ms: 5 };
        let target =
            FollowLog { pod: job.clone(), container: "c".into(), restart_count: 0, control_tag: None };
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
            uncertain_adoptions: Vec::new(),
            uncertain_creations: Vec::new(),
            deleted_jobs: BTreeMap::from([("u".into(), DeletionState::Accepted)]),
            logs: BTreeMap::from([(CommandId::new(4), OpenLog { target, position: Position::default() })]),
            guard: GuardState::Held { guard },
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
    fn accepts_a_job_as_the_runs_own_after_its_creation_is_answered() {
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
    fn rejects_ids_that_do_not_increase_and_too_many_timers() {
        let mut ledger = Ledger::default();
        let now = Timestamp::from_millis(10);
        let timer = |id, timer| Command { id, action: Action::SetTimer(Timer { timer, after_ms: 5 }) };
        ledger.command(now, &timer(1, 7)).expect("a timer");
        assert_eq!(ledger.timers, BTreeMap::from([(TimerId::new(7), Timestamp::from_millis(15))]));
        assert!(matches!(ledger.command(now, &timer(1, 8)), Err(FaultCause::Contract(_))));
        for id in 2..=u64::from(MAX_TIMERS) {
            ledger.command(now, &timer(id, id + 100)).expect("below the limit");
        }
        assert!(matches!(ledger.command(now, &timer(99, 99)), Err(FaultCause::OverLimit { .. })));
    }
}
