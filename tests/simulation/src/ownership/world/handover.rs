//! O7: a guard that is released is acquired at once by a run that waits for it.

use super::{Driver, Event, HEALING_MS, Sender, World};
use paperclip_engine::api::ApiCall;
use paperclip_engine::lease::lease_name;

/// Longest time from the release of a guard to its acquisition by a run that waits for it.
const HANDOVER_BOUND_MS: u64 = 500;
/// When a request that was sent before the world healed has an answer, or none.
const ANSWERED_MS: u64 = HEALING_MS + 10_000;

/// A guard that was released while runs wait for it.
#[derive(Debug)]
pub(super) struct Released {
    since: u64,
    /// The runs that wait for it, and their processes.
    waiting: Vec<(usize, usize)>,
}

impl World {
    /// Notes that a guard is free.
    pub(super) fn note_released(&mut self, key: &str) {
        let mut waiting = Vec::new();
        for (process, this) in self.processes.iter().enumerate() {
            // A watch that was interrupted reports what it has missed first.
            let observes = this.is_healthy(self.now)
                && this.has_leases
                && !this.state.instance.is_empty()
                && this.observes_since() <= self.now;
            let of_key = this.drivers.iter().filter(|(_, driver)| driver.key == key && driver.is_waiting());
            waiting.extend(of_key.filter(|_| observes).map(|(run, _)| (process, *run)));
        }
        if !waiting.is_empty() {
            self.released.insert(key.to_owned(), Released { since: self.now, waiting });
        }
    }

    /// Notes that a run has acquired a free guard.
    pub(super) fn note_acquired(&mut self, key: &str) {
        let Some(released) = self.released.remove(key) else { return };
        self.check_handover(key, &released);
        if self.is_undisturbed(&released) {
            self.figures.handover_ms.push(self.now - released.since);
        }
    }

    pub(super) fn check_handovers(&mut self) {
        for (key, released) in std::mem::take(&mut self.released) {
            self.check_handover(&key, &released);
            self.released.insert(key, released);
        }
    }

    fn check_handover(&mut self, key: &str, released: &Released) {
        let took = self.now - released.since;
        if took > HANDOVER_BOUND_MS && self.is_undisturbed(released) {
            let waiting = &released.waiting;
            let text = format!("the guard of {key} is free for {took} ms, and {waiting:?} wait for it");
            self.violate("O7", text);
        }
    }

    /// Whether nothing keeps the runs that wait from acquiring the guard at once.
    fn is_undisturbed(&self, released: &Released) -> bool {
        let waits = |&(process, run): &(usize, usize)| {
            let this = &self.processes[process];
            this.is_healthy(self.now) && this.drivers.get(&run).is_some_and(Driver::is_waiting)
        };
        let may_lag = self.has_lags && released.since < ANSWERED_MS;
        !may_lag && self.disturbed_ms < released.since && released.waiting.iter().any(waits)
    }

    /// Sends the release of a run's guard before its time.
    pub(super) fn release_early(&mut self, process: usize, sender: Sender) {
        let Sender::Run(run, _) = sender else { return };
        let Some(guard) = self.cluster.guards.get(&lease_name(&self.runs[run].key)) else { return };
        let request = Box::new(ApiCall::DeleteLease(guard.clone()));
        // No driver has this call: its answer is dropped.
        let sender = Sender::Run(run, u64::MAX);
        self.after(1, Event::Send { process, sender, request, is_answer_lost: false });
    }
}
