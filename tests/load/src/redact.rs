//! `redact`: the cost of masking for a stream of an agent's output.
//!
//! The engine processes the recordings from the bytes of a log to the line of the journal and to the record, with and without masking.
//! Other costs of a line are left out, mainly the plugin, the network and the disk; with them the share would be smaller.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use paperclip_contract::types::{Event, LogLine, LogLines};
use paperclip_engine::journal::Entry;
use paperclip_engine::log::{Line, LogLimits, LogOutput, LogReader};
use paperclip_engine::record::{Record, SequencedRecord, Stream};
use paperclip_engine::redact::Redactor;
use paperclip_engine::time::Timestamp;

/// Limit of the cost of masking.
const SHARE_MAX: f64 = 0.05;
/// Bytes per read from a connection.
const PIECE_BYTES: usize = 16 << 10;
/// The kubelet's timestamp before each line.
const STAMP: &str = "2026-01-02T03:04:05.123456789Z";
/// Number of alternating measurements; the best of each counts, because other work on the machine only slows them down.
const ROUNDS: usize = 12;
const ROUND_BYTES: usize = 32 << 20;

/// The cost of masking a run's secrets in its output.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Recordings of agents' output
    #[arg(required = true, value_name = "FILE")]
    recordings: Vec<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    // A token and the values of a config.env, none of which is in the output: the case of nearly every line.
    let secrets = (0..10)
        .map(|number| (format!("NAME_{number}"), format!("sk-ant-{number}-0123456789abcdef/+\"{number}")));
    let redactor = Redactor::new(secrets)?;
    let mut is_good = true;
    for path in &options.recordings {
        let name = path.display();
        let recording = std::fs::read_to_string(path).with_context(|| name.to_string())?;
        let line_count = ROUND_BYTES / recording.len() * recording.lines().count();
        let log: String =
            recording.lines().cycle().take(line_count).map(|line| format!("{STAMP} {line}\n")).collect();
        let (mut plain, mut masked) = (Duration::MAX, Duration::MAX);
        for _ in 0..ROUNDS {
            plain = plain.min(take(log.as_bytes(), None));
            masked = masked.min(take(log.as_bytes(), Some(&redactor)));
        }
        let share = masked.as_secs_f64() / plain.as_secs_f64() - 1.0;
        println!(
            "{name}: {:.0} MB/s with masking, {:.0} MB/s without: {:.1} % slower (at most {:.0} %)",
            log.len() as f64 / 1e6 / masked.as_secs_f64(),
            log.len() as f64 / 1e6 / plain.as_secs_f64(),
            share * 100.0,
            SHARE_MAX * 100.0
        );
        is_good &= share <= SHARE_MAX;
    }
    ensure!(is_good, "slower than it may be");
    Ok(())
}

/// Reads a log, and passes its lines to the journal and to the sink.
fn take(log: &[u8], redactor: Option<&Redactor>) -> Duration {
    let mut reader = LogReader::new(LogLimits::default(), 1);
    let start = Instant::now();
    while reader.poll().is_some() {}
    let now = Timestamp::from_millis(1);
    reader.on_opened(now, false);
    for piece in log.chunks(PIECE_BYTES) {
        reader.on_bytes(now, piece);
        while let Some(output) = reader.poll() {
            if let LogOutput::Lines(lines) = output {
                emit(lines, redactor);
            }
        }
    }
    start.elapsed()
}

fn emit(lines: Vec<Line>, redactor: Option<&Redactor>) {
    let texts = lines.into_iter().filter_map(|line| match line {
        Line::Whole(text) | Line::Torn(text) => Some(match redactor {
            Some(redactor) => redactor.mask(text),
            None => text,
        }),
        Line::Cut { .. } => None,
    });
    let lines = texts.map(LogLine::Whole).collect();
    let events = vec![Event::LogLines(LogLines { command: 1, first_index: 0, lines })];
    let entry = Entry::Step {
        seq: 1,
        at: Timestamp::from_millis(1),
        events: events.as_slice().into(),
        cursors: Vec::new().into(),
        whole: Vec::new().into(),
    };
    black_box(entry.to_line());
    let Some(Event::LogLines(LogLines { lines, .. })) = events.into_iter().next() else { return };
    for line in lines {
        let LogLine::Whole(text) = line else { continue };
        let record =
            SequencedRecord { seq: 1, record: Record::Log { stream: Stream::Stdout, index: 1, text } };
        black_box(serde_json::to_vec(&record).expect("plain data serialises"));
    }
}
