//! Worlds without faults, for figures.

use super::{Event, Run, World};
use crate::entropy::Entropy;
use crate::ownership::process::Slot;

/// Bytes of choices: delays of requests and watches.
const BYTES: u32 = 1 << 24;
/// Time between the starts of two runs.
const START_EVERY_MS: u64 = 20;

impl World {
    /// Returns a world with hosts, and a run for each of these slots, whose agent works for longer than anything is measured.
    pub(in crate::ownership) fn calm(hosts: usize, slots: &[usize]) -> World {
        let empty = |_| Slot { process: None, has_volume: false, folders: Default::default(), generation: 0 };
        let runs = (0..slots.len()).map(|index| Run {
            id: format!("run-{index}"),
            key: format!("agent-{index}"),
            is_posted: false,
            results: Vec::new(),
            takes_ms: u64::MAX / 2,
            jobs: Vec::new(),
        });
        let entropy = Entropy::of_seed(0, BYTES);
        let mut world =
            World::of(entropy, (0..hosts).map(empty).collect(), runs.collect(), false, None, false);
        for slot in 0..hosts {
            world.at(0, Event::Start(slot));
        }
        for (run, slot) in slots.iter().enumerate() {
            world.at(2_000 + run as u64 * START_EVERY_MS, Event::Post { run, slot: *slot });
        }
        world
    }

    /// Runs until a time, or until a condition holds after an event.
    pub(in crate::ownership) fn run_until(&mut self, end_ms: u64, mut is_over: impl FnMut(&World) -> bool) {
        while let Some((at, event)) = self.agenda.pop() {
            if at > end_ms {
                self.at(at, event);
                self.now = end_ms;
                return;
            }
            self.now = self.now.max(at);
            self.advance(event);
            assert_eq!(self.violation, None, "nothing strikes");
            if is_over(self) {
                return;
            }
        }
    }

    pub(in crate::ownership) fn kill_now(&mut self, slot: usize) {
        self.advance(Event::Kill(slot));
    }

    pub(in crate::ownership) fn now_ms(&self) -> u64 {
        self.now
    }

    pub(in crate::ownership) fn has_revoked(&self) -> bool {
        self.figures.revocations > 0
    }

    /// Returns how many runs a host drives.
    pub(in crate::ownership) fn driven(&self) -> usize {
        let drivers = self.processes.iter().flat_map(|process| process.drivers.values());
        drivers.filter(|driver| driver.is_driving()).count()
    }

    /// Returns the requests that read, and those that change something.
    pub(in crate::ownership) fn requests(&self) -> (u64, u64) {
        (self.cluster.reads, self.cluster.writes)
    }
}
