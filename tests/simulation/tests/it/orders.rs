//! The world is compared with clusters: a run in the world shows each order of observations that a run on a cluster showed.

use std::collections::BTreeSet;

use paperclip_shell::journal::History;
use paperclip_simulation::case;
use paperclip_simulation::fault::{Fault, Swarm};
use paperclip_simulation::order::{observed, scenario};

use super::PLUGIN;

/// Seeds within which the world must show an order. They decide the delays.
const SEEDS: u64 = 5_000;

/// `scenario | cluster | observations in order`, a line per run: `cargo xtask sim --order` prints the last part.
const SEEN: &str = include_str!("../../../fixtures/orders.txt");

/// The orders of a scenario that no seed shows.
fn never_in_the_world(name: &str, seen: BTreeSet<&str>) -> BTreeSet<String> {
    let mut missing: BTreeSet<String> = seen.into_iter().map(str::to_owned).collect();
    let file = tempfile::NamedTempFile::new().expect("a temporary file for a journal");
    for seed in 0..SEEDS {
        if missing.is_empty() {
            break;
        }
        // Of two watches one may be later than the other: on the local cluster a Job is seen to end before its pod.
        let is_late = seed % 2 == 1;
        let swarm = if is_late { Swarm::of(&[Fault::WatchLate], 40) } else { Swarm::default() };
        let outcome = case::run_scenario(scenario(name, &PLUGIN).expect("a scenario"), swarm, seed, &PLUGIN);
        assert_eq!(outcome.violation, None, "{name}, seed {seed}");
        std::fs::write(file.path(), outcome.journals[0].files.concat())
            .expect("a temporary file for a journal");
        let entries = History::open(file.path()).expect("a journal").entries();
        let order = observed(entries.map(|entry| entry.expect("an entry").1)).join(", ");
        let at = |thing: &str| order.find(thing).unwrap_or(usize::MAX);
        let is_possible =
            is_late || (at("pod running") < at("log lines") && at("log lines") < at("log ended"));
        assert!(is_possible, "{name}, seed {seed}: no cluster could show this: {order}");
        missing.remove(&order);
    }
    missing
}

#[test]
fn the_world_shows_each_order_that_clusters_show() {
    let seen: Vec<Vec<&str>> = SEEN
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let names: BTreeSet<&str> = seen.iter().map(|line| line[0]).collect();
    assert_eq!(names, BTreeSet::from(["cancelled", "fails", "succeeds"]));
    for name in names {
        let orders = seen.iter().filter(|line| line[0] == name).map(|line| line[2]).collect();
        assert_eq!(never_in_the_world(name, orders), BTreeSet::new(), "{name}");
    }
}
