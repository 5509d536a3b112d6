//! A client of one run: starts it at a random replica, follows it and reconnects with its cursor at others, until it has the result.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::http;
use super::random::Random;
use super::replica::{Endpoint, Service};
use crate::records::text;
use crate::verdict::number;

/// Pause after a request that was refused.
const RETRY: Duration = Duration::from_millis(200);
/// A follower reads this many records before it moves to another replica, at most.
const MOST_RECORDS: u64 = 60;

/// A run, as its client, other clients and the steps of the scenario share it.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: String,
    /// The file with the body that starts it.
    pub(super) body: PathBuf,
    pub(super) is_accepted: AtomicBool,
    pub(super) lines: AtomicUsize,
    pub(super) is_over: AtomicBool,
    /// A replica has accepted a cancellation.
    pub(super) is_cancelled: AtomicBool,
}

/// What a client received.
#[derive(Debug, Default)]
pub(super) struct Followed {
    pub(super) lines: usize,
    next_index: u64,
    pub(super) result: Value,
    pub(super) resets: usize,
    pub(super) reconnects: usize,
    /// Answers other than the requested one, by code.
    pub(super) refusals: BTreeMap<String, usize>,
    pub(super) wrong: Vec<String>,
    pub(super) first_line_at: Option<Instant>,
    pub(super) result_at: Option<Instant>,
    last_line_at: Option<Instant>,
    /// Longest time between two lines.
    pub(super) longest_wait: Duration,
}

/// Starts a run and follows it to its result.
///
/// # Errors
/// It has none in time.
pub(super) fn drive(run: &Run, service: &Service, mut random: Random, deadline: Instant) -> Result<Followed> {
    let mut followed = Followed::default();
    start(run, service, &mut random, deadline, &mut followed)?;
    let mut cursor = None;
    while followed.result.is_null() {
        if Instant::now() > deadline {
            bail!(
                "run {} has no result in time, after {} lines; refused: {:?}",
                run.id,
                followed.lines,
                followed.refusals
            );
        }
        match service.pick(&mut random) {
            Some(endpoint) => follow(run, &endpoint, &mut random, &mut cursor, &mut followed)?,
            None => std::thread::sleep(RETRY),
        }
    }
    run.is_over.store(true, Ordering::SeqCst);
    Ok(followed)
}

fn start(
    run: &Run,
    service: &Service,
    random: &mut Random,
    deadline: Instant,
    followed: &mut Followed,
) -> Result<()> {
    loop {
        if let Some(endpoint) = service.pick(random) {
            let answer = endpoint.send("POST", "/v1/runs", Some(&run.body));
            match answer.status {
                202 => break,
                0 | 421 | 503 => followed.refuse(answer.code()),
                status => bail!("POST of run {} at {}: {status} {}", run.id, endpoint.replica, answer.text),
            }
        }
        if Instant::now() > deadline {
            bail!("run {} is not accepted in time: {:?}", run.id, followed.refusals);
        }
        std::thread::sleep(RETRY);
    }
    run.is_accepted.store(true, Ordering::SeqCst);
    Ok(())
}

/// Follows a run at one replica for a while.
fn follow(
    run: &Run,
    endpoint: &Endpoint,
    random: &mut Random,
    cursor: &mut Option<String>,
    followed: &mut Followed,
) -> Result<()> {
    let query = match cursor {
        Some(cursor) if !endpoint.is_previous => format!("cursor={cursor}"),
        // All records follow. Those of the previous build have no cursors, and an older one would say less than was received.
        Some(_) | None => {
            *cursor = None;
            followed.restart();
            "from=0".to_owned()
        }
    };
    let url = format!("{}/v1/runs/{}/events?{query}", endpoint.url, run.id);
    let mut curl = http::stream(&endpoint.options, &url)?;
    let stdout = curl.stdout.take().context("stdout is piped")?;
    let mut left = if random.below(3) == 0 { u64::MAX } else { 5 + random.below(MOST_RECORDS) };
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        // A stream that was cut may end within a record.
        let Ok(record) = serde_json::from_str::<Value>(&line) else { break };
        if record["type"].is_null() {
            followed.refuse(record["error"]["code"].as_str().unwrap_or(&line).to_owned());
            break;
        }
        if let Some(next) = record["cursor"].as_str() {
            *cursor = Some(next.to_owned());
        }
        followed.take(record, Instant::now());
        run.lines.store(followed.lines, Ordering::SeqCst);
        left -= 1;
        if left == 0 || !followed.result.is_null() {
            break;
        }
    }
    let _ = curl.kill();
    curl.wait()?;
    if followed.result.is_null() {
        followed.reconnects += 1;
        std::thread::sleep(RETRY);
    }
    Ok(())
}

