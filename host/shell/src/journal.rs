//! A run's journal on disk: `<state>/<run>/journal.ndjson`, a record a line, each behind its checksum.
//!
//! A line is the CRC-32 (IEEE) of the JSON in 8 hexadecimal digits, a space, the JSON, a line feed. Whatever follows the last good line
//! was being written when the host died. One process at a time holds a run's folder.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Name of the journal in a run's folder.
pub const JOURNAL_FILE: &str = "journal.ndjson";
/// Name of the file whose lock stands for the folder; it has the process id of the holder.
pub const LOCK_FILE: &str = "lock";
/// Bytes that are held back at most before they are handed to the operating system.
const BUFFER_BYTES: usize = 256 << 10;
/// Longest part of a run id that a folder's name keeps, in bytes.
const MAX_NAME_BYTES: usize = 100;

/// Why a run has no journal, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("run {run_id} is driven by another process already (process {holder}, lock {lock}): wait until it has ended, or stop it", lock = .lock.display())]
    Locked { run_id: String, holder: String, lock: PathBuf },
    #[error("journal {path}: {cause}; make the folder writable and its disk not full, or name another with --state", path = .path.display())]
    Io { path: PathBuf, cause: io::Error },
}

/// The journal of one run.
#[derive(Debug)]
pub struct Journal {
    file: Option<JournalFile>,
    is_required: bool,
}

#[derive(Debug)]
struct JournalFile {
    path: PathBuf,
    /// Taken while a blocking task works with it.
    file: Option<File>,
    /// Whole lines that were not handed to the operating system yet.
    lines: Vec<u8>,
    /// Holds the lock until it is dropped.
    _lock: File,
}

impl Journal {
    /// Opens a run's journal; when it fails later, so does the run's drive.
    pub fn required(state: &Path, run_id: &str) -> Result<Journal, JournalError> {
        Ok(Journal { file: Some(JournalFile::open(state, run_id)?), is_required: true })
    }

    /// Opens a run's journal where that can be done; a failure is a warning, but another process with the same run is an error.
    pub fn best_effort(state: &Path, run_id: &str) -> Result<Journal, JournalError> {
        match JournalFile::open(state, run_id) {
            Ok(file) => Ok(Journal { file: Some(file), is_required: false }),
            Err(JournalError::Io { path, cause }) => {
                warn(&path, &cause);
                Ok(Journal::none())
            }
            Err(error @ JournalError::Locked { .. }) => Err(error),
        }
    }

    /// Keeps nothing: the run cannot be taken up again by a journal.
    pub fn none() -> Journal {
        Journal { file: None, is_required: false }
    }

    /// Where the journal is, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// Appends one JSON object that ends in a line feed. It may stay in memory until [`Journal::flush`].
    pub async fn append(&mut self, json_line: &str) -> Result<(), JournalError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let json = json_line.trim_end_matches('\n');
        let crc = crc32fast::hash(json.as_bytes());
        file.lines.extend_from_slice(format!("{crc:08x} {json}\n").as_bytes());
        if file.lines.len() < BUFFER_BYTES {
            return Ok(());
        }
        let outcome = file.write(Durability::Process).await;
        self.judge(outcome)
    }

    /// Hands all lines to the operating system: they survive this process.
    pub async fn flush(&mut self) -> Result<(), JournalError> {
        self.write(Durability::Process).await
    }

    /// Makes all lines durable: they survive the machine.
    pub async fn sync(&mut self) -> Result<(), JournalError> {
        self.write(Durability::Machine).await
    }

    async fn write(&mut self, durability: Durability) -> Result<(), JournalError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if file.lines.is_empty() && durability == Durability::Process {
            return Ok(());
        }
        let outcome = file.write(durability).await;
        self.judge(outcome)
    }

    /// A journal that is not required ends with its first failure: what came after a gap would be of no use.
    fn judge(&mut self, outcome: io::Result<()>) -> Result<(), JournalError> {
        let Err(cause) = outcome else { return Ok(()) };
        let path = self.file.take().map(|file| file.path).unwrap_or_default();
        if self.is_required {
            return Err(JournalError::Io { path, cause });
        }
        warn(&path, &cause);
        Ok(())
    }
}

