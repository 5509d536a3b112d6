//! The measured processes: the scripted API server and the daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::client::{self, Server};
use crate::cluster;

/// The daemon's folder and log.
const LOG_FILE: &str = "host.log";

/// The scripted API server. It ends when this value is dropped, because its standard input closes.
#[derive(Debug)]
pub(crate) struct ScriptedCluster {
    _child: Child,
    pub(crate) address: String,
}

impl ScriptedCluster {
    pub(crate) async fn start(options: &cluster::Script) -> Result<ScriptedCluster> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([
            "cluster",
            "--lines",
            &options.lines.to_string(),
            "--seconds",
            &options.seconds.to_string(),
        ]);
        if options.endless {
            command.arg("--endless");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut address = String::new();
        BufReader::new(stdout).read_line(&mut address).await?;
        Ok(ScriptedCluster { _child: child, address: address.trim().to_owned() })
    }
}

/// A daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    pub(crate) server: Server,
    pub(crate) folder: tempfile::TempDir,
}

impl Daemon {
    pub(crate) async fn start(program: &Path, cluster: &ScriptedCluster) -> Result<Daemon> {
        let folder = tempfile::tempdir()?;
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(&kubeconfig, kubeconfig_of(&cluster.address).to_string())?;
        fs::create_dir(folder.path().join("plugins"))?;
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--cluster", "kubeconfig"]);
        command.arg("--kubeconfig").arg(kubeconfig).arg("--state").arg(folder.path().join("state"));
        command.arg("--plugins").arg(folder.path().join("plugins"));
        // Nothing listens there, and nothing is requested: the runs' client requests cancellations itself.
        command.args(["--paperclip-api-url", "http://127.0.0.1:9"]);
        // Plugins are compiled each time, as on a new machine.
        command.env("XDG_CACHE_HOME", folder.path().join("cache"));
        command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let mut lines = BufReader::new(child.stderr.take().context("stderr is piped")?).lines();
        let mut log = tokio::fs::File::create(folder.path().join(LOG_FILE)).await?;
        let address = loop {
            let line = lines.next_line().await?.context("the host ended before it served")?;
            let record: Value = serde_json::from_str(&line).unwrap_or_default();
            if record["message"] == "serves" {
                let url = record["address"].as_str().and_then(|url| url.strip_prefix("http://"));
                break url.context("it does not listen on a TCP address")?.to_owned();
            }
            eprintln!("{line}");
        };
        tokio::spawn(async move { tokio::io::copy(lines.get_mut(), &mut log).await });
        let token = fs::read_to_string(folder.path().join("state/token"))?;
        let server = Server { address, token: Some(token.trim().to_owned()) };
        Ok(Daemon { child, server, folder })
    }

    pub(crate) fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    pub(crate) async fn start_run(&self, run_id: &str) -> Result<()> {
        let context = json!({
            "runId": run_id, "runtime": {}, "context": { "taskId": "T-1" }, "authToken": format!("token-of-{run_id}"),
            "agent": { "id": format!("agent-{run_id}"), "companyId": "acme", "name": "Nova", "adapterType": "claude_k8s" },
            "config": { "image": "load/agent:1", "env": { "SERVICE_KEY": format!("key-of-{run_id}") } },
        });
        let start = json!({ "context": context, "pushesCancel": true });
        client::ask(&self.server, "POST", "/v1/runs", &start.to_string()).await?;
        Ok(())
    }

    /// Returns what the daemon has used so far.
    pub(crate) async fn usage(&self) -> Result<Usage> {
        let pid = self.child.id().context("the host has ended")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: u64 = peak.trim().trim_end_matches("kB").trim().parse()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The fields behind the program's name, which is in parentheses and may hold anything; utime and stime are the 14th and 15th.
        let fields: Vec<&str> =
            stat.rsplit_once(')').context("no name")?.1.split_ascii_whitespace().skip(11).take(2).collect();
        let ticks: u64 = fields.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
        let metrics = client::ask(&self.server, "GET", "/metrics", "").await?;
        let metrics = String::from_utf8_lossy(&metrics);
        let requests = metrics.lines().filter_map(|line| line.strip_prefix("paperclip_api_requests_total"));
        Ok(Usage {
            peak_bytes: kib << 10,
            cpu_s: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
            api_requests: requests.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum(),
        })
    }

    /// Returns its proportional share of resident memory in bytes: a page that many instances map, such as the plugin's data, counts once.
    pub(crate) fn proportional_bytes(&self) -> Result<u64> {
        let pid = self.child.id().context("the host has ended")?;
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let share = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
        let kib: u64 = share.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib << 10)
    }

    /// Sends SIGTERM and returns the exit code.
    pub(crate) async fn stop(&mut self) -> Result<Option<i32>> {
        let pid = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
        rustix::process::kill_process(pid.context("the host has ended")?, rustix::process::Signal::TERM)?;
        Ok(self.child.wait().await?.code())
    }

    /// Ends it at once, as the loss of its machine does.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Returns its log lines above the level `info`.
    pub(crate) fn complaints(&self) -> Result<Vec<String>> {
        let log = fs::read_to_string(self.folder.path().join(LOG_FILE))?;
        let is_bad =
            |line: &&str| line.contains("\"level\":\"WARN\"") || line.contains("\"level\":\"ERROR\"");
        Ok(log.lines().filter(is_bad).map(str::to_owned).collect())
    }
}

/// What a daemon has used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) peak_bytes: u64,
    pub(crate) cpu_s: f64,
    pub(crate) api_requests: u64,
}

fn kubeconfig_of(address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "load",
        "clusters": [{ "name": "load", "cluster": { "server": format!("http://{address}") } }],
        "contexts": [{ "name": "load", "context": { "cluster": "load", "user": "load", "namespace": "load" } }],
        "users": [{ "name": "load", "user": {} }],
    })
}
