//! Agents that have reported their end and keep running, and agents that their agent type watches.

use super::*;

/// An agent that has printed these lines and runs.
fn after(texts: &[&str], config: &Value) -> (Driver, u64) {
    let mut with_image = config.clone();
    with_image["image"] = json!("echo:1");
    let (mut driver, log) = Driver::start(&with_image).running();
    driver.step(&[lines(log, texts)]);
    (driver, log)
}

impl Driver {
    /// Lets time pass, and fires the timer of agents that have reported their end.
    fn wait(&mut self, seconds: u64) {
        self.now_ms += seconds * 1_000;
        self.step(&[Event::TimerFired(TimerName::Ended as u64)]);
    }
}

#[test]
fn an_agent_that_ends_after_its_report_is_not_stopped() {
    let (mut driver, log) = after(&["reported"], &json!({"resultGraceSec": 10}));
    assert_eq!(driver.names(), ["SetTimer"]);
    assert_eq!(driver.machine.phase(), "the agent has reported its end");
    driver.observe(PodPhase::Succeeded, ended(0, None));
    driver.wait(20);
    assert_eq!(driver.stop_cause(), None, "its container has ended: only its output is waited for");
    driver.step(&[log_ended(log)]);
    assert_eq!(driver.result().1.ending, Ending::Succeeded);
}

#[test]
fn an_agent_that_stays_after_its_report_is_stopped_and_succeeds() {
    let (mut driver, log) = after(&["reported"], &json!({}));
    driver.wait(5);
    let text = "[paperclip] The agent has reported its end, and its process runs: it is stopped in 55 s";
    assert_eq!(driver.statuses(), [text]);
    driver.wait(54);
    assert_eq!(driver.stop_cause(), None);
    driver.wait(1);
    assert_eq!(driver.stop_cause(), Some(DeleteCause::AttemptEnded));
    let text = "[paperclip] The agent keeps running after its report — deleting Job job";
    assert_eq!(driver.statuses(), [text]);
    driver.step(&[Event::JobDeleted(deletion("job", true))]);
    let (result, ending) = driver.end(log, 137);
    assert_eq!((result["errorCode"].as_str(), ending), (None, Ending::Succeeded));
}

#[test]
fn an_event_starts_the_grace_again_and_a_text_does_not() {
    let (mut driver, log) = after(&["reported"], &json!({"resultGraceSec": 10}));
    driver.now_ms += 9_000;
    driver.step(&[lines(log, &["another event"])]);
    driver.wait(9);
    assert_eq!(driver.stop_cause(), None);
    driver.step(&[lines(log, &["# a text"])]);
    driver.wait(1);
    assert_eq!(driver.stop_cause(), Some(DeleteCause::AttemptEnded));
}

#[test]
fn open_tasks_are_waited_for_and_a_second_report_replaces_the_first() {
    let (mut driver, log) = after(&["tasks 2", "reported"], &json!({}));
    driver.wait(5);
    let text = "[paperclip] The agent has reported its end, and its process runs: waiting for its 2 background tasks, for at most 900 s without an event";
    assert_eq!(driver.statuses(), [text]);
    driver.wait(800);
    assert_eq!(driver.stop_cause(), None);
    driver.step(&[lines(log, &["tasks 0", "failed"])]);
    driver.wait(59);
    assert_eq!(driver.stop_cause(), None);
    driver.wait(1);
    assert_eq!(driver.stop_cause(), Some(DeleteCause::AttemptEnded));
    assert_eq!(driver.end(log, 143).1, Ending::Failed);
}

#[test]
fn tasks_that_never_end_have_a_grace() {
    let (mut driver, log) = after(&["tasks 1", "reported"], &json!({"backgroundGraceSec": 300}));
    driver.wait(299);
    driver.step(&[lines(log, &["progress"])]);
    driver.wait(299);
    assert_eq!(driver.stop_cause(), None);
    driver.wait(1);
    assert_eq!(driver.stop_cause(), Some(DeleteCause::AttemptEnded));
    assert_eq!(driver.end(log, 143).1, Ending::Succeeded);
}

#[test]
fn an_agent_that_works_again_is_not_stopped() {
    let (mut driver, log) = after(&["reported", "again"], &json!({}));
    driver.wait(10_000);
    assert_eq!(driver.stop_cause(), None);
    driver.step(&[lines(log, &["reported"])]);
    driver.wait(60);
    assert_eq!(driver.stop_cause(), Some(DeleteCause::AttemptEnded));
}

