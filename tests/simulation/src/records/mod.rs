//! The records of runs between two or three hosts and clients that ask any of them: the product's claims, with hosts that are killed, paused
//! and stopped, and requests and answers that are lost. Jobs and guards are as simple as they can be; `ownership` simulates those.
//! `docs/simulation.md` has the invariants.

pub mod mutant;
mod server;
mod world;

use crate::entropy::Entropy;
use mutant::Mutant;
use world::World;

/// Bytes of choices of a case.
const CASE_BYTES: u32 = 1 << 16;

/// What became of a case.
#[derive(Debug)]
pub struct Outcome {
    /// The violated invariant and what violates it.
    pub violation: Option<(&'static str, String)>,
    /// What happened, if it was recorded.
    pub lines: Vec<String>,
    /// Requests that were passed on, runs that were adopted, and claims that found an ended run.
    pub figures: [u64; 3],
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
