//! One case: a seed, a number of its bytes, and perhaps a mutant.

use std::collections::BTreeSet;

use crate::coverage::Moves;
use crate::coverage_points::CoveragePoints;
use crate::entropy::{CASE_BYTES, Entropy};
use crate::fault::{Fault, Phase, Swarm};
use crate::invariants::Violation;
use crate::mutant::Mutant;
use crate::plugin::{DEFAULT_TYPE, Plugin};
use crate::scenario::Scenario;
use crate::trace::Trace;
use crate::world::World;

/// A case that can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    pub seed: u64,
    pub bytes: u32,
    pub mutant: Option<Mutant>,
    /// The faults that it has, each with its chance in 256ths at each opportunity; if none are given they are drawn.
    pub faults: &'static [(Fault, u16)],
}

/// The outcome of a case.
#[derive(Debug)]
pub struct Outcome {
    pub violation: Option<Violation>,
    /// The same for each run of the same case.
    pub hash: u64,
    pub coverage_points: CoveragePoints,
    pub struck: BTreeSet<(Fault, Phase)>,
    /// Transitions of the plugin's regions, if the case was sampled.
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
        Case { seed, bytes: CASE_BYTES, mutant: None, faults: &[] }
    }

    /// Returns the case of a seed with a mutant, and with the faults without which it is too rare to be caught.
    pub fn of_mutant(seed: u64, mutant: Mutant) -> Self {
        Case { mutant: Some(mutant), faults: mutant.faults(), ..Case::of_seed(seed) }
    }

    pub fn run(&self, plugin: &Plugin) -> Outcome {
        self.run_with(plugin, Trace::hashed())
    }

    /// Runs it twice: a difference comes from something that is not in the case, such as a clock or the order of a hash map.
    pub fn run_twice(&self, plugin: &Plugin) -> Outcome {
        let outcome = self.run(plugin);
        let again = self.run(plugin);
        if outcome.hash == again.hash || outcome.violation.is_some() {
            return outcome;
        }
        let text = format!("two runs of one case differ: {:016x} and {:016x}", outcome.hash, again.hash);
        Outcome { violation: Some(Violation { rule: "S7", text }), ..outcome }
    }

    /// Runs it and keeps the trace's lines and the journals.
    pub fn run_shown(&self, plugin: &Plugin) -> Outcome {
        self.run_with(plugin, Trace::kept())
    }

    /// Returns the case with the smallest number of bytes that violates the same invariant.
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

    /// Returns the command that runs it again.
    pub fn command(&self, plugin: &Plugin) -> String {
        let agent_type = &plugin.grammar().adapter_type;
        let chosen =
            if agent_type == DEFAULT_TYPE { String::new() } else { format!(" --plugin {agent_type}") };
        let mutant = self.mutant.map_or(String::new(), |mutant| format!(" --mutant {}", mutant.name()));
        format!("cargo xtask sim --seed {:#x} --bytes {}{mutant}{chosen}", self.seed, self.bytes)
    }

    fn run_with(&self, plugin: &Plugin, trace: Trace) -> Outcome {
        let mut entropy = Entropy::of_seed(self.seed, self.bytes);
        let scenario = Scenario::draw(plugin.grammar(), &mut entropy);
        let swarm = match self.faults {
            [] => Swarm::draw(&mut entropy),
            faults => Swarm::with(faults),
        };
        run(entropy, scenario, swarm, plugin, self.mutant, trace)
    }
}

/// Runs a case of a fuzzer's bytes.
pub fn run_bytes(bytes: &[u8], plugin: &Plugin) -> Outcome {
    let mut entropy = Entropy::of_bytes(bytes);
    let scenario = Scenario::draw(plugin.grammar(), &mut entropy);
    let swarm = Swarm::draw(&mut entropy);
    run(entropy, scenario, swarm, plugin, None, Trace::hashed())
}

/// Runs a scenario with these faults; the seed only decides delays and when faults strike.
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
        coverage_points: world.coverage_points.clone(),
        struck: world.swarm.struck().clone(),
        moves: world.moves(),
        runs,
        bytes_used: world.entropy_used(),
        journals: if world.trace.is_kept() { world.journals() } else { Vec::new() },
        lines: world.trace.into_lines(),
    }
}
