//! The ownership simulation within the normal tests.

use paperclip_simulation::ownership::{self, mutant::Mutant};

/// Cases of the normal tests.
const SEEDS: u64 = 200;
/// Cases within which a mutant must be caught.
const MUTANT_SEEDS: u64 = 400;

#[test]
fn hosts_share_runs_whatever_happens_to_them() {
    for seed in 0..SEEDS {
        let outcome = ownership::run(seed, None, false);
        assert_eq!(outcome.violation, None, "cargo xtask sim --ownership --seed {seed:#x}");
    }
}

#[test]
fn a_case_repeats_itself() {
    for seed in 0..5 {
        assert_eq!(
            ownership::run(seed, None, true).lines,
            ownership::run(seed, None, true).lines,
            "seed {seed}"
        );
    }
}

#[test]
fn every_defect_of_ownership_is_caught() {
    for mutant in Mutant::ALL {
        assert!(ownership::catch(*mutant, MUTANT_SEEDS).is_some(), "{}", mutant.name());
    }
}
