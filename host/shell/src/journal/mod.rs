//! A run's journal on disk: `<state>/runs/<run>/journal-NNNNNN.ndjson`, a record per line, each after its checksum.
//!
//! A line is the CRC-32 (IEEE) of the JSON in 8 hexadecimal digits, a space, the JSON, a line feed. Bytes after the last
//! good line were being written when the host died. One process at a time holds a run's folder, by the lock on a file in it.
//!
//! Each segment except the first starts with a snapshot, so that a run resumes from the last one; earlier segments are kept for the
//! records that they show.

mod history;
mod segments;
mod store;

use std::io;
use std::path::{Path, PathBuf};

pub use history::History;
use segments::Segments;
pub use segments::{Adopted, Header, RunFolder, header, is_locked};
pub use store::{Retention, keep_plugin, kept_plugin, prune, run_folder};

/// Most bytes that are buffered before they are handed to the operating system.
const BUFFER_BYTES: usize = 512 << 10;

/// Why a run has no journal, or cannot use it any longer.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("run {run_id} is driven by another process already (process {holder}, lock {lock})", lock = .lock.display())]
    Locked { run_id: String, holder: String, lock: PathBuf },
    #[error("journal {path}: {cause}", path = .path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("journal {path}, line {line}: {cause}", path = .path.display())]
    Damaged { path: PathBuf, line: u64, cause: String },
}

/// The journal of one run.
#[derive(Debug)]
pub struct Journal {
    segments: Option<Segments>,
    /// Whole lines that were not handed to the operating system yet.
    lines: Vec<u8>,
    is_required: bool,
}

impl Journal {
    /// Continues the journal in a folder. If it is required, a failure ends the run's drive; otherwise it is a warning.
    pub fn new(folder: RunFolder, is_required: bool) -> Journal {
        Journal { segments: Some(Segments::of(folder)), lines: Vec::new(), is_required }
    }

    /// Keeps nothing: the run cannot be resumed from a journal.
    pub fn none() -> Journal {
        Journal { segments: None, lines: Vec::new(), is_required: false }
    }

    /// Returns the run's folder, if it has a journal.
    pub fn folder(&self) -> Option<&Path> {
        self.segments.as_ref().map(Segments::folder)
    }

    /// Appends one JSON object that ends in a line feed. It may stay in memory until [`Journal::flush`].
    ///
    /// # Errors
    /// A required journal cannot be written. Any other journal ends with a warning.
    pub async fn append(&mut self, json_line: &str) -> Result<(), JournalError> {
        if self.segments.is_none() {
            return Ok(());
        }
        push_line(&mut self.lines, json_line);
        if self.lines.len() < BUFFER_BYTES { Ok(()) } else { self.write(Durability::Process).await }
    }

    /// Hands all lines to the operating system: they survive this process.
    ///
    /// # Errors
    /// As of [`Journal::append`].
    pub async fn flush(&mut self) -> Result<(), JournalError> {
        if self.lines.is_empty() { Ok(()) } else { self.write(Durability::Process).await }
    }

    /// Makes all lines durable: they survive the machine.
    ///
    /// # Errors
    /// As of [`Journal::append`]. A failed sync must not be retried: the kernel reports it once.
    pub async fn sync(&mut self) -> Result<(), JournalError> {
        self.write(Durability::Machine).await
    }

    /// Makes all lines durable, then starts a new segment with this one.
    ///
    /// # Errors
    /// As of [`Journal::append`].
    pub async fn start_segment(&mut self, json_line: &str) -> Result<(), JournalError> {
        self.write(Durability::Machine).await?;
        let mut first = Vec::new();
        push_line(&mut first, json_line);
        self.blocking(move |segments| segments.start(&first)).await
    }

    /// Removes the folder: nothing was started, and there is nothing to resume.
    pub fn discard(&mut self) {
        if let Some(segments) = self.segments.take() {
            segments.discard();
        }
    }

    async fn write(&mut self, durability: Durability) -> Result<(), JournalError> {
        if self.segments.is_none() {
            return Ok(());
        }
        let lines = std::mem::take(&mut self.lines);
        self.blocking(move |segments| segments.write(&lines, durability)).await
    }

    /// A journal that is not required ends with its first failure: lines after a gap would be useless.
    async fn blocking(
        &mut self,
        work: impl FnOnce(&mut Segments) -> io::Result<()> + Send + 'static,
    ) -> Result<(), JournalError> {
        let Some(mut segments) = self.segments.take() else { return Ok(()) };
        let path = segments.folder().to_owned();
        let done = tokio::task::spawn_blocking(move || {
            let outcome = work(&mut segments);
            (segments, outcome)
        });
        let cause = match done.await {
            Ok((segments, Ok(()))) => {
                self.segments = Some(segments);
                return Ok(());
            }
            Ok((_, Err(cause))) => cause,
            Err(error) => io::Error::other(error),
        };
        if self.is_required {
            return Err(JournalError::Io { path, cause });
        }
        warn(&path, &cause);
        Ok(())
    }
}

fn push_line(lines: &mut Vec<u8>, json_line: &str) {
    let json = json_line.trim_end_matches('\n');
    let crc = crc32fast::hash(json.as_bytes());
    lines.extend_from_slice(format!("{crc:08x} ").as_bytes());
    lines.extend_from_slice(json.as_bytes());
    lines.push(b'\n');
}

/// Returns the JSON of a line, if its checksum is right.
fn checked(line: &[u8]) -> Option<&str> {
    let (crc, json) = line.split_at_checked(9)?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc.strip_suffix(b" ")?).ok()?, 16).ok()?;
    let is_right = crc == crc32fast::hash(json);
    std::str::from_utf8(json).ok().filter(|_| is_right)
}

/// Logs that a run has no journal any longer.
pub fn warn(path: &Path, cause: &dyn std::fmt::Display) {
    tracing::warn!(path = %path.display(), %cause, "no journal: a host that resumes this run will read its output again");
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    Process,
    Machine,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_only_with_its_checksum() {
        let mut lines = Vec::new();
        push_line(&mut lines, "{\"a\":1}\n");
        let line = &lines[..lines.len() - 1];
        assert_eq!(checked(line), Some("{\"a\":1}"));
        for at in 0..line.len() {
            let mut bad = line.to_vec();
            bad[at] ^= 1;
            assert_eq!(checked(&bad), None, "{at}");
        }
        assert_eq!((checked(b""), checked(b"0000"), checked(&line[..12])), (None, None, None));
    }
}
