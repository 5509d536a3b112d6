//! `redact`: what masking costs a stream of an agent's output.
//!
//! The recordings go the way that the engine and the sink take them, to the journal's line and to the shown one, with masking and
//! without. What else a line costs, above all the plugin's reading of it and the network, is left out: the share would be smaller with it.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use paperclip_contract::types::{Event, LogLine, LogLines};
use paperclip_engine::journal::Entry;
use paperclip_engine::record::{Record, Stream, Told};
use paperclip_engine::redact::Redactor;

/// What masking may cost.
const SHARE_MAX: f64 = 0.05;
const BATCH_LINES: usize = 64;
/// Measured in turns, the best of each counts: other work on the machine only ever slows one down.
const ROUNDS: usize = 12;
const ROUND_BYTES: usize = 32 << 20;

/// How much slower output is with the run's secrets masked.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Recordings of agents' output, a line each
    #[arg(required = true, value_name = "FILE")]
    recordings: Vec<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    // A token and the values of a config.env, none of which is in the output: that is what nearly every line costs.
    let secrets = (0..10)
        .map(|number| (format!("NAME_{number}"), format!("sk-ant-{number}-0123456789abcdef/+\"{number}")));
    let redactor = Redactor::new(secrets)?;
    let mut is_good = true;
    for path in &options.recordings {
        let name = path.display();
        let recording = std::fs::read_to_string(path).with_context(|| name.to_string())?;
        let lines: Vec<&str> = recording
            .lines()
            .cycle()
            .take(ROUND_BYTES / recording.len() * recording.lines().count())
            .collect();
        let (mut plain, mut masked) = (Duration::MAX, Duration::MAX);
        for _ in 0..ROUNDS {
            plain = plain.min(take(&lines, None));
            masked = masked.min(take(&lines, Some(&redactor)));
        }
        let share = masked.as_secs_f64() / plain.as_secs_f64() - 1.0;
        let bytes: usize = lines.iter().map(|line| line.len()).sum();
        println!(
            "{name}: {:.0} MB/s with masking, {:.0} MB/s without: {:.1} % slower (at most {:.0} %)",
            bytes as f64 / 1e6 / masked.as_secs_f64(),
            bytes as f64 / 1e6 / plain.as_secs_f64(),
            share * 100.0,
            SHARE_MAX * 100.0
        );
        is_good &= share <= SHARE_MAX;
    }
    ensure!(is_good, "slower than it may be");
    Ok(())
}

/// Takes all lines to the journal and to the sink. Making the texts is not measured.
fn take(lines: &[&str], redactor: Option<&Redactor>) -> Duration {
    let batches: Vec<Vec<String>> = lines
        .chunks(BATCH_LINES)
        .map(|batch| batch.iter().map(|line| (*line).to_owned()).collect())
        .collect();
    let start = Instant::now();
    for batch in batches {
        let texts = batch.into_iter().map(|text| match redactor {
            Some(redactor) => redactor.mask(text),
            None => text,
        });
        let lines = texts.map(LogLine::Whole).collect();
        let events = vec![Event::LogLines(LogLines { command: 1, first_index: 0, lines })];
        let entry = Entry::Step {
            seq: 1,
            at_ms: 1,
            events: events.as_slice().into(),
            cursors: Vec::new().into(),
            whole: Vec::new().into(),
        };
        black_box(entry.to_line());
        let Some(Event::LogLines(LogLines { lines, .. })) = events.into_iter().next() else { continue };
        for line in lines {
            let LogLine::Whole(text) = line else { continue };
            let told = Told { seq: 1, record: Record::Log { stream: Stream::Stdout, index: 1, text } };
            black_box(serde_json::to_vec(&told).expect("plain data"));
        }
    }
    start.elapsed()
}
