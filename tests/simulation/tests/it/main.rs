//! The simulation within the normal tests: few seeds, under the plugin as it was built. `cargo xtask sim` runs many.

use std::sync::LazyLock;

use paperclip_simulation::campaign::{self, Extent};
use paperclip_simulation::entropy::CASE_BYTES;
use paperclip_simulation::fault::Swarm;
use paperclip_simulation::marks::Mark;
use paperclip_simulation::scenario::Scenario;
use paperclip_simulation::{Case, Outcome, Plugin, case};

static PLUGIN: LazyLock<Plugin> = LazyLock::new(|| Plugin::load().expect("the built plugin"));

/// Cases of the normal tests.
const SEEDS: u64 = 20;

fn assert_kept(case: &Case, outcome: &Outcome) {
    if let Some(violation) = &outcome.violation {
        panic!("{}: {}\nrerun: {}", violation.rule, violation.text, case.command());
    }
}

#[test]
fn a_healthy_run_succeeds_in_a_calm_world() {
    let outcome = case::run_scenario(Scenario::calm(), Swarm::default(), 1, &PLUGIN);
    assert_eq!(outcome.violation, None);
    assert!(outcome.marks.has(Mark::Succeeded), "{:#?}", outcome.lines);
}

#[test]
fn every_promise_is_kept_and_a_case_repeats_itself() {
    for seed in 0..SEEDS {
        let case = Case::of_seed(seed);
        let outcome = case.run(&PLUGIN);
        assert_kept(&case, &outcome);
        assert_eq!(outcome.hash, case.run(&PLUGIN).hash, "two runs of one case differ: {}", case.command());
    }
}

#[test]
fn a_fuzzers_bytes_are_a_case() {
    let bytes: Vec<u8> = (0..CASE_BYTES).map(|at| (at * 37 % 251) as u8).collect();
    for length in [0, 1, 64, bytes.len()] {
        assert_eq!(case::run_bytes(&bytes[..length], &PLUGIN).violation, None, "{length} bytes");
    }
}

#[test]
fn a_campaign_counts_what_it_ran() {
    let extent = Extent { first_seed: 0, seeds: 5, time: None };
    let tally = campaign::run(&PLUGIN, None, extent, |_| ()).unwrap();
    assert_eq!(tally.cases, 5);
    assert!(tally.runs >= 5);
}
