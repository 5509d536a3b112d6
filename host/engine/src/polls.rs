//! Polls of Paperclip's API.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::PollId;
use crate::time::Timestamp;

#[derive(Debug)]
struct Poll {
    path: String,
    /// When to send the next request; none while an answer is outstanding.
    next_at: Option<Timestamp>,
    last: Option<(u16, String)>,
    /// Consecutive failures.
    failures: u32,
}

/// The polls that a plugin has started.
#[derive(Debug)]
pub(crate) struct Polls {
    /// None: no request is ever sent.
    interval: Option<Duration>,
    polls: BTreeMap<PollId, Poll>,
}

impl Polls {
    pub(crate) fn new(interval: Option<Duration>) -> Self {
        Polls { interval, polls: BTreeMap::new() }
    }

    /// Starts a poll. The first request is sent an interval from now, because a run is not cancelled before it has started.
    pub(crate) fn start(&mut self, now: Timestamp, poll: PollId, path: String) {
        let next_at = self.next_at(now);
        self.polls.insert(poll, Poll { path, next_at, last: None, failures: 0 });
    }

    fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.interval.map(|interval| now + interval)
    }

    pub(crate) fn stop(&mut self, poll: PollId) {
        self.polls.remove(&poll);
    }

    pub(crate) fn clear(&mut self) {
        self.polls.clear();
    }

    /// Processes an answer. Returns whether it differs from the last one.
    pub(crate) fn answered(&mut self, now: Timestamp, poll: PollId, status: u16, body: &str) -> bool {
        let next_at = self.next_at(now);
        let Some(poll) = self.polls.get_mut(&poll) else { return false };
        poll.next_at = next_at;
        poll.failures = 0;
        let is_new = poll.last.as_ref().is_none_or(|(s, b)| (*s, b.as_str()) != (status, body));
        if is_new {
            poll.last = Some((status, body.to_owned()));
        }
        is_new
    }

    /// Processes a failure. Returns the number of consecutive failures, or `None` if the poll was stopped.
    pub(crate) fn failed(&mut self, now: Timestamp, poll: PollId) -> Option<u32> {
        let next_at = self.next_at(now);
        let poll = self.polls.get_mut(&poll)?;
        poll.next_at = next_at;
        poll.failures += 1;
        Some(poll.failures)
    }

    /// Returns the polls whose request is due.
    pub(crate) fn due(&mut self, now: Timestamp) -> Vec<(PollId, String)> {
        let mut due = Vec::new();
        for (id, poll) in &mut self.polls {
            if poll.next_at.is_some_and(|at| at <= now) {
                poll.next_at = None;
                due.push((*id, poll.path.clone()));
            }
        }
        due
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.polls.values().filter_map(|poll| poll.next_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(15);

    #[test]
    fn seed_16_a_poll_is_sent_an_interval_after_the_last_answer_whatever_that_was() {
        let poll = PollId::new(7);
        let mut polls = Polls::new(Some(INTERVAL));
        let mut now = Timestamp::from_millis(1_000);
        polls.start(now, poll, "/run".to_owned());
        for answer in
            [Some((200, "running")), Some((503, "busy")), None, Some((404, "")), None, Some((200, "x"))]
        {
            assert_eq!(polls.deadline(), Some(now + INTERVAL));
            assert_eq!(polls.due(now + Duration::from_millis(14_999)), []);
            now += INTERVAL;
            assert_eq!(polls.due(now), [(poll, "/run".to_owned())]);
            assert_eq!(polls.due(now + INTERVAL), [], "one request at a time");
            now += Duration::from_secs(3);
            match answer {
                Some((status, body)) => assert!(polls.answered(now, poll, status, body)),
                None => assert_eq!(polls.failed(now, poll), Some(1)),
            }
        }
        assert!(!polls.answered(now, poll, 200, "x"), "it was answered before");
        polls.stop(poll);
        assert_eq!((polls.failed(now, poll), polls.deadline()), (None, None));
    }

    #[test]
    fn a_run_whose_client_requests_cancellations_itself_sends_no_poll() {
        let mut polls = Polls::new(None);
        let now = Timestamp::from_millis(1_000);
        polls.start(now, PollId::new(7), "/run".to_owned());
        assert_eq!(polls.deadline(), None);
        assert_eq!(polls.due(now + INTERVAL * 1_000), []);
    }
}
