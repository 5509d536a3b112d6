//! The command behind `cargo xtask sim`.

mod claims;
mod hosts;
mod shown;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use paperclip_shell::journal::History;
use paperclip_simulation::campaign::{self, Catch, Extent, Tally};
use paperclip_simulation::mutant::Mutant;
use paperclip_simulation::plugin::DEFAULT_TYPE;
use paperclip_simulation::{Case, HEADING, Outcome, Plugin, expected, order};

/// Lines of a failure that a campaign shows.
const SHOWN_LINES: usize = 120;
/// Cases of a campaign without --seeds and --time.
const DEFAULT_CASES: u64 = 10_000;
/// Cases within which a mutant must be caught.
const MUTANT_CASES: u64 = 5_000;

/// Runs seeded cases of plugin, engine and driver in a simulated world with faults.
///
/// Exits with 1 if an invariant is violated, if a mutant is not caught, or with --complete if something possible was not covered.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask sim", max_term_width = 110)]
struct Options {
    /// How many cases to run; 10,000, or as many as fit into --time.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 0, value_parser = number)]
    from: u64,
    /// Run this seed alone, and show what happens.
    #[arg(long, value_parser = number)]
    seed: Option<u64>,
    /// The agent type whose plugin is simulated, such as `codex` or `codex_k8s`.
    #[arg(long, value_name = "TYPE", default_value = DEFAULT_TYPE)]
    plugin: String,
    /// Bytes of the seed; fewer are a simpler case.
    #[arg(long)]
    bytes: Option<u32>,
    /// Inject this defect.
    #[arg(long, value_parser = mutant)]
    mutant: Option<Mutant>,
    /// Show for each mutant how many cases it takes until it is caught.
    #[arg(long, conflicts_with_all = ["seed", "mutant"])]
    mutants: bool,
    /// Stop after this time, such as 10m, 8h or 90s.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// Fail if a possible coverage point, transition or pair was not seen; for campaigns of 10,000 cases or more.
    #[arg(long)]
    complete: bool,
    /// Run each case twice, and compare the traces.
    #[arg(long)]
    twice: bool,
    /// Stop once this many cases have violated an invariant.
    #[arg(long, default_value_t = 1)]
    failures: usize,
    /// Show failures as they are found, without reducing their bytes first.
    #[arg(long)]
    no_shrink: bool,
    /// Simulate two or three hosts that share the runs of a cluster, instead of single runs.
    #[arg(long, conflicts_with_all = ["mutant", "bytes", "twice", "complete", "time"])]
    ownership: bool,
    /// Show what ownership costs, in worlds without faults: what hosts write while runs are idle, and how runs of a killed host are taken over.
    #[arg(long, requires = "ownership", conflicts_with_all = ["seed", "mutants"])]
    figures: bool,
    /// Simulate the records of runs, by which hosts that are asked for one run decide who has it.
    #[arg(long, conflicts_with_all = ["mutant", "bytes", "twice", "complete", "time", "ownership"])]
    records: bool,
    /// Show the order in which the run of this folder observed its Job, pod and log; for tests/fixtures/orders.txt.
    #[arg(long, value_name = "FOLDER", exclusive = true)]
    order: Option<PathBuf>,
    /// Where the journals of a failure are written, for `paperclip-host replay`.
    #[arg(long, value_name = "FOLDER", default_value = "target/sim-failures")]
    save: PathBuf,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether no invariant was violated and every mutant was caught.
fn run(options: &Options) -> Result<bool> {
    if let Some(folder) = &options.order {
        let entries = History::open(folder)?.entries().map(|entry| entry.map(|(_, entry)| entry));
        anstream::println!("{}", order::observed(entries.collect::<Result<Vec<_>, _>>()?).join(", "));
        return Ok(true);
    }
    if options.ownership {
        return Ok(hosts::run(options));
    }
    if options.records {
        return Ok(claims::run(options));
    }
    let agent_type = options.plugin.trim_end_matches("_k8s");
    let plugin = Plugin::load(&format!("{agent_type}_k8s"))?;
    if let Some(seed) = options.seed {
        let drawn = || Case::of_seed(seed);
        let mut case = options.mutant.map_or_else(drawn, |mutant| Case::of_mutant(seed, mutant));
        case.bytes = options.bytes.unwrap_or(case.bytes);
        return show(case, &plugin, usize::MAX, &options.save);
    }
    if options.mutants {
        return Ok(catch_all(options, &plugin));
    }
    let start = Instant::now();
    let mut printed = 0;
    let tally = campaign::run(&plugin, options.mutant, extent(options), |tally| {
        for (case, violation) in &tally.failures[printed..] {
            anstream::println!("seed {:#x}: {}: {:.150}", case.seed, violation.rule, violation.text);
        }
        printed = tally.failures.len();
        print_progress(tally, start);
    });
    print_summary(&tally, start);
    if let Some((case, violation)) = tally.failures.first() {
        let case = if options.no_shrink { *case } else { case.shrink(&plugin, violation.rule) };
        show(case, &plugin, SHOWN_LINES, &options.save)?;
        return Ok(false);
    }
    let missing = expected::missing(&tally);
    for text in &missing {
        anstream::println!("never seen: {text}");
    }
    let impossible = expected::impossible(&tally);
    for text in &impossible {
        anstream::println!("seen, and declared impossible: {text}");
    }
    Ok(impossible.is_empty() && (missing.is_empty() || !options.complete))
}

fn extent(options: &Options) -> Extent {
    let &Options { from, time, failures, twice, .. } = options;
    let seeds = options.seeds.unwrap_or(if time.is_some() { u64::MAX } else { DEFAULT_CASES });
    Extent { first_seed: from, seeds, time, failures, twice }
}

fn show(case: Case, plugin: &Plugin, last: usize, save: &Path) -> Result<bool> {
    let outcome = case.run_shown(plugin);
    anstream::println!("SEED={:#x} BYTES={}   rerun: {}", case.seed, case.bytes, case.command(plugin));
    anstream::println!("{HEADING}");
    let skipped = outcome.lines.len().saturating_sub(last);
    for line in &outcome.lines[skipped..] {
        anstream::println!("{line}");
    }
    let Some(violation) = &outcome.violation else {
        anstream::println!("no invariant was violated; trace {:016x}", outcome.hash);
        return Ok(true);
    };
    anstream::println!("VIOLATION {}: {}", violation.rule, violation.text);
    for folder in save_journals(&outcome, &save.join(format!("{:#x}", case.seed)))? {
        anstream::println!("journal: paperclip-host replay {}", folder.display());
    }
    Ok(false)
}

/// Writes the journal of each run in the product's format.
fn save_journals(outcome: &Outcome, to: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for journal in &outcome.journals {
        let folder = to.join("runs").join(&journal.run_id);
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| path.display().to_string())
        };
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        write("header.json", &journal.header)?;
        for (at, file) in journal.files.iter().enumerate() {
            write(&format!("journal-{:06}.ndjson", at + 1), file)?;
        }
        folders.push(folder);
    }
    Ok(folders)
}

