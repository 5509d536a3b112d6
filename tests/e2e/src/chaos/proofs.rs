//! Repeated tests: hosts that are killed, cancelled, or race for an agent.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::{Field, PATIENCE};
use crate::scenario::SignalName;
use crate::verdict::{self, Tally};

impl Field<'_> {
    pub(super) fn kills(&self, times: usize) -> Result<bool> {
        let expect = serde_json::from_value(
            json!({"exit": 0, "lines": 500, "result": {"exitCode": 0, "errorCode": null}}),
        )?;
        let mut random = Random(u64::from(std::process::id()) | 1);
        let (mut good, mut late) = (0, 0);
        for round in 0..times {
            let name = format!("kill-{round}");
            let play = "init; lines 500 0.01; result";
            let mut first = self.start(&name, "a", play)?;
            // From before the Job is created to about when the agent ends: no event marks a random moment.
            let after = Duration::from_millis(random.below(8_000));
            std::thread::sleep(after);
            first.signal(SignalName::Kill)?;
            if first.wait(Instant::now() + PATIENCE)?.is_some() {
                late += 1;
            }
            let mut second = self.start(&name, "b", play)?;
            let exit = second.wait(Instant::now() + PATIENCE)?;
            let complaints = verdict::complaints(&expect, exit, &second.records.lock().records);
            if complaints.is_empty() {
                good += 1;
                fs::remove_dir_all(self.world.folder.join(&name))?;
            } else {
                println!("round {round}, killed after {after:?}: {}", complaints.join("; "));
            }
        }
        let starts = self.kubectl.agent_starts()?;
        println!(
            "kills: {good} of {times} runs came whole ({late} had ended before they were killed), agents were started {starts} times"
        );
        Ok(good == times && starts == times)
    }

    pub(super) fn races(&self, times: usize) -> Result<bool> {
        let mut good = 0;
        for round in 0..times {
            let agent = format!("{}-agent-{round}", self.namespace);
            let race = |host: &str| {
                let over = json!({"whenBusy": "fail", "env": {"PLAY": "init; lines 4 0.5; result"}});
                self.start_run(&format!("race-{round}-{host}"), &agent, host, over, None)
            };
            let mut hosts = [race("a")?, race("b")?];
            let mut ends = Vec::new();
            for host in &mut hosts {
                let exit = host.wait(Instant::now() + PATIENCE)?;
                let result = host.records.lock().records.last().cloned().unwrap_or_default();
                ends.push((exit, result["errorCode"].as_str().unwrap_or_default().to_owned()));
            }
            ends.sort();
            let refused = (Some(1), "k8s_concurrent_run_blocked".to_owned());
            if ends == [(Some(0), String::new()), refused] {
                good += 1;
                for host in ["a", "b"] {
                    fs::remove_dir_all(self.world.folder.join(format!("race-{round}-{host}")))?;
                }
            } else {
                println!("round {round}: {ends:?}");
            }
        }
        let starts = self.kubectl.agent_starts()?;
        println!("races: {good} of {times} had one winner, agents were started {starts} times");
        Ok(good == times && starts == times)
    }

    pub(super) fn cancels(&self, times: usize) -> Result<bool> {
        let mut random = Random(u64::from(std::process::id()) | 1);
        let (mut good, mut late, mut slowest) = (0, 0, Duration::ZERO);
        for round in 0..times {
            let name = format!("cancel-{round}");
            let mut host = self.start(&name, "a", "trap 'exit 143' TERM; init; lines 200 0.01; result")?;
            // From before the Job is created to about when the agent ends: no event marks a random moment.
            let after = Duration::from_millis(random.below(4_000));
            std::thread::sleep(after);
            host.signal(SignalName::Int)?;
            let signalled = Instant::now();
            let exit = host.wait(signalled + PATIENCE)?;
            slowest = slowest.max(signalled.elapsed());
            let received = host.records.lock();
            let mut tally = Tally::default();
            received.records.iter().for_each(|record| _ = tally.take(record));
            let result = received.records.last().cloned().unwrap_or_default();
            let is_late = exit == Some(0) && result["errorCode"] == Value::Null;
            let is_cancelled = exit == Some(3) && result["errorCode"] == "cancelled";
            late += usize::from(is_late);
            if (is_late || is_cancelled) && tally.gaps == 0 && tally.wrong.is_empty() {
                good += 1;
                fs::remove_dir_all(self.world.folder.join(&name))?;
            } else {
                println!(
                    "round {round}, cancelled after {after:?}: {exit:?}, {tally:?}, {}",
                    result["errorMessage"]
                );
            }
        }
        let starts = self.kubectl.agent_starts()?;
        println!(
            "cancels: {good} of {times} ended as they should ({late} had ended before), within {slowest:?}; agents were started {starts} times"
        );
        Ok(good == times && starts <= times)
    }
}

/// Xorshift, for random moments.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
