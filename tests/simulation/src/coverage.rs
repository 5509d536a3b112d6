//! Which moves of the plugin's regions were seen, of those that its tables allow.
//!
//! A run's snapshot names the state of each region. In sampled cases it is taken after each call of the plugin and compared with the one
//! before.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde::Deserialize;

/// A region's name, and its states with those that may follow each.
type Region = (&'static str, Vec<(String, Vec<String>)>);

static REGIONS: LazyLock<Vec<Region>> = LazyLock::new(|| paperclip_kit::machine::regions().into());

/// A move: a region, and its states before and after.
pub type Move = (&'static str, String, String);

/// Moves that were seen.
#[derive(Debug, Clone, Default)]
pub struct Moves(BTreeSet<Move>);

impl Moves {
    pub fn add(&mut self, other: &Moves) {
        self.0.extend(other.0.iter().cloned());
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of the tables that were not seen.
    pub fn missing(&self) -> Vec<Move> {
        declared().filter(|declared| !self.0.contains(declared)).collect()
    }
}

/// Every move of every table.
pub fn declared() -> impl Iterator<Item = Move> {
    REGIONS.iter().flat_map(|(region, table)| {
        let of_state = move |(from, next): &'static (String, Vec<String>)| {
            next.iter().map(move |to| (*region, from.clone(), to.clone()))
        };
        table.iter().flat_map(of_state)
    })
}

/// The regions of one instance, as they move.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    last: Option<Regions>,
    pub(crate) moves: Moves,
}

/// What is read of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Regions {
    attempt: Attempt,
    guard: State,
    job: State,
    pod: State,
    log: State,
    stop: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Attempt {
    number: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct State {
    state: String,
}

impl Regions {
    fn state(&self, region: &str) -> &str {
        let state = match region {
            "guard" => &self.guard,
            "job" => &self.job,
            "pod" => &self.pod,
            "log" => &self.log,
            "stop" => &self.stop,
            other => unreachable!("no region is named {other}"),
        };
        &state.state
    }
}

impl Watched {
    /// Takes the snapshot after a call. The error is a transition that no table has.
    pub(crate) fn see(&mut self, snapshot: &[u8]) -> Result<(), String> {
        let seen: Regions = serde_json::from_slice(snapshot).map_err(|error| error.to_string())?;
        let before = self.last.replace(seen.clone());
        for (region, table) in REGIONS.iter() {
            // An attempt has all regions but the guard of its own.
            let is_reset =
                before.as_ref().is_none_or(|before| before.attempt != seen.attempt && *region != "guard");
            let from =
                before.as_ref().filter(|_| !is_reset).map_or(&*table[0].0, |before| before.state(region));
            let to = seen.state(region);
            let hops = hops(table, from, to).ok_or_else(|| format!("{region}: {from} became {to}"))?;
            self.moves.0.extend(hops.into_iter().map(|(from, to)| (*region, from, to)));
        }
        Ok(())
    }

    /// Starts from a restored state.
    pub(crate) fn restored(&mut self, snapshot: &[u8]) {
        self.last = serde_json::from_slice(snapshot).ok();
    }
}

/// The moves that were certainly made from one state to another in one call, in which a region may make several: those that all ways
/// share. None if there is no way.
fn hops(table: &[(String, Vec<String>)], from: &str, to: &str) -> Option<BTreeSet<(String, String)>> {
    if from == to {
        return Some(BTreeSet::new());
    }
    let is_direct = next(table, from).iter().any(|state| state == to);
    if is_direct {
        return Some(BTreeSet::from([(from.to_owned(), to.to_owned())]));
    }
    let mut ways = Vec::new();
    let mut way = vec![from.to_owned()];
    walk(table, to, &mut way, &mut ways);
    ways.into_iter().reduce(|shared, way| shared.intersection(&way).cloned().collect())
}

fn walk(
    table: &[(String, Vec<String>)],
    to: &str,
    way: &mut Vec<String>,
    ways: &mut Vec<BTreeSet<(String, String)>>,
) {
    let at = way.last().expect("a path has a first state").clone();
    for state in next(table, &at) {
        if state == to {
            let states = way.iter().chain([state]);
            ways.push(way.iter().cloned().zip(states.skip(1).cloned()).collect());
        } else if !way.contains(state) {
            way.push(state.clone());
            walk(table, to, way, ways);
            way.pop();
        }
    }
}

fn next<'a>(table: &'a [(String, Vec<String>)], from: &str) -> &'a [String] {
    table.iter().find(|(state, _)| state == from).map_or(&[], |(_, next)| next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Vec<(String, Vec<String>)> {
        let row =
            |from: &str, next: &[&str]| (from.to_owned(), next.iter().map(|to| (*to).to_owned()).collect());
        vec![row("A", &["B", "C"]), row("B", &["D"]), row("C", &["D"]), row("D", &["E"]), row("E", &[])]
    }

    #[test]
    fn counts_only_moves_that_were_certainly_made() {
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!(hops(&table(), "A", "A"), Some(BTreeSet::new()));
        assert_eq!(hops(&table(), "B", "E"), Some(BTreeSet::from([pair("B", "D"), pair("D", "E")])));
        assert_eq!(hops(&table(), "A", "E"), Some(BTreeSet::from([pair("D", "E")])));
        assert_eq!(hops(&table(), "E", "A"), None);
    }

    #[test]
    fn compares_a_snapshot_with_the_one_before() {
        let snapshot = |job: &str, attempt: u32| {
            serde_json::json!({
                "attempt": {"number": attempt}, "guard": {"state": "Held"}, "job": {"state": job},
                "pod": {"state": "NotObserved"}, "log": {"state": "NotFollowed"}, "stop": {"state": "NotRequested"},
            })
            .to_string()
        };
        let mut watched = Watched::default();
        assert_eq!(watched.see(snapshot("Listing", 1).as_bytes()), Ok(()));
        assert_eq!(watched.see(snapshot("Preflight", 1).as_bytes()), Ok(()));
        assert!(watched.moves.0.contains(&("job", "Listing".to_owned(), "Preflight".to_owned())));
        assert!(watched.see(snapshot("NotCreated", 1).as_bytes()).is_err());
        assert_eq!(
            watched.see(snapshot("Preflight", 2).as_bytes()),
            Ok(()),
            "a second attempt has regions of its own"
        );
    }
}
