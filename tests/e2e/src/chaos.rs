//! Long proofs and measurements, by hand: `cargo xtask chaos`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use serde_json::{Map, Value, json};

use crate::daemon::Client;
use crate::host::{Host, Order, Place};
use crate::kubectl::Kubectl;
use crate::scenario::SignalName;
use crate::stage::World;
use crate::verdict;

/// Longest that one run may take beside what its agent does.
const PATIENCE: Duration = Duration::from_secs(180);
/// How the host names itself to the API server.
const AGENT: &str = "paperclip-host/";

#[derive(Subcommand, Debug, Clone)]
pub(crate) enum Chaos {
    /// Kills the host (SIGKILL) at a random moment of a run of 500 lines, starts it again, and counts lines
    Kills {
        #[arg(long, default_value_t = 100)]
        times: usize,
    },
    /// Starts two hosts at once, each with a run of the same agent that does not wait: one has to work, the other to be refused
    Races {
        #[arg(long, default_value_t = 200)]
        times: usize,
    },
    /// Times from start to first line and from last line to result, of runs one after another
    Latency {
        #[arg(long, default_value_t = 20)]
        times: usize,
    },
    /// The same of runs at once
    Load {
        #[arg(long, default_value_t = 20)]
        runs: usize,
    },
    /// Runs one after another on one daemon, whose memory is looked at
    Sequence {
        #[arg(long, default_value_t = 200)]
        runs: usize,
    },
    /// One run with much output: the host's memory, its speed, and what rotation took
    Output {
        #[arg(long, default_value_t = 200)]
        mb: usize,
    },
    /// The API requests of a run, from the audit log, by the seconds that its agent works
    Requests {
        #[arg(long, value_delimiter = ',', default_values_t = [5, 60, 300])]
        seconds: Vec<u64>,
    },
}

/// Runs are made in one namespace, which is taken away at the end.
pub(crate) fn run(world: &World, chaos: &Chaos) -> Result<bool> {
    let namespace = format!("chaos-{}", std::process::id());
    let kubectl = Kubectl::new(&world.kubeconfig, &namespace);
    kubectl.run(&format!("create namespace {namespace}"))?;
    let deadline = Instant::now() + PATIENCE;
    kubectl.until(
        "get serviceaccounts default -o name --ignore-not-found",
        "serviceaccount/default",
        deadline,
    )?;
    let field = Field { world, namespace: &namespace, kubectl: &kubectl };
    let outcome = match chaos {
        Chaos::Kills { times } => field.kills(*times),
        Chaos::Races { times } => field.races(*times),
        Chaos::Latency { times } => field.latency(*times),
        Chaos::Load { runs } => field.load(*runs),
        Chaos::Sequence { runs } => field.sequence(*runs),
        Chaos::Output { mb } => field.output(*mb),
        Chaos::Requests { seconds } => field.requests(seconds),
    };
    let left = kubectl.until(
        "get jobs,pods,secrets,leases.coordination.k8s.io -l app.kubernetes.io/managed-by=paperclip -o name",
        "",
        Instant::now() + Duration::from_secs(40),
    );
    kubectl.run(&format!("delete namespace {namespace} --wait=false"))?;
    left.context("something is left behind")?;
    outcome
}

struct Field<'a> {
    world: &'a World,
    namespace: &'a str,
    kubectl: &'a Kubectl,
}

/// What is measured of a run.
#[derive(Debug, Clone, Copy)]
struct Times {
    to_first_line: Duration,
    to_result: Duration,
}

