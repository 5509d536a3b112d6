//! `--ownership`: campaigns of the ownership simulation.

use std::time::Instant;

use paperclip_simulation::ownership::figures::{self, Idle, Takeover};
use paperclip_simulation::ownership::{self, Figures, mutant::Mutant};

use crate::{DEFAULT_CASES, MUTANT_CASES, Options, shown};

/// Returns whether no invariant was violated and, with `--mutants`, every mutant was caught.
pub(super) fn run(options: &Options) -> bool {
    if options.figures {
        show_figures();
        return true;
    }
    if options.mutants {
        return catch_all(options.seeds.unwrap_or(MUTANT_CASES));
    }
    if let Some(seed) = options.seed {
        return show(seed);
    }
    let start = Instant::now();
    let seeds = options.seeds.unwrap_or(DEFAULT_CASES);
    let (mut figures, mut failures) = (Figures::default(), Vec::new());
    for seed in options.from..options.from + seeds {
        let outcome = ownership::run(seed, None, false);
        figures.add(outcome.figures);
        if let Some((rule, text)) = outcome.violation {
            anstream::println!("seed {seed:#x}: {rule}: {text}");
            failures.push(seed);
            if failures.len() >= options.failures {
                break;
            }
        }
    }
    anstream::println!("{seeds} cases, {} runs in {:.1} s", figures.runs, start.elapsed().as_secs_f64());
    let Figures {
        takeovers,
        moved,
        revocations,
        superseded,
        mut released_ms,
        mut lost_ms,
        mut handover_ms,
        ..
    } = figures;
    anstream::println!(
        "{takeovers} takeovers, {moved} runs moved, {revocations} revocations, {superseded} late requests failed"
    );
    let times = [
        ("released", "Jobs undriven", &mut released_ms),
        ("lost", "Jobs undriven", &mut lost_ms),
        ("waiting", "guards handed over", &mut handover_ms),
    ];
    for (when, what, times) in times {
        times.sort_unstable();
        let at =
            |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1))).copied();
        let (p50, p99) = (at(50).unwrap_or(0), at(99).unwrap_or(0));
        let (count, max) = (times.len(), times.last().copied().unwrap_or(0));
        anstream::println!("{when:>8}: {count} {what}, p50 {p50} ms, p99 {p99} ms, max {max} ms");
    }
    match failures.first() {
        Some(seed) => show(*seed),
        None => true,
    }
}

fn show(seed: u64) -> bool {
    let outcome = ownership::run(seed, None, true);
    shown::case("--ownership", seed, &outcome.lines, outcome.violation)
}

fn catch_all(seeds: u64) -> bool {
    let caught = Mutant::ALL.iter().map(|mutant| (mutant.name(), ownership::catch(*mutant, seeds)));
    shown::mutants(seeds, caught)
}

/// Shows what 1,000 idle runs and the takeover of 500 runs cost.
fn show_figures() {
    for hosts in [1, 3] {
        let Idle { writes_per_minute, reads_per_minute } = figures::idle(hosts, 1_000);
        anstream::println!(
            "1000 idle runs on {hosts} hosts: {writes_per_minute} writes and {reads_per_minute} reads a minute in all"
        );
    }
    for survivors in [1, 2] {
        let takeover = figures::takeover(survivors, 500);
        let [p50, p99, max] = [50, 99, 100].map(|percent| takeover.within(percent));
        let Takeover { revoked_ms, requests, .. } = takeover;
        anstream::println!(
            "500 runs of a killed host, {survivors} others: revoked after {revoked_ms} ms, then driven within p50 {p50} ms, p99 {p99} ms, max {max} ms; {requests} requests"
        );
    }
}
