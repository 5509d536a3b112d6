//! The Leases of hosts: each process has an instance, which is renewed, or revoked once it was not renewed for as long as it is valid.

use std::time::Duration;

use paperclip_engine::api::ApiCall;
use paperclip_engine::driver::{DriverEvent, WatchEvent};
use paperclip_engine::ownership::{CERTAIN_PERIOD, HOST_LEASE_S, HostState, RENEW_INTERVAL};
use paperclip_engine::time::{Timestamp, millis};

use super::{World, WorldEvent};
use crate::coverage_points::CoveragePoint;
use crate::fault::Fault;

/// The host of a process in the namespace of its run's guard.
#[derive(Debug)]
pub(crate) struct Host {
    /// The guard of the run.
    pub(crate) guard: String,
    instance: String,
    /// Instances so far.
    count: u32,
    renewed_ms: u64,
}

/// How long an instance is valid without renewal, in ms.
const VALID_MS: u64 = HOST_LEASE_S as u64 * 1_000;

impl World {
    /// A run needs its host to be known.
    pub(super) fn join(&mut self, process: usize, guard: String) {
        let instance = format!("instance-{process}");
        self.cluster.hosts.insert(instance.clone());
        self.processes[process].host = Some(Host { guard, instance, count: 1, renewed_ms: self.now_ms });
        self.announce_host(process);
        self.after(millis(RENEW_INTERVAL), WorldEvent::RenewHost { process });
    }

    pub(super) fn renew_host(&mut self, process: usize) {
        if !self.processes[process].is_alive {
            return;
        }
        let (now_ms, run) = (self.now_ms, self.processes[process].run);
        let is_lost = self.strikes(Fault::HostCutOff, run);
        let Some(host) = &mut self.processes[process].host else { return };
        // Others revoke it as soon as it has expired.
        if now_ms - host.renewed_ms >= VALID_MS {
            self.cluster.hosts.remove(&host.instance);
        }
        let retry_ms = if is_lost {
            2 * millis(RENEW_INTERVAL)
        } else {
            if !self.cluster.hosts.contains(&host.instance) {
                host.count += 1;
                host.instance = format!("instance-{process}-{}", host.count);
                self.cluster.hosts.insert(host.instance.clone());
                self.coverage_points.hit(CoveragePoint::InstanceRevoked);
            }
            host.renewed_ms = now_ms;
            self.announce_host(process);
            millis(RENEW_INTERVAL)
        };
        self.after(retry_ms, WorldEvent::RenewHost { process });
    }

    fn announce_host(&mut self, process: usize) {
        let Some(host) = &self.processes[process].host else { return };
        let instance = host.instance.clone();
        let certain_until = Timestamp::from_millis(self.host_ms(process, host.renewed_ms)) + CERTAIN_PERIOD;
        let state = HostState { instance, certain_until };
        self.give(process, DriverEvent::Watch(WatchEvent::Host(state)));
    }

    /// A process has ended: its Lease is deleted if it could do that, and expires otherwise.
    pub(super) fn end_host(&mut self, process: usize, is_orderly: bool) {
        let Some(host) = self.processes[process].host.take() else { return };
        if is_orderly {
            self.cluster.hosts.remove(&host.instance);
        } else {
            let spread_ms = self.entropy.skewed(0, 3_000);
            let expires_ms = (host.renewed_ms + VALID_MS).max(self.now_ms) + spread_ms;
            self.at(expires_ms, WorldEvent::RevokeHost { instance: host.instance });
        }
    }

    /// Plans the reports of a guard that a request has changed.
    pub(super) fn report_guard(&mut self, request: &ApiCall) {
        let (ApiCall::CreateLease(lease) | ApiCall::UpdateLease(lease) | ApiCall::DeleteLease(lease)) =
            request
        else {
            return;
        };
        let is_of = |process: &super::Process| {
            process.is_alive && process.host.as_ref().is_some_and(|host| host.guard == lease.name)
        };
        let members = self.processes.iter().enumerate().filter(|(_, process)| is_of(process));
        let members: Vec<usize> = members.map(|(index, _)| index).collect();
        for process in members {
            let run = self.processes[process].run;
            if !self.strikes(Fault::WatchLate, run) {
                let delay_ms = millis(Duration::from_millis(self.entropy.skewed(1, 200)));
                self.after(delay_ms, WorldEvent::GuardChanged { process });
            }
        }
    }
}
