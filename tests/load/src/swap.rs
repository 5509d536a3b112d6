//! `swap`: new versions of a plugin while runs stream.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{self, Server};
use crate::cluster::{self, now_us};
use crate::figures::Latencies;
use crate::host::{Daemon, ScriptedCluster};
use crate::serve::{Followed, Streaming, follow};

/// The agent type whose plugin is swapped.
const ADAPTER_TYPE: &str = "claude_k8s";

/// New versions of a plugin while runs stream: latency of lines before and during, and which version each run has.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// The host's program
    #[arg(long, value_name = "FILE")]
    host: PathBuf,
    /// The plugin's component
    #[arg(long, value_name = "FILE")]
    plugin: PathBuf,
    #[arg(long, default_value_t = 100)]
    runs: usize,
    #[arg(long, default_value_t = 100)]
    swaps: usize,
    /// How long the latency is measured before the first swap, in seconds
    #[arg(long, default_value_t = 20)]
    before: u64,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    // The rate of `serve`: 200 lines in 60 s.
    let agents = cluster::Script { lines: 200, seconds: 60, endless: true };
    let component = fs::read(&options.plugin).with_context(|| options.plugin.display().to_string())?;
    let cluster = ScriptedCluster::start(&agents).await?;
    let mut daemon = Daemon::start(&options.host, &cluster).await?;
    let mut following = JoinSet::new();
    let streaming = Arc::new(Streaming::default());
    for number in 0..options.runs {
        let run_id = format!("run-{number}");
        daemon.start_run(&run_id).await?;
        following.spawn(follow(daemon.server.clone(), run_id, Arc::clone(&streaming)));
    }
    tokio::select! {
        () = streaming.reaches(options.runs) => {}
        Some(ended) = following.join_next() => anyhow::bail!("a run ended at its start: {:?}", ended??.error),
    }
    let measured_us = now_us();
    tokio::time::sleep(Duration::from_secs(options.before)).await;
    let first = digests(&daemon).await?;

    let (swapping_us, start) = (now_us(), Instant::now());
    let mut active = String::new();
    for number in 0..options.swaps {
        put(&daemon.plugins(), &version(&component, number))?;
        let answer = client::ask_json(&daemon.server, "POST", "/v1/plugins/reload", "").await?;
        let now = answer["plugins"][0]["digest"].as_str().unwrap_or_default().to_owned();
        ensure!(now != active && !now.is_empty(), "swap {number} changed nothing: {answer}");
        active = now;
        ensure!(
            digests(&daemon).await? == first,
            "swap {number} changed the version of a run that is under way"
        );
    }
    let (swapped_us, took) = (now_us(), start.elapsed());
    daemon.start_run("afterwards").await?;
    ensure!(digests(&daemon).await?["afterwards"] == active, "a new run does not take the new version");
    client::ask(&Server::open(&cluster.address), "POST", "/end", "").await?;
    let all: Vec<Followed> = following.join_all().await.into_iter().collect::<Result<_>>()?;
    let last = digests(&daemon).await?;
    let usage = daemon.usage().await?;
    let code = daemon.stop().await?;

    let disturbed = all.iter().filter(|run| run.error.is_some()).count();
    let between = |from_us, to_us| {
        let lines =
            all.iter().flat_map(|run| &run.lines_us).filter(|line| (from_us..to_us).contains(&line.written));
        Latencies::of(lines.map(|line| line.latency).collect())
    };
    println!(
        "swaps           {} in {:.1} s, while {} runs stream",
        options.swaps,
        took.as_secs_f64(),
        options.runs
    );
    println!("latency before  {}", between(measured_us, swapping_us));
    println!("latency during  {}", between(swapping_us, swapped_us));
    println!("runs disturbed  {disturbed}");
    println!("peak RSS        {:.1} MiB", usage.peak_bytes as f64 / f64::from(1 << 20));
    println!("CPU             {:.1} s", usage.cpu_s);
    ensure!(disturbed == 0, "{disturbed} runs were disturbed");
    ensure!(first.iter().all(|(run, digest)| last.get(run) == Some(digest)), "a run has changed its version");
    ensure!(code == Some(0), "the host ended with {code:?}");
    Ok(())
}

/// Makes another version: the same component with an additional custom section.
fn version(component: &[u8], number: usize) -> Vec<u8> {
    let mut bytes = component.to_vec();
    let number = format!("{number:06}");
    // Section 0, its size, its name's size, its name.
    bytes.extend([0, number.len() as u8 + 1, number.len() as u8]);
    bytes.extend(number.as_bytes());
    bytes
}

/// Replaces the plugin's file atomically: writes to a name that is not a plugin's, then renames.
fn put(folder: &Path, component: &[u8]) -> Result<()> {
    let half = folder.join("half");
    fs::write(&half, component)?;
    fs::rename(&half, folder.join(format!("{ADAPTER_TYPE}.wasm")))?;
    Ok(())
}

/// Returns the plugin version of each run.
async fn digests(daemon: &Daemon) -> Result<BTreeMap<String, String>> {
    let answer = client::ask_json(&daemon.server, "GET", "/v1/runs", "").await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let runs = answer["runs"].as_array().context("no runs")?;
    Ok(runs.iter().map(|run| (text(&run["runId"]), text(&run["pluginDigest"]))).collect())
}
