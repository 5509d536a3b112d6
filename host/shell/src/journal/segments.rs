//! The files of one run's journal.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use paperclip_contract::types::{NewSecret, ObjectRef};
use paperclip_engine::journal::Entry;
use serde::{Deserialize, Serialize};

use super::store::run_folder;
use super::{Durability, History, JournalError, checked};

/// Name of the file whose lock protects the folder; it contains the holder's process id.
const LOCK_FILE: &str = "lock";
/// Name of the file that describes the run and its plugin.
const HEADER_FILE: &str = "header.json";
/// Most bytes that a run's journal keeps; beyond that its oldest segments are removed, which hold output only.
const MAX_BYTES: u64 = 4 << 30;

/// Describes the run of a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Version of the journal's format.
    pub format: u32,
    pub run_id: String,
    pub adapter_type: String,
    pub plugin_version: String,
    /// SHA-256 of the plugin's bytes, hexadecimal: a run keeps its plugin.
    pub plugin_digest: String,
    /// Version of the contract.
    pub contract: String,
    /// Names of the variables whose values are masked in its output; none in a header of an older host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked_env: Option<Vec<String>>,
    /// Of an older host: patterns of variables whose values are shown. A value that was shown once is not masked later.
    #[serde(default)]
    pub unmasked_env: Vec<String>,
    /// Whether its client requests cancellations itself, so that Paperclip's API is not polled for them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pushes_cancel: bool,
    /// What distinguishes its records from those of the same run on another host; none in a header of an older host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    /// The objects with which it was adopted, if another host started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<Adopted>,
}

/// The objects in the cluster of a run that another host started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Adopted {
    pub job: ObjectRef,
    /// Holds its secrets.
    pub secret: NewSecret,
}

/// The folder of one run, held by this process.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// None if the run has not started.
    header: Option<Header>,
    /// Numbers of the segments, oldest first.
    segments: Vec<u64>,
    /// Holds the lock until it is dropped.
    lock: File,
}

impl RunFolder {
    /// Locks a run's folder, creates it if necessary, and cuts off a record that was being written when a host died.
    ///
    /// # Errors
    /// Another process holds the folder, or it cannot be written.
    pub fn open(state: &Path, run_id: &str) -> Result<RunFolder, JournalError> {
        let path = run_folder(state, run_id);
        private_folder(&path).map_err(failed(&path))?;
        let lock = hold(&path.join(LOCK_FILE), run_id)?;
        let mut folder =
            RunFolder { header: None, segments: numbers(&path).map_err(failed(&path))?, lock, path };
        folder.cut_torn_tail().map_err(failed(&folder.path))?;
        folder.header = folder.read_header().filter(|_| !folder.segments.is_empty());
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the run's header, if the run has started.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// Returns whether the run has ended and its cleanup is complete.
    pub fn is_closed(&self) -> bool {
        let last = last_record(&self.path).ok().flatten();
        last.is_some_and(|last| matches!(Entry::parse(&last), Ok(Entry::Closed)))
    }

    /// Returns the run's journal so far.
    pub fn history(&self) -> History {
        History::of(self.paths())
    }

    /// Writes the header of a run that starts. It is durable before the first line of the journal is.
    ///
    /// # Errors
    /// The header cannot be written.
    pub fn write_header(&mut self, header: &Header) -> Result<(), JournalError> {
        let json = serde_json::to_vec_pretty(header).expect("plain data serialises");
        let write = || -> io::Result<()> {
            let mut file = File::create(self.path.join(HEADER_FILE))?;
            file.write_all(&json)?;
            file.sync_all()
        };
        write().map_err(failed(&self.path))?;
        self.header = Some(header.clone());
        Ok(())
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.segments.iter().map(|number| self.path.join(segment_name(*number))).collect()
    }

    fn read_header(&self) -> Option<Header> {
        serde_json::from_slice(&std::fs::read(self.path.join(HEADER_FILE)).ok()?).ok()
    }

    /// Removes the last record if it is torn, and the last segment if it has no whole record.
    fn cut_torn_tail(&mut self) -> io::Result<()> {
        while let Some(last) = self.segments.last() {
            let path = self.path.join(segment_name(*last));
            let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
            let size = file.metadata()?.len();
            let whole = whole_bytes(&mut file, size)?;
            if whole > 0 {
                if whole < size {
                    file.set_len(whole)?;
                }
                return Ok(());
            }
            std::fs::remove_file(&path)?;
            self.segments.pop();
        }
        Ok(())
    }
}

/// The segments that a journal writes to.
#[derive(Debug)]
pub(super) struct Segments {
    folder: RunFolder,
    file: Option<File>,
}

impl Segments {
    pub(super) fn of(folder: RunFolder) -> Segments {
        Segments { folder, file: None }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder.path
    }

    pub(super) fn write(&mut self, lines: &[u8], durability: Durability) -> io::Result<()> {
        let file = self.file()?;
        file.write_all(lines)?;
        match durability {
            Durability::Process => Ok(()),
            Durability::Machine => file.sync_data(),
        }
    }

