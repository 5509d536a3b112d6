//! The trace of a case: always hashed, so that two runs of a case can be compared, and kept as lines if they are to be shown.

use std::fmt::{Arguments, Write as _};
use std::hash::Hasher as _;

use paperclip_engine::driver::{DriverEvent, LogPiece, WatchEvent};
use paperclip_engine::record::Record;
use twox_hash::XxHash3_64;

use crate::world::EPOCH_MS;

/// Width of a line.
const SHOWN_CHARS: usize = 170;
/// The heading of the lines.
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

    /// Adds bytes to the hash by which two runs of a case are compared.
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

/// An event in a few words; empty for one that says nothing by itself.
pub(crate) fn event<E>(event: &DriverEvent<E>) -> String {
    match event {
        DriverEvent::HistoryEnded => "Resume".to_owned(),
        DriverEvent::Called { call, outcome: Ok(_) } => format!("answer {call} ok"),
        DriverEvent::Called { call, outcome: Err(error) } => {
            format!(
                "answer {call} {} {}",
                error.status.map_or("none".to_owned(), |status| status.to_string()),
                error.message
            )
        }
        DriverEvent::Watch(event) => watch_event(event),
        DriverEvent::Log { log, piece: LogPiece::Opened { .. } } => format!("log {log} opened"),
        DriverEvent::Log { log, piece: LogPiece::Bytes(bytes) } => {
            format!("log {log}: {} bytes", bytes.len())
        }
        DriverEvent::Log { log, piece: LogPiece::Closed(end) } => format!("log {log} closed: {end:?}"),
        DriverEvent::Polled { outcome: Ok((status, body)), .. } => format!("polled {status} {body}"),
        DriverEvent::Polled { outcome: Err(error), .. } => format!("poll failed: {}", error.message),
        DriverEvent::Cancel { .. } => "CANCEL".to_owned(),
        DriverEvent::Stop => "STOP".to_owned(),
        DriverEvent::HistoryEntry(..)
        | DriverEvent::HistoryFailed(_)
        | DriverEvent::ControlClosed
        | DriverEvent::DeadlineReached { .. }
        | DriverEvent::SinkProgress { .. }
        | DriverEvent::SinkFailed(_)
        | DriverEvent::NothingReady => String::new(),
    }
}

fn watch_event(event: &WatchEvent) -> String {
    match event {
        WatchEvent::JobSeen(job) => format!(
            "Job seen{}{} {:?}",
            if job.is_suspended { " suspended" } else { "" },
            if job.is_deleting { " deleting" } else { "" },
            job.conditions.iter().map(|condition| condition.kind.as_str()).collect::<Vec<_>>()
        ),
        WatchEvent::JobDeleted(deletion) => format!("Job deleted ({})", deletion.detected_via),
        WatchEvent::PodSeen(pod) => format!(
            "Pod seen {:?}{} {:?}",
            pod.phase,
            if pod.is_deleting { " deleting" } else { "" },
            pod.containers.first().map(|container| &container.state)
        ),
        WatchEvent::PodDeleted(deletion) => format!("Pod deleted ({})", deletion.detected_via),
        WatchEvent::Host(state) => format!("host {} until {:?}", state.instance, state.certain_until),
        WatchEvent::GuardChanged => "guard changed".to_owned(),
        WatchEvent::Refused(text) => format!("watch refused: {text}"),
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