#[test]
fn a_deadline_after_the_report_is_a_success() {
    let (mut driver, log) = after(&["reported"], &json!({"timeoutSec": 15, "resultGraceSec": 600}));
    driver.now_ms += 15_000;
    driver.step(&[Event::TimerFired(TimerName::Run as u64)]);
    assert_eq!(driver.stop_cause(), Some(DeleteCause::TimedOut));
    let (result, ending) = driver.end(log, 143);
    assert_eq!((result["errorCode"].as_str(), ending), (None, Ending::Succeeded));
}

#[test]
fn a_cancel_after_the_report_is_a_success() {
    for is_stopping in [false, true] {
        let (mut driver, log) = after(&["reported"], &json!({}));
        if is_stopping {
            driver.wait(60);
        }
        let cancel = CancelRequest { source: CancelSource::Operator, reason: None };
        driver.step(&[Event::CancelRequested(cancel)]);
        assert_eq!(driver.stop_cause(), (!is_stopping).then_some(DeleteCause::Cancelled));
        let (result, ending) = driver.end(log, 143);
        assert_eq!((result["errorCode"].as_str(), ending), (None, Ending::Succeeded));
    }
}

#[test]
fn an_agent_is_not_stopped_while_its_log_is_interrupted() {
    let (mut driver, log) = after(&["reported"], &json!({}));
    driver.step(&[Event::LogInterrupted(LogInterrupted { command: log, reason: "reset".to_owned() })]);
    driver.wait(600);
    assert_eq!(driver.stop_cause(), None, "it may have printed more");
    driver.step(&[Event::LogResumed(log)]);
    driver.wait(58);
    assert_eq!(driver.stop_cause(), None);
    driver.wait(2);
    assert_eq!(driver.stop_cause(), Some(DeleteCause::AttemptEnded));
}

#[test]
fn the_time_without_a_host_does_not_count_for_the_grace_after_a_report() {
    let (mut driver, _) = after(&["reported"], &json!({}));
    driver.now_ms += 600_000;
    driver.step(&[Event::HostResumed(600_000)]);
    assert_eq!(driver.stop_cause(), None);
    driver.wait(60);
    assert_eq!(driver.stop_cause(), Some(DeleteCause::AttemptEnded));
}

#[test]
fn a_second_attempt_follows_an_agent_that_was_stopped_after_its_report() {
    let (mut driver, log) = after(&["no session", "failed"], &json!({}));
    driver.wait(60);
    assert_eq!(driver.stop_cause(), Some(DeleteCause::AttemptEnded));
    driver.observe(PodPhase::Failed, ended(143, None));
    driver.step(&[log_ended(log)]);
    driver.step(&[Event::JobDeleted(deletion("job", true))]);
    driver.step(&[Event::PodDeleted(deletion("pod", true))]);
    driver.answer("DryRunPod", Ok(AnswerOk::Warnings(Vec::new())));
    let (mut driver, log) = driver.create().into_running();
    driver.step(&[lines(log, &["reported"])]);
    driver.wait(60);
    assert_eq!(driver.stop_cause(), Some(DeleteCause::AttemptEnded), "the grace of the second attempt");
    assert_eq!(driver.end(log, 143).1, Ending::Succeeded);
}

#[test]
fn an_agent_that_was_stopped_and_does_not_end_is_judged_by_its_report() {
    let (mut driver, _) = after(&["reported"], &json!({}));
    driver.wait(60);
    driver.now_ms += 18_000;
    driver.step(&[Event::TimerFired(TimerName::Stop as u64)]);
    assert_eq!(driver.result().1.ending, Ending::Succeeded);
}

#[test]
fn a_status_of_the_agent_type_is_shown_once() {
    let (mut driver, log) = after(&["retry 1"], &json!({}));
    assert_eq!(driver.statuses(), ["[paperclip] retry 1"]);
    driver.step(&[Event::LogResumed(log)]);
    assert_eq!(driver.statuses(), Vec::<&str>::new());
    driver.step(&[lines(log, &["retry 2"])]);
    assert_eq!(driver.statuses(), ["[paperclip] retry 2"]);
    driver.step(&[lines(log, &["working"])]);
    driver.step(&[lines(log, &["retry 2"])]);
    assert_eq!(driver.statuses(), ["[paperclip] retry 2"]);
}

#[test]
fn an_agent_type_stops_an_agent_that_does_not_come_to_an_end() {
    let (mut driver, log) = after(&["loops"], &json!({}));
    assert_eq!(driver.stop_cause(), Some(DeleteCause::TimedOut));
    let text = "[paperclip] The agent does not come to an end: it repeats itself — deleting Job job";
    assert_eq!(driver.statuses(), [text]);
    let (result, ending) = driver.end(log, 143);
    assert_eq!((result["errorMessage"].as_str(), ending), (Some("it repeats itself"), Ending::Failed));
}
