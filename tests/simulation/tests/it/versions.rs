//! A plugin of an older version of the contract, in the simulated world beside the newest.
//!
//! The world is calm: some invariants read the plugin's snapshots, whose content belongs to the newest version.

use std::path::Path;
use std::thread;

use paperclip_simulation::coverage_points::CoveragePoint;
use paperclip_simulation::fault::Swarm;
use paperclip_simulation::scenario::Scenario;
use paperclip_simulation::{Plugin, case};

use crate::PLUGIN;

fn plugin_of_0_1() -> Plugin {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/contract-0.1/claude_k8s.wasm");
    Plugin::load_file(&path).expect("a plugin of 0.1")
}

#[test]
fn whole_runs_of_both_contract_versions_succeed_side_by_side() {
    let old = plugin_of_0_1();
    thread::scope(|scope| {
        for plugin in [&old, &*PLUGIN] {
            scope.spawn(move || {
                let outcome =
                    case::run_scenario(Scenario::calm(PLUGIN.grammar()), Swarm::default(), 1, plugin);
                assert_eq!(outcome.violation, None);
                assert!(outcome.coverage_points.has(CoveragePoint::Succeeded), "{:#?}", outcome.lines);
            });
        }
    });
}
