//! Processes of a container that have left its process group, as shells and agents let theirs do.
//!
//! In a real container they die with its first process. Here they are known by a mark in their environment, which
//! every process inherits. Only Linux shows it; elsewhere strays live on.

/// Kills every process whose environment has an entry that starts with `mark`.
#[cfg(target_os = "linux")]
pub(super) async fn kill(mark: &str) {
    let mark = mark.to_owned();
    let killed = tokio::task::spawn_blocking(move || {
        // Again as long as there were some: a killed process can have started another before.
        (0..ROUNDS).all(|_| linux::kill_once(&mark) > 0)
    });
    if killed.await.unwrap_or_default() {
        tracing::warn!("processes of a container start others faster than they can be killed");
    }
}

/// How often the processes are listed.
#[cfg(target_os = "linux")]
const ROUNDS: usize = 10;

#[cfg(not(target_os = "linux"))]
pub(super) async fn kill(_mark: &str) {}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;

    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    /// How many were killed.
    pub(super) fn kill_once(mark: &str) -> usize {
        let Ok(entries) = fs::read_dir("/proc") else { return 0 };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| kill_if_marked(*pid, mark).is_some()).count()
    }

    fn kill_if_marked(pid: i32, mark: &str) -> Option<()> {
        // Opened before the environment is read: it then stays this process, whatever becomes of its number.
        let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let is_marked = environ.split(|byte| *byte == 0).any(|entry| entry.starts_with(mark.as_bytes()));
        is_marked.then(|| pidfd_send_signal(process, Signal::KILL).ok()).flatten()
    }
}
