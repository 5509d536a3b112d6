//! What ownership costs, in worlds without faults: what hosts write while runs are idle, and how runs of a killed host get another one.
//!
//! Times are those of the protocol and of the simulated network, where a request takes 1 to 80 ms and a watch 1 to 150 ms.

use super::world::World;

/// When hosts are killed, in ms: all runs are driven by then.
const KILLED_AT_MS: u64 = 120_000;

/// What hosts did while the runs were idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idle {
    /// Requests that change something, of all hosts.
    pub writes_per_minute: u64,
    /// Requests that read.
    pub reads_per_minute: u64,
}

/// How the runs of a killed host got another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// From the revocation of the host to when each of its runs is driven again, in ms, sorted.
    pub driven_ms: Vec<u64>,
    /// From the kill to the revocation.
    pub revoked_ms: u64,
    /// Requests to the API from the revocation on until all are driven, renewals included.
    pub requests: u64,
}

impl Takeover {
    /// Returns the time within which this share of the runs is driven, in ms.
    pub fn within(&self, percent: usize) -> u64 {
        let index = (self.driven_ms.len() * percent / 100).min(self.driven_ms.len().saturating_sub(1));
        self.driven_ms.get(index).copied().unwrap_or(0)
    }
}

/// Measures ten minutes of runs whose agents work, spread over hosts.
pub fn idle(hosts: usize, runs: usize) -> Idle {
    let slots: Vec<usize> = (0..runs).map(|run| run % hosts).collect();
    let mut world = World::calm(hosts, &slots);
    world.run_until(KILLED_AT_MS, |_| false);
    let before = world.requests();
    world.run_until(KILLED_AT_MS + 600_000, |_| false);
    let after = world.requests();
    Idle { writes_per_minute: (after.1 - before.1) / 10, reads_per_minute: (after.0 - before.0) / 10 }
}

/// Measures the takeover of all runs of one host by others.
pub fn takeover(survivors: usize, runs: usize) -> Takeover {
    let mut world = World::calm(survivors + 1, &vec![0; runs]);
    world.run_until(KILLED_AT_MS, |_| false);
    world.kill_now(0);
    world.run_until(KILLED_AT_MS + 60_000, World::has_revoked);
    let (revoked_at, before) = (world.now_ms(), world.requests());
    let mut driven_ms = Vec::new();
    world.run_until(KILLED_AT_MS + 600_000, |world| {
        driven_ms.resize(world.driven(), world.now_ms() - revoked_at);
        driven_ms.len() == runs
    });
    let after = world.requests();
    Takeover {
        driven_ms,
        revoked_ms: revoked_at - KILLED_AT_MS,
        requests: after.0 + after.1 - before.0 - before.1,
    }
}
