//! The program under test, driving one run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};

use crate::daemon::Client;
use crate::records::Records;
use crate::scenario::SignalName;

/// Represents every secret of a run: it must not be found anywhere.
pub(crate) const CANARY: &str = "canary-token-5d41402abc4b2a76b9719d91";

/// The identity of a run.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    pub(crate) run_id: &'a str,
    /// Unique in the cluster, so that scenarios do not interfere with each other.
    pub(crate) agent: &'a str,
    pub(crate) config: &'a Map<String, Value>,
    /// What the run is about.
    pub(crate) context: &'a Value,
    pub(crate) self_pod: Option<&'a Value>,
    /// The session to resume.
    pub(crate) runtime: &'a Map<String, Value>,
}

impl Order<'_> {
    /// The execution context as a file.
    fn write(&self, name: &str, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(format!("{name}-context.json"));
        let text = json!({
            "runId": self.run_id,
            "agent": {"id": self.agent, "companyId": "acme", "name": "Nova", "adapterType": "claude_k8s"},
            "runtime": self.runtime, "config": self.config, "context": self.context, "authToken": CANARY,
        });
        fs::write(&path, text.to_string())?;
        Ok(path)
    }
}

/// The environment of a host.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) program: &'a Path,
    pub(crate) kubeconfig: &'a Path,
    pub(crate) namespace: &'a str,
    /// Contains context, Paperclip's pod and stderr of the host.
    pub(crate) folder: &'a Path,
    pub(crate) state: &'a Path,
}

/// A host that was started. Killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) run_id: String,
    child: Child,
    pub(crate) records: Records,
    stderr: PathBuf,
}

impl Host {
    pub(crate) fn start(name: &str, order: &Order<'_>, place: &Place<'_>) -> Result<Host> {
        Host::start_with(name, order, place, |_| true)
    }

    /// Keeps only the records that `keep` selects.
    pub(crate) fn start_with(
        name: &str,
        order: &Order<'_>,
        place: &Place<'_>,
        keep: impl FnMut(&Value) -> bool + Send + 'static,
    ) -> Result<Host> {
        let context = order.write(name, place.folder)?;
        let stderr = place.folder.join(format!("{name}-stderr"));
        let mut command = Command::new(place.program);
        command
            .args(["run", "--output", "ndjson", "--namespace", place.namespace])
            .arg("--context")
            .arg(&context)
            .arg("--kubeconfig")
            .arg(place.kubeconfig)
            .arg("--state")
            .arg(place.state)
            .env("PAPERCLIP_LOG", "info")
            .env("NO_COLOR", "1")
            // Nothing listens there: a run whose cancellation cannot be polled continues.
            .env("PAPERCLIP_API_URL", "http://127.0.0.1:9")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::options().create(true).append(true).open(&stderr)?);
        if let Some(pod) = order.self_pod {
            let file = place.folder.join(format!("{name}-pod.json"));
            fs::write(&file, pod.to_string())?;
            command.arg("--self-pod").arg(file);
        }
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", place.program.display()))?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let kept = fs::File::create(place.folder.join(format!("{name}-records")))?;
        let run_id = order.run_id.to_owned();
        Ok(Host { run_id, child, records: Records::read(stdout, kept, keep), stderr })
    }

    /// The same for a run that a daemon drives: the follower takes the place of the host.
    pub(crate) fn at(daemon: &Client, name: &str, order: &Order<'_>, folder: &Path) -> Result<Host> {
        let context = order.write(name, folder)?;
        let mut child = daemon.start(order.run_id, &context)?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let kept = fs::File::create(folder.join(format!("{name}-records")))?;
        Ok(Host {
            run_id: order.run_id.to_owned(),
            child,
            records: Records::read(stdout, kept, |_| true),
            stderr: folder.join(format!("{name}-stderr")),
        })
    }

    pub(crate) fn signal(&self, signal: SignalName) -> Result<()> {
        let signal = match signal {
            SignalName::Int => Signal::INT,
            SignalName::Term => Signal::TERM,
            SignalName::Kill => Signal::KILL,
        };
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits for its end and returns the exit code; none if a signal ended it.
    pub(crate) fn wait(&mut self, deadline: Instant) -> Result<Option<i32>> {
        self.records.wait_for_end(deadline)?;
        Ok(self.child.wait()?.code())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
