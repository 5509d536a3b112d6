//! The ownership simulation within the normal tests.

use paperclip_simulation::ownership::figures::{self, Idle};
use paperclip_simulation::ownership::{self, mutant::Mutant};
use paperclip_simulation::records::{self, mutant::Mutant as RecordMutant};

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

#[test]
fn idle_runs_cost_no_requests_and_each_host_six_writes_a_minute() {
    for (hosts, runs) in [(1, 40), (3, 60)] {
        let expected = Idle { writes_per_minute: 6 * hosts as u64, reads_per_minute: 0 };
        assert_eq!(figures::idle(hosts, runs), expected);
    }
}

#[test]
fn the_runs_of_a_killed_host_are_driven_again_with_few_requests() {
    let takeover = figures::takeover(2, 60);
    assert_eq!((takeover.driven_ms.len(), takeover.within(100), takeover.requests), (60, 463, 306));
}

#[test]
fn any_host_answers_for_a_run_and_none_is_started_twice() {
    let mut figures = [0; 3];
    for seed in 0..4 * SEEDS {
        let outcome = records::run(seed, None, false);
        assert_eq!(outcome.violation, None, "cargo xtask sim --records --seed {seed:#x}");
        figures.iter_mut().zip(outcome.figures).for_each(|(sum, one)| *sum += one);
    }
    assert!(
        figures.iter().all(|count| *count > 0),
        "requests passed on, runs adopted, ended runs found: {figures:?}"
    );
}

#[test]
fn every_defect_of_run_records_is_caught() {
    let is_missed = |mutant: &&RecordMutant| records::catch(**mutant, 2_000).is_none();
    let missed: Vec<&str> = RecordMutant::ALL.iter().filter(is_missed).map(|mutant| mutant.name()).collect();
    assert_eq!(missed, [] as [&str; 0]);
}
