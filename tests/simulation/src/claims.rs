//! `--records`: campaigns of the simulation of run records.

use std::time::Instant;

use paperclip_simulation::records::{self, mutant::Mutant};

use crate::{DEFAULT_CASES, MUTANT_CASES, Options, shown};

/// Returns whether no invariant was violated and, with `--mutants`, every mutant was caught.
pub(super) fn run(options: &Options) -> bool {
    if options.mutants {
        return catch_all(options.seeds.unwrap_or(MUTANT_CASES));
    }
    if let Some(seed) = options.seed {
        return show(seed);
    }
    let start = Instant::now();
    let seeds = options.seeds.unwrap_or(DEFAULT_CASES);
    let mut figures = [0; 3];
    for seed in options.from..options.from + seeds {
        let outcome = records::run(seed, None, false);
        figures.iter_mut().zip(outcome.figures).for_each(|(sum, one)| *sum += one);
        if outcome.violation.is_some() {
            return show(seed);
        }
    }
    let [forwarded, adopted, ended] = figures;
    anstream::println!("{seeds} cases in {:.1} s, no invariant was violated", start.elapsed().as_secs_f64());
    anstream::println!("{forwarded} requests passed on, {adopted} runs adopted, {ended} ended runs found");
    true
}

fn show(seed: u64) -> bool {
    let outcome = records::run(seed, None, true);
    shown::case("--records", seed, &outcome.lines, outcome.violation)
}

fn catch_all(seeds: u64) -> bool {
    let caught = Mutant::ALL.iter().map(|mutant| (mutant.name(), records::catch(*mutant, seeds)));
    shown::mutants(seeds, caught)
}
