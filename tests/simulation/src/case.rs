//! One case: a seed, so many bytes of it, and perhaps a defect that was put in on purpose.

use std::collections::BTreeSet;

use crate::coverage::Moves;
use crate::entropy::{CASE_BYTES, Entropy};
use crate::fault::{Fault, Phase, Swarm};
use crate::invariants::Violation;
use crate::marks::Marks;
use crate::mutant::Mutant;
use crate::plugin::Plugin;
use crate::scenario::Scenario;
use crate::trace::Trace;
use crate::world::World;

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    pub seed: u64,
    pub bytes: u32,
    pub mutant: Option<Mutant>,
}

/// What came of a case.
#[derive(Debug)]
pub struct Outcome {
    pub violation: Option<Violation>,
    /// The same for each run of the same case.
    pub hash: u64,
    pub marks: Marks,
    pub struck: BTreeSet<(Fault, Phase)>,
    /// Moves of the plugin's regions, where the case looked at them.
    pub moves: Moves,
    /// Runs of agents that the case had.
    pub runs: usize,
    pub bytes_used: u32,
    /// The runs' journals; only of [`Case::run_shown`].
    pub journals: Vec<Journal>,
    /// What happened, line by line; only of [`Case::run_shown`].
    pub lines: Vec<String>,
}

/// A run's journal, as the product has it on disk.
#[derive(Debug)]
pub struct Journal {
    pub run_id: String,
    /// Content of `header.json`.
    pub header: String,
    /// Contents of the segments, oldest first.
    pub files: Vec<String>,
}

impl Case {
    pub fn of_seed(seed: u64) -> Self {
        Case { seed, bytes: CASE_BYTES, mutant: None }
    }

    pub fn run(&self, plugin: &Plugin) -> Outcome {
        self.run_with(plugin, Trace::hashed())
    }

    /// Runs it a second time, too: whatever differs comes from something that is not in the case, such as a clock or a hash map's order.
    pub fn run_twice(&self, plugin: &Plugin) -> Outcome {
        let outcome = self.run(plugin);
        let again = self.run(plugin);
        if outcome.hash == again.hash || outcome.violation.is_some() {
            return outcome;
        }
        let text = format!("two runs of one case differ: {:016x} and {:016x}", outcome.hash, again.hash);
        Outcome { violation: Some(Violation { rule: "S7", text }), ..outcome }
    }

    /// Keeps what happened, for people.
    pub fn run_shown(&self, plugin: &Plugin) -> Outcome {
        self.run_with(plugin, Trace::kept())
    }

    /// The smallest number of bytes with which the same promise is broken.
    pub fn shrink(&self, plugin: &Plugin, rule: &str) -> Case {
        let mut best = *self;
        let fails = |case: Case| case.run(plugin).violation.is_some_and(|violation| violation.rule == rule);
        let mut step = (best.bytes / 2).max(1);
        while step > 0 {
            while best.bytes >= step && fails(Case { bytes: best.bytes - step, ..best }) {
                best.bytes -= step;
            }
            step /= 2;
        }
        best
    }

    /// What to type to see it again.
    pub fn command(&self) -> String {
        let mutant = self.mutant.map_or(String::new(), |mutant| format!(" --mutant {}", mutant.name()));
        format!("cargo xtask sim --seed {:#x} --bytes {}{mutant}", self.seed, self.bytes)
    }

    fn run_with(&self, plugin: &Plugin, trace: Trace) -> Outcome {
        let mut entropy = Entropy::of_seed(self.seed, self.bytes);
        let scenario = Scenario::draw(&mut entropy);
        let swarm = Swarm::draw(&mut entropy);
        run(entropy, scenario, swarm, plugin, self.mutant, trace)
    }
}

/// A case of a fuzzer's bytes.
pub fn run_bytes(bytes: &[u8], plugin: &Plugin) -> Outcome {
    let mut entropy = Entropy::of_bytes(bytes);
    let scenario = Scenario::draw(&mut entropy);
    let swarm = Swarm::draw(&mut entropy);
    run(entropy, scenario, swarm, plugin, None, Trace::hashed())
}

/// A scenario with these faults; its bytes only decide delays and when faults strike.
pub fn run_scenario(scenario: Scenario, swarm: Swarm, seed: u64, plugin: &Plugin) -> Outcome {
    run(Entropy::of_seed(seed, CASE_BYTES), scenario, swarm, plugin, None, Trace::kept())
}

fn run(
    entropy: Entropy,
    scenario: Scenario,
    swarm: Swarm,
    plugin: &Plugin,
    mutant: Option<Mutant>,
    trace: Trace,
) -> Outcome {
    let runs = scenario.runs.len();
    let mut world = World::new(entropy, scenario, swarm, plugin, mutant, trace);
    world.run();
    Outcome {
        violation: world.violation.take(),
        hash: world.trace.hash(),
        marks: world.marks.clone(),
        struck: world.swarm.struck().clone(),
        moves: world.moves(),
        runs,
        bytes_used: world.entropy_used(),
        journals: if world.trace.is_kept() { world.journals() } else { Vec::new() },
        lines: world.trace.into_lines(),
    }
}
