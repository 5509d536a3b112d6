//! Measurements: times, memory, requests.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::sight::Sight;
use super::{Field, PATIENCE};
use crate::daemon::Client;
use crate::host::Host;
use crate::stage::World;
use crate::verdict::Tally;

/// The host's user agent at the API server.
const AGENT: &str = "paperclip-host/";

impl Field<'_> {
    fn daemon(&self, name: &str) -> Result<Daemon> {
        let folder = self.world.folder.join(name);
        fs::create_dir_all(&folder)?;
        Daemon::start(self.world, self.namespace, &folder)
    }

    pub(super) fn sequence(&self, runs: usize) -> Result<bool> {
        let daemon = self.daemon("sequence")?;
        let mut memory = Vec::new();
        let start = Instant::now();
        for round in 0..runs {
            let name = format!("sequence-{round}");
            let host = self.start_at(&name, "a", "init; lines 200; result", Some(&daemon.client))?;
            times_of(host, Instant::now(), PATIENCE)?;
            fs::remove_dir_all(self.world.folder.join(&name))?;
            if (round + 1) % 20 == 0 {
                memory.push(daemon.memory_kib("VmRSS")?);
                println!("after {} runs: {} KiB", round + 1, memory.last().copied().unwrap_or_default());
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "sequence: {runs} runs in {seconds:.0} s, the host had {} KiB at most",
            daemon.memory_kib("VmHWM")?
        );
        Ok(true)
    }

    pub(super) fn output(&self, mb: usize) -> Result<bool> {
        const LINE_BYTES: usize = 236;
        let lines = (mb * 1_000_000 / LINE_BYTES) as u64;
        let tally = Arc::new(Mutex::new(Tally::default()));
        let taken = Arc::clone(&tally);
        let start = Instant::now();
        let order = json!({"env": {"PLAY": format!("init; lines {lines}; result")}});
        let mut host = self.start_tallied("output", order, move |record| {
            taken.lock().unwrap_or_else(PoisonError::into_inner).take(record)
        })?;
        let mut peak = 0;
        while !host.records.lock().is_ended {
            peak = memory_kib(host.id(), "VmHWM").unwrap_or(peak);
            std::thread::sleep(Duration::from_millis(50));
        }
        let exit = host.wait(Instant::now() + PATIENCE)?;
        let seconds = start.elapsed().as_secs_f64();
        let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        println!(
            "output: {} of {lines} lines, {} gaps reported, {seconds:.1} s ({:.1} MB/s), the host had {peak} KiB at most",
            tally.lines,
            tally.gaps,
            (tally.lines * LINE_BYTES as u64) as f64 / 1e6 / seconds,
        );
        tally.wrong.iter().for_each(|wrong| println!("{wrong}"));
        let result = host.records.lock().records.last().cloned().unwrap_or_default();
        if exit != Some(0) || result["errorCode"] != Value::Null {
            println!("the run ended with {exit:?}: {}", result["errorMessage"]);
            return Ok(false);
        }
        let is_whole = tally.gaps > 0 || tally.lines == lines;
        Ok(is_whole && tally.wrong.is_empty())
    }

    /// Once with a separate host for each run, and once on a daemon.
    pub(super) fn latency(&self, times: usize) -> Result<bool> {
        self.latency_of("run", times, None)?;
        let daemon = self.daemon("latency")?;
        self.latency_of("serve", times, Some(&daemon.client))?;
        Ok(true)
    }

    fn latency_of(&self, command: &str, times: usize, daemon: Option<&Client>) -> Result<()> {
        let sight = Sight::open(self.kubectl)?;
        let measured: Result<Vec<Times>> = (0..times)
            .map(|round| {
                let start = Instant::now();
                let name = format!("latency-{command}-{round}");
                let host = self.start_at(&name, "a", "init; lines 5 0.1; result", daemon)?;
                times_of(host, start, PATIENCE)
            })
            .collect();
        show(&format!("latency of `{command}`"), &measured?, &sight.ends(times));
        Ok(())
    }

    pub(super) fn load(&self, runs: usize) -> Result<bool> {
        let daemon = self.daemon("load")?;
        let sight = Sight::open(self.kubectl)?;
        let started: Result<Vec<(Host, Instant)>> = (0..runs)
            .map(|round| {
                let start = Instant::now();
                let name = format!("load-{round}");
                let host = self.start_at(&name, "a", "init; lines 50 0.1; result", Some(&daemon.client))?;
                Ok((host, start))
            })
            .collect();
        let measured: Result<Vec<Times>> =
            started?.into_iter().map(|(host, start)| times_of(host, start, PATIENCE)).collect();
        show("load", &measured?, &sight.ends(runs));
        println!("load: the host had {} KiB at most", daemon.memory_kib("VmHWM")?);
        Ok(true)
    }

    pub(super) fn requests(&self, seconds: &[u64]) -> Result<bool> {
        let cluster = self.world.own_cluster.as_ref().context("the audit log is that of the own cluster")?;
        let log = cluster.folder.join("log/audit.log");
        for seconds in seconds {
            let before = fs::metadata(&log)?.len();
            let play = format!("init; lines {seconds} 1; result");
            let host = self.start(&format!("requests-{seconds}"), "a", &play)?;
            times_of(host, Instant::now(), PATIENCE + Duration::from_secs(*seconds))?;
            let counts = count(&log, before, self.namespace)?;
            let sum: usize = counts.values().sum();
            println!("requests of a run of {seconds} s: {sum}");
            for (what, count) in counts {
                println!("{count:5}  {what}");
            }
        }
        Ok(true)
    }
}