    /// Starts a new segment, and removes the oldest ones if there are too many.
    pub(super) fn start(&mut self, first_line: &[u8]) -> io::Result<()> {
        self.create()?;
        self.write(first_line, Durability::Machine)?;
        let mut bytes = 0;
        let mut kept = 0;
        for path in self.folder.paths().iter().rev() {
            bytes += std::fs::metadata(path)?.len();
            // The newest two stay in any case: one is enough to continue, the other is a fallback.
            if bytes > MAX_BYTES && kept >= 2 {
                std::fs::remove_file(path)?;
            } else {
                kept += 1;
            }
        }
        let removed = self.folder.segments.len() - kept;
        self.folder.segments.drain(..removed);
        Ok(())
    }

    pub(super) fn discard(self) {
        // A file that cannot be removed is found again when the next segment starts.
        let _ = std::fs::remove_dir_all(&self.folder.path);
        drop(self.folder.lock);
    }

    fn file(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            match self.folder.segments.last() {
                Some(last) => self.file = Some(private_file(&self.folder.path.join(segment_name(*last)))?),
                None => self.create()?,
            }
        }
        self.file.as_mut().ok_or_else(|| io::Error::other("there is no segment"))
    }

    fn create(&mut self) -> io::Result<()> {
        let number = self.folder.segments.last().map_or(1, |last| last + 1);
        self.file = Some(private_file(&self.folder.path.join(segment_name(number)))?);
        self.folder.segments.push(number);
        // The directory entry of a new file must be as durable as its content.
        File::open(&self.folder.path)?.sync_all()
    }
}

fn segment_name(number: u64) -> String {
    format!("journal-{number:06}.ndjson")
}

/// The segments of a folder, oldest first.
pub(super) fn paths(folder: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(numbers(folder)?.into_iter().map(|number| folder.join(segment_name(number))).collect())
}

fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("journal-")?.strip_suffix(".ndjson"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Returns how many bytes end in a whole record: all bytes except a torn last record.
fn whole_bytes(file: &mut File, size: u64) -> io::Result<u64> {
    let end = line_end_before(file, size)?;
    if end == 0 {
        return Ok(0);
    }
    let start = line_end_before(file, end - 1)?;
    file.seek(SeekFrom::Start(start))?;
    let mut line = Vec::new();
    Read::by_ref(file).take(end - 1 - start).read_to_end(&mut line)?;
    Ok(if checked(&line).is_some() { end } else { start })
}

/// Returns the position behind the last line feed before this one; 0 if there is none.
fn line_end_before(file: &mut File, mut end: u64) -> io::Result<u64> {
    const BLOCK_BYTES: u64 = 64 << 10;
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        Read::by_ref(file).take(end - start).read_to_end(&mut block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Returns the last whole record of a folder's journal, as JSON.
pub(super) fn last_record(folder: &Path) -> io::Result<Option<String>> {
    let Some(path) = paths(folder)?.pop() else { return Ok(None) };
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let end = whole_bytes(&mut file, size)?;
    if end == 0 {
        return Ok(None);
    }
    let start = line_end_before(&mut file, end - 1)?;
    file.seek(SeekFrom::Start(start))?;
    let mut line = Vec::new();
    Read::by_ref(&mut file).take(end - 1 - start).read_to_end(&mut line)?;
    Ok(checked(&line).map(str::to_owned))
}

/// Locks a folder if no process holds it.
pub(super) fn try_hold(folder: &Path) -> io::Result<Option<File>> {
    let lock = private_file(&folder.join(LOCK_FILE))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(cause)) => Err(cause),
    }
}

/// Returns whether another process, or another task of this one, has a run's folder locked.
pub fn is_locked(folder: &Path) -> bool {
    matches!(try_hold(folder), Ok(None))
}

/// Returns the header of the run in a folder, if it can be read. The folder need not be locked.
pub fn header(folder: &Path) -> Option<Header> {
    serde_json::from_slice(&std::fs::read(folder.join(HEADER_FILE)).ok()?).ok()
}

/// Locks a run's folder; the file contains the holder's process id, for other processes to report.
fn hold(path: &Path, run_id: &str) -> Result<File, JournalError> {
    let mut lock = private_file(path).map_err(failed(path))?;
    match lock.try_lock() {
        Ok(()) => {
            lock.set_len(0).map_err(failed(path))?;
            write!(lock, "{}", std::process::id()).map_err(failed(path))?;
            Ok(lock)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The id only improves the message; the lock alone decides.
            let _ = lock.seek(SeekFrom::Start(0)).and_then(|_| lock.read_to_string(&mut holder));
            let holder = if holder.is_empty() { "unknown".to_owned() } else { holder };
            Err(JournalError::Locked { run_id: run_id.to_owned(), holder, lock: path.to_owned() })
        }
        Err(TryLockError::Error(cause)) => Err(failed(path)(cause)),
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> JournalError {
    let path = path.to_owned();
    move |cause| JournalError::Io { path: path.clone(), cause }
}

pub(super) fn private_folder(path: &Path) -> io::Result<()> {
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
