//! What happened in a case, as lines: hashed always, so that two runs of a case can be compared, and kept where they are to be shown.

use std::fmt::{Arguments, Write as _};
use std::hash::Hasher as _;

use paperclip_engine::port::Input;
use paperclip_engine::record::Record;
use twox_hash::XxHash3_64;

use crate::world::EPOCH_MS;

/// Width of a line.
const SHOWN_CHARS: usize = 170;
/// What stands above the lines.
pub const HEADING: &str = "     t_ms  src    run job  pod  log stop   out | what";

/// The lines of a case.
pub(crate) struct Trace {
    hasher: XxHash3_64,
    buffer: String,
    kept: Option<Vec<String>>,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trace").field("kept", &self.kept.as_ref().map(Vec::len)).finish_non_exhaustive()
    }
}

impl Trace {
    pub(crate) fn hashed() -> Self {
        Trace { hasher: XxHash3_64::new(), buffer: String::new(), kept: None }
    }

    pub(crate) fn kept() -> Self {
        Trace { kept: Some(Vec::new()), ..Trace::hashed() }
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    pub(crate) fn line(&mut self, now_ms: u64, source: &str, state: &str, text: Arguments<'_>) {
        let Some(kept) = &mut self.kept else { return };
        self.buffer.clear();
        let _ = write!(self.buffer, "{:>9}  {source:<6} {state} | {text}", now_ms - EPOCH_MS);
        kept.push(shortened(&self.buffer));
    }

    /// Takes something into the hash that decides whether two runs of a case were the same.
    pub(crate) fn note(&mut self, now_ms: u64, bytes: &[u8]) {
        self.hasher.write_u64(now_ms);
        self.hasher.write(bytes);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.kept.unwrap_or_default()
    }
}

fn shortened(line: &str) -> String {
    let mut text: String = line.chars().take(SHOWN_CHARS).map(|c| if c == '\n' { ' ' } else { c }).collect();
    if line.chars().nth(SHOWN_CHARS).is_some() {
        text.push('…');
    }
    text
}

/// An input in a few words; empty for what says nothing by itself.
pub(crate) fn input(input: &Input) -> String {
    match input {
        Input::Start => "Start".to_owned(),
        Input::Resume => "Resume".to_owned(),
        Input::Note { text, .. } => format!("note {text}"),
        Input::Called { call, outcome: Ok(_) } => format!("answer {call} ok"),
        Input::Called { call, outcome: Err(error) } => {
            format!(
                "answer {call} {} {}",
                error.status.map_or("none".to_owned(), |status| status.to_string()),
                error.message
            )
        }
        Input::JobSeen(job) => format!(
            "Job seen{}{} {:?}",
            if job.is_suspended { " suspended" } else { "" },
            if job.is_deleting { " deleting" } else { "" },
            job.conditions.iter().map(|condition| condition.kind.as_str()).collect::<Vec<_>>()
        ),
        Input::JobDeleted(gone) => format!("Job gone ({})", gone.detected_via),
        Input::PodSeen(pod) => format!(
            "Pod seen {:?}{} {:?}",
            pod.phase,
            if pod.is_deleting { " deleting" } else { "" },
            pod.containers.first().map(|container| &container.state)
        ),
        Input::PodDeleted(gone) => format!("Pod gone ({})", gone.detected_via),
        Input::LogOpened { log } => format!("log {log} opened"),
        Input::LogBytes { log, bytes } => format!("log {log}: {} bytes", bytes.len()),
        Input::LogHeld { .. } => String::new(),
        Input::LogClosed { log, end } => format!("log {log} closed: {end:?}"),
        Input::Polled { outcome: Ok((status, body)), .. } => format!("polled {status} {body}"),
        Input::Polled { outcome: Err(error), .. } => format!("poll failed: {}", error.message),
        Input::Cancel(_) => "CANCEL".to_owned(),
        Input::Stop => "STOP".to_owned(),
        Input::Tick => String::new(),
    }
}

/// A record as it is shown.
pub(crate) fn record(record: &Record) -> String {
    match record {
        Record::Log { index, text, .. } => format!("{index:>5} | {text}"),
        Record::Gap { index, reason, .. } => format!("{index:>5} | GAP {reason}"),
        Record::Status { text, .. } => text.clone(),
        Record::Meta(_) => "meta".to_owned(),
        Record::Result(result) => {
            let text = |key: &str| result.get(key).map_or("-".to_owned(), ToString::to_string);
            format!("RESULT exit {} code {} {}", text("exitCode"), text("errorCode"), text("errorMessage"))
        }
    }
}
