//! Going on with a run whose journal was replayed: what was open is asked for again.
//!
//! Nothing that is asked for twice happens twice: names are the run's own, creations find what stands already, deletions and changes
//! carry the UID. What was being read is read on from where it was delivered to.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use paperclip_contract::types::Event;

use super::replay::Expected;
use super::{Phase, Release, Run};
use crate::guest::Guest;
use crate::journal::Entry;
use crate::ledger::Claim;
use crate::port::{Closing, Effect};
use crate::time::{Timestamp, millis};

/// How long the cluster has to tell how things stand before a timer fires that became due meanwhile.
const OBSERVATION_PERIOD: Duration = Duration::from_secs(5);

impl<G: Guest> Run<G> {
    pub(super) fn resume(&mut self) {
        if !self.replay.is_begun {
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
                let looked_at = jobs.into_iter().chain(self.ledger.uncertain_jobs()).collect();
                self.clean_up(Vec::new(), looked_at);
                if let Claim::Wanted { guard, .. } | Claim::Held { guard } | Claim::Unreachable { guard } =
                    std::mem::take(&mut self.ledger.guard)
                {
                    self.release = Some(Release::Left(guard));
                }
            }
            None => self.go_on(away),
        }
    }

    fn go_on(&mut self, away: Duration) {
        self.phase = Phase::Live;
        match std::mem::take(&mut self.ledger.guard) {
            Claim::None => {}
            Claim::Unreachable { guard } => {
                self.ledger.guard = Claim::Unreachable { guard: guard.clone() };
                self.lock.give_up(guard);
            }
            Claim::Lost => {
                self.ledger.guard = Claim::Lost;
                self.lock.lose();
            }
            Claim::Wanted { guard, until } => {
                self.ledger.guard = Claim::Wanted { guard: guard.clone(), until };
                let wait_ms = millis(until.since(self.now));
                let wanted = paperclip_contract::types::AcquireGuard { wait_ms, ..guard };
                let outcomes = self.lock.acquire(self.now, wanted);
                self.take_lock(outcomes);
            }
            Claim::Held { guard } => {
                self.ledger.guard = Claim::Held { guard: guard.clone() };
                let outcomes = self.lock.retake(guard);
                self.take_lock(outcomes);
            }
        }
        for job in self.ledger.followed.values().cloned().collect::<Vec<_>>() {
            self.follow_job(job);
        }
        for (command, log) in &self.ledger.logs {
            self.logs.begin(self.now, *command, log.target.clone(), log.position.clone());
        }
        self.drain_logs();
        for (poll, path) in &self.ledger.polls {
            self.polls.begin(self.now, *poll, path.clone());
        }
        for (command, action) in self.ledger.open.clone() {
            self.call(command, action);
        }
        // The last step's answer may have died with the host before it was noted.
        match std::mem::take(&mut self.replay.expected) {
            Expected::Nothing => {}
            Expected::Commands(commands) => self.take_commands(commands),
            Expected::Fault(fault) => return self.break_off(&fault),
        }
        // So may the end that the plugin had decided on: it is asked for nothing any more.
        if let Some(finish) = self.replay.finish.take() {
            if let Err(cause) = self.finish(finish) {
                let fault = self.fault(cause);
                self.break_off(&fault);
            }
            return;
        }
        // What became due while nobody looked waits until there was time to look.
        for due_at in self.ledger.timers.values_mut() {
            *due_at = (*due_at).max(self.now + OBSERVATION_PERIOD);
        }
        self.events.push(Event::HostResumed(millis(away)));
        self.step_guest();
        // What was replayed is not replayed again: a host that dies over and over does not take longer each time.
        self.segment.since = Timestamp::EPOCH;
    }
}

pub(super) fn encode(guest: &[u8]) -> String {
    STANDARD.encode(guest)
}

pub(crate) fn decode(guest: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(guest).map_err(|error| error.to_string())
}
