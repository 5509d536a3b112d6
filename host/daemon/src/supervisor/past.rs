//! A run of an earlier process, as its journal records it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use paperclip_contract::types::{Action, Ending, NewSecret, Request};
use paperclip_engine::journal::Entry;
use paperclip_engine::ledger::without_prompt;
use paperclip_engine::record::RecordSequencer;
use paperclip_engine::run_record::RunRecord;
use paperclip_engine::time::Timestamp;
use paperclip_shell::JournalError;
use paperclip_shell::journal::{self, Header, History};
use serde_json::{Map, Value};

use super::handle::State;

/// What the journal of a run records.
#[derive(Debug)]
pub(super) struct PastRun {
    pub(super) header: Header,
    pub(super) request: Request,
    /// Secrets that it asked to create.
    pub(super) secrets: Vec<NewSecret>,
    pub(super) started_at: SystemTime,
    pub(super) end: Option<PastEnd>,
    /// Nothing is left to do.
    pub(super) is_closed: bool,
    /// The number after the last record.
    pub(super) next_seq: u64,
}

/// The end of a run.
#[derive(Debug)]
pub(super) struct PastEnd {
    pub(super) at: SystemTime,
    pub(super) ending: Ending,
    pub(super) result: Map<String, Value>,
}

impl PastEnd {
    /// Returns the record of a run that says how it ended.
    pub(super) fn write_to(self, record: RunRecord) -> RunRecord {
        let at = Timestamp::EPOCH + self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        record.ended(at, State::from(self.ending).name(), self.result)
    }
}

impl PastRun {
    /// Returns what distinguishes its records from those of the same run on another host.
    pub(super) fn generation(&self) -> String {
        let started_ms =
            self.started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        self.header.generation.clone().unwrap_or_else(|| format!("j{started_ms:x}"))
    }

    /// Reads a run's folder; none if no run has started in it.
    ///
    /// # Errors
    /// The journal is damaged, or cannot be read.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Option<PastRun>> {
        let mut sequencer = RecordSequencer::default();
        let (mut request, mut started_at, mut end, mut is_closed, mut next_seq) =
            (None, Timestamp::EPOCH, None, false, 0);
        let mut secrets = Vec::new();
        let history = match History::open(folder) {
            Ok(history) => history,
            // The host stopped before the first line.
            Err(JournalError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let header = journal::header(folder).context("its header.json cannot be read")?;
        for entry in history.entries() {
            let (_, entry) = entry?;
            match &entry {
                Entry::Start { at, request: first, .. } => {
                    (started_at, request) = (*at, Some(Request::clone(first)));
                }
                Entry::Commands { commands, .. } => {
                    secrets.extend(commands.iter().filter_map(|command| match &command.action {
                        Action::CreateSecret(secret) => without_prompt(secret),
                        _ => None,
                    }));
                }
                Entry::Snapshot { at, ledger, request: first, .. } => {
                    // The segments before it may have been removed.
                    if let (None, Some(first)) = (&request, first) {
                        (started_at, request) = (*at, Some(Request::clone(first)));
                    }
                    secrets = ledger.secrets().to_vec();
                }
                Entry::End { at, ending, result, .. } => {
                    end = Some(PastEnd { at: system_time(*at), ending: *ending, result: Map::clone(result) });
                }
                Entry::Closed => is_closed = true,
                Entry::Step { .. } | Entry::Note { .. } | Entry::Resumed { .. } => {}
            }
            if let Some(last) = sequencer.entry(entry).last() {
                next_seq = last.seq + 1;
            }
        }
        let Some(request) = request else { return Ok(None) };
        Ok(Some(PastRun {
            header,
            request,
            secrets,
            started_at: system_time(started_at),
            end,
            is_closed,
            next_seq,
        }))
    }
}

/// Returns the folders of all runs in a state folder.
pub(super) fn folders(state: &Path) -> Vec<PathBuf> {
    match std::fs::read_dir(state.join("runs")) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_none_yet) => Vec::new(),
    }
}

fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + at.since(Timestamp::EPOCH)
}
