//! Many cases, one after another, and what they showed together.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::case::{Case, Outcome};
use crate::fault::{Fault, Phase};
use crate::marks::Marks;
use crate::mutant::Mutant;
use crate::plugin::Plugin;

/// What a set of cases showed.
#[derive(Debug, Default)]
pub struct Tally {
    pub cases: u64,
    /// Runs of agents in them.
    pub runs: u64,
    pub marks: Marks,
    pub struck: BTreeSet<(Fault, Phase)>,
}

impl Tally {
    pub fn add(&mut self, outcome: &Outcome) {
        self.cases += 1;
        self.runs += outcome.runs as u64;
        self.marks.add(&outcome.marks);
        self.struck.extend(&outcome.struck);
    }
}

/// How many cases to run.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    pub first_seed: u64,
    pub seeds: u64,
    pub time: Option<Duration>,
}

/// Runs cases until one breaks a promise, all are run, or the time is up. `progress` is called after each.
///
/// # Errors
/// The first case that breaks a promise.
pub fn run(
    plugin: &Plugin,
    mutant: Option<Mutant>,
    extent: Extent,
    mut progress: impl FnMut(&Tally),
) -> Result<Tally, Box<(Case, Outcome, Tally)>> {
    let start = Instant::now();
    let mut tally = Tally::default();
    for seed in extent.first_seed..extent.first_seed.saturating_add(extent.seeds) {
        if extent.time.is_some_and(|time| start.elapsed() >= time) {
            break;
        }
        let case = Case { mutant, ..Case::of_seed(seed) };
        let outcome = case.run(plugin);
        tally.add(&outcome);
        if outcome.violation.is_some() {
            return Err(Box::new((case, outcome, tally)));
        }
        progress(&tally);
    }
    Ok(tally)
}