/// `paperclip-host serve`, killed when it is dropped.
struct Daemon {
    child: Child,
    client: Client,
}

impl Daemon {
    const ADDRESS: &str = "127.0.0.1:17411";
    const TOKEN: &str = "token-of-the-measured-host";

    fn start(world: &World, namespace: &str, folder: &Path) -> Result<Daemon> {
        let token_file = folder.join("token");
        fs::write(&token_file, Self::TOKEN)?;
        let child = Command::new(&world.program)
            .args(["serve", "--listen", Self::ADDRESS, "--namespace", namespace])
            .arg("--token-file")
            .arg(&token_file)
            .arg("--kubeconfig")
            .arg(&world.kubeconfig)
            .arg("--state")
            .arg(folder.join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("stderr"))?)
            .spawn()
            .context("cannot start the host")?;
        let client = Client::new(format!("http://{}", Self::ADDRESS), Self::TOKEN, folder)?;
        let daemon = Daemon { child, client };
        let deadline = Instant::now() + PATIENCE;
        while !daemon.client.is_ready() {
            if Instant::now() > deadline {
                bail!("the daemon is not ready: see {}", folder.join("stderr").display());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(daemon)
    }

    fn memory_kib(&self, field: &str) -> Result<u64> {
        memory_kib(self.child.id(), field)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a field of a process's status in KiB: `VmRSS` is its resident memory, `VmHWM` the peak.
fn memory_kib(process: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.with_context(|| format!("process {process} has no {field}"))?.parse()?)
}

/// The measured times of a run.
#[derive(Debug)]
struct Times {
    to_first_line: Duration,
    to_result: Duration,
    run: String,
    result_at: Instant,
}

/// Waits for the run's end, which must be a success.
fn times_of(mut host: Host, start: Instant, patience: Duration) -> Result<Times> {
    let exit = host.wait(Instant::now() + patience)?;
    if exit != Some(0) {
        bail!("a run ended with {exit:?}: {}", host.stderr());
    }
    let received = host.records.lock();
    let is_line = |record: &Value| record["type"] == "log";
    let first = received.records.iter().position(is_line).context("no line came")?;
    let last = received.records.iter().rposition(is_line).context("no line came")?;
    let result_at = *received.at.last().context("no record came")?;
    Ok(Times {
        to_first_line: received.at[first] - start,
        to_result: result_at - received.at[last],
        run: host.run_id.clone(),
        result_at,
    })
}

/// `ended`: when the end of each run's container was visible in a watch.
fn show(name: &str, times: &[Times], ended: &HashMap<String, Instant>) {
    let all = |of: fn(&Times) -> Duration| times.iter().map(of).collect::<Vec<_>>();
    show_spread(name, "start → first line", all(|times| times.to_first_line));
    show_spread(name, "last line → result", all(|times| times.to_result));
    let visible = times.iter().filter_map(|times| {
        // Zero if the host was faster than kubectl.
        ended.get(&times.run).map(|end| times.result_at.saturating_duration_since(*end))
    });
    show_spread(name, "end visible in a watch → result", visible.collect());
}

fn show_spread(name: &str, what: &str, mut times: Vec<Duration>) {
    times.sort();
    let Some(last) = times.len().checked_sub(1) else {
        println!("{name}: {what}: not seen");
        return;
    };
    let at = |percent: usize| times[(times.len() * percent / 100).min(last)].as_millis();
    let (p50, p95, max) = (at(50), at(95), at(100));
    println!("{name}, {} runs: {what}: p50 {p50} ms, p95 {p95} ms, max {max} ms", times.len());
}

/// Counts the host's requests in a namespace by verb and resource, in the audit log from this byte on. The audit log has watches and logs
/// when they end.
fn count(log: &Path, from: u64, namespace: &str) -> Result<BTreeMap<String, usize>> {
    let text = fs::read(log)?;
    let new = text.get(usize::try_from(from)?..).context("the audit log was rotated meanwhile: try again")?;
    let mut counts = BTreeMap::new();
    for line in new.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let event: Value = serde_json::from_slice(line)?;
        let object = &event["objectRef"];
        let is_ours = event["userAgent"].as_str().is_some_and(|agent| agent.starts_with(AGENT));
        if is_ours && object["namespace"] == namespace {
            let part = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
            let what = match part("subresource").as_str() {
                "" => part("resource"),
                subresource => format!("{}/{subresource}", part("resource")),
            };
            *counts.entry(format!("{} {what}", event["verb"].as_str().unwrap_or_default())).or_default() += 1;
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_what_they_are_about() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let event = |agent: &str, namespace: &str, subresource: &str| {
            let object = json!({"namespace": namespace, "resource": "pods", "subresource": subresource});
            json!({"userAgent": agent, "verb": "get", "objectRef": object}).to_string()
        };
        let old = event("paperclip-host/1", "n", "") + "\n";
        let new = [
            event("kubelet", "n", ""),
            event("paperclip-host/1", "other", "log"),
            event("paperclip-host/1", "n", "log"),
            event("paperclip-host/1", "n", "log"),
        ];
        fs::write(file.path(), format!("{old}{}", new.join("\n"))).unwrap();
        let counts = count(file.path(), old.len() as u64, "n").unwrap();
        assert_eq!(counts, BTreeMap::from([("get pods/log".to_owned(), 2)]));
    }
}