fn warn(path: &Path, cause: &io::Error) {
    tracing::warn!(path = %path.display(), %cause, "no journal: a host that takes this run up will read its output anew");
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    Process,
    Machine,
}

impl JournalFile {
    fn open(state: &Path, run_id: &str) -> Result<JournalFile, JournalError> {
        let folder = state.join(folder_name(run_id));
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| JournalError::Io { path, cause }
        };
        private_folder(&folder).map_err(failed(&folder))?;
        let lock_path = folder.join(LOCK_FILE);
        let lock = hold(&lock_path, run_id)?;
        let path = folder.join(JOURNAL_FILE);
        let mut file = private_file(&path).map_err(failed(&path))?;
        cut_torn_tail(&mut file).map_err(failed(&path))?;
        // The entries of a new folder and file are as durable as what will be written.
        File::open(&folder).and_then(|folder| folder.sync_all()).map_err(failed(&folder))?;
        Ok(JournalFile { path, file: Some(file), lines: Vec::new(), _lock: lock })
    }

    async fn write(&mut self, durability: Durability) -> io::Result<()> {
        let Some(mut file) = self.file.take() else {
            return Err(io::Error::other("an earlier write was broken off"));
        };
        let lines = std::mem::take(&mut self.lines);
        let written = tokio::task::spawn_blocking(move || {
            let outcome = file.write_all(&lines).and_then(|()| match durability {
                Durability::Process => Ok(()),
                Durability::Machine => file.sync_data(),
            });
            (file, lines, outcome)
        });
        let (file, mut lines, outcome) = written.await.map_err(io::Error::other)?;
        lines.clear();
        self.file = Some(file);
        self.lines = lines;
        outcome
    }
}

/// Takes the lock of a run's folder; the file tells others who has it.
fn hold(path: &Path, run_id: &str) -> Result<File, JournalError> {
    let failed = |cause| JournalError::Io { path: path.to_owned(), cause };
    let mut lock = private_file(path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {
            lock.set_len(0).map_err(failed)?;
            write!(lock, "{}", std::process::id()).map_err(failed)?;
            Ok(lock)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Who it is makes the message better; the lock alone decides.
            let _ = lock.seek(SeekFrom::Start(0)).and_then(|_| lock.read_to_string(&mut holder));
            let holder = if holder.is_empty() { "unknown".to_owned() } else { holder };
            Err(JournalError::Locked { run_id: run_id.to_owned(), holder, lock: path.to_owned() })
        }
        Err(TryLockError::Error(cause)) => Err(failed(cause)),
    }
}

/// Removes what follows the last line feed: a line that was being written when a host died.
fn cut_torn_tail(file: &mut File) -> io::Result<()> {
    const BLOCK_BYTES: u64 = 64 << 10;
    let mut end = file.seek(SeekFrom::End(0))?;
    let size = end;
    let mut whole = 0;
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        Read::by_ref(file).take(end - start).read_to_end(&mut block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            whole = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    if whole < size { file.set_len(whole) } else { Ok(()) }
}

/// A name that stays in its folder, and another one for each run id.
fn folder_name(run_id: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
    let kept: String =
        run_id.chars().map(|char| if is_plain(char) { char } else { '_' }).take(MAX_NAME_BYTES).collect();
    if kept == run_id && !kept.is_empty() && !kept.starts_with('.') {
        return kept;
    }
    format!("run_{kept}_{:08x}", crc32fast::hash(run_id.as_bytes()))
}

fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_name_cannot_leave_the_state_folder_and_differs_for_each_run() {
        assert_eq!(folder_name("3f2a-run.1"), "3f2a-run.1");
        for odd in ["..", ".", "", "../x", "a/b", "a b", "ä"] {
            let name = folder_name(odd);
            assert!(name.starts_with("run_") && !name.contains('/'), "{name}");
        }
        assert_ne!(folder_name("a/b"), folder_name("a b"));
        let long = "x".repeat(300);
        assert!(folder_name(&long).len() < 120 && folder_name(&long) != folder_name(&long[1..]));
    }
}
