//! Two or three hosts on one cluster: the ownership protocol and the guards of runs, unchanged, with processes that are killed, paused, cut
//! off, stopped and started again. `docs/simulation.md` has the invariants.
//!
//! The world knows which runs have a result, and which host has a run that has no guard yet. It plays the part of the run records, which are
//! not simulated.

mod cluster;
mod driver;
pub mod figures;
pub mod mutant;
mod process;
mod world;

use crate::entropy::Entropy;
use mutant::Mutant;
use world::World;

/// Bytes of choices of a case.
const CASE_BYTES: u32 = 1 << 20;

/// What became of a case.
#[derive(Debug)]
pub struct Outcome {
    /// The violated invariant and what violates it.
    pub violation: Option<(&'static str, String)>,
    /// What happened, if it was recorded.
    pub lines: Vec<String>,
    pub figures: Figures,
}

/// What a case measured.
#[derive(Debug, Default, Clone)]
pub struct Figures {
    /// For how long each undriven Job was without a host after its host had released it, in ms. Times without any healthy host do not count.
    pub released_ms: Vec<u64>,
    /// The same after its host was killed, paused or cut off.
    pub lost_ms: Vec<u64>,
    /// How long after the release of a guard a run that waits for it acquired it, in ms.
    pub handover_ms: Vec<u64>,
    pub runs: u64,
    pub takeovers: u64,
    pub moved: u64,
    pub revocations: u64,
    pub superseded: u64,
}

impl Figures {
    /// Adds those of another case.
    pub fn add(&mut self, other: Figures) {
        self.released_ms.extend(other.released_ms);
        self.lost_ms.extend(other.lost_ms);
        self.handover_ms.extend(other.handover_ms);
        self.runs += other.runs;
        self.takeovers += other.takeovers;
        self.moved += other.moved;
        self.revocations += other.revocations;
        self.superseded += other.superseded;
    }
}

/// Runs the case of a seed.
pub fn run(seed: u64, mutant: Option<Mutant>, is_shown: bool) -> Outcome {
    let mut world = World::new(Entropy::of_seed(seed, CASE_BYTES), mutant, is_shown);
    world.run();
    world.into_outcome()
}

/// Returns the first seed below a limit whose case catches a mutant, with what it violates. Without the mutant the case violates nothing.
pub fn catch(mutant: Mutant, seeds: u64) -> Option<(u64, (&'static str, String))> {
    (0..seeds).find_map(|seed| {
        let violation = run(seed, Some(mutant), false).violation?;
        run(seed, None, false).violation.is_none().then_some((seed, violation))
    })
}
