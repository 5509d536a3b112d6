//! Defects of the guest: events and commands are changed where they cross the contract.

use std::borrow::Cow;
use std::sync::Arc;

use paperclip_contract::types::{
    Action, AnswerOk, Command, Condition, ContainerState, ContainerStatus, DeleteCause, DeleteJob, Ending,
    Event, Finish, LogLine, ObjectRef,
};
use paperclip_engine::FaultCause;
use serde_json::{Map, Value, json};

use super::Mutant;
use crate::grammar::{Grammar, Tasks};

/// Breaks what passes between engine and guest.
#[derive(Debug)]
pub(crate) struct Saboteur {
    mutant: Option<Mutant>,
    grammar: Arc<Grammar>,
    /// The Job that the run created last.
    job: Option<ObjectRef>,
    is_over: bool,
    /// A timer that is set.
    timer: Option<u64>,
    /// The agent's container has ended.
    has_ended: bool,
    /// The run was stopped because its time has passed.
    is_timed_out: bool,
    instances: u64,
}

impl Saboteur {
    /// `instance` numbers the instances of a run, from 1.
    pub(crate) fn new(mutant: Option<Mutant>, grammar: Arc<Grammar>, instance: u64) -> Self {
        Saboteur {
            mutant,
            grammar,
            job: None,
            is_over: false,
            timer: None,
            has_ended: false,
            is_timed_out: false,
            instances: instance,
        }
    }

    pub(crate) fn on_events<'a>(&mut self, events: &'a [Event]) -> Result<Cow<'a, [Event]>, FaultCause> {
        let Some(mutant) = self.mutant else { return Ok(events.into()) };
        let mut events = events.to_vec();
        match mutant {
            Mutant::AnyStatusCancels => {
                for event in &mut events {
                    if let Event::HttpAnswered(answer) = event
                        && answer.status == 200
                        && !answer.body.contains("running")
                    {
                        answer.body = r#"{"status":"cancelled"}"#.to_owned();
                    }
                }
            }
            Mutant::CancelIgnored => {
                events.retain(|event| !matches!(event, Event::CancelRequested(_) | Event::HttpAnswered(_)));
            }
            Mutant::CancelIgnoredLater if self.instances > 1 => {
                events.retain(|event| !matches!(event, Event::CancelRequested(_) | Event::HttpAnswered(_)));
            }
            Mutant::BusyFails => {
                for event in &mut events {
                    if let Event::GuardBusy(busy) = event {
                        busy.is_final = true;
                    }
                }
            }
            Mutant::TimerEarly if !events.is_empty() => {
                events.extend(self.timer.take().map(Event::TimerFired));
            }
            Mutant::NeverEnds if self.is_over => events.clear(),
            Mutant::TasksIgnored => {
                let Some(Tasks { open, closed }) = &self.grammar.tasks else { return Ok(events.into()) };
                for event in &mut events {
                    let Event::LogLines(batch) = event else { continue };
                    for line in &mut batch.lines {
                        if *line == LogLine::Whole(open.clone()) {
                            *line = LogLine::Whole(closed.clone());
                        }
                    }
                }
            }
            Mutant::UpgradeTraps if self.instances > 1 => {
                return Err(FaultCause::Trap("cannot read what an older version wrote".to_owned()));
            }
            _ => {}
        }
        Ok(events.into())
    }

    pub(crate) fn on_commands(&mut self, events: &[Event], mut commands: Vec<Command>) -> Vec<Command> {
        for event in events {
            if let Event::Answered(answer) = event
                && let Ok(AnswerOk::Created(object)) = &answer.outcome
                && object.uid.starts_with("job-")
            {
                self.job = Some(object.clone());
            }
            self.has_ended |= matches!(event, Event::PodObserved(pod) if has_ended(&pod.containers));
        }
        if self.mutant == Some(Mutant::NeverEnds) && self.is_over {
            return Vec::new();
        }
        let Some(mutant) = self.mutant.filter(|_| !self.is_over) else { return commands };
        let deletes = |commands: &[Command], cause: DeleteCause| {
            let is_deletion = |command: &Command| matches!(&command.action, Action::DeleteJob(delete) if delete.cause == cause);
            commands.iter().any(is_deletion)
        };
        match mutant {
            Mutant::NeverEnds if !self.has_ended && deletes(&commands, DeleteCause::AttemptEnded) => {
                self.is_over = true;
                return Vec::new();
            }
            Mutant::EndedTimesOut => {
                self.is_timed_out |= deletes(&commands, DeleteCause::TimedOut);
                let is_timed_out = self.is_timed_out;
                for_result(&mut commands, |result, _| {
                    if is_timed_out && result.get("errorCode").is_none_or(Value::is_null) {
                        result.insert("errorCode".to_owned(), json!("timeout"));
                        result.insert("errorMessage".to_owned(), json!("Timed out"));
                    }
                });
            }
            Mutant::SigtermDeletes if events.contains(&Event::HostStopping) => {
                if let Some(job) = self.job.clone() {
                    let delete = Action::DeleteJob(DeleteJob { job, cause: DeleteCause::AttemptEnded });
                    commands.push(Command { id: next_id(&commands), action: delete });
                }
            }
            Mutant::BrokenStreamEnds
                if events.iter().any(|event| matches!(event, Event::LogInterrupted(_))) =>
            {
                let code = self.grammar.code("truncated");
                let result = json!({"exitCode": null, "errorCode": code, "errorMessage": "truncated"});
                return self.finish(&commands, &result);
            }
            Mutant::ErrorTimesOut
                if events
                    .iter()
                    .any(|event| matches!(event, Event::HttpAnswered(answer) if answer.status >= 500)) =>
            {
                let result =
                    json!({"exitCode": null, "errorCode": "timeout", "errorMessage": "Timed out after 0s"});
                return self.finish(&commands, &result);
            }
            Mutant::StallFails if events.iter().any(is_stalled) => {
                let result = json!({"exitCode": null, "errorCode": "k8s_pod_schedule_failed", "errorMessage": "no node"});
                return self.finish(&commands, &result);
            }
            Mutant::TimerEarly => {
                for command in &commands {
                    if let Action::SetTimer(timer) = &command.action {
                        self.timer = Some(timer.timer);
                    }
                }
            }
            Mutant::MaxTurnsUnnamed => for_result(&mut commands, |result, _| {
                if result.get("errorCode") == Some(&json!("max_turns_exhausted")) {
                    result.insert("errorCode".to_owned(), json!(self.grammar.code("run_failed")));
                }
            }),
            Mutant::UsageWithoutBasis => for_result(&mut commands, |result, _| {
                result.remove("usageBasis");
            }),
            Mutant::SessionLost => for_result(&mut commands, |result, _| {
                if result.contains_key("errorCode") {
                    result.insert("sessionId".to_owned(), Value::Null);
                }
            }),
            Mutant::ResultUnbounded => for_result(&mut commands, |result, _| {
                result.insert("resultJson".to_owned(), json!({"stdout": "x".repeat(1 << 20)}));
            }),
            Mutant::BlamedOnOthers => for_result(&mut commands, |result, _| {
                if matches!(result.get("errorCode").and_then(Value::as_str), Some("cancelled" | "timeout")) {
                    result.insert("errorCode".to_owned(), json!("k8s_job_deleted_externally"));
                }
            }),
            Mutant::NotDeterministic if self.instances > 1 => {
                commands.retain(|command| !matches!(command.action, Action::EmitStatus(_)));
            }
            Mutant::ExitCodeDecides => for_result(&mut commands, |result, _| {
                if result.get("exitCode") == Some(&json!(0)) {
                    result.remove("errorCode");
                    result.remove("errorMessage");
                }
            }),
            Mutant::DeletionClaimed => for_result(&mut commands, |result, _| {
                if result.get("errorCode") == Some(&json!(self.grammar.code("truncated"))) {
                    result.insert("errorCode".to_owned(), json!("k8s_job_deleted_externally"));
                }
            }),
            Mutant::NotCleanedUp => for_result(&mut commands, |_, delete_jobs| delete_jobs.clear()),
            _ => {}
        }
        commands
    }

    /// The run ends with this result, and its Job is deleted.
    fn finish(&mut self, commands: &[Command], result: &Value) -> Vec<Command> {
        self.is_over = true;
        let delete_jobs = self.job.clone().into_iter().collect();
        let finish = Finish { result_json: result.to_string(), ending: Ending::Failed, delete_jobs };
        vec![Command { id: next_id(commands), action: Action::Finish(finish) }]
    }
}

