//! Many cases, one after another, and what they covered together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::case::{Case, Outcome};
use crate::coverage::Moves;
use crate::coverage_points::CoveragePoints;
use crate::fault::{Fault, Phase};
use crate::invariants::Violation;
use crate::mutant::Mutant;
use crate::plugin::Plugin;

/// How a mutant was caught.
#[derive(Debug)]
pub struct Catch {
    /// Cases that were run, this one included.
    pub cases: u64,
    pub case: Case,
    pub violation: Violation,
}

/// Runs cases with a mutant until one violates an invariant that holds without the mutant.
pub fn catch(plugin: &Plugin, mutant: Mutant, seeds: u64) -> Option<Catch> {
    (0..seeds).find_map(|seed| {
        let case = Case::of_mutant(seed, mutant);
        let violation = case.run(plugin).violation?;
        let is_sound = Case { mutant: None, ..case }.run(plugin).violation.is_none();
        is_sound.then_some(Catch { cases: seed + 1, case, violation })
    })
}

/// What a set of cases covered.
#[derive(Debug, Default)]
pub struct Tally {
    pub cases: u64,
    /// Runs of agents in them.
    pub runs: u64,
    pub coverage_points: CoveragePoints,
    /// How many cases had the fault in the phase.
    pub struck: BTreeMap<(Fault, Phase), u64>,
    pub moves: Moves,
    /// Cases that violated an invariant, in the order of their seeds.
    pub failures: Vec<(Case, Violation)>,
}

impl Tally {
    fn add(&mut self, case: Case, outcome: Outcome) {
        self.cases += 1;
        self.runs += outcome.runs as u64;
        self.coverage_points.add(&outcome.coverage_points);
        for pair in outcome.struck {
            *self.struck.entry(pair).or_default() += 1;
        }
        self.moves.add(&outcome.moves);
        self.failures.extend(outcome.violation.map(|violation| (case, violation)));
    }

    /// Returns the pairs of fault and phase that were seen.
    pub fn pairs(&self) -> BTreeSet<(Fault, Phase)> {
        self.struck.keys().copied().collect()
    }
}

/// How many cases to run.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    pub first_seed: u64,
    pub seeds: u64,
    pub time: Option<Duration>,
    /// Stop once this many cases have violated an invariant.
    pub failures: usize,
    /// Run each case twice, and require the same trace.
    pub twice: bool,
}

impl Extent {
    /// Returns the first seeds, each once, until an invariant is violated.
    pub fn first(seeds: u64) -> Self {
        Extent { first_seed: 0, seeds, time: None, failures: 1, twice: false }
    }
}

/// Runs cases until enough of them have violated an invariant, all are run, or the time is up. `progress` is called after each.
pub fn run(
    plugin: &Plugin,
    mutant: Option<Mutant>,
    extent: Extent,
    mut progress: impl FnMut(&Tally),
) -> Tally {
    let start = Instant::now();
    let mut tally = Tally::default();
    for seed in extent.first_seed..extent.first_seed.saturating_add(extent.seeds) {
        if extent.time.is_some_and(|time| start.elapsed() >= time) || tally.failures.len() >= extent.failures
        {
            break;
        }
        let case = mutant.map_or_else(|| Case::of_seed(seed), |mutant| Case::of_mutant(seed, mutant));
        let outcome = if extent.twice { case.run_twice(plugin) } else { case.run(plugin) };
        tally.add(case, outcome);
        progress(&tally);
    }
    tally
}
