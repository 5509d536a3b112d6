//! The resumption of a run whose journal was replayed: open requests are sent again.
//!
//! A request that is sent twice takes effect once: names are the run's own, a creation recognises an existing object of this run,
//! deletions and changes carry the UID. Logs are read from the last delivered line on.

use std::time::Duration;

use paperclip_contract::types::{AcquireGuard, Event};

use super::Run;
use super::state::{Expected, Phase, Release, Remains};
use crate::guest::Guest;
use crate::journal::Entry;
use crate::ledger::GuardState;
use crate::port::{Closing, Effect};
use crate::time::{Timestamp, millis};

/// How long watches have to report the state of the cluster before a timer fires that became due without a host.
const OBSERVATION_PERIOD: Duration = Duration::from_secs(5);

impl<G: Guest> Run<G> {
    pub(super) fn resume(&mut self) {
        if !self.replay.is_started {
            return self.start();
        }
        let away = self.now.since(self.replay.at);
        self.segment.since = self.now;
        let end = self.replay.end.take();
        if let (true, Some((ending, _))) = (self.replay.is_closed, &end) {
            self.phase = Phase::Closed;
            return self.effects.push_back(Effect::Close(Closing::Ended(*ending)));
        }
        self.append(Entry::Resumed { at: self.now }.to_line());
        match end {
            Some((ending, jobs)) => {
                self.phase = Phase::CleaningUp(ending);
                let remains = Remains { jobs, uncertain: self.ledger.uncertain_jobs(), is_inherited: true };
                self.drop_requests();
                if let GuardState::Requested { guard, .. }
                | GuardState::Held { guard }
                | GuardState::Unreachable { guard } = std::mem::take(&mut self.ledger.guard)
                {
                    self.release = Some(Release::Inherited(guard));
                }
                if self.record_end_again() {
                    self.unrecorded = Some(remains);
                } else {
                    self.delete_jobs(remains);
                }
            }
            None => self.continue_run(away),
        }
    }

    fn continue_run(&mut self, away: Duration) {
        self.phase = Phase::Live;
        match std::mem::take(&mut self.ledger.guard) {
            GuardState::None => {}
            GuardState::Unreachable { guard } => {
                self.ledger.guard = GuardState::Unreachable { guard: guard.clone() };
                self.lease.set_unreachable(guard);
            }
            GuardState::Lost => {
                self.ledger.guard = GuardState::Lost;
                self.lease.set_lost();
            }
            GuardState::Requested { guard, until } => {
                self.ledger.guard = GuardState::Requested { guard: guard.clone(), until };
                let wait_ms = millis(until.since(self.now));
                let request = AcquireGuard { wait_ms, ..guard };
                self.join_host(&request);
                let outcomes = self.lease.acquire_again(self.now, request);
                self.apply_lease(outcomes);
            }
            GuardState::Held { guard } => {
                self.ledger.guard = GuardState::Held { guard: guard.clone() };
                self.join_host(&guard);
                let outcomes = self.lease.resume(self.now, guard);
                self.apply_lease(outcomes);
            }
        }
        for job in self.ledger.followed.values().cloned().collect::<Vec<_>>() {
            self.follow_job(job);
        }
        for (command, log) in &self.ledger.logs {
            self.logs.start(self.now, *command, log.target.clone(), log.position.clone());
        }
        self.drain_logs();
        for (poll, path) in &self.ledger.polls {
            self.polls.start(self.now, *poll, path.clone());
        }
        for (command, action) in self.ledger.open.clone() {
            self.call(command, action);
        }
        // The commands of the last step may be missing in the journal, because the host crashed before they were appended.
        match std::mem::take(&mut self.replay.expected) {
            Expected::Nothing => {}
            Expected::Commands(commands) => self.apply_commands(commands),
            Expected::Fault(fault) => return self.end_with_fault(&fault),
        }
        // So may the end that the plugin decided on; the plugin is not called again then.
        if let Some(finish) = self.replay.finish.take() {
            if let Err(cause) = self.finish(finish) {
                let fault = self.fault(cause);
                self.end_with_fault(&fault);
            }
            return;
        }
        // Timers that became due without a host wait until the cluster could be observed.
        for due_at in self.ledger.timers.values_mut() {
            *due_at = (*due_at).max(self.now + OBSERVATION_PERIOD);
        }
        self.events.push(Event::HostResumed(millis(away)));
        self.step_guest();
        // Start a new segment soon, so that a host that crashes repeatedly does not take longer each time.
        self.segment.since = Timestamp::EPOCH;
    }
}
