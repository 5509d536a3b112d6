//! The simulation within the normal tests: few seeds, under the plugin as it was built. `cargo xtask sim` runs many.

use std::sync::LazyLock;

use paperclip_simulation::campaign::{self, Extent, Tally};
use paperclip_simulation::coverage_points::CoveragePoint;
use paperclip_simulation::entropy::CASE_BYTES;
use paperclip_simulation::fault::{Fault, Swarm};
use paperclip_simulation::grammar::Grammar;
use paperclip_simulation::plugin::DEFAULT_TYPE;
use paperclip_simulation::scenario::Scenario;
use paperclip_simulation::{Plugin, case};

mod corpus;
mod fixed;
mod hosts;
mod mutated;
mod orders;
mod outside;
mod versions;

static PLUGIN: LazyLock<Plugin> = LazyLock::new(|| Plugin::load(DEFAULT_TYPE).expect("the built plugin"));

/// Cases of the normal tests.
const SEEDS: u64 = 1_000;

fn assert_kept(tally: &Tally, plugin: &Plugin) {
    if let Some((case, violation)) = tally.failures.first() {
        panic!("{}: {}\nrerun: {}", violation.rule, violation.text, case.command(plugin));
    }
}

#[test]
fn a_healthy_run_succeeds_without_faults() {
    let outcome = case::run_scenario(Scenario::calm(PLUGIN.grammar()), Swarm::default(), 1, &PLUGIN);
    assert_eq!(outcome.violation, None);
    assert!(outcome.coverage_points.has(CoveragePoint::Succeeded), "{:#?}", outcome.lines);
}

/// The invariants demand that the result names the suspension.
#[test]
fn a_job_that_is_suspended_in_its_run_is_the_cause() {
    let swarm = || Swarm::of(&[Fault::JobSuspended], 128);
    let outcomes =
        (0..60).map(|seed| case::run_scenario(Scenario::calm(PLUGIN.grammar()), swarm(), seed, &PLUGIN));
    let mut suspended = 0;
    for outcome in outcomes {
        assert_eq!(outcome.violation, None, "{:#?}", outcome.lines);
        suspended += u32::from(outcome.coverage_points.has(CoveragePoint::Suspended));
    }
    assert!(suspended > 0, "no seed suspends a Job whose agent runs");
}

/// Each case is run twice, and was the same both times.
#[test]
fn every_promise_is_kept_and_a_case_repeats_itself() {
    let tally = campaign::run(&PLUGIN, None, Extent { twice: true, ..Extent::first(SEEDS) }, |_| ());
    assert_kept(&tally, &PLUGIN);
    assert_eq!(tally.cases, SEEDS);
    assert!(tally.runs > SEEDS, "{}", tally.runs);
}

/// Cases of each agent type that has no cases of its own above.
const SEEDS_OF_OTHERS: u64 = 150;

#[test]
fn every_promise_is_kept_for_each_agent_type() {
    let types = Grammar::types().expect("the grammars");
    let others: Vec<_> = types.into_iter().filter(|agent_type| agent_type != DEFAULT_TYPE).collect();
    assert!(others.len() > 2, "{others:?}");
    for agent_type in others {
        let plugin = Plugin::load(&agent_type).expect("a built plugin with a grammar");
        let outcome = case::run_scenario(Scenario::calm(plugin.grammar()), Swarm::default(), 1, &plugin);
        assert_eq!(outcome.violation, None, "{agent_type}");
        assert!(outcome.coverage_points.has(CoveragePoint::Succeeded), "{:#?}", outcome.lines);
        assert_kept(&campaign::run(&plugin, None, Extent::first(SEEDS_OF_OTHERS), |_| ()), &plugin);
    }
}

#[test]
fn runs_a_case_of_fuzzer_bytes() {
    let bytes: Vec<u8> = (0..CASE_BYTES).map(|at| (at * 37 % 251) as u8).collect();
    for length in [0, 1, 64, bytes.len()] {
        assert_eq!(case::run_bytes(&bytes[..length], &PLUGIN).violation, None, "{length} bytes");
    }
}
