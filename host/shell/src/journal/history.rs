//! The history of a run, read from its journal.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use paperclip_engine::driver::ReplayDepth;
use paperclip_engine::journal::Entry;
use tokio::sync::mpsc;

use super::{JournalError, checked, segments};

/// Entries that are read ahead.
const READ_AHEAD: usize = 16;
/// Bytes that are read at a time.
const BLOCK_BYTES: usize = 256 << 10;

/// The segments of a journal, oldest first.
#[derive(Debug, Clone, Default)]
pub struct History {
    paths: Vec<PathBuf>,
}

impl History {
    pub(super) fn of(paths: Vec<PathBuf>) -> History {
        History { paths }
    }

    /// Opens the journal in a run's folder, or one segment of it by its file. The folder need not be locked.
    ///
    /// # Errors
    /// There is no journal, or it cannot be read.
    pub fn open(path: &Path) -> Result<History, JournalError> {
        let found = if path.is_dir() {
            segments::paths(path)
        } else {
            File::open(path).map(|_| vec![path.to_owned()])
        };
        match found {
            Ok(paths) if !paths.is_empty() => Ok(History { paths }),
            Ok(_) => {
                Err(JournalError::Io { path: path.to_owned(), cause: std::io::ErrorKind::NotFound.into() })
            }
            Err(cause) => Err(JournalError::Io { path: path.to_owned(), cause }),
        }
    }

    /// Returns whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Reads the entries one after another.
    ///
    /// An incomplete last line is left out: it is being written, or was when a host died.
    pub fn entries(
        &self,
    ) -> impl Iterator<Item = Result<(ReplayDepth, Entry<'static>), JournalError>> + Send + use<> {
        let last = self.paths.len().saturating_sub(1);
        self.paths.clone().into_iter().enumerate().flat_map(move |(at, path)| {
            let depth = if at == last { ReplayDepth::Full } else { ReplayDepth::Records };
            Lines::open(path, at == last).map(move |entry| entry.map(|entry| (depth, entry)))
        })
    }

    /// Reads the entries on a thread of their own, a few ahead. Must be called within a tokio runtime.
    pub fn read(&self) -> mpsc::Receiver<Result<(ReplayDepth, Entry<'static>), JournalError>> {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let entries = self.entries();
        tokio::task::spawn_blocking(move || {
            for entry in entries {
                // The receiver was dropped.
                if sender.blocking_send(entry).is_err() {
                    return;
                }
            }
        });
        receiver
    }
}

/// The entries of one segment.
struct Lines {
    path: PathBuf,
    reader: Option<BufReader<File>>,
    /// Why there is no reader.
    failure: Option<std::io::Error>,
    line: u64,
    may_be_torn: bool,
}

impl Lines {
    fn open(path: PathBuf, may_be_torn: bool) -> Lines {
        let (reader, failure) = match File::open(&path) {
            Ok(file) => (Some(BufReader::with_capacity(BLOCK_BYTES, file)), None),
            Err(cause) => (None, Some(cause)),
        };
        Lines { path, reader, failure, line: 0, may_be_torn }
    }

    fn fail<T>(&mut self, cause: std::io::Error) -> Option<Result<T, JournalError>> {
        self.reader = None;
        Some(Err(JournalError::Io { path: self.path.clone(), cause }))
    }

    fn is_last(&mut self) -> bool {
        self.reader.as_mut().is_none_or(|reader| reader.fill_buf().is_ok_and(<[u8]>::is_empty))
    }
}

impl Iterator for Lines {
    type Item = Result<Entry<'static>, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(cause) = self.failure.take() {
            return self.fail(cause);
        }
        let mut line = Vec::new();
        match self.reader.as_mut()?.read_until(b'\n', &mut line) {
            Ok(0) => return None,
            Ok(_) => self.line += 1,
            Err(cause) => return self.fail(cause),
        }
        let json = line.strip_suffix(b"\n").and_then(checked);
        let entry = match json {
            Some(json) => Entry::parse(json).map_err(|error| error.to_string()),
            None if self.may_be_torn && self.is_last() => return None,
            None => Err("its checksum is wrong".to_owned()),
        };
        Some(entry.map_err(|cause| {
            self.reader = None;
            JournalError::Damaged { path: self.path.clone(), line: self.line, cause }
        }))
    }
}