impl Followed {
    fn refuse(&mut self, code: String) {
        *self.refusals.entry(code).or_default() += 1;
    }

    fn restart(&mut self) {
        (self.lines, self.next_index) = (0, 0);
    }

    fn take(&mut self, record: Value, now: Instant) {
        match record["type"].as_str() {
            Some("log") => self.take_line(&record, now),
            Some("reset") => {
                self.resets += 1;
                self.restart();
            }
            Some("gap") => self.wrong.push(format!("a gap after line {}", self.lines)),
            Some("result") => (self.result, self.result_at) = (record, Some(now)),
            Some(_) | None => {}
        }
    }

    fn take_line(&mut self, record: &Value, now: Instant) {
        let index = record["index"].as_u64().unwrap_or(u64::MAX);
        if index != self.next_index {
            self.wrong.push(format!("index {index} came where {} was next", self.next_index));
        }
        self.next_index = index.saturating_add(1);
        if let Some(number) = number(text(record, "log")) {
            if number != self.lines {
                self.wrong.push(format!("line {number} came where {} was next", self.lines));
            }
            self.lines = number + 1;
        }
        self.first_line_at.get_or_insert(now);
        if let Some(last) = self.last_line_at.replace(now) {
            self.longest_wait = self.longest_wait.max(now - last);
        }
    }

    /// Returns what is wrong with what a client received of a run of this many lines.
    pub(super) fn complaints(&self, run: &Run, lines: usize) -> Vec<String> {
        let mut complaints: Vec<String> =
            self.wrong.iter().take(3).map(|wrong| format!("run {}: {wrong}", run.id)).collect();
        // Where no line follows a reset, the output is not kept: the host on which the run ended has left before the client read the end.
        // Of a run that was not cancelled lines are missing then.
        if self.resets > 0 && self.next_index > 0 {
            complaints.push(format!("run {}: {} resets, and no line was lost", run.id, self.resets));
        }
        let code = &self.result["errorCode"];
        let state = &self.result["resultJson"]["executionCancellation"]["state"];
        let is_cancelled = run.is_cancelled.load(Ordering::SeqCst);
        let is_complete = code.is_null() && self.lines == lines;
        if is_cancelled && code == "cancelled" && state == "acknowledged" {
            return complaints;
        }
        if !is_complete {
            complaints.push(format!(
                "run {}: {} of {lines} lines, cancelled: {is_cancelled}, result {:.300}",
                run.id,
                self.lines,
                self.result.to_string()
            ));
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(index: u64, number: usize) -> Value {
        json!({"type": "log", "index": index, "text": format!(r#"{{"text":"line {number}"}}"#)})
    }

    #[test]
    fn lost_and_repeated_lines_are_found() {
        let mut followed = Followed::default();
        for record in [line(0, 0), line(1, 1), line(1, 1), line(4, 4)] {
            followed.take(record, Instant::now());
        }
        assert_eq!(
            followed.wrong,
            [
                "index 1 came where 2 was next",
                "line 1 came where 2 was next",
                "index 4 came where 2 was next",
                "line 4 came where 2 was next"
            ]
        );
    }
}
