//! Limits of the daemon, and how long it keeps ended runs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How much the daemon takes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Runs that are driven at a time; further ones wait in the queue.
    pub runs: u32,
    /// Runs of one namespace that are driven at a time.
    pub runs_per_namespace: u32,
    /// Runs of one company that are driven at a time.
    pub runs_per_company: u32,
    /// Runs that may wait; further ones are refused.
    pub queued_runs: u32,
    /// Memory of this process above which new runs are refused, in MiB; default: 80 % of the container's limit, if it has one.
    pub memory_mib: Option<u64>,
    /// Size of a request's body, in MiB.
    pub request_mib: u32,
    /// Memory that the bodies of all requests may take together while they arrive and are handled, in MiB; further ones wait.
    pub intake_mib: u32,
    /// Requests per second that change something, of each client: whoever has the token is one, and so is each user of a Unix socket.
    /// Cancellations do not count.
    pub requests_per_second: u32,
    /// Traps of one plugin version within ten minutes after which new runs no longer use it.
    pub plugin_traps: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            runs: 1_000,
            runs_per_namespace: 1_000,
            runs_per_company: 1_000,
            queued_runs: 10_000,
            memory_mib: None,
            request_mib: 16,
            intake_mib: 32,
            requests_per_second: 200,
            plugin_traps: 3,
        }
    }
}

impl Limits {
    /// Returns the name of a limit that is zero, if one is.
    pub(super) fn zero(&self) -> Option<&'static str> {
        let limits = [
            ("runs", self.runs),
            ("runs_per_namespace", self.runs_per_namespace),
            ("runs_per_company", self.runs_per_company),
            ("request_mib", self.request_mib),
            ("intake_mib", self.intake_mib),
            ("requests_per_second", self.requests_per_second),
            ("plugin_traps", self.plugin_traps),
        ];
        limits.into_iter().find(|(_, value)| *value == 0).map(|(name, _)| name)
    }
}

/// How long the events and journals of ended runs are kept: whichever limit is reached first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Age of a journal, in days.
    pub days: u32,
    /// Size of all journals together, in MiB.
    pub mib: u64,
    /// For how long the record of an ended run, which has its result, is kept in the cluster unless the result is taken, in minutes.
    pub result_minutes: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { days: 7, mib: 1_024, result_minutes: 60 }
    }
}

impl Retention {
    /// Returns for how long results are kept in the cluster.
    pub fn results(&self) -> Duration {
        Duration::from_secs(u64::from(self.result_minutes) * 60)
    }

    /// Returns the limits as [`paperclip_shell::journal::prune`] takes them.
    pub fn limits(&self) -> paperclip_shell::journal::Retention {
        paperclip_shell::journal::Retention {
            age: Duration::from_secs(u64::from(self.days) * 24 * 3_600),
            bytes: self.mib << 20,
        }
    }
}
