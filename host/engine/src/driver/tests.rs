//! The driver with a scripted plugin and an executor that succeeds, unless a test says otherwise.

use std::collections::VecDeque;

use paperclip_contract::types::{
    Action, CancelRequest, CancelSource, Command, Ending, Event, Finish, FollowLog, ObjectRef, Refusal,
    Request, Status, StatusLevel,
};
use serde_json::json;

use super::*;
use crate::ids::LogId;
use crate::intake::{self, IntakeFacts};
use crate::policy::{Grant, Policy};
use crate::redact::Redactor;
use crate::{GuestFault, PluginIdentity, RunSpec, SegmentLimits};

const NOW: Timestamp = Timestamp::from_millis(1_000);
const LIMITS: DriverLimits = DriverLimits { batch: 16, batch_bytes: 256 << 10, sink_bytes: 64 << 10 };

/// Answers its calls one after another with these actions.
#[derive(Debug)]
struct Script(VecDeque<Vec<Action>>);

impl Script {
    fn next(&mut self) -> Vec<Command> {
        let actions = self.0.pop_front().unwrap_or_default();
        (1..).zip(actions).map(|(id, action)| Command { id, action }).collect()
    }
}

impl Guest for Script {
    fn start(
        &mut self,
        _at: Timestamp,
        _request: &Request,
    ) -> Result<Result<Vec<Command>, Refusal>, GuestFault> {
        Ok(Ok(self.next()))
    }

    fn step(&mut self, _at: Timestamp, _events: &[Event]) -> Result<Vec<Command>, GuestFault> {
        Ok(self.next())
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, GuestFault> {
        Ok(Vec::new())
    }

    fn restore(&mut self, _snapshot: &[u8]) -> Result<Result<(), Refusal>, GuestFault> {
        Ok(Ok(()))
    }

    fn phase(&mut self) -> Result<String, GuestFault> {
        Ok(String::new())
    }
}

type Tested = Driver<Script, &'static str>;

fn driver(answers: &[&[Action]], notes: &[&str]) -> Tested {
    let context = json!({"runId": "r", "agent": {"id": "a"}});
    let (request, secrets) =
        intake::split(&context, "x", IntakeFacts::bare(Some("n"))).expect("a valid context");
    let spec = RunSpec {
        policy: Policy::new(Grant::default(), &request),
        request,
        host_id: "host".into(),
        redactor: Redactor::new(secrets.named()).expect("no secrets"),
        seed: 1,
        plugin: PluginIdentity::default(),
        poll_interval: Some(Duration::from_millis(1)),
        segments: SegmentLimits::default(),
        adopts: None,
        record: None,
        verifies_record: false,
    };
    let answers = answers.iter().map(|actions| actions.to_vec()).collect();
    let notes = notes.iter().map(|text| (Level::Info, (*text).to_owned())).collect();
    Driver::new(Run::new(spec, Script(answers)), notes)
}

/// A driver whose run has started with these answers, and whose first operations are done.
fn started(answers: &[&[Action]]) -> Tested {
    let mut driver = driver(answers, &[]);
    driver.handle_event(NOW, DriverEvent::HistoryEnded);
    operations(&mut driver);
    driver
}

/// Carries out all operations. Returns their names, with texts of records.
fn operations(driver: &mut Tested) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(operation) = driver.poll_operation() {
        names.push(name(&operation));
        if operation.has_completion() {
            assert_eq!(driver.poll_operation(), None, "{operation:?} is outstanding");
            driver.handle_completion(Ok(()));
        }
    }
    names
}

fn name(operation: &Operation) -> String {
    match operation {
        Operation::Show(records) => {
            let texts = records.iter().map(|record| match &record.record {
                Record::Status { text, .. } | Record::Log { text, .. } => text.as_str(),
                Record::Result(_) => "result",
                Record::Gap { .. } | Record::Meta(_) => "other",
            });
            format!("Show {}", texts.collect::<Vec<_>>().join(" "))
        }
        other => {
            let text = format!("{other:?}");
            text.split([' ', '(']).next().unwrap_or_default().to_owned()
        }
    }
}

