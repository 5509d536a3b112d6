//! A process of a host, with what the shell keeps for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use paperclip_engine::ownership::{Clocks, HostIdentity, HostState, Ownership};
use paperclip_engine::time::Timestamp;

use super::cluster::NAMESPACE;
use super::driver::Driver;

/// A place where processes of one host run, one after another.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) process: Option<usize>,
    /// Its folder outlives a process.
    pub(super) has_volume: bool,
    /// Runs of which the folder has a journal, with their Jobs.
    pub(super) folders: BTreeSet<usize>,
    /// Processes so far.
    pub(super) generation: u32,
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) slot: usize,
    pub(super) host: String,
    pub(super) nonce: String,
    pub(super) ownership: Ownership,
    pub(super) drivers: BTreeMap<usize, Driver>,
    /// Runs that were prepared, by Job; whether from the journal.
    pub(super) prepared: BTreeMap<String, (usize, bool)>,
    pub(super) state: HostState,
    pub(super) is_alive: bool,
    pub(super) is_stopping: bool,
    pub(super) started_ms: u64,
    pub(super) paused_until: u64,
    pub(super) cut_until: u64,
    pub(super) lease_cursor: usize,
    pub(super) job_cursor: usize,
    pub(super) has_leases: bool,
    pub(super) has_jobs: bool,
    /// When its next ticks are planned, in the world's time: of the protocol, and of each driver.
    pub(super) tick_at: Option<u64>,
    pub(super) run_ticks: BTreeMap<usize, u64>,
    /// Its clock since the machine started is this far ahead of the world's, in ms.
    elapsed_ahead: u64,
    /// Its wall clock is this far from the world's, in ms.
    wall_off: i64,
}

impl Process {
    pub(super) fn new(slot: usize, host: String, generation: u32, now: u64, clocks: (u64, i64)) -> Process {
        let nonce = format!("s{slot}g{generation}");
        let identity = HostIdentity {
            namespace: NAMESPACE.into(),
            host: host.clone(),
            nonce: nonce.clone(),
            address: None,
            version: String::new(),
        };
        Process {
            slot,
            host,
            nonce,
            ownership: Ownership::new(identity),
            drivers: BTreeMap::new(),
            prepared: BTreeMap::new(),
            state: HostState::default(),
            is_alive: true,
            is_stopping: false,
            started_ms: now,
            paused_until: 0,
            cut_until: 0,
            lease_cursor: 0,
            job_cursor: 0,
            has_leases: false,
            has_jobs: false,
            tick_at: None,
            run_ticks: BTreeMap::new(),
            elapsed_ahead: clocks.0,
            wall_off: clocks.1,
        }
    }

    pub(super) fn clocks(&self, now: u64) -> Clocks {
        let elapsed = Timestamp::from_millis(now + self.elapsed_ahead);
        Clocks { elapsed, wall: self.wall(now) }
    }

    pub(super) fn wall(&self, now: u64) -> Timestamp {
        Timestamp::from_millis(now.saturating_add_signed(self.wall_off) + WALL_START_MS)
    }

    /// The world's time of a time of its clock since the machine started.
    pub(super) fn world_of_elapsed(&self, at: Timestamp) -> u64 {
        at.as_millis().saturating_sub(self.elapsed_ahead)
    }

    /// The world's time of a time of its wall clock.
    pub(super) fn world_of_wall(&self, at: Timestamp) -> u64 {
        at.as_millis().saturating_sub(WALL_START_MS).saturating_add_signed(-self.wall_off)
    }

    /// The state of the host by the wall clock, as its runs get it.
    pub(super) fn state_for_runs(&self, now: u64, state: HostState) -> HostState {
        if state.certain_until == Timestamp::MAX {
            return state;
        }
        let remaining = state.certain_until.since(self.clocks(now).elapsed);
        let certain_until =
            if remaining == Duration::ZERO { Timestamp::EPOCH } else { self.wall(now) + remaining };
        HostState { certain_until, ..state }
    }

    /// Since when it has listed everything, and waits for no answer that does not come.
    pub(super) fn observes_since(&self) -> u64 {
        let has_been_cut_off = self.cut_until > 0;
        let answered_ms = if has_been_cut_off { self.cut_until + NO_ANSWER_MS } else { 0 };
        self.started_ms.max(self.paused_until).max(answered_ms) + LISTED_AFTER_MS
    }

    /// Whether it reacts to what happens, and reaches the server.
    pub(super) fn is_healthy(&self, now: u64) -> bool {
        self.is_alive && !self.is_stopping && self.paused_until <= now && self.cut_until <= now
    }
}

/// After how long a request without an answer is given up, in ms.
pub(super) const NO_ANSWER_MS: u64 = 5_000;
/// How long after its start, or the end of a pause, a host has listed everything, in ms.
const LISTED_AFTER_MS: u64 = 1_500;
/// When the world starts, in ms since 1970.
const WALL_START_MS: u64 = 1_800_000_000_000;