impl Field<'_> {
    fn start(&self, name: &str, host: &str, play: &str) -> Result<Host> {
        self.start_at(name, host, play, None)
    }

    /// Starts a run in a host of its own, or at a daemon.
    fn start_at(&self, name: &str, host: &str, play: &str, daemon: Option<&Client>) -> Result<Host> {
        let agent = format!("{}-{name}", self.namespace);
        self.start_run(name, &agent, host, json!({"env": {"PLAY": play}}), daemon)
    }

    fn start_run(
        &self,
        name: &str,
        agent: &str,
        host: &str,
        over: Value,
        daemon: Option<&Client>,
    ) -> Result<Host> {
        let folder = self.world.folder.join(name);
        fs::create_dir_all(&folder)?;
        let mut config: Map<String, Value> = serde_json::from_value(json!({
            "image": self.world.image,
            "resources": {"requests": {"cpu": "20m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
        }))?;
        config.extend(serde_json::from_value::<Map<String, Value>>(over)?);
        let run_id = format!("{}-{name}", self.namespace);
        let order = Order { run_id: &run_id, agent, config: &config, self_pod: None };
        let place = Place {
            program: &self.world.program,
            kubeconfig: &self.world.kubeconfig,
            namespace: self.namespace,
            folder: &folder,
            state: &folder.join("state"),
        };
        match daemon {
            Some(daemon) => Host::at(daemon, host, &order, &folder),
            None => Host::start(host, &order, &place),
        }
    }

    fn kills(&self, times: usize) -> Result<bool> {
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

    fn races(&self, times: usize) -> Result<bool> {
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

    fn sequence(&self, runs: usize) -> Result<bool> {
        let folder = self.world.folder.join("sequence");
        fs::create_dir_all(&folder)?;
        let daemon = Daemon::start(self.world, self.namespace, &folder)?;
        let mut memory = Vec::new();
        let start = Instant::now();
        for round in 0..runs {
            let name = format!("sequence-{round}");
            let host = self.start_at(&name, "a", "init; lines 200; result", Some(&daemon.client))?;
            times_of(host, Instant::now())?;
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

    fn output(&self, mb: usize) -> Result<bool> {
        const LINE_BYTES: usize = 236;
        let lines = mb * 1_000_000 / LINE_BYTES;
        let start = Instant::now();
        let mut host = self.start("output", "a", &format!("init; lines {lines}; result"))?;
        let mut peak = 0;
        while !host.records.lock().is_ended {
            peak = memory_kib(host.id(), "VmHWM").unwrap_or(peak);
            std::thread::sleep(Duration::from_millis(50));
        }
        let exit = host.wait(Instant::now() + PATIENCE)?;
        let expect = serde_json::from_value(
            json!({"exit": 0, "lines": lines, "may-have-gaps": true, "result": {"errorCode": null}}),
        )?;
        let heard = host.records.lock();
        let complaints = verdict::complaints(&expect, exit, &heard.records);
        let came = heard.records.iter().filter(|record| record["type"] == "log").count();
        let gaps = heard.records.iter().filter(|record| record["type"] == "gap").count();
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "output: {came} of {} lines, {gaps} gaps told, {seconds:.1} s, the host had {peak} KiB at most",
            lines + 2
        );
        complaints.iter().for_each(|complaint| println!("{complaint}"));
        Ok(complaints.is_empty())
    }

    fn latency(&self, times: usize) -> Result<bool> {
        let measured: Result<Vec<Times>> = (0..times)
            .map(|round| {
                let start = Instant::now();
                let host = self.start(&format!("latency-{round}"), "a", "init; lines 5 0.1; result")?;
                times_of(host, start)
            })
            .collect();
        show("latency", &measured?);
        Ok(true)
    }

    fn load(&self, runs: usize) -> Result<bool> {
        let start = Instant::now();
        let hosts: Result<Vec<Host>> = (0..runs)
            .map(|round| self.start(&format!("load-{round}"), "a", "init; lines 50 0.1; result"))
            .collect();
        let measured: Result<Vec<Times>> = hosts?.into_iter().map(|host| times_of(host, start)).collect();
        show("load", &measured?);
        Ok(true)
    }

    fn requests(&self, seconds: &[u64]) -> Result<bool> {
        let cluster = self.world.own_cluster.as_ref().context("the audit log is that of the own cluster")?;
        let log = cluster.folder.join("log/audit.log");
        for seconds in seconds {
            let before = fs::metadata(&log)?.len();
            let host =
                self.start(&format!("requests-{seconds}"), "a", &format!("init; lines {seconds} 1; result"))?;
            times_of(host, Instant::now())?;
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

    fn start(world: &World, namespace: &str, folder: &Path) -> Result<Daemon> {
        let child = Command::new(&world.program)
            .args(["serve", "--listen", Self::ADDRESS, "--namespace", namespace])
            .arg("--kubeconfig")
            .arg(&world.kubeconfig)
            .arg("--state")
            .arg(folder.join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("stderr"))?)
            .spawn()
            .context("cannot start the host")?;
        let client = Client::new(format!("http://{}", Self::ADDRESS), "", folder)?;
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

/// A field of a process's status, in KiB: `VmRSS` what it has, `VmHWM` what it had at most.
fn memory_kib(process: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.with_context(|| format!("process {process} has no {field}"))?.parse()?)
}

/// Waits for the run's end, which must be a good one.
fn times_of(mut host: Host, start: Instant) -> Result<Times> {
    let exit = host.wait(Instant::now() + PATIENCE + Duration::from_secs(300))?;
    if exit != Some(0) {
        bail!("a run ended with {exit:?}: {}", host.stderr());
    }
    let heard = host.records.lock();
    let is_line = |record: &Value| record["type"] == "log";
    let first = heard.records.iter().position(is_line).context("no line came")?;
    let last = heard.records.iter().rposition(is_line).context("no line came")?;
    let end = heard.at.last().context("no record came")?;
    Ok(Times { to_first_line: heard.at[first] - start, to_result: *end - heard.at[last] })
}

fn show(name: &str, times: &[Times]) {
    for (what, of) in [
        ("start → first line", (|times: &Times| times.to_first_line) as fn(&Times) -> Duration),
        ("last line → result", |times| times.to_result),
    ] {
        let mut sorted: Vec<Duration> = times.iter().map(of).collect();
        sorted.sort();
        let at = |percent: usize| sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_millis();
        println!(
            "{name}, {} runs: {what}: p50 {} ms, p95 {} ms, max {} ms",
            sorted.len(),
            at(50),
            at(95),
            at(100)
        );
    }
}

/// The host's requests in a namespace that the audit log tells of from this byte on, by verb and resource. Watches and logs are told of when they end.
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

/// Xorshift: moments, not secrets.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
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