fn catch_all(options: &Options, plugin: &Plugin) -> bool {
    let seeds = options.seeds.unwrap_or(MUTANT_CASES);
    let mut is_all_caught = true;
    for mutant in Mutant::ALL.iter().filter(|mutant| mutant.concerns(plugin.grammar())) {
        let text = match campaign::catch(plugin, *mutant, seeds) {
            None => {
                is_all_caught = false;
                format!("NOT CAUGHT in {seeds} cases")
            }
            Some(Catch { cases, case, violation }) => {
                let (rule, text) = (violation.rule, &violation.text);
                format!("caught by case {cases:>4} (seed {:#x}): {rule}: {text:.70}", case.seed)
            }
        };
        anstream::println!("{:<28} {text}", mutant.name());
    }
    is_all_caught
}

fn print_progress(tally: &Tally, start: Instant) {
    if tally.cases.is_multiple_of(1_000) {
        let failures = tally.failures.len();
        anstream::eprintln!(
            "{:>8} cases, {failures} failures, {:.0} runs/s",
            tally.cases,
            rate(tally, start)
        );
    }
}

fn rate(tally: &Tally, start: Instant) -> f64 {
    tally.runs as f64 / start.elapsed().as_secs_f64().max(0.001)
}

fn print_summary(tally: &Tally, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    let Tally { cases, runs, .. } = tally;
    anstream::println!("{cases} cases, {runs} runs in {seconds:.1} s: {:.0} runs/s", rate(tally, start));
    for line in expected::figures(tally) {
        anstream::println!("{line}");
    }
}

fn number(text: &str) -> Result<u64> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    Ok(parsed?)
}

fn duration(text: &str) -> Result<Duration> {
    let (number, unit_s) = match text.as_bytes().last() {
        Some(b's') => (&text[..text.len() - 1], 1),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 3_600),
        _ => bail!("a number and s, m or h"),
    };
    Ok(Duration::from_secs(number.parse::<u64>()? * unit_s))
}

fn mutant(text: &str) -> Result<Mutant> {
    let Some(mutant) = Mutant::ALL.iter().find(|mutant| mutant.name() == text) else {
        let known: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        bail!("no such mutant; the mutants are {}", known.join(", "));
    };
    Ok(*mutant)
}
