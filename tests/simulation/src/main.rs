//! The command behind `cargo xtask sim`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Parser;
use paperclip_simulation::campaign::{self, Extent, Tally};
use paperclip_simulation::mutant::Mutant;
use paperclip_simulation::{Case, Plugin};

/// Lines of a failure that are shown, unless all are wanted.
const SHOWN_LINES: usize = 120;

/// Runs seeded cases of guest and engine in a simulated world with faults.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask sim", max_term_width = 110)]
struct Options {
    /// How many cases to run.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0, value_parser = number)]
    from: u64,
    /// Run this seed alone, and show what happens.
    #[arg(long, value_parser = number)]
    seed: Option<u64>,
    /// Bytes of the seed; fewer are a simpler case.
    #[arg(long)]
    bytes: Option<u32>,
    /// Put this defect in.
    #[arg(long, value_parser = mutant)]
    mutant: Option<Mutant>,
    /// Show for each defect how many seeds it takes until it is caught.
    #[arg(long, conflicts_with_all = ["seed", "mutant"])]
    mutants: bool,
    /// Stop after so many minutes.
    #[arg(long, value_name = "MINUTES")]
    time: Option<u64>,
    /// Show failures as they are found, without making them simpler first.
    #[arg(long)]
    no_shrink: bool,
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

/// Whether all was well.
fn run(options: &Options) -> Result<bool> {
    let plugin = Plugin::load()?;
    if let Some(seed) = options.seed {
        let mut case = Case { mutant: options.mutant, ..Case::of_seed(seed) };
        case.bytes = options.bytes.unwrap_or(case.bytes);
        return Ok(show(case, &plugin, usize::MAX));
    }
    if options.mutants {
        return Ok(catch_all(options, &plugin));
    }
    let start = Instant::now();
    let extent = extent(options);
    match campaign::run(&plugin, options.mutant, extent, |tally| tell_progress(tally, start)) {
        Ok(tally) => {
            tell(&tally, start);
            Ok(true)
        }
        Err(failed) => {
            let (case, outcome, tally) = *failed;
            tell(&tally, start);
            let rule = outcome.violation.map_or("", |violation| violation.rule);
            let case = if options.no_shrink { case } else { case.shrink(&plugin, rule) };
            show(case, &plugin, SHOWN_LINES);
            Ok(false)
        }
    }
}

fn extent(options: &Options) -> Extent {
    let time = options.time.map(|minutes| Duration::from_secs(minutes * 60));
    Extent { first_seed: options.from, seeds: options.seeds, time }
}

fn show(case: Case, plugin: &Plugin, last: usize) -> bool {
    let outcome = case.run_shown(plugin);
    anstream::println!("SEED={:#x} BYTES={}   rerun: {}", case.seed, case.bytes, case.command());
    let skipped = outcome.lines.len().saturating_sub(last);
    for line in &outcome.lines[skipped..] {
        anstream::println!("{line}");
    }
    match &outcome.violation {
        Some(violation) => anstream::println!("VIOLATION {}: {}", violation.rule, violation.text),
        None => anstream::println!("no promise was broken; trace {:016x}", outcome.hash),
    }
    outcome.violation.is_none()
}

fn catch_all(options: &Options, plugin: &Plugin) -> bool {
    let mut is_all_caught = true;
    for mutant in Mutant::ALL {
        let text = match campaign::run(plugin, Some(*mutant), extent(options), |_| ()) {
            Ok(tally) => {
                is_all_caught = false;
                format!("NOT CAUGHT in {} cases", tally.cases)
            }
            Err(failed) => {
                let (case, outcome, tally) = *failed;
                let violation = outcome
                    .violation
                    .map_or(String::new(), |violation| format!("{}: {:.70}", violation.rule, violation.text));
                format!("caught by case {:>4} (seed {:#x}): {violation}", tally.cases, case.seed)
            }
        };
        anstream::println!("{:<28} {text}", mutant.name());
    }
    is_all_caught
}

fn tell_progress(tally: &Tally, start: Instant) {
    if tally.cases.is_multiple_of(1_000) {
        anstream::eprintln!("{:>8} cases, {:.0} runs/s", tally.cases, rate(tally, start));
    }
}

fn rate(tally: &Tally, start: Instant) -> f64 {
    tally.runs as f64 / start.elapsed().as_secs_f64().max(0.001)
}

fn tell(tally: &Tally, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    anstream::println!(
        "{} cases, {} runs in {seconds:.1} s: {:.0} runs/s",
        tally.cases,
        tally.runs,
        rate(tally, start)
    );
    let missing: Vec<&str> = tally.marks.missing().iter().map(|mark| mark.name()).collect();
    if !missing.is_empty() {
        anstream::println!("never seen: {}", missing.join("; "));
    }
    anstream::println!("{} pairs of fault and phase", tally.struck.len());
}

fn number(text: &str) -> Result<u64> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    Ok(parsed?)
}

fn mutant(text: &str) -> Result<Mutant> {
    let Some(mutant) = Mutant::ALL.iter().find(|mutant| mutant.name() == text) else {
        let known: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        bail!("no such defect; there are {}", known.join(", "));
    };
    Ok(*mutant)
}
