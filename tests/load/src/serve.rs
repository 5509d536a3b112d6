//! `serve`: many concurrent runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{self, Lines, Server};
use crate::cluster::{self, MARK, now_us};
use crate::figures::Latencies;
use crate::host::{Daemon, ScriptedCluster};

/// Concurrent streaming runs: memory, CPU, latency of lines and of results.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// The host's program
    #[arg(long, value_name = "FILE")]
    host: PathBuf,
    #[arg(long, default_value_t = 1000)]
    runs: usize,
    /// Time within which all runs are started, in seconds
    #[arg(long, default_value_t = 10)]
    ramp: u64,
    #[command(flatten)]
    agents: cluster::Script,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let cluster = ScriptedCluster::start(&options.agents).await?;
    let mut daemon = Daemon::start(&options.host, &cluster).await?;
    let idle = daemon.usage().await?;
    let start = Instant::now();
    let pause = Duration::from_secs(options.ramp) / u32::try_from(options.runs.max(1))?;
    let streaming = Arc::new(Streaming::default());
    let mut following = JoinSet::new();
    for number in 0..options.runs {
        let run_id = format!("run-{number}");
        tokio::time::sleep_until(start + pause * u32::try_from(number)?).await;
        daemon.start_run(&run_id).await?;
        following.spawn(follow(daemon.server.clone(), run_id, Arc::clone(&streaming)));
    }
    // Measured halfway, when each run has allocated its memory, and only once, because the kernel walks all of the process's memory.
    tokio::time::sleep(Duration::from_secs(options.agents.seconds / 2)).await;
    let share = daemon.proportional_bytes()?;
    let all: Vec<Followed> = following.join_all().await.into_iter().collect::<Result<_>>()?;
    let took = start.elapsed();
    let usage = daemon.usage().await?;
    let code = daemon.stop().await?;

    let expected = options.runs as u64 * options.agents.lines;
    let lines: u64 = all.iter().map(|run| run.lines).sum();
    let failed: Vec<&Value> = all.iter().filter_map(|run| run.error.as_ref()).collect();
    println!(
        "runs            {} of {} lines over {} s, started within {} s",
        options.runs, options.agents.lines, options.agents.seconds, options.ramp
    );
    println!(
        "streaming       at most {} at a time, {:.1} s in all",
        streaming.peak.load(Ordering::Relaxed),
        took.as_secs_f64()
    );
    println!(
        "peak RSS        {:.1} MiB ({:.1} MiB before the first run)",
        mib(usage.peak_bytes),
        mib(idle.peak_bytes)
    );
    println!("of that, PSS    {:.1} MiB halfway: pages that many instances map count once", mib(share));
    println!("CPU             {:.1} s ({:.2} s before the first run)", usage.cpu_s, idle.cpu_s);
    println!(
        "API requests    {} ({:.1} a run)",
        usage.api_requests,
        usage.api_requests as f64 / options.runs as f64
    );
    println!(
        "line latency    {}",
        Latencies::of(all.iter().flat_map(|run| &run.lines_us).map(|line| line.latency).collect())
    );
    println!("exit to result  {}", Latencies::of(all.iter().map(|run| run.result_us).collect()));
    println!("lines lost      {} of {expected}", expected.saturating_sub(lines));
    println!("runs failed     {}", failed.len());
    let complaints = daemon.complaints()?;
    for complaint in complaints.iter().take(5) {
        println!("host said       {complaint}");
    }
    if let Some(failed) = failed.first() {
        println!("such as         {failed}");
    }
    ensure!(failed.is_empty(), "{} runs failed", failed.len());
    ensure!(lines == expected, "{lines} lines came, not {expected}");
    ensure!(code == Some(0), "the host ended with {code:?}");
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The number of runs that stream.
#[derive(Debug)]
pub(crate) struct Streaming {
    now: watch::Sender<usize>,
    peak: AtomicUsize,
}

impl Default for Streaming {
    fn default() -> Streaming {
        Streaming { now: watch::Sender::new(0), peak: AtomicUsize::new(0) }
    }
}

impl Streaming {
    fn start(&self) {
        self.now.send_modify(|now| *now += 1);
        self.peak.fetch_max(*self.now.borrow(), Ordering::Relaxed);
    }

    fn end(&self) {
        self.now.send_modify(|now| *now -= 1);
    }

    /// Waits until this many runs stream.
    pub(crate) async fn reaches(&self, runs: usize) {
        // The sender lives as long as this value.
        let _ = self.now.subscribe().wait_for(|now| *now >= runs).await;
    }
}

/// A line, in µs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    /// Time at which the agent wrote it, since 1970.
    pub(crate) written: u64,
    /// From then until this process received it.
    pub(crate) latency: u64,
}

/// A run as its follower received it.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) lines: u64,
    pub(crate) lines_us: Vec<Line>,
    /// From the agent's last line, with which it exits, to the result.
    pub(crate) result_us: u64,
    /// The result, if it is not a success.
    pub(crate) error: Option<Value>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Record {
    Log {
        index: u64,
        text: String,
    },
    Gap {},
    Status {},
    Meta {},
    Result {
        #[serde(flatten)]
        result: Value,
    },
}

/// Follows a run to its end. Each line must arrive once, whole and in order.
pub(crate) async fn follow(server: Server, run_id: String, streaming: Arc<Streaming>) -> Result<Followed> {
    let answer = client::send(&server, "GET", &format!("/v1/runs/{run_id}/events"), "").await?;
    ensure!(answer.status().is_success(), "{run_id}: {}", answer.status());
    let mut lines = Lines::of(answer);
    let mut followed = Followed { lines: 0, lines_us: Vec::new(), result_us: 0, error: None };
    let mut last_us = 0;
    while let Some(line) = lines.next().await? {
        let now_us = now_us();
        let text = String::from_utf8_lossy(&line);
        let record = serde_json::from_str(&text).with_context(|| format!("{run_id}: {text}"))?;
        match record {
            Record::Log { index, text } => {
                let (written_us, number) = mark(&text).with_context(|| format!("{run_id}: {text}"))?;
                ensure!(
                    index == followed.lines && number == index,
                    "{run_id}: line {number} is number {index}, {} have come",
                    followed.lines
                );
                if index == 0 {
                    streaming.start();
                }
                followed.lines += 1;
                followed
                    .lines_us
                    .push(Line { written: written_us, latency: now_us.saturating_sub(written_us) });
                last_us = written_us;
            }
            Record::Gap {} => anyhow::bail!("{run_id}: a gap after line {}: {text}", followed.lines),
            Record::Status {} | Record::Meta {} => {}
            Record::Result { result } => {
                if followed.lines > 0 {
                    streaming.end();
                    followed.result_us = now_us.saturating_sub(last_us);
                }
                let is_good = result["exitCode"] == 0 && result["errorCode"].is_null();
                followed.error = Some(result).filter(|_| !is_good);
            }
        }
    }
    Ok(followed)
}

/// Returns the time at which a line was written, in µs since 1970, and its number.
fn mark(text: &str) -> Option<(u64, u64)> {
    let (time, number) = text.split(MARK).nth(1)?.split_once('#')?;
    Some((time.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_found_in_any_line() {
        assert_eq!(mark(r#"{"a":"@17#3@ text"}"#), Some((17, 3)));
        assert_eq!(mark("none"), None);
    }
}