fn status(text: &str) -> Action {
    Action::EmitStatus(Status { level: StatusLevel::Info, text: text.into() })
}

fn finish() -> Action {
    let finish = Finish { result_json: "{}".into(), ending: Ending::Succeeded, delete_jobs: Vec::new() };
    Action::Finish(finish)
}

fn cancel(awaits_acknowledgement: bool) -> DriverEvent<&'static str> {
    let request = CancelRequest { source: CancelSource::Operator, reason: None };
    DriverEvent::Cancel { request, awaits_acknowledgement }
}

fn sources(driver: &Tested) -> Vec<Source> {
    driver.poll_wait().expect("the run is driven").sources().collect()
}

#[test]
fn flushes_the_journal_before_it_shows_a_record() {
    let mut driver = driver(&[&[status("a"), status("b")]], &["note"]);
    assert_eq!(sources(&driver), [Source::History]);
    driver.handle_event(NOW, DriverEvent::HistoryEnded);
    assert_eq!(
        operations(&mut driver),
        ["ReportCaughtUp", "Append", "Append", "Append", "Flush", "Show note a b"]
    );
}

#[test]
fn acknowledges_a_cancel_once_it_is_durable() {
    let mut driver = started(&[]);
    driver.handle_event(NOW, cancel(true));
    driver.handle_event(NOW, DriverEvent::NothingReady);
    assert_eq!(operations(&mut driver), ["Append", "Sync", "AcknowledgeCancels"]);
    driver.handle_event(NOW, cancel(false));
    driver.handle_event(NOW, DriverEvent::NothingReady);
    assert_eq!(operations(&mut driver), ["Append"], "no sender waits");
}

#[test]
fn takes_a_batch_of_inputs_before_it_carries_out_their_effects() {
    let mut driver = started(&[]);
    for taken in 1..=LIMITS.batch {
        driver.handle_event(NOW, cancel(false));
        let is_batch_full = taken == LIMITS.batch;
        assert_eq!(driver.poll_operation().is_some(), is_batch_full, "{taken}");
        let wait = driver.poll_wait().expect("the run is driven");
        assert!(!wait.has(Source::Control), "{taken}");
        assert_eq!(wait.may_block(), is_batch_full, "{taken}");
    }
}

#[test]
fn takes_no_further_input_into_a_batch_that_has_its_bytes_of_logs() {
    let mut driver = started(&[]);
    let piece = |bytes| DriverEvent::Log { log: LogId::new(1), piece: LogPiece::Bytes(vec![b'x'; bytes]) };
    for (bytes, is_full) in [(LIMITS.batch_bytes - 1, false), (0, false), (1, true)] {
        driver.handle_event(NOW, piece(bytes));
        let _ = driver.poll_operation();
        assert_eq!(driver.poll_wait().expect("the run is driven").may_block(), is_full, "{bytes}");
    }
}

#[test]
fn shows_the_records_before_another_effect_together() {
    let pod = ObjectRef { namespace: "n".into(), name: "p".into(), uid: "u".into() };
    let follow =
        Action::FollowLog(FollowLog { pod, container: "c".into(), restart_count: 0, control_tag: None });
    let answers: &[&[Action]] = &[&[status("a"), status("b"), follow, status("c")]];
    let mut driver = driver(answers, &[]);
    driver.handle_event(NOW, DriverEvent::HistoryEnded);
    assert_eq!(
        operations(&mut driver),
        ["ReportCaughtUp", "Append", "Append", "Flush", "Show a b", "OpenLog", "Show c"]
    );
}