/// Whether a pod shows why it does not start.
fn is_stalled(event: &Event) -> bool {
    let Event::PodObserved(pod) = event else { return false };
    let is_unschedulable = |condition: &Condition| condition.reason.as_deref() == Some("Unschedulable");
    let is_waiting = |container: &ContainerStatus| match &container.state {
        ContainerState::Waiting(waiting) => waiting.reason.as_deref() != Some("ContainerCreating"),
        ContainerState::Running(_) | ContainerState::Terminated(_) | ContainerState::Unknown => false,
    };
    pod.conditions.iter().any(is_unschedulable) || pod.containers.iter().any(is_waiting)
}

/// Whether the agent's container has ended.
fn has_ended(containers: &[ContainerStatus]) -> bool {
    let is_ended = |container: &ContainerStatus| matches!(container.state, ContainerState::Terminated(_));
    containers.iter().any(is_ended)
}

/// An id that no command has had: the guest's own are far below.
fn next_id(commands: &[Command]) -> u64 {
    commands.last().map_or(1 << 40, |command| command.id + 1)
}

fn for_result(
    commands: &mut [Command],
    mut change: impl FnMut(&mut Map<String, Value>, &mut Vec<ObjectRef>),
) {
    for command in commands {
        if let Action::Finish(finish) = &mut command.action
            && let Ok(Value::Object(mut result)) = serde_json::from_str(&finish.result_json)
        {
            change(&mut result, &mut finish.delete_jobs);
            finish.result_json = Value::Object(result).to_string();
        }
    }
}
