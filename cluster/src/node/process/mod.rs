//! A container's process: started in a group of its own, its output written to the container's log, and nothing left
//! of it once it has ended.

mod program;
mod strays;
mod watchdog;

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process_group};

use super::logs::{LogFile, Output};
use watchdog::Watchdog;

/// The variable with the container that a process belongs to. Inherited, so that what has left the process group is found.
const MARK: &str = "PAPERCLIP_LOCAL_CONTAINER";

/// How long output is awaited after the last process of a container was killed. Only a process that has changed its
/// user or its environment can hold the pipe for so long.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// What is added to the number of a signal in an exit code.
const SIGNAL_BASE: i32 = 128;

/// A program to start.
#[derive(Clone, Debug)]
pub(super) struct Command {
    /// The program, by path or by name on `PATH`, and its arguments.
    pub(super) words: Vec<String>,
    /// The whole environment.
    pub(super) env: Vec<(String, String)>,
    pub(super) working_dir: PathBuf,
    /// Names the container instance on this node.
    pub(super) id: String,
}

/// The process was not started; the message is worded as containerd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: \
     unable to start container process: error during container init: {0}"
)]
pub(super) struct StartError(String);

/// Starts processes. All of them end with the launcher.
#[derive(Clone, Debug)]
pub(super) struct Launcher {
    mark: String,
    watchdog: Option<Arc<Watchdog>>,
}

/// The process group of a running container. Signals to one that has ended have no effect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group(Pid);

impl Group {
    /// Asks every process of the group to end.
    pub(super) fn terminate(self) {
        let _already_ended = kill_process_group(self.0, Signal::TERM);
    }

    pub(super) fn kill(self) {
        let _already_ended = kill_process_group(self.0, Signal::KILL);
    }
}

/// A started process. It has to be awaited by [`Process::ended`].
#[derive(Debug)]
pub(super) struct Process {
    child: tokio::process::Child,
    group: Group,
    outputs: tokio::task::JoinSet<()>,
    log: LogFile,
    mark: String,
    /// Weak: the watchdog watches for the launcher's end, which a running process must not put off.
    watchdog: Weak<Watchdog>,
}

impl Launcher {
    /// `mark` names the node; what an earlier process of it has left running is ended. `memory` is the folder that
    /// must not outlive this process either.
    pub(super) async fn new(mark: String, memory: &Path) -> Launcher {
        strays::kill(&format!("{MARK}={mark}/")).await;
        let watchdog = Watchdog::start(&format!("{MARK}={mark}/"), memory)
            .inspect_err(
                |error| tracing::warn!(%error, "containers can outlive this process if it is killed"),
            )
            .ok();
        Launcher { mark, watchdog: watchdog.map(Arc::new) }
    }

    /// Starts a process whose output is written to `log`.
    ///
    /// # Errors
    /// The program does not exist, is not executable, or its arguments and environment are too large.
    pub(super) fn start(&self, command: &Command, log: &LogFile) -> Result<Process, StartError> {
        let Some((name, arguments)) = command.words.split_first() else {
            return Err(StartError("no command".to_owned()));
        };
        let path = command.env.iter().rev().find(|(key, _)| key == "PATH").map_or("", |(_, value)| value);
        let program = program::find(name, path, &command.working_dir).map_err(StartError)?;
        let mark = format!("{MARK}={}/{}", self.mark, command.id);
        let mut std_command = std::process::Command::new(program);
        std_command
            .arg0(name)
            .args(arguments)
            .env_clear()
            .envs(command.env.iter().map(|(key, value)| (key, value)))
            .env(MARK, mark.split_once('=').map_or("", |(_, value)| value))
            .current_dir(&command.working_dir)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = tokio::process::Command::from(std_command)
            .spawn()
            .map_err(|error| StartError(format!("exec: \"{name}\": {}", program::reason(&error))))?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let group = Group(pid.ok_or_else(|| StartError("the process has no id".to_owned()))?);
        if let Some(watchdog) = &self.watchdog {
            watchdog.watch(group);
        }
        let mut outputs = tokio::task::JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            outputs.spawn(log.clone().pump(Output::Stdout, stdout));
        }
        if let Some(stderr) = child.stderr.take() {
            outputs.spawn(log.clone().pump(Output::Stderr, stderr));
        }
        let watchdog = self.watchdog.as_ref().map(Arc::downgrade).unwrap_or_default();
        Ok(Process { child, group, outputs, log: log.clone(), mark, watchdog })
    }
}

impl Process {
    pub(super) fn group(&self) -> Group {
        self.group
    }

    /// Waits for the end; then, as the end of PID 1 does in a container, ends every other process of it, and writes
    /// the output to its end. Gives the exit code (128 and the signal's number for a killed process) and when the first
    /// process ended.
    pub(super) async fn ended(mut self) -> (i32, Timestamp) {
        let status = self.child.wait().await;
        let finished_at = Timestamp::now();
        // The id can't have been given to another process yet: the system hands ids out in a circle.
        self.group.kill();
        strays::kill(&self.mark).await;
        if let Some(watchdog) = self.watchdog.upgrade() {
            watchdog.forget(self.group);
        }
        self.log.write_rest();
        let drained = async { while self.outputs.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_LIMIT, drained).await.is_err() {
            tracing::warn!(container = %self.mark, "a process that can't be killed holds a container's output");
        }
        let code = match status {
            Ok(status) => exit_code(status),
            Err(error) => {
                tracing::error!(%error, container = %self.mark, "how a container ended is not known");
                SIGNAL_BASE + Signal::KILL.as_raw()
            }
        };
        (code, finished_at)
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| SIGNAL_BASE + signal)).unwrap_or(SIGNAL_BASE)
}

#[cfg(test)]
mod tests;