#[test]
fn reads_logs_last_and_only_while_the_sink_has_capacity() {
    let mut driver = driver(&[], &[&"x".repeat(LIMITS.sink_bytes)]);
    driver.handle_event(NOW, DriverEvent::HistoryEnded);
    operations(&mut driver);
    assert_eq!(
        sources(&driver),
        [Source::Control, Source::Answers, Source::Watches, Source::SinkFailure, Source::SinkProgress]
    );
    driver.handle_event(NOW, DriverEvent::SinkProgress { bytes: LIMITS.sink_bytes });
    assert_eq!(
        sources(&driver),
        [Source::Control, Source::Answers, Source::Watches, Source::Logs, Source::SinkFailure]
    );
}

#[test]
fn replays_no_further_entry_while_the_sink_has_no_capacity() {
    let mut driver = driver(&[], &[]);
    let entry = || Entry::Note { level: Level::Info, text: "x".repeat(LIMITS.sink_bytes).into() };
    driver.handle_event(NOW, DriverEvent::HistoryEntry(ReplayDepth::Records, Box::new(entry())));
    assert_eq!(operations(&mut driver).len(), 1);
    assert_eq!(sources(&driver), [Source::SinkFailure, Source::SinkProgress]);
    driver.handle_event(NOW, DriverEvent::SinkProgress { bytes: 2 * LIMITS.sink_bytes });
    assert_eq!(sources(&driver), [Source::History]);
    driver.handle_event(NOW, DriverEvent::SinkFailed("broken pipe"));
    let outcome = driver.into_outcome().expect("the run is released");
    assert_eq!(outcome.closing, Closing::Detached);
    assert!(matches!(outcome.failure, Some(Failure::External("broken pipe"))));
}

#[test]
fn a_failed_journal_releases_the_run_before_its_effects_are_carried_out() {
    let mut driver = driver(&[&[status("a")]], &[]);
    driver.handle_event(NOW, DriverEvent::HistoryEnded);
    assert_eq!(driver.poll_operation().map(|operation| name(&operation)).as_deref(), Some("ReportCaughtUp"));
    assert_eq!(driver.poll_operation().map(|operation| name(&operation)).as_deref(), Some("Append"));
    assert_eq!(sources(&driver), [], "an operation is outstanding");
    driver.handle_completion(Err("disk full"));
    assert_eq!(driver.poll_operation(), Some(Operation::CloseSink { within: Some(DETACH_DEADLINE) }));
    driver.handle_completion(Err("terminal closed"));
    assert_eq!((driver.poll_operation(), driver.poll_wait()), (None, None));
    let outcome = driver.into_outcome().expect("the run is released");
    assert_eq!((outcome.closing, outcome.result), (Closing::Detached, None));
    assert!(matches!(outcome.failure, Some(Failure::External("disk full"))), "the first failure is kept");
}

#[test]
fn a_failed_sink_stops_a_run_that_has_no_result() {
    let mut driver = started(&[]);
    driver.handle_event(NOW, DriverEvent::SinkFailed("broken pipe"));
    driver.handle_event(NOW, DriverEvent::NothingReady);
    assert_eq!(operations(&mut driver).last().map(String::as_str), Some("Sync"));
    let outcome = driver.into_outcome().expect("the run is released");
    assert_eq!(outcome.closing, Closing::Detached);
    assert!(matches!(outcome.failure, Some(Failure::External("broken pipe"))));
}

#[test]
fn syncs_the_journal_and_drains_the_sink_when_the_run_has_ended() {
    let mut driver = driver(&[&[finish()]], &[]);
    driver.handle_event(NOW, DriverEvent::HistoryEnded);
    let operations = operations(&mut driver);
    assert_eq!(operations[operations.len() - 4..], ["Flush", "Show result", "Sync", "CloseSink"]);
    let outcome = driver.into_outcome().expect("the run has ended");
    assert_eq!(outcome.closing, Closing::Ended(Ending::Succeeded));
    assert!(outcome.result.is_some() && outcome.failure.is_none());
}
