//! Agents that run and print nothing.

use super::*;

impl Driver {
    /// Lets time pass, and fires the timer of agents that print nothing.
    fn be_quiet(&mut self, seconds: u64) {
        self.now_ms += seconds * 1_000;
        self.step(&[Event::TimerFired(TimerName::Quiet as u64)]);
    }

    /// When the timer of agents that print nothing is due, in seconds.
    fn quiet_timer(&self) -> Option<u64> {
        self.commands.iter().find_map(|command| match &command.action {
            Action::SetTimer(timer) if timer.timer == TimerName::Quiet as u64 => Some(timer.after_ms / 1_000),
            _ => None,
        })
    }
}

fn running(config: &Value) -> (Driver, u64) {
    let mut with_image = config.clone();
    with_image["image"] = json!("echo:1");
    Driver::start(&with_image).running()
}

#[test]
fn a_quiet_agent_is_shown_at_growing_intervals() {
    let (mut driver, log) = running(&json!({}));
    assert_eq!(driver.quiet_timer(), Some(300));
    driver.step(&[lines(log, &["a call of the tool Bash"])]);
    let mut shown = Vec::new();
    for minute in 1..=90 {
        driver.be_quiet(60);
        shown.extend(driver.statuses().into_iter().map(|text| (minute, text.to_owned())));
        assert_eq!(driver.stop_cause(), None, "silence ends nothing");
    }
    let minutes: Vec<u64> = shown.iter().map(|(minute, _)| *minute).collect();
    assert_eq!(minutes, [5, 10, 20, 40, 80]);
    let last = "its last event was a call of the tool Bash";
    assert_eq!(shown[0].1, format!("[paperclip] The agent has printed nothing for 5 min: {last}"));
    assert_eq!(shown[4].1, format!("[paperclip] The agent has printed nothing for 1 h 20 min: {last}"));

    driver.step(&[lines(log, &["a message"])]);
    driver.be_quiet(300);
    let text = "[paperclip] The agent has printed nothing for 5 min: its last event was a message";
    assert_eq!(driver.statuses(), [text]);
}

#[test]
fn an_agent_that_has_printed_nothing_at_all_is_shown() {
    let (mut driver, _) = running(&json!({}));
    driver.be_quiet(300);
    let text = "[paperclip] The agent has printed nothing for 5 min: it has printed no event so far";
    assert_eq!(driver.statuses(), [text]);
    assert_eq!(driver.quiet_timer(), Some(299), "the status was shown within a second");
}

#[test]
fn a_limit_of_silence_ends_the_run() {
    let (mut driver, log) = running(&json!({"quietTimeoutSec": 600}));
    driver.step(&[lines(log, &["working"])]);
    driver.be_quiet(599);
    assert_eq!(driver.stop_cause(), None);
    driver.step(&[lines(log, &["# a text is output, too"])]);
    driver.be_quiet(599);
    assert_eq!(driver.stop_cause(), None);
    driver.be_quiet(1);
    assert_eq!(driver.stop_cause(), Some(DeleteCause::TimedOut));
    let text =
        "[paperclip] The agent does not come to an end: it has printed nothing for 600 s — deleting Job job";
    assert_eq!(driver.statuses().last(), Some(&text));
    let (result, ending) = driver.end(log, 143);
    assert_eq!((result["errorCode"].as_str(), ending), (Some("agent_quiet"), Ending::Failed));
    assert_eq!(result["errorMessage"], "quiet for 600 s");
}

#[test]
fn an_interrupted_log_is_not_a_quiet_agent() {
    let (mut driver, log) = running(&json!({"quietTimeoutSec": 600}));
    driver.step(&[Event::LogInterrupted(LogInterrupted { command: log, reason: "reset".to_owned() })]);
    driver.be_quiet(10_000);
    assert_eq!((driver.statuses().len(), driver.stop_cause()), (0, None));
    driver.step(&[Event::LogResumed(log)]);
    driver.be_quiet(590);
    assert_eq!((driver.statuses().len(), driver.stop_cause()), (1, None));
    driver.be_quiet(10);
    assert_eq!(driver.stop_cause(), Some(DeleteCause::TimedOut));
}

#[test]
fn an_agent_that_has_reported_its_end_is_not_ended_for_its_silence() {
    let config = json!({"quietTimeoutSec": 10, "backgroundGraceSec": 100});
    let (mut driver, log) = running(&config);
    driver.step(&[lines(log, &["tasks 1", "reported"])]);
    driver.be_quiet(99);
    assert_eq!(driver.stop_cause(), None);
    driver.be_quiet(1);
    assert_eq!(driver.stop_cause(), Some(DeleteCause::AttemptEnded));
}

#[test]
fn a_run_without_a_time_limit_says_so_first() {
    let unlimited = Driver::start(&json!({"image": "echo:1"}));
    assert_eq!(unlimited.statuses(), ["[paperclip] This run has no time limit: timeoutSec is 0"]);
    assert_eq!(unlimited.names(), ["EmitStatus", "AcquireGuard"]);
    assert_eq!(Driver::with_image().statuses(), Vec::<&str>::new());
}
