//! `takeover`: another host takes over the runs of one that is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{self, Server};
use crate::cluster;
use crate::figures::Latencies;
use crate::host::{Daemon, ScriptedCluster};
use crate::serve::{Followed, Streaming, follow};

/// How often the other host is asked which runs it drives.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// The runs of a killed host: how long none has each of them, what taking them over costs, and whether a line is lost.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// The host's program
    #[arg(long, value_name = "FILE")]
    host: PathBuf,
    #[arg(long, default_value_t = 500)]
    runs: usize,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let agents = cluster::Script { lines: 200, seconds: 60, endless: true };
    let cluster = ScriptedCluster::start(&agents).await?;
    let mut killed = Daemon::start(&options.host, &cluster).await?;
    let mut other = Daemon::start(&options.host, &cluster).await?;
    let mut following = JoinSet::new();
    let streaming = Arc::new(Streaming::default());
    let runs: BTreeSet<String> = (0..options.runs).map(|number| format!("run-{number}")).collect();
    for run in &runs {
        killed.start_run(run).await?;
        following.spawn(follow(killed.server.clone(), run.clone(), Arc::clone(&streaming)));
    }
    tokio::select! {
        () = streaming.reaches(options.runs) => {}
        Some(ended) = following.join_next() => anyhow::bail!("a run ended at its start: {:?}", ended??.error),
    }
    let before = other.usage().await?;
    killed.kill().await?;
    let start = Instant::now();
    following.shutdown().await;
    let mut driven_us = BTreeMap::new();
    while driven_us.len() < runs.len() {
        tokio::time::sleep(ASK_EVERY).await;
        for run in driven(&other).await? {
            driven_us.entry(run).or_insert(start.elapsed().as_micros() as u64);
        }
    }
    let after = other.usage().await?;

    let streaming = Arc::new(Streaming::default());
    let mut following = JoinSet::new();
    for run in &runs {
        following.spawn(follow(other.server.clone(), run.clone(), Arc::clone(&streaming)));
    }
    streaming.reaches(options.runs).await;
    client::ask(&Server::open(&cluster.address), "POST", "/end", "").await?;
    let all: Vec<Followed> = following.join_all().await.into_iter().collect::<Result<_>>()?;
    let code = other.stop().await?;

    let first_us = driven_us.values().min().copied().unwrap_or_default();
    let since_first = driven_us.values().map(|us| us - first_us).collect();
    println!("runs            {} of a host that is killed, one other host", options.runs);
    println!("first adopted   {:.1} s after the kill", first_us as f64 / 1e6);
    println!("driven          {} after the first", Latencies::of(since_first));
    println!("API requests    {}", after.api_requests - before.api_requests);
    println!("CPU             {:.1} s", after.cpu_s - before.cpu_s);
    println!("peak RSS        {:.1} MiB", after.peak_bytes as f64 / f64::from(1 << 20));
    println!("lines           {}, each once", all.iter().map(|run| run.lines).sum::<u64>());
    let failed: Vec<_> = all.iter().filter_map(|run| run.error.as_ref()).collect();
    println!("runs failed     {}", failed.len());
    ensure!(failed.is_empty(), "{} runs failed, such as {}", failed.len(), failed[0]);
    ensure!(code == Some(0), "the host ended with {code:?}");
    Ok(())
}

/// Returns the runs that a daemon drives.
async fn driven(daemon: &Daemon) -> Result<Vec<String>> {
    let answer = client::ask_json(&daemon.server, "GET", "/v1/runs", "").await?;
    let runs = answer["runs"].as_array().context("no runs")?;
    let is_driven = |run: &&serde_json::Value| run["state"] == "running";
    Ok(runs.iter().filter(is_driven).filter_map(|run| run["runId"].as_str()).map(str::to_owned).collect())
}
