//! Plugins that refuse a request, fail, or decide differently than before.

use super::*;
use crate::FaultCause;
use crate::run::ReplayError;

fn refusal() -> Refusal {
    Refusal {
        code: "k8s_config_invalid".into(),
        field: Some("image".into()),
        message: "image is missing".into(),
    }
}

/// A run whose plugin answers its start like this.
fn starting(start: Result<Refusal, FaultCause>) -> Run<Script> {
    let mut run = run(&[]);
    let fault = |cause| run.fault(cause);
    let start = start.map_err(fault);
    run.guest.start = Some(start);
    run
}

fn results(effects: &[Effect]) -> Vec<serde_json::Value> {
    let results = effects.iter().filter_map(|effect| match effect {
        Effect::Emit(SequencedRecord { record: Record::Result(result), .. }) => Some(json!(result)),
        _ => None,
    });
    results.collect()
}

#[test]
fn a_request_that_the_plugin_refuses_is_a_result_without_a_journal() {
    let (mut refused, mut journal) = (starting(Ok(refusal())), Vec::new());
    refused.handle(at(1_000), Input::Start);
    let done = effects(&mut refused, &mut journal);
    assert_eq!((names(&done), &journal[..]), (vec!["Refused".to_owned()], &[] as &[String]));
    let result = &results(&done)[0];
    assert_eq!(result["errorCode"], "k8s_config_invalid");
    assert!(
        result["errorMessage"].as_str().is_some_and(|text| text.contains("image is missing")),
        "{result}"
    );
}

#[test]
fn a_plugin_that_fails_at_its_start_ends_its_run_with_the_cause() {
    let (mut failed, mut journal) =
        (starting(Err(FaultCause::Trap("index out of bounds".into()))), Vec::new());
    failed.handle(at(1_000), Input::Start);
    let done = effects(&mut failed, &mut journal);
    assert_eq!(names(&done), ["Ended(Failed)"]);
    let result = &results(&done)[0];
    assert!(
        result["errorMessage"].as_str().is_some_and(|text| text.contains("index out of bounds")),
        "{result}"
    );
    assert!(journal.iter().any(|line| line.starts_with("{\"start\"")), "another host can see what failed");
}

#[test]
fn a_plugin_that_requests_too_much_in_one_call_ends_its_run() {
    let timers: Vec<Action> =
        (0..5_000).map(|timer| Action::SetTimer(Timer { timer, after_ms: 1 })).collect();
    let (mut failed, mut journal) = (run(&[&timers]), Vec::new());
    failed.handle(at(1_000), Input::Start);
    let done = effects(&mut failed, &mut journal);
    assert_eq!(names(&done), ["Ended(Failed)"]);
    let message = results(&done)[0]["errorMessage"].to_string();
    assert!(message.contains("commands in one call"), "{message}");
}

#[test]
fn a_replay_names_the_step_and_both_commands_where_a_plugin_decides_differently() {
    let (mut first, mut journal) = (run(&[&[guard()]]), Vec::new());
    first.handle(at(1_000), Input::Start);
    effects(&mut first, &mut journal);
    let replayed = |mut run: Run<Script>| {
        journal.iter().try_for_each(|line| run.replay(Entry::parse(line).expect("an entry"))).map(|()| run)
    };
    replayed(run(&[&[guard()]])).expect("the same plugin");

    let other = replayed(run(&[&[finish()]])).expect_err("another plugin").to_string();
    assert!(other.contains("AcquireGuard") && other.contains("Finish"), "{other}");
    let silent = replayed(run(&[&[]])).expect_err("another plugin").to_string();
    assert!(silent.contains("no further command"), "{silent}");
    let refused = replayed(starting(Ok(refusal()))).expect_err("another plugin");
    assert!(matches!(refused, ReplayError::Refused(_)), "{refused}");
    let failed = replayed(starting(Err(FaultCause::Trap("t".into())))).expect_err("another plugin");
    assert!(matches!(failed, ReplayError::Guest(_)), "{failed}");

    let start = || Entry::parse(&journal[0]).expect("an entry");
    let mut twice = run(&[]);
    twice.replay(start()).expect("the first");
    let error = twice.replay(start()).expect_err("a second one");
    assert!(matches!(error, ReplayError::Order(_)), "{error}");
}
